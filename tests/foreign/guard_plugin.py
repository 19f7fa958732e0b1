"""A pytest plugin that guards a project's views while its own tests run.

``GUARD`` names what to switch on, separated by spaces: ``middleware``, ``decorator`` (on every
DRF view), ``atomic_requests``. Each unsafe request gets a key of its own, so nothing replays and
nothing may change. Tests that have no database get no keys. Tests that count statements are not
shown the guard's, nor, with them, those that only control transactions.
"""

import json
import logging
import os
import re
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from django.conf import LazySettings
from django.db import DEFAULT_DB_ALIAS, connections
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

GUARD = os.environ["GUARD"].split()
GUARDED = "middleware" in GUARD or "decorator" in GUARD
OWN = re.compile(r"\bdjango_idempotency_")
CONTROL = re.compile(r"(SAVEPOINT|RELEASE|ROLLBACK|BEGIN|COMMIT)\b")
UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
counted: Counter[str] = Counter()


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

    LazySettings.configure = configure_with_us  # type: ignore[method-assign]
    if GUARDED:
        send_keys()
        hide_own_statements()


def send_keys() -> None:
    generic = RequestFactory.generic

    def generic_with_key(self: Any, method: str, *args: Any, **extra: Any) -> Any:
        if method.upper() in UNSAFE and has_database():
            counted["keyed"] += 1
            extra["HTTP_IDEMPOTENCY_KEY"] = str(uuid.uuid4())
        return generic(self, method, *args, **extra)

    RequestFactory.generic = generic_with_key  # type: ignore[method-assign]


def hide_own_statements() -> None:
    captured: Any = CaptureQueriesContext.captured_queries

    def of_the_view(self: CaptureQueriesContext) -> list[dict[str, str]]:
        statements: list[dict[str, str]] = captured.fget(self)
        others = [each for each in statements if not OWN.search(each["sql"])]
        if len(others) == len(statements):
            return statements
        return [each for each in others if not CONTROL.match(each["sql"])]

    CaptureQueriesContext.captured_queries = property(of_the_view)  # type: ignore[assignment]


def has_database() -> bool:
    """Whether the running test may use the database. Django and pytest-django forbid it by
    raising an error when somebody tries."""
    try:
        with connections[DEFAULT_DB_ALIAS].cursor():
            return True
    except (AssertionError, RuntimeError):
        return False


class Executions(logging.Handler):
    """Counts views that ran under the guard."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "outcome", "") in {"executed", "recovered", "interrupted"}:
            counted["guarded"] += 1


def pytest_collection_finish() -> None:
    if "decorator" in GUARD:
        from rest_framework.views import APIView

        from django_idempotency.decorators import idempotent

        idempotent(APIView)
    logger = logging.getLogger("django_idempotency")
    logger.addHandler(Executions())
    logger.setLevel(logging.DEBUG)
    logger.propagate = False


def pytest_sessionfinish() -> None:
    Path(os.environ["GUARD_REPORT"]).write_text(json.dumps(counted))
