"""The suite itself: its rooms, what it leaves out, and that it says so."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests import __main__ as runner
from tests.support.adapters import ADAPTERS, EACH_ADAPTER, each_once, usual_and_whole

pytestmark = pytest.mark.once

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("test_*.py"))


def test_no_test_module_imports_another() -> None:
    imports = re.compile(r"^\s*(?:from|import) tests[\w.]*\.test_\w+", re.MULTILINE)
    found = {file.name: imports.findall(file.read_text(encoding="utf-8")) for file in FILES}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_every_room_says_what_it_proves() -> None:
    rooms = {file.relative_to(TESTS).parts[0] for file in FILES}
    contributing = (TESTS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert rooms == set(re.findall(r"`tests/(\w+)/`", contributing)) & rooms


def test_the_usual_run_has_every_adapter_and_every_mode() -> None:
    assert {adapter.path for adapter in EACH_ADAPTER} == {adapter.path for adapter in ADAPTERS}
    modes = {(each.middleware, each.atomic_requests, each.asgi) for each in ADAPTERS}
    assert {(each.middleware, each.atomic_requests, each.asgi) for each in EACH_ADAPTER} == modes


def test_each_name_occurs_once_and_ways_alternate() -> None:
    cross = [(name, way) for name in "abc" for way in (1, 2)]
    assert each_once(cross, lambda each: str(each[0])) == [("a", 1), ("b", 2), ("c", 1)]


def test_what_is_not_usual_is_marked() -> None:
    usual, rest = usual_and_whole([1], [1, 2])
    assert usual == 1
    assert rest.values == (2,)
    assert [mark.name for mark in rest.marks] == ["whole"]


class TestRunner:
    @pytest.fixture(autouse=True)
    def _runs(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """Nothing is really started."""
        self.started: list[list[str]] = []

        class Done:
            returncode = 0

        def run(command: list[str], **options: Any) -> Done:
            self.started.append(command)
            return Done()

        monkeypatch.setattr("subprocess.run", run)
        monkeypatch.delenv("CI", raising=False)
        return self.started

    @pytest.fixture
    def nothing_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("MYSQL_PORT", "PGPORT"):
            monkeypatch.setenv(name, "1")
        monkeypatch.setenv("AMQP_URL", "amqp://127.0.0.1:1//")
        monkeypatch.setenv("PATH", "")

    def test_it_begins_with_a_line_for_each_suite_that_is_left_out(
        self, nothing_there: None, capsys: Any
    ) -> None:
        assert runner.main([]) == 0
        runs, *left_out = capsys.readouterr().out.partition("\n===")[0].splitlines()
        assert runs.startswith("Runs: sqlite ")
        assert [line.split(":")[1].strip() for line in left_out] == [
            name for name in runner.NEEDS if name not in {"tests with tenants", "type checkers"}
        ]
        assert all(";" in line and len(line) < 300 for line in left_out)

    def test_in_ci_that_is_a_failure(
        self, nothing_there: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CI", "true")
        assert runner.main([]) == 1

    def test_quick_is_sqlite_without_coverage(self, capsys: Any) -> None:
        assert runner.main(["--quick", "-k", "purge"]) == 0
        (command,) = self.started
        assert command[-3:] == ["--quick", "-k", "purge"]
        assert "--cov" not in command
        assert "Left out: other databases" in capsys.readouterr().out

    def test_ci_covers_two_databases_and_fails_below_the_bound(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runner, "NEEDS", {})
        monkeypatch.setenv("CI", "true")
        assert runner.main([]) == 0
        *suites, combine, report = self.started
        assert ["--cov" in command for command in suites] == [True, True, False]
        assert "combine" in combine
        assert "--fail-under=95" in report

    def test_a_usual_run_does_not_watch_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "NEEDS", {})
        assert runner.main([]) == 0
        assert ["--cov" in command for command in self.started] == [False, False, False]
