"""The settings of another project, with its API guarded by the middleware.

``FOREIGN`` describes it as JSON: the module of its settings, ``IDEMPOTENCY``, and middleware that
is left out.
"""

import json
import os
from importlib import import_module

_foreign = json.loads(os.environ["FOREIGN"])
_theirs = import_module(_foreign["settings"])
globals().update({name: getattr(_theirs, name) for name in dir(_theirs) if name.isupper()})

INSTALLED_APPS = [*_theirs.INSTALLED_APPS, "django_idempotency"]
MIDDLEWARE = [
    *(each for each in _theirs.MIDDLEWARE if each not in _foreign["without"]),
    "django_idempotency.middleware.IdempotencyMiddleware",
]
IDEMPOTENCY = _foreign["idempotency"]


def by_key_alone(request: object) -> str:
    """A fingerprint for APIs that promise: one key, one answer, whatever is sent with it."""
    return ""
