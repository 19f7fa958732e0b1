"""The test project as a WSGI application whose views can be made to hang after their write."""

import os
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection

STAGE = Path(os.environ["IDEMPOTENCY_TEST_STAGE"])


def hang_beside_the_lock(operation: Any) -> None:
    """The same for a view in non-atomic mode: its session is the one that holds the record."""
    with operation._record_lock._session.entered():
        hang_if_told()


def _session() -> str:
    """The id under which the database knows this connection, where there is one."""
    queries = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
    if connection.vendor not in queries:
        return ""
    with connection.cursor() as cursor:
        cursor.execute(queries[connection.vendor])
        return str(cursor.fetchone()[0])


def hang_if_told() -> None:
    """The first request that finds the file ``hang`` says who it is, and waits for its end."""
    try:
        how = (STAGE / "hang").read_text()
        (STAGE / "hang").unlink()
    except FileNotFoundError:
        return
    pause = time.sleep
    if how == "busy":
        # As a view that computes: no other greenlet runs meanwhile.
        pause = import_module("gevent.monkey").get_original("time", "sleep")
    (STAGE / "hanging.new").write_text(f"{os.getpid()} {_session()}")
    (STAGE / "hanging.new").rename(STAGE / "hanging")
    while not (STAGE / "go on").exists():
        pause(0.01)


application = get_wsgi_application()

from tests.shop import effects, views  # noqa: E402  (the apps must be ready)

# Once for all workers, rather than in the first request of each.
import_module(settings.ROOT_URLCONF)

views.after_write = hang_if_told
effects.after_charge = hang_beside_the_lock
effects.after_shipping = hang_if_told
