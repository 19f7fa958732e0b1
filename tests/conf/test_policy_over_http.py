"""What a policy changes, over HTTP and through both adapters."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils.http import parse_http_date
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.remember import do_not_remember, never_replay_body, remember, remember_for
from tests.conftest import Caller, in_thread, row_locks
from tests.shop import urls
from tests.shop.models import Order
from tests.shop.views import buy
from tests.support.waiters import until_somebody_waits

MARKS = {
    "forget": do_not_remember,
    "remember": remember,
    "five minutes": lambda thing: remember_for(thing, timedelta(minutes=5)),
    "secret": never_replay_body,
}


@csrf_exempt
def marks(request: HttpRequest) -> HttpResponse:
    data = json.loads(request.body)
    status, body = buy(data)
    if data.get("raise"):
        raise MARKS[data["mark"]](Http404("gone"))
    return MARKS[data["mark"]](JsonResponse(body, status=status))


class RestMarks(APIView):
    def post(self, request: Any) -> Response:
        status, body = buy(request.data)
        if request.data.get("raise"):
            raise MARKS[request.data["mark"]](NotFound("gone"))
        return MARKS[request.data["mark"]](Response(body, status=status))


urlpatterns = [
    *urls.urlpatterns,
    path("marks/", marks),
    path("rest-marks/", RestMarks.as_view()),
    path("decorated-marks/", csrf_exempt(idempotent(marks))),
    path("decorated-rest-marks/", idempotent(RestMarks.as_view())),
]


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture(
    params=[(p, True) for p in ("/marks/", "/rest-marks/")]
    + [(p, False) for p in ("/decorated-marks/", "/decorated-rest-marks/")],
    ids=str,
)
def marked(request: Any, settings: Any) -> str:
    where, middleware = request.param
    if middleware:
        name = "django_idempotency.middleware.IdempotencyMiddleware"
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, name]
    return str(where)


class TestMemory:
    """A view says how one response, or one exception, is to be remembered."""

    @pytest.mark.parametrize("how", [{}, {"raise": True}], ids=["returned", "raised"])
    def test_do_not_remember(self, marked: str, caller: Caller, how: Any) -> None:
        for _ in range(2):
            response = caller.post(marked, {"mark": "forget", **how})
            assert "Idempotency-Replayed" not in response
        assert not Order.objects.exists()

    def test_remember(self, marked: str, caller: Caller) -> None:
        first = caller.post(marked, {"mark": "remember", "outcome": "409"})
        retry = caller.post(marked, {"mark": "remember", "outcome": "409"})
        assert (first.status_code, retry.content) == (409, first.content)
        assert Order.objects.count() == 1

    @pytest.mark.parametrize("how", [{}, {"raise": True}], ids=["returned", "raised"])
    def test_remember_for(self, marked: str, caller: Caller, how: Any) -> None:
        caller.post(marked, {"mark": "five minutes", **how})
        record = IdempotencyRecord.objects.get()
        assert record.completed_at is not None
        kept = record.expires_at - record.completed_at
        assert abs(kept - timedelta(minutes=5)) < timedelta(seconds=1)

    @pytest.mark.parametrize("how", [{}, {"raise": True}], ids=["returned", "raised"])
    def test_never_replay_body(self, marked: str, caller: Caller, how: Any) -> None:
        first = caller.post(marked, {"mark": "secret", **how})
        retry = caller.post(marked, {"mark": "secret", **how})
        assert first.status_code in {201, 404}
        assert retry.status_code == 409
        assert retry.json()["code"] == "idempotency_response_unavailable"
        assert str(first.status_code) in retry.json()["detail"]
        record = IdempotencyRecord.objects.get()
        assert (record.response_body, record.response_headers) == (None, "[]")

    def test_a_time_that_no_policy_may_name_is_refused(self) -> None:
        """Databases have no date for the end of ten thousand years."""
        for retention in (timedelta(0), timedelta(days=3_650_000)):
            with pytest.raises(ValueError, match="from one second to ten years"):
                remember_for(HttpResponse(), retention)
        with pytest.raises(TypeError, match=r"must be a datetime.timedelta, not 60"):
            remember_for(HttpResponse(), 60)  # type: ignore[arg-type]


def use(settings: Any, **policy: Any) -> None:
    name = "django_idempotency.middleware.IdempotencyMiddleware"
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, name]
    settings.IDEMPOTENCY = {name.upper(): value for name, value in policy.items()}


views = pytest.mark.parametrize("view", ["/function/", "/rest/"])


@views
class TestFingerprints:
    def test_bytes(self, view: str, caller: Caller, settings: Any) -> None:
        use(settings, fingerprint="bytes")
        caller.post(view, b'{"item": "vm"}')
        assert caller.post(view, b'{"item": "vm"}').status_code == 201
        assert caller.post(view, b'{"item":"vm"}').status_code == 422

    def test_chosen_fields(self, view: str, caller: Caller, settings: Any) -> None:
        use(settings, fingerprint_fields=["item"])
        caller.post(view, {"item": "vm", "at": 1})
        assert caller.post(view, {"item": "vm", "at": 2}).status_code == 201
        assert caller.post(view, {"item": "two", "at": 1}).status_code == 422

    def test_ignored_fields(self, view: str, caller: Caller, settings: Any) -> None:
        use(settings, fingerprint_ignored_fields=["at"])
        caller.post(view, {"item": "vm", "at": 1})
        assert caller.post(view, {"item": "vm", "at": 2}).status_code == 201
        assert caller.post(view, {"item": "vm", "by": 1}).status_code == 422

    def test_a_function(self, view: str, caller: Caller, settings: Any) -> None:
        use(settings, fingerprint=lambda request: request.META["HTTP_X_CART"])
        caller.post(view, headers={"x-cart": "7"})
        again = caller.post(view, {"item": "vm"}, headers={"x-cart": "7"})
        assert again["Idempotency-Replayed"] == "true"
        assert caller.post(view, headers={"x-cart": "8"}).status_code == 422

    def test_none(self, view: str, caller: Caller, settings: Any) -> None:
        use(settings, fingerprint="none")
        first = caller.post(view, {"item": "vm"})
        assert caller.post(f"{view}?a=1", {"item": "two"}).content == first.content


@views
class TestScopes:
    def test_a_tuple(self, view: str, caller: Caller, settings: Any) -> None:
        use(settings, scope=lambda request: (request.META["HTTP_X_A"], request.META["HTTP_X_B"]))
        first = caller.post(view, headers={"x-a": "ab", "x-b": "c"})
        assert caller.post(view, headers={"x-a": "a", "x-b": "bc"}).content != first.content

    def test_tenants(self, view: str, caller: Caller, settings: Any) -> None:
        use(settings, tenant=lambda request: request.META["HTTP_X_TENANT"])
        one, other, again = (
            caller.post(view, headers={"x-tenant": tenant}) for tenant in ("one", "other", "one")
        )
        assert one.content == again.content != other.content

    def test_nobody(self, view: str, caller: Caller, settings: Any) -> None:
        use(settings, scope=lambda request: None, anonymous="refuse")
        assert caller.post(view).status_code == 403


@views
class TestKeys:
    def test_printable(self, view: str, caller: Caller, settings: Any) -> None:
        use(settings, key_format="printable")
        assert caller.post(view, key='two words, "quoted"; and more').status_code == 201
        assert caller.post(view, key="caf\xe9").status_code == 400

    def test_uuid(self, view: str, caller: Caller, settings: Any) -> None:
        use(settings, key_format="uuid")
        first = caller.post(view, key="8e03978e-40d5-43e8-bc93-6894a57f9324")
        upper = caller.post(view, key='"8E03978E-40D5-43E8-BC93-6894A57F9324"')
        assert upper.content == first.content
        assert caller.post(view, key="8e03978e").status_code == 400

    def test_a_pattern(self, view: str, caller: Caller, settings: Any) -> None:
        use(settings, key_pattern=r"evt_\d+")
        assert caller.post(view, key="evt_1").status_code == 201
        assert caller.post(view, key="evt_1 ").status_code == 201
        assert caller.post(view, key="evt_x").status_code == 400


@views
class TestHeaders:
    def test_what_became_of_the_key(self, view: str, caller: Caller, settings: Any) -> None:
        use(settings, status_header="X-Status", exempt_paths=["^/exempt"])
        assert caller.post(view)["X-Status"] == "stored"
        assert caller.post(view)["X-Status"] == "replayed"
        assert caller.post(view, {"item": "other"})["X-Status"] == "refused"
        assert caller.post(view, {"outcome": "429"}, key="k-2")["X-Status"] == "not-stored"
        assert caller.post("/exempt-function/", key="k-3")["X-Status"] == "ignored"
        assert "X-Status" not in caller.post(view, key=None)

    def test_anonymous_callers_are_told(self, view: str, caller: Caller, settings: Any) -> None:
        use(settings, status_header="X-Status", scope=lambda request: None)
        assert caller.post(view)["X-Status"] == "ignored"

    def test_the_key_and_the_times(self, view: str, caller: Caller, settings: Any) -> None:
        names = {"key_header": "X-Key", "completed_header": "X-At", "expires_header": "X-Until"}
        use(settings, **names, replay_header="X-Again", replay_value="yes")
        first, retry = caller.post(view, key='"k"'), caller.post(view, key="k")
        assert (first["X-Key"], retry["X-Key"], retry["X-Again"]) == ("k", "k", "yes")
        lifetime = parse_http_date(first["X-Until"]) - parse_http_date(first["X-At"])
        assert lifetime == 24 * 60 * 60
        assert (retry["X-At"], retry["X-Until"]) == (first["X-At"], first["X-Until"])
        refused = caller.post(view, {"item": "other"}, key="k")
        assert refused["X-Key"] == "k"


def plain(problem: Any, request: Any) -> HttpResponse:
    return JsonResponse({"error": str(problem.code)}, status=problem.status)


def of_rest_framework(problem: Any, request: Any) -> Response:
    """A project that has DRF's views may have others, too."""
    return Response({"error": str(problem.code)}, status=problem.status)


@pytest.mark.parametrize("function", ["plain", "of_rest_framework"])
@views
def test_errors_by_a_function(view: str, function: str, caller: Caller, settings: Any) -> None:
    use(settings, errors=f"tests.conf.test_policy_over_http.{function}", mismatch_status=409)
    caller.post(view)
    refused = caller.post(view, {"item": "other"})
    assert (refused.status_code, refused.json()) == (409, {"error": "idempotency_key_reused"})
    assert caller.post(view, key="a,b").json() == {"error": "idempotency_key_invalid"}


@views
class TestTombstones:
    """Expired differs from never seen."""

    def expire(self, ago: timedelta) -> None:
        IdempotencyRecord.objects.update(expires_at=F("created_at") - ago)

    def test_expired_is_told_apart(self, view: str, caller: Caller, settings: Any) -> None:
        use(settings, tombstone=timedelta(days=1), expired_status=412)
        caller.post(view)
        self.expire(timedelta(hours=23))
        late = caller.post(view)
        assert (late.status_code, late.json()["code"]) == (412, "idempotency_key_expired")
        assert Order.objects.count() == 1
        self.expire(timedelta(hours=25))
        assert caller.post(view).status_code == 201
        assert Order.objects.count() == 2

    def test_what_was_never_completed_may_run(
        self, view: str, caller: Caller, settings: Any
    ) -> None:
        use(settings, tombstone=timedelta(days=1))
        caller.post(view, {"outcome": "503"})
        self.expire(timedelta(hours=1))
        assert caller.post(view).status_code == 201


def wait_policy(settings: Any, **changes: Any) -> None:
    use(settings, in_flight="wait", **changes)


@row_locks
@views
class TestWaiting:
    """I4: a duplicate waits for the first one's lock, woken by the database."""

    def test_it_replays(self, view: str, caller: Caller, settings: Any, after_write: Any) -> None:
        wait_policy(settings)
        rivals = []

        def duplicate() -> None:
            rivals.append(in_thread(lambda: caller.post(view)))
            until_somebody_waits()

        after_write(duplicate)
        first = caller.post(view)
        replay = rivals[0].result()
        assert (replay.status_code, replay.content) == (201, first.content)
        assert replay["Idempotency-Replayed"] == "true"
        assert Order.objects.count() == 1

    def test_it_runs_if_the_first_one_fails(
        self, view: str, caller: Caller, settings: Any, after_write: Any
    ) -> None:
        wait_policy(settings)
        rivals = []

        def duplicate_then_crash() -> None:
            rivals.append(in_thread(lambda: caller.post(view)))
            until_somebody_waits()
            raise KeyError

        after_write(duplicate_then_crash)
        assert caller.post(view).status_code == 500
        assert rivals[0].result().status_code == 201
        assert Order.objects.count() == 1

    def test_it_gives_up_after_its_time(
        self, view: str, caller: Caller, settings: Any, after_write: Any
    ) -> None:
        wait_policy(settings, wait_timeout=timedelta(milliseconds=100))
        seen = []
        after_write(lambda: seen.append(in_thread(lambda: caller.post(view)).result()))
        assert caller.post(view).status_code == 201
        assert seen[0].status_code == 409

    def test_no_more_wait_than_policy_allows(
        self, view: str, caller: Caller, settings: Any, after_write: Any
    ) -> None:
        """Waiting duplicates must not occupy every worker."""
        wait_policy(settings, wait_limit=1)
        waiting, refused = [], []

        def three() -> None:
            waiting.append(in_thread(lambda: caller.post(view)))
            until_somebody_waits()
            refused.append(in_thread(lambda: caller.post(view)).result())

        after_write(three)
        assert caller.post(view).status_code == 201
        assert waiting[0].result().status_code == 201
        assert refused[0].status_code == 409

    def test_the_usual_lock_timeout_is_restored(
        self, view: str, caller: Caller, settings: Any, after_write: Any
    ) -> None:
        """The view of a waiter that takes over waits for its own locks as it always did."""
        wait_policy(settings)
        asked = {
            "postgresql": "SHOW lock_timeout",
            "mysql": "SELECT @@SESSION.innodb_lock_wait_timeout",
        }[connection.vendor]
        found, rivals = [], []

        def usual() -> None:
            with connection.cursor() as cursor:
                cursor.execute(asked)
                found.append(str(cursor.fetchone()[0]))

        def duplicate_then_crash() -> None:
            rivals.append(in_thread(lambda: caller.post(view)))
            until_somebody_waits()
            after_write(usual)
            raise KeyError

        usual()
        after_write(duplicate_then_crash)
        caller.post(view)
        rivals[0].result()
        assert len(found) == 2
        assert found[0] == found[1]
