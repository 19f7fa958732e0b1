"""What is on disk: read from the table as it is, without the package's help."""

import json
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.http.responses import REDACTED, NotJson, redacted
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.shop.models import Order
from tests.shop.urls import urlpatterns as shop
from tests.support.adapters import few_adapters

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


def on_disk() -> str:
    """Return every column of every record, as the driver hands it over."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {IdempotencyRecord._meta.db_table}")
        backend = [cell for row in cursor.fetchall() for cell in row]
    raw = [
        bytes(cell) if isinstance(cell, memoryview | bytes) else str(cell).encode()
        for cell in backend
    ]
    return b"\n".join(raw).decode("latin-1")


def issue() -> HttpResponse:
    Order.objects.create(item="token")
    response = JsonResponse(
        {"token": "tok-secret", "card": {"number": "4111-1111", "brand": "visa"}, "id": 7}
    )
    response["X-Api-Token"] = "header-secret"
    response.set_cookie("session", "cookie-secret")
    return response


@csrf_exempt
def plain(request: Any) -> HttpResponse:
    return issue()


class Rest(APIView):
    def post(self, request: Any) -> Response:
        made = issue()
        return Response(json.loads(made.content), headers={"X-Api-Token": "header-secret"})


@csrf_exempt
@idempotent(redacted_fields=["token", "card.number"])
def redacting(request: Any) -> HttpResponse:
    response = issue()
    response["ETag"] = '"7"'
    response["Content-Length"] = str(len(response.content))
    return response


@csrf_exempt
@idempotent(redacted_fields=["token"])
def opaque(request: Any) -> HttpResponse:
    Order.objects.create(item="token")
    return HttpResponse("<p>tok-secret</p>")


@csrf_exempt
@idempotent(store_body=False)
def never(request: Any) -> HttpResponse:
    return issue()


urlpatterns = [
    *shop,
    path("plain/", plain),
    path("api/", Rest.as_view()),
    path("redacting/", redacting),
    path("opaque/", opaque),
    path("never/", never),
]

SECRETS = ("tok-secret", "header-secret", "cookie-secret", "4111-1111")


@pytest.fixture(autouse=True)
def project(settings: Any, use_middleware: None) -> None:
    settings.ROOT_URLCONF = __name__


class TestEncryption:
    @pytest.fixture(autouse=True, params=["fernet", "zlib+fernet"])
    def encrypted(self, request: Any, settings: Any) -> None:
        settings.IDEMPOTENCY = {"CODEC": request.param, "ENCRYPTION_KEYS": [OLD]}

    @pytest.mark.parametrize("address", ["/plain/", "/api/"])
    def test_the_table_holds_no_secret(self, caller: Caller, address: str) -> None:
        """I10, and I6 all the same."""
        first = caller.post(address)
        assert "tok-secret" in first.text
        stored = on_disk()
        assert not [secret for secret in SECRETS if secret in stored]
        assert caller.token.key not in stored
        assert "visa" not in stored
        assert OLD not in stored
        retry = caller.post(address)
        assert retry.content == first.content
        assert retry["X-Api-Token"] == "header-secret"
        assert retry["Idempotency-Replayed"] == "true"
        assert "session" not in retry.cookies

    @few_adapters
    def test_a_lost_key_is_a_clear_error_and_never_a_second_execution(
        self, adapter: str, caller: Caller, settings: Any, caplog: Any
    ) -> None:
        first = caller.post(adapter)
        for keys in ([NEW], []):
            codec = settings.IDEMPOTENCY["CODEC"] if keys else "plain"
            settings.IDEMPOTENCY = {"CODEC": codec, "ENCRYPTION_KEYS": keys}
            lost = caller.post(adapter)
            assert lost.status_code == 409
            assert lost.json()["code"] == "idempotency_response_unavailable"
            assert "its encryption key is not available" in lost.json()["detail"]
            assert lost.json()["retryable"] is False
        assert Order.objects.count() == 1
        assert "cannot be replayed: its encryption key is not available" in caplog.text
        assert caplog.text.count("fernet:") == 2
        settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": [NEW, OLD]}
        assert caller.post(adapter).content == first.content

    def test_a_changed_text_is_a_clear_error(self, caller: Caller) -> None:
        caller.post("/plain/")
        body = bytes(IdempotencyRecord.objects.get().response_body)
        IdempotencyRecord.objects.update(response_body=body[:-9] + b"AAAAAAAA=")
        lost = caller.post("/plain/")
        assert (lost.status_code, Order.objects.count()) == (409, 1)
        assert "it is damaged" in lost.json()["detail"]

    def test_another_callers_response_does_not_open(
        self, caller: Caller, stranger: Caller, settings: Any
    ) -> None:
        """Somebody who can write the table copies a row into his own record and retries."""
        first = caller.post("/plain/", key="k-1")
        stranger.post("/plain/", {"mine": 1}, key="k-2")
        victim, own = IdempotencyRecord.objects.order_by("pk")
        for name in ("response_body", "response_codec", "response_status"):
            setattr(own, name, getattr(victim, name))
        own.save()
        stolen = stranger.post("/plain/", {"mine": 1}, key="k-2")
        assert (stolen.status_code, stolen.json()["code"]) == (
            409,
            "idempotency_response_unavailable",
        )
        assert caller.post("/plain/", key="k-1").content == first.content
        settings.IDEMPOTENCY |= {"ENCRYPTION_KEYS": [NEW, OLD]}
        with pytest.raises(CommandError, match=r"Unreadable, and left as they were: .*: 1"):
            call_command("reencrypt_idempotency_records", verbosity=0)
        assert stranger.post("/plain/", {"mine": 1}, key="k-2").status_code == 409

    def test_nor_under_another_key_or_status_of_its_own(self, caller: Caller) -> None:
        caller.post("/plain/")
        IdempotencyRecord.objects.update(response_status=201)
        assert caller.post("/plain/").status_code == 409
        IdempotencyRecord.objects.update(response_status=200, key="k-2")
        assert caller.post("/plain/", key="k-2").status_code == 409

    def test_the_row_says_which_key(self, caller: Caller, settings: Any) -> None:
        caller.post("/plain/")
        codec, _, key = IdempotencyRecord.objects.get().response_codec.partition(":")
        assert codec == settings.IDEMPOTENCY["CODEC"]
        assert key
        assert key not in OLD

    def test_a_refusal_is_encrypted_too(self, caller: Caller) -> None:
        caller.post("/function/", {"outcome": "422", "item": "tok-secret"})
        assert "tok-secret" not in on_disk()
        assert (
            caller.post("/function/", {"outcome": "422", "item": "tok-secret"}).status_code == 422
        )


@few_adapters
def test_without_keys_nothing_runs(
    adapter: str, caller: Caller, settings: Any, caplog: Any
) -> None:
    """The view's answer could not be stored, so it is not even asked for."""
    settings.IDEMPOTENCY = {"CODEC": "fernet"}
    assert caller.post(adapter).status_code == 500
    assert (Order.objects.count(), IdempotencyRecord.objects.count()) == (0, 0)
    assert 'IDEMPOTENCY["ENCRYPTION_KEYS"] is empty' in caplog.text


def test_compression_alone_hides_nothing_but_replays(caller: Caller, settings: Any) -> None:
    settings.IDEMPOTENCY = {"CODEC": "zlib"}
    first = caller.post("/plain/")
    assert IdempotencyRecord.objects.get().response_codec == "zlib"
    assert caller.post("/plain/").content == first.content


class TestRedaction:
    def test_a_replay_answers_with_the_rest(self, caller: Caller) -> None:
        first = caller.post("/redacting/")
        assert "4111-1111" in first.text
        stored = on_disk()
        assert "tok-secret" not in stored
        assert "4111-1111" not in stored
        retry = caller.post("/redacting/")
        assert retry.json() == {
            "token": REDACTED,
            "card": {"number": REDACTED, "brand": "visa"},
            "id": 7,
        }
        assert "ETag" not in retry
        assert int(retry["Content-Length"]) == len(retry.content)
        assert Order.objects.count() == 1

    def test_a_body_that_cannot_be_looked_into_is_not_stored(self, caller: Caller) -> None:
        assert caller.post("/opaque/").text == "<p>tok-secret</p>"
        assert "tok-secret" not in on_disk()
        retry = caller.post("/opaque/")
        assert (retry.status_code, Order.objects.count()) == (409, 1)
        assert "(secret)" in retry.json()["detail"]

    @pytest.mark.parametrize(
        ("body", "fields", "expected"),
        [
            (
                '{"a": {"token": 1}, "b": [{"token": {"x": 2}}]}',
                ["token"],
                '{"a": {"token": "*"}, "b": [{"token": "*"}]}',
            ),
            (
                '[{"card": [{"number": 1}, {"number": 2}]}]',
                ["card.number"],
                '[{"card": [{"number": "*"}, {"number": "*"}]}]',
            ),
            ('{"number": 1, "card": {"deep": {"number": 2}}}', ["card.number"], None),
            ('{"a": 1,  "b": 2}', ["token", "a.b"], None),
            ('{"token": {"token": 1}, "a": null}', ["token", "a"], '{"token": "*", "a": "*"}'),
            ("7", ["token"], None),
            ("", ["token"], None),
        ],
    )
    def test_names_are_found_anywhere_and_paths_from_the_top(
        self, body: str, fields: list[str], expected: str | None
    ) -> None:
        """Without a hit, the very bytes are kept."""
        raw = body.encode()
        result = redacted(raw, fields)
        if expected is None:
            assert result is raw
        else:
            assert json.loads(result) == json.loads(expected.replace('"*"', f'"{REDACTED}"'))

    @pytest.mark.parametrize(
        "body",
        [b"token=1", b'{"token": 1, "token": 2}', b"[" * 100_000, b"\xff\xfe\xfd", b'{"token'],
        ids=["form", "twice", "deep", "no-text", "cut"],
    )
    def test_in_doubt_nothing_is_kept(self, body: bytes) -> None:
        with pytest.raises(NotJson):
            redacted(body, ["token"])


def test_a_view_can_have_its_body_never_stored(caller: Caller) -> None:
    assert "tok-secret" in caller.post("/never/").text
    stored = on_disk()
    assert not [secret for secret in SECRETS if secret in stored]
    retry = caller.post("/never/")
    assert (retry.status_code, Order.objects.count()) == (409, 1)
    assert retry.json()["code"] == "idempotency_response_unavailable"
