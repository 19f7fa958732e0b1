"""Forms that may be sent twice: a double click, a reload, or the Back button makes no second order.

An optional app: add ``"django_idempotency.forms"`` to ``INSTALLED_APPS``. It has no tables. Django
imports it before there are models, so the names are looked up when they are asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .guarding import IdempotentFormMixin, idempotent_form
    from .keys import FIELD, idempotency_key_input
    from .model_admin import IdempotentAdminMixin

__all__ = [
    "FIELD",
    "IdempotentAdminMixin",
    "IdempotentFormMixin",
    "idempotency_key_input",
    "idempotent_form",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import guarding, keys, model_admin

    rooms = (guarding, keys, model_admin)
    return next(getattr(room, name) for room in rooms if hasattr(room, name))
