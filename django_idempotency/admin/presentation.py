"""Values of a record as text and HTML."""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from ..protocol.keys import InvalidKey, parse_key
from ..protocol.record import State, StoredResponse

READ = 2 * 1024 * 1024
"""The admin does not read bodies with more bytes."""
SHOWN = 100_000
"""The admin shows so many characters of a body."""

# The sign says it without colour, the words without either.
_BADGES = {
    "completed": ("\N{CHECK MARK}", _("completed")),
    "in-flight": ("\N{BLACK RIGHT-POINTING TRIANGLE}", _("in flight")),
    "interrupted": ("!", _("interrupted")),
    "claimed": ("?", _("in flight or interrupted")),
}
_EFFECT_BADGES = {
    "pending": ("in-flight", "\N{BLACK RIGHT-POINTING TRIANGLE}", _("pending")),
    "done": ("completed", "\N{CHECK MARK}", _("done")),
    "failed": ("interrupted", "!", _("failed")),
    "given_up": ("given-up", "\N{MULTIPLICATION X}", _("given up")),
}


def badge(record: Any) -> SafeString:
    """Return the state as a sign, a colour and words."""
    in_flight = getattr(record, "in_flight", None)
    if record.state == State.COMPLETED:
        name = "completed"
    elif in_flight is None:
        name = "claimed"
    else:
        name = "in-flight" if in_flight else "interrupted"
    sign, words = _BADGES[name]
    return _badge(
        name, sign, format_html("{} ({})", words, _("expired")) if record.expired else words
    )


def effect_badge(state: str) -> SafeString:
    """Return the state of an effect as a sign, a colour and words."""
    return _badge(*_EFFECT_BADGES[state])


def _badge(name: str, sign: str, words: Any) -> SafeString:
    return format_html(
        '<span class="idempotency-badge idempotency-{}">'
        '<span aria-hidden="true">{}</span>&nbsp;{}</span>',
        name,
        sign,
        words,
    )


def table(titles: Iterable[Any], rows: Iterable[Iterable[Any]]) -> SafeString:
    """Return a table with a row of titles."""
    heads = format_html_join("", '<th scope="col">{}</th>', ([each] for each in titles))
    cells = ([format_html_join("", "<td>{}</td>", ([each] for each in row))] for row in rows)
    body = format_html_join("", "<tr>{}</tr>", cells)
    return format_html(
        '<div class="idempotency-table"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>'
        "</div>",
        heads,
        body,
    )


def shortened(text: str, start: int, end: int) -> str:
    """Return a text without its middle, if that makes it shorter."""
    return text if len(text) <= start + end + 1 else f"{text[:start]}\u2026{text[-end:]}"


def copyable(text: str, label: Any) -> SafeString:
    """Return a button that copies a text. It appears only if the script of this package runs.

    :param label: what the button does, for those who do not see its sign
    """
    return format_html(
        '<button type="button" class="idempotency-copy" data-copy="{}" data-done="{}" title="{}">'
        '<svg aria-hidden="true" width="14" height="14" viewBox="0 0 14 14" fill="none" '
        'stroke="currentColor" stroke-width="1.4"><rect x="4.7" y="4.7" width="8" height="8" '
        'rx="1.5"/><path d="M9.3 4.7V2.8A1.5 1.5 0 0 0 7.8 1.3H2.8a1.5 1.5 0 0 0-1.5 1.5v5a1.5 '
        '1.5 0 0 0 1.5 1.5h1.9"/></svg><span class="visually-hidden">{}</span></button>',
        text,
        _("Copied"),
        label,
        label,
    )


def code(text: str) -> SafeString:
    """Return a text that a click selects, with a button that copies it."""
    button = copyable(text, _("Copy"))
    return format_html('<code class="idempotency-code">{}</code> {}', text, button)


def request(record: Any) -> SafeString:
    """Return method and path, without the middle of a long path."""
    return format_html(
        '<span class="idempotency-request" title="{} {}"><b>{}</b> {}</span>',
        record.method,
        record.path,
        record.method,
        breakable(shortened(record.path, 24, 15)),
    )


_BREAK = re.compile(r"(?<=[/._-])(?=.)|(?<=[a-z])(?=[A-Z])")


def breakable(text: str) -> SafeString:
    """Return a path or a dotted name with places where a narrow column may break it."""
    return format_html_join(mark_safe("<wbr>"), "{}", ([part] for part in _BREAK.split(text)))


def key_of(search_term: str) -> str:
    """Return the key in a header value, with or without quotes."""
    try:
        return parse_key(search_term)
    except InvalidKey:
        return search_term.strip()


def number(count: int) -> str:
    """Return a count with separators between thousands."""
    return number_format(count, force_grouping=True)


def at_most(count: int, limit: int) -> str:
    """Return a count that stopped at one more than the limit."""
    if count > limit:
        return gettext("more than %(count)s") % {"count": number(limit)}
    return number(count)


def size(count: int | None) -> str | None:
    """Return a number of bytes."""
    return None if count is None else filesizeformat(count)


def headers(response: StoredResponse | None) -> SafeString | None:
    """Return the stored header fields, one per line."""
    if response is None:
        return None
    lines = format_html_join("\n", "{}: {}", response.headers)
    return _block(lines, pgettext_lazy("stored response", "Headers"))


def body(response: StoredResponse | None) -> SafeString | None:
    """Return the stored body: indented JSON, or other text unchanged."""
    if response is None:
        return None
    try:
        text = response.body.decode()
    except UnicodeDecodeError:
        return format_html("{}", _("Not text"))
    text = indented(text, SHOWN) if _is_json(text) else text
    shown = _block(text[:SHOWN], pgettext_lazy("stored response", "Body"))
    if len(text) <= SHOWN:
        return shown
    return format_html("{}<p>{}</p>", shown, _("The rest is not shown."))


def _block(text: str, label: Any) -> SafeString:
    # Long lines scroll, so the keyboard must reach them.
    return format_html(
        '<pre class="idempotency-stored" tabindex="0" role="region" aria-label="{}">{}</pre>',
        label,
        text,
    )


_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[][{},:]|[^][{},:"\s]+')
_OPENING = ("{", "[")
_CLOSING = ("}", "]")


def _is_json(text: str) -> bool:
    """Whether a text is a JSON object or array."""
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def indented(text: str, limit: int) -> str:
    """Return JSON with one member or element per line.

    Only white space changes: parsed and written again, numbers and repeated names would differ from
    the replay.

    :param limit: stop after so many characters; deeply nested brackets would otherwise become as
        many spaces as the square of their number
    """
    shown, length = [], 0
    for piece in _pieces(part[0] for part in _PART.finditer(text)):
        shown.append(piece)
        length += len(piece)
        if length > limit:
            break
    return "".join(shown)


def _pieces(parts: Iterator[str]) -> Iterator[str]:
    depth = 0
    for part, following in pairwise(chain(parts, [""])):
        opens, closes = part in _OPENING, following in _CLOSING
        depth += (opens and not closes) - (closes and not opens)
        yield part
        if part == ":":
            yield " "
        elif part == "," or opens != closes:
            yield "\n" + "  " * depth
