"""One page for each alert, which is reached from its annotation and from the documentation."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from tests.docs.pages import DOCS, rows, section, text_of
from tests.support.prometheus import RULES

pytestmark = pytest.mark.once

ALERTS: list[Any] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
BASE = "https://docs.example.com/runbooks/"


def page_of(alert: Any) -> Path:
    name = alert["annotations"]["runbook_url"].removeprefix(BASE).removesuffix(".html")
    return DOCS / "runbooks" / f"{name}.md"


def test_every_page_has_its_alert() -> None:
    assert sorted(map(page_of, ALERTS)) == sorted((DOCS / "runbooks").glob("*.md"))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
class TestAlert:
    def test_its_page_says_what_it_means_what_to_look_at_and_what_to_do(self, alert: Any) -> None:
        text = text_of(page_of(alert))
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert headings == [alert["alert"], "What to look at", "What to do"]
        assert len(text.partition("##")[0]) > 200

    def test_its_page_names_the_metric_or_the_code(self, alert: Any) -> None:
        expression = alert["expr"]
        named = re.findall(r'(?:outcome|code)="(\w+)"', expression)
        metric = re.findall(r"django_idempotency_\w+", expression)[0]
        text = text_of(page_of(alert))
        assert all(name in text for name in named or [metric])
        assert "```promql" in text

    def test_its_page_names_commands_that_exist(self, alert: Any) -> None:
        named = re.findall(r"python manage\.py (\w+)", text_of(page_of(alert)))
        assert set(named) <= set(get_commands())

    def test_people_are_told_how_bad_it_is(self, alert: Any) -> None:
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert {"summary", "description"} <= set(alert["annotations"])
        assert len(alert["annotations"]["summary"]) < 100

    def test_the_table_of_alerts_has_it(self, alert: Any) -> None:
        _, _, *table = rows(section(DOCS / "metrics.md", "Alerts"))
        named = {name.strip("`"): (severity, link) for name, severity, link in table}
        severity, link = named[alert["alert"]]
        assert severity == alert["labels"]["severity"]
        assert link.endswith(f"](runbooks/{page_of(alert).name})")
        assert len(named) == len(ALERTS)
