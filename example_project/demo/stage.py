"""Who and what the chapters work with."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

from .client import TIMEOUT, Answer, Client
from .report import Report
from .server import Account, Example

MACHINES = "/api/vps/v1/virtual-machines"
ORDERS = "/api/billing/v1/orders"
PUBLIC_MACHINES = "/api/public/v1/vms"
ADJUST = "/api/v1/economy/adjust"
LEDGER = "/api/v1/economy/ledger"
PAYMENTS = "/v1/transactions"
CVMS = "/cvms"
TICKETS = "/tickets"

MACHINE = {"name": "web-1", "plan": "kvm-2", "region": "fra", "os_template": "debian-13"}
PUBLIC_MACHINE = {"name": "db-1", "planId": "s1", "regionId": "ams", "osTemplateId": "alma-10"}
PAYMENT = {"refno": "invoice-7", "amount": 4200, "currency": "CHF"}

MARKER = "Idempotency-Replayed"
REPLAY = f"201, same bytes, {MARKER}"


@dataclass
class Stage:
    """A running example with two customers, and the report."""

    example: Example
    report: Report
    alice: Account
    bob: Account

    def check(self, promise: str, action: str, expected: object, seen: object) -> None:
        self.report.check(promise, action, expected, seen)

    def customer(self, account: Account) -> Client:
        return self.example.bearer(account["token"])

    def shell(self, code: str) -> str:
        """Run Python in the example's management shell."""
        return self.example.manage("shell", "--verbosity", "0", "--command", code)


def new_key() -> str:
    return str(uuid.uuid4())


def count(client: Client, path: str) -> int:
    return len(client.get(path).json)


def error(answer: Answer) -> str:
    """Describe an error by its status and its code."""
    return f"{answer.status} {answer.json.get('code')}"


def compared(answer: Answer, first: Answer, marker: str = MARKER) -> str:
    """Describe an answer by what it has in common with the first one."""
    same = "same" if answer.body == first.body else "other"
    marked = marker if answer.headers.get(marker) == "true" else "no marker"
    return f"{answer.status}, {same} bytes, {marked}"


def at_once(
    number: int,
    client: Client,
    path: str,
    data: object,
    key: str | None,
    *,
    sent: Callable[[], object],
) -> list[Answer]:
    """Send one request many times over as many connections, then wait for all answers.

    :param sent: called when the last one is on its way, before any answer is read
    """
    all_sent = Barrier(number, sent, timeout=TIMEOUT)

    def send(_: int) -> Answer:
        connection = client.begin("POST", path, data, key)
        try:
            all_sent.wait()
            return client.end(connection)
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(send, range(number)))
