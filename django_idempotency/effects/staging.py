"""Stage effects in the transaction that is open.

Within an operation they are kept in memory, and written in one statement when it stores its
response. Each leaves a hook of ``on_commit()`` on the connection as its mark: Django removes the
hooks of savepoints that are rolled back, so effects whose marks have gone are not written.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from ..compat.django import hooks_of, joinable_hook, own_blocks, run_first_on_commit
from ..conf.settings import configuration
from ..context import running
from ..placeholders import filled
from ..protocol.codecs import Codec
from ..threads import on_request_thread
from .declaring import Effect, RunBy
from .errors import EffectError
from .running import Budget, Staged
from .sealing import sealed, text_of

NOT_INSTALLED = (
    'Effects are used, but their app is not installed: add "django_idempotency.effects" to '
    "INSTALLED_APPS, and run manage.py migrate."
)
OUTSIDE = (
    "after_commit({}) is outside of any transaction of database {!r}, so nothing is committed with "
    "the effect. Call it inside of transaction.atomic() there, or by "
    "request.idempotency.after_commit()."
)
ASYNC = (
    "after_commit({}) writes to the database, because no operation runs under a key here: in async "
    "code await aafter_commit() instead."
)
NO_EFFECT = (
    "after_commit() takes an effect, not {!r}. Declare it with @effect, above other decorators, "
    "and do not call it: after_commit(effect, 1), not after_commit(effect(1))."
)
ELSEWHERE = (
    "after_commit({}): the effect is for database {!r}, and the operation commits in {!r}. Leave "
    "using= away: an effect is committed with its operation."
)
TWICE = (
    "after_commit({}): another effect of this operation has the name {!r}. Each needs a name of "
    "its own; effects without one are numbered."
)


class Stage:
    """Where the effects of one transaction of an operation wait for its end.

    :param connection: that has the transaction
    :param derive: makes a key of parts that are unique in the operation
    :param codec: of what the operation stores
    :param budget: for running them; shared by all commits of a request
    """

    def __init__(
        self,
        connection: Any,
        derive: Callable[[tuple[str, ...]], str],
        codec: Codec,
        budget: Budget | None = None,
    ) -> None:
        self._connection = connection
        self._derive = derive
        self._codec = codec
        self._budget = budget or Budget()
        self._number = 0
        self._staged: list[Staged] = []

    def add(self, effect: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Stage an effect, and return its key. Asks the database nothing."""
        check(effect)
        using = self._connection.alias
        if effect.using not in {None, using}:
            raise EffectError(ELSEWHERE.format(effect.name, effect.using, using))
        if effect.label:
            if any(each.effect.label == effect.label for each in self._left()):
                raise EffectError(TWICE.format(effect.name, effect.label))
            key = self._derive(("name", effect.label))
        else:
            self._number += 1
            key = self._derive(("number", str(self._number)))
        staged = _staged(effect, key, args, kwargs)
        self._staged.append(staged)
        self._connection.on_commit(staged, robust=True)
        return key

    def write(self, record_id: int | None) -> None:
        """Store what is left, in one statement, and have it run after the commit.

        :param record_id: of the operation; ``None`` if its record is withdrawn
        """
        left, self._staged = self._left(), []
        if not left:
            return
        using = self._connection.alias
        _insert(using, left, self._codec, record_id, is_taken=True)
        inline = _inline(left)
        if inline:
            run = partial(_run, using, inline, self._budget, is_taken=True)
            run_first_on_commit(self._connection, run)

    def _left(self) -> list[Staged]:
        hooks = hooks_of(self._connection)
        return [each for each in self._staged if id(each) in hooks]


class Batch:
    """Effects of a block of ``atomic()`` without an operation: they run after it."""

    def __init__(self, using: str) -> None:
        self._using = using
        self.staged: list[Staged] = []

    def __call__(self) -> None:
        _run(self._using, self.staged, Budget(), is_taken=False)


def after_commit(effect: Any, /, *args: Any, **kwargs: Any) -> str:
    """Stage an effect in the transaction that is open: it runs if that commits, at least once.

    Within a view or a function that runs under a key, this is ``after_commit()`` of its operation;
    elsewhere the effect is stored at once, in the ``atomic()`` block of its database.

    :param effect: declared with ``@effect``; ``effect.named("receipt")`` has a separate name
    :param args: for the effect: plain data, and :data:`KEY` for its key
    :return: the effect's key, a UUID
    :raises EffectError: outside of a transaction; for arguments that are not plain data; with
        ``atomic=False``, outside of steps
    :raises TypeError: if the effect does not take these arguments
    :raises ImproperlyConfigured: if the app is not installed
    """
    operation = running.get()
    if operation is not None:
        key: str = operation.stage(effect, args, kwargs)
        return key
    return stage_alone(effect, args, kwargs)


async def aafter_commit(effect: Any, /, *args: Any, **kwargs: Any) -> str:
    """The same in async code."""
    return await on_request_thread(after_commit, effect, *args, **kwargs)


def stage_alone(
    effect: Any, args: tuple[Any, ...], kwargs: dict[str, Any], at_once: bool = False
) -> str:
    """Stage an effect without an operation.

    :param at_once: outside of a transaction, store it in a separate commit, and run it
    """
    check(effect)
    if _in_event_loop():
        raise EffectError(ASYNC.format(effect.name))
    from .models import IdempotencyEffect

    # Where operations are committed, unless the effect says otherwise.
    using = IdempotencyEffect.alias(effect.using or configuration().policy.using)
    connection = connections[using]
    staged = _staged(effect, str(uuid4()), args, kwargs)
    codec = configuration().policy.codec
    if own_blocks(connection):
        _insert(using, [staged], codec, None, is_taken=False)
        if effect.run_by is RunBy.INLINE:
            batch: Batch | None = joinable_hook(connection, Batch)
            if batch is None:
                batch = Batch(using)
                connection.on_commit(batch, robust=True)
            batch.staged.append(staged)
    elif at_once and (connection.get_autocommit() or connection.in_atomic_block):
        _insert(using, [staged], codec, None, is_taken=True)
        _run(using, _inline([staged]), Budget(), is_taken=True)
    else:
        raise EffectError(OUTSIDE.format(effect.name, using))
    return staged.key


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def check(effect: Any) -> None:
    """
    :raises EffectError: for what is no effect
    :raises ImproperlyConfigured: if the app is not installed
    """
    if not isinstance(effect, Effect):
        raise EffectError(NO_EFFECT.format(effect))
    if not apps.is_installed("django_idempotency.effects"):
        raise ImproperlyConfigured(NOT_INSTALLED)


def _staged(
    effect: Effect[..., Any], key: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Staged:
    args, kwargs = filled(args, kwargs, lambda: key)
    effect.check_arguments(args, kwargs)
    return Staged(key, effect, text_of(effect.name, args, kwargs))


def _insert(
    using: str, staged: Sequence[Staged], codec: Codec, record_id: int | None, is_taken: bool
) -> None:
    """:param is_taken: no worker takes them while this process runs them"""
    from .rows import NewRow, insert

    def row(each: Staged) -> NewRow:
        effect = each.effect
        taken = is_taken and effect.run_by is RunBy.INLINE
        # The last of them begins when the time of the others is over.
        time = effect.time_limit + configuration().effects_budget if taken else None
        arguments = sealed(each.key, effect.name, each.text, codec)
        return NewRow(each.key, record_id, effect.name, arguments, time)

    insert(using, [row(each) for each in staged])


def _inline(staged: Sequence[Staged]) -> list[Staged]:
    return [each for each in staged if each.effect.run_by is RunBy.INLINE]


def _run(using: str, staged: Sequence[Staged], budget: Budget, is_taken: bool) -> None:
    from .runner import run_inline

    run_inline(using, staged, budget, is_taken)
