"""``python -m benchmarks``: measures, prints the table, and writes the page of the documentation.

Everything is compared within one run. ``--quick`` is for a look at the harness, not for figures.
"""

import argparse
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any

ROOT = Path(__file__).parent.parent
NAME = os.environ.get("IDEMPOTENCY_TEST_NAME", "idempotency") + "_bench"
ENVIRONMENT = {
    "BENCH_NAME": NAME,
    "DJANGO_SETTINGS_MODULE": "benchmarks.project",
    "PYTHONPATH": str(ROOT),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny counts, no page")
    parser.add_argument("--rounds", type=int, default=3, help="of every pair")
    parser.add_argument("--seconds", type=float, default=4, help="per measurement")
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the large table")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.rows = 1, 2, 50_000
    started = monotonic()
    os.environ.update(ENVIRONMENT, BENCH_VARIANT="ours")
    result = _measure(options)
    result["minutes"] = (monotonic() - started) / 60
    from benchmarks.page import table, write

    print(table(result))
    if not options.quick:
        write(result)
    return 0


def _measure(options: Any) -> dict[str, Any]:
    from benchmarks import throughput

    if reason := throughput.missing():
        sys.exit(f"make bench needs wrk, a load generator: {reason}")
    peers = [case for case in throughput.PEERS if _installed(case.variant)]
    _create_database({case.variant for case in [*throughput.CASES, *peers]})
    import django

    django.setup()
    from django.core.handlers.base import BaseHandler

    from benchmarks import inside, volume

    token = _token()
    handler = BaseHandler()
    handler.load_middleware()
    few = min(10_000, options.rows)
    requests = 50 if options.quick else 400
    found, failed = throughput.measure(
        [*throughput.CASES, *peers], options.rounds, options.seconds, token, ENVIRONMENT
    )
    return {
        "throughput": found,
        "failed": failed | {c.name: "not installed" for c in throughput.PEERS if c not in peers},
        "statements": inside.statements(handler, token),
        "own time": inside.own_time(handler),
        "floor": inside.floor(requests=requests),
        "memory": inside.upload_memory(token),
        "purge": volume.purge(token, ENVIRONMENT, options.rows // 50),
        "bloat": volume.bloat(rows=min(20_000, options.rows // 10)),
        "growth": volume.growth(handler, token, few, options.rows),
        "versions": {name: _version(name) for name in _PEERS},
    }


_PEERS = ("isik", "drf-idempotencykey", "drf-idempotency", "django-idempotency-key")


def _installed(variant: str) -> bool:
    return _version(variant.partition(",")[0]) != ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _create_database(variants: set[str]) -> None:
    """An empty database with the tables of everybody."""
    import psycopg

    server = {
        "host": "127.0.0.1",
        "port": os.environ.get("PGPORT", "5432"),
        "user": os.environ.get("PGUSER", "postgres"),
        "password": os.environ.get("PGPASSWORD", ""),
    }
    with psycopg.connect(dbname="postgres", autocommit=True, **server) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{NAME}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{NAME}"')
    for variant in sorted(variants):
        subprocess.run(
            [sys.executable, "-m", "django", "migrate", "--verbosity", "0", "--run-syncdb"],
            env=os.environ | ENVIRONMENT | {"BENCH_VARIANT": variant},
            cwd=ROOT,
            check=True,
        )


def _token() -> str:
    from django.contrib.auth.models import User
    from rest_framework.authtoken.models import Token

    return str(Token.objects.create(user=User.objects.create_user("ada")).key)


if __name__ == "__main__":
    sys.exit(main())
