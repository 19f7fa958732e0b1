"""Every way into the guard, as parameters."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.databases import DATABASE

MIDDLEWARE = "django_idempotency.middleware.IdempotencyMiddleware"


@dataclass(frozen=True)
class Adapter:
    """A guarded view and the project around it."""

    path: str
    middleware: bool
    atomic_requests: bool
    asgi: bool = False

    def __str__(self) -> str:
        middleware = "with" if self.middleware else "without"
        atomic = "-atomic-requests" if self.atomic_requests else ""
        asgi = "-asgi" if self.asgi else ""
        return f"{self.path.strip('/').replace('/', '-')}-{middleware}-middleware{atomic}{asgi}"


PLAIN = ["/function/", "/class/", "/rest/", "/viewset/", "/viewset-action/", "/rest-function/"]
"""Views that know nothing of the guard: only the middleware guards them."""

DECORATED = [
    "/decorated-function/",
    "/decorated-class/",
    "/decorated-method/",
    "/decorated-rest/",
    "/decorated-rest-method/",
    "/decorated-viewset/",
    "/decorated-viewset-action/",
    "/decorated-create/",
    "/decorated-action/",
    "/action-decorated/",
    "/decorated-rest-function/",
    "/outside-decorated-rest-function/",
]

SYNC_ADAPTERS = [
    Adapter(path, middleware, atomic_requests)
    for atomic_requests in (False, True)
    for middleware, paths in ((True, PLAIN), (True, DECORATED), (False, DECORATED))
    for path in paths
]

ASYNC_PLAIN = [
    *("/async-function/", "/async-class/", "/async-rest/", "/async-viewset/"),
    *("/async-rest-function/", "/ninja/sync/", "/ninja/async/"),
]
ASYNC_DECORATED = [
    "/async-decorated-function/",
    "/async-decorated-class/",
    "/async-decorated-method/",
    "/async-decorated-rest/",
    "/async-decorated-rest-method/",
    "/async-decorated-viewset/",
    "/mixed-decorated-viewset/",
    "/async-decorated-create/",
    "/async-decorated-rest-function/",
    "/async-outside-decorated-rest-function/",
    "/ninja/async-decorated/",
    "/ninja/decorated-above/",
    "/ninja/async-decorated-above/",
    "/ninja/router/async/",
    "/ninja-guarded/sync/",
]
ASYNC_ADAPTERS = [
    # Sync views under ASGI.
    *(Adapter(path, True, False, True) for path in ("/function/", "/decorated-rest/")),
    Adapter("/function/", True, True, True),
    Adapter("/decorated-function/", False, True, True),
    # Async views under ASGI, where Django refuses ATOMIC_REQUESTS.
    *(Adapter(path, True, False, True) for path in ASYNC_PLAIN),
    *(Adapter(path, False, False, True) for path in ASYNC_DECORATED),
    *(
        Adapter(path, True, False, True)
        for path in (
            "/async-decorated-function/",
            "/async-decorated-rest/",
            "/ninja/async-decorated/",
        )
    ),
    # Async views under WSGI; operations of Django Ninja, which know nothing of DRF, with sync ones.
    Adapter("/async-decorated-function/", False, False),
    Adapter("/async-rest/", True, False),
    Adapter("/ninja/sync/", True, True),
    Adapter("/ninja/decorated/", False, True),
    Adapter("/ninja-guarded/async/", False, False),
]

ADAPTERS = [*SYNC_ADAPTERS, *ASYNC_ADAPTERS]

FEW_ADAPTERS = [
    Adapter("/function/", True, False),
    Adapter("/function/", True, True),
    Adapter("/rest/", True, False),
    Adapter("/decorated-function/", False, False),
    Adapter("/decorated-rest/", False, True),
    Adapter("/decorated-create/", False, False),
    Adapter("/async-function/", True, False, True),
    Adapter("/async-decorated-rest/", False, False, True),
]
"""For tests that are about something else, but depend on where the guard stands."""

MORE_ADAPTERS = [
    Adapter("/rest/", True, True),
    Adapter("/decorated-function/", False, True),
    Adapter("/decorated-rest/", False, False),
    Adapter("/decorated-create/", False, True),
    Adapter("/function/", True, False, True),
]
"""What the few leave out of their cross with ``ATOMIC_REQUESTS``."""

EFFECTS = [
    Adapter(f"/effects/{name}/", middleware, atomic_requests)
    for atomic_requests in (False, True)
    for middleware in (False, True)
    for name in ("function", "class", "rest", "viewset", "rest-function")
]
"""Views in non-atomic mode."""

FEW_EFFECTS = [
    Adapter("/effects/function/", middleware=False, atomic_requests=False),
    Adapter("/effects/function/", middleware=True, atomic_requests=True),
    Adapter("/effects/rest/", middleware=False, atomic_requests=True),
    Adapter("/effects/viewset/", middleware=True, atomic_requests=False),
]


def usual_and_whole(usual: Iterable[Any], whole: Iterable[Any], several: bool = False) -> list[Any]:
    """Return parameters; those that are not among the usual ones run with ``--whole`` only.

    :param several: each is a tuple of values for several arguments
    """
    usual = list(usual)
    rest = [each for each in whole if each not in usual]
    values = [each if several else (each,) for each in rest]
    return [*usual, *(pytest.param(*each, marks=pytest.mark.whole) for each in values)]


def each_once(cross: Iterable[Any], name: Callable[[Any], str]) -> list[Any]:
    """Return one of all that have the same name, and of the next name's the next one: each name
    occurs once, and so does nearly every way in which those of one name differ."""
    named: dict[str, list[Any]] = {}
    for each in cross:
        named.setdefault(name(each), []).append(each)
    return [each[number % len(each)] for number, each in enumerate(named.values())]


def _broad(parameter: Any) -> Any:
    """Mark an adapter, or a tuple that begins with one, that is not among the few."""
    adapter = parameter[0] if isinstance(parameter, tuple) else parameter
    if not isinstance(adapter, Adapter) or adapter in FEW_ADAPTERS:
        return parameter
    values = parameter if isinstance(parameter, tuple) else (parameter,)
    return pytest.param(*values, marks=pytest.mark.broad)


def _through(usual: list[Adapter], whole: list[Adapter]) -> pytest.MarkDecorator:
    parameters = [_broad(each) for each in usual_and_whole(usual, whole)]
    return pytest.mark.parametrize("adapter", parameters, ids=str, indirect=True)


EACH_ADAPTER = [
    *each_once(ADAPTERS, lambda adapter: adapter.path),
    # Sync views under ASGI with ATOMIC_REQUESTS are few, so none of them has its turn.
    Adapter("/function/", True, True, True),
    Adapter("/decorated-function/", False, True, True),
]
EACH_EFFECT = each_once(EFFECTS, lambda adapter: adapter.path)

# A database does not know the adapter that a request came through. So every adapter is tried on one
# database, the lightest that can run the test, and a few of each kind on the others.
few_adapters = _through(FEW_ADAPTERS, MORE_ADAPTERS)
few_effect_adapters = _through(FEW_EFFECTS, [])
every_adapter = _through(EACH_ADAPTER, ADAPTERS) if DATABASE == "sqlite" else few_adapters
some_adapters = _through(FEW_ADAPTERS, ADAPTERS) if DATABASE == "sqlite" else few_adapters
_WITH_MIDDLEWARE = [each for each in ADAPTERS if each.middleware]
every_adapter_below_the_middleware = _through(
    each_once(_WITH_MIDDLEWARE, lambda adapter: adapter.path), _WITH_MIDDLEWARE
)
every_mode = (
    pytest.mark.parametrize("adapter", ADAPTERS, ids=str, indirect=True)
    if DATABASE == "sqlite"
    else few_adapters
)
every_locking_adapter = (
    _through(EACH_ADAPTER, ADAPTERS) if DATABASE == "postgresql" else few_adapters
)
effect_adapters = _through(EACH_EFFECT, EFFECTS) if DATABASE == "sqlite" else few_effect_adapters


def every_adapter_with(name: str, values: Iterable[Any]) -> pytest.MarkDecorator:
    """A few adapters with each value of an argument, and each adapter with one of them in turn."""
    values = list(values)
    each = [(adapter, values[at % len(values)]) for at, adapter in enumerate(EACH_ADAPTER)]
    few = [(adapter, value) for adapter in FEW_ADAPTERS for value in values]
    usual = [*few, *(pair for pair in each if pair not in few and DATABASE == "sqlite")]
    adapters = ADAPTERS if DATABASE == "sqlite" else [*FEW_ADAPTERS, *MORE_ADAPTERS]
    whole = [(adapter, value) for adapter in adapters for value in values]
    parameters = [_broad(each) for each in usual_and_whole(usual, whole, several=True)]
    return pytest.mark.parametrize(("adapter", name), parameters, ids=str, indirect=["adapter"])
