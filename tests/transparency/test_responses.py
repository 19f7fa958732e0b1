"""I15: what clients get: pages, headers, cookies, and what CSRF and login refuse."""

import gzip
import re
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.middleware.csrf import get_token
from django.test import Client, RequestFactory

from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE, few_adapters
from tests.transparency.project import CREDENTIALS, MARKER, own_adapters


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
    @own_adapters
    @pytest.mark.parametrize(
        "name", ["binary", "latin", "empty", "untyped", "conflict", "redirect", "missing"]
    )
    def test_the_first_is_the_bare_one_and_the_replay_is_the_first(
        self, adapter: str, name: str, caller: Caller, bare: Any
    ) -> None:
        expected = bare(adapter + name)
        first, retry = caller.post(adapter + name), caller.post(adapter + name)
        assert retry[MARKER] == "true"
        del retry[MARKER]
        for each in (first, retry):
            assert each.status_code == expected.status_code
            assert each.content == expected.content
            assert dict(each.headers) == dict(expected.headers)

    @own_adapters
    def test_a_replayed_redirect_can_be_followed(self, adapter: str, caller: Caller) -> None:
        assert caller.post(f"{adapter}redirect").url == "/admin/"
        assert caller.post(f"{adapter}redirect").url == "/admin/"

    def test_other_replays_have_no_url(self, use_middleware: None, caller: Caller) -> None:
        for _ in range(2):
            assert not hasattr(caller.post("/plain/binary"), "url")

    @own_adapters
    def test_credentials_and_hop_by_hop_headers_are_for_the_first_client_only(
        self, adapter: str, caller: Caller, settings: Any
    ) -> None:
        """I10."""
        settings.IDEMPOTENCY = {"EXCLUDED_HEADERS": ["X-Secret"]}
        first, retry = (caller.post(f"{adapter}cookies", key="k-2") for _ in range(2))
        assert first.cookies["session"].value == "secret"
        assert (first["X-Secret"], first["X-Own"]) == ("one time", "kept")
        assert (retry.content, retry[MARKER], retry["X-Own"]) == (first.content, "true", "kept")
        assert not retry.cookies
        assert not {"X-Secret", *CREDENTIALS} & set(retry.headers)
        assert {first[name] for name in CREDENTIALS} == {"secret"}

        first, retry = caller.post(f"{adapter}headers"), caller.post(f"{adapter}headers")
        assert first["Connection"] == "of this connection"
        assert "of this connection" not in retry.headers.values()
        assert (retry["Location"], retry["ETag"]) == ("/a", '"1"')
        stored = IdempotencyRecord.objects.values_list("response_headers", flat=True)
        assert not re.search("secret|one time|of this connection", " ".join(stored))

    @own_adapters
    @pytest.mark.parametrize("name", ["stream", "file", "large"])
    def test_what_cannot_be_stored_is_sent_once(
        self, adapter: str, name: str, caller: Caller, settings: Any
    ) -> None:
        """A stream is sent once."""
        settings.IDEMPOTENCY = {"MAX_RESPONSE_SIZE": 6}
        first = caller.post(adapter + name)
        assert (first.status_code, first.getvalue()) == (201, b"one,two")
        for _ in range(2):
            retry = caller.post(adapter + name)
            assert (retry.status_code, MARKER in retry) == (409, False)
            assert retry.json()["code"] == "idempotency_response_unavailable"
            assert retry.json()["retryable"] is False
        assert Order.objects.count() == 1

    @own_adapters
    def test_a_session_is_saved_as_before(self, adapter: str, caller: Caller) -> None:
        session = caller._client.session
        for key, visits in (("k-1", 1), ("k-1", 1), ("k-2", 2)):
            assert caller.post(f"{adapter}session", key=key).json() == {"visits": visits}
        assert caller._client.session["visits"] == 2
        assert caller._client.session.session_key == session.session_key

    @few_adapters
    def test_are_compressed_for_those_who_ask(
        self, adapter: str, caller: Caller, settings: Any
    ) -> None:
        names = ("django.middleware.gzip.GZipMiddleware",)
        names += ("django.middleware.http.ConditionalGetMiddleware",)
        settings.MIDDLEWARE = [*names, *settings.MIDDLEWARE]
        data, asking = {"item": "x" * 200}, {"headers": {"accept-encoding": "gzip"}}
        first, retry = caller.post(adapter, data, **asking), caller.post(adapter, data, **asking)
        plain = caller.post(adapter, data)
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
