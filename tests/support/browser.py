"""A real browser."""

import os
import shutil
from collections.abc import Callable, Iterator
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
def chromium() -> Iterator[Callable[..., Any]]:
    """Yield a function that starts browsers, which end with the block. In it, Django refuses to use
    the database in this thread, because Playwright's event loop runs."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright")
    path = shutil.which("chromium") or missing("chromium")
    with sync_playwright() as playwright:

        def start(keeps_pages: bool = False) -> Any:
            """
            :param keeps_pages: as they were when the user left them, for the Back button.
                Playwright switches that off
            """
            left_out = ["--disable-back-forward-cache"] if keeps_pages else []
            browsers.append(
                playwright.chromium.launch(
                    executable_path=path, args=ARGUMENTS, ignore_default_args=left_out
                )
            )
            return browsers[-1]

        browsers: list[Any] = []
        yield start
        for browser in browsers:
            browser.close()


def page_in(browser: Any, **context: Any) -> Any:
    """Return a page of a new visitor."""
    page = browser.new_context(locale="en-US", **context).new_page()
    page.set_default_timeout(15_000)
    return page


@contextmanager
def browser_page(**context: Any) -> Iterator[Any]:
    """A page of a browser that ends before the test does."""
    with chromium() as start:
        yield page_in(start(), **context)


def log_in(page: Any, address: str, name: str) -> None:
    page.goto(f"{address}/admin/")
    page.fill("#id_username", name)
    page.fill("#id_password", "secret")
    page.press("#id_password", "Enter")
    page.get_by_role("link", name="Log out").or_(page.get_by_text("Log out")).first.wait_for()
