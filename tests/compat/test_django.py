"""What ``compat/django.py`` uses beyond Django's documented interface, name by name. What
``compat/request_block.py`` does with those names is in ``test_request_block.py``.

A failure here names what a new Django lacks, or has another meaning for.
"""

import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django import forms
from django.db import DatabaseError, connections, transaction
from django.db.models.signals import post_delete
from django.http import HttpResponse
from django.test import RequestFactory, TestCase
from django.test.utils import CaptureQueriesContext
from django.views.decorators.cache import cache_page

import django_idempotency
from django_idempotency.compat import django as compat
from django_idempotency.stores.database.dialects import dialect_of
from tests.conftest import in_thread
from tests.shop.models import Order

PACKAGE = Path(django_idempotency.__file__).parent

NAMES = [
    *("_from_testcase", "atomic_blocks", "savepoint_ids", "needs_rollback", "run_on_commit"),
    *("execute_wrappers", "closed_in_transaction", "_rollback", "_commit", "transaction_mode"),
    *("_savepoint", "_savepoint_commit", "_savepoint_rollback"),
    *("wrap_database_errors", "inc_thread_sharing", "close_at", "_TestState"),
    *("_set_autocommit", "debug_transaction"),
    *("_raw_delete", "headers._store", "_cache_update_cache", "thing._errors"),
]

connection: Any = connections["default"]
seen: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Other tests have Django forget its connection, and make another one."""
    global connection
    connection = connections["default"]
    seen.clear()
    yield
    seen.clear()


class Hook:
    def __call__(self) -> None: ...


def begin() -> None:
    """As the dialect does it."""
    dialect_of(connection).begin(connection)


@pytest.fixture
def own() -> Iterator[Any]:
    """A connection that no request uses."""
    own = connections.create_connection("default")
    yield own
    own.close()


@pytest.mark.once
def test_only_compat_uses_these_names() -> None:
    pattern = re.compile(rf"(?<![\w.])(?:\w+\.)*({'|'.join(NAMES)})\b")
    users = {
        (file.relative_to(PACKAGE).as_posix(), found[1])
        for file in PACKAGE.rglob("*.py")
        for found in pattern.finditer(_code_of(file))
    }
    assert {name for _, name in users} == set(NAMES)
    assert {file for file, _ in users} == {"compat/django.py", "compat/request_block.py"}


def _code_of(file: Path) -> str:
    """Names that are defined here are ours: methods, and calls of them."""
    text = file.read_text()
    ours = re.findall(r"def (\w+)\(self", text)
    return re.sub(rf"(?:def |self\.)(?:{'|'.join(ours) or '$^'})\b", "", text)


@pytest.mark.django_db(transaction=True)
class TestBlocks:
    def test_atomic_blocks_and_from_testcase(self) -> None:
        assert connection.atomic_blocks == []
        with transaction.atomic():
            (block,) = connection.atomic_blocks
            assert block._from_testcase is False
            assert compat.own_blocks(connection) == [block]
            assert compat.is_inside(connection, block)
            assert not compat.is_in_test_case(connection)
        assert not compat.is_inside(connection, block)

    def test_from_testcase_is_what_a_test_case_says(self) -> None:
        blocks = TestCase._enter_atomics()
        try:
            assert compat.is_in_test_case(connection)
            assert compat.own_blocks(connection) == []
        finally:
            TestCase._rollback_atomics(blocks)

    def test_from_testcase_is_asked_by_a_durable_block_alone(self) -> None:
        ours = compat.AttemptBlock("default", savepoint=True, durable=False)
        with ours:
            with transaction.atomic():
                pass
            assert not ours.has_refused
            with pytest.raises(RuntimeError, match="durable"), transaction.atomic(durable=True):
                pass
        assert ours.has_refused

    def test_blocks_are_left_as_by_an_error(self) -> None:
        with suppress(ValueError), transaction.atomic():
            transaction.atomic().__enter__()
            Order.objects.create(item="vm")
            compat.leave_blocks(connection, 1, ValueError())
            assert compat.count_blocks(connection) == 1
            assert Order.objects.count() == 0

    def test_savepoint_ids(self) -> None:
        with transaction.atomic():
            assert compat.savepoints(connection) == []
            with transaction.atomic(savepoint=False):
                assert compat.savepoints(connection) == [None]
            with transaction.atomic():
                (name,) = compat.savepoints(connection)
                assert name

    def test_savepoint_ids_lose_an_entry_before_its_statement(self) -> None:
        def wrapper(execute: Any, sql: Any, *rest: Any) -> Any:
            if "RELEASE" in str(sql):
                seen.append(len(connection.savepoint_ids))
            return execute(sql, *rest)

        with transaction.atomic(), connection.execute_wrapper(wrapper), transaction.atomic():
            Order.objects.count()
        assert seen == [0]

    def test_needs_rollback(self) -> None:
        with transaction.atomic():
            assert not connection.needs_rollback
            with suppress(ValueError), transaction.atomic(savepoint=False):
                raise ValueError
            assert connection.get_rollback()
            compat.start_over(connection, begin)
            assert not connection.needs_rollback

    @pytest.mark.once
    def test_transaction_mode(self) -> None:
        with compat_statements() as statements:
            block = transaction.atomic()
            compat.enter_immediately(connection, block)
            block.__exit__(None, None, None)
            with transaction.atomic():
                Order.objects.count()
        assert [each for each in statements if "BEGIN" in each] == ["BEGIN IMMEDIATE", "BEGIN"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connections["default"].vendor != "mysql", reason="about MySQL")
class TestAutocommit:
    """``_set_autocommit`` switches the server's."""

    @pytest.fixture
    def begins(self) -> Any:
        def begins(execute: Any, sql: Any, *rest: Any) -> Any:
            compat.remove_wrapper(connection, begins)
            seen.append(sql)
            return execute(sql, *rest)

        return begins

    def test_a_block_is_entered_without_sending(self, begins: Any) -> None:
        connection.ensure_connection()
        block = transaction.atomic()
        compat.enter_without_sending(connection, block, begins)
        assert connection.in_atomic_block
        assert connection.connection.get_autocommit()
        compat.switch_autocommit_off(connection)
        assert not connection.connection.get_autocommit()
        assert Order.objects.count() == 0
        assert len(seen) == 1
        block.__exit__(None, None, None)
        assert connection.connection.get_autocommit()

    def test_a_block_that_connects_is_in_autocommit_like_any_other(self, begins: Any) -> None:
        connection.close()
        block = transaction.atomic()
        compat.enter_without_sending(connection, block, begins)
        assert connection.connection.get_autocommit()
        block.__exit__(None, None, None)
        Order.objects.create(item="vm")
        assert Order.objects.count() == 1


class compat_statements:  # noqa: N801  (a context manager)
    """What Django sends on the connection, control of transactions included."""

    def __enter__(self) -> list[str]:
        self._statements: list[str] = []
        compat.put_wrapper_first(connection, self._note)
        return self._statements

    def __exit__(self, *error: object) -> None:
        compat.remove_wrapper(connection, self._note)

    def _note(self, execute: Any, sql: Any, *rest: Any) -> Any:
        self._statements.append(str(sql).strip())
        return execute(sql, *rest)


@pytest.mark.django_db(transaction=True)
class TestCommits:
    def test_run_on_commit(self) -> None:
        with transaction.atomic():
            transaction.on_commit(lambda: seen.append("hook"))
            assert [entry[0] for entry in connection.run_on_commit] == [set()]
            compat.first_on_commit(connection, lambda: seen.append("first"))
        assert seen == ["first", "hook"]

    def test_hooks_that_were_set_aside_run_before_later_ones(self) -> None:
        with transaction.atomic():
            transaction.on_commit(lambda: seen.append("early"))
            restore = compat.set_hooks_aside(connection)
            transaction.on_commit(lambda: seen.append("late"))
            restore()
        assert seen == ["early", "late"]

    def test_hooks_of_savepoints_that_are_rolled_back_are_forgotten(self) -> None:
        def hook() -> None: ...

        with transaction.atomic():
            with suppress(ZeroDivisionError), transaction.atomic():
                transaction.on_commit(hook)
                assert id(hook) in compat.hooks_of(connection)
                _ = 1 / 0
            assert id(hook) not in compat.hooks_of(connection)

    def test_a_hook_is_joined_in_its_own_blocks_alone(self) -> None:
        hook = Hook()
        with transaction.atomic():
            assert compat.joinable_hook(connection, Hook) is None
            transaction.on_commit(hook)
            assert compat.joinable_hook(connection, Hook) is hook
            with transaction.atomic():
                assert compat.joinable_hook(connection, Hook) is None
            transaction.on_commit(lambda: None)
            assert compat.joinable_hook(connection, Hook) is None

    def test_what_runs_first_may_fail_and_stops_no_hook(self) -> None:
        with transaction.atomic():
            transaction.on_commit(lambda: seen.append("hook"))
            compat.run_first_on_commit(connection, lambda: seen.append(1 / len(seen)))
        assert seen == ["hook"]

    def test_rollback_beneath_open_blocks(self) -> None:
        with transaction.atomic():
            Order.objects.create(item="undone")
            transaction.set_rollback(True)
            compat.start_over(connection, begin)
            Order.objects.create(item="kept")
        assert [order.item for order in Order.objects.all()] == ["kept"]

    def test_commit_beneath_open_blocks(self) -> None:
        with transaction.atomic():
            Order.objects.create(item="kept")
            compat.commit_beneath(connection, begin)
            Order.objects.create(item="undone")
            transaction.set_rollback(True)
        assert [order.item for order in Order.objects.all()] == ["kept"]

    def test_a_commit_that_has_taken_place_is_logged_and_not_sent(self) -> None:
        """``_commit`` is what ``commit()`` sends, ``debug_transaction`` what notes it."""
        with CaptureQueriesContext(connection) as captured, transaction.atomic():
            transaction.on_commit(lambda: seen.append("hook"))
            Order.objects.create(item="undone")
            compat.skip_commit(connection, lambda: True)
            connection._rollback()
        assert captured[-1]["sql"] == "COMMIT"
        assert seen == ["hook"]
        assert not Order.objects.exists()

    @pytest.mark.parametrize("is_done", [False, True])
    def test_the_next_commit_is_sent(self, is_done: bool) -> None:
        for _ in range(1 + is_done):
            with transaction.atomic():
                Order.objects.create(item="kept")
                if not seen:
                    compat.skip_commit(connection, lambda: seen.append(1) or is_done)
                    if is_done:
                        connection._commit()
        assert in_thread(Order.objects.count).result() == 1 + is_done
        assert "_commit" not in vars(connection)

    @pytest.mark.once
    def test_wrap_database_errors(self) -> None:
        connection.ensure_connection()
        with pytest.raises(DatabaseError) as caught:
            compat.send_directly(connection, "NONSENSE")
        assert isinstance(caught.value.__cause__, sqlite3.Error)


@pytest.mark.django_db(transaction=True)
class TestStatements:
    def test_the_first_of_the_execute_wrappers_is_called_first(self) -> None:
        def wrapper(execute: Any, sql: Any, *rest: Any) -> Any:
            seen.append("first")
            return execute(sql, *rest)

        def inner(execute: Any, sql: Any, *rest: Any) -> Any:
            seen.append("project's")
            return execute(sql, *rest)

        connection.ensure_connection()
        with connection.execute_wrapper(inner):
            compat.put_wrapper_first(connection, wrapper)
            compat.put_wrapper_first(connection, wrapper)
            Order.objects.count()
        assert connection.execute_wrappers[0] is wrapper
        Order.objects.count()
        compat.remove_wrapper(connection, wrapper)
        Order.objects.count()
        assert seen == ["first", "project's", "first"]

    def test_set_rollback_is_a_request_and_a_failed_block_is_not(self) -> None:
        class Listener:
            def told(self, rollback: bool) -> None:
                seen.append(rollback)

        listener = Listener()

        def wrapper(execute: Any, *statement: Any) -> Any:
            return execute(*statement)

        compat.watch_statements(connection, wrapper, listener.told)
        with transaction.atomic():
            with suppress(ValueError), transaction.atomic(savepoint=False):
                raise ValueError
            assert seen == []
            transaction.set_rollback(False)
            transaction.set_rollback(True)
        assert seen == [False, True]
        compat.stop_watching(connection, wrapper)
        assert "set_rollback" not in vars(connection)
        assert wrapper not in connection.execute_wrappers

    def test_closed_in_transaction(self, own: Any) -> None:
        own.ensure_connection()
        session = own.connection
        assert not compat.has_lost(own, session)
        with compat.in_place_of_usual(own), suppress(DatabaseError), transaction.atomic():
            own.close()
            assert own.closed_in_transaction
            assert compat.has_lost(own, session)


class TestConnections:
    def test_errors_occurred(self, own: Any, db: None) -> None:
        own.ensure_connection()
        own.close_at = None
        compat.doubt(own)
        own.close_if_unusable_or_obsolete()
        assert own.connection is not None
        assert not own.errors_occurred

    def test_only_a_broken_connection_is_closed(self, own: Any, db: None) -> None:
        own.settings_dict = {**own.settings_dict, "CONN_MAX_AGE": 0}
        own.ensure_connection()
        compat.close_if_broken(own)
        assert own.connection is not None
        assert compat.is_obsolete(own)
        own.in_atomic_block = True
        compat.close_if_broken(own)
        assert own.connection is not None
        own.in_atomic_block = False
        own.set_autocommit(False)
        compat.close_if_broken(own)
        assert own.connection is None

    def test_an_alias_can_stand_for_another_connection(self, own: Any) -> None:
        usual = connections["default"]
        with compat.in_place_of_usual(own):
            assert connections["default"] is own
        assert connections["default"] is usual

    def test_inc_thread_sharing(self, own: Any) -> None:
        assert not own.allow_thread_sharing
        compat.share_between_threads(own)
        assert own.allow_thread_sharing

    @pytest.mark.django_db(transaction=True)
    def test_close_at(self, own: Any) -> None:
        own.settings_dict = {**own.settings_dict, "CONN_MAX_AGE": None}
        own.ensure_connection()
        assert not compat.is_obsolete(own)
        own.close()
        own.settings_dict["CONN_MAX_AGE"] = 0
        own.ensure_connection()
        assert compat.is_obsolete(own)

    def test_a_pool_is_checked_where_there_is_one(self, own: Any, monkeypatch: Any) -> None:
        compat.check_pool(own)
        if connection.vendor == "postgresql":
            assert own.pool is None
            settings = {**own.settings_dict, "CONN_MAX_AGE": 0}
            own.settings_dict = {**settings, "OPTIONS": {**settings["OPTIONS"], "pool": True}}
            monkeypatch.setattr(type(own.pool), "check", lambda pool: seen.append("checked"))
            compat.check_pool(own)
            own.close_pool()
            assert seen == ["checked"]

    @pytest.mark.once
    def test_test_state(self, monkeypatch: Any) -> None:
        assert compat.is_under_test()
        monkeypatch.delitem(sys.modules, "django.test.utils")
        assert not compat.is_under_test()


class TestQuerysets:
    @pytest.mark.django_db(transaction=True)
    def test_raw_delete_sends_no_signals(self) -> None:
        Order.objects.create(item="vm")

        def listener(**kwargs: Any) -> None:
            seen.append(kwargs)

        post_delete.connect(listener, sender=Order)
        try:
            compat.delete_without_signals(Order.objects.all(), "default")
        finally:
            post_delete.disconnect(listener, sender=Order)
        assert (Order.objects.count(), seen) == (0, [])


def test_header_fields() -> None:
    """``headers._store``: what is put there is what is set by name, and lies apart from others."""
    response, other = HttpResponse(headers={"X-Order": "7"}), HttpResponse()
    fields = compat.header_fields(other)
    fields.clear()
    fields.update(compat.header_fields(response))
    assert fields["x-order"] == ("X-Order", "7")
    assert list(other.items()) == list(response.items())
    del response["X-Order"]
    assert other["x-order"] == "7"


def test_keep_out_of_cache() -> None:
    """``_cache_update_cache``: what ``cache_page()`` would keep is not kept."""
    kept: list[bool] = []

    @cache_page(600, key_prefix=uuid4().hex)
    def view(request: Any) -> HttpResponse:
        kept.append(request._cache_update_cache)
        if len(kept) == 1:
            compat.keep_out_of_cache(request)
        return HttpResponse()

    for _ in range(4):
        view(RequestFactory().get("/kept/"))
    assert kept == [True, True]


class Quantity(forms.Form):
    number = forms.IntegerField()

    def clean_number(self) -> int:
        seen.append(self)
        return int(self.cleaned_data["number"])


Quantities = forms.formset_factory(Quantity)
SENT = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "0"}


@pytest.mark.parametrize(
    ("form", "is_invalid"),
    [
        (Quantity({}), True),
        (Quantity({"number": "1"}), False),
        (Quantity(), False),
        (Quantities(SENT | {"form-0-number": "x"}), True),
        (Quantities(SENT | {"form-0-number": "1"}), False),
        (Quantities(), False),
    ],
)
def test_was_found_invalid(form: Any, is_invalid: bool) -> None:
    """``_errors``: a form that nobody has validated is not validated for this."""
    form._errors = None  # it may be run again
    assert not compat.was_found_invalid(form)
    assert seen == []
    form.is_valid()
    assert compat.was_found_invalid(form) is is_invalid
    assert not compat.was_found_invalid("form")
