"""How gunicorn serves the example: several processes, one request at a time in each."""

import os
import shutil
import tempfile
from typing import Any

# Here the processes count for each other's scrapes. A new start begins with an empty folder.
_counts = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="metrics-")


def on_exit(server: Any) -> None:
    shutil.rmtree(_counts, ignore_errors=True)


workers = 4
worker_class = "sync"
graceful_timeout = 5
# Its default path is one file per user; two servers would share it.
control_socket_disable = True
