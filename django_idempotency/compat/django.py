"""Everything this package asks of Django's transactions, connections, responses and requests
beyond their documented interface. No other module uses these names, except ``request_block`` beside
this one.

They are the same in Django 5.2, 6.0 and 6.1; ``tests/compat/test_django.py`` has a test per name,
which fails on a Django that lacks one or means something else by it.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakMethod

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper, debug_transaction
from django.db.models import QuerySet
from django.forms import BaseForm
from django.forms.formsets import BaseFormSet

Wrapper = Callable[..., Any]
"""An execute wrapper, as ``connection.execute_wrapper()`` documents it."""

Hook = TypeVar("Hook")

# --- Blocks of atomic() ---


def own_blocks(connection: Any) -> list[Any]:
    """Return the ``atomic()`` blocks that are open, without those of a test case, which surround
    everything in a test.

    ``atomic_blocks`` and ``_from_testcase``: Django itself asks them whether a durable block is the
    outermost one.
    """
    return [block for block in connection.atomic_blocks if not block._from_testcase]


def is_in_test_case(connection: Any) -> bool:
    """Whether a test case has opened the outermost block (``_from_testcase``)."""
    return any(block._from_testcase for block in connection.atomic_blocks)


def is_inside(connection: Any, block: transaction.Atomic | None) -> bool:
    """Whether a block is open. ``Atomic`` compares by identity."""
    return block in connection.atomic_blocks


def count_blocks(connection: Any) -> int:
    """Return how many blocks are open, a test case's included."""
    return len(connection.atomic_blocks)


def leave_blocks(connection: Any, count: int, error: BaseException) -> None:
    """Leave the innermost blocks until ``count`` are left, as if an error left them."""
    while len(connection.atomic_blocks) > count:
        connection.atomic_blocks[-1].__exit__(type(error), error, None)


def savepoints(connection: Any) -> list[str | None]:
    """Return the savepoints of the inner blocks; ``None`` for a block without one, or whose
    savepoint the database never sees (``request_block.UnsentSavepoint``).

    ``savepoint_ids``: an entry is removed before Django sends the statement that ends it.
    """
    unsent = vars(connection).get("_savepoint_commit")
    sids: list[str | None] = connection.savepoint_ids
    return sids if unsent is None else [None if unsent.__self__.sid == sid else sid for sid in sids]


class AttemptBlock(transaction.Atomic):
    """Our block around a view or a step. It notes that a durable block inside it was refused.

    ``atomic(durable=True)`` asks for ``_from_testcase`` of the innermost block, and raises if that
    is false. Django asks nothing else for it, so the property answers and notes the question.
    """

    has_refused = False

    def _asked(self) -> bool:
        if sys._getframe(1).f_globals is vars(transaction):
            self.has_refused = True
        return False

    _from_testcase = property(_asked, lambda self, value: None)


def enter_immediately(connection: Any, block: transaction.Atomic) -> None:
    """Enter a block on SQLite with ``BEGIN IMMEDIATE``.

    ``transaction_mode`` (``OPTIONS`` can set it for all transactions only) is set when Django
    connects, and read when it begins.
    """
    connection.ensure_connection()
    mode = connection.transaction_mode
    connection.transaction_mode = "IMMEDIATE"
    try:
        block.__enter__()
    finally:
        connection.transaction_mode = mode


def enter_without_sending(connection: Any, block: transaction.Atomic, begins: Wrapper) -> None:
    """Enter an outermost block on MySQL, but let its first statement begin the transaction.

    ``_set_autocommit`` would begin at once.

    :param begins: an execute wrapper for that statement, nearest to the database; it removes itself
    """

    def set_autocommit(autocommit: bool) -> None:
        if autocommit:  # the block connects
            type(connection)._set_autocommit(connection, True)

    connection._set_autocommit = set_autocommit
    try:
        block.__enter__()
    finally:
        del connection._set_autocommit
    connection.execute_wrappers.append(begins)


def switch_autocommit_off(connection: Any) -> None:
    """Begin on MySQL; nothing is sent if the driver knows that this is done (``_set_autocommit``,
    because ``set_autocommit()`` is refused inside of blocks)."""
    connection._set_autocommit(False)


# --- Commits and rollbacks beneath blocks that stay open ---


def first_on_commit(connection: Any, function: Callable[[], None]) -> None:
    """Call a function right after the commit, before all hooks: one that raises stops the others.

    ``run_on_commit``, because ``on_commit()`` appends. For outermost blocks: inside a test case,
    which never commits, nothing is called.
    """
    if len(connection.atomic_blocks) == 1:
        connection.run_on_commit.insert(0, (set(), function, False))


def run_first_on_commit(connection: Any, function: Callable[[], None]) -> None:
    """Call a function after the commit, before hooks of the project, which may raise and stop
    others; what it raises itself stops none. In a test case it is a hook as others are, for
    ``captureOnCommitCallbacks()``."""
    if is_in_test_case(connection):
        connection.on_commit(function, robust=True)
    else:
        connection.run_on_commit.insert(0, (set(), function, True))


def hooks_of(connection: Any) -> set[int]:
    """Return the identities of the functions that wait for the commit. Django forgets those of
    savepoints that are rolled back."""
    return {id(function) for _, function, _ in connection.run_on_commit}


def joinable_hook(connection: Any, kind: type[Hook]) -> Hook | None:
    """Return the last hook of the transaction, if it is of this kind, and shares the fate of one
    that would be added now: it was added in the same blocks (``savepoint_ids``)."""
    for sids, function, _ in connection.run_on_commit[-1:]:
        if isinstance(function, kind) and sids == set(connection.savepoint_ids):
            return function
    return None


def set_hooks_aside(connection: Any) -> Callable[[], None]:
    """Take the hooks of ``on_commit()`` away; return what puts them back before later ones."""
    hooks, connection.run_on_commit = connection.run_on_commit, []

    def restore() -> None:
        connection.run_on_commit = hooks + connection.run_on_commit

    return restore


def start_over(connection: Any, begin: Callable[[], None]) -> None:
    """Undo the whole transaction and begin another one, beneath the blocks that stay open.

    ``_rollback``, because ``rollback()`` is refused inside of blocks. It also does what a block
    that Django has marked for a rollback waits for (``needs_rollback``).

    :param begin: begins the other one
    """
    connection.run_on_commit = []
    try:
        connection._rollback()
    except Error:
        # The session is lost. Django's blocks find that out when they end.
        with suppress(Error):  # the driver may not close what is closed
            connection.close()
        return
    connection.needs_rollback = False
    begin()


def commit_beneath(connection: Any, begin: Callable[[], None]) -> None:
    """Commit beneath the blocks that stay open, and begin anew. Hooks wait until those have ended.

    ``_commit``, because ``commit()`` is refused inside of blocks.
    """
    connection._commit()
    begin()


def skip_commit(connection: Any, is_done: Callable[[], bool]) -> None:
    """Let Django's next commit send nothing, because it travelled with a statement (``_commit``).

    What Django does around it stays: hooks, and the entry in the query log (``debug_transaction``).

    :param is_done: asked then; if not, it is sent as usual
    """

    others = vars(connection).get("_commit")

    def commit() -> None:
        del connection._commit
        if others is not None:
            connection._commit = others
        if not is_done():
            connection._commit()
            return
        with debug_transaction(connection, "COMMIT"):
            pass

    connection._commit = commit


def send_directly(connection: Any, sql: str) -> None:
    """Send a statement past execute wrappers and cursors, which refuse it inside of blocks.

    ``wrap_database_errors`` makes the driver's errors Django's.
    """
    with connection.wrap_database_errors:
        connection.connection.execute(sql)


# --- What happens on a connection ---


def put_wrapper_first(connection: Any, wrapper: Wrapper) -> None:
    """Add an execute wrapper in front of the others, once.

    ``execute_wrappers``, because ``execute_wrapper()`` puts it last, and on leaving takes the last
    one off: a project that uses it would remove ours.
    """
    if wrapper not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, wrapper)


def remove_wrapper(connection: Any, wrapper: Wrapper) -> None:
    """Remove an execute wrapper, wherever it stands."""
    connection.execute_wrappers[:] = [
        each for each in connection.execute_wrappers if each != wrapper
    ]


def watch_statements(
    connection: Any, wrapper: Wrapper, on_set_rollback: Callable[[bool], None]
) -> None:
    """Call ``wrapper`` for every statement, in front of other wrappers, and ``on_set_rollback``
    whenever ``transaction.set_rollback()`` is used.

    Django sets ``needs_rollback`` without that method when a block fails, so a call of the method
    is a request.

    :param on_set_rollback: a method, which gets the argument; its object may be forgotten
    """
    connection.execute_wrappers.insert(0, wrapper)
    listener_of = WeakMethod(on_set_rollback)

    def set_rollback(rollback: bool) -> None:
        type(connection).set_rollback(connection, rollback)
        listener = listener_of()
        if listener is not None:
            listener(rollback)

    connection.set_rollback = set_rollback


def stop_watching(connection: Any, wrapper: Wrapper) -> None:
    """End :func:`watch_statements`. Harmless if ended."""
    if wrapper in connection.execute_wrappers:
        connection.execute_wrappers.remove(wrapper)
    vars(connection).pop("set_rollback", None)


def has_lost(connection: Any, session: Any) -> bool:
    """Whether a connection was closed, or has another session by now.

    ``closed_in_transaction``: inside of a block Django keeps the closed session.

    :param session: the driver's connection, as it was
    """
    return bool(connection.closed_in_transaction or connection.connection is not session)


def doubt(connection: Any) -> None:
    """Have Django ask between requests whether a connection still works (``errors_occurred``).

    Django notes that for errors of the database, but not for an interruption (a time limit, a
    greenlet that is killed), after which the next request would meet a closed session.
    """
    connection.errors_occurred = True


def autocommit_is_switched(connection: Any) -> bool:
    """Whether autocommit is not as the settings say, outside of blocks. Opens no connection."""
    if connection.connection is None or connection.in_atomic_block:
        return False
    return bool(connection.autocommit != connection.settings_dict["AUTOCOMMIT"])


def close_if_broken(connection: Any) -> None:
    """Close a connection that an error has made useless, or whose autocommit was left switched.

    Django does that between requests (``close_if_unusable_or_obsolete``), and closes old ones,
    too (``close_at``), which is not wanted in the middle of a request. A block, such as a test
    case's, owns its connection.
    """
    if connection.in_atomic_block:
        return
    due, connection.close_at = connection.close_at, None
    try:
        connection.close_if_unusable_or_obsolete()
    finally:
        connection.close_at = due


def close_broken_connections() -> None:
    """Code that was called may have left a broken connection behind, and a session may end at any
    time: the next statement of this thread must not meet it."""
    for connection in connections.all(initialized_only=True):
        close_if_broken(connection)


# --- The guard's connections ---


@contextmanager
def in_place_of_usual(connection: Any) -> Iterator[None]:
    """Let queries of this thread that name the connection's alias use it.

    Items of ``connections`` can be set; Django's own test runner does it.
    """
    alias = connection.alias
    usual = connections[alias]
    connections[alias] = connection
    try:
        yield
    finally:
        connections[alias] = usual


def cursor_of(make: Callable[..., Any], connection: Any, commits: bool = False) -> Any:
    """Return a cursor of ours as one of Django's: execute wrappers and the query log see what it
    sends, and the connection works.

    Where a backend or a tool has made ``cursor()`` or ``_cursor()`` its own, that is called, for it
    may do more: django-tenants sets the ``search_path`` there. Elsewhere ``_prepare_cursor`` and
    ``close_if_health_check_failed`` do what Django would, without a cursor of the driver's.

    :param make: called with Django's connection, the driver's, and ``commits``; returns ``None``
        for Django's cursor
    :param commits: the cursor commits after the statement
    """
    kind = type(connection)
    # Some have none: a proxy for a connection, such as django.db.connection.
    is_usual = getattr(kind, "_cursor", None) is _CURSOR and kind.cursor is _PUBLIC_CURSOR
    if not is_usual or "cursor" in vars(connection):
        wrapped = connection.cursor()
        if isinstance(wrapped, CursorWrapper):
            own = make(connection, connection.connection, commits)
            wrapped.cursor = wrapped.cursor if own is None else own
        return wrapped
    if not connection.in_atomic_block:  # a block has done this when it began
        connection.close_if_health_check_failed()
        connection.ensure_connection()
    cursor = make(connection, connection.connection, commits)
    return connection.cursor() if cursor is None else connection._prepare_cursor(cursor)


_wrapper: Any = BaseDatabaseWrapper
_CURSOR, _PUBLIC_CURSOR = _wrapper._cursor, _wrapper.cursor


def share_between_threads(connection: Any) -> None:
    """Let threads use a connection one after the other (``inc_thread_sharing``)."""
    connection.inc_thread_sharing()


def is_obsolete(connection: Any) -> bool:
    """Whether a connection is older than ``CONN_MAX_AGE`` allows.

    ``close_at``, because ``close_if_unusable_or_obsolete()`` may ask the server.
    """
    return connection.close_at is not None and connection.close_at <= monotonic()


def check_pool(connection: Any) -> None:
    """Throw dead connections out of Django's pool, if it has one (``pool``, on PostgreSQL)."""
    pool = getattr(connection, "pool", None)
    if pool is not None:
        pool.check()


def is_under_test() -> bool:
    """Whether Django's test environment is set up (``_TestState``). Its module is not loaded for
    this."""
    state = getattr(sys.modules.get("django.test.utils"), "_TestState", None)
    return hasattr(state, "saved_data")


def delete_without_signals(rows: QuerySet[Any], using: str) -> None:
    """Delete rows by one statement (``_raw_delete``): no signals, no collected relations."""
    rows._raw_delete(using)


# --- Responses ---


def header_fields(response: Any) -> dict[str, tuple[str, str]]:
    """Return the header fields of a response as it keeps them: names and values, by the lower-case
    name. What is put there must come from another response.

    ``headers._store``, because ``items()`` looks up each field, and setting one checks it again.
    """
    fields: dict[str, tuple[str, str]] = response.headers._store
    return fields


# --- Requests ---


def keep_out_of_cache(request: Any) -> None:
    """Have Django's cache middleware and ``cache_page()`` not keep the page that answers a request.

    ``_cache_update_cache``, by which the middleware itself says that a page is to be kept.
    """
    request._cache_update_cache = False


def was_found_invalid(thing: Any) -> bool:
    """Whether something is a form or a formset with errors. Nothing is validated for that, which
    could take queries.

    ``_errors``: ``None`` until a form is validated.
    """
    is_form = isinstance(thing, BaseForm | BaseFormSet)
    return is_form and thing._errors is not None and not thing.is_valid()
