"""Which databases the tests can use, and how to reach them."""

import os
from typing import Any

DATABASE = os.environ.get("IDEMPOTENCY_TEST_DATABASE", "sqlite")
"""``sqlite``, ``postgresql`` or ``mariadb``."""


def settings_of(name: str) -> dict[str, Any]:
    """Return Django's settings for a database; the servers listen on loopback."""
    # Checkouts that are tested at the same time need databases of their own.
    own = os.environ.get("IDEMPOTENCY_TEST_NAME", "idempotency")
    common = {"NAME": own, "HOST": "127.0.0.1"}
    known: dict[str, dict[str, Any]] = {
        "sqlite": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get("IDEMPOTENCY_TEST_SQLITE", "idempotency.sqlite3"),
            # On disk, so that rivals have connections of their own.
            "TEST": {"NAME": os.environ.get("IDEMPOTENCY_TEST_SQLITE", "test_idempotency.sqlite3")},
            "OPTIONS": {"timeout": 20, "init_command": "PRAGMA journal_mode=WAL"},
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
    return known[name]
