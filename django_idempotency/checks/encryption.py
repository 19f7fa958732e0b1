"""Checks of what encrypting responses needs."""

from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error, register

from ..conf.settings import Configuration
from .configuration import TAG, valid_configuration
from .views import guarded_endpoints


@register(TAG)
def check_encryption(**kwargs: Any) -> list[CheckMessage]:
    """E040, E041."""
    valid = valid_configuration()
    if valid is None:
        return []
    encrypts = _who_encrypts(valid)
    messages = []
    if encrypts and not valid.keyring.keys:
        messages.append(_no_keys(encrypts))
    if (encrypts or valid.keyring.keys) and find_spec("cryptography") is None:
        messages.append(_no_package())
    return messages


def _who_encrypts(valid: Configuration) -> str:
    """Name the setting, or the first view, that asks for encryption."""
    if valid.policy.codec.encrypts:
        return f'IDEMPOTENCY["CODEC"] is "{valid.policy.codec}"'
    for endpoint, policy in guarded_endpoints():
        if policy.codec.encrypts:
            return f'The codec of {endpoint.view} is "{policy.codec}"'
    return ""


def _no_keys(encrypts: str) -> CheckMessage:
    return Error(
        f'{encrypts}, but IDEMPOTENCY["ENCRYPTION_KEYS"] is empty: requests with a key would fail.',
        hint="Add a key: cryptography.fernet.Fernet.generate_key().decode() makes one.",
        id="django_idempotency.E040",
    )


def _no_package() -> CheckMessage:
    return Error(
        "Responses are to be encrypted, but the package cryptography is not installed.",
        hint="Run python -m pip install 'django-idempotency[crypto]'.",
        id="django_idempotency.E041",
    )
