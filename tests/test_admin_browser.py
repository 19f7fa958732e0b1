"""The admin in a real browser."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import path

from django_idempotency.protocol.record import State

from .test_admin import BODY, remember

urlpatterns = [path("admin/", admin.site.urls)]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.once,
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True),
]

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def missing(what: str) -> Any:
    """Skip; but whoever promises to run everything must have everything."""
    message = f"{what} is not installed"
    pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


@contextmanager
def browser_page(**context: Any) -> Iterator[Any]:
    """A page of a browser that ends before the test does: while Playwright's event loop runs,
    Django refuses to use the database in this thread."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright")
    chromium = shutil.which("chromium") or missing("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser.new_context(**context).new_page()
        browser.close()


@pytest.fixture
def records():
    User.objects.create_superuser("admin", password="secret")
    remember("key-of-the-first")
    remember("key-of-the-second", method="PUT", path="/orders/2/", response_status=422)
    remember("key-in-flight", state=State.CLAIMED, response_status=None, response_body=None)


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_somebody_looks_for_a_record(live_server, scheme):
    with browser_page(color_scheme=scheme, locale="en-US") as page:
        log_in(page, live_server.url)
        page.get_by_role("link", name="Idempotency records").first.click()
        expect_rows(page, "key-in-flight", "key-of-the-second", "key-of-the-first")
        assert page.get_by_text("claimed: in flight or interrupted").is_visible()
        refuse_secrets(page)

        filters = page.locator("#changelist-filter")
        filters.get_by_role("link", name="4xx").click()
        expect_rows(page, "key-of-the-second")
        filters.get_by_role("link", name="Clear all filters").click()
        expect_rows(page, "key-in-flight", "key-of-the-second", "key-of-the-first")

        page.locator("#searchbar").fill("key-of-the-first")
        page.locator("#searchbar").press("Enter")
        expect_rows(page, "key-of-the-first")

        page.get_by_role("link", name="key-of-the-first").click()
        size = page.locator(".field-body_size .readonly")
        assert size.inner_text() == f"{len(BODY)}\xa0bytes"
        assert page.locator("#content input:visible, #content textarea").count() == 0
        refuse_secrets(page)


def log_in(page: Any, address: str) -> None:
    page.goto(f"{address}/admin/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", "secret")
    page.press("#id_password", "Enter")


def expect_rows(page: Any, *keys: str) -> None:
    """Wait until the list shows these keys."""
    from playwright.sync_api import expect

    expect(page.locator("#result_list .field-short_key")).to_have_text(list(keys))


def refuse_secrets(page: Any) -> None:
    text = page.content()
    assert BODY.decode() not in text
    assert "X-Secret" not in text
