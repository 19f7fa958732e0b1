"""One spelling for equal JSON documents."""

import json
import marshal
from collections.abc import Callable
from typing import Any, NoReturn


def plain_text(data: Any) -> str | None:
    """Return data as JSON; ``None`` if it would not come back equal."""
    try:
        text = json.dumps(data, allow_nan=False)
        return text if json.loads(text) == data else None
    except (TypeError, ValueError, RecursionError):
        return None


Select = Callable[[Any], Any]
"""Returns the part of a document that counts. It changes nothing in place."""


def canonical_json(raw: bytes, select: Select | None = None) -> bytes | None:
    """Return the same bytes for JSON documents that differ in key order and white space only.

    Types and values are never confused: ``1``, ``1.0``, ``"1"`` and ``true`` differ, integers
    and decimals of any size are exact. ``None`` means that the text has no canonical form
    (not UTF-8, not JSON, duplicate names, ``NaN``, nested too deeply): compare its bytes.

    It costs one to three times what :func:`json.loads` does; more only where a document consists of
    numbers with exponents beyond a float's usual range.

    :param select: what of the document counts; real numbers are ``bytes`` in it
    """
    try:
        document = _DECODER.decode(raw.decode())
        if select is not None:
            document = select(document)
        # What can be loaded again confuses nothing. Version 2 is the newest in which equal objects
        # are equal bytes: later ones say which objects are the same one.
        return marshal.dumps(document, 2)
    except (ValueError, TypeError, RecursionError):
        return None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # Equal names compare their values, which may be a TypeError: refused in any case.
    members = dict(sorted(pairs))
    if len(members) != len(pairs):
        raise ValueError("duplicate names")
    return members


# A real number becomes bytes, which nothing else in a document is: its digits without what does not
# matter ("1.50" and "15e-1" are b"1.5", "100.0" is b"100."). A float would lose digits.


def _real(token: str) -> bytes:
    if "e" not in token and "E" not in token:
        return token.rstrip("0").encode()
    if len(token) <= _EXACT:
        value = float(token)
        if 1e-4 <= abs(value) < 1e16:  # Python writes others with an exponent
            return repr(value).rstrip("0").encode()
    return _shifted(token)


_EXACT = 17
"""Characters of a number with an exponent that has 15 digits at most, which a float keeps all
(DBL_DIG of IEEE 754): the quick way for what almost every such number is."""


def _shifted(token: str) -> bytes:
    """Move the point by the exponent; far beyond, keep an exponent."""
    mantissa, _, power = token.lower().partition("e")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    sign = "-" if mantissa[0] == "-" else ""
    significant = (whole + fraction).lstrip("0")
    if not significant:
        return f"{sign}0.".encode()
    # The value is 0.<significant> times ten to the power of <point>.
    point = len(whole) + int(power) - (len(whole + fraction) - len(significant))
    significant = significant.rstrip("0")
    if not -_FAR <= point <= _FAR:
        return f"{sign}{significant}e{point}".encode()
    digits = significant.rjust(len(significant) - point, "0") if point < 0 else significant
    digits = digits.ljust(point, "0")
    at = max(point, 0)
    return f"{sign}{digits[:at] or '0'}.{digits[at:]}".encode()


_FAR = 400
"""Places by which a point is moved; no float goes further."""


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Made once: :func:`json.loads` would make one for every document.
_DECODER = json.JSONDecoder(parse_float=_real, parse_constant=_refuse, object_pairs_hook=_object)
