"""The example project for many tests: what takes long to start is started once."""

import json
import subprocess
import sys
from pathlib import Path

from example_project.demo.server import PROJECT, Example
from tests.support.server import COPIES

CONSOLE = Path(__file__).with_name("console.py")


class WarmExample(Example):
    """One process runs all management commands; another one has imported what its copies serve."""

    def __init__(self, folder: Path, database: str | None = None) -> None:
        super().__init__(folder, database)
        self.environment["GUNICORN_CMD_ARGS"] = " ".join(COPIES)
        self._console: subprocess.Popen[str] | None = None

    def manage(self, *arguments: str) -> str:
        if self._console is None:
            self._console = subprocess.Popen(
                [sys.executable, str(CONSOLE)],
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._console.stdin is not None
        assert self._console.stdout is not None
        print(json.dumps(arguments), file=self._console.stdin, flush=True)
        code, printed, error = json.loads(self._console.stdout.readline())
        if code != 0:
            raise RuntimeError(f"manage.py {arguments[0]} failed:\n{error}")
        return str(printed).strip()

    def stop(self) -> None:
        super().stop()
        if self._console is not None:
            self._console.communicate()
            self._console = None
