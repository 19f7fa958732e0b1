"""Views in blocks: a guarded view leaves what a bare one leaves, whoever's block surrounds it.

Each ending of a view in nobody's block, in the one of ``ATOMIC_REQUESTS``, and in one that a
middleware has opened and commits or rolls back; with and without our middleware, and with and
without a write before the guard or after it. The view without a guard says which writes a success
and a refusal keep.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, NoReturn

from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.http import Http404, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from proof import world
from proof.report import Outcome
from tests.shop.models import Order

Ending = Callable[[], HttpResponse]


def answer(status: int) -> HttpResponse:
    return HttpResponse("the answer", status=status)


def raise_(error: type[Exception]) -> NoReturn:
    raise error


ENDINGS: dict[str, tuple[int, Ending]] = {
    "201": (201, partial(answer, 201)),
    "403": (403, partial(answer, 403)),
    "429": (429, partial(answer, 429)),
    "raised 403": (403, partial(raise_, PermissionDenied)),
    "raised 404": (404, partial(raise_, Http404)),
    "crash": (500, partial(raise_, RuntimeError)),
}
REFUSALS = {"403", "429", "raised 403"}
STORED = {"201", "raised 404"}


@dataclass(frozen=True)
class Case:
    """One way to be called.

    :ivar block: who has opened one: nobody, Django, or a middleware that commits or rolls back
    :ivar has_ours: our middleware is installed
    :ivar writes_before: something is written before the guard of a decorator begins
    :ivar writes_after: and after it has ended
    """

    block: str
    has_ours: bool
    writes_before: bool
    ending: str
    writes_after: bool = False

    def __str__(self) -> str:
        details = [f"block: {self.block}", self.ending]
        details += ["middleware"] * self.has_ours + ["a write before"] * self.writes_before
        details += ["a write after"] * self.writes_after
        return ", ".join(details)

    @property
    def is_foreign(self) -> bool:
        return self.block in {"commits", "rolls back"}


case = Case("none", False, False, "201")
"""What the next request meets."""


def _view(request: Any) -> HttpResponse:
    Order.objects.create(item="view")
    return ENDINGS[case.ending][1]()


def _between_writes(view: Any) -> Any:
    def wrapped(request: Any) -> Any:
        if case.writes_before:
            Order.objects.create(item="before")
        response = view(request)
        if case.writes_after:
            Order.objects.create(item="after")
        return response

    return csrf_exempt(wrapped)


def foreign_block(get_response: Any) -> Any:
    """A middleware that opens a block around everything, as some do."""

    def middleware(request: Any) -> Any:
        with transaction.atomic():
            Order.objects.create(item="around")
            response = get_response(request)
            transaction.set_rollback(case.block == "rolls back")
        return response

    return middleware


urlpatterns = [
    path("view/", _between_writes(_view)),
    path("guarded/", _between_writes(idempotent(scope=world.everybody)(_view))),
]


def cases() -> Iterator[Case]:
    for block, has_ours, ending in product(
        ("none", "django", "commits", "rolls back"), (False, True), ENDINGS
    ):
        yield Case(block, has_ours, False, ending)
        if block in {"none", "django"}:
            yield Case(block, has_ours, True, ending)
            yield Case(block, has_ours, False, ending, writes_after=True)


def run() -> list[Outcome]:
    """Try all cases."""
    outcome = Outcome("views in blocks")
    for each in cases():
        with _surrounded(each):
            _check(outcome)
    connection.close()
    return [outcome]


@contextmanager
def _surrounded(by: Case) -> Iterator[None]:
    global case
    case = by
    middleware = [f"{__name__}.foreign_block"] * by.is_foreign
    middleware += ["django_idempotency.middleware.IdempotencyMiddleware"] * by.has_ours
    with world.surrounded(by.block == "django", *middleware, ROOT_URLCONF=__name__):
        yield


@dataclass
class Seen:
    """What a client is told, and what is there afterwards."""

    status: int
    is_replay: bool
    writes: set[str]
    is_stored: bool


def _send(to: str, **headers: str) -> Seen:
    response = world.client().post(to, headers=headers)
    replayed = response.get("Idempotency-Replayed") == "true"
    writes = set(Order.objects.values_list("item", flat=True))
    stored = IdempotencyRecord.objects.filter(state="completed").exists()
    return Seen(response.status_code, replayed, writes, stored)


def _send_with_key() -> Seen:
    return _send("/guarded/", **{"Idempotency-Key": "k"})


def _check(outcome: Outcome) -> None:
    outcome.count += 1
    world.empty()
    bare = _send("/view/")
    world.empty()
    guarded = _send_with_key()
    if case.is_foreign:
        _check_foreign(guarded, outcome)
    else:
        _check_ours(bare, guarded, outcome)
        _check_retry(guarded, outcome)


def _check_foreign(seen: Seen, outcome: Outcome) -> None:
    """I2: whose block it is, decides about it; so nothing can be promised in it."""
    if ("around" in seen.writes) != (case.block == "commits"):
        outcome.violation(f"{case}: its owner's writes are not as he wished: {seen.writes}")
    if seen.status == 201 and not (seen.is_stored and "view" in seen.writes):
        outcome.violation(f"I2 {case}: told 201, and there is {seen.writes}")
    if seen.is_stored and case.block == "rolls back":
        outcome.violation(f"I2 {case}: stored in a block that was rolled back")
    outcome.note("refused in somebody's block", seen.status == 500)


def _check_ours(bare: Seen, seen: Seen, outcome: Outcome) -> None:
    """I2: stored with its writes; a refusal keeps what it would keep without us; nothing else."""
    if seen.status != ENDINGS[case.ending][0]:
        outcome.violation(f"{case}: told {seen.status}")
    if seen.is_stored != (case.ending in STORED):
        outcome.violation(f"I2 {case}: stored is {seen.is_stored}")
    if case.ending == "201" or case.ending in REFUSALS:
        if seen.writes != bare.writes:
            outcome.violation(f"I2 {case}: there is {seen.writes}, without us {bare.writes}")
        outcome.note("as without us")
    elif "view" in seen.writes:
        outcome.violation(f"I2 {case}: what the view wrote is still there")


def _check_retry(first: Seen, outcome: Outcome) -> None:
    """What is stored is told again; a refusal is no end of the matter."""
    retry = _send_with_key()
    if (retry.status, retry.is_replay) != (first.status, first.is_stored):
        outcome.violation(f"{case}: the retry got {retry}, the first {first}")
