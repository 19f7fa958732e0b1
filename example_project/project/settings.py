"""Settings of the example project. The README lists the environment variables."""

import os
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from .databases import from_url

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ.get("EXAMPLE_SECRET_KEY", "public, so only for trying things out")
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
USE_TZ = True
TIME_ZONE = "UTC"  # of the times in the admin, and in logs
STATIC_URL = "static/"
LOGIN_URL = "login"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": from_url(
        os.environ.get("EXAMPLE_DATABASE") or f"sqlite://{quote(str(BASE_DIR))}/db.sqlite3",
    )
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "django_idempotency",
    "django_idempotency.effects",
    "django_idempotency.forms",
    "django_idempotency.contrib.statistics",
    "cloud",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # Last: it guards views only when all others have let the request pass.
    "django_idempotency.middleware.IdempotencyMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["cloud.authentication.AccountToken"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_METADATA_CLASS": "django_idempotency.metadata.IdempotencyMetadata",
}

# Optional: the OpenAPI document at /openapi, and its page at /openapi/page.
if find_spec("drf_spectacular") and find_spec("drf_spectacular_sidecar"):
    INSTALLED_APPS += ["drf_spectacular", "drf_spectacular_sidecar"]
    REST_FRAMEWORK["DEFAULT_SCHEMA_CLASS"] = "drf_spectacular.openapi.AutoSchema"
    SPECTACULAR_SETTINGS = {
        "TITLE": "The example project",
        "VERSION": "1",
        "SERVE_INCLUDE_SCHEMA": False,
        "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
        "SERVE_AUTHENTICATION": [],
        "REDOC_DIST": "SIDECAR",
        "POSTPROCESSING_HOOKS": [
            "drf_spectacular.hooks.postprocess_schema_enums",
            "django_idempotency.openapi.spectacular_hook",
        ],
    }

# Optional: metrics at /metrics, for who sends the token; nobody, if there is none.
if find_spec("prometheus_client"):
    INSTALLED_APPS += ["django_idempotency.contrib.prometheus"]
METRICS_TOKEN = os.environ.get("EXAMPLE_METRICS_TOKEN", "")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {message}", "style": "{"}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler"},
        "lines": {"class": "logging.StreamHandler", "formatter": "line"},
    },
    "loggers": {
        # Tracebacks, without a line for every refused request.
        "django.request": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
        # A line for every outcome but those that are as usual: executed, and replayed.
        "django_idempotency": {"handlers": ["lines"], "level": "INFO", "propagate": False},
    },
}

# Every write that carries a key is guarded. Each contract's policy stands on its views, and so does
# that of the pages for browsers, whose keys are in forms.
IDEMPOTENCY = {
    "PATHS": [""],
    "EXEMPT_PATHS": {
        r"^/login$": "a login makes a session, which is for one client only",
        r"^/shop/cart$": "who adds a thing twice sees it twice",
    },
}

# What happens to a new row before the answer: a function of the row.
CLOUD_PROVISIONER = os.environ.get("EXAMPLE_PROVISIONER", "cloud.provisioning.place")

# The payment gateway; `python -m gateway 8001` serves one.
CLOUD_GATEWAY = os.environ.get("EXAMPLE_GATEWAY", "http://127.0.0.1:8001")

# What the reseller signs his events with. During a rotation there are two, with a comma between.
CLOUD_RESELLER_SECRETS = os.environ.get(
    "EXAMPLE_RESELLER_SECRETS", "whsec_cHVibGljLCBzbyBvbmx5IGZvciB0cnlpbmc="
).split(",")

# Where receipts go: printed, unless said otherwise.
EMAIL_BACKEND = os.environ.get(
    "EXAMPLE_EMAIL_BACKEND", "django.core.mail.backends.console.EmailBackend"
)

# Called where a crash would leave work half done: a function of the point's name.
CLOUD_REHEARSAL = os.environ.get("EXAMPLE_REHEARSAL", "cloud.rehearsal.go_on")
