"""Records in human words."""

from datetime import datetime
from typing import Any

from django.utils.formats import date_format
from django.utils.timezone import is_aware, localtime
from django.utils.translation import gettext_lazy as _

from ..protocol.keys import InvalidKey, parse_key
from ..protocol.record import State

_STATES = {
    (State.CLAIMED, False): _("claimed: in flight or interrupted"),
    (State.CLAIMED, True): _("claimed: in flight or interrupted (expired)"),
    (State.COMPLETED, False): _("completed"),
    (State.COMPLETED, True): _("completed (expired)"),
}


def state(record: Any) -> Any:
    """The state and what it means."""
    return _STATES[State(record.state), bool(record.expired)]


def key_of(search_term: str) -> str:
    """Return the key in a header value, in quotes or without."""
    try:
        return parse_key(search_term)
    except InvalidKey:
        return search_term.strip()


def short(moment: datetime) -> str:
    """A time in the reader's zone and format, short enough for the list to fit a screen."""
    local = localtime(moment) if is_aware(moment) else moment
    return date_format(local, "SHORT_DATETIME_FORMAT")
