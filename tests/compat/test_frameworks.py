"""What ``compat/frameworks.py`` takes for granted about Django, DRF and Ninja. A failure here says
which name a new version keeps elsewhere; the tests of behaviour say what breaks with it."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.admin.sites import AdminSite
from django.contrib.auth.decorators import login_required, permission_required, user_passes_test
from django.core.handlers.base import BaseHandler
from django.db import connections, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import get_resolver, path
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_POST, require_safe
from ninja import NinjaAPI
from ninja.errors import HttpError
from rest_framework.decorators import api_view

from django_idempotency.compat import frameworks

pytestmark = pytest.mark.once


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def is_ada(user: Any) -> bool:
    return bool(user.username == "ada")


class TestClosures:
    def test_user_passes_test_keeps_its_test_as_test_func(self) -> None:
        assert frameworks.user_test_of(user_passes_test(is_ada)(view)) is is_ada

    @pytest.mark.parametrize("decorate", [login_required, permission_required("shop.add_order")])
    def test_and_so_do_those_that_are_made_of_it(self, decorate: Any) -> None:
        assert callable(frameworks.user_test_of(decorate(view)))
        assert decorate(view).login_url is None

    def test_method_decorator_keeps_decorators_innermost_first(self) -> None:
        def first(function: Any) -> Any:
            return wraps(function)(lambda *args: function(*args))

        def last(function: Any) -> Any:
            return wraps(function)(lambda *args: function(*args))

        class Page:
            @method_decorator([first, last])
            def post(self, request: HttpRequest) -> HttpResponse:
                return view(request)

        assert frameworks.applied_by_method_decorator(Page.post) == [first, last]
        assert frameworks.applied_by_method_decorator(view) is None

    @pytest.mark.parametrize(
        ("decorate", "name"), [(gzip_page, "GZipMiddleware"), (csrf_protect, "CsrfViewMiddleware")]
    )
    def test_decorator_from_middleware_keeps_the_middleware(self, decorate: Any, name: str) -> None:
        middleware = frameworks.middleware_of(decorate(view))
        assert name in {each.__name__ for each in type(middleware).__mro__}

    def test_context_managers_keep_themselves_as_self(self) -> None:
        assert isinstance(frameworks.context_of(transaction.atomic(view)), transaction.Atomic)

    @pytest.mark.parametrize(
        ("decorate", "methods"), [(require_POST, {"POST"}), (require_safe, {"GET", "HEAD"})]
    )
    def test_require_http_methods_keeps_request_method_list(
        self, decorate: Any, methods: set[str]
    ) -> None:
        assert set(frameworks.required_methods(decorate(view))) == methods

    def test_api_view_keeps_its_function_as_func(self) -> None:
        handler = api_view(["POST"])(view).cls.post  # type: ignore[attr-defined]
        assert frameworks.module_of(handler) in frameworks.API_VIEWS
        assert frameworks.wrapped_by(handler) is view

    @pytest.mark.parametrize(
        "decorate",
        [
            login_required,
            require_POST,
            transaction.atomic,
            gzip_page,
            method_decorator(require_POST),
        ],
    )
    def test_decorators_call_what_is_in_their_slots(self, decorate: Any) -> None:
        def inner(*args: Any) -> Any:
            return None

        wrapper = decorate(inner)
        slots = list(frameworks.slots_of(wrapper, inner))
        assert slots
        assert {slot.content for slot in slots} == {inner}

    def test_partial_functions_and_methods_are_looked_through(self) -> None:
        assert frameworks.wrapped_by(partial(view)) is view
        assert frameworks.wrapped_by(self.test_partial_functions_and_methods_are_looked_through)

    def test_views_of_the_admin_are_known_wherever_they_are(self) -> None:
        site = AdminSite(name="compat")
        assert frameworks.belongs_to_admin(site.admin_view(view))
        assert frameworks.belongs_to_admin(login_required(site.admin_view(view)))
        assert frameworks.belongs_to_admin(site.login)
        assert not frameworks.belongs_to_admin(login_required(view))


class TestDjangosHandler:
    def test_non_atomic_requests_marks_a_view_where_its_handler_looks(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
        excepted = transaction.non_atomic_requests(lambda request: None)
        for each, has_block in ((view, True), (excepted, False)):
            assert frameworks.has_request_block(each, "default") is has_block
            assert (BaseHandler().make_view_atomic(each) is not each) is has_block

    @pytest.mark.urls("tests.compat.test_frameworks")
    def test_its_exceptions_are_answered_by_resolve_error_handler(self) -> None:
        known = HttpResponse("known", status=404)
        resolver = get_resolver("tests.compat.test_frameworks")
        frameworks.answer_for_exceptions(
            resolver, lambda error: known if error.args == ("ours",) else None
        )
        client = Client(raise_request_exception=False)
        assert client.post("/ours/").content == b"known"
        assert client.post("/other/").content != b"known"

    def test_users_are_kept_where_both_ways_to_ask_look(self) -> None:
        from django.contrib.auth.middleware import get_user

        request: Any = RequestFactory().post("/")
        request._acached_user = found = object()
        frameworks.share_user(request, frameworks.ASYNC_USER, frameworks.SYNC_USER)
        assert get_user(request) is found

    async def ask(self, request: Any) -> Any:
        from django.contrib.auth.middleware import auser

        return await auser(request)

    def test_and_the_other_way_round(self) -> None:
        request: Any = RequestFactory().post("/")
        request._cached_user = found = object()
        frameworks.share_user(request, frameworks.SYNC_USER, frameworks.ASYNC_USER)
        assert async_to_sync(self.ask)(request) is found


class TestCallers:
    def test_who_a_request_is_said_to_come_from_is_whom_all_ask(self) -> None:
        from django.contrib.auth.models import AnonymousUser, User
        from rest_framework.request import Request

        ada = User(username="ada")
        nobody: Any = AnonymousUser()
        for user in (ada, nobody):
            request = RequestFactory(enforce_csrf_checks=True).post("/", {"a": "1"})
            frameworks.authenticate_as(request, user)
            assert Request(request).user.username == user.username
            assert async_to_sync(request.auser)() is user
            assert login_required(view)(request).status_code == (200 if user is ada else 302)

    def test_a_form_of_theirs_was_checked(self) -> None:
        request: Any = Client(enforce_csrf_checks=True).post("/").wsgi_request
        assert csrf_protect(view)(request).status_code == 403
        frameworks.authenticate_as(request, request.user)
        assert csrf_protect(view)(request).status_code == 200


class TestNinja:
    @pytest.fixture
    def api(self) -> NinjaAPI:
        return NinjaAPI(urls_namespace="compat")

    def paths(self, api: NinjaAPI) -> list[Any]:
        return [each.callback for each in api.urls[0] if "openapi" not in str(each.callback)]

    def test_a_view_is_a_closure_of_its_operations(self, api: NinjaAPI) -> None:
        api.post("/orders/")(view)
        api.put("/orders/")(view)
        found = [frameworks.operations_in(each) for each in self.paths(api)]
        methods = {method for each in found for one in each or () for method in one.methods}
        assert methods == {"POST", "PUT"}
        assert frameworks.operations_in(view) is None

    def test_an_operation_is_noted_on_its_function_and_may_be_decorated_there(
        self, api: NinjaAPI
    ) -> None:
        def order(request: HttpRequest) -> str:
            return "made"

        api.post("/orders/")(order)
        operation = frameworks.operation_made_of(order)
        assert operation.view_func is order
        run = operation.run
        frameworks.decorate_operation(operation, lambda run: wraps(run)(partial(run)))
        assert operation.run is not run
        assert frameworks.operation_made_of(lambda request: None) is None

    def test_what_contributes_is_called_with_each_operation(self, api: NinjaAPI) -> None:
        def order(request: HttpRequest) -> str:
            return "made"

        seen: list[Any] = []
        frameworks.contribute_to_operation(order, seen.append)
        api.post("/orders/")(order)
        assert [each.view_func for each in seen] == [order]

    def test_handlers_of_the_project_are_told_from_ninjas(self, api: NinjaAPI) -> None:
        def order(request: HttpRequest) -> str:
            return "made"

        api.post("/orders/")(order)
        # The API's own clone: what the function has is the one that it was cloned from.
        found = (frameworks.operations_in(each) for each in self.paths(api))
        (operation,) = (each for operations in found for each in operations or ())
        assert not frameworks.has_handler_of_project(operation, HttpError(404, "gone"))
        api.add_exception_handler(KeyError, lambda request, error: HttpResponse(status=404))
        assert frameworks.has_handler_of_project(operation, KeyError())
        assert not frameworks.has_handler_of_project(operation, ZeroDivisionError())

    def test_an_operation_makes_responses_of_results(self, api: NinjaAPI) -> None:
        def order(request: HttpRequest) -> int:
            return 7

        api.post("/orders/", response={201: int})(order)
        operation = next(each for each in self.paths(api) if frameworks.operations_in(each))
        (made_of,) = frameworks.operations_in(operation) or ()
        response = frameworks.response_of(made_of, RequestFactory().post("/"), 8)
        assert (response.status_code, response.content) == (201, b"8")
        known = HttpResponse()
        assert frameworks.response_of(made_of, RequestFactory().post("/"), known) is known


def raising(name: str) -> Callable[[HttpRequest], HttpResponse]:
    def raise_it(request: HttpRequest) -> HttpResponse:
        raise Http404(name)

    return raise_it


urlpatterns = [path("ours/", raising("ours")), path("other/", raising("other"))]


class TestBodies:
    """Names that ``http/claim.py`` and ``http/responses.py`` use themselves: the common request is
    read without a further call."""

    def test_a_request_reads_its_stream_once(self) -> None:
        request: Any = RequestFactory().post("/", b"text", content_type="text/plain")
        assert request._stream.read is not None
        assert (request._read_started, hasattr(request, "_body")) == (False, False)
        assert (request.read(2), request._read_started) == (b"te", True)

    def test_a_request_keeps_its_whole_body(self) -> None:
        request: Any = RequestFactory().post("/", b"text", content_type="text/plain")
        assert (request.body, request._body) == (b"text", b"text")

    def test_a_parsed_form_has_files(self) -> None:
        request: Any = RequestFactory().post("/", {"name": "ada"})
        assert not hasattr(request, "_files")
        assert (request.POST["name"], len(request._files)) == ("ada", 0)

    def test_a_request_knows_its_host_before_it_is_checked(self) -> None:
        request: Any = RequestFactory().post("/", headers={"host": "not allowed"})
        assert request._get_raw_host() == "not allowed"

    def test_a_response_has_its_header_fields_in_pairs(self) -> None:
        response: Any = HttpResponse(headers={"content-type": "text/plain", "X-Tag": "a"})
        response["X-tag"] = "b"
        pairs = list(response.headers._store.values())
        assert pairs == [("content-type", "text/plain"), ("X-tag", "b")] == [*response.items()]

    def test_a_response_tells_its_own_reason_from_the_usual_one(self) -> None:
        usual: Any = HttpResponse()
        own: Any = HttpResponse(reason="Fine")
        assert (usual._reason_phrase, usual.reason_phrase) == (None, "OK")
        assert own._reason_phrase == "Fine"
