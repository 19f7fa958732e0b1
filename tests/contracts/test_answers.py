"""What a retry gets, and which answers are kept."""

import json
import re

import pytest

from example_project.demo.client import Client
from example_project.demo.stage import LEDGER
from tests.contracts.operations import EVERY, A, B, C, Case, D, E, replicas
from tests.contracts.statements import states

pytestmark = pytest.mark.processes


@states("replay", "A retry gets the original response: status, body and type", *EVERY)
def test_a_retry_gets_the_original_response(case):
    first = case.post()
    assert case.runs(first)
    assert case.replays(first, case.post())
    assert case.replays(first, case.post())


@states("replay", "The response holds order and virtual_machine together", "A-machines")
def test_order_and_machine_come_together(case):
    first, again = case.post(), case.post()
    assert set(first.json) == {"order", "virtual_machine"}
    assert first.json["order"]["item"] == case.data["plan"]
    assert first.json["virtual_machine"]["address"] is not None
    assert again.json == first.json
    assert case.client.get("/api/billing/v1/orders").json[-1] == first.json["order"]


def assert_marked(case: Case, marker: str) -> None:
    first, again = case.post(), case.post()
    assert (first.headers[marker], again.headers[marker]) == (None, "true")


@states("replay", "Only a replay carries `Idempotency-Replayed: true`", *B)
def test_a_replay_says_replayed(case):
    assert_marked(case, "Idempotency-Replayed")


@states("replay", "Only a replay carries `Idempotent-Replay: true`", *C)
def test_a_replay_says_replay(case):
    assert_marked(case, "Idempotent-Replay")


@states("other body", "Another body is refused with 409", *A, *C)
def test_another_body_is_a_conflict(case):
    assert case.mismatch == 409
    assert_refuses_another_body(case)


@states("other body", "Another body is refused with 422", *D, *E)
def test_another_body_cannot_be_processed(case):
    assert case.mismatch == 422
    assert_refuses_another_body(case)


def assert_refuses_another_body(case: Case) -> None:
    first, before = case.post(), case.count()
    other = case.post(case.other)
    assert (other.status, other.json["code"]) == (case.mismatch, "idempotency_key_reused")
    assert other.json["retryable"] is False
    assert case.replays(first, case.post())
    assert case.count() == before


@states("other body", "Bodies are not compared: the original is returned", *B)
def test_another_body_gets_the_original(case):
    first, before = case.post(), case.count()
    assert case.replays(first, case.post(case.other))
    assert case.count() == before


@states("other body", "Method, path and body are compared; the spelling of JSON is not", *C)
def test_method_path_and_body_are_compared(case):
    row = f"{LEDGER}/{case.post().json['id']}"
    key = f"{case.key}-put"
    put = case.client.send("PUT", row, case.data, key)
    reordered = dict(reversed(case.data.items()))
    assert json.dumps(reordered) != json.dumps(case.data)
    assert case.replays(put, case.client.send("PUT", row, reordered, key))
    others = [("PATCH", row, case.data), ("POST", case.path, case.data), ("PUT", row, case.other)]
    for other in others:
        refused = case.client.send(*other, key)
        assert (refused.status, refused.json["code"]) == (409, "idempotency_key_reused")


def assert_runs_after(case: Case, *statuses: int) -> None:
    """Refuse with each status: its retry runs as soon as nothing is refused."""
    before = case.count()
    for status in statuses:
        key = f"{case.key}-{status}"
        with case.shop.refusal(status):
            refused = [case.post(key=key) for _ in range(2)]
        assert [(answer.status, answer.headers[case.marker]) for answer in refused] == [
            (status, None)
        ] * 2
        first = case.post(key=key)
        assert case.runs(first)
        assert case.replays(first, case.post(key=key))
    assert case.count() == before + len(statuses)


def assert_replays(case: Case, *statuses: int) -> None:
    """Refuse with each status: its retry gets the refusal, although it would be carried out."""
    before = case.count()
    for status in statuses:
        key = f"{case.key}-{status}"
        with case.shop.refusal(status):
            refused = case.post(key=key)
        assert refused.status == status
        assert case.replays(refused, case.post(key=key))
    assert case.count() == before


@states("stored", "Success only: what was refused runs again", *A)
def test_a_refused_purchase_runs_again(case):
    assert_runs_after(case, 400, 402, 404, 409, 422, 500, 503)


@states("stored", "Not 5xx: their retry runs", *B, *C)
def test_a_server_error_is_not_stored(case):
    assert_runs_after(case, 500, 502, 503)


@states("stored", "4xx, like success", *B, *C)
def test_a_refusal_is_stored(case):
    assert_replays(case, 400, 402, 404, 409, 422, 429)


@states("stored", "Not 409, 429 and 503, which are retryable", *D)
def test_not_now_is_not_stored(case):
    assert_runs_after(case, 409, 429, 503)


@states("stored", "A full app's 409 is retryable: when there is room, the retry runs", "D-replicas")
def test_a_full_app_is_not_stored(shop, operation):
    case = replicas(shop, 0, limit=0)
    assert case.post().json["detail"].startswith("The app has as many replicas")
    app = case.path.split("/")[2]
    shop.shell(
        f"from cloud.models import App; App.objects.filter(pk={app}).update(replica_limit=1)"
    )
    first = case.post()
    assert case.runs(first)
    assert case.replays(first, case.post())


@states("stored", "The result of the operation, also when it is a refusal", *E)
def test_a_declined_payment_is_stored(case):
    assert_replays(case, 402, 400)


@states("extra", "Published: retention, endpoints, scope, behaviour in flight", *A)
def test_the_rules_are_published(case):
    case.post()
    refused = case.post(case.other)
    [where] = re.findall(r'<(.*)>; rel="describedby"', refused.headers["Link"])
    page = Client(case.client.address).get(where).body.decode()
    assert f"<code>POST {case.path}</code>" in page
    assert f'id="{refused.json["code"]}"' in page
    published = dict(re.findall("<dt>(.*)<dd>(.*)", page))
    assert published["Header"].startswith("<code>Idempotency-Key</code>")
    assert published["Keys belong to"].startswith("the authenticated caller")
    assert int(published["Responses are kept for"].split()[0]) * 60 == case.shop.kept(case.key)
    assert published["While the first runs"] == "a retry gets 409."
    assert f"gets {refused.status}." in published["Another request"]


@states("extra", "The response names the resource: app_id and vm_uuid", *D)
def test_the_response_names_the_resource(case):
    first = case.post()
    assert first.json == case.post().json
    assert first.json in case.client.get(case.path).json
    app = case.data.get("app_id") or int(case.path.split("/")[2])
    assert first.json["app_id"] == app
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", first.json["vm_uuid"])


@states("store outage", "While records cannot be kept, requests are let through", *B)
def test_an_outage_lets_requests_through(case):
    with case.shop.no_records():
        answers = [case.post() for _ in range(2)]
    assert [case.runs(answer) for answer in answers] == [True, True]
    assert [answer.headers["Idempotency-Unprotected"] for answer in answers] == ["true"] * 2
    assert case.count() >= 2
    first = case.post()
    assert case.runs(first)
    assert case.replays(first, case.post())
