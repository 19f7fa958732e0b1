"""The running example with two accounts, on a database of the kind the tests use."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from example_project.demo.client import Client
from example_project.demo.provisioning import Hold, Refusal
from example_project.demo.server import Account
from example_project.demo.story import EXPIRE
from tests.support.example import Unblock, WarmExample, new_database

KEPT = (
    "from django_idempotency.models import IdempotencyRecord;"
    "record = IdempotencyRecord.objects.get(key={!r});"
    "print(round((record.expires_at - record.completed_at).total_seconds() / 60))"
)

RECORDS = "django_idempotency_idempotencyrecord"
RENAME = (
    "from django.db import connection;connection.cursor().execute('ALTER TABLE {} RENAME TO {}')"
)


@dataclass(frozen=True)
class Shop:
    """The example, and the ways its callers show who they are: always two of them."""

    example: WarmExample
    alice: Account
    bob: Account

    def customers(self) -> tuple[Client, Client]:
        return self.example.bearer(self.alice["token"]), self.example.bearer(self.bob["token"])

    def api_keys(self) -> tuple[Client, Client]:
        """Two tokens of one account."""
        one, two = self.alice["api_keys"]
        return self.example.api_key(one), self.example.api_key(two)

    def bearer_keys(self) -> tuple[Client, Client]:
        """Two tokens of one account."""
        one, two = self.alice["api_keys"]
        return self.example.bearer(one), self.example.bearer(two)

    def merchants(self) -> tuple[Client, Client]:
        return self.example.merchant(self.alice), self.example.merchant(self.bob)

    def browsers(self) -> tuple[Client, Client]:
        return self.example.browser(self.alice), self.example.browser(self.bob)

    def hold(self) -> Hold:
        return Hold(self.example.folder)

    def refusal(self, status: int) -> Refusal:
        return Refusal(self.example.folder, status)

    def shell(self, code: str) -> str:
        return self.example.manage("shell", "--verbosity", "0", "--command", code)

    def kept(self, key: str) -> int:
        """Minutes from the completion of a key's record to its expiry."""
        return int(self.shell(KEPT.format(key)))

    @contextmanager
    def no_records(self) -> Iterator[None]:
        """The database works, and has no table for records."""
        self.shell(RENAME.format(RECORDS, "elsewhere"))
        try:
            yield
        finally:
            self.shell(RENAME.format("elsewhere", RECORDS))

    def expire(self, key: str) -> None:
        assert self.shell(EXPIRE.format(key)) == "1"


@contextmanager
def open_shop(folder: Path, unblock: Unblock) -> Iterator[Shop]:
    with new_database(unblock) as url, WarmExample(folder, url) as example:
        yield Shop(example, *example.accounts("alice", "bob"))
