"""One server for all contracts, and the case a test is about."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.contracts.operations import Case, Operation
from tests.contracts.shop import Shop, open_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: Any, django_db_blocker: Any) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("example"), django_db_blocker.unblock) as shop:
        yield shop


@pytest.fixture
def operation(request: Any) -> Operation:
    return request.param


@pytest.fixture
def case(shop: Shop, operation: Operation) -> Case:
    return operation(shop, 0)


@pytest.fixture
def stranger(shop: Shop, operation: Operation, case: Case) -> Case:
    """The same key in the hands of another caller."""
    return replace(operation(shop, 1), key=case.key)
