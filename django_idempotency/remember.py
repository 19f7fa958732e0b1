"""Wishes of a view about storing one response, or one exception, where policy cannot know.

Each function marks its argument and returns it::

    return remember_for(Response(quote), timedelta(minutes=5))
    raise do_not_remember(ValidationError("The form is not complete."))
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from .conf import values
from .http.responses import CHOICES, storage_choices

__all__ = ["do_not_remember", "never_replay_body", "remember", "remember_for"]

Thing = TypeVar("Thing")


def do_not_remember(thing: Thing) -> Thing:
    """Do not store this response: undo its writes, and let a retry run again."""
    return _marked(thing, stored=False)


def remember(thing: Thing) -> Thing:
    """Store this response, even if the policy does not store its status."""
    return _marked(thing, stored=True)


def remember_for(thing: Thing, retention: timedelta) -> Thing:
    """Let this response replay for another time than the policy's.

    :param retention: counted from completion; from one second to ten years, as ``RETENTION``
    :raises TypeError: if it is not a ``timedelta``
    :raises ValueError: if it is out of bounds
    """
    try:
        values.RETENTION(retention)
    except (TypeError, ValueError) as error:
        raise type(error)(f"retention {error}, not {retention!r}") from None
    return _marked(thing, retention=retention)


def never_replay_body(thing: Thing) -> Thing:
    """Complete the record without the body of this response: for a secret that is shown once.

    A retry gets ``idempotency_response_unavailable``, and does not run.
    """
    return _marked(thing, body=False)


def _marked(thing: Thing, **changes: Any) -> Thing:
    setattr(thing, CHOICES, replace(storage_choices(thing), **changes))
    return thing
