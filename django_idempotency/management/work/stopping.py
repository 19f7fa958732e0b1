"""A clean stop: a signal asks for it, and what runs is finished first."""

import signal
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Any


class Stop:
    """Whether this process was asked to stop, as a context manager.

    Inside, the first SIGTERM or SIGINT asks. A second one does what it did before: it ends the
    process at once, or raises ``KeyboardInterrupt``. Signals reach the main thread, so in another
    one nothing changes.

    :ivar is_asked: true from the first signal on
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._before: dict[int, Any] = {}
        # An event's lock would be a deadlock in a handler that interrupts its own thread; the
        # queue is made for that.
        self._signals: SimpleQueue[int] = SimpleQueue()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until a signal asks to stop."""
        if not self.is_asked:
            with suppress(Empty):
                self._signals.get(timeout=seconds)

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask) or signal.SIG_DFL
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.is_asked = True
        before = self._before[number]
        self._restore()
        self._signals.put(number)
        # A program that has called the command wants to stop, too.
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
