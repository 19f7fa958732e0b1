"""Buying a machine that is paid at a gateway, with a crash at every point.

Everything is real: the gateway is a process, requests travel over HTTP, and the worker dies of
SIGKILL. Points are enumerated, not sampled.
"""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from example_project.demo.client import Answer, Client
from example_project.demo.rehearsal import Crash
from example_project.demo.server import PROJECT
from tests.support.example import WarmExample, new_database

pytestmark = pytest.mark.processes

MACHINES = "/api/compute/v1/machines"
CAREFUL = "/api/compute/v1/careful-machines"

POINTS = [
    "before the charge",
    "in the charge, before the gateway",
    "in the charge, after the gateway",
    "between the steps",
    "in the machine, before its row",
    "in the machine, after its row",
    "after the machine",
]
CHARGED_AT_CRASH = {point: int(point not in POINTS[:2]) for point in POINTS}


@dataclass
class World:
    """The example, its gateway, and one customer."""

    example: WarmExample
    gateway: str
    customer: Client
    crash: Crash
    name: str = ""

    def ask_gateway(self, method: str, path: str, data: object = None) -> Any:
        connection = HTTPConnection(urlsplit(self.gateway).netloc)
        connection.request(method, path, json.dumps(data))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def charges(self) -> int:
        return len(self.ask_gateway("GET", "/charges"))

    def machines(self) -> int:
        """How many there are under this test's name."""
        listed = self.customer.get("/api/vps/v1/virtual-machines").json
        return sum(each["name"] == self.name for each in listed)

    def buy(self, path: str, key: str) -> Answer | None:
        """Return the answer; ``None`` if the connection ended without one."""
        data = {"name": self.name, "plan": "s", "region": "fra", "os_template": "debian"}
        try:
            return self.customer.post(path, data, key)
        except (HTTPException, ConnectionError):
            return None

    def retried(self, path: str, key: str) -> Answer:
        """Retry while a dying worker is still taken for one in flight."""
        for _ in range(100):
            answer = self.buy(path, key)
            assert answer is not None
            if answer.status != 409 or answer.json["code"] != "idempotency_in_flight":
                return answer
        raise AssertionError("the key is stuck")

    def resolve(self, *decisions: str) -> None:
        """What the command does, without starting a process for each."""
        calls = ["from django_idempotency.operations.resolution import ManualResolution"]
        calls += [f"assert ManualResolution('default').{each} == 'done'" for each in decisions]
        self.example.manage("shell", "--verbosity", "0", "--command", "\n".join(calls))


@pytest.fixture(scope="module")
def served(tmp_path_factory: Any, django_db_blocker: Any) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("paid")
    command = [sys.executable, "-m", "gateway"]
    with (
        subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as gateway,
        new_database(django_db_blocker.unblock) as database,
    ):
        assert gateway.stdout is not None
        url = gateway.stdout.readline().strip()
        example = WarmExample(folder, database)
        example.environment |= {
            "EXAMPLE_GATEWAY": url,
            "EXAMPLE_REHEARSAL": "demo.rehearsal.reached",
        }
        with example:
            (account,) = example.accounts("ada")
            yield World(example, url, example.bearer(account["token"]), Crash(folder))
        gateway.kill()


@pytest.fixture
def world(served: World) -> World:
    served.name = uuid.uuid4().hex
    return served


every_point = pytest.mark.parametrize("point", POINTS)


def test_all_points_are_here() -> None:
    """As the view names them."""
    source = (PROJECT / "cloud/views/compute.py").read_text()
    assert source.count("    reached(") == len(POINTS)
    assert all(source.count(f'reached("{point}")') == 1 for point in POINTS)


@every_point
def test_retries_end_with_one_charge_one_machine_and_one_answer(world: World, point: str) -> None:
    """I1, I3, I11: by steps and a derived key, running again is safe."""
    key, charges = uuid.uuid4().hex, world.charges()
    world.crash.at(point)
    assert world.buy(MACHINES, key) is None
    assert not world.crash.is_due
    assert world.charges() - charges == CHARGED_AT_CRASH[point]
    first, again = world.retried(MACHINES, key), world.retried(MACHINES, key)
    assert (first.status, again.status) == (201, 201), world.example.log.read_text()
    assert again.body == first.body
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (world.charges() - charges, world.machines()) == (1, 1)


def test_a_crash_at_every_point_of_one_purchase(world: World) -> None:
    """The retry dies, too, and its retry."""
    key, charges = uuid.uuid4().hex, world.charges()
    for point in POINTS:
        world.crash.at(point)
        for _ in range(100):  # a dying worker may be taken for one in flight, for a moment
            if world.buy(MACHINES, key) is None:
                break
        assert not world.crash.is_due, point
    assert world.retried(MACHINES, key).status == 201
    assert (world.charges() - charges, world.machines()) == (1, 1)


def test_an_answer_of_the_gateway_that_is_lost(world: World) -> None:
    """It has charged, and nobody was told."""
    key, charges = uuid.uuid4().hex, world.charges()
    world.ask_gateway("POST", "/accidents", {"lost": 1})
    broken = world.buy(MACHINES, key)
    assert broken is not None
    assert broken.status == 500
    assert world.charges() - charges == 1
    assert world.retried(MACHINES, key).status == 201
    assert (world.charges() - charges, world.machines()) == (1, 1)


def test_where_policy_refuses_nothing_runs_until_somebody_decides(world: World) -> None:
    """I11: for every point; then the client's next retry gets the answer."""
    charges, keys = world.charges(), {point: uuid.uuid4().hex for point in POINTS}
    for point, key in keys.items():
        world.crash.at(point)
        assert world.buy(CAREFUL, key) is None
        refused = world.retried(CAREFUL, key)
        assert (refused.status, refused.json["code"]) == (409, "outcome_unknown")
    done = world.charges() - charges, world.machines()
    assert done == (sum(CHARGED_AT_CRASH.values()), 1)
    for key in keys.values():
        assert world.retried(CAREFUL, key).status == 409
    assert (world.charges() - charges, world.machines()) == done
    listed = world.example.manage("resolve_idempotency_record", "list").splitlines()
    assert [line.partition("steps done: ")[2] for line in listed] == [
        *["none"] * 3,
        *["charge"] * 3,
        "charge, machine",
    ]
    world.resolve(*(f"rerun({line.split()[0]})" for line in listed))
    for key in keys.values():
        first, again = world.retried(CAREFUL, key), world.retried(CAREFUL, key)
        assert (first.status, again.body) == (201, first.body)
    assert (world.charges() - charges, world.machines()) == (len(POINTS), len(POINTS))


def test_somebody_answers_in_its_place(world: World) -> None:
    key, charges = uuid.uuid4().hex, world.charges()
    world.crash.at("between the steps")
    assert world.buy(CAREFUL, key) is None
    assert world.retried(CAREFUL, key).status == 409
    asked = world.customer.get(f"/api/compute/v1/idempotency-keys/{key}").json
    assert (asked["state"], asked["outcome_unknown"]) == ("interrupted", True)
    (line,) = world.example.manage("resolve_idempotency_record", "list").splitlines()
    options = ("--status", "402", "--body", '{"charge": "refunded"}')
    world.example.manage("resolve_idempotency_record", "answer", line.split()[0], *options)
    answer = world.retried(CAREFUL, key)
    assert (answer.status, answer.json) == (402, {"charge": "refunded"})
    asked = world.customer.get(f"/api/compute/v1/idempotency-keys/{key}").json
    assert (asked["state"], asked["status"]) == ("completed", 402)
    assert (world.charges() - charges, world.machines()) == (1, 0)
