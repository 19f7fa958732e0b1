"""Which requests are guarded, whose keys they are, and what a key may look like."""

import uuid

import pytest

from example_project.demo.client import Answer, Client
from example_project.demo.stage import LEDGER, MARKER, ORDERS, PUBLIC_MACHINES, new_key
from tests.contracts.operations import EVERY, A, B, C, Case, D, E
from tests.contracts.statements import states

pytestmark = pytest.mark.processes


@states("endpoints", "Every named endpoint runs a retry once", *EVERY)
def test_a_retry_does_not_run(case):
    before = case.count()
    assert [case.post().status for _ in range(3)] == [201, 201, 201]
    assert case.count() == before + 1


def sent_twice(case: Case, row: str, key: str, *requests: tuple[str, object]) -> None:
    """Send requests for a row, each under a key of its own, and again as a retry."""
    for method, data in requests:
        first, again = (case.client.send(method, row, data, f"{key}{method}") for _ in range(2))
        assert first.status < 300
        assert case.replays(first, again), method


@states("endpoints", "Every write under /api/public/v1/: POST, PUT, PATCH, DELETE", *B)
def test_every_write_of_the_public_api_is_guarded(case):
    row = f"{PUBLIC_MACHINES}/{case.post().json['id']}"
    requests = ("PUT", case.other), ("PATCH", {"name": "db-9"}), ("DELETE", None)
    sent_twice(case, row, case.key, *requests)
    assert case.client.get(row).status in {404, 405}


@states("endpoints", "POST, PATCH, PUT and DELETE", *C)
def test_every_write_of_the_ledger_is_guarded(case):
    row = f"{LEDGER}/{case.post().json['id']}"
    requests = ("PUT", case.other), ("PATCH", {"reason": "raid"}), ("DELETE", None)
    sent_twice(case, row, case.key, *requests)
    assert case.client.get(row).status == 404


@states("ignores", "GET and HEAD: the key means nothing and is not used up", *B, *C)
def test_reading_ignores_the_key(case):
    path = case.rows or case.path
    for method in ("GET", "HEAD"):
        answer = case.client.send(method, path, key=case.key)
        assert (answer.status, answer.headers[case.marker]) == (200, None)
    before = len(case.client.send("GET", path, key=case.key).json)
    assert case.runs(case.post())
    assert len(case.client.send("GET", path, key=case.key).json) == before + 1


@states("ignores", "A binary download is out of scope: it is made again", *B)
def test_a_download_is_made_again(case):
    path = f"{PUBLIC_MACHINES}/{case.post().json['id']}/backup"
    key = new_key()
    answers = [case.client.send("POST", path, key=key) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].headers["Content-Type"] == "application/octet-stream"
    assert answers[0].body != answers[1].body
    assert answers[1].headers[case.marker] is None


@states("ignores", "Every method but POST runs each time", *E)
def test_every_method_but_post_runs_each_time(case):
    first = case.post()
    row = f"{case.path}/{first.json['transactionId']}"
    for method, amount in (("PATCH", 1), ("PATCH", 2), ("PUT", 3), ("PUT", 4)):
        changed = case.client.send(method, row, case.data | {"amount": amount}, case.key)
        assert (changed.status, changed.json["amount"]) == (200, amount)
        assert changed.headers[case.marker] is None
    assert case.client.send("GET", row, key=case.key).json["amount"] == 4
    assert case.replays(first, case.post())


@states("auth, scope", "A credential that is not valid gets 401 and no replay", *EVERY)
def test_a_wrong_credential_gets_no_replay(case):
    case.post()
    (name, credential), *others = case.client.headers.items()
    assert others == []
    refused = Client(case.client.address, {name: credential[:-8]}).post(
        case.path, case.data, case.key
    )
    assert (refused.status, refused.headers[case.marker]) == (401, None)


@states("auth, scope", "Another account is another caller", *A, "D-cvms", *E)
def test_another_account_is_another_caller(case, stranger):
    assert_are_strangers(case, stranger)


@states("auth, scope", "Another token of the same account is another caller", *B, *C)
def test_another_token_is_another_caller(case, stranger):
    assert_are_strangers(case, stranger)


def assert_are_strangers(case: Case, stranger: Case) -> None:
    first, other = case.post(), stranger.post()
    assert case.runs(other)
    assert other.body != first.body
    assert case.replays(first, case.post())


@states("auth, scope", "The scope is the account: its next token finds the key", "A-orders")
def test_a_rotated_token_finds_its_keys(case):
    (carol,) = case.shop.example.accounts("carol")

    def order(token: str) -> Answer:
        return case.shop.example.bearer(token).post(ORDERS, case.data, case.key)

    first = order(carol["token"])
    printed = case.shop.example.manage("drf_create_token", "--reset", "carol")
    refused = order(carol["token"])
    assert (refused.status, refused.headers[MARKER]) == (401, None)
    assert case.replays(first, order(printed.split()[2]))


@states("auth, scope", "The same key at another endpoint is another operation", "D-replicas")
def test_a_key_belongs_to_its_endpoint(case):
    first = case.post()
    app, cvm = first.json["app_id"], {"app_id": first.json["app_id"]}
    elsewhere = case.client.post("/cvms", cvm, case.key)
    other_row = f"/apps/{app}/cvms/{elsewhere.json['vm_uuid']}/replicas"
    other = case.client.post(other_row, case.data, case.key)
    assert case.runs(elsewhere)
    assert case.runs(other)
    assert len({answer.json["vm_uuid"] for answer in (first, elsewhere, other)}) == 3


@states("key", "The field is `Idempotency-Key`, in upper or lower case", *A)
def test_the_name_of_the_field_ignores_case(case):
    first = case.post()
    headers = {**case.client.headers, "IDEMPOTENCY-KEY": case.key}
    again = Client(case.client.address, headers).post(case.path, case.data)
    assert case.replays(first, again)


@states("key", "1 to 255 printable ASCII", *B)
def test_a_key_is_1_to_255_printable_ascii(case):
    quoted = '"' + new_key() + '", a; b=?1 {~}'
    for key in (quoted, case.key.ljust(255, "~"), uuid.uuid4().hex[:1]):
        first = case.post(key=key)
        assert first.status == 201
        assert case.post(key=key).body == first.body
    for key in (case.key.ljust(256, "~"), "ключ".encode().decode("latin-1"), " "):
        assert_invalid(case, key)


@states("key", "At most 128 characters", *C)
def test_a_key_has_at_most_128_characters(case):
    longest = case.key.ljust(128, "x")
    assert case.runs(case.post(key=longest))
    assert_invalid(case, f"{longest}x")


def assert_invalid(case: Case, key: str) -> None:
    before = case.count()
    refused = case.post(key=key)
    assert (refused.status, refused.json["code"]) == (400, "idempotency_key_invalid")
    assert case.count() == before


@states("key", "The header is optional: without it every request runs", *D)
def test_without_a_key_every_request_runs(case):
    before = case.count()
    answers = [case.client.post(case.path, case.data) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    assert case.count() == before + 2


@states("key", "A UUIDv4 is recommended, in the draft's spelling or bare; others work, too", *E)
def test_a_uuid_is_recommended(case):
    for key in (case.key, f"invoice-7/{uuid.uuid4().hex}"):
        first = case.post(key=f'"{key}"')
        assert case.runs(first)
        assert case.replays(first, case.post(key=key))


@states("extra", "The id of an upstream event may serve as key", *C)
def test_an_event_id_may_serve_as_key(case):
    before = case.count()
    for key in ("evt_1OiPZ2LkdIwHu7ixRaeFdGhi", f"urn:uuid:{case.key}", "orders/42#paid@v2"):
        event = case.data | {"reason": key}
        first = case.post(event, key)
        assert case.replays(first, case.post(event, key))
    assert case.count() == before + 3
