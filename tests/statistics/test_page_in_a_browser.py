"""The page of statistics in a real browser, in both themes, and on a phone."""

import os
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from tests.support import statistics
from tests.support.browser import browser_page, log_in

pytestmark = pytest.mark.browser

IMAGES = os.environ.get("IDEMPOTENCY_TEST_IMAGES")
"""Where to put pictures for the documentation, if they are wanted (``make images``)."""

PAGE = "/admin/django_idempotency/idempotencyrecord/statistics/"
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}

schemes = pytest.mark.parametrize("scheme", ["light", "dark"])


@pytest.fixture
def address(table: None, live_server: Any) -> str:
    User.objects.create_superuser("admin", password="secret")
    return str(live_server.url)


@pytest.fixture
def month(address: str, monkeypatch: Any) -> None:
    from django_idempotency.contrib.statistics import models

    hour = statistics.DAY + 17
    monkeypatch.setattr(models, "time", lambda: hour * 3600)
    statistics.month(hour)


@pytest.mark.once
@pytest.mark.usefixtures("month")
@pytest.mark.parametrize("size", SIZES)
def test_nothing_scrolls_sideways_and_nothing_is_cut_off(address: str, size: str) -> None:
    width, height = SIZES[size]
    with browser_page(viewport={"width": width, "height": height}) as page:
        log_in(page, address, "admin")
        page.goto(address + PAGE)
        page.get_by_role("heading", name="Last 24 hours").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = page.evaluate(CUT_OFF)
        assert cut == []
        for details in page.locator("details").all():
            details.locator("summary").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


CUT_OFF = """() => [...document.querySelectorAll('.idempotency-chart text')].filter(text => {
    const outer = text.ownerSVGElement.getBoundingClientRect();
    const box = text.getBoundingClientRect();
    return box.left < outer.left - 1 || box.right > outer.right + 1
        || box.bottom > outer.bottom + 1;
}).map(text => text.textContent)"""


@pytest.mark.once
@pytest.mark.usefixtures("month")
def test_numbers_are_there_on_demand_by_keyboard(address: str) -> None:
    with browser_page() as page:
        log_in(page, address, "admin")
        page.goto(address + "/admin/django_idempotency/idempotencyrecord/")
        page.get_by_role("link", name="Statistics").click()
        chart = page.get_by_role("img", name="Last 24 hours")
        assert "Requests with a key" in chart.locator("desc").text_content()
        summary = page.locator("details summary").first
        summary.focus()
        page.keyboard.press("Enter")
        numbers = page.get_by_role("region", name="Last 24 hours")
        assert numbers.is_visible()
        assert numbers.locator("tbody tr").count() == 24


@pytest.mark.once
@pytest.mark.usefixtures("month")
@schemes
def test_each_part_of_a_bar_has_a_pattern_that_is_drawn(address: str, scheme: str) -> None:
    with browser_page(color_scheme=scheme) as page:
        log_in(page, address, "admin")
        page.goto(address + PAGE)
        names = page.evaluate(
            "() => [...new Set([...document.querySelectorAll('.idempotency-chart rect')]"
            ".map(each => each.getAttribute('fill')))].filter(each => each.startsWith('url'))"
        )
        assert len(names) >= 8
        for name in names:
            pattern = page.locator(name.removeprefix("url(").removesuffix(")"))
            fill = pattern.locator("rect").evaluate("each => getComputedStyle(each).fill")
            assert fill.startswith("rgb(")
            assert fill != "rgb(0, 0, 0)" or scheme == "light"


@pytest.mark.skipif(not IMAGES, reason="only for `make images`")
@schemes
def test_pictures_for_the_documentation(address: str, month: None, scheme: str) -> None:
    folder = Path(str(IMAGES))
    for size, (width, height) in SIZES.items():
        with browser_page(color_scheme=scheme, viewport={"width": width, "height": height}) as page:
            log_in(page, address, "admin")
            page.goto(address + PAGE)
            name = "statistics" if size == "desktop" else f"statistics-{size}"
            page.screenshot(path=folder / f"{name}-{scheme}.png", full_page=True)


@pytest.mark.skipif(not IMAGES, reason="only for `make images`")
@schemes
def test_pictures_of_no_numbers(address: str, scheme: str) -> None:
    with browser_page(color_scheme=scheme, viewport={"width": 1280, "height": 360}) as page:
        log_in(page, address, "admin")
        page.goto(address + PAGE)
        page.screenshot(path=Path(str(IMAGES)) / f"statistics-empty-{scheme}.png")
