"""I16: a scope is made of what identifies a caller stably, through whatever authenticates."""

# ruff: noqa: DJ008  (models of one test)

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.test.utils import isolate_apps
from django.urls import path
from django.utils.functional import SimpleLazyObject
from ninja import NinjaAPI
from ninja.security import APIKeyHeader, HttpBearer, django_auth
from rest_framework.authentication import BaseAuthentication
from rest_framework.authtoken.models import Token
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.tokens import AccessToken

from django_idempotency.decorators import idempotent
from django_idempotency.http.principal import name_of
from tests.shop.models import Order
from tests.shop.ninja_views import ANY, copy, create
from tests.shop.views import RestView, function
from tests.support.adapters import MIDDLEWARE

pytestmark = pytest.mark.once

MARKER = "Idempotency-Replayed"


class Opaque:
    """Only its address tells it from others."""


class Named:
    """Has a text, for people."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return self._name


class Account:
    """No model, but a primary key."""

    is_authenticated = True

    def __init__(self, pk: Any) -> None:
        self.pk = pk


class Unnamed(Account):
    """Logged in, and nobody."""

    def __init__(self) -> None:
        super().__init__(None)


def user(name: str) -> User:
    return User.objects.get_or_create(username=name)[0]


GOOD: dict[str, Any] = {
    "text": lambda token: f"account-{token}",
    "integer": lambda token: 1 + ["ada", "bob"].index(token),
    "uuid": lambda token: UUID(int=["ada", "bob"].index(token)),
    "object-with-pk": lambda token: Account(token),
    "user": user,
    "token-row": lambda token: Token.objects.get_or_create(user=user(token))[0],
}
BAD: dict[str, Any] = {
    "object": lambda token: Opaque(),
    "text-for-people": Named,
    "true": lambda token: True,
    "claims": lambda token: {"sub": token, "iat": Order.objects.count()},
    "list": lambda token: [token],
    "empty-pk": lambda token: Account(""),
    "no-pk": lambda token: Unnamed(),
    "unsaved": lambda token: User(username=token),
}
EVERY = GOOD | BAD


def bearer(find: Any) -> HttpBearer:
    class Bearer(HttpBearer):
        def authenticate(self, request: HttpRequest, token: str) -> Any:
            return find(token)

    return Bearer()


def ninja_api(name: str, auth: Any, guard: bool = False) -> Any:
    api = NinjaAPI(urls_namespace=f"identity-{name}-{guard}", auth=auth)
    api.post("/", response=ANY)(idempotent(copy(create)) if guard else copy(create))
    return api.urls


class ApiKey(APIKeyHeader):
    param_name = "X-Api-Key"

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        return key


def rest_view(find: Any, scope: str = "principal") -> Any:
    class Authentication(BaseAuthentication):
        def authenticate(self, request: Any) -> Any:
            return find(request.headers["authorization"].removeprefix("Bearer "))

    view = type("View", (RestView,), {"authentication_classes": [Authentication]})
    view.permission_classes = []
    return idempotent(scope=scope)(view).as_view()


class JwtView(RestView):
    authentication_classes = [JWTAuthentication]


urlpatterns = [
    *(path(f"ninja/{name}/", ninja_api(name, bearer(find))) for name, find in EVERY.items()),
    *(
        path(f"ninja-decorated/{name}/", ninja_api(name, bearer(find), guard=True))
        for name, find in EVERY.items()
    ),
    *(
        path(f"rest-auth/{name}/", rest_view(lambda token, find=find: (None, find(token))))
        for name, find in EVERY.items()
    ),
    *(
        path(f"rest-user/{name}/", rest_view(lambda token, find=find: (find(token), None)))
        for name, find in EVERY.items()
    ),
    path("ninja-anonymous/", ninja_api("anonymous", bearer(lambda token: AnonymousUser()))),
    path("ninja-session/", ninja_api("session", django_auth)),
    path("ninja-open/", ninja_api("open", None)),
    path("ninja-key/", ninja_api("key", ApiKey())),
    path("ninja-sets-user/", ninja_api("sets-user", bearer(lambda token: user(token)))),
    path(
        "rest-key-row/",
        rest_view(lambda token: (Unnamed(), GOOD["token-row"](token))),
    ),
    path("jwt-by-token/", idempotent(scope="token")(JwtView).as_view()),
    path("function/", function),
]


@pytest.fixture(autouse=True)
def _project(settings: Any, transactional_db: None) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]


def post(url: str, token: str = "ada", client: Client | None = None, **headers: str) -> Any:
    sender = client or Client(raise_request_exception=False)
    given = {"idempotency-key": "k", "authorization": f"Bearer {token}"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return sender.post(url, {"item": "vm"}, content_type="application/json", headers=given)


def is_replay(response: Any, first: Any) -> bool:
    same = (response.status_code, response.content) == (first.status_code, first.content)
    return first.status_code == 201 and same and response.get(MARKER) == "true"


adapters = pytest.mark.parametrize(
    "adapter", ["ninja", "ninja-decorated", "rest-auth", "rest-user"]
)


@adapters
@pytest.mark.parametrize("name", GOOD)
def test_a_caller_with_a_name_has_one_scope(adapter: str, name: str) -> None:
    first = post(f"/{adapter}/{name}/")
    assert is_replay(post(f"/{adapter}/{name}/"), first)
    other = post(f"/{adapter}/{name}/", "bob")
    assert (other.status_code, MARKER in other) == (201, False)
    assert Order.objects.count() == 2


@adapters
@pytest.mark.parametrize("name", BAD)
def test_what_names_nobody_is_an_error(adapter: str, name: str, caplog: Any) -> None:
    assert [post(f"/{adapter}/{name}/").status_code for _ in range(2)] == [500, 500]
    assert not Order.objects.exists()
    (error, _) = [each.exc_info[1] for each in caplog.records if each.name == "django.request"]
    assert "SCOPE" in str(error)
    assert "ada" not in str(error)


@adapters
@pytest.mark.parametrize("name", BAD)
def test_without_a_key_nobody_is_asked_for_a_name(adapter: str, name: str) -> None:
    """I9."""
    sent = Client().post(
        f"/{adapter}/{name}/",
        {"item": "vm"},
        content_type="application/json",
        headers={"authorization": "Bearer ada"},
    )
    assert sent.status_code == 201


def test_the_error_is_the_same_under_asgi() -> None:
    from asgiref.sync import async_to_sync

    client = AsyncClient(raise_request_exception=False)
    headers = {"idempotency-key": "k", "authorization": "Bearer ada"}
    response = async_to_sync(client.post)(
        "/ninja/true/", {"item": "vm"}, content_type="application/json", headers=headers
    )
    assert (response.status_code, Order.objects.count()) == (500, 0)


class TestNinja:
    """What authenticated the operation comes before the session that came along."""

    def test_a_session_beside_a_token(self) -> None:
        client = Client()
        client.force_login(user("eve"))
        first = post("/ninja/text/", "ada", client)
        assert is_replay(post("/ninja/text/", "ada"), first)
        other = post("/ninja/text/", "bob", client)
        assert (other.status_code, MARKER in other) == (201, False)

    def test_a_bare_yes_leaves_the_session_to_name_the_caller(self) -> None:
        ada, bob = Client(), Client()
        ada.force_login(user("ada"))
        bob.force_login(user("bob"))
        first = post("/ninja/true/", "any", ada)
        assert is_replay(post("/ninja/true/", "any", ada), first)
        other = post("/ninja/true/", "any", bob)
        assert (other.status_code, MARKER in other) == (201, False)

    def test_a_user_is_the_same_caller_however_they_logged_in(self) -> None:
        client = Client()
        client.force_login(user("ada"))
        first = post("/ninja/user/", "ada")
        settings_apart = post("/ninja-session/", "ignored", client)
        assert settings_apart.status_code == 422  # the same scope and key, another path
        assert is_replay(post("/ninja/user/", "ada"), first)

    def test_an_api_key(self) -> None:
        first = post("/ninja-key/", x_api_key="one")
        assert is_replay(post("/ninja-key/", x_api_key="one"), first)
        assert MARKER not in post("/ninja-key/", x_api_key="two")

    @pytest.mark.parametrize("url", ["/ninja-anonymous/", "/ninja-open/"])
    def test_an_anonymous_caller_is_no_error(self, url: str) -> None:
        assert [post(url).status_code for _ in range(2)] == [201, 201]
        assert Order.objects.count() == 2


def test_a_nameless_user_is_named_by_the_row_of_their_credential() -> None:
    first = post("/rest-key-row/", "ada")
    assert is_replay(post("/rest-key-row/", "ada"), first)
    assert MARKER not in post("/rest-key-row/", "bob")


class TestScopeToken:
    def test_a_jwt_is_what_was_sent(self, settings: Any, monkeypatch: Any) -> None:
        """Signed again it might be another text: some algorithms draw lots."""
        monkeypatch.setattr(AccessToken, "__str__", lambda self: f"{id(self)}")
        settings.SIMPLE_JWT = {"SIGNING_KEY": "only for tests, and long enough for HMAC"}
        token = AccessToken.for_user(user("ada"))
        text = token.get_token_backend().encode(token.payload)
        first = post("/jwt-by-token/", text)
        assert is_replay(post("/jwt-by-token/", text), first)

    def test_a_header_that_nobody_checked_is_no_caller(self, settings: Any) -> None:
        """A proxy's own credentials are the same for everybody."""
        settings.IDEMPOTENCY = {"SCOPE": "token"}
        ada, bob = Client(), Client()
        ada.force_login(user("ada"))
        bob.force_login(user("bob"))
        first = post("/function/", "the proxy's", ada)
        assert is_replay(post("/function/", "the proxy's", ada), first)
        other = post("/function/", "the proxy's", bob)
        assert (other.status_code, MARKER in other) == (201, False)


def scope_setting(value: Any) -> dict[str, Any]:
    return {"SCOPE": lambda request: value}


def tenant_setting(value: Any) -> dict[str, Any]:
    return {"SCOPE": lambda request: "ada", "TENANT": lambda request: value}


BAD_WORDS = ["", " ", False, True, {}, {"a": 1}, ["a"], b"a", 1.5, (), Opaque(), Named("x")]


@pytest.mark.parametrize("value", [*BAD_WORDS, ("a", None), ("a", ""), (("a",),)])
def test_a_scope_that_names_nobody(value: Any, settings: Any, caplog: Any) -> None:
    settings.IDEMPOTENCY = scope_setting(value)
    assert post("/function/").status_code == 500
    assert "SCOPE" in str(caplog.records[-1].exc_info[1])
    assert not Order.objects.exists()


@pytest.mark.parametrize("value", [*BAD_WORDS, None, ("a", "b"), User(username="x")])
def test_a_tenant_that_names_nobody(value: Any, settings: Any, caplog: Any) -> None:
    settings.IDEMPOTENCY = tenant_setting(value)
    assert post("/function/").status_code == 500
    assert "TENANT" in str(caplog.records[-1].exc_info[1])
    assert not Order.objects.exists()


@pytest.mark.parametrize("setting", [scope_setting, tenant_setting])
@pytest.mark.parametrize("kind", GOOD)
def test_functions_may_return_what_names_somebody(setting: Any, kind: str, settings: Any) -> None:
    settings.IDEMPOTENCY = setting(GOOD[kind]("ada"))
    first = post("/function/")
    settings.IDEMPOTENCY = setting(GOOD[kind]("ada"))
    assert is_replay(post("/function/"), first)
    settings.IDEMPOTENCY = setting(GOOD[kind]("bob"))
    assert MARKER not in post("/function/")


def test_anonymous_callers_of_two_tenants_share_nothing(settings: Any) -> None:
    settings.IDEMPOTENCY = {
        "ANONYMOUS": "share",
        "TENANT": lambda request: request.headers["x-tenant"],
    }
    first = post("/function/", x_tenant="one")
    assert is_replay(post("/function/", x_tenant="one"), first)
    other: HttpResponse = post("/function/", x_tenant="two")
    assert (other.status_code, MARKER in other) == (201, False)


class TestRows:
    """One row has one name, whichever model it was read through."""

    @isolate_apps("tests.shop")
    def test_a_proxy_and_a_child(self) -> None:
        class Person(models.Model):
            class Meta:
                app_label = "shop"

        class Colleague(Person):
            class Meta:
                app_label = "shop"
                proxy = True

        class Customer(Person):
            class Meta:
                app_label = "shop"

        one = name_of(Person(pk=7))
        assert one == name_of(Colleague(pk=7)) == name_of(Customer(person_ptr_id=7, id=7))
        assert one != name_of(Person(pk=8)) != name_of(User(pk=7))

    @isolate_apps("tests.shop")
    def test_keys_of_any_type(self) -> None:
        class Seat(models.Model):
            pk = models.CompositePrimaryKey("row", "number")
            row = models.CharField(max_length=1)
            number = models.IntegerField()

            class Meta:
                app_label = "shop"

        class Day(models.Model):
            at = models.DecimalField(max_digits=5, decimal_places=2, primary_key=True)

            class Meta:
                app_label = "shop"

        assert name_of(Seat(row="a", number=1)) != name_of(Seat(row="a", number=2))
        assert name_of(Seat(row="a", number=1)) == name_of(Seat(row="a", number=1))
        assert name_of(Day(at=1)) == "shop.day:1"
        assert name_of(Day(at=Opaque())) is None

    @isolate_apps("tests.shop")
    def test_a_key_that_no_row_has(self) -> None:
        """An unsaved user, made of a token's claims: a default gives each request another UUID."""

        class Guest(models.Model):
            id = models.UUIDField(primary_key=True, default=uuid4)

            class Meta:
                app_label = "shop"

        class Seat(models.Model):
            pk = models.CompositePrimaryKey("row", "number")
            row = models.CharField(max_length=1)
            number = models.IntegerField()

            class Meta:
                app_label = "shop"

        assert name_of(Guest()) is None
        assert (
            name_of(Guest.from_db("default", ["id"], [UUID(int=7)])) == f"shop.guest:{UUID(int=7)}"
        )
        assert name_of(Seat(row="a")) is None
        assert name_of(SimpleLazyObject(lambda: Guest())) is None

    def test_an_object_and_a_lazy_one(self) -> None:
        assert name_of(SimpleLazyObject(lambda: Account(7))) == name_of(Account(7))
        assert name_of(SimpleLazyObject(lambda: User(pk=7))) == name_of(User(pk=7))
        assert name_of(SimpleLazyObject(lambda: None)) is None
