"""Keys belong to callers, however callers prove who they are."""

import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.test import Client
from django.urls import path
from rest_framework.authentication import (
    BaseAuthentication,
    BasicAuthentication,
    SessionAuthentication,
    TokenAuthentication,
)
from rest_framework.authtoken.models import Token
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework_simplejwt.authentication import (
    JWTAuthentication,
    JWTStatelessUserAuthentication,
)
from rest_framework_simplejwt.tokens import AccessToken

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.shop.models import Order
from tests.shop.views import RestView, csrf_function
from tests.support.adapters import MIDDLEWARE

SIGNING_KEY = "only for tests, and long enough for HMAC with SHA-256"
ACCOUNTS = {"key-1": "ada", "key-2": "ada", "key-3": "grace"}
"""Which account an API key belongs to."""


class ApiKeyAuthentication(BaseAuthentication):
    """An ``X-Api-Key`` header and no users: ``request.auth`` is the key."""

    def authenticate(self, request: Any) -> Any:
        key = request.headers.get("x-api-key")
        if key not in ACCOUNTS:
            raise AuthenticationFailed("an API key is needed")
        return None, key

    def authenticate_header(self, request: Any) -> str:
        return "ApiKey"


class HasKey(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return request.auth is not None


class ApiKeyView(RestView):
    authentication_classes = [ApiKeyAuthentication]
    permission_classes = [HasKey]


def account(request: Any) -> str:
    return ACCOUNTS[request.auth]


@idempotent(scope=account)
class AccountView(ApiKeyView):
    pass


def csrf(request: HttpRequest) -> HttpResponse:
    """Hand out a token, as a page with a form does."""
    return HttpResponse(get_token(request))


def rest_view(*authentication: Any) -> Any:
    return type("View", (RestView,), {"authentication_classes": authentication})


KINDS: dict[str, Any] = {
    "session": SessionAuthentication,
    "token": TokenAuthentication,
    "jwt": JWTAuthentication,
    "stateless-jwt": JWTStatelessUserAuthentication,
    "basic": BasicAuthentication,
}
urlpatterns = [
    path("csrf/", csrf),
    path("form/", csrf_function),
    path("api-key/", ApiKeyView.as_view()),
    path("account/", AccountView.as_view()),
    path("any/", rest_view(TokenAuthentication, JWTAuthentication, BasicAuthentication).as_view()),
    *(path(f"{name}/", rest_view(kind).as_view()) for name, kind in KINDS.items()),
    *(
        path(f"{name}/by-token/", idempotent(scope="token")(rest_view(kind)).as_view())
        for name, kind in KINDS.items()
    ),
]


@pytest.fixture(autouse=True, params=[False, True], ids=["plain", "atomic requests"])
def _project(request: Any, settings: Any, transactional_db: None, monkeypatch: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    settings.SIMPLE_JWT = {"SIGNING_KEY": SIGNING_KEY}
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", request.param)


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def grace() -> User:
    return User.objects.create_user("grace")


def post(path: str, client: Client | None = None, **headers: str) -> Any:
    """Buy under always the same key."""
    sender = client or Client()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return sender.post(
        path,
        {"item": "vm"},
        content_type="application/json",
        headers={"idempotency-key": "k"} | named,
    )


def is_replay(response: Any, first: Any) -> bool:
    same = (response.status_code, response.content) == (first.status_code, first.content)
    return first.status_code == 201 and same and response.get("Idempotency-Replayed") == "true"


def is_new(response: Any) -> bool:
    return response.status_code == 201 and "Idempotency-Replayed" not in response


# Each gives a user new credentials, as the value of the Authorization header.


def new_token(user: User) -> str:
    Token.objects.filter(user=user).delete()
    return f"Token {Token.objects.create(user=user).key}"


def new_jwt(user: User) -> str:
    return f"Bearer {AccessToken.for_user(user)}"


def new_password(user: User) -> str:
    password = f"{user.password[-6:]}-new"
    user.set_password(password)
    user.save()
    return "Basic " + base64.b64encode(f"{user.username}:{password}".encode()).decode()


credentials = pytest.mark.parametrize(
    ("kind", "renew"),
    [
        ("token", new_token),
        ("jwt", new_jwt),
        ("stateless-jwt", new_jwt),
        ("basic", new_password),
    ],
)
Renew = Callable[[User], str]


@credentials
class TestAuthorizationHeader:
    def test_a_refreshed_credential_is_the_same_caller(
        self, ada: User, kind: str, renew: Renew
    ) -> None:
        first = post(f"/{kind}/", authorization=renew(ada))
        assert is_replay(post(f"/{kind}/", authorization=renew(ada)), first)
        assert Order.objects.count() == 1

    def test_it_is_another_where_policy_says_token(
        self, ada: User, kind: str, renew: Renew
    ) -> None:
        old = renew(ada)
        first = post(f"/{kind}/by-token/", authorization=old)
        assert is_replay(post(f"/{kind}/by-token/", authorization=old), first)
        assert is_new(post(f"/{kind}/by-token/", authorization=renew(ada)))

    @pytest.mark.parametrize("suffix", ["", "by-token/"])
    def test_other_users_are_other_callers(
        self, ada: User, grace: User, kind: str, renew: Renew, suffix: str
    ) -> None:
        for user in (ada, grace):
            assert is_new(post(f"/{kind}/{suffix}", authorization=renew(user)))

    @pytest.mark.parametrize("suffix", ["", "by-token/"])
    def test_nothing_is_replayed_to_who_fails_to_authenticate(
        self, ada: User, kind: str, renew: Renew, suffix: str
    ) -> None:
        good = renew(ada)
        post(f"/{kind}/{suffix}", authorization=good)
        for value in (good[:-3] + "xyz", "Nonsense", ""):
            refused = post(f"/{kind}/{suffix}", authorization=value)
            assert refused.status_code in {401, 403}
            assert "Idempotency-Replayed" not in refused

    def test_no_credential_is_stored(self, ada: User, kind: str, renew: Renew) -> None:
        value = renew(ada)
        post(f"/{kind}/", authorization=value)
        post(f"/{kind}/by-token/", authorization=value, idempotency_key="k-2")
        secret = value.partition(" ")[2]
        for record in IdempotencyRecord.objects.values():
            assert secret not in str(record)


def test_an_expired_jwt_gets_no_replay(ada: User) -> None:
    token = AccessToken.for_user(ada)
    first = post("/jwt/", authorization=f"Bearer {token}")
    token.set_exp(lifetime=timedelta(minutes=-1))
    assert post("/jwt/", authorization=f"Bearer {token}").status_code == 401
    assert is_replay(post("/jwt/", authorization=new_jwt(ada)), first)


def test_one_user_with_several_kinds_of_credentials_is_one_caller(ada: User) -> None:
    first = post("/any/", authorization=new_token(ada))
    for renew in (new_jwt, new_password):
        assert is_replay(post("/any/", authorization=renew(ada)), first)


class TestSessions:
    def client(self, user: User) -> Client:
        client = Client(enforce_csrf_checks=True)
        client.force_login(user)
        return client

    def token(self, client: Client) -> str:
        return client.get("/csrf/").content.decode()

    def form(self, client: Client, token: str, item: str = "vm") -> Any:
        fields = {"item": item, "csrfmiddlewaretoken": token}
        return client.post("/form/", fields, headers={"idempotency-key": "k"})

    def test_a_form_with_another_csrf_token_is_the_same_request(self, ada: User) -> None:
        client = self.client(ada)
        one, other = self.token(client), self.token(client)
        assert one != other
        first = self.form(client, one)
        assert is_replay(self.form(client, other), first)
        assert self.form(client, other, item="disk").status_code == 422

    def test_without_a_csrf_token_nothing_runs_and_nothing_is_replayed(self, ada: User) -> None:
        client = self.client(ada)
        assert self.form(client, "").status_code == 403
        assert not IdempotencyRecord.objects.exists()
        first = self.form(client, self.token(client))
        refused = self.form(client, "")
        assert (refused.status_code, "Idempotency-Replayed" in refused) == (403, False)
        assert is_replay(self.form(client, self.token(client)), first)

    @pytest.mark.parametrize("path", ["/session/", "/session/by-token/"])
    def test_rest_views_check_csrf_too(self, ada: User, path: str) -> None:
        client = self.client(ada)
        assert post(path, client).status_code == 403
        first = post(path, client, x_csrftoken=self.token(client))
        assert post(path, client).status_code == 403
        assert is_replay(post(path, client, x_csrftoken=self.token(client)), first)

    @pytest.mark.parametrize("path", ["/session/", "/session/by-token/"])
    def test_another_session_of_the_same_user_is_the_same_caller(
        self, ada: User, path: str
    ) -> None:
        """A session is no token: nobody can send an old one again after logging in anew."""
        phone, laptop = self.client(ada), self.client(ada)
        first = post(path, phone, x_csrftoken=self.token(phone))
        assert is_replay(post(path, laptop, x_csrftoken=self.token(laptop)), first)

    def test_after_logging_out_nothing_is_replayed(self, ada: User) -> None:
        client = self.client(ada)
        post("/session/", client, x_csrftoken=self.token(client))
        client.logout()
        assert post("/session/", client).status_code == 403

    def test_the_next_user_of_a_browser_is_another_caller(self, ada: User, grace: User) -> None:
        client = self.client(ada)
        assert is_new(self.form(client, self.token(client)))
        client.force_login(grace)
        assert is_new(self.form(client, self.token(client)))


class TestApiKeys:
    """Callers without users: what authentication left in ``request.auth`` is the caller."""

    def test_a_key_is_a_caller(self) -> None:
        first = post("/api-key/", x_api_key="key-1")
        assert is_replay(post("/api-key/", x_api_key="key-1"), first)
        assert is_new(post("/api-key/", x_api_key="key-2"))

    def test_a_function_names_the_account(self) -> None:
        first = post("/account/", x_api_key="key-1")
        assert is_replay(post("/account/", x_api_key="key-2"), first)
        assert is_new(post("/account/", x_api_key="key-3"))

    @pytest.mark.parametrize("path", ["/api-key/", "/account/"])
    def test_an_unknown_key_gets_nothing(self, path: str) -> None:
        post(path, x_api_key="key-1")
        assert post(path, x_api_key="key-9").status_code == 401
        assert post(path).status_code == 401
