"""System checks: what can be known to be wrong before the first request.

Importing this package registers them. All carry the tag ``idempotency``; those that ask the
database run with ``check --database`` and ``migrate``, those for production with
``check --deploy``.
"""

from . import (
    aliases,
    caches,
    columns,
    configuration,
    cors,
    databases,
    enclosing,
    encryption,
    keepalive,
    middleware,
    paths,
    resuming,
    retention,
    views,
)

__all__ = [
    "CHECKS",
    "aliases",
    "caches",
    "columns",
    "configuration",
    "cors",
    "databases",
    "enclosing",
    "encryption",
    "keepalive",
    "middleware",
    "paths",
    "resuming",
    "retention",
    "views",
]

CHECKS = {
    "django_idempotency.E001": "An entry of the IDEMPOTENCY setting is wrong.",
    "django_idempotency.E002": "IdempotencyMiddleware is listed more than once.",
    "django_idempotency.E003": "A middleware that checks the caller stands below ours.",
    "django_idempotency.E004": "A decorator of a view cannot run before a replay.",
    "django_idempotency.E005": "The records' database is not in DATABASES.",
    "django_idempotency.E006": "The records' database is of an unsupported kind.",
    "django_idempotency.E007": "The database server has no SKIP LOCKED.",
    "django_idempotency.E008": "The records' table has an engine without transactions.",
    "django_idempotency.E009": "The records' database has AUTOCOMMIT off.",
    "django_idempotency.E010": "A store needs a cache, and CACHE is not set.",
    "django_idempotency.E011": "The cache cannot keep records.",
    "django_idempotency.E012": "The cache ignores exceptions.",
    "django_idempotency.E013": "The cache has no timeouts.",
    "django_idempotency.E014": "Redis drops records when its memory is full (deploy).",
    "django_idempotency.E020": "A view that owns its transactions runs in a request's block.",
    "django_idempotency.E040": "A policy encrypts, and there are no keys.",
    "django_idempotency.E041": "Responses are encrypted, and cryptography is not installed.",
    "django_idempotency.E042": "Columns of the records' table do not compare exactly.",
    "django_idempotency.W001": "A middleware with view hooks stands below ours.",
    "django_idempotency.W002": "A middleware that changes responses stands below ours.",
    "django_idempotency.W003": "SQLite runs without a write-ahead log.",
    "django_idempotency.W004": "A host that vanishes would keep its lock for long (deploy).",
    "django_idempotency.W005": "A middleware runs each request in a transaction of its own.",
    "django_idempotency.W010": "The cache is in the memory of each process.",
    "django_idempotency.W011": "A request waits long for a Redis that hangs.",
    "django_idempotency.W012": "Redis could not be asked for its eviction policy (deploy).",
    "django_idempotency.W020": "A resumable handler belongs to no view that needs it.",
    "django_idempotency.W021": "A resumable handler has views with different policies.",
    "django_idempotency.W040": "CORS does not allow the header with the key.",
    "django_idempotency.W041": "CORS does not expose the headers that tell of replays.",
    "django_idempotency.W042": "Nobody purges expired records (deploy).",
    "django_idempotency.W043": "Records are in a database to which no model is written.",
    "django_idempotency.W044": "Another database has ATOMIC_REQUESTS.",
    "django_idempotency.W048": "A view may be a decorator that does not say what it wraps.",
    "django_idempotency.W052": "A policy by path holds for no guarded endpoint.",
    "django_idempotency.I001": "Scopes are keyed with SECRET_KEY (deploy).",
}
"""Ids of all checks and what they mean."""
