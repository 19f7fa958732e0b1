"""Find records by what people have: a key, a log line, a caller.

A whole key is found by its index. Nothing indexes digests, scopes alone, or paths: an index more
would be written by each first request (decision 0030). So these are looked for in windows of the
primary key, newest first.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from django.apps import apps
from django.db.models import CharField, Func, Q, QuerySet

from ..models import IdempotencyRecord
from ..protocol.keys import InvalidKey, key_digest, parse_key
from ..stores.database.dialects import dialect_of
from ..stores.database.statistics import WIDTH, table_statistics

SHORTEST = 4
"""Digits of a digest that tell records apart."""

WHOLE_SCOPE = 64
"""Digits of a scope; fewer are its first ones, as logs have them."""

Records = QuerySet[IdempotencyRecord]

_HEX = "[0-9a-f]"
_DIGITS = rf"{_HEX}{{{SHORTEST},64}}"
_DIGEST = re.compile(_DIGITS)
_LOG_LINE = re.compile(rf"\bKey ({_DIGITS}|-)(?:, scope ({_DIGITS}|-))?(?=\W|$)")
_EFFECT_LINE = re.compile(rf"\bEffect \S+ ({_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}})\b")
_RECORD_LINE = re.compile(r"\bRecord ([0-9]{1,18})\b")


class KeyDigest(Func):
    """The SHA-256 of a key, in hexadecimal digits, computed by the database."""

    output_field = CharField()

    def __init__(self) -> None:
        super().__init__("key")

    def as_sql(self, compiler: Any, connection: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        template = dialect_of(connection).sha256
        return super().as_sql(compiler, connection, template=template)


@dataclass(frozen=True, slots=True)
class Query:
    """What a record must have; an empty value stands for any. An empty query finds nothing.

    :ivar key: the whole key
    :ivar key_digest: first digits of the key's SHA-256
    :ivar scope_digest: first digits of the scope
    :ivar digest: first digits of either
    :ivar scopes: one of these whole scopes
    :ivar effect: has staged the effect with this key
    :ivar number: has this primary key
    """

    key: str = field(default="", repr=False)
    key_digest: str = ""
    scope_digest: str = ""
    digest: str = ""
    scopes: frozenset[str] | None = None
    effect: str = ""
    number: int | None = None

    def within(self, scope_digest: str, scopes: frozenset[str] | None) -> "Query":
        """Return the query for these scopes only, if they are given."""
        narrower = replace(self, scope_digest=scope_digest) if scope_digest else self
        return narrower if scopes is None else replace(narrower, scopes=scopes)

    @property
    def is_indexed(self) -> bool:
        """Whether an index finds the records, so that they need not be looked for in windows."""
        return bool(self.key or self.effect) or self.number is not None


NOTHING = Query()


def query_of(text: str) -> Query:
    """Return what a text asks for: a log line (about an operation, an effect, or a record), a key
    as it was sent, a digest or its beginning.

    What looks like a digest may also be a key; :func:`resolved` finds out.
    """
    text = text.strip()
    line = _LOG_LINE.search(text)
    if line is not None:
        key, scope = (digits if digits and digits != "-" else "" for digits in line.groups())
        return Query(key_digest=key, scope_digest=scope)
    if (effect := _EFFECT_LINE.search(text)) is not None:
        return Query(effect=effect[1])
    if (number := _RECORD_LINE.search(text)) is not None:
        return Query(number=int(number[1]))
    try:
        key = parse_key(text)  # with or without quotes
    except InvalidKey:
        key = text if text.isprintable() else ""  # a database may refuse it
    return Query(key=key, digest=text.lower() if is_digest(text.lower()) else "")


def is_about_no_record(text: str) -> bool:
    """Whether a text is a log line about a request that cannot have a record."""
    return _LOG_LINE.search(text) is not None and query_of(text) == NOTHING


def is_digest(text: str) -> bool:
    """Whether a text can be a digest, or its beginning."""
    return _DIGEST.fullmatch(text) is not None


def resolved(using: str, query: Query) -> Query:
    """Decide whether a text that looks like a digest is a key, and which record has staged an
    effect. One statement, by an index.

    :param using: alias of the database
    """
    if query.effect:
        return replace(query, effect="", number=_record_of_effect(using, query.effect))
    if not (query.key and query.digest):
        return query
    if IdempotencyRecord.rows(using).filter(key=query.key).exists():
        return replace(query, digest="")
    return replace(query, key="")


def narrow(records: Records, query: Query) -> Records:
    """Return those of the records that a resolved query asks for."""
    if query == NOTHING:
        return records.none()
    if query.key_digest or query.digest:
        records = records.alias(key_digest=KeyDigest())
    wanted = Q()
    if query.key:
        wanted &= Q(key=query.key)
    if query.key_digest:
        wanted &= Q(key_digest__startswith=query.key_digest)
    if query.digest:
        wanted &= Q(key_digest__startswith=query.digest) | _in_scope(query.digest)
    if query.scope_digest:
        wanted &= _in_scope(query.scope_digest)
    if query.number is not None:
        wanted &= Q(pk=query.number)
    if query.scopes is not None:
        wanted &= Q(scope__in=query.scopes)
    return records.filter(wanted)


def find(
    using: str,
    query: Query,
    limit: int,
    looked_through: Callable[[int, int], None] = lambda done, whole: None,
) -> Iterator[IdempotencyRecord]:
    """Yield records, newest first, without their responses.

    Without the key it reads the whole table, :data:`WIDTH` records per statement, unless the limit
    is reached or the iteration ends before. A digest of a key leads to the key: its other scopes
    are then found by the index.

    :param using: alias of the database
    :param limit: maximum number of records
    :param looked_through: told after each statement how many numbers it has looked through, and of
        how many
    """
    query = resolved(using, query)
    rows = IdempotencyRecord.rows(using).defer("response_headers", "response_body")
    records = narrow(rows.order_by("-pk"), query)
    if query.is_indexed:
        yield from records[:limit]
        return
    whole = table_statistics(using)
    end, left = whole.last + 1, limit
    while end > whole.first and left > 0:
        start = max(whole.first, end - WIDTH)
        found = list(records.filter(pk__gte=start, pk__lt=end)[:left])
        looked_through(whole.last + 1 - start, whole.last + 1 - whole.first)
        keys = _keys_with(query.key_digest or query.digest, found)
        if keys:
            rest = replace(query, key_digest="", digest="")
            same = rows.filter(key__in=keys).order_by("-pk")
            yield from (same if rest == NOTHING else narrow(same, rest))[:left]
            return
        yield from found
        end, left = start, left - len(found)


def _record_of_effect(using: str, key: str) -> int:
    """Return the number of the record; 0, which no record has, if there is none."""
    if not apps.is_installed("django_idempotency.effects"):
        return 0
    from ..effects.models import IdempotencyEffect

    numbers = IdempotencyEffect.rows(using).filter(pk=key).values_list("record_id", flat=True)
    return numbers.first() or 0


def _keys_with(digits: str, records: Iterable[IdempotencyRecord]) -> set[str]:
    """Return the keys of records whose digest begins with some digits, if there are any."""
    return {each.key for each in records if digits and key_digest(each.key).startswith(digits)}


def _in_scope(digits: str) -> Q:
    return Q(scope=digits) if len(digits) == WHOLE_SCOPE else Q(scope__startswith=digits)
