"""JSON with line breaks and indents.

Only white space changes: parsed and written again, numbers and repeated names would not be what is
replayed.
"""

import json
import re
from collections.abc import Iterator

_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[][{},:]|[^][{},:"\s]+')
_OPENING = ("{", "[")
_CLOSING = ("}", "]")


def is_json(text: str) -> bool:
    """Whether it is an object or an array."""
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def indented(text: str) -> str:
    """Return JSON with each member and element on a line of its own."""
    return "".join(_lines(_PART.findall(text)))


def _lines(parts: list[str]) -> Iterator[str]:
    depth = 0
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        opens, closes = part in _OPENING, following in _CLOSING
        depth += (opens and not closes) - (closes and not opens)
        yield part
        if part == ":":
            yield " "
        elif part == "," or opens != closes:
            yield "\n" + "  " * depth
