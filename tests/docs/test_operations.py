"""Checks and commands."""

import re
from pathlib import Path

import pytest
from django.core.management.base import BaseCommand

from django_idempotency.management.commands.purge_idempotency_records import Command
from tests.docs.pages import DOCS, ROOT, every_page, rows, section, text_of

pytestmark = pytest.mark.once


class TestOperations:
    PAGE = DOCS / "operations.md"

    def test_every_check_is_listed(self) -> None:
        pattern = r"django_idempotency\.[EWI]\d{3}"
        package = ROOT / "django_idempotency"
        sources = [*package.glob("checks.py"), *package.glob("checks/*.py")]
        known = {found for path in sources for found in re.findall(pattern, path.read_text())}
        listed = [row[0].strip("`") for row in rows(section(self.PAGE, "System checks"))[2:]]
        assert known
        assert sorted(listed) == sorted(known)

    @every_page
    def test_checks_named_elsewhere_exist(self, page: Path) -> None:
        pattern = r"django_idempotency\.[EWI]\d{3}"
        known = set(re.findall(pattern, section(self.PAGE, "System checks")))
        assert set(re.findall(pattern, text_of(page))) <= known

    def test_the_options_of_the_purge(self) -> None:
        parser = Command().create_parser("manage.py", "purge_idempotency_records")
        common = BaseCommand().create_parser("manage.py", "x")._option_string_actions
        options = {
            name: action.default
            for name, action in parser._option_string_actions.items()
            if name not in common
        }
        listed = {row[0].strip("`"): row[1] for row in rows(section(self.PAGE, "Purge"))[2:]}
        assert set(listed) == set(options)
        assert listed["--batch-size"] == f"`{options['--batch-size']}`"
