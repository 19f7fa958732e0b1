"""What became of a suite's tests, without the guard and with it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree


@dataclass
class Suite:
    """Outcomes of one run."""

    outcomes: dict[str, str]
    counted: dict[str, int] = field(default_factory=dict)
    different: list[tuple[str, str]] = field(default_factory=list)

    def row(self, columns: Sequence[str]) -> str:
        counts = Counter(self.outcomes.values()) | Counter(self.counted)
        return "".join(f"{counts[name]:>12}" for name in columns)


def heading(title: str, columns: Sequence[str]) -> str:
    return f"{title:24}" + "".join(f"{name:>12}" for name in columns)


def parsed(report: Path) -> Suite:
    """Read a JUnit report."""
    outcomes = {}
    root = ElementTree.parse(report).getroot()
    for case in root.iter("testcase"):
        found = {child.tag for child in case}
        name = f"{case.get('classname')}::{case.get('name')}"
        outcomes[name] = "passed"
        if found & {"failure", "error"}:
            outcomes[name] = "failed"
        elif "skipped" in found:
            outcomes[name] = "skipped"
    return Suite(outcomes)


def compared(without: Suite, suite: Suite, explained: Mapping[str, str]) -> list[str]:
    """Print what no longer passes; return what should."""
    problems = [] if suite.counted.get("guarded") else ["nothing was guarded"]
    for name, before in without.outcomes.items():
        after = suite.outcomes.get(name, "missing")
        if before == "passed" != after:
            print(f"    {name}: {after}\n      {explained.get(name, 'NOT EXPLAINED')}")
            problems += [] if name in explained else [name]
    return problems


def unlike(suite: Suite, explained: Mapping[str, str]) -> list[str]:
    """Print which writes got another response the second time; return which should not."""
    problems = []
    for test, difference in suite.different:
        reasons = [why for name, why in explained.items() if test.endswith(name)]
        print(f"    {test}: another response\n      {reasons[0] if reasons else difference}")
        problems += [] if reasons else [test]
    return problems
