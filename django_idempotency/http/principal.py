"""Who sends a request: the parts of a scope."""

from typing import Any

from ..policy import Policy, Scope
from .identity import name_of, named

Parts = tuple[str, ...]

ANONYMOUS: Parts = ("anonymous",)
"""What callers without credentials share where policy says so."""

SET_SCOPE = (
    'Set SCOPE (IDEMPOTENCY["SCOPE"], or @idempotent(scope=...)) to a function of the request that '
    "returns such a name."
)


def principal(request: Any, policy: Policy) -> Parts | None:
    """Return what identifies the caller, or ``None`` for an anonymous one.

    :param request: the request that knows its caller: in a DRF view, DRF's own
    :raises ImproperlyConfigured: if there is a caller, and nothing that identifies them
    """
    if policy.scope is Scope.PRINCIPAL:
        return _principal(request)
    if policy.scope is Scope.TOKEN:
        return _token(request)
    return _custom(policy.scope(request))


def scope_of(request: Any, policy: Policy, caller: Parts) -> Parts:
    """Return the scope of a caller's keys: within their tenant, if policy knows tenants.

    :param request: as for :func:`principal`
    :raises ImproperlyConfigured: if nothing identifies the tenant
    """
    if policy.tenant is None:
        return caller
    remedy = "Where there is no tenant, return a name for that, too; a request may also be refused."
    return ("tenant", named(policy.tenant(request), "What TENANT returned", remedy), *caller)


def _custom(said: Any) -> Parts | None:
    """What a function of the project says. ``None`` is its word for an anonymous caller."""
    if said is None:
        return None
    parts = said if isinstance(said, tuple) and said else (said,)
    remedy = "Return None for an anonymous caller."
    return ("custom", *(named(part, "What SCOPE returned", remedy) for part in parts))


def _principal(request: Any) -> Parts | None:
    """Ask first who has authenticated this request. In DRF one authenticator has set both
    attributes, and a token is its user's; in Django Ninja the operation has set ``auth``, and the
    session's user may be somebody else."""
    user, auth = _present(request, "user"), _present(request, "auth")
    if hasattr(request, "_request"):
        if user is not None and (auth is None or name_of(user) or not name_of(auth)):
            return ("user", named(user, "request.user", SET_SCOPE))
        return _credential(auth)
    if auth is None or (auth is True and user is not None):  # a bare "yes" is nobody's name
        return None if user is None else ("user", named(user, "request.user", SET_SCOPE))
    return _credential(auth)


def _credential(auth: Any) -> Parts | None:
    if auth is None:
        return None
    kind = "user" if hasattr(auth, "is_authenticated") else "token"
    return (kind, named(auth, "request.auth", SET_SCOPE))


def _token(request: Any) -> Parts | None:
    """The credential itself: its row, its text, or what an authenticated caller has sent."""
    auth = _present(request, "auth")
    if auth is not None and not hasattr(auth, "is_authenticated"):
        # A token of Simple JWT keeps its text; str() would sign it again, with another signature.
        name = name_of(auth) or name_of(_text(getattr(auth, "token", None)))
        if name is not None:
            return ("token", name)
    caller = _principal(request)
    header = request.META.get("HTTP_AUTHORIZATION")
    # The header may be a proxy's, the same for everybody: alone it identifies nobody.
    return caller if caller is None or not header else ("authorization", header, *caller)


def _text(raw: Any) -> Any:
    return raw.decode("latin-1") if isinstance(raw, bytes) else raw


def _present(request: Any, attribute: str) -> Any:
    """Return what authentication has left; ``None`` for nobody, and for an anonymous user."""
    thing = getattr(request, attribute, None)
    if thing is None or thing.__class__ is type(None):  # a lazy object may hold None
        return None
    return thing if getattr(thing, "is_authenticated", True) else None
