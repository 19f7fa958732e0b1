"""JSON with line breaks and indents.

Only white space changes: parsed and written again, numbers and repeated names would not be what is
replayed.
"""

import json
import re
from collections.abc import Iterator
from itertools import chain, pairwise

_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[][{},:]|[^][{},:"\s]+')
_OPENING = ("{", "[")
_CLOSING = ("}", "]")


def is_json(text: str) -> bool:
    """Whether it is an object or an array."""
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def indented(text: str, limit: int) -> str:
    """Return JSON with each member and element on a line of its own.

    :param limit: stop after so many characters; deeply nested brackets would otherwise become as
        many spaces as the square of their number
    """
    shown, length = [], 0
    for piece in _pieces(part[0] for part in _PART.finditer(text)):
        shown.append(piece)
        length += len(piece)
        if length > limit:
            break
    return "".join(shown)


def _pieces(parts: Iterator[str]) -> Iterator[str]:
    depth = 0
    for part, following in pairwise(chain(parts, [""])):
        opens, closes = part in _OPENING, following in _CLOSING
        depth += (opens and not closes) - (closes and not opens)
        yield part
        if part == ":":
            yield " "
        elif part == "," or opens != closes:
            yield "\n" + "  " * depth
