"""``KEY_FROM``: what a function does beside finding the key changes nothing for the view."""

import json
from hashlib import sha256
from typing import Any

import pytest
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.mixins import PermissionRequiredMixin
from django.contrib.auth.models import Permission
from django.core.exceptions import BadRequest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.test.client import encode_multipart
from django.urls import path
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.parsers import JSONParser
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotency_exempt, idempotent
from tests.conftest import Caller
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE

pytestmark = pytest.mark.django_db(transaction=True)

asked: list[str] = []
KEY = b'{"key": "k-1"}'


def by_stream(request: Any) -> Any:
    return json.loads(request.read())["key"]


def by_lines(request: Any) -> Any:
    return json.loads(b"".join(request))["key"]


def by_beginning(request: Any) -> Any:
    return request.read(6).hex()


def by_form(request: Any) -> Any:
    return request.POST.get("key", "k-1")


def by_server(request: Any) -> Any:
    return json.loads(request.META["wsgi.input"].read())["key"]


def fails(request: Any) -> Any:
    asked.append(request.path)
    raise BadRequest("no key in there")


def parses(request: Any) -> Any:
    asked.append(request.path)
    return request.data["key"]


def echo_body(request: HttpRequest) -> bytes:
    return request.body


def echo_stream(request: HttpRequest) -> bytes:
    return request.read()


READS = {each.__name__: each for each in (by_stream, by_lines, by_beginning, by_form, by_server)}
ECHOES = {each.__name__: each for each in (echo_body, echo_stream)}


def reader(find: Any, echo: Any) -> Any:
    @csrf_exempt
    @idempotent(key=find, scope=lambda request: "all")
    def view(request: HttpRequest) -> HttpResponse:
        Order.objects.create(item="read")
        return HttpResponse(sha256(echo(request)).hexdigest())

    return view


def answer(request: HttpRequest) -> HttpResponse:
    return HttpResponse("done")


class Permitted(PermissionRequiredMixin, View):
    permission_required = "shop.add_order"
    raise_exception = True

    def post(self, request: HttpRequest) -> HttpResponse:
        return answer(request)


class Rest(APIView):
    permission_classes = [DjangoModelPermissions]
    parser_classes = [JSONParser]
    queryset = Order.objects.all()

    def post(self, request: Any) -> Response:
        return Response(request.data)


needed = permission_required("shop.add_order", raise_exception=True)
urlpatterns = [
    *(
        path(f"{find}/{echo}/", reader(READS[find], ECHOES[echo]))
        for find in READS
        for echo in ECHOES
    ),
    path("function/", csrf_exempt(needed(answer))),
    path("decorated/", csrf_exempt(needed(idempotent(answer)))),
    path("class/", csrf_exempt(Permitted.as_view())),
    path("rest/", Rest.as_view()),
    path("exempt/", csrf_exempt(idempotency_exempt(answer))),
    path("exempt-path/", csrf_exempt(answer)),
]


@pytest.fixture(autouse=True)
def _project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    asked.clear()


@pytest.fixture(params=[False, True], ids=["alone", "middleware"])
def _around(request: Any, settings: Any) -> None:
    if request.param:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]


@pytest.mark.usefixtures("_around")
@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("find", READS)
@pytest.mark.parametrize("size", [0, 3_000_000], ids=["small", "large"])
def test_the_view_reads_the_body_from_its_start(
    find: str, echo: str, size: int, settings: Any
) -> None:
    """I15: however the function has read it, and also where it is kept in a file."""
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = None
    body = KEY + b" " * size
    for number in range(2):
        response = Client().post(f"/{find}/{echo}/", body, content_type="application/json")
        assert response.content.decode() == sha256(body).hexdigest()
        assert ("Idempotency-Replayed" in response) == (number == 1)
    assert Order.objects.count() == 1


@pytest.mark.usefixtures("_around")
@pytest.mark.parametrize("echo", ECHOES)
def test_a_view_of_the_bytes_of_a_form(echo: str) -> None:
    """Django itself could not read them any more after it has parsed them."""
    body = encode_multipart("limit", {"key": "k-1", "file": SimpleUploadedFile("a", b"content")})
    kind = "multipart/form-data; boundary=limit"
    response = Client().post(f"/by_form/{echo}/", body, content_type=kind)
    assert response.content.decode() == sha256(body).hexdigest()


@pytest.mark.parametrize("path", ["/function/", "/decorated/", "/class/", "/rest/"])
@pytest.mark.parametrize("recheck", ["all", "authentication"])
def test_what_it_raises_is_for_those_who_may(
    path: str, recheck: str, caller: Caller, settings: Any
) -> None:
    """I5: a caller who is refused does not see it, also if a replay would come before checks."""
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY = {"KEY_FROM": fails, "RECHECK": recheck}
    assert Client().post(path).status_code in {401, 403}
    assert asked == []
    assert caller.post(path, {}, key=None).status_code == 403
    asked.clear()
    caller.user.user_permissions.add(Permission.objects.get(codename="add_order"))
    assert caller.post(path, {}, key=None).status_code == 400
    assert asked == [path]


@pytest.mark.parametrize("recheck", ["all", "authentication"])
def test_what_a_parser_raises_is_the_clients_error(
    recheck: str, caller: Caller, settings: Any
) -> None:
    """Django REST framework says it once; a second look would find an empty body."""
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY = {"KEY_FROM": parses, "RECHECK": recheck}
    assert caller.post("/rest/", "{", key=None).status_code == 403
    caller.user.user_permissions.add(Permission.objects.get(codename="add_order"))
    response = caller.post("/rest/", "{", key=None)
    assert (response.status_code, "parse error" in response.json()["detail"]) == (400, True)


def test_it_is_asked_only_where_something_is_guarded(settings: Any) -> None:
    """I9: not for safe methods, nor where the guard is off."""
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY = {"KEY_FROM": fails, "EXEMPT_PATHS": {"^/exempt-path/": "not ours"}}
    for method in ("get", "head", "options"):
        getattr(Client(), method)("/by_form/echo_body/")
    for where in ("/exempt/", "/exempt-path/"):
        assert Client().post(where).content == b"done"
    assert asked == []


def test_a_number_that_python_does_not_write(rf: Any) -> None:
    """Whatever the function makes of what a client sends, it is no error of the server."""
    view = idempotent(key=lambda request: 10**5000, scope=lambda request: "all")(answer)
    response = view(rf.post("/"))
    assert (response.status_code, b"too many digits" in response.content) == (400, True)
