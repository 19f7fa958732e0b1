"""The tests' project as experiments serve it: one guarded view, a database of its own."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES
from tests.support.redis_server import caches

ROOT_URLCONF = "proof.world"
LOGGING_CONFIG = None
IDEMPOTENCY: dict[str, object] = {}
if os.environ.get("PROOF_REDIS"):
    CACHES = caches(os.environ["PROOF_REDIS"])
    IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "redis"}
MIDDLEWARE = ["django_idempotency.middleware.IdempotencyMiddleware"]
DATABASES["default"]["NAME"] = os.environ.get("PROOF_NAME", DATABASES["default"]["NAME"])
DATABASES["default"]["CONN_MAX_AGE"] = 60
