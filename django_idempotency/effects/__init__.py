"""Effects after the commit: staged with the response, run at least once, under a key that stays.

An optional app: add ``"django_idempotency.effects"`` to ``INSTALLED_APPS``, and migrate. Declaring
effects needs no models, so the names are looked up when they are asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..placeholders import KEY
    from .declaring import Effect, effect
    from .errors import ChangedEffect, EffectError
    from .running import CurrentEffect, current_effect
    from .staging import aafter_commit, after_commit

__all__ = [
    "KEY",
    "ChangedEffect",
    "CurrentEffect",
    "Effect",
    "EffectError",
    "aafter_commit",
    "after_commit",
    "current_effect",
    "effect",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .. import placeholders
    from . import declaring, errors, running, staging

    rooms = (placeholders, declaring, errors, running, staging)
    return next(getattr(room, name) for room in rooms if hasattr(room, name))
