"""Short forms of the experiments that ``make proof`` runs in full; see docs/proof.md."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from proof import (
    careless,
    chaos,
    checker,
    crashes,
    effect_crashes,
    effect_schedules,
    enclosed,
    function_schedules,
    hostile,
    machine,
    schedules,
    servers,
)
from proof.effect_schedules import EffectCheck
from proof.mutants import planted
from proof.page import PAGE
from proof.planting import FOUND_BY, HARMLESS, NAMES, NEED_ROW_LOCKS, look
from tests.support.adapters import usual_and_whole
from tests.support.databases import DATABASE

pytestmark = pytest.mark.urls("proof.world")
database = pytest.mark.django_db(transaction=True)
SCENARIOS = [
    each
    for each in (*schedules.scenarios(), *function_schedules.scenarios())
    if DATABASE != "sqlite" or not each.rows
]

# One database where a bug does harm is enough to see that it is found.
PLANTED_HERE = {
    "sqlite": FOUND_BY.keys() - NEED_ROW_LOCKS,
    "postgresql": NEED_ROW_LOCKS,
    "mariadb": set(),
}[DATABASE]


@pytest.fixture(scope="module")
def actors() -> Iterator[None]:
    with schedules.actors():
        yield


@database
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_the_first_orders_of_statements_keep_the_invariants(scenario: Any, actors: None) -> None:
    """I1, I2, I4, I6, I8, I12, I13, I14."""
    outcome = schedules.explore(scenario, schedules=5)
    assert outcome.violations == []
    assert outcome.count


@database
@pytest.mark.processes
def test_a_crash_at_any_statement_leaves_one_effect_after_a_retry() -> None:
    """I2, I3: killed, cut off, without room."""
    for outcome in crashes.run(bytes_of_answer=1):
        assert outcome.violations == []
        assert outcome.count


@database
def test_the_first_orders_of_those_who_run_effects_keep_the_invariants() -> None:
    """I12, I19: the process of the request, workers, retries, the purge."""
    with effect_schedules.deterministic():
        for scenario in effect_schedules.scenarios():
            if DATABASE != "sqlite" or not scenario.rows:
                outcome = schedules.explore(scenario, schedules=3, check=EffectCheck)
                assert outcome.violations == []
                assert outcome.count


@database
@pytest.mark.processes
def test_a_crash_on_any_way_to_an_effect_leaves_one_of_each() -> None:
    """I19: whoever comes first then, the client or the command."""
    for outcome in effect_crashes.run(every=11):
        assert outcome.violations == []
        assert outcome.count


@database
@pytest.mark.processes
def test_views_leave_what_they_leave_without_us_in_whatever_block() -> None:
    """I2: refusals, and blocks that others have opened."""
    (outcome,) = enclosed.run()
    assert outcome.violations == []
    assert outcome.notes.keys() >= {"as without us", "refused in somebody's block"}


@database
def test_the_store_does_what_a_dict_does() -> None:
    assert machine.run(10)[0].violations == []


@database
def test_careless_views_store_nothing_whose_writes_are_gone() -> None:
    """I2."""
    (outcome,) = careless.run(longest=1)
    assert outcome.violations == []


@database
@pytest.mark.parametrize("experiment", [hostile.stored_rows, hostile.headers, hostile.bodies])
@pytest.mark.processes
def test_hostile_input_gets_clear_errors(experiment: Any) -> None:
    """I2, I7."""
    assert experiment(30).violations == []


@database
@pytest.mark.processes
@pytest.mark.parametrize("bug", usual_and_whole(sorted(PLANTED_HERE), FOUND_BY))
def test_planted_bugs_are_found(bug: str) -> None:
    """An experiment that finds none of them proves nothing."""
    if bug in HARMLESS.get(connection.vendor, ()):
        pytest.skip("this does no harm here")
    with planted(bug):
        assert look(FOUND_BY[bug][0], bug, seconds=20)


@pytest.mark.once
def test_the_page_says_who_looks_for_which_bug() -> None:
    section = PAGE.read_text().partition("| looked for by |")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines()[2:]]
    told = {bug: {each.partition(" (")[0] for each in by.split(", ")} for bug, by in rows}
    expected = {bug: {NAMES[each] for each in by} for bug, by in FOUND_BY.items()}
    expected["commit before store"].add("chaos")
    for mistake in checker.MISTAKES:
        expected.setdefault(mistake, set()).add("model")
    assert told == expected


@pytest.mark.processes
def test_chaos_loses_nothing() -> None:
    """I1, I2, I3, I14: on a server of its own, which crashes."""
    if reason := servers.missing(DATABASE):
        pytest.skip(reason)
    assert chaos.run(DATABASE, 100).violations == []


@pytest.mark.once
@pytest.mark.processes
@pytest.mark.skipif(bool(checker.missing()), reason=checker.missing())
class TestModel:
    """The protocol in Promela, checked by spin."""

    def test_holds(self) -> None:
        """I1, I2, I3, I4, I11, I12: in every state that two clients can reach."""
        assert [outcome.violations for outcome in checker.run(clients=2)] == [[], []]

    @pytest.mark.parametrize("mistake", checker.MISTAKES)
    def test_refutes(self, mistake: str) -> None:
        assert checker.refuted(mistake)
