"""System checks of statistics."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import statistics
from tests.support.checking import only, silent


@pytest.fixture
def installed(settings: Any) -> Iterator[None]:
    yield from statistics.installed(settings)


class KeepsAway:
    """As routers do that list app labels."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if app_label == statistics.LABEL else None


@pytest.mark.django_db
def test_their_tables_must_be_where_they_are_written(installed: None, settings: Any) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.KeepsAway"]
    assert 'written to database "default"' in only("E080").msg
    settings.DATABASE_ROUTERS = []
    silent("E080")


@pytest.mark.django_db(transaction=True)
def test_their_tables_must_exist(installed: None) -> None:
    missing = only("W080", "default").msg
    assert "there is no table django_idempotency_statistics_reusedkeys" in missing
    with statistics.tables():
        silent("W080", "default")


@pytest.mark.django_db
def test_without_the_app_nothing_is_said() -> None:
    silent("E080", "default")
    silent("W080", "default")
