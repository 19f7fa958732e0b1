"""A rehearsal of crashes: a worker kills itself where the demo says."""

import os
import signal
from pathlib import Path


class Crash:
    """The demo's end. The next worker that reaches a point dies there, as if the power failed.

    :param folder: the example's folder
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "crash"

    def at(self, point: str) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(point)
        draft.replace(self._file)

    @property
    def is_due(self) -> bool:
        """Whether nobody has reached the point yet."""
        return self._file.exists()

    def reached(self, point: str) -> None:
        """The server's end."""
        if self._file.exists() and self._file.read_text() == point:
            self._file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def reached(point: str) -> None:
    """The server's end, as a function."""
    Crash(Path(os.environ["DEMO_FOLDER"])).reached(point)
