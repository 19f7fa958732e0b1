"""Everything this package asks of Django's sessions and messages beyond their documented interface.
No other module uses these names; ``tests/compat/test_sessions.py`` has a test per name.
"""

from functools import partial
from typing import Any

from django.contrib.messages.storage.cookie import CookieStorage
from django.contrib.messages.storage.fallback import FallbackStorage
from django.contrib.messages.storage.session import SessionStorage
from django.contrib.sessions.backends import cached_db, db
from django.contrib.sessions.backends.base import UpdateError
from django.db import DatabaseError, router


def database_of(session: Any) -> str | None:
    """Return the alias of the database to which a session is written; ``None`` for other engines
    than Django's ``db`` and ``cached_db``, and those made of them."""
    if not isinstance(session, db.SessionStore):
        return None
    return router.db_for_write(session.model)


def forget_loaded(session: Any, session_key: str | None) -> None:
    """Have a session read again when somebody asks for it (``_session_cache``, ``_session_key``),
    and not saved until somebody changes it."""
    vars(session).pop("_session_cache", None)
    session._session_key = session_key
    session.modified = False


def save_row(session: Any, must_create: bool = False) -> None:
    """Write the row of a session in a database, and no cached copy.

    What ``cached_db`` has in its cache would be there before the commit, and after a rollback.

    :raises UpdateError: if the row is gone
    :raises DatabaseError: what the database said, which Django takes for a row that is gone
    """
    own = type(session).save
    save = partial(db.SessionStore.save if own is cached_db.SessionStore.save else own, session)
    try:
        save(must_create=must_create)
    except UpdateError as error:
        refused = error.__context__
        # Django's own errors have no cause, the driver's do.
        if isinstance(refused, DatabaseError) and refused.__cause__ is not None:
            raise refused from refused.__cause__
        raise


def drop_cached_copy(session: Any, session_key: str | None = None) -> None:
    """Have a session of the engine ``cached_db`` read from its database next time.

    :param session_key: by default the session's present one
    """
    session_key = session_key or session.session_key
    if isinstance(session, cached_db.SessionStore) and session_key:
        cache: Any = session._cache  # type: ignore[attr-defined]
        cache.delete(session.cache_key_prefix + session_key)


def contents(session: Any) -> bytes:
    """Return what is in a session, to compare it."""
    packed: bytes = session.serializer().dumps(session._session)
    return packed


def put_messages_into_session(request: Any, response: Any) -> None:
    """Do what ``MessageMiddleware`` will do again, if messages are kept in the session: once more
    it changes nothing (``_messages``)."""
    storage = getattr(request, "_messages", None)
    if isinstance(storage, SessionStorage):
        storage.update(response)


def count_messages(request: Any) -> int:
    """Return how many messages wait for the next page (``_queued_messages``)."""
    storage = getattr(request, "_messages", None)
    return 0 if storage is None else len(storage._queued_messages)


def new_messages(request: Any, before: int) -> list[Any]:
    """Return the messages that will be kept in cookies, at least in part.

    :param before: how many waited at first; nobody waits any more if a page has shown them
    """
    storage: Any = getattr(request, "_messages", None)
    if not isinstance(storage, (CookieStorage, FallbackStorage)):
        return []
    queued: list[Any] = vars(storage)["_queued_messages"]
    return queued if storage.used else queued[before:]


def forget_loaded_messages(request: Any) -> None:
    """Have messages read again that came with the request, unless they were shown
    (``_loaded_data``)."""
    storage = getattr(request, "_messages", None)
    if storage is not None and not storage.used:
        vars(storage).pop("_loaded_data", None)
