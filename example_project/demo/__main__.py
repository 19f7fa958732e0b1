"""``make demo``: exit status 0 only if every statement holds. ``--asgi``: the async views."""

import os
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from .following import CHAPTERS as FOLLOWING
from .report import Report
from .server import PROJECT, Example
from .stage import Stage
from .story import CHAPTERS
from .visiting import CHAPTERS as VISITING
from .waiting import CHAPTERS as ASYNC_CHAPTERS

FOLDER = PROJECT.parent / ".demo"
LOG_LINES = 30


def main() -> int:
    sys.stdout.reconfigure(errors="replace")  # a terminal without ticks gets question marks
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="run-", dir=FOLDER) as folder:
        asgi = "--asgi" in sys.argv[1:]
        example = Example(Path(folder), os.environ.get("EXAMPLE_DATABASE"), asgi)
        try:
            with example:
                return _perform(example)
        except KeyboardInterrupt:
            print("\nStopped.")
            return 130


def _perform(example: Example) -> int:
    report = _tell(example)
    print(f"\n{report.table()}\n\n{report.summary()}", flush=True)
    if not report.ok:
        log = example.log.read_text(errors="replace").splitlines()
        print("\nThe server's last words:", *log[-LOG_LINES:], sep="\n    ")
    if sys.stdout.isatty():
        _stay(example)
    return 0 if report.ok else 1


def _tell(example: Example) -> Report:
    report = Report()
    run = uuid.uuid4().hex[:6]
    alice, bob = example.accounts(f"alice-{run}", f"bob-{run}")
    stage = Stage(example, report, alice, bob)
    print(f"The example runs on {example.url}", flush=True)
    for chapter in ASYNC_CHAPTERS if example.asgi else (*CHAPTERS, *FOLLOWING, *VISITING):
        _tell_chapter(chapter, stage)
    return report


def _tell_chapter(chapter: Callable[[Stage], None], stage: Stage) -> None:
    title = (chapter.__doc__ or chapter.__name__).strip()
    stage.report.chapter(title)
    try:
        chapter(stage)
    except Exception as error:
        stage.check("The chapter ends", title, "no error", f"{type(error).__name__}: {error}")


def _stay(example: Example) -> None:
    """Leave the server to the audience, until Ctrl-C."""
    name = f"admin-{uuid.uuid4().hex[:6]}"
    (admin,) = example.accounts(name, admin=True)
    print(f"\nFor the charts in the admin: {example.manage('sample_traffic').strip()}")
    print(f"\nStill running: {example.url}/admin/  user {name}, password {admin['password']}")
    print("Ctrl-C stops it.", flush=True)
    try:
        example.wait()
    except KeyboardInterrupt:
        print("\nStopped.")


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
