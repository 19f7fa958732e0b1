"""Pictures of the admin for the documentation: ``make images`` writes them."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib import admin
from django.db import connection
from django.urls import path, reverse

from django_idempotency.protocol.keys import short_digest
from tests.support.admin import LIST, in_flight
from tests.support.admin_story import SHOWN, tell
from tests.support.browser import browser_page, log_in

urlpatterns = [path("admin/", admin.site.urls)]

IMAGES = os.environ.get("IDEMPOTENCY_TEST_IMAGES")
"""Where to put them, if they are wanted."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not IMAGES, reason="only for `make images`"),
]

EFFECTS = "admin:idempotency_effects_idempotencyeffect_changelist"

LOG_LINE = f"Key {short_digest(SHOWN)}, scope 0123456789ab: replayed (201) in 1.2 ms"

DESKTOP = {"width": 1280, "height": 760}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(autouse=True)
def _zone(settings):
    settings.TIME_ZONE = "UTC"


schemes = pytest.mark.parametrize("scheme", ["light", "dark"])


@contextmanager
def story(server: Any, scheme: str, viewport: dict[str, int]) -> Iterator[Any]:
    """A page that shows the list of records as a shop has them."""
    running = tell()
    with ExitStack() as stack:
        if connection.features.has_select_for_update_skip_locked:
            stack.enter_context(in_flight(running))
        page = stack.enter_context(browser_page(color_scheme=scheme, viewport=viewport))
        log_in(page, server.url, "admin")
        page.goto(server.url + reverse(LIST))
        yield page


def keep(page: Any, name: str, height: int | None = None) -> None:
    if height:
        page.set_viewport_size({**page.viewport_size, "height": height})
    page.mouse.move(0, 0)
    page.screenshot(path=Path(str(IMAGES)) / f"admin-{name}.png")


def search(page: Any, server: Any, text: str) -> None:
    page.goto(f"{server.url}{reverse(LIST)}?{urlencode({'q': text})}")


@schemes
def test_pictures_of_a_desktop(live_server, scheme):
    with story(live_server, scheme, DESKTOP) as page:
        keep(page, f"list-{scheme}", 800)
        page.locator("#result_list").get_by_role("link").nth(2).click()
        page.wait_for_url("**/change/**")
        keep(page, f"record-{scheme}", 1240)
        page.goto(live_server.url + reverse(LIST))
        for box in (1, 2, 3):
            page.get_by_role("checkbox").nth(box).check()
        page.locator("select[name=action]").select_option("evict")
        page.get_by_role("button", name="Go").click()
        page.get_by_role("heading", name="Records to remove").wait_for()
        keep(page, f"evict-{scheme}", 560)
        page.goto(live_server.url + reverse(EFFECTS))
        keep(page, f"effects-{scheme}", 560)
        search(page, live_server, LOG_LINE)
        keep(page, f"found-{scheme}", 560)
        search(page, live_server, "order-1043-pay")
        keep(page, f"nothing-{scheme}", 560)


@schemes
def test_pictures_of_a_phone(live_server, scheme):
    with story(live_server, scheme, PHONE) as page:
        keep(page, f"list-phone-{scheme}")
        page.locator("#result_list").get_by_role("link").nth(2).click()
        page.wait_for_url("**/change/**")
        keep(page, f"record-phone-{scheme}")
