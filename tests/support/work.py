"""``manage.py run_idempotent_work`` in a process of its own, whose handlers can be made to hang."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Work:
    """A process that runs the command. Its handlers look at the stage as a server's views do."""

    def __init__(self, stage: Path, *arguments: str, **environment: str) -> None:
        settings = {
            "DJANGO_SETTINGS_MODULE": "tests.support.server_settings",
            "IDEMPOTENCY_TEST_STAGE": str(stage),
            "PYTHONPATH": str(ROOT),
        }
        common = os.environ | settings | environment
        common.pop("COVERAGE_PROCESS_START", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.work", *arguments],
            cwd=ROOT,
            env=common,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def says(self, text: str) -> str:
        """Wait for a line with a text, and return it."""
        assert self.process.stdout is not None
        before = []
        alarm = threading.Timer(60, self.process.kill)
        alarm.start()
        try:
            for line in self.process.stdout:
                if text in line:
                    return line
                before.append(line)
        finally:
            alarm.cancel()
        raise AssertionError(f"it ended without saying {text!r}: {''.join(before)}")

    def end(self) -> tuple[int, str]:
        """Wait for its end; return the exit status, and what it has said since."""
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out or ""


@contextmanager
def service(stage: Path, *arguments: str, **environment: str) -> Iterator[Work]:
    """Run the command as a service that is quick to notice work; it waits for work from then on."""
    options = ("--forever", "--poll=50ms", "--older-than=0", *arguments)
    work = Work(stage, *options, **environment)
    try:
        work.says("Waiting for work")
        yield work
    finally:
        work.process.kill()
        work.end()


if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    from tests.support import wsgi  # noqa: F401  (lets handlers hang)

    execute_from_command_line(["manage.py", "run_idempotent_work", *sys.argv[1:]])
