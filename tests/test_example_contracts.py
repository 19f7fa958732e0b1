"""Five contracts and a plain view, as their clients meet them: over HTTP, on real processes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from example_project.demo.client import Answer, Client
from example_project.demo.server import Account, Example
from example_project.demo.stage import (
    ADJUST,
    LEDGER,
    MACHINE,
    MACHINES,
    MARKER,
    ORDERS,
    PAYMENT,
    PAYMENTS,
    PUBLIC_MACHINE,
    PUBLIC_MACHINES,
    TICKETS,
    at_once,
    new_key,
)

pytestmark = pytest.mark.processes


@dataclass(frozen=True)
class Shop:
    """The running example, two accounts, and the ways they show who they are."""

    example: Example
    alice: Account
    bob: Account

    def customers(self) -> tuple[Client, Client]:
        return self.example.bearer(self.alice["token"]), self.example.bearer(self.bob["token"])

    def api_keys(self) -> tuple[Client, Client]:
        """Two tokens of one account."""
        one, two = self.alice["api_keys"]
        return self.example.api_key(one), self.example.api_key(two)

    def bearer_keys(self) -> tuple[Client, Client]:
        one, two = self.alice["api_keys"]
        return self.example.bearer(one), self.example.bearer(two)

    def merchants(self) -> tuple[Client, Client]:
        return self.example.merchant(self.alice), self.example.merchant(self.bob)

    def browsers(self) -> tuple[Client, Client]:
        return self.example.browser(self.alice), self.example.browser(self.bob)

    def app(self, replica_limit: int = 3) -> int:
        data = {"name": "inference", "replica_limit": replica_limit}
        return self.customers()[0].post("/apps", data).json["id"]

    def replicas(self, replica_limit: int = 3) -> str:
        """A new machine; returns where its replicas are made."""
        app = self.app(replica_limit)
        cvm = self.customers()[0].post("/cvms", {"app_id": app}).json["vm_uuid"]
        return f"/apps/{app}/cvms/{cvm}/replicas"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    with Example(tmp_path_factory.mktemp("example")) as example:
        yield Shop(example, *example.accounts("alice", "bob"))


@dataclass(frozen=True)
class Contract:
    """What one endpoint promises.

    :ivar callers: one, and another who has keys of its own
    :ivar change: what makes another body
    :ivar mismatch: status for another body; ``None`` if bodies are not compared
    :ivar rows: where the effects are listed, if not where they are made
    """

    path: str
    data: dict[str, Any]
    change: dict[str, Any]
    callers: Callable[[Shop], tuple[Client, Client]] = Shop.customers
    mismatch: int | None = 422
    marker: str = MARKER
    rows: str = ""

    def count(self, client: Client) -> int:
        return len(client.get(self.rows or self.path).json)


CONTRACTS = {
    "A-machines": Contract(
        MACHINES,
        MACHINE,
        {"region": "ams"},
        mismatch=409,
    ),
    "A-orders": Contract(ORDERS, {"item": "domain"}, {"quantity": 2}, mismatch=409),
    "B": Contract(
        PUBLIC_MACHINES,
        PUBLIC_MACHINE,
        {"name": "db-2"},
        callers=Shop.api_keys,
        mismatch=None,
    ),
    "C": Contract(
        ADJUST,
        {"user_id": "player", "delta": 10, "reason": "quest"},
        {"delta": 20},
        callers=Shop.bearer_keys,
        mismatch=409,
        marker="Idempotent-Replay",
        rows=LEDGER,
    ),
    "E": Contract(
        PAYMENTS,
        PAYMENT,
        {"amount": 1},
        callers=Shop.merchants,
    ),
    "plain": Contract(TICKETS, {"subject": "Help"}, {"subject": "Thanks"}, callers=Shop.browsers),
}


@pytest.fixture(params=CONTRACTS.values(), ids=CONTRACTS.keys())
def contract(request):
    return request.param


def is_replay_of(first: Answer, again: Answer, marker: str = MARKER) -> bool:
    same = (again.status, again.body) == (first.status, first.body)
    typed = again.headers["Content-Type"] == first.headers["Content-Type"]
    return same and typed and again.headers[marker] == "true" and first.headers[marker] is None


def test_a_retry_is_a_replay_of_the_first_request(shop, contract):
    client, _ = contract.callers(shop)
    key, before = new_key(), contract.count(client)
    first = client.post(contract.path, contract.data, key)
    again = client.post(contract.path, contract.data, key)
    assert first.status == 201
    assert is_replay_of(first, again, contract.marker)
    assert contract.count(client) == before + 1


def test_another_body_is_treated_as_the_contract_says(shop, contract):
    client, _ = contract.callers(shop)
    key, changed = new_key(), {**contract.data, **contract.change}
    first = client.post(contract.path, contract.data, key)
    before = contract.count(client)
    other = client.post(contract.path, changed, key)
    if contract.mismatch is None:
        assert is_replay_of(first, other)
    else:
        assert other.status == contract.mismatch
        assert other.json["code"] == "idempotency_key_reused"
    assert is_replay_of(first, client.post(contract.path, contract.data, key), contract.marker)
    assert contract.count(client) == before


def test_the_same_key_of_another_caller_is_another_operation(shop, contract):
    client, stranger = contract.callers(shop)
    key = new_key()
    first = client.post(contract.path, contract.data, key)
    other = stranger.post(contract.path, contract.data, key)
    assert other.status == 201
    assert other.headers[contract.marker] is None
    assert other.body != first.body


def test_without_a_key_every_request_runs(shop, contract):
    client, _ = contract.callers(shop)
    before = contract.count(client)
    answers = [client.post(contract.path, contract.data) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    assert contract.count(client) == before + 2


def test_a_purchase_answers_with_order_and_machine(shop):
    client, _ = shop.customers()
    answer = client.post(MACHINES, MACHINE, new_key()).json
    assert answer["order"]["item"] == "kvm-2"
    assert answer["virtual_machine"]["address"] is not None


@pytest.mark.parametrize(("name", "stored"), [("A-orders", False), ("B", True), ("C", True)])
def test_a_refusal_is_stored_where_the_contract_says_so(shop, name, stored):
    contract = CONTRACTS[name]
    client, _ = contract.callers(shop)
    key, before = new_key(), contract.count(client)
    refused = [client.post(contract.path, {}, key) for _ in range(2)]
    assert [answer.status for answer in refused] == [400, 400]
    assert refused[1].headers[contract.marker] == ("true" if stored else None)
    assert contract.count(client) == before


def test_a_revoked_token_gets_401_and_its_successor_the_replay(shop):
    (carol,) = shop.example.accounts("carol")
    order, key = {"item": "backup"}, new_key()
    first = shop.example.bearer(carol["token"]).post(ORDERS, order, key)
    printed = shop.example.manage("drf_create_token", "--reset", "carol")
    refused = shop.example.bearer(carol["token"]).post(ORDERS, order, key)
    again = shop.example.bearer(printed.split()[2]).post(ORDERS, order, key)
    assert (refused.status, refused.headers[MARKER]) == (401, None)
    assert is_replay_of(first, again)


def test_b_guards_every_write(shop):
    client, _ = shop.api_keys()
    machine = f"{PUBLIC_MACHINES}/{client.post(PUBLIC_MACHINES, PUBLIC_MACHINE).json['id']}"
    key = new_key()
    renamed = client.send("PATCH", machine, {"name": "db-9"}, key)
    assert renamed.json["name"] == "db-9"
    assert is_replay_of(renamed, client.send("PATCH", machine, {"name": "db-8"}, key))
    key = new_key()
    deleted = client.send("DELETE", machine, key=key)
    replayed = client.send("DELETE", machine, key=key)
    assert (deleted.status, replayed.status) == (204, 204)
    assert replayed.headers[MARKER] == "true"


@pytest.mark.parametrize(
    ("name", "longest"), [("B", 255), ("C", 128), ("E", 255)], ids=["B", "C", "E"]
)
def test_a_key_has_a_longest_length(shop, name, longest):
    contract = CONTRACTS[name]
    client, _ = contract.callers(shop)
    before = contract.count(client)
    key = new_key().ljust(longest, "x")
    assert client.post(contract.path, contract.data, key).status == 201
    refused = client.post(contract.path, contract.data, key + "x")
    assert (refused.status, refused.json["code"]) == (400, "idempotency_key_invalid")
    assert contract.count(client) == before + 1


def test_c_spends_no_balance_twice(shop):
    client, _ = shop.bearer_keys()
    player = new_key()
    client.post(ADJUST, {"user_id": player, "delta": 50, "reason": "top-up"}, new_key())
    spend, key = {"user_id": player, "delta": -50, "reason": "sword"}, new_key()
    balances = [client.post(ADJUST, spend, key).json["balance"] for _ in range(2)]
    assert balances == [0, 0]
    assert client.post(ADJUST, spend, new_key()).status == 400


def test_d_answers_with_the_resource_and_replays_it(shop):
    client, _ = shop.customers()
    path, key = shop.replicas(), new_key()
    first = client.post(path, {}, key)
    assert is_replay_of(first, client.post(path, {}, key))
    _, _, app, _, source, _ = path.split("/")
    assert first.json["app_id"] == int(app)
    assert client.get(path).json == [first.json]
    assert first.json["replica_of"] == source


def test_d_refuses_another_body(shop):
    client, _ = shop.customers()
    key = new_key()
    first = client.post("/cvms", {"app_id": shop.app()}, key)
    other = client.post("/cvms", {"app_id": shop.app()}, key)
    assert first.status == 201
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")


def test_d_keeps_the_keys_of_two_endpoints_apart(shop):
    client, _ = shop.customers()
    paths, key = [shop.replicas(), shop.replicas()], new_key()
    answers = [client.post(path, {}, key) for path in paths]
    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].json["app_id"] != answers[1].json["app_id"]


def test_d_does_not_overshoot_under_simultaneous_duplicates(shop):
    client, _ = shop.customers()
    path = shop.replicas()
    answers = at_once(6, client, path, {}, new_key(), sent=lambda: None)
    assert {answer.status for answer in answers} <= {201, 409}
    assert len({answer.body for answer in answers if answer.status == 201}) == 1
    assert len(client.get(path).json) == 1


def test_d_does_not_store_not_now(shop):
    client, _ = shop.customers()
    path, key = shop.replicas(replica_limit=0), new_key()
    assert client.post(path, {}, key).status == 409
    shop.example.manage(
        "shell",
        "--command",
        f"from cloud.models import App; App.objects.filter(pk={path.split('/')[2]})"
        ".update(replica_limit=1)",
    )
    assert client.post(path, {}, key).status == 201
    assert len(client.get(path).json) == 1


@pytest.mark.parametrize(("name", "minutes"), [("B", 24 * 60), ("C", 24 * 60), ("E", 60)])
def test_a_record_is_kept_from_its_completion_on(shop, name, minutes):
    contract, key = CONTRACTS[name], new_key()
    contract.callers(shop)[0].post(contract.path, contract.data, key)
    kept = shop.example.manage(
        "shell",
        "--verbosity",
        "0",
        "--command",
        "from django_idempotency.models import IdempotencyRecord;"
        f"record = IdempotencyRecord.objects.get(key={key!r});"
        "print(round((record.expires_at - record.completed_at).total_seconds() / 60))",
    )
    assert int(kept) == minutes


def test_e_takes_quoted_and_bare_keys_for_equal(shop):
    merchant, _ = shop.merchants()
    key = new_key()
    first = merchant.post(PAYMENTS, PAYMENT, f'"{key}"')
    assert is_replay_of(first, merchant.post(PAYMENTS, PAYMENT, key))


@pytest.mark.parametrize(("header", "status"), [("X-CSRFToken", 403), ("Cookie", 302)])
def test_the_plain_view_replays_nothing_to_who_fails_its_checks(shop, header, status):
    browser, _ = shop.browsers()
    ticket, key = {"subject": "Lost"}, new_key()
    assert browser.post(TICKETS, ticket, key).status == 201
    headers = {name: value for name, value in browser.headers.items() if name != header}
    if header == "Cookie":
        # Logged out, but past the CSRF check.
        token = browser.headers["X-CSRFToken"]
        headers["Cookie"] = f"csrftoken={token}"
    refused = Client(browser.address, headers).post(TICKETS, ticket, key)
    assert refused.status == status
    assert refused.headers[MARKER] is None
