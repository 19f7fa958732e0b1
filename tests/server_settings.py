"""The test project as a real server runs it: on the tests' database, with the middleware."""

from .doors import MIDDLEWARE as IDEMPOTENCY_MIDDLEWARE
from .settings import *  # noqa: F403
from .settings import BASE_MIDDLEWARE, DATABASES

_default = DATABASES["default"]
_default["NAME"] = _default.get("TEST", {}).get("NAME") or f"test_{_default['NAME']}"
_default["CONN_MAX_AGE"] = 60
MIDDLEWARE = [*BASE_MIDDLEWARE, IDEMPOTENCY_MIDDLEWARE]
LOGGING_CONFIG = None
