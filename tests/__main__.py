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
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from proof import checker
from tests.support.databases import settings_of

PYTEST = [sys.executable, "-m", "pytest", "--create-db", "-p", "no:cacheprovider"]
COVERED = ["--cov", "--cov-report="]
UNCOVERED = {"mariadb"}
"""Watching every line costs time, and adds next to nothing here: one statement is MariaDB's own."""
COVERAGE = [sys.executable, "-m", "coverage"]


def main(arguments: list[str]) -> int:
    left_out = {name: reason for name, missing in NEEDS.items() if (reason := missing())}
    databases = [name for name in DATABASES if name not in left_out]
    # Two at a time: each suite keeps about one processor busy, and has a database of its own.
    with ThreadPoolExecutor(2) as pool:
        passed = dict(zip(databases, pool.map(partial(_passes, arguments), databases), strict=True))
    failed = [name for name in databases if not passed[name]]
    subprocess.run([*COVERAGE, "combine", "--quiet"], check=True)
    if not failed and not left_out and not arguments:
        report = subprocess.run([*COVERAGE, "report", "--fail-under=95"], check=False)
        failed += ["coverage"] if report.returncode else []
    for name, reason in left_out.items():
        print(f"Left out: {name} ({reason})")
    if failed:
        print("Failed: " + ", ".join(failed))
    in_ci = os.environ.get("CI", "").lower() not in {"", "0", "false"}
    return 1 if failed or (in_ci and left_out) else 0


def _passes(arguments: list[str], name: str) -> bool:
    environment = os.environ | {
        "IDEMPOTENCY_TEST_DATABASE": name,
        "COVERAGE_FILE": f".coverage.{name}",
    }
    command = [*PYTEST, *([] if name in UNCOVERED else COVERED), *arguments]
    print(f"{name}: running", flush=True)
    done = subprocess.run(
        command, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    sys.stdout.buffer.write(f"\n=== {name} ===\n".encode() + done.stdout)
    sys.stdout.flush()
    return done.returncode == 0


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


def _redis() -> str:
    if importlib.util.find_spec("django_redis") is None:
        return "django-redis is not installed"
    return "" if shutil.which("redis-server") else "redis-server is not installed"


def _tenants() -> str:
    missing = importlib.util.find_spec("django_tenants") is None
    return "django-tenants is not installed" if missing else ""


def _browser() -> str:
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed"
    return "" if shutil.which("chromium") else "chromium is not installed"


DATABASES = ("sqlite", "postgresql", "mariadb")
NEEDS: dict[str, Callable[[], str]] = {
    "postgresql": _server("postgresql", "psycopg"),
    "mariadb": _server("mariadb", "MySQLdb"),
    "redis": _redis,
    "tests with tenants": _tenants,
    "browser tests": _browser,
    "model of the protocol": checker.missing,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
