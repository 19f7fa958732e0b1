"""Endpoints as text for terminals, as Markdown, and as data."""

from collections.abc import Callable, Iterator
from posixpath import commonpath
from typing import Any

from ..conf.described import key_source
from ..conf.policy import OnInFlight, Policy
from ..protocol.keys import KeyFormat
from . import words
from .endpoints import Coverage, Endpoint
from .facts import facts

MANY = 5
"""More paths than these are not listed, if one reason holds for all."""

Row = tuple[str, ...]
Columns = dict[str, Callable[[Endpoint, Policy], str]]

OTHERS = {
    Coverage.EXEMPT: "Exempt",
    Coverage.UNGUARDED: "Not guarded",
    Coverage.FAILS: "Fails with a key",
}
"""Headings of endpoints that are not guarded."""

TERMINAL: Columns = {
    "ENDPOINT": lambda endpoint, policy: f"{endpoint.method:6} {endpoint.path}",
    "KEY": lambda endpoint, policy: "required" if policy.required else "optional",
    "OF": lambda endpoint, policy: facts(policy)["scope"],
    "KEPT": lambda endpoint, policy: words.short(policy.retention),
    "OTHER BODY": lambda endpoint, policy: another_body(policy),
    "IN FLIGHT": lambda endpoint, policy: in_flight(policy),
    "GUARDED BY": lambda endpoint, policy: str(endpoint.protection.by).removeprefix("decorated "),
}
MARKDOWN: Columns = {
    "endpoint": lambda endpoint, policy: f"`{endpoint.method} {endpoint.path}`",
    "key": lambda endpoint, policy: key(policy),
    "belongs to": lambda endpoint, policy: words.scope(policy),
    "kept": lambda endpoint, policy: kept(policy),
    "another body": lambda endpoint, policy: another_body(policy),
    "in flight": lambda endpoint, policy: in_flight(policy),
    "not stored": lambda endpoint, policy: not_stored(policy),
    "replays carry": lambda endpoint, policy: replays(policy),
    "guarded by": lambda endpoint, policy: str(endpoint.protection.by),
}


def for_terminal(found: list[Endpoint], width: int | None = None) -> str:
    """Return a table of guarded endpoints, and a list of the others with the reasons.

    :param width: of the terminal, in columns; a wider table becomes a list. ``None``: no limit
    """
    rows = rows_of(found, TERMINAL)
    table = aligned([tuple(TERMINAL), *rows])
    if width is not None and max(map(len, table)) > width:
        table = [line for row in rows for line in card(row)]
    parts = ["\n".join(table)] if rows else ["No endpoint is guarded."]
    for heading, rows in others(found):
        parts.append("\n".join([f"{heading}:", *(f"  {line}" for line in aligned(rows))]))
    return "\n\n".join(parts)


def for_markdown(found: list[Endpoint]) -> str:
    """Return the same as Markdown tables, with more columns."""
    parts = ["## Guarded", markdown_table([tuple(MARKDOWN), *rows_of(found, MARKDOWN)])]
    for heading, rows in others(found):
        quoted = [(f"`{endpoints}`", why) for endpoints, why in rows]
        parts += [f"## {heading}", markdown_table([("endpoints", "why"), *quoted])]
    return "\n\n".join(parts)


def others(found: list[Endpoint]) -> Iterator[tuple[str, list[Row]]]:
    """Yield headings of unguarded endpoints, with rows of endpoints and the reason."""
    for coverage, heading in OTHERS.items():
        reasons: dict[str, dict[str, list[str]]] = {}
        for endpoint in (each for each in found if each.protection.coverage is coverage):
            methods = reasons.setdefault(why(endpoint), {}).setdefault(endpoint.path, [])
            methods.append(endpoint.method)
        rows: list[Row] = [
            (each, reason) for reason, paths in reasons.items() for each in summary(paths)
        ]
        if rows:
            yield heading, rows


def summary(paths: dict[str, list[str]]) -> list[str]:
    """Name endpoints that share their reason: one line per path, or one for many."""
    if len(paths) > MANY:
        return [f"{commonpath(list(paths))}/..."]
    return [f"{' '.join(methods)} {path}" for path, methods in paths.items()]


def why(endpoint: Endpoint) -> str:
    """Say why an endpoint is not guarded, or not for everybody."""
    if endpoint.ignores_callers:
        return "guarded, but it admits anonymous callers, whose keys are ignored"
    if endpoint.protection.coverage is Coverage.EXEMPT and not endpoint.protection.reason:
        return "exempt without a reason"
    return endpoint.protection.reason or endpoint.view


def rows_of(found: list[Endpoint], columns: Columns) -> list[Row]:
    return [
        tuple(cell(endpoint, policy) for cell in columns.values())
        for endpoint in found
        if (policy := endpoint.protection.guards)
    ]


def key(policy: Policy) -> str:
    needed = "required" if policy.required else "optional"
    form = "" if policy.key_format is KeyFormat.LENIENT else f", {policy.key_format}"
    source = key_source(policy, "`{}`")
    return f"{source}, {needed}, at most {policy.key_max_length} characters{form}"


def not_stored(policy: Policy) -> str:
    again, unknown = words.not_stored(policy)
    return f"{again}; unknown after {unknown}" if unknown else again


def replays(policy: Policy) -> str:
    if not policy.store_body:
        return "no replays"
    if policy.replay_header is None:
        return "no marker"
    return f"`{policy.replay_header}: {policy.replay_value}`"


def another_body(policy: Policy) -> str:
    return str(policy.mismatch_status) if policy.compares_body else "ignored"


def kept(policy: Policy) -> str:
    time = words.duration(policy.retention)
    if not policy.tombstone:
        return time
    return f"{time}, then {policy.expired_status} for {words.duration(policy.tombstone)}"


def in_flight(policy: Policy) -> str:
    waits = policy.in_flight is OnInFlight.WAIT
    wait = f" after {words.short(policy.wait_timeout)}" if waits else ""
    return f"{policy.in_flight_status}{wait}"


def aligned(rows: list[Row]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (zip(row, widths, strict=True) for row in rows)
    return ["  ".join(f"{cell:{width}}" for cell, width in row).rstrip() for row in padded]


def card(row: Row) -> Iterator[str]:
    """One endpoint over several lines, for a narrow terminal."""
    names = list(TERMINAL)
    yield row[0]
    for name, cell in zip(names[1:], row[1:], strict=True):
        yield f"  {name.lower():10}  {cell}"


def markdown_table(rows: list[Row]) -> str:
    head, *body = rows
    lines = [head, tuple("---" for _ in head), *body]
    escaped = ((cell.replace("|", r"\|") for cell in row) for row in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def as_data(found: list[Endpoint]) -> list[dict[str, Any]]:
    """Return everything that is known of endpoints. For the project's own use: it names views."""
    return [
        {
            "method": endpoint.method,
            "path": endpoint.path,
            "view": endpoint.view,
            "state": str(endpoint.protection.coverage),
            "settled": endpoint.is_settled,
            "reason": endpoint.protection.reason,
            "guarded_by": None if endpoint.protection.by is None else str(endpoint.protection.by),
            "policy": None
            if endpoint.protection.policy is None
            else facts(endpoint.protection.policy),
        }
        for endpoint in found
    ]
