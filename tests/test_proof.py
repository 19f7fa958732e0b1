"""Short forms of the experiments that ``make proof`` runs in full."""

from typing import Any

import pytest

from proof import hostile

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("proof.world"),
]


@pytest.mark.parametrize("experiment", [hostile.stored_rows, hostile.headers, hostile.bodies])
def test_hostile_input_gets_clear_errors(experiment: Any) -> None:
    """I2, I7; trap 24."""
    assert experiment(40).violations == []
