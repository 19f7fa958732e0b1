"""The admin in a real browser, in both themes."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import path
from django.utils import timezone

from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.record import State
from tests.support.admin import BODY, grant, remember
from tests.support.admin_story import UNFINISHED
from tests.support.browser import browser_page, log_in

urlpatterns = [path("admin/", admin.site.urls)]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True),
]

schemes = pytest.mark.parametrize("scheme", ["light", "dark"])


@pytest.fixture
def records() -> None:
    User.objects.create_superuser("admin", password="secret")
    viewer = User.objects.create_user("viewer", password="secret", is_staff=True)
    grant(viewer, "view_idempotencyrecord")
    remember("key-of-the-first")
    remember("key-of-the-second", method="PUT", path="/orders/2/", response_status=422)
    remember("key-claimed", state=State.CLAIMED, **UNFINISHED)


@pytest.mark.once
@pytest.mark.usefixtures("records")
@schemes
def test_somebody_looks_for_a_record(live_server, scheme):
    with browser_page(color_scheme=scheme) as page:
        log_in(page, live_server.url, "admin")
        page.get_by_role("link", name="Idempotency records").first.click()
        expect_rows(page, "key-claimed", "key-of-the-second", "key-of-the-first")
        assert figures(page) == {"In flight or interrupted": "1", "Completed": "2"}
        refuse_secrets(page)

        filters = page.locator("#changelist-filter")
        filters.get_by_role("link", name="4xx").click()
        expect_rows(page, "key-of-the-second")
        filters.get_by_role("link", name="Past hour").click()
        expect_rows(page, "key-of-the-second")
        filters.get_by_role("link", name="Clear all filters").click()
        expect_rows(page, "key-claimed", "key-of-the-second", "key-of-the-first")

        page.locator("#searchbar").fill("key-of-the-first")
        page.keyboard.press("Enter")
        expect_rows(page, "key-of-the-first")

        page.get_by_role("link", name="key-of-t\N{HORIZONTAL ELLIPSIS}first").click()
        size = page.locator(".field-body_size .readonly")
        assert size.inner_text() == f"{len(BODY)}\xa0bytes"
        assert page.locator("#content input:visible, #content textarea").count() == 0
        assert page.get_by_role("region", name="Body").inner_text() == BODY.decode()
        assert "X-Secret: a header" in page.get_by_role("region", name="Headers").inner_text()


@pytest.mark.once
@pytest.mark.usefixtures("records")
def test_somebody_without_the_permission_sees_no_response(live_server):
    with browser_page() as page:
        log_in(page, live_server.url, "viewer")
        page.get_by_role("link", name="Idempotency records").first.click()
        assert page.locator("select[name=action]").count() == 0
        assert page.get_by_role("link", name="Purge expired").count() == 0
        page.get_by_role("link", name="key-of-t\N{HORIZONTAL ELLIPSIS}first").click()
        page.get_by_text("you need the permission to view stored responses").wait_for()
        refuse_secrets(page)


@pytest.mark.once
@pytest.mark.usefixtures("records")
def test_somebody_evicts_a_record_by_keyboard(live_server):
    with browser_page() as page:
        log_in(page, live_server.url, "admin")
        page.goto(f"{live_server.url}/admin/django_idempotency/idempotencyrecord/")
        page.get_by_role("checkbox").nth(3).focus()
        page.keyboard.press("Space")
        page.locator("select[name=action]").select_option("evict")
        page.get_by_role("button", name="Go").focus()
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Records to remove").wait_for()
        assert page.get_by_text("runs again, also if the operation succeeded").is_visible()
        page.get_by_role("button", name="Yes").focus()
        page.keyboard.press("Enter")
        page.get_by_text("1 record removed.").wait_for()
        expect_rows(page, "key-claimed", "key-of-the-second")
        page.goto(f"{live_server.url}/admin/")
        assert page.locator("#recent-actions-module").get_by_text("POST /orders/").is_visible()
    assert not IdempotencyRecord.objects.filter(key="key-of-the-first").exists()


@pytest.mark.once
@pytest.mark.usefixtures("records")
def test_somebody_changes_their_mind(live_server):
    with browser_page() as page:
        log_in(page, live_server.url, "admin")
        page.goto(f"{live_server.url}/admin/django_idempotency/idempotencyrecord/")
        page.get_by_label("Select all objects on this page").check()
        page.locator("select[name=action]").select_option("evict")
        page.get_by_role("button", name="Go").click()
        page.get_by_role("link", name="No, take me back").click()
        expect_rows(page, "key-claimed", "key-of-the-second", "key-of-the-first")


@pytest.mark.once
@pytest.mark.usefixtures("records")
def test_somebody_purges(live_server):
    now = timezone.now()
    first = IdempotencyRecord.objects.filter(key="key-of-the-first")
    first.update(expires_at=now, purge_at=now)
    with browser_page() as page:
        log_in(page, live_server.url, "admin")
        page.goto(f"{live_server.url}/admin/django_idempotency/idempotencyrecord/")
        page.get_by_role("link", name="Purge expired").click()
        page.get_by_role("button", name="Yes").click()
        page.get_by_text("Purged 1 expired record.").wait_for()
        expect_rows(page, "key-claimed", "key-of-the-second")


@pytest.mark.once
@pytest.mark.usefixtures("records")
@schemes
def test_words_stand_out_from_badges(live_server, scheme):
    """WCAG 2.2, 1.4.3: a contrast of 4.5 to 1."""
    with browser_page(color_scheme=scheme) as page:
        log_in(page, live_server.url, "admin")
        page.goto(f"{live_server.url}/admin/django_idempotency/idempotencyrecord/")
        for name in ("completed", "in-flight", "interrupted", "claimed"):
            colours = page.evaluate(COLOURS, f"idempotency-badge idempotency-{name}")
            assert contrast(*colours) >= 4.5, (name, colours)


COLOURS = """name => {
    const badge = document.querySelector(".idempotency-badge");
    badge.className = name;
    const style = getComputedStyle(badge);
    return [style.color, style.backgroundColor].map(colour => colour.match(/[0-9.]+/g).map(Number));
}"""


def contrast(first: list[float], second: list[float]) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: list[float]) -> float:
    assert len(colour) == 3 or colour[3] == 1, "the background must be opaque"
    parts = [value / 255 for value in colour[:3]]
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def expect_rows(page: Any, *keys: str) -> None:
    """Wait until the list shows these keys."""
    page.wait_for_function(KEYS_ARE, arg=list(keys))


KEYS_ARE = """keys => String(keys) === String(Array.from(
    document.querySelectorAll("#result_list .idempotency-copy"), each => each.dataset.copy))"""


def figures(page: Any) -> dict[str, str]:
    names = page.locator(".idempotency-overview dt").all_inner_texts()
    return dict(zip(names, page.locator(".idempotency-overview dd").all_inner_texts(), strict=True))


def refuse_secrets(page: Any) -> None:
    text = page.content()
    assert BODY.decode() not in text
    assert "X-Secret" not in text
