"""Rare paths, which must hold all the same."""

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection
from django.db.models import F
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.test import RequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.conf.policy import Policy
from django_idempotency.decorators import idempotent
from django_idempotency.http.fingerprint import payload
from django_idempotency.http.principal import scope_of
from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations.base import InFlight, Started
from django_idempotency.protocol.record import Omitted, Snapshot
from django_idempotency.stores.base import Busy
from django_idempotency.stores.database.dialects import Dialect, dialect_of
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import Caller, in_thread
from tests.shop import urls, views
from tests.shop.models import Order
from tests.support.operations import CREATED, a_claim, an_operation


@csrf_exempt
@idempotent
def no_template(request: HttpRequest) -> TemplateResponse:
    Order.objects.create(item="vm")
    return TemplateResponse(request, "no such template.html")


class Unrenderable(JSONRenderer):
    def render(self, *args: Any, **kwargs: Any) -> bytes:
        raise ValueError


class NotRendered(APIView):
    renderer_classes = [Unrenderable]

    @idempotent
    def post(self, request: Any) -> Response:
        Order.objects.create(item="vm")
        return Response({})


@csrf_exempt
def reads_first(request: HttpRequest) -> HttpResponse:
    request.read(1)
    return idempotent(views.function)(request)


class WorksBehindLogin(LoginRequiredMixin, View):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse()


@method_decorator(csrf_exempt, name="dispatch")
class Members(LoginRequiredMixin, View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


@csrf_exempt
def exits(request: HttpRequest) -> HttpResponse:
    Order.objects.create(item="vm")
    raise SystemExit(3)


@csrf_exempt
@idempotent(methods=["PUT"])
def only_put(request: HttpRequest) -> HttpResponse:
    return JsonResponse(views.buy(json.loads(request.body))[1], status=201)


class Hand(APIView):
    def post(self, request: Any) -> Any:
        by_hand = Request(request._request, authenticators=request.authenticators)
        return views.DecoratedMethodRestView().post(by_hand)


urlpatterns = [
    *urls.urlpatterns,
    path("no-template/", no_template),
    path("not-rendered/", NotRendered.as_view()),
    path("reads-first/", reads_first),
    path("works-behind-login/", csrf_exempt(idempotent(WorksBehindLogin.as_view()))),
    path("members/", Members.as_view()),
    path("decorated-members/", csrf_exempt(idempotent(Members.as_view()))),
    path("exits/", exits),
    path("only-put/", only_put),
    path("hand/", Hand.as_view()),
]


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.mark.parametrize("path", ["/no-template/", "/not-rendered/"])
def test_an_answer_that_cannot_be_rendered_undoes_the_writes(path: str, caller: Caller) -> None:
    for _ in range(2):
        assert caller.post(path).status_code == 500
    assert not Order.objects.exists()


@pytest.mark.parametrize("path", ["/reads-first/", "/works-behind-login/", "/hand/"])
def test_what_cannot_be_guarded_is_an_error_and_does_nothing(path: str, caller: Caller) -> None:
    assert caller.post(path, {"item": "vm"}).status_code == 500
    assert not Order.objects.exists()


def test_what_cannot_be_guarded_runs_without_a_key(caller: Caller) -> None:
    """I9."""
    assert caller.post("/works-behind-login/", key=None).status_code == 200


def test_a_worker_that_is_told_to_exit(use_middleware: None, caller: Caller) -> None:
    """What gunicorn raises in a view when its time is over."""
    with pytest.raises(SystemExit):
        caller.post("/exits/")
    assert not connection.in_atomic_block
    assert not Order.objects.exists()


def test_methods_that_policy_leaves_out(caller: Caller, settings: Any) -> None:
    for _ in range(2):
        caller.post("/only-put/")
    settings.MIDDLEWARE = [
        *settings.BASE_MIDDLEWARE,
        "django_idempotency.middleware.IdempotencyMiddleware",
    ]
    settings.IDEMPOTENCY = {"METHODS": ["PUT"]}
    for view in ("/function/", "/rest/"):
        caller.post(view)
        caller.post(view)
    assert Order.objects.count() == 6


def test_an_anonymous_caller_whose_view_raises(
    use_middleware: None, client: Any, transactional_db: None
) -> None:
    client.raise_request_exception = False
    data, headers = {"outcome": "raise 500"}, {"idempotency-key": "k"}
    arguments = {"content_type": "application/json", "headers": headers}
    assert client.post("/function/", data, **arguments).status_code == 500


def test_content_length_may_be_nonsense() -> None:
    request = RequestFactory().post("/", b"abc", content_type="text/plain")
    request.META["CONTENT_LENGTH"] = "abc"
    assert payload(request) is not None


def test_a_user_without_identity_is_an_error() -> None:
    """I16."""

    class Ghost:
        is_authenticated = True

    request = RequestFactory().post("/")
    request.user = Ghost()  # type: ignore[assignment]
    with pytest.raises(ImproperlyConfigured, match="Ghost"):
        scope_of(request, Policy())


@pytest.mark.django_db(transaction=True)
class TestStore:
    def test_a_response_of_another_version_is_not_guessed_at(self) -> None:
        """Stored payloads are plain, versioned data."""
        operation = an_operation()
        assert operation.begin() == Started()
        assert operation.finish(CREATED)
        intact = IdempotencyRecord.objects.values().get()
        for damage in (
            {"state": "paused"},
            {"response_version": 9},
            {"response_status": None},
            {"response_status": 999},
            {"response_headers": "{"},
            {"response_headers": "[" * 5000},
            {"response_headers": '[["X", "a\\r\\nSet-Cookie: b"]]'},
            {"response_body": None},
            {"response_omitted": "lost"},
        ):
            IdempotencyRecord.objects.update(**{**intact, **damage})
            found = DatabaseStore("default").claim(a_claim())
            assert found is not None
            assert found.response is not None
            assert found.response.omitted is Omitted.UNREADABLE

    def test_a_stale_attempt_completes_nothing(self) -> None:
        """I12: the number is the fence, and so is the state."""
        store = DatabaseStore("default")
        stale = store.claim(a_claim())
        assert stale is not None
        store.bump_fencing_token(stale)
        assert store.complete(stale, CREATED, timedelta(hours=1)) is False
        current = store.claim(a_claim())
        assert current is not None
        assert store.complete(current, CREATED, timedelta(hours=1)) is True
        assert store.complete(current, CREATED, timedelta(hours=1)) is False

    def test_mysqls_claim_reads_and_then_gives_way(self) -> None:
        """MySQL has no compound statements; its claim is tried on MariaDB."""
        if connection.vendor != "mysql":
            pytest.skip("in MySQL's dialect")
        mysql, claim = dialect_of(connection), a_claim()
        first, second = (Dialect.claim(mysql, connection, claim, False) for _ in range(2))
        assert first is not None
        assert second is not None
        assert (first.fresh, second.fresh, first.id) == (True, False, second.id)
        assert mysql.insert_claim(connection, claim) is None

    def test_other_databases_keep_no_records(self) -> None:
        """The check E006 says so before a request does."""
        oracle = dialect_of(SimpleNamespace(vendor="oracle"))
        assert not oracle.is_supported
        with pytest.raises(NotImplementedError, match="PostgreSQL, MySQL, MariaDB or SQLite"):
            oracle.claim(connection, a_claim(), False)

    def test_a_record_that_cannot_be_evicted_is_in_flight(self) -> None:
        class Stubborn(DatabaseStore):
            def evict(self, record_id: int) -> bool:
                raise Busy

        DatabaseStore("default").claim(a_claim())
        IdempotencyRecord.objects.update(expires_at=F("created_at") - timedelta(days=1))
        assert an_operation(Stubborn("default")).begin() == InFlight()

    def test_a_record_that_expires_between_claim_and_lock_is_claimed_anew(self) -> None:
        class Slow(DatabaseStore):
            def lock(self, record_id: int, *patience: Any) -> Snapshot | None:
                found = super().lock(record_id, *patience)
                if found is not None and not Slow.late:
                    Slow.late = True
                    self._records().filter(pk=record_id).update(expires_at="2000-01-01T00:00Z")
                    return super().lock(record_id, *patience)
                return found

            late = False

        operation = an_operation(Slow("default"))
        assert operation.begin() == Started()
        assert operation.finish(CREATED)

    def test_a_takeover_that_fails_leaves_no_transaction(self) -> None:
        class Broken(DatabaseStore):
            def bump_fencing_token(self, record: Snapshot) -> None:
                raise OperationalError("the server is gone")

        DatabaseStore("default").claim(a_claim())
        with pytest.raises(OperationalError):
            an_operation(Broken("default")).begin()
        assert not connection.in_atomic_block
        assert in_thread(lambda: an_operation(key="other").begin()).result() == Started()


@pytest.mark.parametrize("path", ["/members/", "/decorated-members/"])
def test_methods_without_a_handler_are_refused_by_django(
    path: str, use_middleware: None, caller: Caller
) -> None:
    """Although permission checks stand in ``dispatch()``."""
    response = caller.send("put", path)
    assert (response.status_code, response["Allow"]) == (405, "POST, OPTIONS")
