"""Every way into the guard, as parameters."""

from dataclasses import dataclass

import pytest

MIDDLEWARE = "django_idempotency.middleware.IdempotencyMiddleware"


@dataclass(frozen=True)
class Door:
    """A guarded view and the project around it."""

    path: str
    middleware: bool
    atomic_requests: bool

    def __str__(self) -> str:
        middleware = "with" if self.middleware else "without"
        atomic = "-atomic-requests" if self.atomic_requests else ""
        return f"{self.path.strip('/')}-{middleware}-middleware{atomic}"


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

DOORS = [
    Door(path, middleware, atomic_requests)
    for atomic_requests in (False, True)
    for middleware, paths in ((True, PLAIN), (True, DECORATED), (False, DECORATED))
    for path in paths
]

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

every_door = pytest.mark.parametrize("door", DOORS, ids=str, indirect=True)
few_doors = pytest.mark.parametrize("door", FEW_DOORS, ids=str, indirect=True)
effect_doors = pytest.mark.parametrize("door", EFFECTS, ids=str, indirect=True)
few_effect_doors = pytest.mark.parametrize("door", FEW_EFFECTS, ids=str, indirect=True)
