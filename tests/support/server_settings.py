"""The test project as a real server runs it: on the tests' database, with the middleware."""

import json
import os
from datetime import timedelta

from tests.settings import *  # noqa: F403
from tests.settings import BASE_MIDDLEWARE, DATABASES, INSTALLED_APPS
from tests.support.adapters import MIDDLEWARE as IDEMPOTENCY_MIDDLEWARE
from tests.support.redis_server import caches

_default = DATABASES["default"]
_default["NAME"] = _default.get("TEST", {}).get("NAME") or f"test_{_default['NAME']}"
_default["CONN_MAX_AGE"] = int(os.environ.get("IDEMPOTENCY_TEST_CONN_MAX_AGE", "60"))
if "IDEMPOTENCY_TEST_POOL" in os.environ:
    _default["CONN_MAX_AGE"] = 0
    _size = int(os.environ["IDEMPOTENCY_TEST_POOL"])
    _default["OPTIONS"] = {"pool": {"min_size": 1, "max_size": _size, "timeout": 20}}
_default["ATOMIC_REQUESTS"] = "IDEMPOTENCY_TEST_ATOMIC_REQUESTS" in os.environ
IDEMPOTENCY = json.loads(os.environ.get("IDEMPOTENCY_TEST_POLICY", "{}"))
for _name in ("WAIT_TIMEOUT", "LEASE"):
    if _name in IDEMPOTENCY:
        IDEMPOTENCY[_name] = timedelta(seconds=IDEMPOTENCY[_name])
if os.environ.get("IDEMPOTENCY_TEST_REDIS"):
    CACHES = caches(os.environ["IDEMPOTENCY_TEST_REDIS"])
INSTALLED_APPS = [*INSTALLED_APPS, *os.environ.get("IDEMPOTENCY_TEST_APPS", "").split()]
MIDDLEWARE = [*BASE_MIDDLEWARE, IDEMPOTENCY_MIDDLEWARE]
LOGGING_CONFIG = None
