"""Checks and commands."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import BaseCommand

from django_idempotency.checks.messages import MESSAGES
from django_idempotency.management.commands import (
    idempotency_clients,
    idempotency_records,
    purge_idempotency_records,
    run_idempotent_work,
)
from tests.docs.pages import DOCS, every_page, rows, section, text_of
from tests.support.golden import expect

pytestmark = pytest.mark.once


class TestOperations:
    PAGE = DOCS / "operations.md"

    def test_the_table_of_checks_is_that_of_their_messages(self) -> None:
        lines = [
            "| id | what is wrong | asks the database | only with `--deploy` |",
            "| --- | --- | --- | --- |",
        ]
        for number, each in MESSAGES.items():
            deploy = "yes" if each.deploy else ""
            row = f"| `django_idempotency.{number}` | {each.summary} | {each.asks} | {deploy} |"
            lines.append(re.sub(r"\|  (?=\|)", "| ", row))
        text = text_of(self.PAGE)
        table = re.search(r"^\| id \| what is wrong .*?\n\n", text, re.DOTALL | re.MULTILINE)
        assert table is not None
        expect(self.PAGE, text.replace(table[0], "\n".join([*lines, "", ""])))

    @every_page
    def test_checks_named_elsewhere_exist(self, page: Path) -> None:
        pattern = r"django_idempotency\.[EWI]\d{3}"
        known = set(re.findall(pattern, section(self.PAGE, "System checks")))
        assert set(re.findall(pattern, text_of(page))) <= known

    @pytest.mark.parametrize(
        ("command", "title"),
        [
            (purge_idempotency_records, "Purge"),
            (run_idempotent_work, "Work in the background"),
            (idempotency_records, "Finding records"),
            (idempotency_clients, "Clients that do it wrong"),
        ],
    )
    def test_the_options_of_commands(self, command: Any, title: str) -> None:
        parser = command.Command().create_parser("manage.py", "x")
        common = BaseCommand().create_parser("manage.py", "x")._option_string_actions
        options = {
            name: action.default
            for name, action in parser._option_string_actions.items()
            if name not in common
        }
        listed = {row[0].strip("`"): row[1] for row in rows(section(self.PAGE, title))[2:]}
        assert set(listed) == set(options)
        for name in {
            "--batch-size",
            "--limit",
            "--older-than",
            "--poll",
            "--records",
            "--within",
        } & set(options):
            if options[name] is not None:
                assert listed[name] == f"`{options[name]}`"
