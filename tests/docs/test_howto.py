"""The how-to pages: their code runs as it stands, and does what they say."""

import json
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from time import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.db.models import F
from django.test.utils import isolate_apps
from django.urls import path
from django.utils.http import http_date
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.status import OperationState
from tests.conftest import Caller, in_thread, row_locks
from tests.docs.pages import blocks, how_to, text_of
from tests.shop import models, views
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE
from tests.support.senders import SENDERS
from tests.support.visitors import Visitor

PAGES = Path(__file__).parents[2] / "docs/how-to"
UUID = "8e03978e-40d5-43e8-bc93-6894a57f9324"


@pytest.fixture
def shop(monkeypatch: Any) -> ModuleType:
    """The application that the pages import their models from."""
    module = ModuleType("shop.models")
    vars(module).update(Order=Order)
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.models", module)
    return module


@pytest.fixture(autouse=True)
def page(request: Any, shop: ModuleType, settings: Any, monkeypatch: Any) -> Any:
    """Run the code of the class's page as the URLconf; the middleware is installed.

    A class with ``MODELS`` has so many blocks of models before that.
    """
    if not hasattr(request.cls, "PAGE"):
        return None
    if hasattr(request.cls, "MODELS"):
        request.getfixturevalue("receipts")
    module = ModuleType("howto")
    monkeypatch.setitem(sys.modules, "howto", module)
    for code in how_to(request.cls.PAGE)[getattr(request.cls, "MODELS", 0) :]:
        exec(compile(code, request.cls.PAGE, "exec"), vars(module))
    settings.ROOT_URLCONF = "howto"
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    return module


@pytest.fixture
def receipts(shop: ModuleType, transactional_db: None) -> Iterator[None]:
    """The table of a page's own model, for the time of one test."""
    namespace: dict[str, Any] = {"__name__": models.__name__}
    with isolate_apps("tests.shop"):
        exec(how_to("mangopay")[0], namespace)
    model = vars(shop)["Receipt"] = namespace["Receipt"]
    with connection.schema_editor() as editor:
        editor.create_model(model)
    yield
    with connection.schema_editor() as editor:
        editor.delete_model(model)


def replayed(first: Any, retry: Any) -> bool:
    return (retry.status_code, retry.content) == (first.status_code, first.content)


def expire(ago: timedelta) -> None:
    """Move the end of all retentions to some time ago."""
    IdempotencyRecord.objects.update(expires_at=F("created_at") - ago)


def is_kept_for(wanted: timedelta) -> bool:
    record = IdempotencyRecord.objects.get()
    assert record.completed_at is not None
    return abs(record.expires_at - record.completed_at - wanted) < timedelta(seconds=1)


TESTED_ELSEWHERE = {
    "celery": "tests/docs/test_queue_pages.py",
    "django-tasks": "tests/docs/test_queue_pages.py",
    "rq": "tests/docs/test_queue_pages.py",
    "drf": "tests/docs/test_guarded_pages.py",
    "plain-django": "tests/docs/test_guarded_pages.py",
    "payment-gateways": "tests/docs/test_gateway_page.py",
    "bulk": "tests/docs/test_bulk_page.py",
    "graphql": "tests/docs/test_guarded_pages.py",
}


def test_every_page_with_views_is_tested() -> None:
    here = {value.PAGE for value in globals().values() if hasattr(value, "PAGE")}
    code = {page.stem: "".join(how_to(page.stem)) for page in PAGES.glob("*.md")}
    with_views = {page for page, text in code.items() if "urlpatterns = " in text}
    assert with_views <= here | set(TESTED_ELSEWHERE)
    for page, module in TESTED_ELSEWHERE.items():
        assert f"how-to/{page}.md" in (PAGES.parents[1] / module).read_text(encoding="utf-8")


class TestKeysFromTheRequest:
    PAGE = "keys-from-the-request"

    def test_a_hidden_field_is_the_key(self, caller: Caller) -> None:
        sent = {"item": "vm", "key": UUID}
        first, retry = (caller._client.post("/order/", sent) for _ in range(2))
        assert (first.status_code, replayed(first, retry)) == (201, True)
        missing = caller._client.post("/order/", {"item": "vm"})
        assert (missing.status_code, missing.json()["code"]) == (400, "idempotency_key_missing")
        assert "Idempotency-Key header, or the hidden field `key` of" in missing.json()["detail"]
        assert Order.objects.count() == 1

    def test_a_field_of_the_body_is_the_key(self, caller: Caller) -> None:
        sent = {"item": "vm", "reference": "r-1"}
        first, retry = (caller.post("/transfer/", sent, key=None) for _ in range(2))
        assert (first.status_code, replayed(first, retry)) == (201, True)
        other = caller.post("/transfer/", sent, key="r-2")
        assert (other.status_code, other.json()["code"]) == (400, "idempotency_key_ambiguous")
        for _ in range(2):
            assert caller.post("/transfer/", {"item": "vm"}, key=None).status_code == 201
        assert Order.objects.count() == 3

    def test_an_event_is_handled_once_whatever_else_changes(self, caller: Caller) -> None:
        first = caller.post("/events/", {"id": "evt_1", "tries": 1}, key="by-a-proxy")
        retry = caller.post("/events/", {"id": "evt_1", "tries": 2}, key="by-another")
        assert replayed(first, retry)
        assert caller.post("/events/", [], key=None).status_code == 400
        assert Order.objects.count() == 1


class TestWebhooks:
    PAGE = "webhooks"
    SETTINGS = (
        *("PAYMENTS_SECRETS", "STRIPE_WEBHOOK_SECRETS", "GITHUB_WEBHOOK_SECRETS"),
        *("SHOPIFY_CLIENT_SECRETS", "SLACK_SIGNING_SECRETS"),
    )
    CONTENT: dict[str, Any] = {
        "type": "checkout.session.completed",
        "data": {"id": "an order", "object": {"client_reference_id": "an order"}},
        "repository": {"full_name": "an order"},
        "name": "an order",
        "event": {"type": "an order"},
    }

    @pytest.fixture(autouse=True)
    def _secrets(self, page: Any, settings: Any) -> None:
        for sender, name in zip(SENDERS, self.SETTINGS, strict=True):
            setattr(settings, name, sender.secret)

    def deliver(self, caller: Caller, sender: Any, where: str, **content: Any) -> Any:
        body, headers = sender.delivery(**self.CONTENT | content)
        return caller._client.post(where, body, "application/json", headers=headers)

    def test_each_sender_is_understood_and_its_events_are_handled_once(
        self, caller: Caller
    ) -> None:
        for sender in SENDERS:
            where = "payments" if sender.name == "standard" else sender.name
            for number in range(3):
                response = self.deliver(caller, sender, f"/hooks/{where}/", tries=number)
                assert response.status_code == 200
        assert [each.item for each in Order.objects.all()] == ["an order"] * len(SENDERS)

    def test_slacks_question_is_answered(self, caller: Caller) -> None:
        asked = {"type": "url_verification", "challenge": "c", "event_id": None}
        assert self.deliver(caller, SENDERS[-1], "/hooks/slack/", **asked).json() == {
            "challenge": "c"
        }


class TestHtmlForms:
    PAGE = "html-forms"

    @pytest.fixture
    def ada(self, transactional_db: None, settings: Any) -> Visitor:
        form, own = blocks(text_of(PAGES / "html-forms.md"), "html")
        wizard = form.replace("{{ form }}", "{{ wizard.management_form }}{{ form }}")
        texts = {"checkout.html": form, "wizard.html": wizard, "idempotency/base.html": own}
        texts["base.html"] = "<body>{% block content %}{% endblock %}</body>"
        [engine] = settings.TEMPLATES
        loaders = [
            ("django.template.loaders.locmem.Loader", texts),
            "django.template.loaders.app_directories.Loader",
        ]
        options = engine["OPTIONS"] | {"loaders": loaders}
        settings.TEMPLATES = [{"BACKEND": engine["BACKEND"], "OPTIONS": options}]
        return Visitor()

    @pytest.mark.parametrize("url", ["/checkout/", "/class/checkout/"])
    def test_it_is_carried_out_once_and_may_be_corrected(self, ada: Visitor, url: str) -> None:
        form = ada.open(url)
        wrong = ada.send(form, item="")
        assert (wrong.status, wrong.key) == (200, form.key)
        sent = [ada.send(page, item="vm").where for page in (wrong, wrong, form)]
        assert sent == ["/thanks/"] * 3
        asked = ada.send(form, item="disk")
        assert (asked.status, asked.links) == (422, ["/thanks/"])
        assert ada.send(asked).where == "/thanks/"
        assert [each.item for each in Order.objects.order_by("pk")] == ["vm", "disk"]

    def test_a_wizard_is_carried_out_once(self, ada: Visitor) -> None:
        first = ada.open("/wizard/")
        assert first.key == ada.send(first, **{"0-item": ""}).key
        last = ada.send(first, **{"0-item": "vm"})
        assert last.key == first.key
        assert [ada.send(last).where for _ in range(2)] == ["/thanks/"] * 2
        assert Order.objects.count() == 1

    def test_other_template_languages(self, page: Any) -> None:
        assert callable(page.KEY_FIELD)


class TestStripe:
    PAGE = "stripe"
    PATH = "/v1/customers"

    def test_a_replay_is_marked(self, caller: Caller) -> None:
        first, retry = (caller.post(self.PATH, {"name": "Ada"}) for _ in range(2))
        assert replayed(first, retry)
        assert "Idempotent-Replayed" not in first
        assert retry["Idempotent-Replayed"] == "true"
        assert Order.objects.count() == 1

    def test_any_text_of_255_characters_is_a_key(self, caller: Caller) -> None:
        key = 'a key, "quoted"; '.ljust(255, "x")
        assert caller.post(self.PATH, {"name": "Ada"}, key=key).status_code == 200
        assert caller.post(self.PATH, {"name": "Ada"}, key=key + "x").status_code == 400

    def test_a_500_is_stored_and_its_writes_are_undone(self, caller: Caller) -> None:
        first, retry = (caller.post(self.PATH, {"name": "bug"}) for _ in range(2))
        assert first.status_code == 500
        assert replayed(first, retry)
        assert retry["Idempotent-Replayed"] == "true"
        assert not Order.objects.exists()

    def test_without_the_middleware_it_is_not(self, caller: Caller, settings: Any) -> None:
        settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
        for _ in range(2):
            response = caller.post(self.PATH, {"name": "bug"})
            assert (response.status_code, "Idempotent-Replayed" in response) == (500, False)
        assert not Order.objects.exists()

    def test_failed_validation_is_not_stored(self, caller: Caller) -> None:
        for _ in range(2):
            refused = caller.post(self.PATH, {})
            assert (refused.status_code, "Idempotent-Replayed" in refused) == (400, False)
        corrected = caller.post(self.PATH, {"name": "Ada"})
        assert corrected.json()["error"]["type"] == "idempotency_error"

    def test_other_parameters_are_400(self, caller: Caller) -> None:
        caller.post(self.PATH, {"name": "Ada"})
        other = caller.post(self.PATH, {"name": "Grace"})
        assert (other.status_code, other.json()["error"]["type"]) == (400, "idempotency_error")

    @row_locks
    def test_a_concurrent_request_is_409(self, caller: Caller, page: Any) -> None:
        seen = []
        create = page.Order.objects.create

        def slow(**values: Any) -> Any:
            seen.append(in_thread(lambda: caller.post(self.PATH, {"name": "Ada"})).result())
            return create(**values)

        page.Order = SimpleNamespace(objects=SimpleNamespace(create=slow))
        assert caller.post(self.PATH, {"name": "Ada"}).status_code == 200
        assert (seen[0].status_code, seen[0]["Retry-After"]) == (409, "1")
        assert seen[0].json()["error"]["code"] == "idempotency_key_in_use"

    def test_a_day_later_the_key_is_new(self, caller: Caller) -> None:
        caller.post(self.PATH, {"name": "Ada"})
        assert is_kept_for(timedelta(hours=24))
        expire(timedelta(seconds=1))
        assert "Idempotent-Replayed" not in caller.post(self.PATH, {"name": "Grace"})


class TestAdyen:
    PAGE = "adyen"
    PATH = "/v71/payments"

    @pytest.fixture(autouse=True)
    def _company(self, caller: Caller) -> None:
        caller.user.groups.add(Group.objects.create(name="company"))

    def test_keys_have_64_characters(self, caller: Caller) -> None:
        assert caller.post(self.PATH, {"reference": "a"}, key="k" * 64).status_code == 200
        assert caller.post(self.PATH, {"reference": "a"}, key="k" * 65).status_code == 400

    def test_they_live_for_31_days(self, caller: Caller) -> None:
        caller.post(self.PATH, {"reference": "a"})
        assert is_kept_for(timedelta(days=31))

    def test_the_response_names_the_key(self, caller: Caller) -> None:
        for _ in range(2):
            assert caller.post(self.PATH, {"reference": "a"}, key=UUID)["Idempotency-Key"] == UUID

    def test_colleagues_share_keys(self, caller: Caller, stranger: Caller) -> None:
        first = caller.post(self.PATH, {"reference": "a"})
        stranger.user.groups.add(Group.objects.get())
        assert replayed(first, stranger.post(self.PATH, {"reference": "a"}))

    def test_other_companies_do_not(self, caller: Caller, stranger: Caller) -> None:
        first = caller.post(self.PATH, {"reference": "a"})
        stranger.user.groups.add(Group.objects.create(name="other"))
        assert stranger.post(self.PATH, {"reference": "a"}).content != first.content

    def test_without_a_company_it_is_refused(self, stranger: Caller) -> None:
        assert stranger.post(self.PATH, {"reference": "a"}).status_code == 403


class TestGocardless:
    PAGE = "gocardless"
    PATH = "/payments"

    def test_a_repetition_names_what_exists(self, caller: Caller) -> None:
        first = caller.post(self.PATH, {"amount": 100})
        for amount in (100, 200):
            again = caller.post(self.PATH, {"amount": amount})
            assert again.status_code == 409
            (error,) = again.json()["error"]["errors"]
            assert error["reason"] == "idempotent_creation_conflict"
            assert error["links"] == {"conflicting_resource_id": first.json()["payments"]["id"]}
        assert Order.objects.count() == 1

    def test_a_failed_request_may_be_sent_again(self, caller: Caller) -> None:
        assert caller.post(self.PATH, {}).status_code == 422
        assert caller.post(self.PATH, {"amount": 100}).status_code == 201

    def test_others_are_not_told(self, caller: Caller, stranger: Caller) -> None:
        caller.post(self.PATH, {"amount": 100})
        assert stranger.post(self.PATH, {"amount": 100}).status_code == 201

    def test_keys_have_128_characters(self, caller: Caller) -> None:
        assert caller.post(self.PATH, {"amount": 100}, key="k" * 129).status_code == 400

    def test_without_the_middleware(self, caller: Caller, settings: Any) -> None:
        settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
        assert caller.post(self.PATH, {"amount": 100}).status_code == 201
        assert caller.post(self.PATH, {"amount": 100}).status_code == 409


class TestMangopay:
    PAGE = "mangopay"
    MODELS = 1
    PATH = "/wallets"
    DATA = {"Description": "mine"}

    def look_up(self, caller: Caller, key: str = UUID) -> Any:
        return caller.get(
            f"/responses/{key}", headers={"authorization": f"Token {caller.token.key}"}
        )

    def test_the_response_is_found_by_its_key(self, caller: Caller) -> None:
        first = caller.post(self.PATH, self.DATA, key=UUID)
        found = self.look_up(caller).json()
        assert (found["StatusCode"], found["Resource"]) == ("200", first.json())
        assert found["RequestURL"].endswith(self.PATH)

    def test_sending_it_again_is_a_look_up_too(self, caller: Caller) -> None:
        first, retry = (caller.post(self.PATH, self.DATA, key=UUID) for _ in range(2))
        assert replayed(first, retry)

    def test_others_find_their_own(self, caller: Caller, stranger: Caller) -> None:
        caller.post(self.PATH, self.DATA, key=UUID)
        assert self.look_up(stranger).status_code == 404
        theirs = stranger.post(self.PATH, {"Description": "theirs"}, key=UUID)
        assert self.look_up(stranger).json()["Resource"] == theirs.json()

    @pytest.mark.parametrize("key", ["k" * 15, "k" * 37, "with_an_underscore"])
    def test_keys_have_a_form(self, caller: Caller, key: str) -> None:
        assert caller.post(self.PATH, self.DATA, key=key).status_code == 400

    def test_after_a_day_it_is_gone(self, caller: Caller, page: Any) -> None:
        caller.post(self.PATH, self.DATA, key=UUID)
        page.Receipt.objects.update(at=F("at") - timedelta(hours=25))
        assert self.look_up(caller).status_code == 404

    def test_a_failure_leaves_no_receipt(self, caller: Caller, page: Any) -> None:
        assert caller.post(self.PATH, {}, key=UUID).status_code == 500
        assert self.look_up(caller).status_code == 404

    def test_an_expired_key_may_come_again(self, caller: Caller) -> None:
        caller.post(self.PATH, self.DATA, key=UUID)
        expire(timedelta(seconds=1))
        again = caller.post(self.PATH, self.DATA, key=UUID)
        assert self.look_up(caller).json()["Resource"] == again.json()


class TestRepeatableRequests:
    PAGE = "repeatable-requests"
    PATH = "/rooms"

    def send(self, caller: Caller, ago: float = 0, name: str = "room", **extra: Any) -> Any:
        headers = {"repeatability-request-id": UUID} | extra.pop("headers", {})
        headers.setdefault("repeatability-first-sent", http_date(time() - ago))
        return caller.post(self.PATH, {"name": name}, key=None, headers=headers)

    def test_accepted_and_repeated(self, caller: Caller) -> None:
        first, again = self.send(caller), self.send(caller)
        assert replayed(first, again)
        assert {r["Repeatability-Result"] for r in (first, again)} == {"accepted"}
        assert Order.objects.count() == 1

    def test_another_request_is_rejected(self, caller: Caller) -> None:
        self.send(caller)
        other = self.send(caller, name="other")
        assert (other.status_code, other["Repeatability-Result"]) == (400, "rejected")

    @pytest.mark.parametrize("sent", ["", "yesterday", "2026-01-01T00:00:00Z"])
    def test_the_date_is_required(self, caller: Caller, sent: str) -> None:
        refused = self.send(caller, headers={"repeatability-first-sent": sent})
        assert (refused.status_code, refused["Repeatability-Result"]) == (400, "rejected")
        assert not Order.objects.exists()

    def test_too_late(self, caller: Caller) -> None:
        """Also when nothing is remembered any more."""
        self.send(caller)
        IdempotencyRecord.objects.all().delete()
        late = self.send(caller, ago=2 * 60 * 60)
        assert (late.status_code, late["Repeatability-Result"]) == (412, "rejected")
        assert Order.objects.count() == 1

    def test_too_late_with_a_wrong_date(self, caller: Caller) -> None:
        self.send(caller)
        expire(timedelta(days=1))
        late = self.send(caller)
        assert (late.status_code, late["Repeatability-Result"]) == (412, "rejected")
        assert Order.objects.count() == 1

    def test_clients_of_one_account_are_told_apart(self, caller: Caller) -> None:
        one, two = (
            self.send(caller, headers={"repeatability-client-id": name}) for name in ("a", "b")
        )
        assert one.content != two.content

    def test_without_an_id_nothing_is_remembered(self, caller: Caller) -> None:
        for _ in range(2):
            response = caller.post(self.PATH, {"name": "room"}, key=None)
            assert "Repeatability-Result" not in response
        assert not IdempotencyRecord.objects.exists()

    def test_another_date_is_the_same_request(self, caller: Caller) -> None:
        assert replayed(self.send(caller), self.send(caller, ago=60))

    def test_without_the_middleware(self, caller: Caller, settings: Any) -> None:
        settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
        first, again = self.send(caller), self.send(caller)
        assert replayed(first, again)
        assert first["Repeatability-Result"] == "accepted"


class TestNegotiation:
    PAGE = "negotiation"

    def test_the_view_names_the_language(self, caller: Caller, settings: Any, page: Any) -> None:
        page.urlpatterns = [path("greeting/", csrf_exempt(page.greeting))]
        settings.LANGUAGES = [("en", "English"), ("de", "German")]
        settings.MIDDLEWARE = [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.locale.LocaleMiddleware",
            *settings.BASE_MIDDLEWARE[1:],
            MIDDLEWARE,
        ]
        answers = [
            caller.post("/greeting/", headers={"accept-language": language})
            for language in ("de", "en")
        ]
        assert [answer["Content-Language"] for answer in answers] == ["de", "de"]
        assert [answer.content for answer in answers] == [b"Januar", b"Januar"]


class TestReconciliation:
    PAGE = "reconciliation"

    @pytest.fixture(autouse=True)
    def orders(self, page: Any) -> None:
        page.urlpatterns.append(path("orders/", views.DecoratedRestView.as_view()))

    def ask(self, caller: Caller, address: str) -> Any:
        return caller.send("get", f"{address}{UUID}", key=None)

    def test_a_client_learns_what_became_of_its_operation(
        self, caller: Caller, stranger: Caller
    ) -> None:
        caller.post("/orders/", key=UUID)
        found = self.ask(caller, "/api/idempotency-keys/").json()
        (shown,) = re.findall(r"^\{.*?^\}", (PAGES / f"{self.PAGE}.md").read_text(), re.M | re.S)
        assert found.pop("effects") == []
        assert list(found) == list(json.loads(shown))
        assert (found["state"], found["status"]) == ("completed", 201)
        assert self.ask(stranger, "/api/idempotency-keys/").status_code == 404

    def test_views_with_options_have_one_of_their_own(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"SCOPE": "token"}
        first = caller.post("/orders/", key=UUID)
        found = self.ask(caller, "/payments/keys/").json()
        assert found["response"]["body"].encode() == first.content
        assert caller.send("get", "/payments/keys/no-uuid", key=None).status_code == 400

    def test_every_state_is_explained(self) -> None:
        text = (PAGES / f"{self.PAGE}.md").read_text(encoding="utf-8")
        assert re.findall(r"^\| `(\w+)` \|", text, re.M)[1:] == [
            str(each) for each in OperationState
        ]
