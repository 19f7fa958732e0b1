"""Threads that work beside the requests of a process, and what a fork means for them."""

import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

logger = logging.getLogger("django_idempotency")


def after_fork(function: Callable[[], object]) -> None:
    """Call a function in every process that is forked from this one, before anything else there.

    A forked process has none of its parent's threads, and its copies of locks may be held by
    threads that it does not have. Where there are no forks (Windows), nothing is called.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


class Background(ABC):
    """Work that one daemon thread of this process does, for as long as there is any.

    The thread starts when there is work, ends when there is none, and starts again in a forked
    process. If it cannot be started, the work waits, and the next work tries again: no request
    fails for it.

    A subclass keeps its work in attributes that :meth:`_forget` sets, and touches them only while
    it holds :attr:`_changed`. It exists for as long as its process.

    :param name: of the thread
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._begin()
        after_fork(self._begin)

    @abstractmethod
    def _forget(self) -> None:
        """Have no work: at first, and in a forked process, whose parent does what it had."""

    @abstractmethod
    def _run(self) -> None:
        """Work, in the thread, until :meth:`_end` is called."""

    @property
    def _changed(self) -> threading.Condition:
        """Guards the attributes, and wakes who waits for a change of them.

        Made when it is first asked for. gevent's worker of gunicorn replaces locks by its own after
        it was forked; an older one would stop the whole process whenever one greenlet waits for it.
        """
        found: threading.Condition | None = vars(self).get("_condition")
        return found or vars(self).setdefault("_condition", threading.Condition())

    def _begin(self) -> None:
        vars(self).pop("_condition", None)
        self._is_running = False
        self._could_not_start = False
        self._forget()

    def _start(self) -> bool:
        """See to it that the thread runs; the caller holds :attr:`_changed`.

        :return: whether it does
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
        """The thread ends; it holds :attr:`_changed`, and does nothing more."""
        self._is_running = False
        self._changed.notify_all()
