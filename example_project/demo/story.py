"""The chapters. The first line of each is its title."""

import os
import signal
import time
from collections import Counter
from http.client import HTTPException

from .client import Answer, Client
from .provisioning import Hold
from .stage import (
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
    REPLAY,
    TICKETS,
    Stage,
    at_once,
    compared,
    count,
    error,
    new_key,
)

DUPLICATES = 20
TRIES = 30


def retry(stage: Stage) -> None:
    """A purchase and its retry"""
    client, key = stage.customer(stage.alice), new_key()
    first = client.post(MACHINES, MACHINE, key)
    stage.check(
        "The first request runs",
        "buy a machine under a new key",
        "201 order, virtual_machine",
        f"{first.status} {', '.join(sorted(first.json))}",
    )
    again = client.post(MACHINES, MACHINE, key)
    stage.check("A retry is a replay", "send it again", REPLAY, compared(again, first))
    stage.check("A retry does not run", "count the machines", 1, count(client, MACHINES))


def mismatch(stage: Stage) -> None:
    """The same key with another body"""
    client, key = stage.customer(stage.alice), new_key()
    order = {"item": "backup", "quantity": 1}
    first = client.post(ORDERS, order, key)
    other = client.post(ORDERS, {**order, "quantity": 2}, key)
    stage.check(
        "A mismatch is an error",
        "order another quantity under the same key",
        "409 idempotency_key_reused",
        error(other),
    )
    again = client.post(ORDERS, order, key)
    stage.check("and changes nothing", "send the first order again", REPLAY, compared(again, first))
    merchant, key = stage.example.merchant(stage.alice), new_key()
    merchant.post(PAYMENTS, PAYMENT, key)
    other = merchant.post(PAYMENTS, {**PAYMENT, "amount": 1}, key)
    stage.check(
        "Each view has its own policy",
        "pay another amount under the same key",
        "422 idempotency_key_reused",
        error(other),
    )


def scopes(stage: Stage) -> None:
    """Whose key it is"""
    alice, bob, key = stage.customer(stage.alice), stage.customer(stage.bob), new_key()
    order = {"item": "domain"}
    first, other = (client.post(ORDERS, order, key) for client in (alice, bob))
    stage.check(
        "Keys of two accounts are two keys",
        "another account sends the same request and key",
        "201, other bytes, no marker",
        compared(other, first),
    )
    one, two = (stage.example.api_key(each) for each in stage.bob["api_keys"])
    first = one.post(PUBLIC_MACHINES, PUBLIC_MACHINE, key)
    other = two.post(PUBLIC_MACHINES, PUBLIC_MACHINE, key)
    stage.check(
        "A policy can tell tokens apart",
        "another token of the same account sends the key",
        "201, other bytes, no marker",
        compared(other, first),
    )
    again = one.post(PUBLIC_MACHINES, {**PUBLIC_MACHINE, "name": "db-2"}, key)
    stage.check(
        "A policy can ignore the body", "the first token changes it", REPLAY, compared(again, first)
    )


def refusal(stage: Stage) -> None:
    """A refusal is a result, too"""
    game, key = stage.example.bearer(stage.alice["api_keys"][0]), new_key()
    spend = {"user_id": "player-1", "delta": -50, "reason": "sword"}
    first = game.post(ADJUST, spend, key)
    game.post(ADJUST, {"user_id": "player-1", "delta": 80, "reason": "top-up"}, new_key())
    again = game.post(ADJUST, spend, key)
    stage.check(
        "A stored 4xx is replayed",
        "spend too much, top up, retry the spending",
        "400, same bytes, Idempotent-Replay",
        compared(again, first, "Idempotent-Replay"),
    )
    stage.check("and its writes are undone", "count the ledger entries", 1, count(game, LEDGER))


def plain_view(stage: Stage) -> None:
    """A plain Django view that knows nothing of all this"""
    browser, key = stage.example.browser(stage.bob), new_key()
    first = browser.post(TICKETS, {"subject": "Where is my invoice?"}, key)
    again = browser.post(TICKETS, {"subject": "Where is my invoice?"}, key)
    stage.check(
        "The middleware guards every write",
        "send a form twice in a session",
        REPLAY,
        compared(again, first),
    )
    stage.check("A retry does not run", "count the tickets", 1, count(browser, TICKETS))


def duplicates(stage: Stage) -> None:
    """Twenty simultaneous duplicates on four processes"""
    client, key = stage.customer(stage.alice), new_key()
    before = count(client, MACHINES)
    with Hold(stage.example.folder) as hold:

        def all_are_sent() -> None:
            hold.worker()
            hold.release()

        answers = at_once(DUPLICATES, client, MACHINES, MACHINE, key, sent=all_are_sent)
    statuses = Counter(answer.status for answer in answers)
    told = ", ".join(f"{number} x {status}" for status, number in sorted(statuses.items()))
    stage.report.note(f"The answers: {told}. A 409 says that the first one is still running.")
    bought = count(client, MACHINES) - before
    stage.check("At most one execution", f"send {DUPLICATES} duplicates, count machines", 1, bought)
    unexpected = DUPLICATES - statuses[201] - statuses[409]
    stage.check("Nobody meets a server error", "count answers but 201 and 409", 0, unexpected)
    bodies = {answer.body for answer in answers if answer.status == 201}
    stage.check("All successes are one result", "compare the bytes of every 201", 1, len(bodies))


def crash(stage: Stage) -> None:
    """A worker dies between its writes and its answer"""
    client, key = stage.customer(stage.alice), new_key()
    before = count(client, MACHINES)
    with Hold(stage.example.folder) as hold:
        lost = _send_and_kill(stage, client, key, hold)
    stage.check(
        "A crash leaves no answer", "SIGKILL the worker", "connection lost, no answer", lost
    )
    left = count(client, MACHINES) - before
    stage.check("and none of the writes", "count the new machines", 0, left)
    first = _send_until_free(stage, client, key)
    marker = first.headers.get(MARKER, "no marker")
    stage.check(
        "A crash frees the key at once",
        "retry",
        "201, no marker",
        f"{first.status}, {marker}",
    )
    again = client.post(MACHINES, MACHINE, key)
    stage.check("The retry is remembered", "retry once more", REPLAY, compared(again, first))
    left = count(client, MACHINES) - before
    stage.check("If it happened, it is remembered", "count the new machines", 1, left)


def _send_and_kill(stage: Stage, client: Client, key: str, hold: Hold) -> str:
    connection = client.begin("POST", MACHINES, MACHINE, key)
    try:
        process, row = hold.worker()
        stage.report.note(f"Process {process} has written machine {row} and has not answered.")
        os.kill(process, signal.SIGKILL)
        return f"answered {client.end(connection).status}"
    except (HTTPException, ConnectionError):
        return "connection lost, no answer"
    finally:
        connection.close()


def _send_until_free(stage: Stage, client: Client, key: str) -> Answer:
    """A database on the network may need a moment to see that its client died."""
    tries = 1
    while (answer := client.post(MACHINES, MACHINE, key)).status == 409 and tries < TRIES:
        time.sleep(float(answer.headers["Retry-After"]))
        tries += 1
    stage.report.note(f"Retry number {tries} was answered with {answer.status}.")
    return answer


def revocation(stage: Stage) -> None:
    """A revoked token"""
    client, key = stage.customer(stage.bob), new_key()
    first = client.post(MACHINES, MACHINE, key)
    printed = stage.example.manage("drf_create_token", "--reset", stage.bob["name"])
    refused = client.post(MACHINES, MACHINE, key)
    stage.check(
        "Nothing is replayed to strangers",
        "revoke the token, retry with it",
        "401, other bytes, no marker",
        compared(refused, first),
    )
    stage.bob["token"] = printed.split()[2]
    again = stage.customer(stage.bob).post(MACHINES, MACHINE, key)
    stage.check(
        "A key outlives its token", "retry with the new token", REPLAY, compared(again, first)
    )


RECORDS = (
    "from django_idempotency.models import IdempotencyRecord as R; r = R.objects.filter(key={!r})"
)
EXPIRE = (
    RECORDS + "; from django.utils.timezone import now, timedelta; "
    "past = now() - timedelta(minutes=1); print(r.update(expires_at=past, purge_at=past))"
)
COUNT = RECORDS + "; print(r.count())"


def expiry(stage: Stage) -> None:
    """The end of a record"""
    merchant, key = stage.example.merchant(stage.alice), new_key()
    first = merchant.post(PAYMENTS, PAYMENT, key)
    stage.shell(EXPIRE.format(key))
    second = merchant.post(PAYMENTS, PAYMENT, key)
    stage.check(
        "Expired is as good as absent",
        "let the record expire, send again",
        "201, other bytes, no marker",
        compared(second, first),
    )
    stage.shell(EXPIRE.format(key))
    summary = stage.example.manage("purge_idempotency_records")
    stage.report.note(summary)
    lines = len(summary.splitlines())
    stage.check("The purge reports", "run purge_idempotency_records", "1 line", f"{lines} line")
    records = stage.shell(COUNT.format(key))
    stage.check("and removes what expired", "count the records of the key", 0, records)


CHAPTERS = (
    retry,
    mismatch,
    scopes,
    refusal,
    plain_view,
    duplicates,
    crash,
    revocation,
    expiry,
)
