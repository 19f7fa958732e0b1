"""Views that swallow errors, call each other, or are built in unusual ways."""

import io
import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from django.db.models import F
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.permissions import IsAdminUser
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations.base import Started
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import Caller, in_thread, row_locks
from tests.shop import urls
from tests.shop.models import Order
from tests.shop.views import buy
from tests.support.adapters import MIDDLEWARE
from tests.support.operations import CREATED, a_claim, an_operation


def swallow() -> None:
    """An error is caught without a savepoint: Django will roll everything back."""
    with suppress(IntegrityError):
        Order(pk=Order.objects.order_by("pk").values_list("pk")[0][0]).save(force_insert=True)


def close() -> None:
    connection.close()


def set_rollback() -> None:
    transaction.set_rollback(True)


def handled() -> None:
    """An error is caught as it should be."""
    with suppress(IntegrityError), transaction.atomic():
        Order(pk=Order.objects.order_by("pk").values_list("pk")[0][0]).save(force_insert=True)


def terminate() -> None:
    """The session is killed, and the view's best effort to write a note fails silently."""
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute("SELECT CONNECTION_ID()")
            session, kill = cursor.fetchone()[0], "KILL %s"
        else:
            cursor.execute("SELECT pg_backend_pid()")
            session, kill = cursor.fetchone()[0], "SELECT pg_terminate_backend(%s)"

    def rival() -> None:
        with connection.cursor() as cursor:
            cursor.execute(kill, [session])

    in_thread(rival).result()
    with suppress(DatabaseError):
        Order.objects.create(item="note")


ACCIDENTS = {
    function.__name__: function for function in (swallow, close, set_rollback, handled, terminate)
}


@csrf_exempt
def accident(request: HttpRequest) -> HttpResponse:
    data = json.loads(request.body)
    status, body = buy(data)
    ACCIDENTS[data["accident"]]()
    return JsonResponse(body, status=status)


class RestAccident(APIView):
    def post(self, request: Any) -> Response:
        status, body = buy(request.data)
        ACCIDENTS[request.data["accident"]]()
        return Response(body, status=status)


class Dispatcher(View):
    """Works in dispatch(), like most GraphQL views."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        status, body = buy(json.loads(request.body))
        return JsonResponse(body, status=status)


class AdminOnly(APIView):
    permission_classes = [IsAdminUser]

    def post(self, request: Any) -> Response:
        return Response(buy(request.data)[1], status=201)


@csrf_exempt
def gateway(request: HttpRequest) -> HttpResponse:
    """A guarded view that calls a guarded view with stricter keys."""
    return idempotent(AdminOnly.as_view(), key_max_length=10)(request)


def again(view: Any) -> Any:
    """Calls a view once more if it fails."""

    def wrapper(request: HttpRequest) -> HttpResponse:
        try:
            return view(request)
        except KeyError:
            return view(request)

    return csrf_exempt(wrapper)


class Envelope(APIView):
    """Wraps what it answers."""

    def post(self, request: Any) -> Response:
        return Response(buy(request.data)[1], status=201)

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        response.data = {"data": response.data}
        return super().finalize_response(request, response, *args, **kwargs)


class NeverFinalized(APIView):
    @idempotent
    def post(self, request: Any) -> HttpResponse:
        return JsonResponse(buy(request.data)[1], status=201)

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.headers = {}
        rest_request = self.initialize_request(request, *args, **kwargs)
        self.initial(rest_request, *args, **kwargs)
        return self.post(rest_request)


@idempotency_exempt
class ExemptView(APIView):
    def post(self, request: Any) -> Response:
        return Response(buy(request.data)[1], status=201)


@idempotent
class GuardedAfterAll(ExemptView):
    pass


@method_decorator(csrf_exempt, name="dispatch")
@method_decorator(idempotent(retry_after=7), name="post")
class ByMethodDecorator(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse(buy(json.loads(request.body))[1], status=201)


@csrf_exempt
@idempotent
def not_found(request: HttpRequest) -> HttpResponse:
    raise Http404


@csrf_exempt
def batch(request: HttpRequest) -> HttpResponse:
    """Sends a request to itself, in its own thread and on its own connection."""
    inner = Client(raise_request_exception=False)
    inner.force_login(request.user)
    headers = {"idempotency-key": "inner"}
    answer = inner.post("/function/", {}, content_type="application/json", headers=headers)
    return HttpResponse(status=answer.status_code)


urlpatterns = [
    *urls.urlpatterns,
    path("accident/", accident),
    path("rest-accident/", RestAccident.as_view()),
    path("decorated-accident/", csrf_exempt(idempotent(accident))),
    path("decorated-rest-accident/", idempotent(RestAccident.as_view())),
    path("dispatcher/", csrf_exempt(Dispatcher.as_view())),
    path("decorated-dispatcher/", csrf_exempt(idempotent(Dispatcher.as_view()))),
    path("gateway/", gateway),
    path("again/", again(idempotent(accident))),
    path("envelope/", Envelope.as_view()),
    path("decorated-envelope/", idempotent(Envelope.as_view())),
    path("never-finalized/", NeverFinalized.as_view()),
    path("guarded-after-all/", GuardedAfterAll.as_view()),
    path("by-method-decorator/", ByMethodDecorator.as_view()),
    path("not-found/", not_found),
    path("batch/", batch),
]


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture(params=[False, True], ids=["", "atomic-requests"])
def atomic_requests(request: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", request.param)


@pytest.fixture(
    params=["/accident/", "/rest-accident/", "/decorated-accident/", "/decorated-rest-accident/"]
)
def view(request: Any, settings: Any, atomic_requests: None) -> str:
    if "decorated" not in request.param:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    return str(request.param)


@pytest.mark.parametrize("name", ["swallow", "close", pytest.param("terminate", marks=row_locks)])
def test_a_success_whose_writes_are_gone_is_not_stored(
    view: str, caller: Caller, name: str
) -> None:
    """I2: if it is remembered, it happened."""
    for _ in range(2):
        assert caller.post(view, {"accident": name}).status_code == 500
    assert not Order.objects.exists()
    assert IdempotencyRecord.objects.get().state == "claimed"


def test_a_failure_whose_writes_are_gone_is_stored(view: str, caller: Caller) -> None:
    for _ in range(2):
        assert caller.post(view, {"accident": "swallow", "outcome": "422"}).status_code == 422
    assert not Order.objects.exists()
    assert IdempotencyRecord.objects.get().state == "completed"


def test_a_view_may_wish_its_writes_undone(view: str, caller: Caller) -> None:
    first, retry = (caller.post(view, {"accident": "set_rollback"}) for _ in range(2))
    assert (first.status_code, retry.content) == (201, first.content)
    assert not Order.objects.exists()


def test_an_error_behind_a_savepoint_is_none(view: str, caller: Caller) -> None:
    first, retry = (caller.post(view, {"accident": "handled"}) for _ in range(2))
    assert (first.status_code, retry.content) == (201, first.content)
    assert Order.objects.count() == 1


@pytest.mark.parametrize("path", ["/dispatcher/", "/decorated-dispatcher/"])
def test_a_view_that_works_in_dispatch_is_guarded(
    path: str, use_middleware: None, caller: Caller
) -> None:
    """I1."""
    first, retry = caller.post(path), caller.post(path)
    assert (retry["Idempotency-Replayed"], retry.content) == ("true", first.content)
    assert Order.objects.count() == 1


def test_a_malformed_key_stops_before_the_inner_adapter(
    use_middleware: None, caller: Caller
) -> None:
    """I5: the inner view's permissions hold, whatever its policy says of the key."""
    assert caller.post("/gateway/", key="short").status_code == 403
    assert caller.post("/gateway/", key="far-too-long-for-it").status_code in {400, 403}
    assert not Order.objects.exists()


def test_a_view_that_is_called_again_is_guarded_again(caller: Caller, after_write: Any) -> None:
    """I1."""

    def crash() -> None:
        raise KeyError

    after_write(crash)
    for _ in range(3):
        assert caller.post("/again/", {"accident": "handled"}).status_code == 201
    assert Order.objects.count() == 1


@pytest.mark.parametrize("path", ["/envelope/", "/decorated-envelope/"])
def test_answers_of_the_guard_are_not_put_into_an_envelope(
    path: str, settings: Any, caller: Caller
) -> None:
    """I6."""
    if path == "/envelope/":
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    first, retry = caller.post(path), caller.post(path)
    assert retry.content == first.content
    assert caller.post(path, {"item": "other"}).status_code == 422
    assert caller.post(path, key="a,b").status_code == 400


def test_a_response_that_is_never_finalized_leaves_no_transaction(caller: Caller) -> None:
    caller.post("/never-finalized/")
    assert not connection.in_atomic_block
    assert not in_thread(Order.objects.exists).result()


def test_the_nearest_mark_counts(caller: Caller) -> None:
    first = caller.post("/guarded-after-all/")
    assert caller.post("/guarded-after-all/").content == first.content


def test_method_decorator(caller: Caller) -> None:
    first = caller.post("/by-method-decorator/")
    assert caller.post("/by-method-decorator/").content == first.content


def test_checks_that_run_in_a_method_are_not_guarded() -> None:
    with pytest.raises(TypeError, match=r"dispatch\(\): checks run in it"):

        class Wrong(View):
            @idempotent
            def dispatch(self, request: HttpRequest) -> HttpResponse:
                raise PermissionDenied


class TellsErrors:
    """A middleware that turns exceptions into responses."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse:
        return JsonResponse({"error": "not found"}, status=404)


@pytest.mark.parametrize("middleware", [False, True])
def test_what_another_middleware_makes_of_an_exception(
    caller: Caller, settings: Any, middleware: bool
) -> None:
    """I6: a replay is what the first caller got; without our middleware nothing is stored."""
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, f"{__name__}.TellsErrors"]
    settings.MIDDLEWARE += [MIDDLEWARE] if middleware else []
    first, retry = caller.post("/not-found/"), caller.post("/not-found/")
    assert first.json() == retry.json() == {"error": "not found"}
    assert ("Idempotency-Replayed" in retry) is middleware


def test_a_request_within_a_request_is_refused(
    use_middleware: None, caller: Caller, atomic_requests: None
) -> None:
    """Its commit would be the outer one's."""
    assert caller.post("/batch/").status_code == 500
    assert not Order.objects.exists()


def test_half_a_body_does_not_take_the_key(use_middleware: None, caller: Caller) -> None:
    half = {"wsgi.input": io.BytesIO(b'{"item": "v')}
    assert caller.post("/rest/", b'{"item": "vm"}', **half).status_code == 400
    assert not IdempotencyRecord.objects.exists()
    assert caller.post("/rest/", b'{"item": "vm"}').status_code == 201


def test_every_attempt_has_a_number_of_its_own(use_middleware: None, caller: Caller) -> None:
    """I12: it is the fencing token."""
    responses = [caller.post("/function/", {"outcome": "503"}) for _ in range(4)]
    operations = [response.wsgi_request.idempotency for response in responses]
    assert [operation.attempt for operation in operations] == [1, 2, 3, 4]


@row_locks
@pytest.mark.django_db(transaction=True)
def test_the_purge_waits_for_no_attempt_and_no_attempt_for_the_purge() -> None:
    """I14: InnoDB locks more than it is asked for."""
    for number in range(60):
        operation = an_operation(key=f"old-{number}")
        assert operation.begin() == Started()
        assert operation.finish(CREATED)
    past = F("created_at") - timedelta(days=1)
    old = IdempotencyRecord.objects.filter(key__startswith="old-1")
    old.update(expires_at=past, purge_at=past)
    operation = an_operation(key="running")
    assert operation.begin() == Started()
    purged = in_thread(lambda: sum(DatabaseStore("default").purge(100))).result()
    assert purged == 11
    assert operation.finish(CREATED)


def test_a_secret_cannot_be_guessed_through_the_admin(caller: Caller) -> None:
    caller.user.is_staff = caller.user.is_superuser = True
    caller.user.save()
    for field in ("response_headers__contains", "scope__startswith", "response_body__contains"):
        listing = "/admin/django_idempotency/idempotencyrecord/"
        response = caller.get(f"{listing}?{field}=a")
        assert response.status_code in {302, 400}, field


@pytest.mark.django_db(transaction=True)
def test_a_store_that_travels_with_its_commit_commits_nothing_without_a_record() -> None:
    """I12: the statement and COMMIT may be one message; a lost record must stop both."""
    store = DatabaseStore("default")
    stale = store.claim(a_claim())
    assert stale is not None
    store.bump_fencing_token(stale)
    with transaction.atomic():
        Order.objects.create(item="lost")
        assert store.complete(stale, CREATED, timedelta(hours=1), commits=True) is False
        transaction.set_rollback(True)
    assert not Order.objects.exists()
    with transaction.atomic():
        Order.objects.create(item="kept")
        current = store.claim(a_claim())
        assert current is not None
        assert store.complete(current, CREATED, timedelta(hours=1), commits=True) is True
    assert Order.objects.get().item == "kept"
    record = IdempotencyRecord.objects.get()
    assert (record.state, record.attempt) == ("completed", 2)
