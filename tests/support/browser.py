"""A real browser."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--font-render-hinting=none",
]


def missing(what: str) -> Any:
    """Skip; but whoever promises to run everything must have everything."""
    message = f"{what} is not installed"
    pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


@contextmanager
def browser_page(*, keeps_pages: bool = False, **context: Any) -> Iterator[Any]:
    """A page of a browser that ends before the test does: while Playwright's event loop runs,
    Django refuses to use the database in this thread.

    :param keeps_pages: as they were when the user left them, for the Back button. Playwright
        switches that off
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright")
    chromium = shutil.which("chromium") or missing("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=ARGUMENTS,
            ignore_default_args=["--disable-back-forward-cache"] if keeps_pages else [],
        )
        page = browser.new_context(locale="en-US", **context).new_page()
        page.set_default_timeout(15_000)
        yield page
        browser.close()


def log_in(page: Any, address: str, name: str) -> None:
    page.goto(f"{address}/admin/")
    page.fill("#id_username", name)
    page.fill("#id_password", "secret")
    page.press("#id_password", "Enter")
    page.get_by_role("link", name="Log out").or_(page.get_by_text("Log out")).first.wait_for()
