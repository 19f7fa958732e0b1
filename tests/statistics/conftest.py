"""The app of statistics, for each test that asks for it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import statistics


@pytest.fixture
def installed(settings: Any) -> Iterator[None]:
    """Without its tables."""
    yield from statistics.installed(settings)


@pytest.fixture
def table(installed: None, transactional_db: None) -> Iterator[None]:
    with statistics.tables():
        yield


@pytest.fixture
def counter(table: None, monkeypatch: Any) -> Iterator[Any]:
    yield from statistics.fresh_counter(monkeypatch)
