"""The settings reference."""

import os
import re
import sys
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from django_idempotency.conf.policy import FIELDS
from django_idempotency.conf.settings import (
    OWN_SETTINGS,
    Configuration,
    configuration,
)
from django_idempotency.decorators import idempotent
from tests.docs.pages import DOCS, blocks, rows, section, text_of

pytestmark = pytest.mark.once

NAMES = [*(name.upper() for name in FIELDS), *OWN_SETTINGS]


class TestSettings:
    PAGE = DOCS / "settings.md"

    def table(self) -> dict[str, list[str]]:
        found = (row for row in rows(text_of(self.PAGE)) if row[0].startswith("[`"))
        return {re.findall(r"`(\w+)`", row[0])[0]: row for row in found}

    def test_the_table_and_the_headings_name_every_setting(self) -> None:
        headings = re.findall(r"^## (\w+)$", text_of(self.PAGE), re.MULTILINE)
        assert sorted(self.table()) == sorted(headings) == sorted(NAMES)

    @pytest.mark.parametrize("name", NAMES)
    def test_the_documented_default_is_the_default(self, name: str) -> None:
        default = (
            self.table()[name][1].split(", ")[0] if name == "SECRET" else self.table()[name][1]
        )
        stated = re.match(r"\s*Default: `([^`]*)`", section(self.PAGE, name))
        assert stated is not None
        assert f"`{stated[1]}`" == default
        given = eval(stated[1], {"timedelta": timedelta, "SECRET_KEY": settings.SECRET_KEY})
        assert configured({name: given}) == configured({})

    @pytest.mark.parametrize("name", NAMES)
    def test_it_says_whether_the_decorator_takes_it(self, name: str) -> None:
        taken = name.lower() in FIELDS
        assert self.table()[name][3] == ("yes" if taken else "no")
        text = " ".join(section(self.PAGE, name).split())
        assert (f"Decorator: `{name.lower()}`." in text) is taken
        assert ("Not for the decorator." in text) is not taken

    @pytest.mark.parametrize("name", NAMES)
    def test_the_example_configures(self, name: str, monkeypatch: Any) -> None:
        monkeypatch.setenv("IDEMPOTENCY_SECRET", "a secret of its own")
        monkeypatch.setenv("IDEMPOTENCY_ENCRYPTION_KEYS", f"{'k' * 43}=,{'l' * 43}=")
        (example,) = blocks(section(self.PAGE, name), "python")
        namespace: dict[str, Any] = {
            "timedelta": timedelta,
            "os": os,
            "idempotent": idempotent,
        }
        exec(example, namespace)
        module = ModuleType("myproject.api")
        vars(module).update(namespace)
        monkeypatch.setitem(sys.modules, "myproject", ModuleType("myproject"))
        monkeypatch.setitem(sys.modules, "myproject.api", module)
        if "IDEMPOTENCY" not in namespace:
            assert f"@idempotent({name.lower()}=" in example
            return
        assert list(namespace["IDEMPOTENCY"]) == [name]
        assert configured(namespace["IDEMPOTENCY"]) != configured({})


def configured(given: dict[str, Any]) -> Configuration:
    with override_settings(IDEMPOTENCY=given):
        return configuration()
