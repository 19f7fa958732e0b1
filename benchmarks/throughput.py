"""Requests per second and latencies through gunicorn. All servers of a part run at once and take
turns, second by second; each case is compared with the bare view before and after it."""

import os
import shutil
import subprocess
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import groupby
from typing import Any

from benchmarks.cases import Case
from benchmarks.servers import ROOT, TOKEN, Gunicorn, last_line, place_of

CONNECTIONS = 4
BODY = '{"item": "a small server"}'
STEP = 50
"""Latencies are kept in steps of so many microseconds."""


@dataclass
class Load:
    """What one case has answered in a while.

    :ivar latencies: how many took so long, in microseconds
    """

    per_second: float
    latencies: Counter[int] = field(default_factory=Counter)


@dataclass
class Measured:
    """One case in every round.

    :ivar ratios: of requests per second, to the bare view beside it
    :ivar bare: the latencies of that
    """

    per_second: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    latencies: Counter[int] = field(default_factory=Counter)
    bare: Counter[int] = field(default_factory=Counter)

    def add(self, load: Load, before: Load, after: Load) -> None:
        self.per_second.append(load.per_second)
        self.ratios.append(load.per_second / ((before.per_second + after.per_second) / 2))
        self.latencies.update(load.latencies)
        self.bare.update(before.latencies)
        self.bare.update(after.latencies)

    def as_json(self) -> dict[str, Any]:
        return {
            "per second": self.per_second,
            "ratios": self.ratios,
            "latencies": sorted(self.latencies.items()),
            "bare": sorted(self.bare.items()),
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Measured":
        latencies, bare = (Counter(dict(found[name])) for name in ("latencies", "bare"))
        return cls(found["per second"], found["ratios"], latencies, bare)


def percentile(latencies: Counter[int], share: float) -> float:
    """Return a latency in milliseconds."""
    rest = share * latencies.total()
    for value, count in sorted(latencies.items()):
        rest -= count
        if rest <= 0:
            return value / 1000
    return 0.0


def measure(
    cases: list[Case],
    database: str,
    is_far: bool,
    seconds: int,
    rounds: int,
    state: dict[str, Any],
    save: Callable[[], None],
) -> None:
    """Measure every case in every round.

    :param state: where an earlier run has stopped; completed in place, round by round
    :param save: called after each round
    """
    failed: dict[str, str] = state.setdefault("failed", {})
    found = {name: Measured.from_json(each) for name, each in state.get("cases", {}).items()}
    with ExitStack() as stack:
        ports = _started(stack, cases, database, is_far, failed)
        for number in range(state.get("rounds", 0), rounds):
            for bare, others in groupby(cases, lambda case: case.bare):
                _round([bare, *others], ports, seconds, failed, found)
            state["cases"] = {name: each.as_json() for name, each in found.items()}
            state["rounds"] = number + 1
            save()
            print(f"  round {number + 1} of {rounds}", flush=True)


def _started(
    stack: ExitStack, cases: list[Case], database: str, is_far: bool, failed: dict[str, str]
) -> dict[Any, int]:
    """Start a server for each project, and warm it up; return their ports."""
    servers: dict[Any, tuple[Case, Gunicorn]] = {}
    for case in (*cases, *(each.bare for each in cases)):
        if case.environment not in servers and case.name not in failed:
            # Each has wires of its own: one proxy for all would have their load to carry.
            place = stack.enter_context(place_of(database, is_far))
            servers[case.environment] = case, Gunicorn(case, place)
            stack.callback(servers[case.environment][1].stop)
    ports = {}
    for environment, (case, server) in servers.items():
        try:
            ports[environment] = server.wait()
            load(ports[environment], case, 1)
        except Exception as error:
            print(f"  {case.name} fails: {error}", flush=True)
            failed |= {each.name: str(error) for each in cases if each.environment == environment}
    return ports


def _round(
    cases: list[Case],
    ports: dict[Any, int],
    seconds: int,
    failed: dict[str, str],
    found: dict[str, Measured],
) -> None:
    """Measure the first case between all the others."""
    bare = cases[0]
    before = load(ports[bare.environment], bare, seconds)
    for case in cases[1:]:
        if case.name in failed:
            continue
        try:
            each = _load_again(ports[case.environment], case, seconds)
        except Exception as error:
            failed[case.name] = str(error)
            found.pop(case.name, None)
            print(f"  {case.name} fails: {error}", flush=True)
            continue
        after = load(ports[bare.environment], bare, seconds)
        found.setdefault(case.name, Measured()).add(each, before, after)
        before = after


def _load_again(port: int, case: Case, seconds: int) -> Load:
    """A busy machine may fail a case once."""
    try:
        return load(port, case, seconds)
    except RuntimeError as error:
        print(f"  {case.name} fails, and is measured again: {error}", flush=True)
        return load(port, case, seconds)


def load(port: int, case: Case, seconds: int) -> Load:
    """Send for so long.

    :raises RuntimeError: if a request fails
    """
    keys = completed(port, case) if case.keys == "replay" else case.keys
    environment = {"BENCH_KEYS": keys, "BENCH_TOKEN": TOKEN, "BENCH_ROUND": str(port)}
    command = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--timeout", "10s"]
    command += ["--duration", f"{seconds}s", "--script", str(ROOT / "benchmarks/requests.lua")]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{case.path}"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise RuntimeError(f"wrk says: {last_line(done.stdout + done.stderr)}")
    _, requests, duration, failures, *histogram = lines[0].split()
    if int(failures):
        raise RuntimeError(f"{failures} of {requests} requests failed")
    latencies: Counter[int] = Counter()
    for bar in histogram:
        value, count = map(int, bar.split(":"))
        latencies[value // STEP * STEP] += count
    return Load(int(requests) / int(duration) * 1e6, latencies)


def post(port: int, case: Case, key: str | None) -> int:
    """Send one request; return the status of its answer."""
    headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = key
    with _connected(port) as connection:
        connection.request("POST", case.path, BODY, headers)
        response = connection.getresponse()
        response.read()
        return response.status


@contextmanager
def _connected(port: int) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def completed(port: int, case: Case) -> str:
    """Complete a request, and return its key."""
    key = str(uuid.uuid4())
    status = post(port, case, key)
    if status != 201:
        raise RuntimeError(f"the first request got {status}")
    return key


def missing() -> str:
    return "" if shutil.which("wrk") else "wrk is not installed"
