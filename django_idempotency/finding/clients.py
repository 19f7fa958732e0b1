"""Clients that use keys wrongly, as their records show: read in one statement, newest first."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any

from django.apps import apps
from django.db import DatabaseError, transaction
from django.utils.translation import gettext_lazy as _

from ..models import IdempotencyRecord
from ..protocol.keys import short_scope
from ..protocol.strength import Weakness, weakness_of

WITHIN = timedelta(seconds=60)
"""How soon an identical request under another key is taken for a retry."""

NEWEST = 10_000
"""Records to look at."""

_KEYS = 1000
"""Keys of one caller that are compared with each other."""

_EXAMPLES = 3

STATISTICS = "django_idempotency_statistics"
"""Label of the optional app ``contrib.statistics``, which imports from here."""


class Kind(StrEnum):
    """What a client does wrong."""

    NEW_KEYS = "new-keys"
    REUSED_KEYS = "reused-keys"
    COUNTER = "counter"
    TIME = "time"
    SHORT = "short"


@dataclass(frozen=True, slots=True)
class Advice:
    """What a finding says to people.

    :ivar title: what the client does
    :ivar means: what may happen because of it, and when it is right
    :ivar tell: what to tell the client
    """

    title: Any
    means: Any
    tell: Any


ADVICE = {
    Kind.NEW_KEYS: Advice(
        _("Sends an identical request again under a new key"),
        _(
            "Each of them runs: the guard cannot know that they are one operation. Often a library "
            "makes the key where it sends, so that each try has another one. A customer who really "
            "orders the same twice looks alike."
        ),
        _(
            "Make the key once, when the user decides, keep it with the operation, and send it "
            "with each try. Switch off the key of the HTTP library or SDK, or give it yours."
        ),
    ),
    Kind.REUSED_KEYS: Advice(
        _("Sends a key again with another request"),
        _(
            "The second request is refused (422 by default) and does not run: an operation that "
            "the client wants is missing. Often a key is kept in a form or a configuration, or "
            "the body has a time in it that changes with each try."
        ),
        _("Make a new key for each operation, and send its retries unchanged, byte by byte."),
    ),
    Kind.COUNTER: Advice(
        _("Counts its keys"),
        _(
            "A counter that begins anew, or a second process, sends keys that other requests have "
            "used: those are refused, or get the answer of another operation. Numbers that name "
            "the operation, such as that of an order, are right."
        ),
        _("Use a random UUID (version 4), or the identifier of the operation."),
    ),
    Kind.TIME: Advice(
        _("Makes its keys of times"),
        _(
            "Two operations at one moment have one key: the second is refused, or gets the answer "
            "of the first."
        ),
        _("Use a random UUID (version 4), or the identifier of the operation."),
    ),
    Kind.SHORT: Advice(
        _("Sends short keys"),
        _(
            "Keys with so few possibilities are equal by chance: the second operation is refused, "
            "or gets the answer of the first. Identifiers of operations are right, however short."
        ),
        _("Use a random UUID (version 4), or the identifier of the operation."),
    ),
}

_KINDS = {
    Weakness.COUNTER: Kind.COUNTER,
    Weakness.TIME: Kind.TIME,
    Weakness.SHORT: Kind.SHORT,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one caller does wrong.

    :ivar scope: digest of the caller, as in the logs
    :ivar times: how often, or in how many keys
    :ivar where: methods and paths, or names of views: some of them
    :ivar records: primary keys of some records that show it
    :ivar user: name of the caller, if it was asked for
    """

    kind: Kind
    scope: str
    times: int
    where: tuple[str, ...] = ()
    records: tuple[int, ...] = ()
    user: str = ""

    @property
    def advice(self) -> Advice:
        return ADVICE[self.kind]


@dataclass(slots=True)
class _Caller:
    keys: list[str] = field(default_factory=list)
    where: dict[str, None] = field(default_factory=dict)
    again: int = 0
    again_where: dict[str, None] = field(default_factory=dict)
    examples: list[int] = field(default_factory=list)


def findings(
    using: str,
    newest: int = NEWEST,
    within: timedelta = WITHIN,
    names: Iterable[tuple[str, Collection[str]]] = (),
) -> list[Finding]:
    """Return what callers do wrong: of each kind, the most frequent first.

    Sends one statement to the table of records, which reads its newest rows by primary key, and one
    to that of statistics, if there is one.

    :param using: alias of the database of records
    :param newest: how many records to look at
    :param within: how soon an identical request is taken for a retry
    :param names: users, with their scopes: see :func:`.callers.caller_of`
    """
    found = [*_in_records(using, newest, within), *_in_statistics()]
    found.sort(key=lambda each: (list(Kind).index(each.kind), -each.times, each.scope))
    named = {short_scope(scope): name for name, scopes in names for scope in scopes}
    return [replace(each, user=named.get(each.scope, "")) for each in found]


def model_of_statistics(name: str) -> Any:
    """Return a model of the app of statistics; ``None`` if that is not installed.

    :param name: of the model's class
    """
    app = apps.app_configs.get(STATISTICS)
    return None if app is None else app.get_model(name)


def _in_records(using: str, newest: int, within: timedelta) -> Iterable[Finding]:
    columns = ("pk", "scope", "key", "fingerprint", "created_at", "method", "path")
    rows = IdempotencyRecord.rows(using).order_by("-pk").values_list(*columns)[:newest]
    callers: dict[str, _Caller] = defaultdict(_Caller)
    later: dict[tuple[str, str], Any] = {}
    for pk, scope, key, fingerprint, created, method, path in rows:
        caller, where = callers[scope], f"{method} {path}"
        if len(caller.keys) < _KEYS:
            caller.keys.append(key)
            caller.where[where] = None
        what = (scope, fingerprint)
        if what in later and abs(later[what][0] - created) <= within:
            caller.again += 1
            caller.again_where[where] = None
            caller.examples += [later[what][1], pk]
        later[what] = (created, pk)
    for scope, caller in callers.items():
        digest = short_scope(scope)
        if caller.again:
            examples = tuple(dict.fromkeys(caller.examples))[:_EXAMPLES]
            paths = tuple(caller.again_where)[:_EXAMPLES]
            yield Finding(Kind.NEW_KEYS, digest, caller.again, paths, examples)
        weakness = weakness_of(caller.keys)
        if weakness is not None:
            paths = tuple(caller.where)[:_EXAMPLES]
            yield Finding(_KINDS[weakness], digest, len(caller.keys), paths)


def _in_statistics() -> Iterable[Finding]:
    """Yield callers whose keys were reused: refused requests leave no trace in the records."""
    model = model_of_statistics("ReusedKeys")
    if model is None:
        return
    try:
        # An error leaves the block of ATOMIC_REQUESTS usable.
        with transaction.atomic(model.rows().db):
            reused = model.by_caller()
    except DatabaseError:  # the table is missing: the check W080 says so
        return
    for scope, views, times in reused:
        yield Finding(Kind.REUSED_KEYS, scope, times, tuple(views)[:_EXAMPLES])
