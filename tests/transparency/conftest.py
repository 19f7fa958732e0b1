"""The project, guarded or bare."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rest_framework.authtoken.models import Token

from tests.conftest import Caller
from tests.support.adapters import MIDDLEWARE
from tests.transparency import project
from tests.transparency.project import BARE, handled, seen


@pytest.fixture(autouse=True)
def _project(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = project.__name__
    yield
    seen.clear()
    handled.clear()


@pytest.fixture
def bare(settings: Any, caller: Caller) -> Callable[..., Any]:
    """Post to the same project without the guard."""

    def post(url: str, data: Any = None, **extra: Any) -> Any:
        middlewares = settings.MIDDLEWARE
        settings.MIDDLEWARE = [name for name in middlewares if name != MIDDLEWARE]
        adapter = next((adapter for adapter in BARE if url.startswith(adapter)), "")
        somebody = Caller(f"bare-{Token.objects.count()}")
        response = somebody.post(BARE.get(adapter, adapter) + url[len(adapter) :], data, **extra)
        settings.MIDDLEWARE = middlewares
        return response

    return post
