"""Which databases the tests can use, and how to reach them."""

import os
from typing import Any

DATABASE = os.environ.get("IDEMPOTENCY_TEST_DATABASE", "sqlite")
"""``sqlite``, ``postgresql`` or ``mariadb``."""

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
"""Tests that run in several processes at once have a database per process."""


def settings_of(kind: str) -> dict[str, Any]:
    """Return Django's settings for a database; the servers listen on loopback."""
    name = "_".join(filter(None, [os.environ.get("IDEMPOTENCY_TEST_NAME", "idempotency"), WORKER]))
    common = {"NAME": name, "HOST": "127.0.0.1"}
    file = os.environ.get("IDEMPOTENCY_TEST_SQLITE", "test_idempotency.sqlite3") + WORKER
    known: dict[str, dict[str, Any]] = {
        "sqlite": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": file,
            # On disk, so that rivals have connections of their own.
            "TEST": {"NAME": file},
            # Killed processes lose nothing by this; a host that loses power would.
            "OPTIONS": {
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
            },
        },
        "postgresql": {
            **common,
            "ENGINE": "django.db.backends.postgresql",
            "PORT": os.environ.get("PGPORT", "5432"),
            "USER": os.environ.get("PGUSER", "postgres"),
            "PASSWORD": os.environ.get("PGPASSWORD", ""),
        },
        "mariadb": {
            **common,
            "ENGINE": "django.db.backends.mysql",
            "PORT": os.environ.get("MYSQL_PORT", "3306"),
            "USER": os.environ.get("MYSQL_USER", "root"),
            "PASSWORD": os.environ.get("MYSQL_PASSWORD", ""),
            "OPTIONS": {"charset": "utf8mb4"},
        },
    }
    return known[kind]
