"""Requests per second through gunicorn: variants take turns, and each is compared with the bare
view of the same round."""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from proof.servers import free_port, wait_for

ROOT = Path(__file__).parent.parent
WORKERS, CONNECTIONS = 2, 4


@dataclass(frozen=True)
class Case:
    """What is sent to which variant."""

    name: str
    variant: str
    keys: str
    path: str = "/buy/"

    @property
    def bare(self) -> "Case":
        """What it is compared with: the bare view under the same database options."""
        suffix = PREPARED if self.variant.endswith(PREPARED) else ""
        return Case("bare view", f"bare{suffix}", "none")


PREPARED = ", prepared"
"""Variants with ``prepare_threshold``."""
STATEMENTS = "ours, statements alone"

CASES = [
    Case("bare view", "bare", "none"),
    Case("bare view without authentication", "bare", "none", "/anonymous/"),
    Case("authentication alone, no view", "bare", "none", "/nothing/"),
    Case("the bare statements around the bare view", STATEMENTS, "none"),
    Case("the bare statements, prepared", f"{STATEMENTS}{PREPARED}", "none"),
    Case("no key", "ours without key", "none"),
    Case("first request", "ours", "unique"),
    Case("first request, prepared", f"ours{PREPARED}", "unique"),
    Case("first request, ATOMIC_REQUESTS", "ours, ATOMIC_REQUESTS", "unique"),
    Case("first request, cached_db", "ours, cached_db", "unique"),
    Case("replay, database", "ours", "replay"),
    Case("replay, database, prepared", f"ours{PREPARED}", "replay"),
    Case("replay, Redis", "ours, cached_db", "replay"),
]
PEERS = [
    Case(f"{peer}: {what}", peer, keys)
    for peer in (
        "isik",
        "drf-idempotencykey",
        "drf-idempotency, database",
        "drf-idempotency, Redis",
        "django-idempotency-key",
    )
    for what, keys in (("first request", "unique"), ("replay", "replay"))
]


@dataclass
class Measured:
    """One case in every round."""

    per_second: list[float]
    ratios: list[float]
    p50: list[float]
    p99: list[float]

    @property
    def ratio(self) -> float:
        return median(self.ratios)


@contextmanager
def serving(variant: str, environment: dict[str, str]) -> Iterator[int]:
    """Run gunicorn for one variant; give its port."""
    port = free_port()
    options = ["--workers", str(WORKERS), "--bind", f"127.0.0.1:{port}", "--preload"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "benchmarks.wsgi", *options],
        cwd=ROOT,
        env=os.environ | environment | {"BENCH_VARIANT": variant},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def load(port: int, case: Case, seconds: float, token: str) -> tuple[float, float, float]:
    """Send for so long; return requests per second, and the median and p99 latency in ms."""
    keys = _completed(port, case, token) if case.keys == "replay" else case.keys
    environment = {"BENCH_KEYS": keys, "BENCH_TOKEN": token, "BENCH_ROUND": str(port)}
    command = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--timeout", "10s"]
    command += ["--duration", f"{seconds:.0f}s", "--script", str(ROOT / "benchmarks/requests.lua")]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{case.path}"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    requests, duration, failed, p50, p99 = (float(part) for part in line.split()[1:])
    if failed:
        raise RuntimeError(f"{case.name}: {failed:.0f} of {requests:.0f} requests failed")
    return requests / duration * 1e6, p50 / 1000, p99 / 1000


def _completed(port: int, case: Case, token: str) -> str:
    """Complete a request, and return its key."""
    key = str(uuid.uuid4())
    headers = {"Authorization": f"Token {token}", "Idempotency-Key": key}
    headers["Content-Type"] = "application/json"
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", case.path, '{"item": "a small server"}', headers)
    status = connection.getresponse().status
    connection.close()
    if status != 201:
        raise RuntimeError(f"{case.name}: the first request got {status}")
    return key


def measure(
    cases: list[Case], rounds: int, seconds: float, token: str, environment: dict[str, str]
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Measure every case in every round, beside the bare view of its moment.

    :return: what was measured, and what could not be, with the reason
    """
    found = {case.name: Measured([], [], [], []) for case in cases}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for case in cases:
            if case.name in failed:
                continue
            try:
                bare, rate, p50, p99 = _pair(case, seconds, token, environment)
            except (RuntimeError, TimeoutError) as error:
                failed[case.name] = str(error)
                continue
            measured = found[case.name]
            measured.per_second.append(rate)
            measured.ratios.append(rate / bare)
            measured.p50.append(p50)
            measured.p99.append(p99)
        print(f"round {number + 1} of {rounds}", flush=True)
    return {name: m for name, m in found.items() if name not in failed}, failed


def _pair(
    case: Case, seconds: float, token: str, environment: dict[str, str]
) -> tuple[float, float, float, float]:
    """Both servers run; halves alternate, so that a slow second slows both."""
    beside = case.bare
    with serving(beside.variant, environment) as bare, serving(case.variant, environment) as ours:
        for port, what in ((bare, beside), (ours, case)):
            load(port, what, 1, token)  # connections, caches
        first = load(bare, beside, seconds / 2, token)
        measured = load(ours, case, seconds, token)
        second = load(bare, beside, seconds / 2, token)
    return ((first[0] + second[0]) / 2, *measured)


def missing() -> str:
    return "" if shutil.which("wrk") else "wrk is not installed"
