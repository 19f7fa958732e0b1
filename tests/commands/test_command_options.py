"""Options of all commands: what is wrong is named, and nothing is a traceback."""

import io
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command, get_commands
from django.db import connection

from django_idempotency.models import IdempotencyRecord, IdempotencyStep

COMMANDS: dict[str, list[str]] = {
    "idempotency_clients": [],
    "purge_idempotency_records": [],
    "reencrypt_idempotency_records": [],
    "run_idempotent_work": [],
    "resolve_idempotency_record": ["list"],
    "idempotency_records": ["key"],
}
"""Those that take a database, with what they need to begin."""

WITHOUT_DATABASE = ("forget_idempotency_copies", "idempotency_contract")

NUMBERS = [
    ("purge_idempotency_records", ["--batch-size={}"], "--batch-size"),
    ("reencrypt_idempotency_records", ["--batch-size={}"], "--batch-size"),
    ("run_idempotent_work", ["--limit={}"], "--limit"),
    ("idempotency_records", ["key", "--limit={}"], "--limit"),
    ("idempotency_clients", ["--records={}"], "--records"),
    ("resolve_idempotency_record", ["list", "--limit={}"], "--limit"),
    ("resolve_idempotency_record", ["rerun", "--", "{}"], "RECORD"),
    ("resolve_idempotency_record", ["refuse", "--", "{}"], "RECORD"),
    ("resolve_idempotency_record", ["answer", "--status=200", "--", "{}"], "RECORD"),
]


def run(name: str, *arguments: str) -> None:
    call_command(name, *arguments, stdout=io.StringIO(), stderr=io.StringIO())


@pytest.mark.once
def test_every_command_is_here() -> None:
    ours = [name for name, app in get_commands().items() if app == "django_idempotency"]
    assert sorted(ours) == sorted([*COMMANDS, *WITHOUT_DATABASE])


@pytest.mark.once
@pytest.mark.parametrize("name", COMMANDS)
def test_a_database_that_does_not_exist(name: str) -> None:
    with pytest.raises(CommandError, match=r"no database 'nope' in DATABASES\. Give one of: d"):
        run(name, "--database=nope", *COMMANDS[name])


@pytest.mark.once
@pytest.mark.parametrize("value", ["-3", "0", "many", "1.5", "9" * 19, "9" * 40, "\u0663"])
@pytest.mark.parametrize(("name", "arguments", "option"), NUMBERS)
def test_a_number_out_of_bounds(name: str, arguments: list[str], option: str, value: str) -> None:
    with pytest.raises(CommandError) as caught:
        run(name, *(each.format(value) for each in arguments))
    assert str(caught.value).startswith(f"{option}: {value!r} is not ")
    assert "Give a whole number from 1 to " in str(caught.value)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_database_without_the_tables(name: str, settings: Any) -> None:
    settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
    tables = [model._meta.db_table for model in (IdempotencyRecord, IdempotencyStep)]
    rename(tables, "{}", "{}_gone")
    try:
        with pytest.raises(CommandError, match='Database "default": '):
            run(name, *COMMANDS[name])
    finally:
        rename(tables, "{}_gone", "{}")


def rename(tables: list[str], old: str, new: str) -> None:
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"ALTER TABLE {old.format(table)} RENAME TO {new.format(table)}")
