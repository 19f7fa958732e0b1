"""Writes the figures of a run into the documentation."""

import platform
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proof.report import Outcome

PAGE = Path(__file__).parent.parent / "docs" / "proof.md"
START, END = "<!-- figures: make proof -->", "<!-- end of figures -->"


def write(result: dict[str, Any], seconds: float) -> None:
    """Replace what stands between the marks."""
    text = PAGE.read_text()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n\n{_figures(result, seconds)}\n\n{END}{after}")


def _in_all(result: dict[str, Any]) -> str:
    totals = Counter[str]()
    for outcome in result["outcomes"]:
        totals[outcome["unit"]] += outcome["count"]
    violations = sum(len(outcome["violations"]) for outcome in result["outcomes"])
    return f"{', '.join(f'{n:,} {unit}' for unit, n in totals.items())}; {violations} violations"


def _figures(result: dict[str, Any], seconds: float) -> str:
    day = datetime.now(UTC).date().isoformat()
    lines = [
        f"Last run: {day}, Python {platform.python_version()}, {seconds / 60:.0f} minutes.",
        f"In all {_in_all(result)}.",
        "",
        "| experiment | database | tried | violations |",
        "| --- | --- | --- | --- |",
    ]
    for values in result["outcomes"]:
        outcome = Outcome(**values)
        tried = f"{outcome.count:,} {outcome.unit}"
        notes = [f"{count:,} {name}" for name, count in sorted(outcome.notes.items())]
        text = "; ".join([tried, *notes])
        where = outcome.database or "-"
        lines.append(f"| {outcome.name} | {where} | {text} | {len(outcome.violations)} |")
    lines += ["", "| planted bug | found by |", "| --- | --- |"]
    lines += [f"| {name} | {', '.join(by)} |" for name, by in result["caught"].items()]
    return "\n".join(lines)
