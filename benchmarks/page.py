"""The tables, and the page of the documentation that they are written into."""

import platform
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.cases import ATOMIC, GROUPS, PEERS
from benchmarks.counts import Count, beyond
from benchmarks.processor import FIRST, REPLAY, least_of
from benchmarks.throughput import Measured, percentile

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
START, END = "<!-- figures: make bench -->", "<!-- end of figures -->"

TITLES = {
    "local": "PostgreSQL on the same machine",
    "far": "PostgreSQL and Redis 0.5 ms away",
    "mariadb": "MariaDB on the same machine",
    "mariadb-far": "MariaDB and Redis 0.5 ms away",
}
KEEPS = ("isik",)
"""Peers whose records are committed with the view's writes."""

AUTHENTICATES = ("isik", "drf-idempotencykey")
"""Peers that check the caller before they replay."""

DBOS = {"insert": 144_000 / 96, "guarded": 43_000 / 96}
"""Per second and processor of the server: INSERTs alone, and workflows of two writes each
(https://www.dbos.dev/blog/benchmarking-workflow-execution-scalability-on-postgres)."""


def write(parts: dict[str, Any], versions: dict[str, str]) -> None:
    """Replace what stands between the marks."""
    before, _, rest = PAGE.read_text().partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n\n{tables(parts, versions)}\n\n{END}{after}")


def tables(parts: dict[str, Any], versions: dict[str, str]) -> str:
    """Return what was measured; parts that were not are left out."""
    lines = [_head(parts), "", "| measure | to reach | measured |", "| --- | --- | --- |"]
    for name, goal, measured in Measures(parts).rows():
        lines.append(f"| {name} | {goal} | {measured} |")
    for group, title in TITLES.items():
        if group in parts:
            lines += ["", f"### {title}", "", *_cases(group, parts)]
    if cases := parts.get("processor", {}).get("cases"):
        lines += ["", "### Processor time per request", "", *_processor(cases)]
    named = ", ".join(f"{name} {found}" for name, found in versions.items())
    return "\n".join([*lines, "", f"Versions: {named}."])


def _head(parts: dict[str, Any]) -> str:
    times = sorted(each["at"] for each in parts.values())
    minutes = sum(each["minutes"] for each in parts.values())
    return (
        f"Measured until {times[-1][:16].replace('T', ' ')} UTC, the oldest part until "
        f"{times[0][:16].replace('T', ' ')}, in {minutes:.0f} minutes all in all, with "
        f"Python {platform.python_version()}."
    )


class Measures:
    """The first table: what there are goals for, and what explains it."""

    def __init__(self, parts: dict[str, Any]) -> None:
        self._parts = parts
        self._measured = {
            group: {
                name: Measured.from_json(each)
                for name, each in parts.get(group, {}).get("cases", {}).items()
            }
            for group in GROUPS
        }

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Name, goal, and what was measured."""
        for part, make in (
            ("counts", self._trips),
            ("counts-mariadb", self._trips),
            ("local", self._local),
            ("far", self._far),
            ("mariadb", self._mariadb),
            ("mariadb-far", self._mariadb),
            ("processor", self._processor),
            ("driver", self._driver),
            ("inside", self._inside),
            ("purge", self._purge),
            ("growth", self._growth),
        ):
            if part not in self._parts:
                continue
            if error := self._parts[part].get("error"):
                yield part, "-", f"has failed: {error}"
                continue
            yield from make(part)

    def _ratio(self, group: str, name: str) -> str:
        found = self._measured[group].get(name)
        return "-" if found is None else f"{median(found.ratios):.2f}"

    def _both(self, group: str, name: str) -> str:
        return f"{self._ratio(group, name)} / {self._ratio(group, name + ATOMIC)}"

    def _trips(self, part: str) -> Iterator[tuple[str, str, str]]:
        on, group = (" on MariaDB", "mariadb") if "mariadb" in part else ("", "local")
        found = self._parts[part]["cases"]
        cases = {case.name: beyond(found, case) for case in GROUPS[group]}

        def trips(name: str, of: str = "database") -> str:
            return "-" if cases[name] is None else str(getattr(cases[name], of))

        names = "first request / replay / cached replay (to Redis) / no key"
        for suffix, goal, title in (
            ("", "1 / 1 / 1 / 0", f"round trips{on}: {names}"),
            (ATOMIC, "2 / 1 / 1 / 0", f"the same{on} with `ATOMIC_REQUESTS`"),
        ):
            text = " / ".join(
                [
                    trips(f"first request{suffix}"),
                    trips(f"replay, database{suffix}"),
                    trips("replay, Redis", "redis"),
                    trips("no key"),
                ]
            )
            yield title, goal if not on else "-", text
        if on:
            return
        log = [_bytes(cases[f"first request{suffix}"]) for suffix in ("", ATOMIC)]
        title = "write-ahead log of a first request; with `ATOMIC_REQUESTS`"
        yield title, "1,300 bytes", "; ".join(log)

    def _local(self, part: str) -> Iterator[tuple[str, str, str]]:
        title = "first request, throughput against the bare view, without / with `ATOMIC_REQUESTS`"
        yield title, "0.85", self._both(part, "first request")
        for how, title, goal in (
            ("nothing prepared", "the same behind a pooler that forbids preparing", "0.75"),
            ("all prepared", "the same where the project prepares all statements", "-"),
        ):
            texts = [self._ratio(part, f"first request{s}, {how}") for s in ("", ATOMIC)]
            yield title, goal, " / ".join(texts)
        floor = self._both(part, "the bare statements around the bare view")
        yield "the most that it can reach: its statements alone", "-", floor
        yield from self._against_peers(part, tuple(PEERS))
        yield "replay from the database", "1.30", self._both(part, "replay, database")
        prepared_replay = self._ratio(part, "replay, database, all prepared")
        yield "the same where the project prepares all statements", "1.40", prepared_replay
        yield "replay from Redis", "1.45", self._ratio(part, "replay, Redis")
        name = "authentication alone, no view"
        alone = self._ratio(part, name)
        yield "the most that a replay can reach: authentication alone", "-", alone
        yield "no key", "0.99", self._ratio(part, "no key")
        yield from self._cached(part)
        yield from self._tail(part)
        replay = self._best(part, "replay", "replay, database", AUTHENTICATES)
        yield "replay against the best peer that authenticates", "faster", replay

    def _far(self, part: str) -> Iterator[tuple[str, str, str]]:
        yield "first request, 0.5 ms away", "0.82", self._both(part, "first request")
        floor = self._both(part, "the bare statements around the bare view")
        yield "its statements alone, 0.5 ms away", "-", floor
        yield from self._against_peers(part, KEEPS)
        replay = self._both(part, "replay, database")
        yield "replay, 0.5 ms away", "-", f"{replay}; Redis {self._ratio(part, 'replay, Redis')}"
        yield from self._tail(part)

    def _mariadb(self, part: str) -> Iterator[tuple[str, str, str]]:
        where = "MariaDB, 0.5 ms away" if part.endswith("far") else "MariaDB"
        yield f"{where}: first request", "-", self._both(part, "first request")
        floor = self._both(part, "the bare statements around the bare view")
        yield f"{where}: its statements alone", "-", floor
        yield f"{where}: replay", "-", self._both(part, "replay, database")

    def _cached(self, part: str) -> Iterator[tuple[str, str, str]]:
        found, texts = self._measured[part], []
        for suffix in ("", ATOMIC):
            names = f"first request, cached_db{suffix}", f"first request{suffix}"
            both = [median(found[name].ratios) for name in names if name in found]
            texts.append(f"{both[0] / both[1]:.2f}" if len(both) == 2 else "-")
        yield "first request with `cached_db` against `db`", "0.95", " / ".join(texts)

    def _tail(self, part: str) -> Iterator[tuple[str, str, str]]:
        texts = []
        for suffix in ("", ATOMIC):
            found = self._measured[part].get(f"first request{suffix}")
            texts.append("-" if found is None else f"{_tail(found):.2f}")
        where = ", 0.5 ms away" if part.endswith("far") else ""
        yield f"p99 of first requests against the bare view's{where}", "-", " / ".join(texts)

    def _against_peers(self, part: str, peers: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
        which = "the best peer that keeps the promise" if peers == KEEPS else "the best peer"
        for suffix, mode in (("", ""), (ATOMIC, " with `ATOMIC_REQUESTS`")):
            ours = f"first request{suffix}"
            where = ", 0.5 ms away" if part.endswith("far") else ""
            text = self._best(part, ours, ours, peers)
            yield f"first request{mode} against {which}{where}", "faster", text

    def _best(self, part: str, what: str, ours: str, peers: tuple[str, ...]) -> str:
        found = self._measured[part]
        rivals = {
            peer: median(found[f"{peer}: {what}"].ratios)
            for peer in peers
            if f"{peer}: {what}" in found
        }
        if not rivals:
            return f"{self._ratio(part, ours)}; there is none"
        best = max(rivals, key=lambda peer: rivals[peer])
        return f"{self._ratio(part, ours)} against {rivals[best]:.2f} ({best})"

    def _processor(self, part: str) -> Iterator[tuple[str, str, str]]:
        cases = self._parts[part]["cases"]
        for kind, least in ((FIRST, "its bare statements"), (REPLAY, "authentication alone")):
            texts = [
                f"{_beyond_least(cases, name, 'workers'):.0f} µs" for name in (kind, kind + ATOMIC)
            ]
            title = f"processor time of Python for a {kind.partition(',')[0]}, more than {least}"
            yield f"{title}, without / with `ATOMIC_REQUESTS`", "-", " / ".join(texts)

    def _driver(self, part: str) -> Iterator[tuple[str, str, str]]:
        commits, wire = self._parts[part]["commits"], self._parts[part]["wire"]
        names = {
            "guarded": "guarded commits",
            "transaction": "the same transactions without a guard",
            "insert": "INSERTs that commit alone",
        }
        for kind, name in names.items():
            each = commits[kind]
            text = (
                f"{each['per core']:,.0f} ({each['microseconds']:.0f} µs each; "
                f"{each['per second']:,.0f} per second in all)"
            )
            yield f"{name} per second and core of PostgreSQL, through the driver", "-", text
        texts = [f"{name} {each:.2f} ms" for name, each in wire.items()]
        yield "a round trip of the harness", "-", ", ".join(texts)

    def _inside(self, part: str) -> Iterator[tuple[str, str, str]]:
        found = self._parts[part]
        own, counts, memory = found["own time"], found["statements"], found["memory"]
        text = f"{own['ours']:.0f} µs; {own['ratio']:.2f} of the bare dispatch"
        yield "own processor time of a first request beyond the statements", "150 µs", text
        text = " / ".join(map(str, counts.values()))
        yield f"statements: {' / '.join(counts)}", "3 / 1 / 0 / 0", text
        text = f"{memory['difference']:+.1f} MB against an upload of 5 MB"
        yield "memory for an upload of 50 MB", "constant", text
        text = f"{found['floor']['ms']:.2f} ms"
        yield "the bare statements of a first request, through the driver", "-", text

    def _purge(self, part: str) -> Iterator[tuple[str, str, str]]:
        purge, bloat = self._parts[part]["purge"], self._parts[part]["bloat"]
        yield "purge, rows per second", "20,000", f"{purge['rows per second']:,.0f}"
        for how, name, goal in (
            ("fast", "at full speed", "2 times"),
            ("gentle", "with `--pause 20ms`", "1.5 times"),
        ):
            text = f"{purge[how]:.1f} times ({purge['quiet']:.0f} ms without)"
            rows = f"{purge[f'rows beside, {how}']:,.0f} rows per second"
            yield f"p99 of live requests beside a purge {name}, {rows}", goal, text
        text = f"{bloat['ratio']:.2f} after {bloat['cycles']} cycles of fill and purge"
        yield "size of table and indexes", "bounded", text

    def _growth(self, part: str) -> Iterator[tuple[str, str, str]]:
        grown = self._parts[part]["growth"]
        text = f"{grown['first request']:.2f} first, {grown['replay']:.2f} replay"
        title = f"median latency, {grown['many']:,} records against {grown['few']:,}"
        yield title, "1.15", text


def _tail(found: Measured) -> float:
    return percentile(found.latencies, 0.99) / percentile(found.bare, 0.99)


def _bytes(count: Count | None) -> str:
    return "-" if count is None or count.log is None else f"{count.log:,.0f}"


def _cases(group: str, parts: dict[str, Any]) -> Iterator[str]:
    """One row per case, with what was counted beside what was timed."""
    measured, counted = parts[group].get("cases", {}), "counts"
    if group.startswith("mariadb"):
        counted = "counts-mariadb"
    counts = parts.get(counted, {}).get("cases", {})
    yield (
        "| case | requests per second | against the bare view (quartiles) | p50 | p99 "
        "| p99 against the bare view | round trips: database, Redis | more than it must | log |"
    )
    yield f"|{' --- |' * 9}"
    failed = parts[group].get("failed", {})
    for case in GROUPS[group]:
        more = beyond(counts, case)
        all_in_all = counts.get(case.name)
        trips = "-" if all_in_all is None else f"{all_in_all['database']}, {all_in_all['redis']}"
        counted_text = f"{trips} | {'-' if more is None else more.database} | {_bytes(more)}"
        timed = f"{failed.get(case.name, 'not measured')} | - | - | - | -"
        if case.name in measured:
            timed = _timed(Measured.from_json(measured[case.name]))
        yield f"| {case.name} | {timed} | {counted_text} |"


def _beyond_least(cases: dict[str, Any], name: str, process: str) -> float:
    least = least_of(name)
    return float(cases[name][process] - (0 if least is None else cases[least][process]))


def _processor(cases: dict[str, Any]) -> Iterator[str]:
    """One row per case, in microseconds."""
    yield (
        "| case | Python, µs | PostgreSQL, µs | more than it must: Python, PostgreSQL "
        "| what it must |"
    )
    yield f"|{' --- |' * 5}"
    for name, each in cases.items():
        least, more = least_of(name), "-"
        if least is not None:
            beyond_least = (_beyond_least(cases, name, of) for of in ("workers", "postgresql"))
            more = ", ".join(f"{value:+.0f}" for value in beyond_least)
        must = "-" if least is None else least.removesuffix(ATOMIC)
        yield f"| {name} | {each['workers']:.0f} | {each['postgresql']:.0f} | {more} | {must} |"


def _timed(found: Measured) -> str:
    low = high = median(found.ratios)
    if len(found.ratios) > 1:
        low, _, high = quantiles(found.ratios, n=4, method="inclusive")
    return (
        f"{median(found.per_second):,.0f} | {median(found.ratios):.2f} ({low:.2f} to {high:.2f}) | "
        f"{percentile(found.latencies, 0.5):.1f} ms | {percentile(found.latencies, 0.99):.1f} ms | "
        f"{_tail(found):.2f}"
    )
