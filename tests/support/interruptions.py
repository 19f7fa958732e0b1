"""Views that end as a killed worker does, and stores that are busy."""

from typing import Any

import pytest

from django_idempotency.stores.base import Busy
from tests.conftest import Caller


class Crash(BaseException):
    """Ends the view as a killed worker does: nobody handles it."""


def crash() -> None:
    raise Crash


def interrupt(caller: Caller, after_charge: Any, path: str) -> None:
    after_charge(crash)
    with pytest.raises(Crash):
        caller.post(path)


def busy(*args: Any) -> Any:
    raise Busy(waited=True)
