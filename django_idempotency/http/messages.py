"""Messages of ``django.contrib.messages``: seen once, also if a response is lost.

Kept in the session they are saved with it. Kept in cookies they are lost with the response, which
has the only copy. So they are stored with it, too, and a replay shows them, unless the browser has
got them: then it has also got a receipt, a cookie that goes the way of theirs.
"""

import json
from typing import Any

from django.conf import settings
from django.http.response import HttpResponseBase
from django.utils.safestring import mark_safe

from ..compat.sessions import new_messages
from ..protocol.codecs import Owner
from ..protocol.keys import short_digest
from .responses import MESSAGES

RECEIPT = "idempotency_receipt"
"""Name of the cookie: digests of operations whose messages the browser has got, latest first."""

MAX_RECEIPTS = 8

MAX_SIZE = 16 * 1024
"""How much is stored of one response's messages, in characters."""


def keep_messages(request: Any, response: HttpResponseBase, before: int) -> None:
    """Note the view's messages on the response, to be stored with it.

    :param before: how many messages waited before the view ran
    """
    kept: list[Any] = []
    size = 0
    for message in new_messages(request, before):
        text, tags = str(message.message), str(message.extra_tags or "")
        plain = [message.level, text, hasattr(text, "__html__"), tags]
        length = len(json.dumps(plain))
        if size + length <= MAX_SIZE:
            size += length
            kept.append(plain)
    if kept:
        setattr(response, MESSAGES, kept)


def repeat_messages(request: Any, response: HttpResponseBase, owner: Owner) -> None:
    """Have the messages shown that are stored with a response, unless the browser has a receipt."""
    kept = vars(response).pop(MESSAGES, None)
    storage = getattr(request, "_messages", None)
    if not kept or storage is None or _digest(owner) in _receipts(request):
        return
    level, storage.level = storage.level, 0  # the view may have chosen another one
    for number, text, is_safe, tags in kept:
        storage.add(number, mark_safe(text) if is_safe else text, extra_tags=tags)  # noqa: S308
    storage.level = level
    give_receipt(request, response, owner)


def _digest(owner: Owner) -> str:
    return short_digest(f"{owner.scope}:{owner.key}")


def _receipts(request: Any) -> list[str]:
    """Return what the cookie says; whoever changes it only hides messages from themselves."""
    said = request.COOKIES.get(RECEIPT, "").split(".")
    return [each for each in said if each.isalnum() and each.isascii()][:MAX_RECEIPTS]


def give_receipt(request: Any, response: HttpResponseBase, owner: Owner) -> None:
    """Send a receipt with a response for the messages that go with it, once they are stored."""
    own = _digest(owner)
    known = [own, *(each for each in _receipts(request) if each != own)]
    # As CookieStorage sets its own cookie: browsers keep both or neither.
    response.set_cookie(
        RECEIPT,
        ".".join(known[:MAX_RECEIPTS]),
        domain=settings.SESSION_COOKIE_DOMAIN,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite=settings.SESSION_COOKIE_SAMESITE,
    )
