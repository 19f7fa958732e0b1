"""What is measured: which requests, to which guard, with which options of the database."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Case:
    """Requests to one variant of the project.

    :ivar guard: who guards the view, see ``benchmarks/project.py``
    :ivar keys: ``unique``, ``none``, or ``replay``: one key that is completed
    :ivar atomic_requests: the project's ``ATOMIC_REQUESTS``
    :ivar threshold: the project's ``OPTIONS["prepare_threshold"]``: a number, ``None`` behind a
        pooler that forbids preparing, or empty as in a default project
    """

    name: str
    guard: str = "bare"
    keys: str = "none"
    path: str = "/buy/"
    atomic_requests: bool = True
    threshold: str = ""

    @property
    def bare(self) -> "Case":
        """What it is compared with: the view in a transaction, under the same options."""
        return replace(BARE, threshold="" if self.threshold == NEVER else self.threshold)

    @property
    def environment(self) -> tuple[tuple[str, str], ...]:
        """What identifies its project."""
        return (
            ("BENCH_GUARD", self.guard),
            ("BENCH_ATOMIC_REQUESTS", str(int(self.atomic_requests))),
            ("BENCH_PREPARE_THRESHOLD", self.threshold),
        )


ALWAYS, NEVER = "5", "None"
BARE = Case("bare view")
OURS, CACHED, FLOOR = "ours", "ours, cached_db", "the statements"
ATOMIC = ", ATOMIC_REQUESTS"
"""Ends the names of cases in such a project. The bare view is always in a transaction."""


def both(name: str, guard: str, keys: str) -> list[Case]:
    """Without ``ATOMIC_REQUESTS`` and with."""
    return [
        Case(name, guard, keys, atomic_requests=False),
        Case(f"{name}{ATOMIC}", guard, keys),
    ]


PEERS = {
    "isik": "isik",
    "drf-idempotencykey": "drf-idempotencykey",
    "drf-idempotency, database": "drf-idempotency",
    "drf-idempotency, Redis": "drf-idempotency",
    "django-idempotency-key": "django-idempotency-key",
}
"""Other packages as they are configured, and their names in the registry."""

ESSENTIAL = [
    BARE,
    *both("the bare statements around the bare view", FLOOR, "none"),
    Case("no key", OURS),
    *both("first request", OURS, "unique"),
    *both("first request, cached_db", CACHED, "unique"),
    *both("replay, database", OURS, "replay"),
    Case("replay, Redis", CACHED, "replay", atomic_requests=False),
]
OF_PEERS = [
    case
    for peer in PEERS
    for case in (
        *both(f"{peer}: first request", peer, "unique"),
        Case(f"{peer}: replay", peer, "replay"),
    )
]
EXPLAINING = [
    Case("bare view without authentication", path="/anonymous/"),
    Case("authentication alone, no view", path="/nothing/"),
]
UNPREPARED = [
    replace(case, name=f"{case.name}, nothing prepared", threshold=NEVER)
    for case in both("first request", OURS, "unique")
]
PREPARED = [
    replace(case, name=f"{case.name}, all prepared", threshold=ALWAYS)
    for case in (
        *both("first request", OURS, "unique"),
        Case("replay, database", OURS, "replay", atomic_requests=False),
    )
]

GROUPS = {
    "local": [*ESSENTIAL, *EXPLAINING, *UNPREPARED, *OF_PEERS, *PREPARED],
    "far": [*ESSENTIAL, *OF_PEERS],
    "mariadb": [*ESSENTIAL, *OF_PEERS],
    "mariadb-far": [*ESSENTIAL, *OF_PEERS],
}
"""By part of the measurement."""
