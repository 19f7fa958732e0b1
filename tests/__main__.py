"""``python -m tests``: the whole suite, on every database that answers.

Arguments go to pytest. What is missing is named at the end; in CI it is a failure.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable

from .databases import settings_of

PYTEST = [sys.executable, "-m", "pytest", "--cov", "--cov-append", "--cov-report="]


def main(arguments: list[str]) -> int:
    left_out = {name: reason for name, missing in NEEDS.items() if (reason := missing())}
    subprocess.run([sys.executable, "-m", "coverage", "erase"], check=True)
    failed = [name for name in DATABASES if name not in left_out and not _passes(name, arguments)]
    if not failed and not left_out and not arguments:
        report = [sys.executable, "-m", "coverage", "report", "--fail-under=100"]
        failed += ["coverage"] if subprocess.run(report, check=False).returncode else []
    for name, reason in left_out.items():
        print(f"Left out: {name} ({reason})")
    if failed:
        print("Failed: " + ", ".join(failed))
    in_ci = os.environ.get("CI", "").lower() not in {"", "0", "false"}
    return 1 if failed or (in_ci and left_out) else 0


def _passes(name: str, arguments: list[str]) -> bool:
    print(f"\n=== {name} ===", flush=True)
    environment = os.environ | {"IDEMPOTENCY_TEST_DATABASE": name}
    command = [*PYTEST, "--create-db", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode == 0


def _server(name: str, driver: str) -> Callable[[], str]:
    def missing() -> str:
        if importlib.util.find_spec(driver) is None:
            return f"the driver {driver} is not installed"
        settings = settings_of(name)
        try:
            socket.create_connection((settings["HOST"], int(settings["PORT"])), 3).close()
        except OSError as error:
            return f"no server at {settings['HOST']}:{settings['PORT']}: {error}"
        return ""

    return missing


def _browser() -> str:
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed"
    return "" if shutil.which("chromium") else "chromium is not installed"


DATABASES = ("sqlite", "postgresql", "mariadb")
NEEDS: dict[str, Callable[[], str]] = {
    "postgresql": _server("postgresql", "psycopg"),
    "mariadb": _server("mariadb", "MySQLdb"),
    "browser tests": _browser,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
