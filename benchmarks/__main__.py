"""``python -m benchmarks``: measures, prints the tables, and writes the page of the documentation.

The measurement has parts, in this order: {parts}. What fails is reported, and the rest goes on.
Results are kept in ``.bench/results.json`` from round to round, so a run that was stopped goes on
with ``--resume``. ``--quick`` is for a look at the harness, not for figures.
"""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any

from benchmarks import counts, driver, page, processor, throughput
from benchmarks.cases import GROUPS, OURS, PEERS, Case
from benchmarks.servers import ROOT, create_databases, near

KEPT = ROOT / ".bench"
State = dict[str, Any]
"""What is known of a part; JSON."""


def main() -> int:
    options = _options()
    if reason := throughput.missing():
        sys.exit(f"make bench needs wrk, a load generator: {reason}")
    results = Results(KEPT / ("quick.json" if options.quick else "results.json"))
    if not (options.resume or options.only or options.page):
        results.parts = {}
    wanted = [] if options.page else options.only or list(PARTS)
    if not options.resume:
        results.forget(wanted)
    missing = [part for part in wanted if not results.has(part)]
    refused = _prepare(missing) if missing else {}
    for number, part in enumerate(missing, 1):
        print(f"{datetime.now(UTC):%H:%M:%S} {part} ({number} of {len(missing)})", flush=True)
        _run(part, results, options, refused)
    shown = results.parts if not options.only else {part: results.parts[part] for part in wanted}
    print(page.tables(shown, _versions()))
    if results.is_complete and not options.quick:
        page.write(results.parts, _versions())
    failures = [part for part in wanted if "error" in results.parts[part]]
    for part in failures:
        print(f"{part} has failed: {results.parts[part]['error']}")
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    text = (__doc__ or "").format(parts=", ".join(PARTS))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=text)
    parser.add_argument("--quick", action="store_true", help="tiny counts, no page")
    parser.add_argument(
        "--only",
        type=lambda text: [part.strip() for part in text.split(",")],
        help="measure these parts anew, separated by commas; the page is written if the others "
        "have been measured before",
    )
    parser.add_argument("--resume", action="store_true", help="go on where a run was stopped")
    parser.add_argument("--page", action="store_true", help="write the page again, measure nothing")
    parser.add_argument("--rounds", type=int, default=4, help="how often every case is measured")
    parser.add_argument("--seconds", type=int, default=1, help="per case and round")
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the large table")
    options = parser.parse_args()
    unknown = set(options.only or []) - set(PARTS)
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    if options.quick:
        options.rounds, options.seconds, options.rows = 1, 1, 50_000
    return options


class Results:
    """What all parts have measured, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.parts: dict[str, State] = json.loads(path.read_text()) if path.exists() else {}

    @property
    def is_complete(self) -> bool:
        return all(self.parts.get(part, {}).get("done") for part in PARTS)

    def has(self, part: str) -> bool:
        """Whether a part was measured without an error."""
        state = self.parts.get(part, {})
        return bool(state.get("done")) and "error" not in state

    def forget(self, parts: list[str]) -> None:
        for part in parts:
            self.parts.pop(part, None)

    def save(self) -> None:
        self._path.parent.mkdir(exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self.parts))
        new.replace(self._path)


def _run(part: str, results: Results, options: Any, refused: dict[str, dict[str, str]]) -> None:
    """Measure a part, whatever happens."""
    state = results.parts.setdefault(part, {})
    state.pop("error", None)
    started, before = monotonic(), state.get("minutes", 0)

    def save() -> None:
        state["minutes"] = before + (monotonic() - started) / 60
        state["at"] = datetime.now(UTC).isoformat(timespec="minutes")
        results.save()

    try:
        PARTS[part](state, options, save, refused)
    except Exception as error:
        traceback.print_exc()
        state["error"] = f"{type(error).__name__}: {error}"
    state["done"] = True
    save()


def _prepare(parts: list[str]) -> dict[str, dict[str, str]]:
    """Make the databases that these parts need; return who cannot be measured on which, and why."""
    refused: dict[str, dict[str, str]] = {}
    for database in ("postgresql", "mariadb"):
        if database == "mariadb" and not any("mariadb" in part for part in parts):
            continue
        print(f"Tables on {database} ...", flush=True)
        try:
            failed = create_databases(database, _cases(database))
        except Exception as error:
            failed = {case.guard: str(error) for case in _cases(database)}
        absent = {guard for guard, package in PEERS.items() if not _version(package)}
        failed |= dict.fromkeys(absent, "not installed")
        refused[database] = {
            case.name: failed[case.guard] for case in _cases(database) if case.guard in failed
        }
    return refused


def _cases(database: str) -> list[Case]:
    return GROUPS["local" if database == "postgresql" else "mariadb"]


def _throughput(
    group: str, state: State, options: Any, save: Callable[[], None], refused: Any
) -> None:
    database = "mariadb" if group.startswith("mariadb") else "postgresql"
    state.setdefault("failed", dict(refused[database]))
    seconds, rounds = options.seconds, options.rounds
    is_far = group.endswith("far")
    throughput.measure(GROUPS[group], database, is_far, seconds, rounds, state, save)


def _counts(database: str, state: State, options: Any, save: Any, refused: Any) -> None:
    failed = state["failed"] = dict(refused[database])
    cases = [case for case in _cases(database) if case.name not in failed]
    state["cases"] = counts.count(cases, database, failed)


def _processor(state: State, options: Any, *rest: Any) -> None:
    state["cases"] = processor.measure(options.rounds, 2 * options.seconds)


def _driver(state: State, options: Any, *rest: Any) -> None:
    state["wire"] = driver.wire()
    state["commits"] = driver.commits(1 if options.quick else 5)


def _inside(state: State, options: Any, *rest: Any) -> None:
    handler = _handler()
    from benchmarks import inside

    state["statements"] = inside.statements(handler)
    state["own time"] = inside.own_time(handler)
    state["floor"] = inside.floor(requests=50 if options.quick else 400)
    state["memory"] = inside.upload_memory()


def _purge(state: State, options: Any, *rest: Any) -> None:
    _handler()
    from benchmarks import volume

    state["purge"] = volume.purge(options.rows // 50)
    state["bloat"] = volume.bloat(rows=min(20_000, options.rows // 10))


def _growth(state: State, options: Any, *rest: Any) -> None:
    handler = _handler()
    from benchmarks import volume

    state["growth"] = volume.growth(handler, min(10_000, options.rows), options.rows)


PARTS: dict[str, Callable[..., None]] = {
    "counts": partial(_counts, "postgresql"),
    "counts-mariadb": partial(_counts, "mariadb"),
    **{group: partial(_throughput, group) for group in GROUPS},
    "processor": _processor,
    "driver": _driver,
    "inside": _inside,
    "purge": _purge,
    "growth": _growth,
}


@cache
def _handler() -> Any:
    """The project in this process, guarded, on PostgreSQL."""
    import django
    from django.core.handlers.base import BaseHandler

    case = Case("in this process", OURS, atomic_requests=False)
    os.environ |= near("postgresql").environment | dict(case.environment)
    django.setup()
    handler = BaseHandler()
    handler.load_middleware()
    return handler


def _versions() -> dict[str, str]:
    packages = ("Django", "psycopg", "mysqlclient", *dict.fromkeys(PEERS.values()))
    return {package: found for package in packages if (found := _version(package))}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
