"""What goes wrong below a function is told in words that fit a function, not only a view."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, transaction

from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations import current_operation, run_once
from django_idempotency.operations.errors import (
    ChangedRecipe,
    EndsTransaction,
    LostRecord,
    LostWrites,
    StepError,
)
from tests.shop.models import Coupon, Order

pytestmark = pytest.mark.django_db(transaction=True)


def commits() -> None:
    Order.objects.create(item="vm")
    with connection.cursor() as cursor:
        cursor.execute("COMMIT")


def swallows_an_error() -> None:
    Coupon.objects.create(code="one")
    try:
        with transaction.atomic(savepoint=False):
            Coupon.objects.create(code="one")
    except IntegrityError:
        pass


def wants_durability() -> None:
    with transaction.atomic(durable=True):
        pass


def takes_a_step() -> None:
    current_operation().step("order", str)


def loses_its_record() -> None:
    current_operation().step("first", int)
    # As an attempt that has taken over does.
    current_operation()._record_lock._session.close()  # type: ignore[attr-defined]
    IdempotencyRecord.objects.update(attempt=7)
    current_operation().step("second", int)


def runs_another() -> None:
    run_once(takes_a_step, key="inner", scope="s")


def keeps(name: str) -> None:
    current_operation().step(name, int)
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (commits, EndsTransaction),
        (swallows_an_error, LostWrites),
        (wants_durability, RuntimeError),
        (takes_a_step, StepError),
        (runs_another, ImproperlyConfigured),
    ],
)
def test_in_atomic_mode(function: Callable[[], None], kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        run_once(function, key="k", scope="s")
    _fits(caught.value)
    assert not Order.objects.exists()


def test_around_it() -> None:
    for options in ({}, {"atomic": False}):
        with pytest.raises(ImproperlyConfigured) as caught, transaction.atomic():
            run_once(takes_a_step, key="k", scope="s", **options)
        _fits(caught.value)


def test_in_non_atomic_mode() -> None:
    with pytest.raises(LostRecord) as lost:
        run_once(loses_its_record, key="k", scope="s", atomic=False)
    _fits(lost.value)


def test_steps_that_have_changed() -> None:
    options: dict[str, Any] = {"atomic": False, "on_interrupted": "run"}
    with pytest.raises(ZeroDivisionError):
        run_once(names_of_steps, key="k", scope="s", **options)
    names.append("later")
    with pytest.raises(ChangedRecipe) as caught:
        run_once(names_of_steps, key="k", scope="s", **options)
    names.clear()
    _fits(caught.value)


names: list[str] = []


def names_of_steps() -> None:
    keeps("".join(names) or "first")


def _fits(error: BaseException) -> None:
    text = " ".join([str(error), *getattr(error, "__notes__", ())])
    assert "view" not in text or "function" in text
    assert "response" not in text or "result" in text
