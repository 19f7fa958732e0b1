"""What names a caller stably: the only place that turns an object into a part of a scope.

``str()`` of an object is text for people: by default a memory address, which is another one for
the same caller in the next request, and now and then the same one for another caller (I16).
"""

from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

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
