"""One effect from the commit on: how it is called, what it may ask for, and the time it has."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from inspect import isawaitable
from time import monotonic
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction

from ..conf.settings import configuration
from ..context import as_running
from .declaring import Effect


@dataclass(slots=True)
class Staged:
    """An effect in memory. Called as a hook it does nothing: being there is enough.

    :ivar text: its arguments
    """

    key: str
    effect: Effect[..., Any]
    text: str = field(repr=False)

    def __call__(self) -> None: ...


@dataclass(frozen=True, slots=True)
class CurrentEffect:
    """An effect that runs.

    :ivar key: a UUID as text, the same at every try: give it to whom the effect is sent, so that it
        counts once
    :ivar name: of its declaration
    :ivar tries: number of this try, from 1
    """

    key: str
    name: str
    tries: int


running_effect: ContextVar[CurrentEffect | None] = ContextVar(
    "django_idempotency_effect", default=None
)


def current_effect() -> CurrentEffect:
    """Return the effect that runs.

    :raises RuntimeError: outside of an effect
    """
    found = running_effect.get()
    if found is None:
        raise RuntimeError("No effect runs here: call current_effect() inside of an effect.")
    return found


def call(effect: Effect[..., Any], current: CurrentEffect, args: Any, kwargs: Any) -> None:
    """Run an effect, or hand it to its task queue."""
    token = running_effect.set(current)
    try:
        # What it stages in turn does not belong to the operation that has staged it.
        with as_running(None):
            result = _function(effect.target, current.key)(*args, **kwargs)
            if isawaitable(result):
                # Async code that does not look it, below a decorator that is not, for example.
                async_to_sync(_awaited)(result)
    finally:
        running_effect.reset(token)


def _function(target: Any, key: str) -> Callable[..., Any]:
    if hasattr(target, "apply_async"):
        # https://docs.celeryq.dev/en/stable/reference/celery.app.task.html
        return lambda *args, **kwargs: target.apply_async(args, kwargs, task_id=key)
    if hasattr(target, "enqueue"):
        # https://docs.djangoproject.com/en/stable/ref/tasks/
        enqueue: Callable[..., Any] = target.enqueue
        return enqueue
    return async_to_sync(target) if iscoroutinefunction(target) else target


async def _awaited(result: Awaitable[Any]) -> None:
    await result


class Budget:
    """The time that a request has for the effects of all its commits."""

    def __init__(self) -> None:
        self._spent = 0.0

    def is_spent(self, since: float) -> bool:
        """Whether no further effect may begin.

        :param since: when these began
        """
        return self._spent + monotonic() - since >= configuration().effects_budget.total_seconds()

    def spend(self, since: float) -> None:
        """Count the time since then."""
        self._spent += monotonic() - since
