"""What an experiment found."""

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """One experiment on one database.

    :ivar count: how many cases were tried
    :ivar unit: what a case is
    :ivar violations: what was wrong, one line each
    :ivar notes: other figures, for the report
    """

    name: str
    unit: str = "cases"
    database: str = ""
    count: int = 0
    violations: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0

    def violation(self, text: str) -> None:
        self.violations.append(text)

    def note(self, name: str, count: int = 1) -> None:
        self.notes[name] = self.notes.get(name, 0) + count

    def __str__(self) -> str:
        notes = ", ".join(f"{count} {name}" for name, count in sorted(self.notes.items()))
        figures = f"{self.count} {self.unit}" + (f" ({notes})" if notes else "")
        return f"{self.name}: {figures}; violations: {len(self.violations)}"
