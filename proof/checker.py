"""Runs spin on the model, and on its planted mistakes."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from proof.report import Outcome

MODEL = Path(__file__).parent / "model" / "protocol.pml"
ATOMIC = ("once", "alone", "remembered", "answered_at_last")
LEASE = ("once", "fenced", "answered_at_last")
MISTAKES = {
    "lock released early": ("MUTANT_RELEASED_EARLY", False, "alone"),
    "look, then insert": ("MUTANT_LOOK_THEN_INSERT", False, "remembered"),
    "commit before store": ("MUTANT_COMMIT_BEFORE_STORE", False, "remembered"),
    "unfenced store": ("MUTANT_UNFENCED", True, "fenced"),
    "unfenced late store": ("MUTANT_UNFENCED", False, "once"),
    "purge without SKIP LOCKED": ("MUTANT_PURGE_TAKES_LOCKED", False, "alone"),
    "no takeover": ("MUTANT_NO_TAKEOVER", False, "answered_at_last"),
}
"""Planted mistake: its flag, whether in the lease variant, and the property it breaks."""


@dataclass(frozen=True)
class ResolverAnswer:
    """What spin found for one property."""

    holds: bool
    states: int


def missing() -> str:
    """Say what is needed to run the checker, if it is not there."""
    absent = [name for name in ("spin", "gcc") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not installed" if absent else ""


class Checker:
    """A model compiled with some flags."""

    def __init__(self, flags: Sequence[str]) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._run("spin", "-a", *(f"-D{flag}" for flag in flags), str(MODEL))
        self._run("gcc", "-O1", "-w", "-DNFAIR=6", "-DCOLLAPSE", "-o", "pan", "pan.c")

    def __enter__(self) -> "Checker":
        return self

    def __exit__(self, *error: object) -> None:
        self._directory.cleanup()

    def check(self, name: str) -> ResolverAnswer:
        """Visit every state; stop at the first violation."""
        fair = ["-f"] if name == "answered_at_last" else []
        output = self._run("./pan", "-a", *fair, "-N", name, "-m1000000")
        if "max search depth too small" in output:
            raise RuntimeError(f"the search for {name} was cut short")
        errors = re.search(r"errors: (\d+)", output)
        states = re.search(r"(\d+) states, stored", output)
        assert errors, output
        assert states, output
        return ResolverAnswer(errors[1] == "0", int(states[1]))

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self._directory.name, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def run(clients: int = 3) -> list[Outcome]:
    """Check every property of both variants."""
    outcomes = []
    for variant, flags, properties in (("atomic", [], ATOMIC), ("lease", ["LEASE"], LEASE)):
        outcome, started = Outcome(f"model, {variant}", "states"), monotonic()
        with Checker([f"CLIENTS={clients}", *flags]) as checker:
            for name in properties:
                result = checker.check(name)
                outcome.count += result.states
                if not result.holds:
                    outcome.violation(f"{name} does not hold")
        outcome.note("properties", len(properties))
        outcome.seconds = monotonic() - started
        outcomes.append(outcome)
    return outcomes


def refuted(mistake: str) -> bool:
    """Whether the checker finds a planted mistake."""
    flag, lease, name = MISTAKES[mistake]
    with Checker(["CLIENTS=2", flag, *(["LEASE"] if lease else [])]) as checker:
        return not checker.check(name).holds


if __name__ == "__main__":
    for outcome in run():
        print(outcome)
    for mistake in MISTAKES:
        print(f"{mistake}: {'refuted' if refuted(mistake) else 'NOT REFUTED'}")
