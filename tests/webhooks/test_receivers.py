"""Receivers of webhooks: each event is handled once, and none is lost."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import update_wrapper
from types import FunctionType
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.models import F
from django.http import Http404, HttpResponse, HttpResponseRedirect, JsonResponse
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import path, resolve

from django_idempotency.conf.policy import PolicyError
from django_idempotency.contract.endpoints import Coverage, protection_of
from django_idempotency.contract.facts import problems_of
from django_idempotency.contract.tables import another_body
from django_idempotency.contract.words import terms
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.problems import Code
from django_idempotency.webhooks import InvalidSignature, receiving, stripe_signature, webhook
from tests.conftest import in_thread, row_locks
from tests.shop.models import Order
from tests.support import effects
from tests.support.adapters import MIDDLEWARE
from tests.support.senders import SENDERS, Sender
from tests.support.waiters import until_somebody_waits

pytestmark = pytest.mark.django_db(transaction=True)

STRIPE = SENDERS[1]


class Broken(Exception):
    """The handler has an error."""


def nothing(event: Any) -> HttpResponse | None:
    """What a handler does beside its work, unless a test says otherwise."""
    return None


during: Callable[[Any], HttpResponse | None] = nothing


def work(request: Any, event: Any) -> HttpResponse:
    Order.objects.create(item=event["id"])
    other = during(event)
    request.idempotency.after_commit(effects.send, event["id"])
    return other or JsonResponse({"order": Order.objects.count()})


def receiver(sender: Sender) -> Any:
    @webhook(f"shop {sender.name}", verify=sender.verify(sender.setting), **sender.key)
    def hook(request: Any, event: Any, **kwargs: Any) -> HttpResponse:
        return work(request, event)

    return hook


def async_receiver(sender: Sender) -> Any:
    @webhook(f"async {sender.name}", verify=sender.verify(sender.setting), **sender.key)
    async def hook(request: Any, event: Any, **kwargs: Any) -> HttpResponse:
        await Order.objects.acreate(item=event["id"])
        other = during(event)
        await request.idempotency.aafter_commit(effects.send, event["id"])
        return other or JsonResponse({"order": await Order.objects.acount()})

    return hook


HOOKS = {sender.name: receiver(sender) for sender in SENDERS}
urlpatterns = [
    *(path(f"hooks/{name}/", hook) for name, hook in HOOKS.items()),
    *(path(f"async-hooks/{each.name}/", async_receiver(each)) for each in SENDERS),
    path("moved/stripe/", HOOKS["stripe"]),
    path("tenants/<int:tenant>/stripe/", HOOKS["stripe"]),
]


@pytest.fixture(autouse=True)
def _project(settings: Any, monkeypatch: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    for sender in SENDERS:
        setattr(settings, sender.setting, [sender.secret])
    monkeypatch.setattr(receiving, "_receivers", dict(receiving._receivers))
    effects.reset()
    yield
    effects.reset()


@pytest.fixture
def meanwhile(monkeypatch: Any) -> Callable[[Callable[[Any], Any]], None]:
    """Let something happen in the next handler, once."""

    def install(act: Callable[[Any], Any]) -> None:
        def once(event: Any) -> Any:
            monkeypatch.setattr(f"{__name__}.during", nothing)
            return act(event)

        monkeypatch.setattr(f"{__name__}.during", once)

    return install


@pytest.fixture(params=["decorator", "middleware", "atomic requests"])
def _around(request: Any, settings: Any, monkeypatch: Any) -> None:
    if request.param != "decorator":
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    if request.param == "atomic requests":
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


everywhere = pytest.mark.usefixtures("_around")
each_sender = pytest.mark.parametrize("sender", SENDERS, ids=str)


def deliver(sender: Sender = STRIPE, event: str = "evt_1", where: str = "", **changes: Any) -> Any:
    """Deliver an event, as the sender does it: without a session, token or CSRF cookie."""
    extra = changes.pop("headers", {})
    body, headers = sender.delivery(event, **changes)
    return post(where or f"/hooks/{sender.name}/", body, headers | extra)


def post(where: str, body: str, headers: dict[str, str]) -> Any:
    sent = {"data": body, "content_type": "application/json", "headers": headers}
    if where.startswith("/async"):
        client = AsyncClient(raise_request_exception=False, enforce_csrf_checks=True)
        return async_to_sync(client.post)(where, **sent)
    return Client(raise_request_exception=False, enforce_csrf_checks=True).post(where, **sent)


def handled() -> list[str]:
    return list(Order.objects.order_by("pk").values_list("item", flat=True))


@everywhere
@each_sender
def test_an_event_that_is_delivered_three_times_is_handled_once(sender: Sender) -> None:
    first, *others = (deliver(sender, pending_webhooks=number) for number in range(3))
    assert (first.status_code, first.json()) == (200, {"order": 1})
    for other in others:
        assert (other.content, other["Idempotency-Replayed"]) == (first.content, "true")
    deliver(sender, "evt_2")
    assert handled() == effects.sent == ["evt_1", "evt_2"]


@each_sender
def test_async_receivers_do_the_same(sender: Sender) -> None:
    for number in range(3):
        response = deliver(sender, where=f"/async-hooks/{sender.name}/", pending_webhooks=number)
        assert response.json() == {"order": 1}
    assert handled() == effects.sent == ["evt_1"]
    body, _ = sender.delivery("evt_2")
    assert post(f"/async-hooks/{sender.name}/", body, {}).status_code == 401
    assert handled() == ["evt_1"]


@everywhere
@each_sender
def test_a_bad_signature_is_refused_before_anything_is_looked_up(sender: Sender) -> None:
    """I5, I7: before a good one, and after it; the stored answer is not for strangers."""
    body, headers = sender.delivery()
    where = f"/hooks/{sender.name}/"
    for _ in range(2):
        for forged in ({**headers, sender.header: "v1=forged"}, {}):
            with CaptureQueriesContext(connection) as queries:
                response = post(where, body, forged)
            assert response.status_code in {400, 401}
            assert "Idempotency-Replayed" not in response
            assert not any("idempotency" in each["sql"] for each in queries)
        records = IdempotencyRecord.objects.count()
        assert post(where, body, headers).status_code == 200
    assert (records, handled()) == (1, ["evt_1"])


@everywhere
@pytest.mark.parametrize("way", ["returned", "raised", "500", "crash", "302", "409"])
def test_a_delivery_that_failed_comes_again(
    way: str, meanwhile: Callable[[Callable[[Any], Any]], None]
) -> None:
    """A 404 that says "the object is not there yet" must not lose the event."""

    def fail(event: Any) -> HttpResponse:
        match way:
            case "raised":
                raise Http404
            case "crash":
                raise Broken
            case "302":
                return HttpResponseRedirect("/login/")
        return HttpResponse(status=404 if way == "returned" else int(way))

    meanwhile(fail)
    first = deliver()
    again = deliver()
    assert first.status_code == {"returned": 404, "raised": 404, "crash": 500}.get(way) or int(way)
    assert (again.status_code, "Idempotency-Replayed" in again) == (200, False)
    assert deliver()["Idempotency-Replayed"] == "true"
    assert effects.sent.count("evt_1") == (2 if way in {"returned", "409"} else 1)


@row_locks
@pytest.mark.usefixtures("_around")
def test_a_delivery_that_comes_at_the_same_time_waits(
    meanwhile: Callable[[Callable[[Any], Any]], None],
) -> None:
    """A 409 would be a failed delivery, and lost where the sender does not try again."""
    rivals = []

    def duplicate(event: Any) -> None:
        rivals.append(in_thread(lambda: deliver(pending_webhooks=0)))
        until_somebody_waits()

    meanwhile(duplicate)
    first = deliver(pending_webhooks=1)
    second = rivals[0].result()
    assert (first.status_code, second.content) == (200, first.content)
    assert handled() == effects.sent == ["evt_1"]


@pytest.mark.parametrize(("days", "runs"), [(20, 1), (34, 1), (36, 2)])
def test_a_delivery_after_days(days: int, runs: int) -> None:
    deliver()
    ago = timedelta(days=days)
    IdempotencyRecord.objects.update(expires_at=F("expires_at") - ago)
    assert deliver().status_code == 200
    assert handled() == ["evt_1"] * runs


@each_sender
def test_secrets_are_rotated_without_losing_a_delivery(sender: Sender, settings: Any) -> None:
    new = SENDERS[0].secret.replace("dGhl", "bmV3") if sender.name == "standard" else "new secret"
    setattr(settings, sender.setting, [new, sender.secret])
    assert deliver(sender).status_code == 200
    assert deliver(sender, secret=new)["Idempotency-Replayed"] == "true"
    setattr(settings, sender.setting, [new])
    assert deliver(sender).status_code == 401
    assert deliver(sender, "evt_2", secret=new).status_code == 200
    setattr(settings, sender.setting, [])
    assert deliver(sender).status_code == 500


@everywhere
def test_settings_for_clients_do_not_refuse_events(settings: Any) -> None:
    """Whoever sends events cannot correct them."""

    def fails(request: Any) -> str:
        raise AssertionError("not asked")

    settings.IDEMPOTENCY = {
        "KEY_FORMAT": "uuid",
        "KEY_PATTERN": "order-.*",
        "KEY_MAX_LENGTH": 3,
        "KEY_FROM": fails,
        "TENANT": fails,
        "ANONYMOUS": "refuse",
        "RECHECK": "authentication",
        "NEW_KEYS_PER_HOUR": 1,
        "MAX_REQUEST_SIZE": 1,
        "FINGERPRINT": fails,
        "NOT_STORED": [],
        "RESUMABLE": True,
        "RETENTION": timedelta(seconds=1),
    }
    for event in ("evt_1", "evt_2"):
        for sender in (STRIPE, SENDERS[2]):
            for number in range(2):
                sent = {"idempotency-key": f"of the sender's own, {number}"}
                assert deliver(sender, event, headers=sent).status_code == 200
    assert handled() == ["evt_1", "evt_1", "evt_2", "evt_2"]


def test_events_belong_to_a_sender_and_to_a_tenant_of_the_path(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["a.example", "b.example"]
    for where in ("/hooks/stripe/", "/tenants/1/stripe/", "/tenants/2/stripe/"):
        for _ in range(2):
            assert deliver(where=where, headers={"host": "a.example"}).status_code == 200
    deliver(SENDERS[-1], headers={"host": "a.example"})
    assert handled() == ["evt_1"] * 4
    # A receiver that has moved, to another path or host, knows what it has handled.
    moved = deliver(where="/moved/stripe/", headers={"host": "b.example"})
    assert moved["Idempotency-Replayed"] == "true"


def test_an_event_without_an_id_is_refused() -> None:
    """I18: it could be handled twice."""
    body, headers = SENDERS[2].delivery()
    del headers["x-github-delivery"]
    response = post("/hooks/github/", body, headers)
    assert (response.status_code, response.json()["code"]) == (400, "idempotency_key_missing")
    assert handled() == []


@pytest.mark.once
class TestDeclaring:
    @pytest.fixture
    def verify(self) -> Any:
        return stripe_signature("STRIPE_SECRETS")

    def test_other_methods_are_not_allowed(self) -> None:
        response = Client().get("/hooks/stripe/")
        assert (response.status_code, response["Allow"]) == (405, "POST")

    def test_it_needs_one_place_of_the_key(self, verify: Any) -> None:
        for arguments in ({}, {"key": len, "key_header": "X-Id"}):
            with pytest.raises(TypeError, match="needs either key"):
                webhook("new", verify=verify, **arguments)

    def test_it_needs_a_name_and_a_check(self, verify: Any) -> None:
        with pytest.raises(TypeError, match="sender's name"):
            webhook("", verify=verify, key=len)
        with pytest.raises(TypeError, match="sender's name"):
            webhook("new", verify="STRIPE_SECRETS", key=len)  # type: ignore[arg-type]

    def test_it_cannot_run_again_without_its_sender(self, verify: Any) -> None:
        with pytest.raises(TypeError, match="no signature is kept"):
            webhook("new", verify=verify, key=len, atomic=False, resumable=True)

    def test_options_are_checked_at_import(self, verify: Any) -> None:
        with pytest.raises(PolicyError, match="retention"):
            webhook("new", verify=verify, key=len, retention=35)(work)  # type: ignore[arg-type]

    def test_a_class_is_no_receiver(self, verify: Any) -> None:
        with pytest.raises(TypeError, match="a function, not a class"):
            webhook("new", verify=verify, key=len)(Broken)

    def test_a_name_belongs_to_one_function(self, verify: Any) -> None:
        # A module may be imported again.
        again = update_wrapper(FunctionType(work.__code__.replace(), {}), work)
        for function in (work, again):
            webhook("new", verify=verify, key=len)(function)
        with pytest.raises(TypeError, match=r"deliver are both @webhook\('new'\)"):
            webhook("new", verify=verify, key=len)(deliver)

    def test_the_contract_knows_where_its_keys_come_from(self) -> None:
        protection = protection_of(HOOKS["stripe"], "POST", "/hooks/stripe/")
        assert protection.coverage is Coverage.GUARDED
        assert protection.policy is not None
        said = dict(terms(protection.policy))
        assert said["Key"].startswith("the id of the event, required.")
        assert said["Keys belong to"].startswith("the sender shop stripe.")
        assert said["A retry has"] == "the same key; nothing else is compared."
        assert "Another request" not in said
        assert another_body(protection.policy) == "ignored"
        assert Code.KEY_REUSED not in {each.code for each in problems_of(protection.policy)}
        policy = protection_of(resolve("/hooks/github/").func, "POST", "/hooks/github/").policy
        assert policy is not None
        assert next(terms(policy))[1].startswith("`X-GitHub-Delivery`, required.")

    def test_a_check_of_the_projects_own(self, rf: Any) -> None:
        def verify(request: Any) -> Any:
            if request.headers.get("x-token") != "right":
                raise InvalidSignature("The token is wrong.")
            return {"id": request.headers["x-id"]}

        @webhook("own", verify=verify, key=lambda event: event["id"])
        def hook(request: Any, event: Any) -> HttpResponse:
            return work(request, event)

        for token, status in (("wrong", 401), ("right", 200), ("wrong", 401), ("right", 200)):
            request = rf.post("/own/", headers={"x-token": token, "x-id": "evt_1"})
            assert hook(request).status_code == status
        assert handled() == ["evt_1"]
        with pytest.raises(ImproperlyConfigured, match="no secret"):
            stripe_signature("NO_SUCH_SETTING")(rf.post("/", headers={"stripe-signature": "t=1"}))
