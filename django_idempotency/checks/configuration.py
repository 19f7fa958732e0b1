"""How checks are registered, and the checks of the ``IDEMPOTENCY`` setting."""

from collections.abc import Callable, Collection, Iterator
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Tags, register
from django.core.exceptions import ImproperlyConfigured

from ..conf.policy import Scope
from ..conf.settings import Configuration, SettingError, configuration, entry_of
from ..contract.endpoints import GuardedBy, endpoints, policies_of_endpoints
from ..stores.database.location import is_shared
from .messages import message

TAG = "idempotency"
"""Tag of every check of this package."""

Databases = Collection[str]
"""Aliases of the databases that may be asked."""
Messages = Iterator[CheckMessage]


def check(*tags: str, deploy: bool = False) -> Callable[..., Any]:
    """Register a function that yields messages, given valid settings."""

    def registered(find: Callable[[Configuration, Databases], Messages]) -> Callable[..., Any]:
        @register(TAG, *tags, deploy=deploy)
        def run(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
            try:
                valid = configuration()
            except ImproperlyConfigured:
                return []
            return list(find(valid, databases or ()))

        return run

    return registered


@register(TAG)
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    try:
        configuration()
    except SettingError as error:
        return [
            message("E001", entry=entry_of(name), problem=problem)
            for name, problem in error.problems.items()
        ]
    except ImproperlyConfigured:
        pass  # SECRET_KEY is empty: Django's to report.
    return []


@check(deploy=True)
def check_secret(valid: Configuration, databases: Databases) -> Messages:
    if "SECRET" not in getattr(settings, "IDEMPOTENCY", {}):
        yield message("I001")


@check()
def check_encryption(valid: Configuration, databases: Databases) -> Messages:
    encrypts = ""
    if valid.policy.codec.encrypts:
        encrypts = f'IDEMPOTENCY["CODEC"] is "{valid.policy.codec}"'
    for endpoint, policy in policies_of_endpoints():
        if policy.codec.encrypts and not encrypts:
            encrypts = f'The codec of {endpoint.view} is "{policy.codec}"'
    if encrypts and not valid.keyring.keys:
        yield message("E040", encrypts=encrypts)
    if (encrypts or valid.keyring.keys) and find_spec("cryptography") is None:
        yield message("E041")


@check(Tags.urls)
def check_policies(valid: Configuration, databases: Databases) -> Messages:
    if not valid.policies or not getattr(settings, "ROOT_URLCONF", None):
        return
    paths = [each.example for each in endpoints() if each.protection.guards]
    used = {next((each for each in valid.policies if each.search(path)), None) for path in paths}
    for pattern in valid.policies:
        if pattern not in used:
            yield message("W052", pattern=pattern.pattern)


@check(Tags.urls)
def check_pages(valid: Configuration, databases: Databases) -> Messages:
    """The project does not say which paths are meant, and some are for browsers."""
    if "PATHS" in getattr(settings, "IDEMPOTENCY", {}):
        return
    pages = [
        f"{each.method} {each.path}"
        for each in endpoints()
        if each.protection.by is GuardedBy.MIDDLEWARE and each.takes_forms
    ]
    if pages:
        others = f" and {len(pages) - 1} more" if pages[1:] else ""
        yield message("I050", first=pages[0], others=others)


@check()
def check_tenants(valid: Configuration, databases: Databases) -> Messages:
    """With a schema per tenant, users may be numbered in each, and records in one table."""
    policy = valid.policy
    names_tenant = policy.tenant is not None or not isinstance(policy.scope, Scope)
    if names_tenant or not hasattr(settings, "TENANT_MODEL"):
        return
    if is_shared() and not is_shared(get_user_model()._meta.app_label):
        yield message("E015")
