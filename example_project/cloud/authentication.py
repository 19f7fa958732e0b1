"""The four ways callers prove who they are. ``request.auth`` is the credential's row."""

from typing import Any

from rest_framework.authentication import (
    BaseAuthentication,
    BasicAuthentication,
    TokenAuthentication,
)
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from .models import ApiKey

Caller = tuple[Any, ApiKey]


def caller_of(key: str) -> Caller:
    """Return account and row of an API key.

    :raises AuthenticationFailed: if there is no such key, or its account is closed
    """
    found = ApiKey.objects.select_related("account").filter(digest=ApiKey.digest_of(key)).first()
    if found is None or not found.account.is_active:
        raise AuthenticationFailed("Unknown API key.")
    return found.account, found


class AccountToken(TokenAuthentication):
    """``Authorization: Bearer`` with the account's token."""

    keyword = "Bearer"


class BearerKey(BaseAuthentication):
    """``Authorization: Bearer`` with one of the account's API keys."""

    def authenticate(self, request: Request) -> Caller | None:
        kind, _, key = request.headers.get("Authorization", "").partition(" ")
        return caller_of(key.strip()) if kind.lower() == "bearer" else None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class HeaderKey(BaseAuthentication):
    """``x-api-key`` with one of the account's API keys."""

    def authenticate(self, request: Request) -> Caller | None:
        key = request.headers.get("x-api-key")
        return None if key is None else caller_of(key)

    def authenticate_header(self, request: Request) -> str:
        return "x-api-key"


class Merchant(BasicAuthentication):
    """HTTP Basic: the account's name, and one of its API keys as the password."""

    def authenticate_credentials(
        self, userid: str, password: str, request: Request | None = None
    ) -> Caller:
        account, key = caller_of(password)
        if account.get_username() != userid:
            raise AuthenticationFailed("Unknown merchant.")
        return account, key
