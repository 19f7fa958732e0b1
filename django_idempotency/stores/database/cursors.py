"""Cursors for the statements of every request."""

from typing import Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper


def cursor_of(connection: BaseDatabaseWrapper) -> Any:
    """Return a cursor of Django's; one that prepares, where the project allows that.

    On PostgreSQL most of a short statement's time goes into parsing and planning it. psycopg
    prepares what it sends often if ``OPTIONS["prepare_threshold"]`` says how often that is (Django
    says never, for the sake of connection poolers), but not what Django's usual cursor sends, which
    puts the parameters into the text.
    """
    if connection.vendor != "postgresql":
        return connection.cursor()
    connection.ensure_connection()
    native = cast(Any, connection).connection
    if getattr(native, "prepare_threshold", None) is None:  # psycopg2 has none
        return connection.cursor()
    from psycopg import Cursor

    usual = native.cursor_factory
    native.cursor_factory = Cursor
    try:
        return connection.cursor()
    finally:
        native.cursor_factory = usual
