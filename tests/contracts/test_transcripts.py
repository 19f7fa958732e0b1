"""The commands of the documentation, run with the real curl, print what it says."""

import os
import shutil
import uuid
from base64 import b64encode
from pathlib import Path

import pytest

from tests.conftest import row_locks
from tests.contracts.transcript import Printed, Shell, alike, scenarios

pytestmark = [pytest.mark.processes, pytest.mark.once]

PAGE = Path(__file__).parents[2] / "docs" / "transcripts.md"
SCENARIOS = scenarios(PAGE.read_text(encoding="utf-8"))
IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}
MARKER = "Idempotency-Replayed"


@pytest.fixture
def curl():
    if shutil.which("curl") is None:
        (pytest.fail if IN_CI else pytest.skip)("curl is not installed")


@pytest.fixture
def shell(curl, shop):
    (account,) = shop.example.accounts(f"reader-{uuid.uuid4().hex[:6]}")
    one, two = account["api_keys"]
    basic = b64encode(f"{account['name']}:{one}".encode()).decode()
    names = {"API_KEY": one, "OTHER_API_KEY": two, "BASIC_AUTH": basic}
    with Shell(shop, {"PATH": os.environ["PATH"], **names}) as shell:
        yield shell


def scenario(title: str) -> object:
    in_flight = any(command.endswith(" &") for command, _ in SCENARIOS[title])
    return pytest.param(SCENARIOS[title], id=title, marks=[row_locks] if in_flight else [])


@pytest.mark.parametrize("steps", [scenario(title) for title in SCENARIOS])
def test_curl_prints_what_the_page_says(shell, steps):
    pairs = [(printed, shell.enter(command)) for command, printed in steps]
    told = [(documented, seen) for documented, seen in pairs if documented or seen]
    assert told
    for documented, seen in told:
        assert_alike(documented, seen)
    # Bodies are the same bytes exactly where the page prints the same bytes.
    bodies = {(documented.body, seen.body) for documented, seen in told}
    assert len(bodies) == len({one for one, _ in bodies}) == len({two for _, two in bodies})


def assert_alike(documented: Printed | None, seen: Printed | None) -> None:
    assert documented is not None
    assert seen is not None
    assert seen.status == documented.status
    assert seen.headers[MARKER] == documented.headers[MARKER]
    assert {name: seen.headers[name] for name in documented.headers} == dict(documented.headers)
    assert alike(documented.json, seen.json)


@pytest.mark.parametrize("contract", ["B", "E"])
def test_both_contracts_have_transcripts(contract):
    assert sum(title.startswith(f"{contract}: ") for title in SCENARIOS) >= 3
