"""Records in human words."""

from datetime import datetime
from typing import Any

from django.utils.formats import date_format, number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timesince, timeuntil
from django.utils.timezone import is_aware, localtime, now
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from ..protocol.keys import InvalidKey, parse_key
from ..protocol.record import State, StoredResponse
from .indent import indented, is_json

READ = 2 * 1024 * 1024
"""Bodies with more bytes are not read to show them."""
SHOWN = 100_000
"""So many characters of a body are shown."""

# The sign says it without colour, the words without either.
_BADGES = {
    "completed": ("\N{CHECK MARK}", _("completed")),
    "in-flight": ("\N{BLACK RIGHT-POINTING TRIANGLE}", _("in flight")),
    "interrupted": ("!", _("interrupted")),
    "claimed": ("?", _("in flight or interrupted")),
}


def state(record: Any) -> str:
    """Return which badge a record gets."""
    if record.state == State.COMPLETED:
        return "completed"
    in_flight = getattr(record, "in_flight", None)
    if in_flight is None:
        return "claimed"
    return "in-flight" if in_flight else "interrupted"


def badge(record: Any) -> SafeString:
    """The state, as a sign, a colour and words."""
    name = state(record)
    sign, words = _BADGES[name]
    text = format_html("{} ({})", words, _("expired")) if record.expired else words
    html = (
        '<span class="idempotency-badge idempotency-{}">'
        '<span aria-hidden="true">{}</span> {}</span>'
    )
    return format_html(html, name, sign, text)


def key_of(search_term: str) -> str:
    """Return the key in a header value, in quotes or without."""
    try:
        return parse_key(search_term)
    except InvalidKey:
        return search_term.strip()


def number(count: int) -> str:
    """A count with its thousands set apart."""
    return number_format(count, force_grouping=True)


def at_most(count: int, limit: int) -> str:
    """A count that went no further than the limit and one more."""
    if count > limit:
        return gettext("more than %(count)s") % {"count": number(limit)}
    return number(count)


def moment(time: datetime) -> str:
    """A time in the reader's zone and format, short enough for the list to fit a screen."""
    local = localtime(time) if is_aware(time) else time
    return date_format(local, "SHORT_DATETIME_FORMAT")


def age(time: datetime) -> SafeString:
    """How long ago, or how long until then; the time itself is in the title."""
    if time > now():
        words = gettext("in %(time)s") % {"time": timeuntil(time, depth=1)}
    else:
        words = gettext("%(time)s ago") % {"time": timesince(time, depth=1)}
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', time.isoformat(), moment(time), words
    )


def full(time: datetime) -> SafeString:
    """A time, and how far it is away."""
    return format_html("{} ({})", moment(time), age(time))


def headers(response: StoredResponse) -> SafeString:
    """The stored header fields, one a line."""
    lines = format_html_join("\n", "{}: {}", response.headers)
    return _block(lines, pgettext_lazy("stored response", "Headers"))


def body(response: StoredResponse) -> SafeString:
    """The stored body: JSON indented, other text as it is, anything else by its size only."""
    try:
        text = response.body.decode()
    except UnicodeDecodeError:
        return format_html("{}", _("Not text"))
    text = indented(text, SHOWN) if is_json(text) else text
    cut = gettext("The rest is not shown.") if len(text) > SHOWN else ""
    shown = _block(text[:SHOWN], pgettext_lazy("stored response", "Body"))
    return format_html("{}<p>{}</p>", shown, cut) if cut else shown


def _block(text: str, label: Any) -> SafeString:
    # Long lines scroll, so the keyboard must reach them.
    return format_html(
        '<pre class="idempotency-stored" tabindex="0" role="region" aria-label="{}">{}</pre>',
        label,
        text,
    )
