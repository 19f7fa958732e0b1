"""A replay asked for in another way than the original: what comes back is still right."""

import gzip
import json
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils.cache import patch_vary_headers
from django.utils.translation import get_language, gettext
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.gzip import gzip_page
from rest_framework.renderers import JSONRenderer

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.shop.models import Order
from tests.shop.views import RestView, buy
from tests.support.adapters import MIDDLEWARE

pytestmark = pytest.mark.once

EVERY_BYTE = bytes(range(256)) * 2
GREETING = "Grüße für Ada "


class PageRenderer(JSONRenderer):
    media_type = "text/html"
    format = "html"
    charset = "utf-8"


class NegotiatingView(RestView):
    renderer_classes = [JSONRenderer, PageRenderer]


class TextRenderer(JSONRenderer):
    media_type = "text/plain"
    format = "txt"
    charset = "iso-8859-1"

    def render(self, data: Any, *args: Any, **options: Any) -> bytes:
        return (GREETING + str(data["id"])).encode(self.charset)


class TextView(RestView):
    renderer_classes = [TextRenderer]


@csrf_exempt
def large(request: HttpRequest) -> HttpResponse:
    _, body = buy({})
    response = JsonResponse(body | {"padding": "x" * 500}, status=201, headers={"ETag": '"v1"'})
    patch_vary_headers(response, ["X-Tenant"])
    return response


@csrf_exempt
def binary(request: HttpRequest) -> HttpResponse:
    buy({})
    headers = {"Content-Disposition": 'attachment; filename="all.bin"'}
    return HttpResponse(EVERY_BYTE, content_type="application/octet-stream", headers=headers)


@csrf_exempt
def text(request: HttpRequest, charset: str) -> HttpResponse:
    _, body = buy({})
    return HttpResponse(GREETING + str(body["id"]), charset=charset)


@csrf_exempt
def cookies(request: HttpRequest) -> HttpResponse:
    _, body = buy({})
    request.session["basket"] = body["id"]
    response = JsonResponse(body, status=201)
    response.set_cookie("secret", f"shown-once-{body['id']}", httponly=True)
    return response


@csrf_exempt
def greeting(request: HttpRequest) -> HttpResponse:
    buy({})
    response = HttpResponse(gettext("January"))
    if "says" in request.GET:
        response["Content-Language"] = get_language() or ""
    return response


urlpatterns = [
    path("negotiating/", NegotiatingView.as_view()),
    path("rest-text/", TextView.as_view()),
    path("large/", large),
    path("compressed/", gzip_page(large)),
    path("decorated-compressed/", gzip_page(idempotent(large))),
    path("binary/", binary),
    path("text/<charset>/", text),
    path("cookies/", cookies),
    path("greeting/", greeting),
]


@pytest.fixture(autouse=True)
def _project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    install(settings)


def install(settings: Any, *above: str, after_sessions: str | None = None) -> None:
    base = list(settings.BASE_MIDDLEWARE)
    if after_sessions is not None:
        base.insert(1, after_sessions)
    settings.MIDDLEWARE = [*above, *base, MIDDLEWARE]


def replays(response: Any) -> bool:
    return response.get("Idempotency-Replayed") == "true" and Order.objects.count() == 1


class TestAccept:
    JSON = "application/json"
    HTML = "text/html"

    @pytest.mark.parametrize(("one", "other"), [(JSON, HTML), (HTML, JSON), (JSON, "*/*")])
    def test_the_original_representation_comes_back(
        self, caller: Caller, one: str, other: str
    ) -> None:
        first = caller.post("/negotiating/", headers={"accept": one})
        retry = caller.post("/negotiating/", headers={"accept": other})
        assert replays(retry)
        assert retry.content == first.content
        assert retry["Content-Type"] == first["Content-Type"]
        assert first["Content-Type"].startswith(one)

    def test_vary_is_kept(self, caller: Caller) -> None:
        first, retry = (caller.post("/negotiating/") for _ in range(2))
        assert "Accept" in first["Vary"]
        assert retry["Vary"] == first["Vary"]

    def test_what_the_view_cannot_make_is_406_and_runs_nothing(self, caller: Caller) -> None:
        picture = {"accept": "image/png"}
        assert caller.post("/negotiating/", headers=picture).status_code == 406
        assert not Order.objects.exists()
        assert not IdempotencyRecord.objects.exists()
        assert caller.post("/negotiating/").status_code == 201

    def test_it_is_406_also_when_there_is_a_response_to_replay(self, caller: Caller) -> None:
        caller.post("/negotiating/")
        assert caller.post("/negotiating/", headers={"accept": "image/png"}).status_code == 406
        assert replays(caller.post("/negotiating/"))

    def test_errors_are_problem_json_whatever_is_asked_for(self, caller: Caller) -> None:
        caller.post("/negotiating/")
        other = caller.post("/negotiating/", {"item": "other"}, headers={"accept": self.HTML})
        assert other["Content-Type"] == "application/problem+json"


class TestCompression:
    GZIP = "django.middleware.gzip.GZipMiddleware"
    ENCODINGS = pytest.mark.parametrize(
        ("one", "other"), [("gzip", "identity"), ("identity", "gzip"), ("gzip", "gzip")]
    )

    def send(self, caller: Caller, encoding: str, path: str = "/large/", **headers: str) -> Any:
        return caller.post(path, headers={"accept-encoding": encoding} | headers)

    def document(self, response: Any, encoding: str) -> Any:
        """Decode the body, which must be encoded as asked for."""
        assert response.get("Content-Encoding", "identity") == encoding
        assert response["Content-Length"] == str(len(response.content))
        packed = encoding == "gzip"
        return json.loads(gzip.decompress(response.content) if packed else response.content)

    @ENCODINGS
    def test_each_client_gets_the_encoding_it_asked_for(
        self, caller: Caller, settings: Any, one: str, other: str
    ) -> None:
        install(settings, self.GZIP)
        first, retry = self.send(caller, one), self.send(caller, other)
        assert replays(retry)
        assert self.document(retry, other) == self.document(first, one)

    @ENCODINGS
    def test_vary_and_etag(self, caller: Caller, settings: Any, one: str, other: str) -> None:
        install(settings, self.GZIP)
        etags = {"identity": '"v1"', "gzip": 'W/"v1"'}
        for encoding in (one, other):
            response = self.send(caller, encoding)
            assert response["ETag"] == etags[encoding]
            assert {"X-Tenant", "Accept-Encoding"} <= set(response["Vary"].split(", "))

    def test_conditions_do_not_turn_a_replay_into_304(self, caller: Caller, settings: Any) -> None:
        install(settings, self.GZIP, "django.middleware.http.ConditionalGetMiddleware")
        first = self.send(caller, "identity")
        retry = self.send(caller, "identity", **{"if-none-match": '"v1"'})
        assert (retry.status_code, retry.content) == (first.status_code, first.content)

    @pytest.mark.parametrize("path", ["/compressed/", "/decorated-compressed/"])
    def test_what_a_decorator_compressed_comes_back_compressed(
        self, caller: Caller, path: str
    ) -> None:
        """So compress above the guard's middleware: this client did not ask for it."""
        first = self.send(caller, "gzip", path)
        retry = self.send(caller, "identity", path)
        assert replays(retry)
        assert self.document(retry, "gzip") == self.document(first, "gzip")
        assert "Accept-Encoding" in retry["Vary"]


class TestCookies:
    def test_cookies_are_never_stored(self, caller: Caller) -> None:
        first, retry = (caller.post("/cookies/") for _ in range(2))
        assert first.cookies["secret"].value.startswith("shown-once-")
        assert replays(retry)
        assert not retry.cookies
        record = IdempotencyRecord.objects.get()
        assert "set-cookie" not in record.response_headers.lower()
        assert "shown-once" not in str(record.response_headers) + str(record.response_body)

    def test_vary_on_cookies_is_kept(self, caller: Caller) -> None:
        for _ in range(2):
            assert "Cookie" in caller.post("/cookies/")["Vary"]

    def test_a_replay_refreshes_the_session(self, caller: Caller, settings: Any) -> None:
        settings.SESSION_SAVE_EVERY_REQUEST = True
        caller.post("/cookies/")
        retry = caller.post("/cookies/")
        assert replays(retry)
        assert set(retry.cookies) == {settings.SESSION_COOKIE_NAME}
        assert retry.cookies[settings.SESSION_COOKIE_NAME]["max-age"]

    def test_the_session_is_written_once(self, caller: Caller) -> None:
        caller.post("/cookies/")
        session = caller._client.session
        session["basket"] = "changed since"
        session.save()
        caller.post("/cookies/")
        assert caller._client.session["basket"] == "changed since"


class TestBytes:
    def test_binary_bodies(self, caller: Caller) -> None:
        caller.post("/binary/")
        retry = caller.post("/binary/")
        assert replays(retry)
        assert retry.content == EVERY_BYTE
        assert retry["Content-Type"] == "application/octet-stream"
        assert retry["Content-Disposition"] == 'attachment; filename="all.bin"'

    @pytest.mark.parametrize("charset", ["iso-8859-1", "utf-8", "utf-16", "cp1252"])
    def test_charsets(self, caller: Caller, charset: str) -> None:
        first, retry = (caller.post(f"/text/{charset}/") for _ in range(2))
        assert replays(retry)
        assert (retry.content, retry["Content-Type"]) == (first.content, first["Content-Type"])
        assert retry.charset == charset
        assert retry.content.decode(charset).startswith(GREETING)

    def test_charsets_of_renderers(self, caller: Caller) -> None:
        first, retry = (caller.post("/rest-text/") for _ in range(2))
        assert replays(retry)
        assert retry["Content-Type"] == first["Content-Type"] == "text/plain; charset=iso-8859-1"
        assert retry.content.decode("iso-8859-1").startswith(GREETING)


class TestLanguages:
    LOCALE = "django.middleware.locale.LocaleMiddleware"

    @pytest.fixture(autouse=True)
    def _locale(self, settings: Any) -> None:
        settings.LANGUAGES = [("en", "English"), ("de", "German")]
        install(settings, after_sessions=self.LOCALE)

    def in_german(self, caller: Caller, path: str = "/greeting/") -> Any:
        return caller.post(path, headers={"accept-language": "de"})

    def in_english(self, caller: Caller, path: str = "/greeting/") -> Any:
        return caller.post(path, headers={"accept-language": "en"})

    def test_the_original_language_comes_back(self, caller: Caller) -> None:
        first, retry = self.in_german(caller), self.in_english(caller)
        assert replays(retry)
        assert (first.content, retry.content) == (b"Januar", b"Januar")

    def test_it_is_named_if_the_view_names_it(self, caller: Caller) -> None:
        first, retry = (
            send(caller, "/greeting/?says=1") for send in (self.in_german, self.in_english)
        )
        assert (first["Content-Language"], retry["Content-Language"]) == ("de", "de")

    def test_it_is_named_if_only_the_middleware_names_it(self, caller: Caller) -> None:
        assert self.in_german(caller)["Content-Language"] == "de"
        assert self.in_english(caller)["Content-Language"] == "de"

    def test_vary_on_languages_is_kept(self, caller: Caller) -> None:
        for send in (self.in_german, self.in_english):
            assert "Accept-Language" in send(caller)["Vary"]
