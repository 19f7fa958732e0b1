"""``python -m tests.support.rivals``: processes that call one function under one key at the same
moment, on the tests' database; prints as JSON how often each outcome occurred.
"""

import json
import multiprocessing
from collections import Counter
from collections.abc import Callable
from typing import Any

import django

django.setup()

from django.core.management import CommandError, call_command  # noqa: E402  (the apps are ready)
from django.db import connections  # noqa: E402

from django_idempotency.operations import OperationInFlight, run_once  # noqa: E402
from tests.shop.models import Order  # noqa: E402

RIVALS, KEYS = 8, 50
CRONS = 2
MONTHS = ["2026-01", "2026-02", "2026-03"]


def buy(item: str) -> int:
    return int(Order.objects.create(item=item).pk)


def consume(barrier: Any, say: Any) -> None:
    """Take the same messages as everybody else."""
    for number in range(KEYS):
        key = f"m{number}"
        barrier.wait(60)
        try:
            say((key, run_once(buy, key, key=key, scope="queue:orders", retry_after=1)))
        except OperationInFlight:
            say((key, "in flight"))


def cron(barrier: Any, say: Any) -> None:
    for month in MONTHS:
        barrier.wait(60)
        try:
            call_command("send_invoices", month)
            say((month, "done"))
        except CommandError:
            say((month, "in flight"))


def together(count: int, target: Callable[..., None]) -> list[Any]:
    """Return what processes say that begin together."""
    connections.close_all()
    context = multiprocessing.get_context("fork")
    barrier, said = context.Barrier(count), context.SimpleQueue()
    rivals = [context.Process(target=target, args=(barrier, said.put)) for _ in range(count)]
    for rival in rivals:
        rival.start()
    wanted = count * (KEYS if target is consume else len(MONTHS))
    found = [said.get() for _ in range(wanted)]
    for rival in rivals:
        rival.join(60)
    return found


if __name__ == "__main__":
    answers = together(RIVALS, consume)
    results = {key: {result for at, result in answers if at == key} for key, _ in answers}
    crons = together(CRONS, cron)
    print(
        json.dumps(
            {
                "results per key": Counter(len(each - {"in flight"}) for each in results.values()),
                "answers": Counter(type(each).__name__ for _, each in answers),
                "crons": Counter(each for _, each in crons),
            }
        )
    )
