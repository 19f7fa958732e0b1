"""What was promised and what was seen: lines on the way, a table at the end."""

from dataclasses import dataclass, field
from itertools import zip_longest
from textwrap import wrap

TICK, CROSS = "✓", "✗"
TITLES = ("promise", "what was done", "expected", "seen", "ok")
WIDTHS = (28, 36, 26, 26, 2)


@dataclass(frozen=True)
class Row:
    promise: str
    action: str
    expected: str
    seen: str

    @property
    def ok(self) -> bool:
        return self.expected == self.seen

    @property
    def mark(self) -> str:
        return TICK if self.ok else CROSS


@dataclass
class Report:
    """Prints each statement when it is checked."""

    rows: list[Row] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return bool(self.rows) and all(row.ok for row in self.rows)

    def chapter(self, title: str) -> None:
        print(f"\n{title}", flush=True)

    def note(self, text: str) -> None:
        print(f"    {text}", flush=True)

    def check(self, promise: str, action: str, expected: object, seen: object) -> None:
        """Compare what was seen with what the promise makes us expect."""
        row = Row(promise, action, str(expected), str(seen))
        self.rows.append(row)
        wrong = "" if row.ok else f" (expected: {row.expected})"
        print(f"  {row.mark} {action}: {row.seen}{wrong}", flush=True)

    def table(self) -> str:
        rule = "-+-".join("-" * width for width in WIDTHS)
        lines = [*_lines(TITLES), rule]
        for row in self.rows:
            lines += [*_lines((row.promise, row.action, row.expected, row.seen, row.mark)), rule]
        return "\n".join(lines)

    def summary(self) -> str:
        failed = sum(not row.ok for row in self.rows)
        if self.ok:
            return f"{TICK} All {len(self.rows)} statements hold."
        return f"{CROSS} {failed} of {len(self.rows)} statements do not hold."


def _lines(cells: tuple[str, ...]) -> list[str]:
    columns = [wrap(cell, width) or [""] for cell, width in zip(cells, WIDTHS, strict=True)]
    return [
        " | ".join(part.ljust(width) for part, width in zip(parts, WIDTHS, strict=True)).rstrip()
        for parts in zip_longest(*columns, fillvalue="")
    ]
