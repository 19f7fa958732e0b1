"""Leaving values out of a JSON body before it is stored."""

import json
from collections.abc import Collection
from typing import Any

REDACTED = "[redacted]"
"""What stands in place of a value."""

BODY_HEADERS = frozenset(
    {"content-length", "content-md5", "content-digest", "repr-digest", "digest", "etag"}
)
"""Header fields that would say something untrue of a changed body (lower case)."""


class Opaque(ValueError):
    """A body cannot be looked into, so nobody can say that nothing secret is in it."""


def redacted(body: bytes, fields: Collection[str]) -> bytes:
    """Return the body with the values of some fields replaced; the same object if it has none.

    :param fields: names, which are found at any depth, or paths from the top (``card.number``);
        lists on the way are looked through
    :raises Opaque: if the body is not JSON, or an object in it has a name twice
    """
    if not body or not fields:
        return body
    try:
        document = json.loads(body, object_pairs_hook=_object)
        paths = [tuple(each.split(".")) for each in fields]
        found = [_redact(document, path, anywhere=len(path) == 1) for path in paths]
        return json.dumps(document).encode() if any(found) else body
    except (ValueError, RecursionError) as error:
        raise Opaque from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _redact(value: Any, path: tuple[str, ...], anywhere: bool) -> bool:
    """Replace what the path leads to, in place; return whether there was anything."""
    if isinstance(value, list):
        return sum(_redact(item, path, anywhere) for item in value) > 0
    if not isinstance(value, dict):
        return False
    name, *rest = path
    found = False
    for member, content in value.items():
        if member == name and not rest:
            value[member], found = REDACTED, True
        elif member == name or anywhere:
            found |= _redact(content, tuple(rest) or path, anywhere)
    return found
