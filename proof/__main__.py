"""``python -m proof``: every experiment on every database that answers, as one table.

The exit status is 0 only if no experiment found a violation, and each of them found its planted
bugs. ``--short`` is for a first look.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from proof import checker, servers
from proof.page import write
from proof.report import Outcome
from tests.__main__ import why_left_out

DATABASES = ("postgresql", "mariadb", "sqlite")


def main() -> int:
    options = _options()
    if options.database:
        print(json.dumps(_experiments(options.database, options.seconds, options.keys)))
        return 0
    started = monotonic()
    left_out = {name: reason for name in DATABASES if (reason := why_left_out(name))}
    databases = [name for name in DATABASES if name not in left_out]
    # All at once: an experiment spends much of its time waiting.
    with ThreadPoolExecutor(len(DATABASES)) as pool:
        found = list(pool.map(partial(_in_process, options), databases))
    result = _merged(found)
    if reason := checker.missing():
        left_out["model"] = reason
    else:
        _check_model(result, 2 if options.short else 3)
    _show(result, left_out, monotonic() - started)
    if not options.short:
        write(result, monotonic() - started)
    violations = sum(len(each["violations"]) for each in result["outcomes"])
    missed = [name for name, by in result["caught"].items() if not by]
    return 1 if violations or missed else 0


def _options() -> Any:
    parser = argparse.ArgumentParser(prog="python -m proof", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a minute or two, for a first look")
    parser.add_argument("--seconds", type=float, help="at most, for each interleaving")
    parser.add_argument("--keys", type=int, help="chaos: so many keys")
    parser.add_argument("--database", choices=DATABASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.seconds = options.seconds or (1 if options.short else 34)
    options.keys = options.keys or (100 if options.short else 10_000)
    return options


def _in_process(options: Any, database: str) -> Any:
    """Settings name one database, so each has a process of its own."""
    print(f"{database}: running", flush=True)
    command = [sys.executable, "-m", "proof", "--database", database]
    command += ["--seconds", str(options.seconds), "--keys", str(options.keys)]
    environment = os.environ | {"IDEMPOTENCY_TEST_DATABASE": database}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _experiments(database: str, seconds: float, keys: int) -> dict[str, Any]:
    from proof import stage

    stage.set_up()
    from proof import (
        careless,
        crashes,
        effect_crashes,
        effect_schedules,
        enclosed,
        function_schedules,
        hostile,
        machine,
        planting,
        schedules,
    )

    hurry = min(seconds, 9)
    examples = int(hurry * 25)
    with stage.database():
        outcomes = [
            *schedules.run(seconds),
            *function_schedules.run(seconds / 6),
            *effect_schedules.run(seconds / 6),
            *_timed(partial(crashes.run, examples)),
            *_timed(partial(effect_crashes.run, 1 if seconds > hurry else 6)),
            *_timed(enclosed.run),
            *_timed(partial(machine.run, examples)),
            *_timed(partial(hostile.run, examples)),
            *_timed(careless.run),
        ]
        caught = planting.run(hurry)
    if reason := servers.missing(database):
        print(f"{database}: no chaos: {reason}", file=sys.stderr)
    else:
        outcomes += _chaos(database, keys, caught)
    for outcome in outcomes:
        outcome.database = database
    return {"outcomes": [asdict(outcome) for outcome in outcomes], "caught": caught}


def _chaos(database: str, keys: int, caught: dict[str, list[str]]) -> list[Outcome]:
    from proof import chaos

    mutant = "commit before store"
    if chaos.run(database, max(keys // 20, 500), mutant).violations:
        caught.setdefault(mutant, []).append(f"chaos ({database})")
    return [chaos.run(database, keys)]


def _timed(experiment: Any) -> list[Outcome]:
    started = monotonic()
    outcomes: list[Outcome] = experiment()
    for outcome in outcomes:
        outcome.seconds = (monotonic() - started) / len(outcomes)
    return outcomes


def _merged(found: list[Any]) -> dict[str, Any]:
    caught: dict[str, list[str]] = {}
    for each in found:
        for name, by in each["caught"].items():
            caught.setdefault(name, []).extend(by)
    return {"outcomes": [o for each in found for o in each["outcomes"]], "caught": caught}


def _check_model(result: dict[str, Any], clients: int) -> None:
    result["outcomes"] += [asdict(outcome) for outcome in checker.run(clients)]
    for mistake in checker.MISTAKES:
        by = result["caught"].setdefault(mistake, [])
        if checker.refuted(mistake):
            by.append("model")


def _show(result: dict[str, Any], left_out: dict[str, str], seconds: float) -> None:
    for values in result["outcomes"]:
        outcome = Outcome(**values)
        print(f"{outcome.database:<11} {outcome}")
        for line in outcome.violations[:5]:
            print(f"            ! {line}")
    print("\nPlanted bugs, and what found them:")
    for name, by in result["caught"].items():
        print(f"  {name}: {', '.join(by) or 'NOTHING'}")
    for name, reason in left_out.items():
        print(f"Left out: {name} ({reason})")
    print(f"\n{seconds / 60:.1f} minutes, in {Path.cwd().name}")


if __name__ == "__main__":
    sys.exit(main())
