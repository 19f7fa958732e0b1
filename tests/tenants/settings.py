"""Settings of the project with tenants."""

import os

from tests.support.databases import settings_of
from tests.support.redis_server import caches

SECRET_KEY = "only-for-tests-and-long-enough"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.tenants.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": settings_of("postgresql")
    | {
        "ENGINE": "django_tenants.postgresql_backend",
        "NAME": settings_of("postgresql")["NAME"] + "_tenants",
        "CONN_MAX_AGE": 60,
    }
}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
TENANT_MODEL = "tenants.Shop"
TENANT_DOMAIN_MODEL = "tenants.Domain"
SHARED_APPS = ["django_tenants", "tests.tenants", "django.contrib.contenttypes"]
TENANT_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django_idempotency",
    "django_idempotency.contrib.statistics",
    "tests.shop",
]
INSTALLED_APPS = [*SHARED_APPS, *(app for app in TENANT_APPS if app not in SHARED_APPS)]
# One statement per table is quicker than the history of each.
MIGRATION_MODULES = dict.fromkeys(["contenttypes", "auth", "sessions"])
MIDDLEWARE = [
    "django_tenants.middleware.main.TenantMainMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_idempotency.middleware.IdempotencyMiddleware",
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CACHES = caches(os.environ.get("IDEMPOTENCY_TEST_REDIS", "redis://127.0.0.1:1/0"))
for cache in ("redis", "local"):
    CACHES[cache]["KEY_FUNCTION"] = "django_tenants.cache.make_key"
