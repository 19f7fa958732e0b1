"""What the tests of non-atomic mode look at: charges at a provider outside of the database."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.shop import effects


@pytest.fixture(autouse=True)
def charges() -> Iterator[list[str]]:
    effects.charges.clear()
    yield effects.charges
    effects.charges.clear()


@pytest.fixture
def after_charge(monkeypatch: Any) -> Callable[[Callable[[], None]], None]:
    """Let something happen in the view once, after its charge."""

    def install(action: Callable[[], None]) -> None:
        def once(operation: Any) -> None:
            monkeypatch.setattr(effects, "after_charge", effects.nothing)
            action()

        monkeypatch.setattr(effects, "after_charge", once)

    return install
