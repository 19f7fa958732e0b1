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

from django_idempotency.conf.settings import SETTINGS, Configuration, configuration
from django_idempotency.decorators import idempotent
from tests.docs.pages import DOCS, blocks, section, text_of
from tests.support.golden import expect
from tests.support.settings_page import TOPICS, default, written

pytestmark = pytest.mark.once

PAGE = DOCS / "settings.md"


def test_tables_and_facts_are_those_of_the_declarations() -> None:
    expect(PAGE, written(text_of(PAGE)))


def test_every_setting_has_its_section_under_its_topic() -> None:
    names = [name for topic in TOPICS.values() for name in topic]
    assert sorted(names) == sorted(SETTINGS)
    for topic, settings_of_it in TOPICS.items():
        assert re.findall(r"^### (\w+)$", section(PAGE, topic), re.MULTILINE) == settings_of_it
    assert re.findall(r"^### (\w+)\n\nDefault: ", text_of(PAGE), re.MULTILINE) == names
    assert re.findall(r"^\| \[`(\w+)`\]", text_of(PAGE), re.MULTILINE) == names


@pytest.mark.parametrize("name", SETTINGS)
def test_a_default_can_be_given_as_it_is_written(name: str) -> None:
    given = eval(default(name), {"timedelta": timedelta, "SECRET_KEY": settings.SECRET_KEY})
    assert configured({name: given}) == configured({})


@pytest.mark.parametrize("name", SETTINGS)
def test_the_example_configures(name: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("IDEMPOTENCY_SECRET", "a secret of its own")
    monkeypatch.setenv("IDEMPOTENCY_ENCRYPTION_KEYS", f"{'k' * 43}=,{'l' * 43}=")
    (example,) = blocks(section(PAGE, name, level=3), "python")
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
