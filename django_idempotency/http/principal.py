"""Who sends a request: the parts of a scope."""

from typing import Any

from ..policy import Policy, Scope

Parts = tuple[str, ...]


def principal(request: Any, policy: Policy) -> Parts | None:
    """Return what identifies the caller, or ``None`` for an anonymous one.

    :param request: the request that knows its caller: in a DRF view, DRF's own
    """
    caller = _caller(request, policy)
    if caller is None or policy.tenant is None:
        return caller
    return ("tenant", str(policy.tenant(request)), *caller)


def _caller(request: Any, policy: Policy) -> Parts | None:
    if policy.scope is Scope.PRINCIPAL:
        return _user(request) or _token(request)
    if policy.scope is Scope.TOKEN:
        return _token(request) or _user(request)
    named = policy.scope(request)
    if named is None:
        return None
    parts = named if isinstance(named, tuple) else (named,)
    return ("custom", *(str(part) for part in parts))


def _user(request: Any) -> Parts | None:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return None
    identity = getattr(user, "pk", None)
    if identity is None:
        return None
    return ("user", _label(user), str(identity))


def _token(request: Any) -> Parts | None:
    """The credential itself. A DRF token is a model instance; a JWT is text."""
    token = getattr(request, "auth", None)
    if token is not None:
        identity = getattr(token, "pk", None)
        return ("token", _label(token), str(token if identity is None else identity))
    header = request.META.get("HTTP_AUTHORIZATION")
    return ("authorization", header) if header and _user(request) else None


def _label(thing: Any) -> str:
    meta = getattr(thing, "_meta", None)
    if meta is not None:
        return str(meta.label_lower)
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
