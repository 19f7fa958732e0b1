"""What ``compat/mysqlclient.py`` takes for granted about the drivers of MySQL and MariaDB."""

from contextlib import suppress
from typing import Any

import pytest
from django.db import connections

from django_idempotency.compat import mysqlclient as compat
from tests.support.databases import DATABASE

pytestmark = [
    pytest.mark.skipif(DATABASE != "mariadb", reason="about MariaDB's driver"),
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def own() -> Any:
    """A connection that no request uses."""
    own = connections.create_connection("default")
    own.settings_dict = {**own.settings_dict, "OPTIONS": dict(own.settings_dict["OPTIONS"])}
    yield own
    own.close()


def test_client_flag(own: Any) -> None:
    own.ensure_connection()
    assert compat.sends_several(own.connection)
    own.close()
    own.settings_dict["OPTIONS"]["multi_statements"] = False
    own.ensure_connection()
    assert not compat.sends_several(own.connection)


def test_get_autocommit_is_what_the_server_has_said(own: Any) -> None:
    """Also with the last answer of several, and where an error has kept it from changing."""
    own.ensure_connection()
    session = own.connection
    assert compat.is_in_autocommit(session)
    for text, expected in (
        ("START TRANSACTION; SET autocommit = 0; SELECT 1", False),
        ("SELECT 1; SET autocommit = (1 = 0)", False),
        ("SELECT 1; SET autocommit = (1 = 1)", True),
        ("SET autocommit = 0; RELEASE SAVEPOINT nowhere; SET autocommit = 1", False),
    ):
        with session.cursor() as cursor, suppress(session.OperationalError):
            cursor.execute(text)
            while cursor.nextset():
                pass
        assert compat.is_in_autocommit(session) is expected
    own.connection = None
    session.close()
    assert compat.is_in_autocommit(session)


def test_other_drivers_say_nothing() -> None:
    assert not compat.sends_several(object())
    assert not compat.is_in_autocommit(object())
