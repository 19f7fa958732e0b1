"""Signed text is read only as it was written, and where it was written."""

import pytest

from django_idempotency.protocol.signing import signed, verified

PLACE = ("effect", "key", "name")
STORED = signed("[1]", b"secret", PLACE)


def test_it_is_read_where_it_was_written() -> None:
    assert verified(STORED, b"secret", PLACE) == "[1]"


@pytest.mark.parametrize(
    ("stored", "secret", "place"),
    [
        (STORED.replace("[1]", "[2]"), b"secret", PLACE),
        (STORED, b"another", PLACE),
        (STORED, b"secret", ("resume", "key", "name")),
        (STORED, b"secret", ("effect", "keyn", "ame")),
        ("[1]", b"secret", PLACE),
        (":[1]", b"secret", PLACE),
        ("ü:[1]", b"secret", PLACE),
        ("", b"secret", PLACE),
    ],
)
def test_anything_else_is_refused(stored: str, secret: bytes, place: tuple[str, ...]) -> None:
    assert verified(stored, secret, place) is None
