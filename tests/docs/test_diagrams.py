"""The diagrams of the documentation."""

import re

import pytest

from tests.docs.pages import DOCS, text_of
from tests.support.diagrams import DIAGRAMS
from tests.support.golden import expect

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", DIAGRAMS)
def test_a_diagram_is_drawn_from_its_description(name: str) -> None:
    expect(DOCS / f"images/{name}.svg", DIAGRAMS[name].drawn())


def test_each_diagram_is_shown_with_its_description() -> None:
    pages = text_of(DOCS / "protocol.md") + text_of(DOCS / "how-it-works.md")
    shown = re.findall(r"^!\[(.*)\]\(images/([\w-]+)\.svg\)$", pages, re.MULTILINE)
    assert {name: text for text, name in shown} == {
        name: diagram.description for name, diagram in DIAGRAMS.items()
    }
