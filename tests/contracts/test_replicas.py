"""Contract D: clients that declare how many replicas there shall be, as Terraform's do."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from threading import Barrier

import pytest

from example_project.demo.client import Client
from tests.contracts.shop import Shop

pytestmark = pytest.mark.processes

WANTED = 5
DUPLICATES = 3


class Declaring:
    """Two of them apply one plan: replica number i has the same key with both.

    The answer to every first try is lost: the connection ends before it is read.
    """

    def __init__(self, client: Client, path: str, plan: str, start: Barrier) -> None:
        self._client = client
        self._path = path
        self._plan = plan
        self._start = start

    def apply(self) -> list[str]:
        self._start.wait(60)
        return [self._ensure(number) for number in range(WANTED)]

    def _ensure(self, number: int) -> str:
        key = f"{self._plan}-replica-{number}"
        self._client.begin("POST", self._path, {"node_id": number}, key).close()
        with ThreadPoolExecutor(DUPLICATES) as pool:
            made = set(pool.map(lambda _: self._retried(number, key), range(DUPLICATES)))
        assert len(made) == 1
        return made.pop()

    def _retried(self, number: int, key: str) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                answer = self._client.post(self._path, {"node_id": number}, key)
            except (HTTPException, ConnectionError):
                continue
            if answer.status == 201:
                return str(answer.json["vm_uuid"])
            assert answer.status == 409, answer
        raise AssertionError("the key is stuck")


def test_two_clients_that_scale_to_five_end_with_five(shop: Shop) -> None:
    """I1: with lost answers, and with concurrent duplicates from both."""
    client, _ = shop.customers()
    app = client.post("/apps", {"name": uuid.uuid4().hex, "replica_limit": 50}).json["id"]
    source = client.post("/cvms", {"app_id": app}).json["vm_uuid"]
    path, start = f"/apps/{app}/cvms/{source}/replicas", Barrier(2)
    clients = [Declaring(client, path, str(app), start) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(Declaring.apply, clients)
    there = [each["vm_uuid"] for each in client.get(path).json]
    assert one == two
    assert sorted(there) == sorted(one)
    assert len(there) == WANTED
