from collections.abc import Iterator

import pytest

from django_idempotency.effects import declaring
from tests.support import effects


@pytest.fixture(autouse=True)
def _the_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It has seen nothing yet, and what a test declares is forgotten."""
    monkeypatch.setattr(declaring, "_known", dict(declaring._known))
    effects.reset()
    yield
    effects.reset()
