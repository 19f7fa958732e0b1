"""Workers of task queues, as programs on the tests' database, and what tests and tasks tell each
other by files."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def kill(stage: Path, when: str, *items: str, whole: bool = False) -> None:
    """Let the process that runs the task of an item be killed, once.

    :param when: ``"in it"``, after its write; ``"after it"``, when that is committed
    :param whole: kill the worker with all of its processes
    """
    for item in items:
        (stage / f"killed {when} {item}").write_text("whole" if whole else "")


def killed(when: str, item: str) -> None:
    """Die in a task, if the test wants it. Whoever removes the file was told so."""
    told = Path(os.environ.get("IDEMPOTENCY_TEST_STAGE", "")) / f"killed {when} {item}"
    try:
        whole = told.read_text() == "whole"
        told.unlink()
    except FileNotFoundError:
        return
    (os.killpg if whole else os.kill)(os.getpgid(0) if whole else os.getpid(), signal.SIGKILL)


def all_were_killed(stage: Path) -> bool:
    return not list(stage.glob("killed *"))


class Worker:
    """A program that runs tasks.

    :param stage: a directory for the log, and for files that tell tasks what to do
    :param command: what Python runs
    """

    def __init__(self, stage: Path, command: list[str], **environment: str) -> None:
        self.stage = stage
        self._log = (stage / "worker.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment_of(stage) | environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def ended(self) -> int:
        """Return how many tasks have ended well."""
        try:
            return len((self.stage / "ended").read_text().splitlines())
        except FileNotFoundError:
            return 0

    def wait_for(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not reached():
            running = self.process.poll() is None and time.monotonic() < deadline
            assert running, self.log()
            time.sleep(0.05)

    def wait(self) -> None:
        """Wait until it ends by itself."""
        assert self.process.wait(60) == 0, self.log()

    def log(self) -> str:
        return (self.stage / "worker.log").read_text()

    def stop(self) -> None:
        """Kill it with all of its processes: to end well takes queues some seconds."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self._log.close()


def environment_of(stage: Path) -> dict[str, str]:
    """Return what a program needs to work on the tests' database."""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.support.server_settings",
        "IDEMPOTENCY_TEST_STAGE": str(stage),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    environment.pop("COVERAGE_PROCESS_START", None)
    return environment


@contextmanager
def running_worker(stage: Path, *command: Any, **environment: str) -> Iterator[Worker]:
    """Run a worker for as long as the block lasts."""
    worker = Worker(stage, list(map(str, command)), **environment)
    try:
        yield worker
    finally:
        worker.stop()
