"""The store against ten lines of Python: any sequence of calls must give what a dict gives."""

from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.record import Claim, Snapshot, State, StoredResponse
from django_idempotency.stores.database.store import DatabaseStore
from django_idempotency.stores.database.transactions import write_transaction
from proof import world
from proof.interleavings import Clock
from proof.report import Outcome

HOUR = timedelta(hours=1)
KEYS = st.sampled_from(["k", "K", "k ", "kk"])
SCOPES = st.sampled_from(["s", "S"])
FINGERPRINTS = st.sampled_from(["1:a", "1:b"])
RESPONSES = st.builds(
    # Hypothesis would also draw the fields of a named tuple that have defaults.
    lambda *values: StoredResponse(*values),
    st.sampled_from([200, 201, 404, 503]),
    st.lists(st.tuples(st.sampled_from(["X-A", "X-B"]), st.text("aé\"' ", max_size=5))).map(tuple),
    st.binary(max_size=20),
)


class Reference:
    """What a store is: a dict, and a clock."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], dict[str, Any]] = {}
        self.now = timedelta(0)

    def claim(self, claim: Claim) -> dict[str, Any]:
        fresh = {"fingerprint": claim.fingerprint, "attempt": 1, "response": None}
        fresh["expires"] = self.now + claim.retention
        return self.records.setdefault((claim.scope, claim.key), fresh)

    def purge(self) -> int:
        living = {k: r for k, r in self.records.items() if r["expires"] > self.now}
        purged, self.records = len(self.records) - len(living), living
        return purged


class StoreMachine(RuleBasedStateMachine):
    """Drives the store and the reference alike."""

    outcome: Outcome

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.clock.__enter__()
        self.store = DatabaseStore("default")
        self.reference = Reference()
        self.held: dict[tuple[str, str], Snapshot] = {}

    def teardown(self) -> None:
        self.clock.__exit__()

    @initialize()
    def start(self) -> None:
        world.empty()

    @rule(scope=SCOPES, key=KEYS, fingerprint=FINGERPRINTS, hours=st.integers(1, 3))
    def claim(self, scope: str, key: str, fingerprint: str, hours: int) -> None:
        self.outcome.count += 1
        claim = Claim(scope, key, fingerprint, "POST", "/", HOUR * hours)
        fresh = (scope, key) not in self.reference.records
        expected, found = self.reference.claim(claim), self.store.claim(claim)
        assert found is not None
        self._compare(expected, found)
        assert found.fresh is fresh
        self.held[scope, key] = found

    @precondition(lambda self: self.held)
    @rule(data=st.data(), response=RESPONSES, hours=st.integers(1, 3), commits=st.booleans())
    def complete(self, data: Any, response: StoredResponse, hours: int, commits: bool) -> None:
        """Lock, store, commit or not; with what was seen last, however old that is."""
        self.outcome.count += 1
        name = data.draw(st.sampled_from(sorted(self.held)))
        seen, record = self.held[name], self.reference.records.get(name)
        with write_transaction("default"):
            found = self.store.lock(seen.id)
            same = found is not None and record is not None
            stored = self.store.complete(seen, response, HOUR * hours)
            transaction.set_rollback(not commits)
        if same:
            assert found is not None
            self._compare(record, found)
        may = same and record["response"] is None and record["attempt"] == seen.attempt
        assert stored is bool(may)
        if may and commits:
            record |= {"response": response, "expires": self.reference.now + HOUR * hours}

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def bump_fencing_token(self, data: Any) -> None:
        self.outcome.count += 1
        name = data.draw(st.sampled_from(sorted(self.held)))
        self.store.bump_fencing_token(self.held[name])
        if name in self.reference.records:
            self.reference.records[name]["attempt"] += 1

    @rule(hours=st.integers(1, 2))
    def wait(self, hours: int) -> None:
        self.outcome.count += 1
        self.clock.advance(HOUR * hours)
        self.reference.now += HOUR * hours

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def evict(self, data: Any) -> None:
        self.outcome.count += 1
        name = data.draw(st.sampled_from(sorted(self.held)))
        record = self.reference.records.get(name)
        living = record is not None and record["expires"] > self.reference.now
        assert self.store.evict(self.held[name].id) is not living
        if not living:
            self.reference.records.pop(name, None)
            self.held.pop(name)

    @rule(batch=st.integers(1, 3))
    def purge(self, batch: int) -> None:
        self.outcome.count += 1
        assert sum(self.store.purge(batch)) == self.reference.purge()
        self.held = {name: seen for name, seen in self.held.items() if self._is_there(name)}

    @invariant()
    def same_records(self) -> None:
        assert IdempotencyRecord.objects.count() == len(self.reference.records)

    def _is_there(self, name: tuple[str, str]) -> bool:
        return name in self.reference.records

    def _compare(self, expected: dict[str, Any], found: Snapshot) -> None:
        response = expected["response"]
        assert found.fingerprint == expected["fingerprint"]
        assert found.attempt == expected["attempt"]
        assert found.expired is (expected["expires"] <= self.reference.now)
        assert found.response == response
        assert found.state is (State.CLAIMED if response is None else State.COMPLETED)


def run(examples: int, steps: int = 30) -> list[Outcome]:
    """Compare on so many sequences of calls."""
    outcome = Outcome("store against a dict", "calls")
    StoreMachine.outcome = outcome
    try:
        run_state_machine_as_test(
            StoreMachine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                phases=[Phase.generate],  # nobody reads the sequence
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    except AssertionError as error:
        outcome.violation(str(error)[:300] or "the store and the dict differ")
    outcome.note("sequences", examples)
    connection.close()
    return [outcome]
