"""Derives a key, crashes the database server, derives it again; on a server of its own.

Prints the pairs of keys. The server writes its log by itself only every ten seconds, so that a
commit that does not wait for the disk is lost for certain.
"""

import json
import os
from pathlib import Path
from uuid import uuid4

from proof.servers import Database, private

SLOW = "wal_writer_delay = 10s\nautovacuum = off\n"


def prepare(server: Database) -> None:
    os.environ |= {"IDEMPOTENCY_TEST_DATABASE": "postgresql", "PGDATABASE": "postgres"}
    os.environ |= {**server.environment, "IDEMPOTENCY_TEST_NAME": "postgres"}
    os.environ.pop("PYTEST_XDIST_WORKER", None)  # it has a database of its own elsewhere
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.core.management import call_command

    django.setup()
    from django.db import connection

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SHOW data_directory")
        (directory,) = cursor.fetchone()
    with (Path(directory) / "postgresql.auto.conf").open("a") as configuration:
        configuration.write(SLOW)
    connection.close()
    server.restart()


def derive(key: str, server: Database) -> str:
    """As an attempt does, which then loses its server."""
    from tests.support.operations import CREATED, an_operation

    # Takes a number durably, so that after a crash the server gives no number out again.
    earlier = an_operation(key=str(uuid4()))
    earlier.begin()
    earlier.finish(CREATED)
    operation = an_operation(key=key)
    operation.begin()
    derived: str = operation.derive_key("charge")
    server.restart()
    operation.fail(ConnectionError())
    return derived


def main() -> None:
    with private("postgresql") as server:
        prepare(server)
        print(json.dumps([[derive(f"key-{n}", server) for _ in range(2)] for n in range(4)]))


if __name__ == "__main__":
    main()
