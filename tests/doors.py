"""Every way into the guard, as parameters."""

from dataclasses import dataclass

import pytest

from tests.databases import DATABASE

MIDDLEWARE = "django_idempotency.middleware.IdempotencyMiddleware"


@dataclass(frozen=True)
class Door:
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

SYNC_DOORS = [
    Door(path, middleware, atomic_requests)
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
ASYNC_DOORS = [
    # Sync views under ASGI.
    *(Door(path, True, False, True) for path in ("/function/", "/decorated-rest/")),
    Door("/function/", True, True, True),
    Door("/decorated-function/", False, True, True),
    # Async views under ASGI, where Django refuses ATOMIC_REQUESTS.
    *(Door(path, True, False, True) for path in ASYNC_PLAIN),
    *(Door(path, False, False, True) for path in ASYNC_DECORATED),
    *(
        Door(path, True, False, True)
        for path in (
            "/async-decorated-function/",
            "/async-decorated-rest/",
            "/ninja/async-decorated/",
        )
    ),
    # Async views under WSGI; operations of Django Ninja, which know nothing of DRF, with sync ones.
    Door("/async-decorated-function/", False, False),
    Door("/async-rest/", True, False),
    Door("/ninja/sync/", True, True),
    Door("/ninja/decorated/", False, True),
    Door("/ninja-guarded/async/", False, False),
]

DOORS = [*SYNC_DOORS, *ASYNC_DOORS]

FEW_DOORS = [
    Door(path, middleware, atomic_requests)
    for atomic_requests in (False, True)
    for path, middleware in (
        ("/function/", True),
        ("/rest/", True),
        ("/decorated-function/", False),
        ("/decorated-rest/", False),
        ("/decorated-create/", False),
    )
] + [
    Door("/function/", True, False, True),
    Door("/async-function/", True, False, True),
    Door("/async-decorated-rest/", False, False, True),
]
"""For tests that are about something else, but depend on where the guard stands."""

EFFECTS = [
    Door(f"/effects/{name}/", middleware, atomic_requests)
    for atomic_requests in (False, True)
    for middleware in (False, True)
    for name in ("function", "class", "rest", "viewset", "rest-function")
]
"""Views in non-atomic mode."""

FEW_EFFECTS = [
    Door("/effects/function/", middleware=False, atomic_requests=False),
    Door("/effects/function/", middleware=True, atomic_requests=True),
    Door("/effects/rest/", middleware=False, atomic_requests=True),
    Door("/effects/viewset/", middleware=True, atomic_requests=False),
]


def _through(doors: list[Door]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("door", doors, ids=str, indirect=True)


# A database does not know the door that a request came through. So every door is tried on one
# database, the lightest that can run the test, and a few of each kind on the others.
every_door = _through(DOORS if DATABASE == "sqlite" else FEW_DOORS)
every_locking_door = _through(DOORS if DATABASE == "postgresql" else FEW_DOORS)
few_doors = _through(FEW_DOORS)
effect_doors = _through(EFFECTS if DATABASE == "sqlite" else FEW_EFFECTS)
few_effect_doors = _through(FEW_EFFECTS)
