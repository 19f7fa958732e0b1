"""Plants each bug, and lets the experiments look for it."""

from django.db import connection

from proof import (
    careless,
    crashes,
    effect_crashes,
    effect_schedules,
    enclosed,
    function_schedules,
    hostile,
    machine,
    outside,
    schedules,
)
from proof.effect_schedules import EffectCheck
from proof.mutants import planted
from proof.report import Outcome

FOUND_BY = {
    "lock released early": ("schedules",),
    "look, then insert": ("schedules",),
    "unfenced store": ("machine",),
    "commit before store": ("crashes",),
    "purge without SKIP LOCKED": ("schedules",),
    "stored rows trusted": ("hostile",),
    "expiry forgotten by the claim": ("schedules",),
    "rollback_exc believed": ("careless",),
    "server not asked": ("careless",),
    "endings sent": ("careless",),
    "any block taken for Django's": ("enclosed",),
    "refusals undone": ("enclosed",),
    "raised refusals kept": ("enclosed",),
    "store after Django's commit": ("enclosed",),
    "writes of failed calls kept": ("function schedules",),
    "dispatch before commit": ("effect schedules", "effect crashes"),
    "mark before dispatch": ("effect schedules", "effect crashes"),
    "unfenced mark": ("effect schedules",),
    "lease not taken": ("effect schedules",),
    "a key per try": ("effect crashes",),
    "effects purged while pending": ("effect schedules",),
}
"""Which experiments look for which bug; that is where it would be noticed."""

NEED_ROW_LOCKS = {
    *("lock released early", "look, then insert", "purge without SKIP LOCKED"),
    "store after Django's commit",
}
"""SQLite has one writer: there, these cannot do harm."""

HARMLESS = {
    "sqlite": NEED_ROW_LOCKS,
    # PostgreSQL never ends a transaction by itself, but refuses everything until somebody does.
    "postgresql": {"server not asked"},
}
"""By vendor."""

WHERE = {
    "lock released early": "two duplicates",
    "look, then insert": "two duplicates",
    "purge without SKIP LOCKED": "an attempt, expiry, purge",
    "expiry forgotten by the claim": "two duplicates find an expired record",
    "writes of failed calls kept": "run_once: a failing call, another",
    "dispatch before commit": "effects: a request, a worker",
    "mark before dispatch": "effects: a request, a worker",
    "unfenced mark": "effects: two workers, leases end",
    "lease not taken": "effects: two workers",
    "effects purged while pending": "effects: a worker, a month, purge",
}
"""The interleaving that is enough."""


def run(seconds: float) -> dict[str, list[str]]:
    """Return what found each bug on this database."""
    caught: dict[str, list[str]] = {}
    for bug, experiments in FOUND_BY.items():
        if bug in HARMLESS.get(connection.vendor, ()):
            continue
        with planted(bug):
            found = [name for name in experiments if look(name, bug, seconds)]
        caught[bug] = [f"{NAMES[name]} ({connection.display_name})" for name in found]
    return caught


def look(experiment: str, bug: str, seconds: float) -> bool:
    """Whether an experiment notices the bug that is planted now."""
    return any(outcome.violations for outcome in _outcomes(experiment, bug, seconds))


def _outcomes(experiment: str, bug: str, seconds: float) -> list[Outcome]:
    if experiment == "crashes":
        return [crashes.experiment("process killed", crashes.killed, crashes.points(1))]
    if experiment == "careless":
        return careless.run(longest=1)
    if experiment == "enclosed":
        return enclosed.run()
    if experiment == "machine":
        return machine.run(50)
    if experiment == "hostile":
        return [hostile.stored_rows(50)]
    if experiment == "effect crashes":
        return [effect_crashes.experiment("killed", outside.WAYS[0], crashes.killed, every=5)]
    module, check = {
        "schedules": (schedules, None),
        "function schedules": (function_schedules, None),
        "effect schedules": (effect_schedules, EffectCheck),
    }[experiment]
    chosen = [each for each in module.scenarios() if each.name == WHERE[bug]]
    with effect_schedules.deterministic() if check else schedules.actors():
        return schedules.explore_all(chosen, max(20, seconds * 3), check)


NAMES = {
    "schedules": "interleavings",
    "crashes": "crash points",
    "machine": "state machine",
    "hostile": "hostile input",
    "careless": "careless views",
    "enclosed": "views in blocks",
    "function schedules": "interleavings of functions",
    "effect schedules": "interleavings of effects",
    "effect crashes": "crash points of effects",
}
