"""Gunicorn's configuration for tests that start servers and kill their workers.

Every worker is a copy of one process that has imported the whole project, the URLconf included: it
serves as soon as it is there.
"""

import gc
from importlib import import_module
from pathlib import Path
from typing import Any

# The project's own configuration, if it has one: gunicorn reads this file in its place.
_own = Path("gunicorn.conf.py")
if _own.exists():
    exec(_own.read_text(encoding="utf-8"))

preload_app = True


def when_ready(server: Any) -> None:
    from django.conf import settings
    from django.db import connections

    import_module(settings.ROOT_URLCONF)
    for each in connections.all(initialized_only=True):
        assert each.connection is None, "copies would share the session"
    # Modules live as long as the processes: nobody has to look at each of them at their end.
    gc.collect()
    gc.freeze()
