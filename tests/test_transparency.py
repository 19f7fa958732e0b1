"""I15: guarding a view changes nothing else."""

import gzip
import logging
import re
from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

import pytest
from django.contrib.auth.decorators import login_required, permission_required
from django.core import signals
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.middleware.csrf import get_token
from django.template.response import TemplateResponse
from django.test import Client, RequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.authentication import SessionAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.routers import SimpleRouter
from rest_framework.schemas.generators import EndpointEnumerator
from rest_framework.views import APIView, exception_handler

from django_idempotency.decorators import idempotent
from django_idempotency.drf import IdempotencyError
from django_idempotency.models import IdempotencyRecord
from django_idempotency.policy import PolicyError
from tests.conftest import Caller, in_thread, row_locks
from tests.doors import MIDDLEWARE, Door, every_door, few_doors
from tests.shop import urls as shop
from tests.shop import views
from tests.shop.models import Order

MARKER = "Idempotency-Replayed"
BARE = {
    "/decorated-function/": "/function/",
    "/decorated-rest/": "/rest/",
    "/decorated-create/": "/viewset/",
    "/async-decorated-rest/": "/async-rest/",
    "/decorated/": "/plain/",
    "/decorated-drf/": "/drf/",
}
"""Views without the guard that do the same."""


def raises(error: Exception) -> Callable[[Any], HttpResponse]:
    def answer(request: Any) -> HttpResponse:
        raise error

    return answer


def with_cookies(request: Any) -> HttpResponse:
    response = HttpResponse("welcome", headers={"X-Own": "kept", "X-Secret": "one time"})
    response.set_cookie("session", "secret")
    return response


def with_headers(request: Any) -> HttpResponse:
    names = ("Connection", "Keep-Alive", "Upgrade", "Set-Cookie", "Proxy-Authenticate", "Date")
    headers = dict.fromkeys(names, "of this connection")
    return HttpResponse("", headers={**headers, "Location": "/a", "Vary": "Accept", "ETag": '"1"'})


def with_session(request: Any) -> HttpResponse:
    session = request.session
    session["visits"] = session.get("visits", 0) + 1
    return JsonResponse({"visits": session["visits"]})


def without_type(request: Any) -> HttpResponse:
    response = HttpResponse(b"\x00")
    del response["Content-Type"]
    return response


def with_redirect(request: Any) -> HttpResponse:
    return HttpResponseRedirect("/admin/")


ANSWERS: dict[str, Callable[[Any], Any]] = {
    "binary": lambda _: HttpResponse(bytes(range(256)) * 9, content_type="image/x-noise"),
    "latin": lambda _: HttpResponse("caf\xe9", charset="latin-1", headers={"X-Name": "caf\u0142"}),
    "empty": lambda _: HttpResponse(status=204),
    "untyped": without_type,
    "conflict": lambda _: HttpResponse(status=410, headers={"Allow": "PUT", "Vary": "Cookie"}),
    "cookies": with_cookies,
    "headers": with_headers,
    "session": with_session,
    "redirect": with_redirect,
    "stream": lambda _: StreamingHttpResponse(iter([b"one,", b"two"]), status=201),
    "file": lambda _: FileResponse(SimpleUploadedFile("a.txt", b"one,two"), status=201),
    "large": lambda _: HttpResponse("one,two", status=201),
    "missing": raises(Http404("no such plan")),
    "forbidden": raises(PermissionDenied("not yours")),
    "invalid": raises(ValidationError({"item": ["unknown"]})),
}


def made(request: Any, name: str) -> Any:
    assert request.user.is_authenticated  # as every view with a caller asks
    Order.objects.create(item=name)
    return ANSWERS[name](request)


@csrf_exempt
def plain(request: HttpRequest, name: str) -> HttpResponse:
    response: HttpResponse = made(request, name)
    return response


class Drf(APIView):
    def post(self, request: Any, name: str) -> Response:
        response: Response = made(request, name)
        return response


class Sessions(SessionAuthentication):
    def enforce_csrf(self, request: Any) -> None:
        """As for a browser that has sent its token."""


class TwoPerPage(PageNumberPagination):
    page_size = 2


class Catalogue(views.OrderModelViewSet):
    """What a browser sees: pages, links and forms."""

    authentication_classes = [Sessions]
    pagination_class = TwoPerPage

    def get_success_headers(self, data: Any) -> dict[str, str]:
        name = f"{self.basename}-detail"
        return {"Location": reverse(name, [data["id"]], request=self.request)}


GuardedCatalogue = idempotent(type("Catalogue", (Catalogue,), {"__doc__": Catalogue.__doc__}))


class Inherits(Drf):
    def post(self, request: Any) -> Response:
        return super().post(request, "large")


@csrf_exempt
async def unhurried(request: HttpRequest) -> HttpResponse:
    order = await Order.objects.acreate(item="vm")
    if "missing" in request.GET:
        raise Http404
    return JsonResponse({"id": order.pk}, status=201)


@method_decorator(csrf_exempt, name="dispatch")
class Unhurried(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return await unhurried(request)


@csrf_exempt
@transaction.atomic
@idempotent
def inside_a_transaction(request: HttpRequest) -> HttpResponse:
    return HttpResponse("never")


def not_here(request: HttpRequest, exception: Exception) -> HttpResponse:
    handled.append(exception)
    return HttpResponse(f"Not here: {exception}", status=404)


handler404 = not_here


router = SimpleRouter()
router.register("catalogue", Catalogue, basename="catalogue")
router.register("guarded-catalogue", GuardedCatalogue, basename="guarded-catalogue")

urlpatterns = [
    *shop.urlpatterns,
    path("plain/<name>", plain),
    path("decorated/<name>", idempotent(plain)),
    path("drf/<name>", Drf.as_view()),
    path("decorated-drf/<name>", idempotent(Drf.as_view())),
    path("decorated-csrf-function/", idempotent(views.csrf_function)),
    path("decorated-template-function/", idempotent(views.template_function)),
    path("inherits/", Inherits.as_view()),
    path("decorated-inherits/", idempotent(type("Inherits", (Inherits,), {})).as_view()),
    path("unhurried/", unhurried),
    path("unhurried-class/", Unhurried.as_view()),
    path("inside-a-transaction/", inside_a_transaction),
    *router.urls,
]

own_doors = pytest.mark.parametrize(
    "door",
    [
        Door(door, middleware, atomic_requests)
        for atomic_requests in (False, True)
        for door, middleware in (
            ("/plain/", True),
            ("/drf/", True),
            ("/decorated/", False),
            ("/decorated-drf/", False),
        )
    ],
    ids=str,
    indirect=True,
)

seen: list[Any] = []
"""What middlewares, signals and logs of one request noted, in order."""


handled: list[Exception] = []
"""What handler404 and DRF's exception handler were called with."""


def taken() -> list[Any]:
    noted = seen.copy()
    seen.clear()
    return noted


@pytest.fixture(autouse=True)
def _project(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    yield
    seen.clear()
    handled.clear()


def install(settings: Any, *middlewares: str) -> None:
    """Put middlewares where they belong: the first one first, the others right above ours."""
    first, *others = [f"{__name__}.{name}" for name in middlewares]
    ours = [name for name in settings.MIDDLEWARE if name == MIDDLEWARE]
    settings.MIDDLEWARE = [first, *settings.BASE_MIDDLEWARE, *others, *ours]


@pytest.fixture
def bare(settings: Any, caller: Caller) -> Callable[..., Any]:
    """Post to the same project without the guard."""

    def post(url: str, data: Any = None, **extra: Any) -> Any:
        middlewares = settings.MIDDLEWARE
        settings.MIDDLEWARE = [name for name in middlewares if name != MIDDLEWARE]
        door = next((door for door in BARE if url.startswith(door)), "")
        somebody = Caller(f"bare-{Token.objects.count()}")
        response = somebody.post(BARE.get(door, door) + url[len(door) :], data, **extra)
        settings.MIDDLEWARE = middlewares
        return response

    return post


class Outer:
    """Notes what a middleware sees."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        self.note("request")
        response = self._get_response(request)
        self.note("response", response.status_code)
        return response

    def note(self, *what: Any) -> None:
        seen.append((type(self).__name__, *what))

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> None:
        self.note("view", args, kwargs)

    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        self.note("exception", type(error).__name__)

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        self.note("template response", response.status_code)
        return response


class Inner(Outer):
    """Stands right above ours."""


class Converter(Outer):
    """Answers instead of Django."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse:
        super().process_exception(request, error)
        return JsonResponse({"sorry": type(error).__name__}, status=418)


class Annotator(Outer):
    """Adds to what is rendered."""

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        super().process_template_response(request, response)
        if isinstance(response, TemplateResponse):
            response.context_data = {**(response.context_data or {}), "note": " (checked)"}
        else:
            response.data = {**response.data, "note": " (checked)"}
        return response


OUTCOMES = ["201", "404", "429", "raise 404", "raise 500"]


@pytest.mark.once
class TestOtherMiddlewares:
    @every_door
    def test_see_the_same(self, door: str, caller: Caller, settings: Any) -> None:
        """The key is the only difference; for the bare view see the next test."""
        install(settings, "Outer", "Inner")
        for outcome in OUTCOMES:
            caller.post(door, {"outcome": outcome}, key=None)
            without_key = taken()
            caller.post(door, {"outcome": outcome}, key=f"k-{outcome}".replace(" ", "-"))
            assert without_key[0] == ("Outer", "request")
            assert taken() == without_key

    @few_doors
    def test_see_what_they_see_without_the_package(
        self, door: str, caller: Caller, settings: Any, bare: Any
    ) -> None:
        install(settings, "Outer", "Inner")
        for outcome in OUTCOMES:
            bare(door, {"outcome": outcome})
            expected = taken()
            caller.post(door, {"outcome": outcome}, key=f"k-{outcome}".replace(" ", "-"))
            assert taken() == expected

    @few_doors
    @pytest.mark.parametrize("name", ["Broken", "Http404"])
    def test_may_answer_for_an_exception(
        self, door: str, name: str, caller: Caller, settings: Any
    ) -> None:
        """I2: the answer is a result, the writes are undone."""
        install(settings, "Outer", "Converter")
        outcome = {"outcome": {"Broken": "raise 500", "Http404": "raise 404"}[name]}
        first, retry = caller.post(door, outcome), caller.post(door, outcome)
        if name == "Broken" or "function" in door:  # DRF answers itself for a 404
            assert (first.status_code, first.json()) == (418, {"sorry": name})
        assert (retry.status_code, retry.content) == (first.status_code, first.content)
        assert ("Outer", "exception", name) not in seen
        # What becomes of an exception that leaves the view, only the middleware can see.
        seen_by_us = MIDDLEWARE in settings.MIDDLEWARE or first.status_code == 404
        assert (MARKER in retry) == seen_by_us
        assert not Order.objects.exists()

    @pytest.mark.parametrize(
        "door",
        [
            Door(path, True, atomic_requests)
            for atomic_requests in (False, True)
            for path in (
                "/template-function/",
                "/decorated-template-function/",
                "/rest/",
                "/decorated-rest/",
                "/decorated-create/",
                "/decorated-rest-function/",
            )
        ],
        ids=str,
        indirect=True,
    )
    def test_may_change_what_is_rendered(self, door: str, caller: Caller, settings: Any) -> None:
        install(settings, "Outer", "Annotator")
        first, retry = caller.post(door), caller.post(door)
        assert b"(checked)" in first.content
        assert (retry.content, retry[MARKER]) == (first.content, "true")
        assert [name for name, event, *_ in seen if event == "template response"] == [
            "Annotator",
            "Outer",
        ]


@pytest.fixture
def events(caplog: Any) -> Iterator[Callable[[], list[Any]]]:
    """Signals and log lines of requests, in order."""
    named = {
        "started": signals.request_started,
        "finished": signals.request_finished,
        "exception": signals.got_request_exception,
    }

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append((record.name, record.levelname, record.exc_info and record.exc_info[0]))

    def receiver(name: str) -> Callable[..., None]:
        return lambda **kwargs: seen.append(name)

    lines, receivers = Lines(), {name: receiver(name) for name in named}
    for name, signal in named.items():
        signal.connect(receivers[name])
    logging.getLogger("django").addHandler(lines)
    yield taken
    logging.getLogger("django").removeHandler(lines)
    for name, signal in named.items():
        signal.disconnect(receivers[name])


@pytest.mark.once
@few_doors
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_signals_and_log_lines_are_the_same(
    door: str, outcome: str, caller: Caller, bare: Any, events: Any
) -> None:
    bare(door, {"outcome": outcome})
    expected = events()
    caller.post(door, {"outcome": outcome})
    assert expected[0] == "started"
    assert events() == expected


@pytest.mark.once
@own_doors
@pytest.mark.parametrize("name", ["missing", "forbidden"])
def test_refusals_are_logged_once(
    door: str, name: str, caller: Caller, bare: Any, events: Any
) -> None:
    bare(door + name)
    expected = events()
    caller.post(door + name)
    assert events() == expected


@pytest.mark.once
@own_doors
def test_handler404_answers(door: str, caller: Caller) -> None:
    first, retry = caller.post(f"{door}missing"), caller.post(f"{door}missing")
    assert (first.status_code, retry.status_code, retry[MARKER]) == (404, 404, "true")
    assert retry.content == first.content
    if "drf" not in door:
        assert first.content == b"Not here: no such plan"
        # The decorator alone asks what Django will answer, and Django asks again.
        assert len(handled) == (2 if door == "/decorated/" else 1)


def test_a_path_that_leads_nowhere(use_middleware: None, caller: Caller) -> None:
    for _ in range(2):
        response = caller.post("/nowhere/")
        assert (response.status_code, MARKER in response) == (404, False)
    assert not IdempotencyRecord.objects.exists()


@few_doors
class TestOnCommit:
    def test_hooks_run_once_and_after_the_commit(
        self, door: str, caller: Caller, after_write: Any
    ) -> None:
        """Rivals see the stored response by then."""

        def look() -> None:
            state = IdempotencyRecord.objects.values_list("state", flat=True)
            seen.append(in_thread(state.get).result())

        after_write(lambda: transaction.on_commit(look))
        first, retry = caller.post(door), caller.post(door)
        assert (first.status_code, retry[MARKER]) == (201, "true")
        assert seen == ["completed"]

    @pytest.mark.parametrize("outcome", ["429", "503", "raise 404", "raise 500"])
    def test_hooks_of_what_was_undone_do_not_run(
        self, door: str, outcome: str, caller: Caller, after_write: Any
    ) -> None:
        after_write(lambda: transaction.on_commit(lambda: seen.append("ran")))
        caller.post(door, {"outcome": outcome})
        caller.post(door, {"outcome": outcome})
        assert seen == []

    def test_a_hook_that_raises_comes_after_the_fact(
        self, door: str, caller: Caller, after_write: Any
    ) -> None:
        def fail() -> None:
            raise views.Broken

        after_write(lambda: transaction.on_commit(fail))
        assert caller.post(door).status_code == 500
        retry = caller.post(door)
        assert (retry.status_code, retry[MARKER]) == (201, "true")
        assert Order.objects.count() == 1


@few_doors
class TestTransactions:
    def test_a_nested_block_is_a_savepoint(
        self, door: str, caller: Caller, after_write: Any
    ) -> None:
        def write() -> None:
            with transaction.atomic():
                Order.objects.create(item="kept")
            with transaction.atomic():
                Order.objects.create(item="undone")
                transaction.set_rollback(True)

        after_write(write)
        assert caller.post(door, {"item": "vm"}).status_code == 201
        assert caller.post(door, {"item": "vm"})[MARKER] == "true"
        assert {order.item for order in Order.objects.all()} == {"vm", "kept"}

    def test_a_view_may_undo_its_writes(self, door: str, caller: Caller, after_write: Any) -> None:
        after_write(lambda: transaction.set_rollback(True))
        first, retry = caller.post(door), caller.post(door)
        assert (first.status_code, retry.status_code, retry[MARKER]) == (201, 201, "true")
        assert retry.content == first.content
        assert not Order.objects.exists()

    def test_a_constraint_that_fails_at_the_commit(
        self, door: str, caller: Caller, after_write: Any
    ) -> None:
        """Foreign keys are checked there on PostgreSQL and SQLite, and at once on MariaDB."""
        after_write(lambda: Token.objects.create(key="k", user_id=10**6))
        assert caller.post(door).status_code == 500
        assert not Order.objects.exists()
        retry = caller.post(door)
        assert (retry.status_code, MARKER in retry) == (201, False)
        assert Order.objects.count() == 1

    def test_a_durable_block_cannot_be(
        self, door: str, caller: Caller, after_write: Any, caplog: Any
    ) -> None:
        """Trap 19."""

        def write() -> None:
            with transaction.atomic(durable=True):
                raise AssertionError("no block in a transaction is durable")

        after_write(write)
        assert caller.post(door).status_code == 500
        assert "durable" in caplog.text
        assert "django_idempotency: a guarded view runs in one transaction" in caplog.text
        assert not Order.objects.exists()
        assert caller.post(door).status_code == 201

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="an error ends its transaction")
    def test_an_error_that_the_view_has_caught_ends_its_transaction(
        self, door: str, caller: Caller, after_write: Any
    ) -> None:
        """The view answers as if nothing was; nothing was, and nothing is remembered."""

        def divide() -> None:
            with pytest.raises(Exception, match="division by zero"), connection.cursor() as cursor:
                cursor.execute("SELECT 1 / 0")

        after_write(divide)
        assert caller.post(door).status_code == 500
        assert not Order.objects.exists()
        retry = caller.post(door)
        assert (retry.status_code, MARKER in retry) == (201, False)


def test_a_transaction_around_the_guard_is_refused(caller: Caller, caplog: Any) -> None:
    assert caller.post("/inside-a-transaction/").status_code == 500
    assert ImproperlyConfigured.__name__ in caplog.text
    assert "Move atomic() inside the view, below @idempotent" in caplog.text


@pytest.mark.parametrize(
    ("path", "middleware"),
    [("/csrf-function/", True), ("/decorated-csrf-function/", False)],
    ids=["middleware", "decorator"],
)
class TestCsrf:
    @pytest.fixture
    def submit(self, path: str, middleware: bool, settings: Any, caller: Caller) -> Any:
        """Send a form with a file, from a browser."""
        if middleware:
            settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(caller.user)
        browser.cookies["csrftoken"] = "a" * 32
        page = RequestFactory().get("/")
        page.META["CSRF_COOKIE"] = "a" * 32

        def submit(item: str = "vm", token: bool = True) -> Any:
            photo = SimpleUploadedFile("photo.jpg", b"\xff\xd8", "image/jpeg")
            form = {"item": item, "photo": photo}
            if token:
                form["csrfmiddlewaretoken"] = get_token(page)
            return browser.post(path, form, headers={"idempotency-key": "k-1"})

        return submit

    def test_a_form_without_its_token_is_refused(self, submit: Any) -> None:
        assert submit(token=False).status_code == 403
        assert not IdempotencyRecord.objects.exists()

    def test_also_when_there_is_something_to_replay(self, submit: Any) -> None:
        first = submit()
        refused = submit(token=False)
        assert (refused.status_code, MARKER in refused) == (403, False)
        assert first.content not in refused.content

    def test_the_token_is_no_part_of_the_request(self, submit: Any) -> None:
        """Each rendering of a form masks it anew; the CSRF check has parsed the form."""
        first, retry = submit(), submit()
        assert (first.status_code, retry.status_code, retry[MARKER]) == (201, 201, "true")
        assert retry.content == first.content
        assert submit("two vms").status_code == 422


@pytest.mark.once
class TestResponses:
    @own_doors
    @pytest.mark.parametrize(
        "name", ["binary", "latin", "empty", "untyped", "conflict", "redirect", "missing"]
    )
    def test_the_first_is_the_bare_one_and_the_replay_is_the_first(
        self, door: str, name: str, caller: Caller, bare: Any
    ) -> None:
        expected = bare(door + name)
        first, retry = caller.post(door + name), caller.post(door + name)
        assert retry[MARKER] == "true"
        del retry[MARKER]
        for each in (first, retry):
            assert each.status_code == expected.status_code
            assert each.content == expected.content
            assert dict(each.headers) == dict(expected.headers)

    @own_doors
    def test_a_replayed_redirect_can_be_followed(self, door: str, caller: Caller) -> None:
        assert caller.post(f"{door}redirect").url == "/admin/"
        assert caller.post(f"{door}redirect").url == "/admin/"

    def test_other_replays_have_no_url(self, use_middleware: None, caller: Caller) -> None:
        for _ in range(2):
            assert not hasattr(caller.post("/plain/binary"), "url")

    @own_doors
    def test_credentials_and_hop_by_hop_headers_are_for_the_first_client_only(
        self, door: str, caller: Caller, settings: Any
    ) -> None:
        """I10."""
        settings.IDEMPOTENCY = {"EXCLUDED_HEADERS": ["X-Secret"]}
        first, retry = (caller.post(f"{door}cookies", key="k-2") for _ in range(2))
        assert first.cookies["session"].value == "secret"
        assert (first["X-Secret"], first["X-Own"]) == ("one time", "kept")
        assert (retry.content, retry[MARKER], retry["X-Own"]) == (first.content, "true", "kept")
        assert not retry.cookies
        assert "X-Secret" not in retry

        first, retry = caller.post(f"{door}headers"), caller.post(f"{door}headers")
        assert first["Connection"] == "of this connection"
        assert "of this connection" not in retry.headers.values()
        assert (retry["Location"], retry["ETag"]) == ("/a", '"1"')
        stored = IdempotencyRecord.objects.values_list("response_headers", flat=True)
        assert not re.search("secret|one time|of this connection", " ".join(stored))

    @own_doors
    @pytest.mark.parametrize("name", ["stream", "file", "large"])
    def test_what_cannot_be_stored_is_sent_once(
        self, door: str, name: str, caller: Caller, settings: Any
    ) -> None:
        """Trap 17."""
        settings.IDEMPOTENCY = {"MAX_RESPONSE_SIZE": 6}
        first = caller.post(door + name)
        assert (first.status_code, first.getvalue()) == (201, b"one,two")
        for _ in range(2):
            retry = caller.post(door + name)
            assert (retry.status_code, MARKER in retry) == (409, False)
            assert retry.json()["code"] == "idempotency_response_unavailable"
            assert retry.json()["retryable"] is False
        assert Order.objects.count() == 1

    @own_doors
    def test_a_session_is_saved_as_before(self, door: str, caller: Caller) -> None:
        session = caller._client.session
        for key, visits in (("k-1", 1), ("k-1", 1), ("k-2", 2)):
            assert caller.post(f"{door}session", key=key).json() == {"visits": visits}
        assert caller._client.session["visits"] == 2
        assert caller._client.session.session_key == session.session_key

    @few_doors
    def test_are_compressed_for_those_who_ask(
        self, door: str, caller: Caller, settings: Any
    ) -> None:
        names = ("django.middleware.gzip.GZipMiddleware",)
        names += ("django.middleware.http.ConditionalGetMiddleware",)
        settings.MIDDLEWARE = [*names, *settings.MIDDLEWARE]
        data, asking = {"item": "x" * 200}, {"headers": {"accept-encoding": "gzip"}}
        first, retry = caller.post(door, data, **asking), caller.post(door, data, **asking)
        plain = caller.post(door, data)
        assert first["Content-Encoding"] == retry["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain
        assert retry[MARKER] == plain[MARKER] == "true"
        assert gzip.decompress(first.content) == gzip.decompress(retry.content) == plain.content


def test_login_is_required_before_a_replay(
    use_middleware: None, caller: Caller, settings: Any
) -> None:
    required = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, required, MIDDLEWARE]
    first, retry = caller.post("/plain/large"), caller.post("/plain/large")
    assert (first.content, retry.content, retry[MARKER]) == (b"one,two", b"one,two", "true")
    caller._client.logout()
    for _ in range(2):
        stranger = caller.post("/plain/large")
        assert (stranger.status_code, MARKER in stranger) == (302, False)
        assert stranger["Location"].startswith("/accounts/login/")
    assert Order.objects.count() == 1


def noting_handler(error: Exception, context: Any) -> Any:
    handled.append(error)
    response = exception_handler(error, context)
    if response is not None and isinstance(error, IdempotencyError):
        response.data = {"error": error.problem.code}
    return response


class TestDrfExceptionHandler:
    @pytest.fixture(autouse=True)
    def _handler(self, settings: Any) -> None:
        name = f"{__name__}.noting_handler"
        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": name}

    @pytest.mark.parametrize("name", ["missing", "forbidden", "invalid"])
    @pytest.mark.parametrize("door", ["/drf/", "/decorated-drf/"])
    def test_gets_what_the_view_raises_once(
        self, door: str, name: str, caller: Caller, use_middleware: None
    ) -> None:
        first, retry = caller.post(door + name), caller.post(door + name)
        assert (retry.status_code, retry.content) == (first.status_code, first.content)
        assert len(handled) == (2 if name == "forbidden" else 1)

    @pytest.mark.parametrize("middleware", [False, True])
    def test_gets_our_problems(self, middleware: bool, caller: Caller, settings: Any) -> None:
        if middleware:
            settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
        caller.post("/drf-errors/", {"item": "a"})
        for status, key in ((422, "k-1"), (400, "not a key")):
            response = caller.post("/drf-errors/", {"item": "b"}, key=key)
            [error] = handled
            assert isinstance(error, IdempotencyError)
            assert response.status_code == error.problem.status == error.status_code == status
            assert response.json() == {"error": error.problem.code}
            handled.clear()

    @row_locks
    def test_gets_conflicts_with_the_time_to_wait(self, caller: Caller, after_write: Any) -> None:
        rivals = []
        after_write(lambda: rivals.append(in_thread(lambda: caller.post("/drf-errors/")).result()))
        assert caller.post("/drf-errors/").status_code == 201
        [rival], [error] = rivals, handled
        assert (rival.status_code, rival["Retry-After"]) == (409, "1")
        assert rival.json() == {"error": "idempotency_in_flight"}
        assert isinstance(error, IdempotencyError)
        assert error.problem.retry_after == error.wait == 1


def masked(page: bytes) -> bytes:
    """A page without what differs from request to request: numbers and CSRF tokens."""
    page = re.sub(rb'(csrfmiddlewaretoken"|csrfToken": ?)( value=)?"\w+"', b"", page)
    return re.sub(rb"\d+", b"0", page.replace(b"guarded-", b""))


@pytest.mark.parametrize(
    ("catalogue", "middleware"),
    [("/catalogue/", True), ("/guarded-catalogue/", False), ("/guarded-catalogue/", True)],
)
class TestCatalogue:
    """Pages, links and the browsable API."""

    @pytest.fixture
    def guarded(self, catalogue: str, middleware: bool, caller: Caller, settings: Any) -> Client:
        if middleware:
            settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
        Order.objects.bulk_create(Order(item=f"item {number}") for number in range(5))
        return caller._client

    @pytest.fixture
    def bare(self, guarded: Client, caller: Caller, settings: Any) -> Client:
        settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
        client = Client()
        client.force_login(caller.user)
        client.get("/catalogue/")
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
        return client

    @pytest.mark.parametrize("accept", ["application/json", "text/html"])
    def test_pages_are_the_same(
        self, accept: str, catalogue: str, guarded: Client, bare: Client
    ) -> None:
        headers = {"accept": accept, "idempotency-key": "k-1"}
        page = guarded.get(f"{catalogue}?page=2", headers=headers)
        expected = bare.get("/catalogue/?page=2", headers=headers)
        assert b"item 2" in page.content
        assert masked(page.content) == masked(expected.content)

    def test_the_form_of_the_browsable_api(
        self, catalogue: str, guarded: Client, bare: Client
    ) -> None:
        def submit(client: Client, path: str) -> Any:
            headers = {"accept": "text/html", "idempotency-key": "k-1"}
            return client.post(path, {"item": "vm"}, headers=headers)

        expected = submit(bare, "/catalogue/")
        first, retry = submit(guarded, catalogue), submit(guarded, catalogue)
        assert masked(first.content) == masked(expected.content)
        assert (first.status_code, retry.status_code, retry[MARKER]) == (201, 201, "true")
        assert retry.content == first.content
        assert retry["Location"] == first["Location"]
        assert guarded.get(first["Location"]).json()["item"] == "vm"
        for name in ("Allow", "Vary", "Content-Type"):
            assert retry[name] == first[name] == expected[name]


@pytest.mark.parametrize("path", ["/inherits/", "/decorated-inherits/"])
def test_handlers_that_extend_inherited_ones(
    path: str, use_middleware: None, caller: Caller
) -> None:
    first, retry = caller.post(path), caller.post(path)
    assert retry[MARKER] == "true"
    assert retry.content == first.content


@pytest.mark.parametrize(("query", "status"), [("", 201), ("?missing", 404)])
def test_async_functions_behind_wsgi(
    query: str, status: int, use_middleware: None, caller: Caller
) -> None:
    """Django runs them on this thread's connection."""
    first, retry = caller.post(f"/unhurried/{query}"), caller.post(f"/unhurried/{query}")
    assert (first.status_code, retry.status_code, retry[MARKER]) == (status, status, "true")
    assert Order.objects.count() == (status == 201)


def test_async_classes_behind_wsgi_are_answered_in_one_way(
    use_middleware: None, caller: Caller
) -> None:
    first, retry = caller.post("/unhurried-class/"), caller.post("/unhurried-class/")
    assert retry.status_code == first.status_code
    assert Order.objects.count() == (first.status_code == 201)


def nothing_special(request: HttpRequest) -> HttpResponse:
    """Documented."""
    return HttpResponse()


async def awaited(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class Awaited(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class NotAView:
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class TestMisuse:
    """A misused decorator raises at import."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"retain": 1}, "retain: there is no such option; the options are anonymous, "),
            ({"retention": 5}, "retention: must be a datetime.timedelta, not 5"),
            ({"methods": ["GET"]}, r"methods: must be a list of DELETE, PATCH, POST, PUT, not"),
        ],
    )
    def test_of_options(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(PolicyError, match=message):
            idempotent(**options)

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            (NotAView, r"cannot guard .*NotAView.*: it is not a view class"),
            (NotAView(), "it is not a view function or class"),
            ("shop.views.order", "cannot guard 'shop.views.order': it is not a view function"),
            (permission_required("shop.add_order")(nothing_special), "The right order is:"),
            (login_required(nothing_special), "above a decorator that checks permissions"),
        ],
    )
    def test_of_targets(self, target: Any, message: str) -> None:
        with pytest.raises(TypeError, match=message):
            idempotent(target)


class TestIdentity:
    """Whoever looks at a guarded view sees the view."""

    def test_a_class_is_the_class(self) -> None:
        own = type("Own", (Drf,), {})
        assert idempotent(own) is own
        view = Catalogue.as_view({"post": "create"}, suffix="List")
        guarded = GuardedCatalogue.as_view({"post": "create"}, suffix="List")
        assert guarded.cls is GuardedCatalogue
        assert issubclass(guarded.cls, Catalogue)
        for name in ("__name__", "__doc__", "csrf_exempt", "initkwargs", "actions"):
            assert getattr(guarded, name) == getattr(view, name)
        assert type(guarded.cls().schema) is type(view.cls().schema)

    @pytest.mark.parametrize(
        "view",
        [
            nothing_special,
            csrf_exempt(nothing_special),
            views.rest_function,
            views.RestView.as_view(),
            views.ClassView.as_view(),
            Catalogue.as_view({"post": "create"}, suffix="List"),
            views.OrderViewSet.extra,
        ],
        ids=lambda view: view.__name__,
    )
    def test_a_function_looks_like_the_function(self, view: Any) -> None:
        guarded = idempotent(view)
        assert guarded is not view
        assert guarded.__wrapped__ is view
        assert signature(guarded) == signature(view)
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            assert getattr(guarded, name) == getattr(view, name)
        kept = {name: value for name, value in vars(view).items() if name != "__wrapped__"}
        assert {**vars(guarded), **kept} == vars(guarded)

    def test_routers_and_schemas_find_the_same(self) -> None:
        found = EndpointEnumerator(patterns=router.urls).get_api_endpoints()
        plain = {(url, method): view for url, method, view in found if "guarded" not in url}
        guarded = {
            (url.replace("guarded-", ""), method): view
            for url, method, view in found
            if "guarded" in url
        }
        assert plain.keys() == guarded.keys()
        assert {view.cls for view in guarded.values()} == {GuardedCatalogue}
        decorated = views.DecoratedMethodsViewSet.get_extra_actions()
        assert {action.__name__: action.mapping for action in decorated} == {
            "extra": {"post": "extra"},
            "other": {"post": "other"},
        }
