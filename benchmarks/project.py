"""One DRF view with one INSERT and token authentication; the environment says who guards it.

The variables are those of :meth:`benchmarks.cases.Case.environment` and of
:class:`benchmarks.servers.Place`.
"""

import os
from typing import Any

GUARD = os.environ.get("BENCH_GUARD", "bare")
REDIS = f"redis://127.0.0.1:{os.environ.get('BENCH_REDIS_PORT', '6379')}/8"
OURS = "django_idempotency.middleware.IdempotencyMiddleware"

SECRET_KEY = "only-for-benchmarks-and-long-enough"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "benchmarks.urls"
LOGGING_CONFIG = None
SERVERS: dict[str, dict[str, Any]] = {
    "postgresql": {
        "ENGINE": "django.db.backends.postgresql",
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
    },
    "mariadb": {
        "ENGINE": "django.db.backends.mysql",
        "USER": os.environ.get("MYSQL_USER", "root"),
        "PASSWORD": os.environ.get("MYSQL_PASSWORD", ""),
        "OPTIONS": {"charset": "utf8mb4"},
    },
}
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **SERVERS[os.environ.get("BENCH_DATABASE", "postgresql")],
        "NAME": os.environ.get("BENCH_NAME", "idempotency_bench"),
        "HOST": "127.0.0.1",
        "PORT": os.environ.get("BENCH_DATABASE_PORT", os.environ.get("PGPORT", "5432")),
        "CONN_MAX_AGE": None,
        "ATOMIC_REQUESTS": os.environ.get("BENCH_ATOMIC_REQUESTS", "1") == "1",
    }
}
if threshold := os.environ.get("BENCH_PREPARE_THRESHOLD"):
    number = None if threshold == "None" else int(threshold)
    DATABASES["default"]["OPTIONS"] = {"prepare_threshold": number}
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS,
        "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 0.5, "SOCKET_TIMEOUT": 0.5},
    }
}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "rest_framework.authtoken",
    "tests.shop",
]
MIDDLEWARE: list[str] = []
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
IDEMPOTENCY: dict[str, Any] = {}

match GUARD:
    case "ours" | "ours, cached_db":
        INSTALLED_APPS += ["django_idempotency"]
        MIDDLEWARE = [OURS]
        if GUARD == "ours, cached_db":
            IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "default"}
    case "the statements":
        INSTALLED_APPS += ["django_idempotency"]
    case "django-idempotency-key":
        MIDDLEWARE = ["idempotency_key.middleware.IdempotencyKeyMiddleware"]
        IDEMPOTENCY_KEY = {
            "CONFLICT_STATUS_CODE": None,
            "STORAGE": {"CLASS": "idempotency_key.storage.CacheKeyStorage"},
            "LOCK": {
                "CLASS": "idempotency_key.locks.redis.MultiProcessRedisLock",
                "LOCATION": REDIS,
                "TIMEOUT": 5,
            },
        }
    case "drf-idempotency, database" | "drf-idempotency, Redis":
        INSTALLED_APPS += ["drf_idempotency"]
        MIDDLEWARE = ["drf_idempotency.middleware.IdempotencyMiddleware"]
        kind = "redis.RedisBackend" if "Redis" in GUARD else "database.DatabaseBackend"
        IDEMPOTENCY = {"BACKEND": f"drf_idempotency.backends.{kind}"}
        if "Redis" in GUARD:
            IDEMPOTENCY["BACKEND_OPTIONS"] = {"url": REDIS}
    case "drf-idempotencykey":
        INSTALLED_APPS += ["drf_idempotencykey"]
    case "isik":
        INSTALLED_APPS += ["isik.django.apps.idempotency.with_body"]
