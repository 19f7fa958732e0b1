"""Django's session of a request: the scope that it holds, and when it is saved.

``SessionMiddleware`` saves a session after the guard's commit. If the worker dies between the two,
there is an order, and the cart is still full. With the policy ``save_session`` the session is saved
in the commit (decision 0097).
"""

from secrets import token_urlsafe
from typing import Any

from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.core.exceptions import ImproperlyConfigured
from django.http.response import HttpResponseBase

from ..compat.sessions import (
    contents,
    count_messages,
    database_of,
    drop_cached_copy,
    forget_loaded,
    forget_loaded_messages,
    put_messages_into_session,
    save_row,
)
from ..protocol.codecs import Owner
from .messages import give_receipt, keep_messages, repeat_messages
from .responses import MESSAGES

SCOPE_ID = "_idempotency_scope"
"""Key in a session: the scope of its visitor's keys."""

NO_SESSION = (
    'SCOPE is "session", and the request has none. List '
    "django.contrib.sessions.middleware.SessionMiddleware in MIDDLEWARE, above "
    "IdempotencyMiddleware; where there are no sessions, set another SCOPE."
)
INTERRUPTED = (
    "The session of the request was deleted before the request completed: maybe its user has "
    "logged out in another tab. Nothing is stored, and the view's writes are undone."
)


def scope_id(request: Any) -> str:
    """Return the scope that the session of a request holds, and make one if it holds none.

    Whoever renders a form makes it; it survives a login, which keeps what is in the session, and
    ends with a logout, which does not.

    :raises ImproperlyConfigured: if the request has no session
    """
    known = known_scope_id(request)
    if known is None:
        known = request.session[SCOPE_ID] = token_urlsafe(16)
    return known


def known_scope_id(request: Any) -> str | None:
    """Return the scope that the session of a request holds, if it holds one.

    :raises ImproperlyConfigured: if the request has no session
    """
    if not hasattr(request, "session"):
        raise ImproperlyConfigured(NO_SESSION)
    known = request.session.get(SCOPE_ID)
    return known if isinstance(known, str) and known else None


class SessionKeeper:
    """Keeps the session and the messages of one guarded request with its response.

    :param request: Django's
    :param owner: of the record
    """

    def __init__(self, request: Any, owner: Owner) -> None:
        self._request = request
        self._owner = owner
        self._messages_before = count_messages(request)
        self._first_key = getattr(getattr(request, "session", None), "session_key", None)
        self._saved: tuple[str | None, bytes] | None = None

    @property
    def _session(self) -> Any:
        return getattr(self._request, "session", None)

    def reload(self, drops_changes: bool = False) -> None:
        """Forget what was loaded before another attempt has saved the session.

        :param drops_changes: also if something has changed it since, which cannot be told from what
            the other attempt has changed
        """
        session = self._session
        if session is None or (session.modified and not drops_changes):
            return
        forget_loaded(session, self._first_key)
        drop_cached_copy(session)
        forget_loaded_messages(self._request)

    def discard(self) -> None:
        """Forget what the view has written into the session, as its other writes are forgotten."""
        session = self._session
        if session is not None and session.modified:
            forget_loaded(session, self._first_key)
            # The view may have saved it, and a copy is not undone.
            drop_cached_copy(session)
            forget_loaded_messages(self._request)

    def replay(self, response: HttpResponseBase) -> None:
        """A stored response is the answer."""
        self.reload(drops_changes=True)
        repeat_messages(self._request, response, self._owner)

    def take_messages(self, response: HttpResponseBase) -> None:
        """Put messages where they are stored: into the session, or onto the response."""
        put_messages_into_session(self._request, response)
        keep_messages(self._request, response, self._messages_before)

    def save(self, using: str | None) -> None:
        """Save the session right before the response is stored, if that is one commit, or the view
        has made its effects lasting already.

        :param using: the database whose transaction stores the response; ``None`` if the view owns
            its transactions
        :raises SessionInterrupted: if the session was deleted meanwhile
        """
        session = self._session
        if session is None or not session.modified:
            return
        if using is None:
            if session.is_empty():
                return
            try:
                session.save()
            except UpdateError:
                return  # SessionMiddleware says so. The effects are there, so they are stored.
        elif database_of(session) != using:
            return
        else:
            if self._first_key and session.session_key != self._first_key:
                # A login or a logout, whose removal may have been undone with the view's writes.
                session.delete(self._first_key)
            if session.is_empty():
                return
            self._save_row(session)
        self._saved = (session.session_key, contents(session))

    def _save_row(self, session: Any) -> None:
        try:
            save_row(session)
        except UpdateError as error:
            if session.session_key == self._first_key:
                raise SessionInterrupted(INTERRUPTED) from error
            # The view has made a session (a login does), whose row was undone with its writes.
            save_row(session, must_create=True)
        drop_cached_copy(session)

    def end(self, is_stored: bool, response: HttpResponseBase | None = None) -> None:
        """The attempt has ended; ``SessionMiddleware`` comes next, and sets the cookie.

        What was saved is not saved a second time: by then another request may have changed it.

        :param is_stored: with the response; else what was saved is undone
        """
        if is_stored and response is not None and hasattr(response, MESSAGES):
            give_receipt(self._request, response, self._owner)
        session, saved = self._session, self._saved if is_stored else None
        is_undone = not is_stored and database_of(session) is not None
        if is_undone and session.modified:
            drop_cached_copy(session, self._first_key)
        if session is None or (
            saved is None and (not is_undone or session.session_key == self._first_key)
        ):
            return
        save = session.save

        def save_once(must_create: bool = False) -> None:
            if saved == (session.session_key, contents(session)) and not must_create:
                drop_cached_copy(session)
                return
            try:
                save(must_create=must_create)
            except UpdateError:
                if saved is not None:
                    raise
                # The row of a session that the view has made was undone with its writes.
                save(must_create=True)

        session.save = save_once
