"""Identify the caller of a request: the parts of a scope."""

from functools import lru_cache
from types import NoneType
from typing import Any, NoReturn
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

from ..conf.policy import Policy, Scope
from .session import known_scope_id

Parts = tuple[str, ...]

ANONYMOUS: Parts = ("anonymous",)
"""The scope that callers without credentials share where policy says so."""

STABLE = "non-empty text, an integer, a UUID, or an object with a primary key (pk)"
"""Values that can name a caller, for messages."""

SET_SCOPE = (
    'Set SCOPE (IDEMPOTENCY["SCOPE"], or @idempotent(scope=...)) to a function of the request that '
    "returns such a name."
)


def scope_of(request: Any, policy: Policy, anonymous: Parts | None = None) -> Parts | None:
    """Return the scope of the caller's keys: the caller, within the tenant if policy knows tenants.

    :param request: the request that knows its caller: in a DRF view, DRF's own
    :param anonymous: what identifies an anonymous caller
    :return: ``None`` for an anonymous caller whom nothing identifies
    :raises ImproperlyConfigured: if nothing stable identifies a caller or a tenant
    """
    if policy.scope is Scope.PRINCIPAL:
        caller = _principal(request)
    elif policy.scope is Scope.TOKEN:
        caller = _token(request)
    elif policy.scope is Scope.SESSION:
        visitor = known_scope_id(request)
        caller = None if visitor is None else ("session", visitor)
    else:
        caller = _custom(policy.scope(request))
    if caller is None:
        caller = anonymous
    if policy.tenant is None or caller is None:
        return caller
    tenant = policy.tenant(request)
    name = name_of(tenant) or _refuse(
        tenant,
        "What TENANT returned",
        "Where there is no tenant, return a name for that, too; a request may also be refused.",
    )
    return ("tenant", name, *caller)


def _principal(request: Any) -> Parts | None:
    """Return the user or the token, whichever has authenticated this request. In DRF one
    authenticator sets both attributes, and a token belongs to its user; in Django Ninja the
    operation sets ``auth``, and the session may belong to another user."""
    found = {"user": None, "auth": None}
    for name in found:
        thing = getattr(request, name, None)
        # A lazy object may hold None.
        if thing is not None and thing.__class__ is not NoneType:
            found[name] = thing if getattr(thing, "is_authenticated", True) else None
    user, auth = found["user"], found["auth"]
    if user is not None and (auth is None or auth is True or hasattr(request, "_request")):
        name = name_of(user)
        if name is not None:
            return ("user", name)
        if name_of(auth) is None:  # a bare True names no caller
            _refuse(user, "request.user", SET_SCOPE)
    if auth is None:
        return None
    kind = "user" if hasattr(auth, "is_authenticated") else "token"
    return (kind, name_of(auth) or _refuse(auth, "request.auth", SET_SCOPE))


def _token(request: Any) -> Parts | None:
    """Return the credential: its row, its text, or the header that an authenticated caller sent."""
    auth = getattr(request, "auth", None)
    if auth is not None and not hasattr(auth, "is_authenticated"):
        # A token of Simple JWT keeps its text; str() would sign it again, with another signature.
        text = getattr(auth, "token", None)
        name = name_of(auth) or name_of(text.decode("latin-1") if isinstance(text, bytes) else text)
        if name is not None:
            return ("token", name)
    caller = _principal(request)
    header = request.META.get("HTTP_AUTHORIZATION")
    # A proxy may send the same header for every caller: alone it identifies none.
    return caller if caller is None or not header else ("authorization", header, *caller)


def _custom(said: Any) -> Parts | None:
    """Return the caller that a function of the project names: ``None`` is an anonymous one."""
    if said is None:
        return None
    remedy = "Return None for an anonymous caller."
    parts = said if isinstance(said, tuple) and said else (said,)
    names = (name_of(part) or _refuse(part, "What SCOPE returned", remedy) for part in parts)
    return ("custom", *names)


def name_of(thing: Any) -> str | None:
    """Return the text that names a thing, the same one in every process.

    A primary key comes with its model or class: user 7 is not token 7. Numbers and texts of equal
    spelling are one name, because a token's claims have as text what the database has as a number.

    :return: ``None`` if nothing stable names it
    """
    if isinstance(thing, (str, int, UUID)):
        text = str(thing)
        return None if isinstance(thing, bool) or not text.strip() else text
    is_model = isinstance(thing, Model)
    if is_model and thing._state.adding and _has_made_up_key(thing):
        return None
    key = getattr(thing, "pk", None)
    if isinstance(key, (str, int, UUID)):
        text = "" if isinstance(key, bool) else str(key)
    elif key is None or not is_model:
        return None
    else:
        # Composite keys, dates, a project's types: the field knows the text, for serializers.
        text = thing._meta.pk.value_to_string(thing)
        if text == object.__repr__(key):
            return None
    # Not type(): AuthenticationMiddleware wraps what DRF hands over bare.
    return f"{_kind_of(thing.__class__)}:{text}" if text.strip() else None


def _has_made_up_key(thing: Any) -> bool:
    """Whether no row has the primary key of an unsaved object: a default made the key (another UUID
    for each request), or parts of it are missing."""
    fields = getattr(thing._meta, "pk_fields", [thing._meta.pk])
    return any(each.has_default() or getattr(thing, each.attname) is None for each in fields)


@lru_cache(maxsize=64)
def _kind_of(kind: Any) -> str:
    """Return the model or class of a primary key. One row has one name, whichever model it was
    read through: a proxy shares its table, and a child with its own table its parent's key."""
    if not issubclass(kind, Model):
        return f"{kind.__module__}.{kind.__qualname__}"
    model: Any = kind._meta.concrete_model
    while getattr(model._meta.pk.remote_field, "parent_link", False):
        model = model._meta.pk.remote_field.model._meta.concrete_model
    return str(model._meta.label_lower)


def _refuse(thing: Any, source: str, remedy: str) -> NoReturn:
    """Raise an error that names a thing's type, never its value, which may be a credential.

    :param source: where it comes from, for people: ``"TENANT"``
    :param remedy: what to do instead
    """
    if thing is None or isinstance(thing, bool):
        described = f"is {thing}"
    elif isinstance(thing, str):
        described = "is empty text"
    elif isinstance(thing, Model):
        described = f"is an unsaved {thing._meta.label}"
    else:
        kind = thing.__class__
        described = f"is an instance of {kind.__module__}.{kind.__qualname__}"
    raise ImproperlyConfigured(
        f"{source} {described}, which is not a stable name: two callers could share "
        f"it, or one caller could have another one in the next request. A stable name is "
        f"{STABLE}. {remedy}"
    )
