"""The table, and the page of the documentation that it is written into."""

import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
START, END = "<!-- figures: make bench -->", "<!-- end of figures -->"


def write(result: dict[str, Any]) -> None:
    """Replace what stands between the marks."""
    before, _, rest = PAGE.read_text().partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n\n{table(result)}\n\n{END}{after}")


def table(result: dict[str, Any]) -> str:
    day = datetime.now(UTC).date().isoformat()
    minutes = f"{result['minutes']:.0f} minutes"
    head = f"Last run: {day}, Python {platform.python_version()}, {minutes}."
    measures = ["| measure | to reach | measured |", "| --- | --- | --- |"]
    measures += [f"| {' | '.join(row)} |" for row in _rows(result)]
    return "\n".join([head, "", *measures, "", *_rates(result)])


def _rows(result: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    ratios = {name: found.ratio for name, found in result["throughput"].items()}

    def ratio(name: str) -> str:
        return f"{ratios[name]:.2f}" if name in ratios else "-"

    prepared = "{}; with prepared statements {}"
    text = prepared.format(ratio("first request"), ratio("first request, prepared"))
    yield "first request, throughput against the bare view", "0.85", text
    text = prepared.format(
        ratio("the bare statements around the bare view"), ratio("the bare statements, prepared")
    )
    yield "the most that a first request can reach: its statements alone", "-", text
    text = prepared.format(ratio("replay, database"), ratio("replay, database, prepared"))
    yield "replay from the database", "1.30", text
    yield "replay from Redis", "1.60", ratio("replay, Redis")
    floor = "authentication alone, no view"
    yield "the most that a replay can reach: authentication alone", "-", ratio(floor)
    yield "no key", "0.99", ratio("no key")
    yield "first request against the best peer", "faster", _best(ratios, "first request")
    yield "replay against the best peer that authenticates", "faster", _best(ratios, "replay")
    own = result["own time"]
    text = f"{own['ours']:.0f} µs; {own['ratio']:.2f} of the bare dispatch"
    yield "own processor time of a first request beyond the statements", "150 µs", text
    counts = result["statements"]
    text = " / ".join(map(str, counts.values()))
    yield f"statements: {' / '.join(counts)}", "3 / 1 / 0 / 0", text
    grown = result["growth"]
    text = f"{grown['first request']:.2f} first, {grown['replay']:.2f} replay"
    yield f"median latency, {grown['many']:,} records against {grown['few']:,}", "1.15", text
    purge = result["purge"]
    yield "purge, rows per second", "20,000", f"{purge['rows per second']:,.0f}"
    for how, name in (("fast", "at full speed"), ("gentle", "with `--pause 20ms`")):
        text = f"{purge[how]:.1f} times ({purge['quiet']:.0f} ms without)"
        rows = f"{purge[f'rows beside, {how}']:,.0f} rows per second"
        yield f"p99 of live requests beside a purge {name}, {rows}", "2 times", text
    bloat = result["bloat"]
    text = f"{bloat['ratio']:.2f} after {bloat['cycles']} cycles of fill and purge"
    yield "size of table and indexes", "bounded", text
    memory = result["memory"]
    text = f"{memory['difference']:+.1f} MB against an upload of 5 MB"
    yield "memory for an upload of 50 MB", "constant", text
    yield (
        "the bare statements of a first request, through the driver",
        "-",
        (f"{result['floor']['ms']:.2f} ms"),
    )


AUTHENTICATES = ("isik", "drf-idempotencykey")
"""Peers that check the caller before they replay."""


def _best(ratios: dict[str, float], what: str) -> str:
    ours = ratios["first request" if what == "first request" else "replay, database"]
    rivals = {
        name: ratio
        for name, ratio in ratios.items()
        if name.endswith(f": {what}")
        and (what == "first request" or name.startswith(AUTHENTICATES))
    }
    if not rivals:
        return "no peer is installed"
    best = max(rivals, key=lambda name: rivals[name])
    return f"{ours:.2f} against {rivals[best]:.2f} ({best.partition(':')[0]})"


def _rates(result: dict[str, Any]) -> Iterator[str]:
    yield "| case | requests per second | against the bare view | p50 | p99 |"
    yield "| --- | --- | --- | --- | --- |"
    for name, found in result["throughput"].items():
        middle = sorted(found.per_second)[len(found.per_second) // 2]
        p50 = sorted(found.p50)[len(found.p50) // 2]
        p99 = sorted(found.p99)[len(found.p99) // 2]
        spread = f"{found.ratio:.2f} ({min(found.ratios):.2f} to {max(found.ratios):.2f})"
        yield f"| {name} | {middle:,.0f} | {spread} | {p50:.1f} ms | {p99:.1f} ms |"
    for name, reason in result["failed"].items():
        yield f"| {name} | {reason} | - | - | - |"
    versions = ", ".join(f"{n} {v}" for n, v in result["versions"].items() if v)
    yield ""
    yield f"Versions: {versions}."
