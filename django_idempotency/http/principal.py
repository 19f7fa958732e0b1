"""Who sends a request: the parts of a scope."""

from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

from ..conf.policy import Policy, Scope

STABLE = "non-empty text, an integer, a UUID, or an object with a primary key (pk)"
"""What may name somebody, for messages."""


def name_of(thing: Any) -> str | None:
    """Return the text that names a thing, today and in every other process.

    A primary key comes with what it is a key of: user 7 is not token 7. Numbers and texts of equal
    spelling are one name, because a token's claims spell as text what the database has as a number.

    :return: ``None`` if nothing stable names it
    """
    if isinstance(thing, str | int | UUID):
        return _text_of(thing)
    key = _key_of(thing)
    return None if key is None else f"{_kind_of(thing)}:{key}"


def named(thing: Any, source: str, remedy: str) -> str:
    """As :func:`name_of`.

    :param source: who said it, for people: ``"TENANT"``
    :param remedy: what to do instead
    :raises ImproperlyConfigured: if nothing stable names the thing. The text has its type, never
        its value, which may be a credential
    """
    name = name_of(thing)
    if name is None:
        raise ImproperlyConfigured(
            f"{source} {_described(thing)}, which is not a stable name: two callers could share "
            f"it, or one caller could have another one in the next request. A stable name is "
            f"{STABLE}. {remedy}"
        )
    return name


def _text_of(thing: Any) -> str | None:
    if isinstance(thing, bool):
        return None
    text = str(thing)
    return text if text.strip() else None


def _key_of(thing: Any) -> str | None:
    if isinstance(thing, Model) and _has_made_up_key(thing):
        return None
    key = getattr(thing, "pk", None)
    if isinstance(key, str | int | UUID):
        return _text_of(key)
    if key is None or not isinstance(thing, Model):
        return None
    # Composite keys, dates, types of somebody's own: the field knows the text, for serializers.
    text = thing._meta.pk.value_to_string(thing)
    return text if text.strip() and text != object.__repr__(key) else None


def _has_made_up_key(thing: Any) -> bool:
    """Whether no row has the primary key, as far as the object can say: it was never saved, and a
    default made the key (another UUID for each request), or parts of it are missing."""
    if not thing._state.adding:
        return False
    fields = getattr(thing._meta, "pk_fields", [thing._meta.pk])
    return any(each.has_default() or getattr(thing, each.attname) is None for each in fields)


def _kind_of(thing: Any) -> str:
    """What a primary key is a key of. One row has one name, whichever model it was read through:
    proxies share their table, and children in tables of their own share their parent's key."""
    if not isinstance(thing, Model):
        # Not type(): AuthenticationMiddleware wraps what DRF hands over bare.
        kind = thing.__class__
        return f"{kind.__module__}.{kind.__qualname__}"
    model: Any = thing._meta.concrete_model
    while getattr(model._meta.pk.remote_field, "parent_link", False):
        model = model._meta.pk.remote_field.model._meta.concrete_model
    return str(model._meta.label_lower)


def _described(thing: Any) -> str:
    """What an unusable thing is, without its value."""
    if thing is None or isinstance(thing, bool):
        return f"is {thing}"
    if isinstance(thing, str):
        return "is empty text"
    if isinstance(thing, Model):
        return f"is an unsaved {thing._meta.label}"
    kind = thing.__class__
    return f"is an instance of {kind.__module__}.{kind.__qualname__}"


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
