"""Pictures of the admin for the documentation: ``make images`` writes them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
from tests.support.pictures import IMAGES, keep

urlpatterns = [path("admin/", admin.site.urls)]

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


def search(page: Any, server: Any, text: str) -> None:
    page.goto(f"{server.url}{reverse(LIST)}?{urlencode({'q': text})}")


def see_record(page: Any) -> None:
    page.locator("#result_list").get_by_role("link").nth(2).click()
    page.wait_for_url("**/change/**")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_of_a_desktop(live_server, scheme):
    with story(live_server, scheme, DESKTOP) as page:
        keep(page, f"admin-list-{scheme}", 800)
        see_record(page)
        keep(page, f"admin-record-{scheme}", 1240)


def test_pictures_of_searches(live_server):
    with story(live_server, "light", DESKTOP) as page:
        search(page, live_server, LOG_LINE)
        keep(page, "admin-found-light", 540)
        search(page, live_server, "order-1043-pay")
        keep(page, "admin-nothing-light")


def test_pictures_of_actions_and_effects(live_server):
    with story(live_server, "dark", DESKTOP) as page:
        for box in (1, 2, 3):
            page.get_by_role("checkbox").nth(box).check()
        page.locator("select[name=action]").select_option("evict")
        page.get_by_role("button", name="Go").click()
        page.get_by_role("heading", name="Records to remove").wait_for()
        keep(page, "admin-evict-dark", 540)
        page.goto(live_server.url + reverse(EFFECTS))
        keep(page, "admin-effects-dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_of_a_phone(live_server, scheme):
    with story(live_server, scheme, PHONE) as page:
        keep(page, f"admin-list-phone-{scheme}")
        see_record(page)
        keep(page, f"admin-record-phone-{scheme}")
