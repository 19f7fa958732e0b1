"""The admin's pages fit a laptop and a phone, and a button copies keys."""

import re
from typing import Any

import pytest
from django.contrib import admin
from django.urls import path, reverse

from django_idempotency.models import IdempotencyStep
from tests.support.admin import LIST
from tests.support.admin_story import LONG_KEY, SHOWN, tell
from tests.support.browser import browser_page, log_in

urlpatterns = [path("admin/", admin.site.urls)]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.once,
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True),
]

RECORD = "admin:django_idempotency_idempotencyrecord_"
EFFECT = "admin:idempotency_effects_idempotencyeffect_"

LAPTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
viewports = pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])

CHANGE = re.compile("/change/")
TOO_WIDE = """() => [document.scrollingElement, ...document.querySelectorAll(".results")]
    .map(each => each.scrollWidth - (each.className ? each.clientWidth : innerWidth))
    .filter(excess => excess > 0)"""


def choose(page: Any, action: str) -> None:
    """Choose an action for all that is on the page, by its form: a phone shows no row of titles."""
    for box in page.locator("input.action-select").all():
        box.check()
    page.locator("select[name=action]").select_option(action)
    page.get_by_role("button", name="Go").click()
    page.get_by_role("link", name="No, take me back").wait_for()


@viewports
def test_no_page_scrolls_sideways(live_server, viewport):
    """Not even with the longest key and path, and with the filters beside the list."""
    claimed = tell(hostile=True)
    claimed.outcome_open = True
    claimed.save()
    IdempotencyStep.objects.create(
        record_id=claimed.pk, position=0, attempt=1, started_at=claimed.created_at
    )
    with browser_page(viewport=viewport) as page:
        log_in(page, live_server.url, "admin")

        def see(name: str, *args: Any, query: str = "") -> None:
            page.goto(live_server.url + reverse(name, args=args) + query)
            fits(name + query)

        def fits(name: str) -> None:
            assert page.evaluate(TOO_WIDE) == [], name

        see(LIST)
        assert page.locator("#changelist-filter").is_visible()
        assert page.locator("#result_list thead").is_visible() == (viewport is LAPTOP)
        assert page.locator("#result_list .field-expiry").first.is_visible()
        choose(page, "evict")
        fits("evict")
        see(LIST, query="?q=nothing")
        see(f"{RECORD}purge")
        see(f"{RECORD}resolve", claimed.pk)
        see(f"{EFFECT}changelist")
        assert page.locator("#result_list .field-age").first.is_visible()
        choose(page, "give_up")
        fits("give up")
        see(f"{EFFECT}changelist")
        page.get_by_role("link", name="shop.").first.click()
        page.wait_for_url(CHANGE)
        fits("effect")
        for key in (LONG_KEY, SHOWN):
            see(LIST, query=f"?q={key}")
            page.locator("#result_list tbody th a").click()
            page.wait_for_url(CHANGE)
            fits(key)


def strict(get_response: Any) -> Any:
    """Allow a page nothing but what this server sends as files."""

    def middleware(request: Any) -> Any:
        response = get_response(request)
        response["Content-Security-Policy"] = "default-src 'self'"
        return response

    return middleware


def test_a_button_copies_the_key(live_server, settings):
    settings.MIDDLEWARE = [f"{__name__}.strict", *settings.MIDDLEWARE]
    tell()
    with browser_page(permissions=["clipboard-read", "clipboard-write"]) as page:
        refused: list[str] = []
        page.on("console", lambda each: refused.append(each.text) if each.type == "error" else "")
        log_in(page, live_server.url, "admin")
        page.goto(f"{live_server.url}{reverse(LIST)}?q={SHOWN}")
        button = page.get_by_role("button", name="Copy the key")
        button.click()
        page.get_by_role("status").get_by_text("Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == SHOWN
        assert [text for text in refused if "Content Security Policy" in text] == []


def test_a_button_copies_where_the_browser_hides_its_clipboard(live_server):
    """As on a page that came over plain HTTP."""
    tell()
    with browser_page(permissions=["clipboard-read", "clipboard-write"]) as page:
        log_in(page, live_server.url, "admin")
        page.goto(f"{live_server.url}{reverse(LIST)}?q={SHOWN}")
        page.evaluate("navigator.clipboard.writeText = undefined")
        page.get_by_role("button", name="Copy the key").press("Enter")
        page.get_by_role("status").get_by_text("Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == SHOWN


def test_without_scripts_the_key_is_on_the_page_of_the_record(live_server):
    tell()
    with browser_page(java_script_enabled=False) as page:
        log_in(page, live_server.url, "admin")
        page.goto(f"{live_server.url}{reverse(LIST)}?q={SHOWN}")
        assert page.get_by_role("button", name="Copy the key").count() == 0
        page.locator("#result_list tbody th a").click()
        assert page.locator(".field-whole_key code").inner_text() == SHOWN
