"""``python -m tests``: the suite on every database that answers, one after another.

``--quick`` is for a contributor's loop: SQLite alone, without servers, processes and browsers.
``--whole`` also runs the repetitions that the usual run leaves out. Other arguments go to pytest.
Suites that cannot run here are named before the first test; in CI they are a failure.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from proof import checker
from tests.support.databases import settings_of
from tests.support.poolers import PROGRAM as POOLER

WORKERS = os.cpu_count() or 1
PYTEST = [
    *(sys.executable, "-m", "pytest", "--create-db", "-p", "no:cacheprovider"),
    # A file's tests share servers, so they stay in one process.
    *("-n", str(WORKERS), "--dist", "loadfile", "--no-loadscope-reorder"),
]
COVERED = ["--cov", "--cov-report="]
COVERAGE = [sys.executable, "-m", "coverage"]


def main(arguments: list[str]) -> int:
    quick, whole = "--quick" in arguments, "--whole" in arguments
    missing = {} if quick else dict(_missing())
    databases = ["sqlite"] if quick else [name for name in DATABASES if name not in missing]
    in_ci = os.environ.get("CI", "").lower() not in {"", "0", "false"}
    # To watch every line doubles the processor time. MariaDB adds one module to the other two.
    covered = databases[:2] if (in_ci or whole) and not quick else []
    _announce(databases, missing, quick)
    failed = [
        name for name in databases if not _passes(name, [*_cover(name in covered), *arguments])
    ]
    if covered:
        subprocess.run([*COVERAGE, "combine", "--quiet"], check=True)
    if not failed and not missing and covered and set(arguments) <= {"--whole"}:
        report = subprocess.run([*COVERAGE, "report", "--fail-under=95"], check=False)
        failed += ["coverage"] if report.returncode else []
    for line in [f"Left out: {line}" for line in missing.values()]:
        print(line)
    if failed:
        print("Failed: " + ", ".join(failed))
    return 1 if failed or (in_ci and missing) else 0


def _announce(databases: list[str], missing: dict[str, str], quick: bool) -> None:
    print(f"Runs: {', '.join(databases)} ({WORKERS} processes)")
    if quick:
        print("Left out: other databases, Redis, browsers, processes (make test runs them)")
    for line in missing.values():
        print(f"Left out: {line}")
    sys.stdout.flush()


def _cover(wanted: bool) -> list[str]:
    return COVERED if wanted else []


def _passes(name: str, arguments: list[str]) -> bool:
    environment = os.environ | {
        "IDEMPOTENCY_TEST_DATABASE": name,
        "COVERAGE_FILE": f".coverage.{name}",
        # Every process imports all tests. To compile their assertions takes longer than the rest.
        "PYTHONDONTWRITEBYTECODE": "",
    }
    print(f"\n=== {name} ===", flush=True)
    return subprocess.run([*PYTEST, *arguments], env=environment, check=False).returncode == 0


def _missing() -> Iterator[tuple[str, str]]:
    """Yield what cannot run here, and the line that says why and how to get it."""
    for name, (_, remedy) in NEEDS.items():
        if reason := why_left_out(name):
            yield name, f"{name}: {reason}; {remedy}"


def why_left_out(name: str) -> str:
    """Return why a suite cannot run here; empty if it can."""
    is_missing, _ = NEEDS.get(name, (str, ""))
    return is_missing()


def _server(name: str, driver: str) -> Callable[[], str]:
    def missing() -> str:
        if importlib.util.find_spec(driver) is None:
            return f"no driver {driver}"
        settings = settings_of(name)
        try:
            socket.create_connection((settings["HOST"], int(settings["PORT"])), 3).close()
        except OSError:
            return f"no server at {settings['HOST']}:{settings['PORT']}"
        return ""

    return missing


def _program(module: str, program: str) -> Callable[[], str]:
    def missing() -> str:
        if importlib.util.find_spec(module) is None:
            return f"no package {module}"
        return "" if shutil.which(program) else f"no program {program}"

    return missing


def amqp_url() -> str:
    return os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")


def _rabbitmq() -> str:
    address = urlsplit(amqp_url())
    try:
        socket.create_connection((address.hostname or "", address.port or 5672), 3).close()
    except OSError:
        return f"no server at {address.hostname}:{address.port}"
    return ""


def _tenants() -> str:
    return "" if importlib.util.find_spec("django_tenants") else "no package django_tenants"


def _checkers() -> str:
    needed = ("mypy", "mypy_django_plugin", "basedpyright")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    return f"no package {', '.join(missing)}" if missing else ""


DATABASES = ("sqlite", "postgresql", "mariadb")
PIP = f"{sys.executable} -m pip install"
GROUP = f"{PIP} --group test"
NEEDS: dict[str, tuple[Callable[[], str], str]] = {
    "postgresql": (
        _server("postgresql", "psycopg"),
        f'start one, or set PGPORT, PGUSER, PGPASSWORD; driver: {PIP} "psycopg[binary,pool]"',
    ),
    "mariadb": (
        _server("mariadb", "MySQLdb"),
        "start one, or set MYSQL_PORT, MYSQL_USER, MYSQL_PASSWORD; driver: "
        f"apt install gcc libmariadb-dev pkg-config && {PIP} mysqlclient",
    ),
    "connection pooler": (_program("psycopg", POOLER), "apt install pgbouncer"),
    "redis": (_program("django_redis", "redis-server"), "apt install redis-server; " + GROUP),
    "rabbitmq": (_rabbitmq, "start one, or set AMQP_URL"),
    "tests with tenants": (_tenants, GROUP),
    "browser tests": (_program("playwright", "chromium"), "apt install chromium; " + GROUP),
    "prometheus": (_program("prometheus_client", "promtool"), "apt install prometheus; " + GROUP),
    "programs of clients": (_program("httpx", "node"), "apt install nodejs; " + GROUP),
    "type checkers": (_checkers, GROUP),
    "model of the protocol": (checker.missing, "apt install gcc spin"),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
