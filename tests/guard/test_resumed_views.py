"""A view that is its own handler: it is called again, with the request that its client has sent."""

from typing import Any
from unittest.mock import ANY

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.urls import set_script_prefix
from django.utils import translation

from django_idempotency.conf.policy import PolicyError
from django_idempotency.decorators import idempotent
from django_idempotency.guard.resuming import Resumed
from django_idempotency.http.kept_request import LARGEST
from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from tests.conftest import Caller
from tests.shop import effects, resumable
from tests.shop.models import Order
from tests.support.problems import code_of
from tests.support.resuming import breaks, interrupt, resume_all

ITEM = {"item": "vm"}
PATHS = [
    f"/own/berlin/{view}/"
    for view in (
        *("function", "class", "rest-class", "viewset", "rest-function", "async", "ninja"),
    )
]


@pytest.fixture(autouse=True)
def urls(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.shop.resumable"
    resumable.seen.clear()
    translation.deactivate()  # which Django does between requests


@pytest.fixture
def buyer(caller: Caller) -> Caller:
    caller.user.user_permissions.add(Permission.objects.get(codename="add_order"))
    return caller


class TestCallingAgain:
    @pytest.mark.parametrize("path", PATHS)
    def test_it_goes_on_after_the_last_step_and_the_answer_replays(
        self, path: str, buyer: Caller, monkeypatch: Any
    ) -> None:
        """I1, I6: for every kind of view."""
        interrupt(buyer, monkeypatch, path)
        charge = Order.objects.get()
        assert resume_all() == [Resumed.DONE]
        order = Order.objects.exclude(pk=charge.pk).get()
        answer = buyer.post(path, ITEM)
        assert (answer.status_code, answer["Idempotency-Replayed"]) == (201, "true")
        assert str(order.pk) in answer.content.decode()
        fresh = buyer.post(path, ITEM, "k-2")
        assert fresh["Content-Type"] == answer["Content-Type"]
        assert fresh.content.decode() == answer.content.decode().replace(
            str(order.pk), str(Order.objects.latest("pk").pk)
        )

    @pytest.mark.parametrize("asgi", [False, True], ids=["wsgi", "asgi"])
    @pytest.mark.parametrize("path", PATHS)
    def test_it_finds_what_its_client_has_sent(
        self, path: str, asgi: bool, buyer: Caller, monkeypatch: Any
    ) -> None:
        buyer.asgi = asgi
        extra = {"headers": {"accept-language": "de"}, "secure": True}
        interrupt(buyer, monkeypatch, f"{path}?gift=%C3%A4", **extra)
        assert resume_all() == [Resumed.DONE]
        first, again = resumable.seen
        assert again == first
        assert first == {
            "user": buyer.user.pk,
            "uri": f"https://testserver{path}?gift=%C3%A4",
            "root": "/plain/",
            "key": "k-1",
            "operation": "k-1",
            "type": "application/json",
            "language": "en-us",
            "route": ANY,
        }

    def test_it_is_where_and_in_which_language_it_was(
        self, buyer: Caller, monkeypatch: Any, settings: Any
    ) -> None:
        locale = "django.middleware.locale.LocaleMiddleware"
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, locale]
        settings.FORCE_SCRIPT_NAME = "/app"
        extra = {"headers": {"accept-language": "de"}}
        set_script_prefix("/app/")  # as django.setup() does for commands, and handlers of servers
        try:
            interrupt(buyer, monkeypatch, "/own/berlin/class/", **extra)
            translation.deactivate()
            assert resume_all() == [Resumed.DONE]
        finally:
            set_script_prefix("/")
        first, again = resumable.seen
        assert again == first
        assert (first["root"], first["language"]) == ("/app/plain/", "de")
        assert "/app/own/berlin/class/" in first["uri"]

    def test_an_anonymous_caller_stays_one(
        self, db: None, caller: Caller, monkeypatch: Any, settings: Any
    ) -> None:
        settings.IDEMPOTENCY = {"ANONYMOUS": "share"}
        caller._client.logout()
        interrupt(caller, monkeypatch, "/own/berlin/ninja/")
        assert resume_all() == [Resumed.DONE]
        assert resumable.seen[1]["user"] is None

    def test_the_middlewares_policy_may_say_so(
        self, buyer: Caller, monkeypatch: Any, settings: Any
    ) -> None:
        """And a view without any decorator of ours has a guard, too."""
        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE,
            "django_idempotency.middleware.IdempotencyMiddleware",
        ]
        settings.IDEMPOTENCY = {"POLICIES": {"^/bare/": {"ATOMIC": False, "RESUMABLE": True}}}
        interrupt(buyer, monkeypatch, "/bare/berlin/")
        assert resume_all() == [Resumed.DONE]
        assert buyer.post("/bare/berlin/", ITEM)["Idempotency-Replayed"] == "true"
        assert Order.objects.count() == 2

    def test_its_key_may_stand_in_the_body(self, caller: Caller, monkeypatch: Any) -> None:
        sent = ITEM | {"number": "n-1"}
        with monkeypatch.context() as patch:
            patch.setattr(effects, "after_charge", breaks)
            assert caller.post("/numbered/", sent, key=None).status_code == 500
        assert resume_all() == [Resumed.DONE]
        assert caller.post("/numbered/", sent, key=None)["Idempotency-Replayed"] == "true"
        assert Order.objects.count() == 2
        assert resumable.seen[1].keys() - {"Host"} <= resumable.seen[0].keys()

    def test_what_it_raises_is_answered_as_django_does(
        self, caller: Caller, monkeypatch: Any
    ) -> None:
        interrupt(caller, monkeypatch, "/failing/")
        monkeypatch.setattr(resumable, "before", resumable.gone)
        assert resume_all() == [Resumed.DONE]
        assert caller.post("/failing/", ITEM).status_code == 404

    def test_a_refusal_or_an_error_leaves_it_interrupted(
        self, caller: Caller, monkeypatch: Any, caplog: Any
    ) -> None:
        interrupt(caller, monkeypatch, "/failing/")

        def refuses(request: Any) -> None:
            raise PermissionDenied

        def fails(request: Any) -> None:
            raise RuntimeError("out of paper")

        for before in (refuses, fails):
            monkeypatch.setattr(resumable, "before", before)
            assert resume_all() == [Resumed.FAILED]
        assert "out of paper" in caplog.text
        monkeypatch.setattr(resumable, "before", resumable.raises)
        assert resume_all() == [Resumed.DONE]


class TestRefusing:
    """Nobody runs what the caller could not do now (I5), or what was not sent."""

    def test_the_permission_is_gone(self, buyer: Caller, monkeypatch: Any) -> None:
        interrupt(buyer, monkeypatch, "/own/berlin/function/")
        buyer.user.user_permissions.clear()
        assert resume_all() == [Resumed.FAILED]
        assert Order.objects.count() == 1
        assert code_of(buyer.post("/own/berlin/class/", ITEM)) == "idempotency_key_reused"

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("end", ["gone", "inactive"])
    def test_the_user_is_gone(
        self, end: str, path: str, buyer: Caller, monkeypatch: Any, caplog: Any
    ) -> None:
        """I11: it is refused before anything runs."""
        interrupt(buyer, monkeypatch, path)
        if end == "gone":
            User.objects.all().delete()
        else:
            User.objects.update(is_active=False)
        assert resume_all() == [Resumed.IMPOSSIBLE]
        assert "its user is" in caplog.text
        assert Order.objects.count() == 1
        assert IdempotencyRecord.objects.get().attempt == 1

    def test_a_resolver_needs_no_user(self, buyer: Caller, monkeypatch: Any, settings: Any) -> None:
        settings.IDEMPOTENCY = {"RESOLVER": effects.ask}
        interrupt(buyer, monkeypatch, "/own/berlin/class/")
        monkeypatch.setattr(effects, "resolver", lambda operation: HttpResponse("bought"))
        User.objects.update(is_active=False)
        assert resume_all() == [Resumed.DONE]

    def test_the_view_has_moved(self, buyer: Caller, monkeypatch: Any) -> None:
        """A retry would not reach it, either."""
        interrupt(buyer, monkeypatch, "/own/berlin/class/")
        IdempotencyRecord.objects.update(path="/moved/")
        assert resume_all() == [None]

    def test_another_view_is_there_that_says_nothing(self, buyer: Caller, monkeypatch: Any) -> None:
        interrupt(buyer, monkeypatch, "/own/berlin/class/")
        IdempotencyRecord.objects.update(path="/rest-function/")
        assert resume_all() == [None]

    def test_the_request_was_changed(self, buyer: Caller, monkeypatch: Any, caplog: Any) -> None:
        interrupt(buyer, monkeypatch, "/own/berlin/class/")
        beginning = IdempotencyStep.objects.get(position=0)
        text = beginning.result.replace("vm", "gold")
        IdempotencyStep.objects.filter(pk=beginning.pk).update(result=text)
        assert resume_all() == [Resumed.IMPOSSIBLE]
        assert "or changed" in caplog.text

    def test_it_is_encrypted_as_responses_are(
        self, buyer: Caller, monkeypatch: Any, settings: Any
    ) -> None:
        fernet = pytest.importorskip("cryptography.fernet").Fernet
        keys = [fernet.generate_key().decode()]
        settings.IDEMPOTENCY = {"CODEC": "fernet", "ENCRYPTION_KEYS": keys}
        interrupt(buyer, monkeypatch, "/own/berlin/class/")
        kept = IdempotencyStep.objects.get(position=0)
        assert (kept.name, kept.result[:7]) == ("view", "fernet:")
        assert resume_all() == [Resumed.DONE]

    def test_no_credential_is_kept(self, buyer: Caller, monkeypatch: Any) -> None:
        """I10"""
        interrupt(buyer, monkeypatch, "/own/berlin/rest-class/", headers={"x-secret": "s-e-c"})
        kept = IdempotencyStep.objects.get(position=0).result
        for secret in (buyer.token.key, "s-e-c", buyer._client.cookies["sessionid"].value):
            assert secret not in kept


class TestKeeping:
    """What cannot be kept is said, and runs as it would without: it accepts what the bare view
    does (I15)."""

    @pytest.mark.parametrize(
        ("reason", "sent"),
        [
            ("more than", {"data": {"item": "x" * LARGEST}}),
            ("multipart", {"content_type": "multipart/form-data; boundary=b", "data": b"--b--"}),
            ("UTF-8", {"content_type": "application/octet-stream", "data": b"\xff\xfe"}),
            ("its path", {"path": "/own/" + "b" * 255 + "/class/"}),
        ],
    )
    def test_then_only_a_retry_goes_on(
        self,
        reason: str,
        sent: dict[str, Any],
        buyer: Caller,
        monkeypatch: Any,
        settings: Any,
        caplog: Any,
    ) -> None:
        settings.IDEMPOTENCY = {"ON_INTERRUPTED": "run"}
        monkeypatch.setattr(resumable, "item_of", lambda request: "vm")
        sent = {"path": "/own/berlin/class/", "data": ITEM} | sent
        interrupt(buyer, monkeypatch, **sent)
        assert f"because {reason}" in caplog.text or reason in caplog.text
        assert "k-1" not in caplog.text
        assert resume_all() == []
        path, data = sent.pop("path"), sent.pop("data")
        assert buyer.post(path, data, **sent).status_code == 201

    def test_a_form_is_kept_too(self, buyer: Caller, monkeypatch: Any) -> None:
        form = {"content_type": "application/x-www-form-urlencoded"}
        interrupt(buyer, monkeypatch, "/own/berlin/rest-class/", "item=%C3%A4", **form)
        assert resume_all() == [Resumed.DONE]
        assert Order.objects.filter(item="ä").count() == 1

    def test_a_body_may_be_as_large_as_is_said(self, buyer: Caller, monkeypatch: Any) -> None:
        item = "x" * 150
        body = f'{{"item": "{item}"}}'.ljust(LARGEST)
        interrupt(buyer, monkeypatch, "/own/berlin/class/", body)
        assert resume_all() == [Resumed.DONE]
        assert Order.objects.filter(item=item).count() == 1

    def test_a_caller_who_cannot_be_looked_up_is_an_error(
        self, buyer: Caller, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(resumable.closed_api, "on_exception", raise_again)
        answer = buyer.post("/closed/buy/", ITEM)
        assert answer.status_code == 500
        assert Order.objects.count() == 0
        assert resume_all() == []


def raise_again(request: Any, error: Exception) -> Any:
    raise error


class TestDeclaring:
    def test_a_request_has_no_further_data(self) -> None:
        with pytest.raises(PolicyError, match="resume_data: is for a resumable function"):
            idempotent(resumable=True, resume_data=resumable.item_of)
        with pytest.raises(PolicyError, match="True or None, not False"):
            idempotent(resumable=False)


class TestPreconditions:
    """A check above the steps sees what the first attempt has done."""

    def test_above_the_steps_it_refuses_its_own_work(
        self, caller: Caller, monkeypatch: Any
    ) -> None:
        interrupt(caller, monkeypatch, "/once/")
        assert resume_all() == [Resumed.DONE]
        answer = caller.post("/once/", ITEM)
        assert (answer.status_code, answer.json()) == (400, ["You have one."])

    def test_as_a_step_it_is_asked_once(self, caller: Caller, monkeypatch: Any) -> None:
        interrupt(caller, monkeypatch, "/once/?as=step")
        assert resume_all() == [Resumed.DONE]
        answer = caller.post("/once/?as=step", ITEM)
        assert (answer.status_code, answer.json()) == (201, {"order": Order.objects.get().pk})

    def test_a_refusal_is_no_step(self, caller: Caller) -> None:
        """It raises, so nothing of it is stored but the answer."""
        Order.objects.create(item="vm")
        answer = caller.post("/once/?as=step", ITEM)
        assert (answer.status_code, answer.json()) == (400, ["You have one."])
        assert not IdempotencyStep.objects.filter(position__gt=0).exists()
