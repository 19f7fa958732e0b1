"""Functions that run once per key (I20)."""

import json
import pickle
from datetime import timedelta
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import F
from django.http import HttpResponse

from django_idempotency.decorators import PolicyError
from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from django_idempotency.operations import (
    KeyExpired,
    KeyReused,
    NotPlainData,
    OperationError,
    OperationInFlight,
    OutcomeUnknown,
    ResultUnavailable,
    arun_once,
    current_operation,
    idempotent_function,
    run_once,
)
from django_idempotency.resolving import RUN_AGAIN
from django_idempotency.signals import SIGNALS, connect
from tests.conftest import in_thread, row_locks
from tests.shop.effects import finish, what_to_finish
from tests.shop.models import Order
from tests.support.counting import claim_lock_and_store, counted

pytestmark = pytest.mark.django_db(transaction=True)


def buy(item: str, **more: Any) -> dict[str, Any]:
    """Write something, and return plain data."""
    order = Order.objects.create(item=item)
    return {"id": order.pk, "item": item, **more}


def once(item: str = "vm", key: str = "k", scope: str = "s", **options: Any) -> Any:
    return run_once(buy, item, key=key, scope=scope, **options)


def test_a_second_call_returns_the_stored_result() -> None:
    assert once() == once() == {"id": Order.objects.get().pk, "item": "vm"}


def test_each_scope_has_keys_of_its_own() -> None:
    assert once(scope="a") != once(scope="b")
    assert Order.objects.count() == 2


def test_other_arguments_or_another_function_are_an_error() -> None:
    once()
    for again in (
        lambda: once("another vm"),
        lambda: once(kwargs={"note": "a"}),
        lambda: run_once(json.dumps, "vm", key="k", scope="s"),
    ):
        with pytest.raises(KeyReused, match=r"other arguments.*scope 's'"):
            again()
    assert Order.objects.count() == 1


def test_a_name_outlives_a_rename() -> None:
    def renamed(item: str) -> dict[str, Any]:
        return buy(item)

    first = once(name="shop.buy")
    assert run_once(renamed, "vm", key="k", scope="s", name="shop.buy") == first
    assert IdempotencyRecord.objects.get().path == "shop.buy"


def test_an_exception_undoes_everything_and_the_next_call_runs() -> None:
    def fail(item: str) -> None:
        buy(item)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_once(fail, "vm", key="k", scope="s", name="buy")
    assert not Order.objects.exists()
    assert once(name="buy")["item"] == "vm"


@pytest.mark.parametrize(
    ("arguments", "kind"), [([object()], "object"), ([float("nan")], "float"), ([{1: 2}], "dict")]
)
def test_arguments_are_plain_data(arguments: list[Any], kind: str) -> None:
    with pytest.raises(NotPlainData, match=rf"arguments \({kind}\) must be plain data"):
        run_once(buy, *arguments, key="k", scope="s")
    assert not IdempotencyRecord.objects.exists()


def test_a_result_is_plain_data_or_nothing_stays() -> None:
    def order(item: str) -> Order:
        return Order.objects.create(item=item)

    with pytest.raises(NotPlainData, match="returned Order"):
        run_once(order, "vm", key="k", scope="s")
    assert not Order.objects.exists()


@pytest.mark.parametrize("key", ["", None, 7, b"k", "a\0b", "a\nb", "ä", "k" * 256])
def test_a_key_is_text(key: Any) -> None:
    with pytest.raises(ValueError, match="A key is text of 1 to 255"):
        once(key=key)
    assert not IdempotencyRecord.objects.exists()


def test_a_function_without_a_name_is_given_one() -> None:
    for nameless in (partial(buy, "vm"), lambda: buy("vm")):
        with pytest.raises(TypeError, match=r"has no name\. Give name="):
            run_once(nameless, key="k", scope="s")
    assert run_once(partial(buy, "vm"), key="k", scope="s", name="buy")["item"] == "vm"


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", 7])
def test_a_name_is_text(name: Any) -> None:
    with pytest.raises(ValueError, match="printable text"):
        once(name=name)


@pytest.mark.parametrize("scope", ["", None, 7])
def test_a_scope_is_text(scope: Any) -> None:
    with pytest.raises(ValueError, match="A scope is a text"):
        once(scope=scope)


def test_options_without_a_meaning_are_refused() -> None:
    with pytest.raises(PolicyError, match="is no option of a function"):
        once(not_stored=[404])
    with pytest.raises(PolicyError, match="retention"):
        idempotent_function(scope="s", retention="24h")


def test_an_open_transaction_around_it_is_refused() -> None:
    with transaction.atomic(), pytest.raises(ImproperlyConfigured, match=r"transaction.atomic\(\)"):
        once()


def test_a_durable_block_within_says_what_to_do() -> None:
    def durable() -> None:
        with transaction.atomic(durable=True):
            pass

    with pytest.raises(RuntimeError) as raised:
        run_once(durable, key="k", scope="s")
    assert "atomic=False" in raised.value.__notes__[0]


@row_locks
def test_in_flight_is_an_error_that_says_when_to_come_again() -> None:
    def meanwhile(item: str) -> None:
        with pytest.raises(OperationInFlight, match="has not ended yet") as raised:
            in_thread(lambda: once(name="outer", retry_after=7)).result()
        assert pickle.loads(pickle.dumps(raised.value)).retry_after == 7

    run_once(meanwhile, "vm", key="k", scope="s", name="outer")


def test_expired_runs_anew_or_is_refused() -> None:
    first = once()
    IdempotencyRecord.objects.update(expires_at=F("created_at") - timedelta(minutes=1))
    with pytest.raises(KeyExpired):
        once(tombstone=timedelta(hours=1))
    assert once() != first


def test_within_it_the_operation_is_known() -> None:
    def derive() -> list[Any]:
        operation = current_operation()
        return [operation.key, operation.attempt, operation.derive_key("charge")]

    key, attempt, derived = run_once(derive, key="k", scope="s")
    assert (key, attempt, len(derived)) == ("k", 1, 36)
    with pytest.raises(RuntimeError, match="No function runs under a key"):
        current_operation()


class TestNonAtomic:
    """The function owns its transactions."""

    def test_steps_are_taken_once(self) -> None:
        taken: list[str] = []

        def charge_then_ship(fails: bool = False) -> Any:
            step = current_operation().step
            charge = step("charge", lambda: taken.append("charge") or buy("vm"))
            if not taken[1:]:
                taken.append("failed")
                raise ZeroDivisionError
            return charge

        options = {"atomic": False, "on_interrupted": "run", "key": "k", "scope": "s"}
        with pytest.raises(ZeroDivisionError):
            run_once(charge_then_ship, **options)
        assert run_once(charge_then_ship, **options)["item"] == "vm"
        assert taken == ["charge", "failed"]

    def test_an_interrupted_run_is_not_repeated_silently(self) -> None:
        """I11."""

        def fail() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            run_once(fail, key="k", scope="s", atomic=False)
        with pytest.raises(OutcomeUnknown, match="resolve_idempotency_record"):
            run_once(fail, key="k", scope="s", atomic=False)
        with pytest.raises(ZeroDivisionError):
            run_once(fail, key="k", scope="s", atomic=False, resolver=lambda operation: RUN_AGAIN)

    def test_a_resolver_finds_the_result(self) -> None:
        def fail() -> None:
            raise ZeroDivisionError

        options: dict[str, Any] = {"key": "k", "scope": "s", "atomic": False}
        with pytest.raises(ZeroDivisionError):
            run_once(fail, **options)
        with pytest.raises(NotPlainData, match=r"resolver of .*fail returned HttpResponse"):
            run_once(fail, **options, resolver=lambda operation: HttpResponse())
        for _ in "12":
            found = run_once(fail, **options, resolver=lambda operation: {"charge": 7})
            assert found == {"charge": 7}

    def test_a_handler_that_the_settings_declare_is_for_views(self, settings: Any) -> None:
        """It needs a request, and here is none."""
        for options in ({"RESUMABLE": True}, {"RESUMABLE": finish, "RESUME_DATA": what_to_finish}):
            settings.IDEMPOTENCY = options
            assert once(key=str(options), atomic=False)["item"] == "vm"
        assert set(IdempotencyStep.objects.values_list("name", flat=True)) == {""}


def test_async_functions_run_too() -> None:
    async def order(item: str) -> dict[str, Any]:
        return {"id": (await Order.objects.acreate(item=item)).pk}

    async def twice() -> list[Any]:
        return [await arun_once(order, "vm", key="k", scope="s") for _ in "12"]

    first, second = async_to_sync(twice)()
    assert first == second == {"id": Order.objects.get().pk}


def test_a_decorator_may_pass_more_arguments_than_its_caller() -> None:
    @wraps(buy)
    def narrow(item: str) -> Any:
        return buy(item, size=1)

    def with_size(size: int, item: str) -> Any:
        return buy(item, size=size)

    @wraps(with_size)
    def injected(*args: Any, **kwargs: Any) -> Any:
        return with_size(1, *args, **kwargs)

    functions: tuple[Any, ...] = (narrow, injected)
    for number, function in enumerate(functions):
        key = str(number)
        first = run_once(function, "vm", key=key, scope="s")
        assert run_once(function, "vm", key=key, scope="s") == first
        with pytest.raises(KeyReused):
            run_once(function, "another vm", key=key, scope="s")
    with pytest.raises(TypeError, match="missing"):
        run_once(buy, key="none", scope="s")


class TaskContext:
    """As django.tasks passes it."""

    task_result = SimpleNamespace(id="a-task")


def test_what_follows_a_context_is_compared() -> None:
    @idempotent_function(scope="s")
    def handle(*args: Any) -> int:
        return len(args)

    @idempotent_function(scope="named")
    def named(context: Any, item: str) -> str:
        return item

    assert handle(TaskContext(), "vm") == handle(TaskContext(), "vm") == 2
    assert named(TaskContext(), "vm") == named(TaskContext(), item="vm") == "vm"
    for function in (handle, named):
        with pytest.raises(KeyReused):
            function(TaskContext(), "another vm")


class TestDecorator:
    """``@idempotent_function``."""

    def test_the_key_is_a_function_of_the_arguments(self) -> None:
        @idempotent_function(scope="s", key=lambda message, item: message)
        def handle(message: str, item: str) -> dict[str, Any]:
            """Its docstring."""
            return buy(item)

        assert handle("m1", "vm") == handle("m1", item="vm")
        assert handle("m2", "vm") != handle("m1", "vm")
        assert handle.__doc__ == "Its docstring."

    def test_without_a_task_there_is_no_key(self) -> None:
        handle = idempotent_function(scope="s")(buy)
        with pytest.raises(ImproperlyConfigured, match=r"buy has no key.*its id is the key"):
            handle("vm")

    def test_an_async_function_stays_async(self) -> None:
        @idempotent_function(scope="s", key=lambda item: "k")
        async def order(item: str) -> int:
            return (await Order.objects.acreate(item=item)).pk

        async def twice() -> list[int]:
            return [await order("vm"), await order("vm")]

        first, second = async_to_sync(twice)()
        assert first == second


def test_encrypted_results(settings: Any) -> None:
    from cryptography.fernet import Fernet

    settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
    item = "a server that nobody may know of"
    assert once(item, codec="fernet") == once(item, codec="fernet")
    assert item.encode() not in bytes(IdempotencyRecord.objects.get().response_body)
    settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
    with pytest.raises(ResultUnavailable, match="encryption key"):
        once(item, codec="fernet")


def test_it_costs_what_a_request_costs() -> None:
    once(key="warm-up")
    with counted() as first:
        once()
    assert first.statements == claim_lock_and_store() + 1
    with counted() as second:
        once()
    assert (second.statements, second.control) == (1, 0)


def test_signals_and_the_log_know_functions(caplog: Any) -> None:
    seen: list[Any] = []

    def receiver(sender: Any, event: Any, request: Any, **kwargs: Any) -> None:
        seen.append((sender, event.outcome, event.method, event.view, request.path))

    connect(receiver)
    once(name="shop.buy")
    once(name="shop.buy")
    with pytest.raises(KeyReused):
        once("other", name="shop.buy")
    facts = (buy, "RUN", "shop.buy", "shop.buy")
    assert [each[1] for each in seen] == ["executed", "replayed", "mismatch"]
    assert {(each[0], *each[2:]) for each in seen} == {facts}
    for signal in SIGNALS.values():
        signal.disconnect(receiver)


def test_all_errors_are_one_kind() -> None:
    for each in (KeyExpired, KeyReused, OperationInFlight, OutcomeUnknown, ResultUnavailable):
        assert issubclass(each, OperationError)


def test_in_a_test_case(django_db_blocker: Any) -> None:
    from django.test import TestCase

    class InOneTransaction(TestCase):
        def test(self) -> None:
            assert once() == once()

    result = InOneTransaction("test").run()
    assert result is not None
    assert result.wasSuccessful(), result.errors + result.failures
