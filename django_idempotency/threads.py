"""Background threads that survive forks, and the thread of an async request.

Django gives each request one thread for its thread-sensitive work, the ORM's async methods
included (https://docs.djangoproject.com/en/stable/topics/async/#async-adapter-functions). The guard
works there, too: on the connection that the view will use, and in its order.
"""

import asyncio
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

logger = logging.getLogger("django_idempotency")


def after_fork(function: Callable[[], object]) -> None:
    """Call a function first in every process that is forked from this one.

    A forked process has none of its parent's threads, and its copies of locks may be held by
    threads that it does not have. Does nothing where there are no forks (Windows).
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


class Background(ABC):
    """One daemon thread of this process, for work that no request waits for.

    The thread starts when there is work, ends when there is none, and starts again in a forked
    process. If it cannot be started, the work waits until the next work tries again: no request
    fails.

    A subclass keeps its work in attributes that :meth:`_forget` sets, and uses them only while it
    holds :attr:`_changed`. Its instances live as long as the process.

    :param name: of the thread
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._begin()
        after_fork(self._begin)

    @abstractmethod
    def _forget(self) -> None:
        """Have no work: at first, and in a forked process, whose parent does the work."""

    @abstractmethod
    def _run(self) -> None:
        """Work, in the thread, until :meth:`_end` is called."""

    @property
    def _changed(self) -> threading.Condition:
        """Guards the attributes, and wakes threads that wait for a change of them.

        Made at its first use: gunicorn's gevent worker replaces locks after the fork, and a lock
        from before would stop the whole process whenever one greenlet waits for it.
        """
        found: threading.Condition | None = vars(self).get("_condition")
        return found or vars(self).setdefault("_condition", threading.Condition())

    def _begin(self) -> None:
        vars(self).pop("_condition", None)
        self._is_running = False
        self._could_not_start = False
        self._forget()

    def _start(self) -> bool:
        """Start the thread unless it runs; the caller holds :attr:`_changed`.

        :return: whether it runs
        """
        if self._is_running:
            return True
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except RuntimeError as error:  # no thread is left, or the process is about to end
            if not self._could_not_start:
                logger.warning("Thread %s: %s. The next request tries again", self._name, error)
            self._could_not_start = True
            return False
        self._is_running, self._could_not_start = True, False
        return True

    def _end(self) -> None:
        """End the thread, which holds :attr:`_changed` and returns at once."""
        self._is_running = False
        self._changed.notify_all()


Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


async def on_request_thread(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Run a function to its end on the request's thread, as if it were called here.

    A cancellation does not stop a thread. A claim or a commit must not go on unattended, so the
    cancellation is delivered only after the function has ended.

    :raises asyncio.CancelledError: if cancelled meanwhile; the function has ended
    """
    call: Coroutine[Any, Any, Result] = sync_to_async(function, thread_sensitive=True)(
        *args, **kwargs
    )
    work, cancelled = await to_its_end(call, lambda: False)
    if cancelled is not None:
        raise cancelled from (None if work.cancelled() else work.exception())
    return work.result()


async def to_its_end(
    call: Coroutine[Any, Any, Result], may_be_cancelled: Callable[[], bool]
) -> tuple[asyncio.Task[Result], asyncio.CancelledError | None]:
    """Await a call in a separate task, so that a cancellation need not reach it.

    A cancellation ends the innermost ``await``. If that awaits a thread, the thread goes on and its
    result is lost. So the cancellation is held back until it does no harm.

    :param may_be_cancelled: asked at each cancellation; if so, the call gets it, as without us
    :return: the task, which is done, and a cancellation that was held back: raise it at last
    """
    context = copy_context()
    work = asyncio.get_running_loop().create_task(call, context=context)
    held_back = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            if may_be_cancelled():
                work.cancel(*error.args)
            else:
                held_back = error
    _adopt(context)
    return work, held_back


def _adopt(context: Context) -> None:
    """Set here what the function has set there, as a plain call would have."""
    for variable, value in context.items():
        if variable.get(None) is not value:
            variable.set(value)
