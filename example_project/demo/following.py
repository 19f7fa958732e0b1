"""The chapters about what follows a commit. The first line of each is its title."""

from http.client import HTTPException

from .client import Answer, Client
from .postbox import AFTER, BEFORE, Postbox
from .rehearsal import Crash
from .stage import MACHINES, ORDERS, REPLAY, Stage, compared, count, error, new_key

ORDER = {"item": "backup"}
WORK = "run_idempotent_work"

DUE = (
    "from django_idempotency.effects.models import IdempotencyEffect as E; "
    "from django.utils.timezone import now, timedelta; "
    "print(E.objects.filter(state='pending').update(due_at=now() - timedelta(minutes=1)))"
)
"""What has been left is tried again after a while; the demo does not wait for it."""


def receipt(stage: Stage) -> None:
    """An order and its receipt, a mail"""
    client, key, postbox = stage.customer(stage.alice), new_key(), Postbox(stage.example.folder)
    first = client.post(ORDERS, ORDER, key)
    mails = postbox.mails(first.json["id"])
    stage.check("An effect follows the commit", "order, count the receipts", 1, len(mails))
    again = client.post(ORDERS, ORDER, key)
    stage.check("A replay is a replay", "send it again", REPLAY, compared(again, first))
    mails = postbox.mails(first.json["id"])
    stage.check("and has no effect", "count the receipts", 1, len(mails))


def outage(stage: Stage) -> None:
    """The mail server is down"""
    client, key, postbox = stage.customer(stage.alice), new_key(), Postbox(stage.example.folder)
    with postbox:
        first = client.post(ORDERS, ORDER, key)
    stage.check(
        "A failing effect does not change the answer",
        "order while the mail server is down",
        201,
        first.status,
    )
    order = first.json["id"]
    stage.check("It is kept", "count the receipts", 0, len(postbox.mails(order)))
    _work_later(stage)
    stage.check("and runs later", f"run {WORK}", 1, len(postbox.mails(order)))


def crash_after_commit(stage: Stage) -> None:
    """A worker dies between the commit and the mail"""
    client, key, postbox = stage.customer(stage.alice), new_key(), Postbox(stage.example.folder)
    before = count(client, ORDERS)
    stage.check(
        "A crash leaves no answer",
        "order, SIGKILL the worker after the commit",
        "connection lost, no answer",
        _lost(stage, client, key, BEFORE),
    )
    again = client.post(ORDERS, ORDER, key)
    stage.check("The order is remembered", "retry", "201, true", _replayed(again))
    stage.check("and was made once", "count the new orders", 1, count(client, ORDERS) - before)
    order = again.json["id"]
    stage.check("The mail was not sent", "count the receipts", 0, len(postbox.mails(order)))
    _work_later(stage)
    stage.check("It is not lost", f"run {WORK}", 1, len(postbox.mails(order)))
    _work_later(stage)
    stage.check("and not sent again", f"run {WORK} again", 1, len(postbox.mails(order)))


def crash_after_mail(stage: Stage) -> None:
    """A worker dies when the mail is sent, and nobody knows yet"""
    client, key, postbox = stage.customer(stage.alice), new_key(), Postbox(stage.example.folder)
    _lost(stage, client, key, AFTER)
    order = client.post(ORDERS, ORDER, key).json["id"]
    _work_later(stage)
    mails = postbox.mails(order)
    stage.check("At least once means twice here", f"SIGKILL the worker, run {WORK}", 2, len(mails))
    stage.check("under one key", "count the Message-IDs", 1, len(set(mails)))


def redelivery(stage: Stage) -> None:
    """A task is delivered again, because its worker died"""
    client, message = stage.customer(stage.bob), new_key()
    order = client.post(ORDERS, ORDER, new_key()).json["id"]
    before = count(client, MACHINES)
    Crash(stage.example.folder).at("in the task, after its row")
    stage.check(
        "A task is killed after its write",
        "SIGKILL the worker of the task",
        "no result",
        _delivered(stage, message, order),
    )
    stage.check("It leaves nothing", "count its machines", 0, count(client, MACHINES) - before)
    first, again = (_delivered(stage, message, order) for _ in range(2))
    stage.check(
        "It is delivered twice", "compare the results", "same", "same" if first == again else first
    )
    stage.check("and has run once", "count its machines", 1, count(client, MACHINES) - before)


def _lost(stage: Stage, client: Client, key: str, point: str) -> str:
    Crash(stage.example.folder).at(point)
    connection = client.begin("POST", ORDERS, ORDER, key)
    try:
        return f"answered {client.end(connection).status}"
    except (HTTPException, ConnectionError):
        return "connection lost, no answer"
    finally:
        connection.close()


def _replayed(answer: Answer) -> str:
    if answer.status != 201:
        return error(answer)
    return f"201, {answer.headers.get('Idempotency-Replayed')}"


def _work_later(stage: Stage) -> None:
    stage.shell(DUE)
    for line in stage.example.manage(WORK).splitlines():
        stage.report.note(line)


def _delivered(stage: Stage, message: str, order: int) -> str:
    try:
        return stage.example.manage("deliver_order", message, str(order))
    except RuntimeError:
        return "no result"


CHAPTERS = (receipt, outage, crash_after_commit, crash_after_mail, redelivery)
