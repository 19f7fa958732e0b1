"""Bodies pass through the guard unchanged, and are told apart by what they mean."""

import io
import json
import tracemalloc
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.exceptions import BadRequest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest, JsonResponse
from django.test import RequestFactory
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.authentication import TokenAuthentication
from rest_framework.parsers import FileUploadParser, FormParser, JSONParser, MultiPartParser
from rest_framework.permissions import BasePermission
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.conf.policy import Policy
from django_idempotency.decorators import idempotent
from django_idempotency.http.body import RereadableStream
from django_idempotency.http.claim import BodyTooLarge, keep_body, payload
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.fingerprint import json_payload
from tests.conftest import Caller
from tests.shop.models import Order

pytestmark = pytest.mark.once

MIB = 1024 * 1024


class Upload(APIView):
    """Says what it received."""

    authentication_classes = [TokenAuthentication]
    parser_classes = [JSONParser, MultiPartParser, FormParser, FileUploadParser]

    def post(self, request: Any, name: str = "") -> Response:
        Order.objects.create(item="upload")
        files = {name: [file.name, file.size] for name, file in request.FILES.items()}
        for file in request.FILES.values():
            file.close()
        fields = {key: value for key, value in request.data.items() if key not in request.FILES}
        if "blob" in fields:
            fields["blob"] = len(fields["blob"])
        return Response({"files": files, "fields": fields}, status=201)

    put = post


class ReadsDataFirst(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return bool(request.data)


class NosyUpload(Upload):
    permission_classes = [ReadsDataFirst]

    @idempotent
    def post(self, request: Any, name: str = "") -> Response:
        return super().post(request, name)


@csrf_exempt
def reader(request: HttpRequest) -> JsonResponse:
    """Reads its body as a stream, whatever its size."""
    Order.objects.create(item="stream")
    size = 0
    while chunk := request.read(64 * 1024):
        size += len(chunk)
    return JsonResponse({"size": size}, status=201)


urlpatterns = [
    path("bare/<name>", Upload.as_view()),
    path("upload/<name>", idempotent(Upload.as_view())),
    path("nosy/<name>", NosyUpload.as_view()),
    path("reader/", reader),
]


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


adapters = pytest.mark.parametrize(
    "prefix", ["/bare/", "/upload/"], ids=["middleware", "decorator"]
)


@pytest.fixture
def url(prefix: str, settings: Any) -> str:
    if prefix == "/bare/":
        middleware = "django_idempotency.middleware.IdempotencyMiddleware"
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, middleware]
    return f"{prefix}a.bin"


def assert_replays(first: Any, retry: Any) -> None:
    assert first.status_code == retry.status_code == 201, (first.content, retry.content)
    assert retry["Idempotency-Replayed"] == "true"
    assert retry.content == first.content
    assert Order.objects.count() == 1


@adapters
@pytest.mark.broad
def test_a_20_mb_json_body(url: str, caller: Caller, settings: Any) -> None:
    """The limit is the project's, not ours."""
    document = {"blob": "x" * (20 * MIB)}
    bare, guarded = caller.post(url, document, key=None), caller.post(url, document)
    assert guarded.status_code == bare.status_code
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = None
    Order.objects.all().delete()
    IdempotencyRecord.objects.all().delete()
    first, retry = caller.post(url, document), caller.post(url, document)
    assert first.json()["fields"] == {"blob": 20 * MIB}
    assert_replays(first, retry)
    assert caller.post(url, {"blob": "y" * (20 * MIB)}).status_code == 422


@adapters
@pytest.mark.broad
def test_a_50_mb_raw_upload(url: str, caller: Caller) -> None:
    arguments = {
        "content_type": "application/octet-stream",
        "headers": {"content-disposition": "attachment; filename=a.bin"},
    }
    first = caller.post(url, b"x" * (50 * MIB), **arguments)
    assert first.json()["files"] == {"file": ["a.bin", 50 * MIB]}
    assert_replays(first, caller.post(url, b"x" * (50 * MIB), **arguments))
    assert caller.post(url, b"x" * (50 * MIB - 1) + b"y", **arguments).status_code == 422


def multipart(boundary: str, content: bytes = b"\x00\xff data", note: str = "n") -> dict[str, Any]:
    lines = [
        f"--{boundary}",
        'Content-Disposition: form-data; name="note"',
        "",
        note,
        f"--{boundary}",
        'Content-Disposition: form-data; name="photo"; filename="p.jpg"',
        "Content-Type: image/jpeg",
        "",
    ]
    body = "\r\n".join(lines).encode() + b"\r\n" + content + f"\r\n--{boundary}--\r\n".encode()
    return {"data": body, "content_type": f"multipart/form-data; boundary={boundary}"}


@adapters
def test_a_multipart_retry_with_another_boundary_replays(url: str, caller: Caller) -> None:
    first = caller.post(url, **multipart("first"))
    assert first.json() == {"files": {"photo": ["p.jpg", 7]}, "fields": {"note": "n"}}
    assert_replays(first, caller.post(url, **multipart("second")))
    assert caller.post(url, **multipart("third", content=b"other")).status_code == 422
    assert caller.post(url, **multipart("third", note="other")).status_code == 422


@adapters
def test_malformed_bodies_get_what_the_bare_view_gives(url: str, caller: Caller) -> None:
    """Never a 500 of ours, never a refusal that the bare view would not give."""
    bodies = [
        (b"{", "application/json"),
        (b'{"a": ' * 5000, "application/json"),
        (b"\xff\xfe\x00", "application/json"),
        (b"no boundary", "multipart/form-data"),
        (b"no such boundary", "multipart/form-data; boundary=b"),
        (b"a=%ff&b=%00", "application/x-www-form-urlencoded"),
        (b"\x00" * 10, "text/plain"),
        (b"", "application/json"),
    ]
    for number, (body, content_type) in enumerate(bodies):
        arguments = {"data": body, "content_type": content_type}
        bare = caller.post(url, key=None, **arguments)
        guarded = caller.post(url, key=f"k-{number}", **arguments)
        assert (guarded.status_code, guarded.content) == (bare.status_code, bare.content), body


def test_a_body_read_by_a_permission_is_still_told_apart(caller: Caller) -> None:
    """A handler method's decorator comes after permissions; the parsed data must do."""
    first = caller.post("/nosy/a", {"a": 1.5, "b": [True, None]})
    assert_replays(first, caller.post("/nosy/a", {"b": [True, None], "a": 1.50}))
    assert caller.post("/nosy/a", {"a": 1.5, "b": [1, None]}).status_code == 422


def test_json_is_compared_by_value(use_middleware: None, caller: Caller) -> None:
    first = caller.post("/bare/a", b'{"a": 1, "b": "x"}')
    assert_replays(first, caller.post("/bare/a", b' {"b":"x",\n "a":1}'))
    for other in (b'{"a": 1.0, "b": "x"}', b'{"a": "1", "b": "x"}', b'{"a": true, "b": "x"}'):
        assert caller.post("/bare/a", other).status_code == 422


def test_the_query_string_and_the_path_count(use_middleware: None, caller: Caller) -> None:
    caller.post("/bare/a?size=1", {})
    assert caller.post("/bare/a?size=2", {}).status_code == 422
    assert caller.post("/bare/b?size=1", {}).status_code == 422


def test_long_and_strange_paths(use_middleware: None, caller: Caller) -> None:
    """Longer than the record's column, NUL, and characters beyond the BMP."""
    for number, name in enumerate(["x" * 3000, "%00", "%F0%9F%92%B3", "%ff", "a?q=" + "x" * 9000]):
        response = caller.post(f"/bare/{name}", {"a": 1}, key=f"k-{number}")
        assert response.status_code == 201


def test_the_view_may_read_the_stream_itself(use_middleware: None, caller: Caller) -> None:
    arguments = {"content_type": "application/octet-stream"}
    first = caller.post("/reader/", b"x" * (5 * MIB), **arguments)
    assert first.json() == {"size": 5 * MIB}
    assert_replays(first, caller.post("/reader/", b"x" * (5 * MIB), **arguments))


class Endless(io.RawIOBase):
    """Bytes out of nowhere, as they would come from a socket."""

    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int = -1) -> bytes:
        size = self.left if size < 0 else min(size, self.left)
        self.left -= size
        return b"x" * size


def test_memory_is_bounded_whatever_the_size() -> None:
    """50 MB are digested, and read again by the view, in a few."""
    request = RequestFactory().post("/", b"", content_type="application/octet-stream")
    request._stream = Endless(50 * MIB)  # type: ignore[attr-defined]
    tracemalloc.start()
    try:
        assert payload(request) is not None
        size = 0
        while chunk := request.read(64 * 1024):
            size += len(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 50 * MIB
    assert peak < 4 * MIB


class TestLargest:
    """Policy can bound what the guard keeps of a body."""

    @pytest.fixture(autouse=True)
    def _policy(self, settings: Any, use_middleware: None) -> None:
        settings.IDEMPOTENCY = {"MAX_REQUEST_SIZE": 1000}

    @pytest.mark.parametrize("path", ["/reader/", "/bare/a.bin", "/upload/a.bin"])
    def test_a_larger_one_is_refused_and_nothing_runs(self, caller: Caller, path: str) -> None:
        arguments = {
            "content_type": "application/octet-stream",
            "headers": {"content-disposition": "attachment; filename=a.bin"},
        }
        refused = caller.post(path, b"x" * 1001, **arguments)
        assert refused.status_code == 413
        assert refused.json()["code"] == "idempotency_request_too_large"
        assert not Order.objects.exists()
        first = caller.post(path, b"x" * 1000, **arguments)
        assert_replays(first, caller.post(path, b"x" * 1000, **arguments))
        assert caller.post(path, b"x" * 1001, key=None, **arguments).status_code == 201

    def test_it_is_not_read(self) -> None:
        request = RequestFactory().post("/", b"", content_type="application/octet-stream")
        request.META["CONTENT_LENGTH"] = "1001"
        request._stream = Endless(1001)  # type: ignore[attr-defined]
        with pytest.raises(BodyTooLarge):
            payload(request, Policy(max_request_size=1000))
        assert request._stream.left == 1001  # type: ignore[attr-defined]

    def test_one_of_unknown_length_is_read_no_further(self) -> None:
        request = RequestFactory().post("/", b"", content_type="application/octet-stream")
        source = request._stream = Endless(50 * MIB)  # type: ignore[attr-defined]
        with pytest.raises(BodyTooLarge):
            payload(request, Policy(max_request_size=1000))
        assert source.left == 50 * MIB - 1001


class Trickle(io.BytesIO):
    """A connection that hands out three bytes at a time, however many are asked for."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(3 if size is None or size < 0 else min(3, size))


class TestShort:
    """A body whose announced length fits in memory is read at once."""

    BODY = b'{"a": [1, 2]}'

    def request(self, stream: io.BytesIO, announced: int = len(BODY)) -> Any:
        request: Any = RequestFactory().post("/", self.BODY, content_type="application/json")
        request.META["CONTENT_LENGTH"] = str(announced)
        request._stream = request.META["wsgi.input"] = stream
        return request

    @pytest.mark.parametrize("stream", [io.BytesIO, Trickle])
    @pytest.mark.parametrize("announced", [len(BODY), 1])
    def test_it_is_digested_whole(self, stream: type[io.BytesIO], announced: int) -> None:
        """A length that is too small, or input that comes in pieces, cuts nothing off."""
        request = self.request(stream(self.BODY), announced)
        assert payload(request) == json_payload(self.BODY)
        assert request.read() == self.BODY

    @pytest.mark.parametrize("stream", [io.BytesIO, Trickle])
    def test_one_that_ends_too_early_is_refused(self, stream: type[io.BytesIO]) -> None:
        with pytest.raises(BadRequest, match="ended before its Content-Length"):
            payload(self.request(stream(self.BODY[:-1])))

    @pytest.mark.parametrize(
        "read",
        [
            lambda request: request.body,
            lambda request: request.body + request.META["wsgi.input"].read(),
            lambda request: request.read(),
            lambda request: request.read(4) + request.read(),
            lambda request: request.readline(),
            lambda request: request.META["wsgi.input"].read(),
        ],
    )
    @pytest.mark.parametrize("is_kept", [False, True])
    def test_the_view_reads_it_and_it_is_digested_again(self, read: Any, is_kept: bool) -> None:
        """A replay is looked up before checks that may read the body, and claimed after them."""
        request = self.request(io.BytesIO(self.BODY))
        if is_kept:
            keep_body(request)
        before = payload(request)
        assert read(request) == self.BODY
        assert payload(request) == before == json_payload(self.BODY)

    @pytest.mark.parametrize("announced", [len(BODY), 1])
    @pytest.mark.parametrize(
        "take", [lambda request: request.META["wsgi.input"], lambda r: r._stream]
    )
    def test_a_stream_that_a_view_took_before_has_it_all(self, take: Any, announced: int) -> None:
        """A class-based view can do that in ``dispatch()``."""
        request = self.request(io.BytesIO(self.BODY), announced)
        keep_body(request)
        taken = take(request)
        assert payload(request) == json_payload(self.BODY)
        assert taken.read() == self.BODY


class TestStream:
    def stream(self, content: bytes = b"one\ntwo\nthree") -> RereadableStream:
        return RereadableStream(io.BytesIO(content))

    def test_reading_it_whole_does_not_move_the_view(self) -> None:
        stream = self.stream()
        assert stream.read(3) == b"one"
        assert stream.whole().read() == b"one\ntwo\nthree"
        assert stream.read(1) == b"\n"
        assert (stream.readline(), stream.readline(2), stream.read()) == (b"two\n", b"th", b"ree")

    def test_a_body_somebody_has_begun_to_read_is_left_alone(self) -> None:
        request = RequestFactory().post("/", b"abc", content_type="text/plain")
        request.read(1)
        keep_body(request)
        assert payload(request) is None

    def test_a_body_in_memory_is_used(self) -> None:
        request = RequestFactory().post("/", b"abc", content_type="text/plain")
        before = request.body
        assert payload(request) is not None
        assert request.body == before

    def test_a_client_that_stops_sending(self) -> None:
        from django.http import UnreadablePostError

        class Broken(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                raise OSError("connection reset")

        request = RequestFactory().post("/", b"", content_type="text/plain")
        request._stream = Broken()  # type: ignore[attr-defined]
        with pytest.raises(UnreadablePostError):
            payload(request)


def parsed(request: HttpRequest) -> Any:
    """The payload after Django has parsed the form, as the CSRF check makes it do."""
    assert request.POST is not None
    return payload(request)


def test_a_parsed_form_is_the_same_payload_as_its_bytes() -> None:
    factory = RequestFactory()

    def upload(**extra: str) -> HttpRequest:
        file = SimpleUploadedFile("p.jpg", b"\x00\xff", "image/jpeg")
        return factory.post("/", {"note": "n", "photo": file, **extra})

    assert parsed(upload()) == payload(upload())
    assert parsed(upload(csrfmiddlewaretoken="a")) == payload(upload())
    request = upload()
    payload(request)
    assert request.FILES["photo"].read() == b"\x00\xff"


def test_forms_are_compared_by_fields() -> None:
    def form(*fields: tuple[str, str]) -> Any:
        return payload(
            RequestFactory().post(
                "/", urlencode(fields), content_type="application/x-www-form-urlencoded"
            )
        )

    assert form(("a", "1"), ("b", "2")) == form(("b", "2"), ("a", "1"))
    assert form(("a", "1"), ("a", "2")) != form(("a", "2"), ("a", "1"))
    assert form(("a", "1"), ("csrfmiddlewaretoken", "x")) == form(("a", "1"))
    assert form(("a", "1b"), ("c", "")) != form(("a", "1"), ("bc", ""))


def test_forms_too_large_to_parse_are_compared_byte_by_byte(settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 1
    for content in (multipart("b", note="n" * 20), {"data": "a=" + "1" * 20}, {"data": "a=1&b=2"}):
        content.setdefault("content_type", "application/x-www-form-urlencoded")
        found = payload(RequestFactory().post("/", **content))
        assert found is not None
        assert found.kind == "raw"


def test_large_json_is_compared_byte_by_byte() -> None:
    document = json.dumps({"blob": "x" * (2 * MIB)})
    found = payload(RequestFactory().post("/", document, content_type="application/json"))
    assert found is not None
    assert found.kind == "raw"
