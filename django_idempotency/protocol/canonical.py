"""One spelling for equal JSON documents."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import NoReturn


def canonical_json(raw: bytes, wanted: Callable[[str], bool] | None = None) -> bytes | None:
    """Return the same bytes for JSON documents that differ in key order and white space only.

    Types and values are never confused: ``1``, ``1.0``, ``"1"`` and ``true`` differ, integers
    and decimals of any size are exact. ``None`` means that the text has no canonical form
    (not UTF-8, not JSON, duplicate names, ``NaN``, nested too deeply): compare its bytes.

    :param wanted: whether a member of the outermost object counts
    """
    try:
        document = _DECODER.decode(raw.decode())
        if wanted is not None and isinstance(document, dict) and "f" not in document:
            document = {name: value for name, value in document.items() if wanted(name[1:])}
        text = _ENCODER.encode(document)
    except (ValueError, ArithmeticError, RecursionError):
        return None
    return text.encode("ascii")


# Every name of a real object gets a prefix, so that {"f": ...} can only mean a real number.


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = {"k" + name: value for name, value in pairs}
    if len(members) != len(pairs):
        raise ValueError("duplicate names")
    return members


def _real(token: str) -> dict[str, str]:
    sign, digits, exponent = Decimal(token).as_tuple()
    text = "".join(map(str, digits))
    significant = text.rstrip("0")
    scale = int(exponent) + len(text) - len(significant) if significant else 0
    return {"f": f"{'-' if sign else ''}{significant or '0'}e{scale}"}


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Made once: :func:`json.loads` and :func:`json.dumps` would make them for every document.
_DECODER = json.JSONDecoder(parse_float=_real, parse_constant=_refuse, object_pairs_hook=_object)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
