"""Chapters about async views, for an example that runs under ASGI."""

import time
from collections import Counter

from .stage import REPLAY, Stage, at_once, compared, count, error, new_key

ADRF, NINJA = "/adrf/backups", "/ninja/backups"
DUPLICATES, TRIES = 10, 30


def adrf(stage: Stage) -> None:
    """An async view of adrf"""
    _purchase(stage, ADRF)


def ninja(stage: Stage) -> None:
    """An async operation of Django Ninja"""
    _purchase(stage, NINJA)


def _purchase(stage: Stage, path: str) -> None:
    client, key = stage.customer(stage.alice), new_key()
    before, item = count(client, path), {"item": "backup"}
    first = client.post(path, item, key)
    stage.check("The first request runs", f"POST {path} under a new key", 201, first.status)
    again = client.post(path, item, key)
    stage.check("A retry is a replay", "send it again", REPLAY, compared(again, first))
    other = client.post(path, {"item": "another"}, key)
    stage.check(
        "A mismatch is an error", "send another body", "422 idempotency_key_reused", error(other)
    )
    ran = count(client, path) - before
    stage.check("A retry does not run", "count the orders", 1, ran)
    stranger = stage.example.bearer("nobody's").post(path, item, key)
    stage.check("No replay without a token", "send it as nobody", 401, stranger.status)


def duplicates(stage: Stage) -> None:
    """Ten at once, while the first one awaits its warehouse"""
    client, key = stage.customer(stage.bob), new_key()
    before = count(client, NINJA)
    answers = at_once(DUPLICATES, client, NINJA, {"item": "backup"}, key, sent=lambda: None)
    statuses = Counter(answer.status for answer in answers)
    stage.check("Only answers and conflicts", "ten at once", set(), set(statuses) - {201, 409})
    stage.check("One execution", "count the orders", 1, count(client, NINJA) - before)


def going_away(stage: Stage) -> None:
    """A client that does not wait for the answer"""
    client, key, item = stage.customer(stage.bob), new_key(), {"item": "backup"}
    before = count(client, ADRF)
    client.begin("POST", ADRF, item, key).close()
    answer = client.post(ADRF, item, key)
    for _ in range(TRIES):
        if answer.status != 409:  # the first attempt needs a moment to be undone
            break
        time.sleep(0.1)
        answer = client.post(ADRF, item, key)
    stage.check("The key is free", "hang up, and retry", 201, answer.status)
    stage.check("One execution", "count the orders", 1, count(client, ADRF) - before)


CHAPTERS = (adrf, ninja, duplicates, going_away)
