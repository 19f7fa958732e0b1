"""One DRF view with one INSERT and token authentication; ``BENCH_VARIANT`` says who guards it."""

import os
from typing import Any

VARIANT = os.environ.get("BENCH_VARIANT", "bare")
REDIS = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/8")
OURS = "django_idempotency.middleware.IdempotencyMiddleware"

SECRET_KEY = "only-for-benchmarks-and-long-enough"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "benchmarks.urls"
LOGGING_CONFIG = None
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("BENCH_NAME", "idempotency_bench"),
        "HOST": "127.0.0.1",
        "PORT": os.environ.get("PGPORT", "5432"),
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "CONN_MAX_AGE": None,
        "ATOMIC_REQUESTS": True,
    }
}
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
if VARIANT.startswith("ours"):  # another package has a setting of the same name
    INSTALLED_APPS += ["django_idempotency"]
MIDDLEWARE: list[str] = []
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
IDEMPOTENCY: dict[str, Any] = {}
PREPARING = {"prepare_threshold": 5}

match VARIANT:
    case "bare, prepared":
        DATABASES["default"]["OPTIONS"] = PREPARING
    case "ours" | "ours without key" | "ours, prepared":
        MIDDLEWARE = [OURS]
        # Guarded views run in a transaction anyway; without a key it is Django's.
        DATABASES["default"]["ATOMIC_REQUESTS"] = VARIANT == "ours without key"
        DATABASES["default"]["OPTIONS"] = PREPARING if VARIANT == "ours, prepared" else {}
    case "ours, statements alone" | "ours, statements alone, prepared":
        MIDDLEWARE = ["benchmarks.statements.Around"]
        DATABASES["default"]["ATOMIC_REQUESTS"] = False
        DATABASES["default"]["OPTIONS"] = PREPARING if VARIANT.endswith("prepared") else {}
    case "ours, ATOMIC_REQUESTS":
        MIDDLEWARE = [OURS]
    case "ours, cached_db":
        MIDDLEWARE = [OURS]
        DATABASES["default"]["ATOMIC_REQUESTS"] = False
        IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "default"}
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
        kind = "redis.RedisBackend" if "Redis" in VARIANT else "database.DatabaseBackend"
        IDEMPOTENCY = {"BACKEND": f"drf_idempotency.backends.{kind}"}
        if "Redis" in VARIANT:
            IDEMPOTENCY["BACKEND_OPTIONS"] = {"url": REDIS}
    case "drf-idempotencykey":
        INSTALLED_APPS += ["drf_idempotencykey"]
    case "isik":
        INSTALLED_APPS += ["isik.django.apps.idempotency.with_body"]
