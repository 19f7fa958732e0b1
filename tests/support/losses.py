"""Ways in which the writes of a view are lost, although it answers as if they were not."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from django.db import (
    DatabaseError,
    IntegrityError,
    close_old_connections,
    connection,
    connections,
    transaction,
)
from django.db.models.signals import post_delete

from tests.conftest import in_thread
from tests.shop.models import Coupon, GiftCoupon, Order
from tests.support.databases import DATABASE

Loss = Callable[[], None]


def run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


# Errors that a view catches where Django has marked the transaction for rollback.


def bulk_create() -> None:
    with suppress(IntegrityError):
        Coupon.objects.bulk_create([Coupon(code="taken")])


def two_tables() -> None:
    with suppress(IntegrityError):
        GiftCoupon.objects.create(code="taken", giver="bert")


def without_savepoint() -> None:
    with suppress(IntegrityError), transaction.atomic(savepoint=False):
        Coupon.objects.create(code="taken")


def no_database_error() -> None:
    with suppress(ValueError), transaction.atomic(savepoint=False):
        raise ValueError


def after_a_healed_error() -> None:
    with suppress(IntegrityError), transaction.atomic():
        Coupon.objects.create(code="taken")
    without_savepoint()


def after_a_healed_wish() -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
    without_savepoint()


def delete() -> None:
    def refuse(**kwargs: Any) -> None:
        raise ValueError("a receiver of the signal fails")

    post_delete.connect(refuse, sender=Coupon)
    try:
        with suppress(ValueError):
            Coupon.objects.filter(code="taken").delete()
    finally:
        post_delete.disconnect(refuse, sender=Coupon)


CAUGHT = [
    *(bulk_create, two_tables, without_savepoint, no_database_error, delete),
    *(after_a_healed_error, after_a_healed_wish),
]


# The server undoes everything, or the session is lost.


def kill() -> None:
    """Inside of a block, whose savepoint cannot be rolled back to any more."""
    with connection.cursor() as cursor:
        mysql = connection.vendor == "mysql"
        cursor.execute("SELECT CONNECTION_ID()" if mysql else "SELECT pg_backend_pid()")
        session = cursor.fetchone()[0]

    def rival() -> None:
        run(f"KILL {session}" if mysql else f"SELECT pg_terminate_backend({session})")

    with suppress(DatabaseError), transaction.atomic():
        in_thread(rival).result()
        Order.objects.create(item="lost")


def aborted() -> None:
    """PostgreSQL refuses everything after an error; Django does not know of it."""
    with suppress(DatabaseError):
        run("SELECT 1 / 0")


def or_rollback() -> None:
    with suppress(IntegrityError):
        run("INSERT OR ROLLBACK INTO shop_coupon (code) VALUES ('taken')")


def procedure() -> None:
    """Called without an execute wrapper, and nobody sees what it does."""
    with connection.cursor() as cursor:
        cursor.callproc("undo_everything")


def deadlock() -> None:
    """Inside of a procedure, so that the error passes no execute wrapper either."""
    first, second = GiftCoupon.objects.order_by("pk").values_list("pk", flat=True)
    has_locked = threading.Event()

    def rival() -> None:
        with transaction.atomic():
            # InnoDB undoes whoever has written less.
            Order.objects.bulk_create([Order(item="weight") for _ in range(50)])
            GiftCoupon.objects.filter(pk=second).update(giver="rival")
            has_locked.set()
            GiftCoupon.objects.filter(pk=first).update(giver="rival")
            transaction.set_rollback(True)

    GiftCoupon.objects.filter(pk=first).update(giver="view")
    other = in_thread(rival)
    assert has_locked.wait(30)
    with connection.cursor() as cursor, pytest.raises(DatabaseError, match="1213"):
        cursor.callproc("touch_gift", [second])
    other.result()


def snapshot_conflict() -> None:
    """With ``innodb_snapshot_isolation``, the default from MariaDB 11.6.2 on."""
    run("SELECT giver FROM shop_giftcoupon")  # the snapshot
    in_thread(lambda: GiftCoupon.objects.update(giver=str(uuid4()))).result()
    with pytest.raises(DatabaseError, match="1020"):
        run("UPDATE shop_giftcoupon SET giver = 'view'")


SERVER = {
    "postgresql": [kill, aborted],
    "mariadb": [kill, procedure, deadlock, snapshot_conflict],
    "sqlite": [or_rollback],
}[DATABASE]


# The view takes the connection away.


def close() -> None:
    connection.close()


def close_old() -> None:
    close_old_connections()


def reconnect() -> None:
    connection.close()
    connection.connect()


def forget() -> None:
    del connections["default"]


CLOSING = [close, close_old, reconnect]


# What only the driver or the server could tell: the writes before are committed.


def driver_commits() -> None:
    connections["default"].connection.commit()


def procedure_commits() -> None:
    with connection.cursor() as cursor:
        cursor.callproc("commit_everything")


def driver_commits_and_goes_on() -> None:
    native: Any = connection.connection
    native.commit()
    native.cursor().execute("SELECT 1")


COMMITTED = {
    "postgresql": [driver_commits, driver_commits_and_goes_on],
    "mariadb": [driver_commits, driver_commits_and_goes_on, procedure_commits],
    "sqlite": [driver_commits],
}[DATABASE]


# Statements that end a transaction; none of them reaches the database.

_MYSQL = [
    *("CREATE TABLE other (id INT)", "drop table shop_order", "TRUNCATE TABLE shop_order"),
    *("SET autocommit = 1", "START TRANSACTION", "ALTER TABLE shop_order ADD COLUMN x INT"),
    *("LOCK TABLES shop_order WRITE", "ANALYZE TABLE shop_order"),
]
ENDINGS = ["COMMIT", " /* now */ commit", "ROLLBACK", "-- now\nBEGIN"]
ENDINGS += {
    "postgresql": [
        "END",
        "ABORT",
        "COMMIT AND CHAIN",
        "PREPARE TRANSACTION 'x'",
        "SELECT 1; COMMIT",
    ],
    "mariadb": [*_MYSQL, "SELECT 1; COMMIT"],
    "sqlite": ["END TRANSACTION"],
}[DATABASE]

HARMLESS = ["SAVEPOINT x", "ROLLBACK TO SAVEPOINT x", "rollback to x", "RELEASE SAVEPOINT x"]
HARMLESS += {
    "postgresql": ["SELECT 'a; COMMIT'", "SELECT $$;COMMIT$$", "SELECT 1; SELECT 2", "(SELECT 1)"],
    "mariadb": [
        *("CREATE TEMPORARY TABLE t (id INT)", "DROP TEMPORARY TABLE t", "SET autocommit = 0"),
        *("SELECT 'a; COMMIT'", "BEGIN NOT ATOMIC DECLARE x INT; SET x = 1; END"),
    ],
    "sqlite": ["SELECT 'a; COMMIT'"],
}[DATABASE]


def setup() -> None:
    """What the losses need."""
    Coupon.objects.create(code="taken")
    for code in ("first", "second"):
        GiftCoupon.objects.create(code=code, giver="bert")
    if DATABASE == "mariadb":
        for name in ("undo_everything", "commit_everything", "touch_gift"):
            run(f"DROP PROCEDURE IF EXISTS {name}")
        run("CREATE PROCEDURE undo_everything() ROLLBACK")
        run("CREATE PROCEDURE commit_everything() SET autocommit = 1")
        run(
            "CREATE PROCEDURE touch_gift(number BIGINT) "
            "UPDATE shop_giftcoupon SET giver = 'view' WHERE coupon_ptr_id = number"
        )
