"""``sample_traffic``: requests of a client with and without keys, so that the admin has charts."""

import uuid
from argparse import ArgumentParser
from itertools import product
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.test import Client

from django_idempotency.contrib.statistics.counting import counter
from django_idempotency.contrib.statistics.figures import DAY, REQUESTS, Batch, count, nothing
from django_idempotency.contrib.statistics.models import IdempotencyStatistics, hour_now, today_now
from django_idempotency.contrib.statistics.writing import write

TICKETS = "/tickets"

HISTORY = {
    "cloud.views.tickets.tickets": 3,
    "orders": 7,
    "machines": 2,
}
"""Views, and how busy they are in the invented history."""


class Command(BaseCommand):
    help = (
        "Sends requests as a careless client would, in this process, and adds an invented history "
        "of thirty days to the statistics. For the example's admin: these are no measurements."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-history", action="store_true", help="invent nothing")

    def handle(self, *, no_history: bool, **options: Any) -> None:
        sent = self._send()
        counter.flush()
        told = f"Sent {sent} requests."
        has_history = IdempotencyStatistics.rows().filter(start__lt=today_now()).exists()
        if not (no_history or has_history):
            write(_history(hour_now()), IdempotencyStatistics.alias())
            told += " The history of thirty days before is invented."
        self.stdout.write(told)

    def _send(self) -> int:
        """Send requests of two clients, which end in several ways; return how many."""
        keys = [str(uuid.uuid4()) for _ in range(15)]
        usual = [(f"Ticket {number}", key) for number, key in enumerate(keys[:12])]
        retries, wrong = usual[:5], [("Something else", keys[0])] * 2
        under_new_keys = [("Again", key) for key in keys[12:]]
        without_key = [(f"No key {number}", "") for number in range(4)]
        careless = [*usual, *retries, *wrong, *under_new_keys, *without_key, ("None", "not, a key")]
        counting = [(f"Counted {number}", f"ticket-{number}") for number in range(6)]
        return _send_as_new_user(careless) + _send_as_new_user(counting)


def _send_as_new_user(requests: list[tuple[str, str]]) -> int:
    client = Client(headers={"host": "localhost"})
    client.force_login(get_user_model().objects.create_user(f"sample-{uuid.uuid4().hex[:6]}"))
    for subject, key in requests:
        headers = {"idempotency-key": key} if key else {}
        client.post(TICKETS, {"subject": subject}, headers=headers)
    return len(requests)


def _history(now: int) -> Batch:
    """Return numbers of thirty days, without the present hour."""
    found = Batch()
    for ago, (view, weight) in product(range(1, 30 * DAY), HISTORY.items()):
        hour = now - ago
        here = found.hours[hour, view] = nothing()
        by_day = 14 - abs(hour % DAY - 12)
        times = dict.fromkeys(REQUESTS, 0)
        times["executed"] = by_day * weight
        times["replayed"] = by_day * weight // 6 + (30 if 40 < ago < 43 else 0)
        times["conflict"] = (hour * weight) % 3
        times["mismatch"] = int(hour % 9 == 0) + (6 if 150 < ago < 162 else 0)
        times["interrupted"] = times["recovered"] = int(hour % 17 == weight)
        times["refused"] = int(hour % 13 == 0)
        times["without_key"] = by_day * weight * (10 + ago // DAY) // 60
        for name, number in times.items():
            for index in range(number):
                seconds = 0.0008 + 0.004 * (index % 7 == 6)
                count(here, name, None if name == "without_key" else seconds)
    return found
