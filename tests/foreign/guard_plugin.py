"""A pytest plugin that guards a project's views while its own tests run.

``GUARD`` names what to switch on, separated by spaces:

- ``middleware``, ``decorator`` (on every DRF view), ``atomic_requests``: in a suite that calls
  ``settings.configure()``;
- ``project``: the settings are ``guarded_settings``, and guard by themselves;
- ``counting``: likewise, but requests are left alone;
- ``twice``: each request with a key is sent a second time, and must be replayed.

Each unsafe request gets a key of its own. Tests that have no database get no keys.
"""

import json
import logging
import os
from pathlib import Path
from typing import Any

import sending
from django.conf import LazySettings
from django.db import DEFAULT_DB_ALIAS

GUARD = os.environ["GUARD"].split()
GUARDED = {"middleware", "decorator", "project"} & set(GUARD)


def pytest_load_initial_conftests() -> None:
    """Before the suite's own conftest configures Django."""
    configure = LazySettings.configure

    def configure_with_us(self: Any, *args: Any, **options: Any) -> None:
        if "atomic_requests" in GUARD:
            options["DATABASES"][DEFAULT_DB_ALIAS]["ATOMIC_REQUESTS"] = True
        if GUARDED:
            options["INSTALLED_APPS"] = (*options["INSTALLED_APPS"], "django_idempotency")
            # Most of the suite's requests are anonymous; they are to be guarded, too.
            options["IDEMPOTENCY"] = {"ANONYMOUS": "share"}
        if "middleware" in GUARD:
            ours = "django_idempotency.middleware.IdempotencyMiddleware"
            options["MIDDLEWARE"] = (*options["MIDDLEWARE"], ours)
        configure(self, *args, **options)

    if not {"project", "counting"} & set(GUARD):
        LazySettings.configure = configure_with_us  # type: ignore[method-assign]
    if GUARDED:
        sending.send_keys()
        sending.hide_own_statements()
    if "twice" in GUARD:
        sending.send_twice(set(os.environ["GUARD_PER_REQUEST"].split()))


class Executions(logging.Handler):
    """Counts views that ran under the guard."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "outcome", "") in {"executed", "recovered", "interrupted"}:
            sending.counted["guarded"] += 1


def pytest_collection_finish() -> None:
    if "decorator" in GUARD:
        from rest_framework.views import APIView

        from django_idempotency.decorators import idempotent

        idempotent(APIView)
    logger = logging.getLogger("django_idempotency")
    logger.addHandler(Executions())
    logger.setLevel(logging.DEBUG)
    logger.disabled = False
    logger.propagate = False


def pytest_sessionfinish() -> None:
    report = {"counted": sending.counted, "different": sending.different}
    Path(os.environ["GUARD_REPORT"]).write_text(json.dumps(report))
