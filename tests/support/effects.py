"""Effects that tests stage, and what they did."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from django_idempotency.effects import after_commit, current_effect, effect
from django_idempotency.effects.models import EffectState, IdempotencyEffect
from django_idempotency.stores.database.dialects import StoreTime
from tests.shop.models import Order

sent: list[Any] = []
"""What the world has seen."""

keys: list[str] = []
"""Under which keys."""


class Down(Exception):
    """The world does not answer. What an error says may be secret."""


def nothing(what: Any) -> None:
    """Happens in an effect before it does anything, unless a test says otherwise."""


before: Callable[[Any], None] = nothing


def do(what: Any) -> None:
    before(what)
    sent.append(what)
    keys.append(current_effect().key)


@effect
def send(what: Any = "mail", key: str | None = None) -> None:
    do(what)
    assert key in {None, current_effect().key}


@effect
async def asend(what: Any = "mail") -> None:
    do(what)


@effect(run="worker", max_tries=3)
def later(what: Any = "mail") -> None:
    do(what)


def order(*what: Any, fails: bool = False) -> int:
    """Create an order with its effects, like a view of a shop."""
    pk = Order.objects.create(item="vm").pk
    for each in what:
        after_commit(send, each)
    if fails:
        raise Down
    return int(pk)


def reset() -> None:
    global before
    before = nothing
    sent.clear()
    keys.clear()


@contextmanager
def down() -> Iterator[None]:
    """Effects fail inside."""
    global before

    def fail(what: Any) -> None:
        raise Down("the password is hunter2")

    before = fail
    try:
        yield
    finally:
        before = nothing


def effects(**facts: Any) -> list[IdempotencyEffect]:
    return list(IdempotencyEffect.objects.filter(**facts).order_by("staged_at", "key"))


def states() -> list[str]:
    return sorted(each.state for each in effects())


def the_only() -> IdempotencyEffect:
    return IdempotencyEffect.objects.get()


def make_due() -> None:
    """Everything that is pending is due now."""
    pending = IdempotencyEffect.objects.filter(state=EffectState.PENDING)
    pending.update(due_at=StoreTime(timedelta(seconds=-1)))


def as_key(text: str) -> UUID:
    return UUID(text)


def void(*values: Any) -> None:
    """For what may not return anything."""


def not_migrated(patch: Any) -> None:
    """There is no table of effects."""
    for each in IdempotencyEffect._meta.fields:
        _ = each.cached_col  # which names the table, and is kept
    patch.setattr(IdempotencyEffect._meta, "db_table", "not_migrated_yet")
