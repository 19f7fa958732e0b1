"""Visitors of the example's shop in a real browser, which sends what a browser sends.

The server is a process, and workers die of SIGKILL. Each test ends with one order, or with a page
that says what to do.
"""

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from example_project.demo.following import DUE
from example_project.demo.postbox import BEFORE, Postbox
from example_project.demo.provisioning import Hold
from example_project.demo.rehearsal import Crash
from tests.support.browser import chromium, page_in
from tests.support.example import WarmExample, new_database

pytestmark = [pytest.mark.browser, pytest.mark.processes]

PURCHASES = (
    "from cloud.models import Purchase; "
    "print(*Purchase.objects.filter(email={!r}).values_list('pk', flat=True))"
)
KEEP_ALIVE = "--worker-class gthread --threads 4 --keep-alive 30"
"""Options of gunicorn. Its sync workers close each connection."""

SEEN = "addEventListener('pageshow', event => { window.wasKept = event.persisted })"


@pytest.fixture(scope="module")
def example(tmp_path_factory: Any, django_db_blocker: Any) -> Iterator[WarmExample]:
    with new_database(django_db_blocker.unblock) as url:
        example = WarmExample(tmp_path_factory.mktemp("example"), url)
        example.environment["GUNICORN_CMD_ARGS"] += f" {KEEP_ALIVE}"
        with example:
            yield example


@dataclass
class Visitor:
    """Somebody with a browser, who orders under an address of his own.

    :param page: of the browser
    """

    example: WarmExample
    page: Any
    email: str = field(default_factory=lambda: f"{uuid.uuid4().hex[:12]}@visitors.example")

    @property
    def folder(self) -> Path:
        return self.example.folder

    def go(self, path: str, page: Any = None) -> None:
        (page or self.page).goto(f"{self.example.url}{path}")

    def fill_cart(self, item: str = "Backup") -> None:
        self.go("/shop/")
        self.page.get_by_role("button", name=f"Add {item}").click()

    def open_checkout(self, page: Any = None, email: str = "") -> Any:
        page = page or self.page
        self.go("/shop/checkout", page)
        page.fill("[name=email]", email or self.email)
        return page

    def open_express(self, item: str = "backup", page: Any = None) -> Any:
        page = page or self.page
        self.go("/shop/express", page)
        page.fill("[name=email]", self.email)
        page.select_option("[name=item]", item)
        return page

    def is_thanked(self, page: Any = None) -> bool:
        """Look at the page of an order."""
        page = page or self.page
        page.locator("#purchase").wait_for()
        return page.get_by_role("status").count() == 1

    def orders(self) -> list[str]:
        return self._shell(PURCHASES.format(self.email)).split()

    def _shell(self, code: str) -> str:
        return self.example.manage("shell", "--verbosity", "0", "--command", code)

    def assert_one_order(self) -> None:
        """There is one, with its mail, and the cart is empty."""
        [number] = self.orders()
        self._shell(DUE)
        self.example.manage("run_idempotent_work")
        assert len(Postbox(self.folder).mails(number, "Purchase")) == 1
        self.assert_cart_is_empty()

    def assert_cart_is_empty(self) -> None:
        self.go("/shop/")
        assert self.page.locator("#empty").is_visible()
        assert self.page.get_by_role("status").count() == 0


def press(page: Any, **options: Any) -> None:
    page.get_by_role("button", name="Order").click(**options)


@pytest.fixture(scope="module")
def browsers(example: WarmExample) -> Iterator[Callable[[bool], Any]]:
    """One that keeps pages, and one that does not; both end before the example does."""
    with chromium() as start:
        yield cache(start)


@pytest.fixture
def visit(example: WarmExample, browsers: Callable[[bool], Any]) -> Callable[..., Any]:
    @contextmanager
    def open_browser(keeps_pages: bool = False, **context: Any) -> Iterator[Visitor]:
        page = page_in(browsers(keeps_pages), **context)
        page.add_init_script(SEEN)
        yield Visitor(example, page)
        page.context.close()

    return open_browser


def test_a_double_click(visit: Any) -> None:
    """I1, I13: the browser forgets the first request, and shows the answer to the second."""
    with visit() as visitor:
        visitor.fill_cart()
        page = visitor.open_checkout()
        box = page.get_by_role("button", name="Order").bounding_box()
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        with Hold(visitor.folder) as hold:
            page.mouse.click(*middle)
            hold.worker()
            with page.expect_request("**/shop/checkout"):
                page.mouse.click(*middle)
        assert visitor.is_thanked()
        visitor.assert_one_order()


def test_a_reload_of_the_order_does_not_thank_again(visit: Any) -> None:
    with visit() as visitor:
        visitor.fill_cart()
        press(visitor.open_checkout())
        assert visitor.is_thanked()
        visitor.page.reload()
        assert not visitor.is_thanked()
        visitor.assert_one_order()


def test_an_invalid_form_is_reloaded_and_mended(visit: Any) -> None:
    """The reload sends the wrong form once more; then the right one has the same key."""
    with visit() as visitor:
        visitor.fill_cart()
        page = visitor.open_checkout(email="wrong")
        press(page)
        page.get_by_text("Enter a valid email address").wait_for()
        key = page.input_value("[name=idempotency_key]")
        page.reload()
        page.get_by_text("Enter a valid email address").wait_for()
        assert page.input_value("[name=idempotency_key]") == key
        page.fill("[name=email]", visitor.email)
        press(page)
        assert visitor.is_thanked()
        visitor.assert_one_order()


@pytest.mark.parametrize("keeps_pages", [True, False])
def test_back_and_the_same_again(visit: Any, keeps_pages: bool) -> None:
    with visit(keeps_pages=keeps_pages) as visitor:
        visitor.fill_cart()
        press(visitor.open_checkout())
        assert visitor.is_thanked()
        page = visitor.page
        page.go_back(wait_until="commit")
        page.get_by_role("heading").wait_for()
        assert page.evaluate("window.wasKept") is keeps_pages
        if keeps_pages:
            press(page)
        else:
            page.get_by_text("Your cart is empty").first.wait_for()
            page.get_by_role("link", name="Backup").click()
        assert not visitor.is_thanked()
        visitor.assert_one_order()


def test_another_item_after_back(visit: Any) -> None:
    """I8: a page says so, leads to the first order, and offers to send the second one."""
    with visit(keeps_pages=True) as visitor:
        page = visitor.open_express()
        press(page)
        assert visitor.is_thanked()
        ordered = page.url
        page.go_back(wait_until="commit")
        page.get_by_role("heading", name="Express order").wait_for()
        assert page.evaluate("window.wasKept")
        page.select_option("[name=item]", "domain")
        press(page)
        link = page.get_by_role("link", name="See what became of the first one")
        assert ordered.endswith(link.get_attribute("href"))
        assert len(visitor.orders()) == 1
        page.locator("main form button").click()
        assert visitor.is_thanked()
        assert page.url != ordered
        assert len(visitor.orders()) == 2


def test_another_item_after_back_to_a_page_that_was_not_kept(visit: Any) -> None:
    """It is a new page, with a new key: a new order, which the visitor has asked for."""
    with visit() as visitor:
        press(visitor.open_express())
        assert visitor.is_thanked()
        page = visitor.page
        page.go_back()
        assert not page.evaluate("window.wasKept")
        page.fill("[name=email]", visitor.email)
        page.select_option("[name=item]", "domain")
        press(page)
        assert visitor.is_thanked()
        assert len(visitor.orders()) == 2


REPLACE_KEY = "key => { document.querySelector('[name=idempotency_key]').value = key }"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_of_errors_fit_and_are_styled(visit: Any, scheme: str, width: int) -> None:
    with visit(color_scheme=scheme, viewport={"width": width, "height": 800}) as visitor:
        key = ""
        for heading in ("Please send the form once more", "You have already sent this form"):
            page = visitor.open_express("domain" if key else "backup")
            page.evaluate(REPLACE_KEY, key)
            press(page)
            page.get_by_role("heading", name=heading).wait_for()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert page.evaluate("document.styleSheets.length")
            field, button = page.locator("[name=idempotency_key]"), page.locator("main form button")
            assert button.bounding_box()["height"] >= 40
            if not key:
                key = field.input_value()
                button.click()
                assert visitor.is_thanked()


def test_two_tabs_of_one_cart_are_one_order(visit: Any) -> None:
    """``for=`` the cart."""
    with visit() as visitor:
        visitor.fill_cart()
        other = visitor.page.context.new_page()
        visitor.open_checkout()
        visitor.open_checkout(other)
        press(visitor.page)
        assert visitor.is_thanked()
        press(other)
        assert not visitor.is_thanked(other)
        visitor.assert_one_order()


def test_a_second_tab_leaves_the_next_cart_alone(visit: Any) -> None:
    with visit() as visitor:
        visitor.fill_cart()
        other = visitor.page.context.new_page()
        visitor.open_checkout(other)
        press(visitor.open_checkout())
        assert visitor.is_thanked()
        visitor.fill_cart("Domain")
        press(other)
        assert not visitor.is_thanked(other)
        assert len(visitor.orders()) == 1
        visitor.go("/shop/")
        assert visitor.page.locator("#cart").inner_text() == "Domain"


def test_a_second_tab_with_a_key_of_its_own_finds_no_cart(visit: Any) -> None:
    """As if the checkout had a key per page."""
    with visit() as visitor:
        visitor.fill_cart()
        other = visitor.page.context.new_page()
        visitor.open_checkout(other)
        other.evaluate(REPLACE_KEY, "a-key-of-this-page")
        press(visitor.open_checkout())
        assert visitor.is_thanked()
        press(other)
        other.get_by_role("heading", name="Your cart is empty").wait_for()
        other.get_by_role("link", name="Backup").click()
        assert not visitor.is_thanked(other)
        visitor.assert_one_order()


def test_two_tabs_of_the_express_form_are_two_orders(visit: Any) -> None:
    """A key per page: each is an order of its own."""
    with visit() as visitor:
        other = visitor.page.context.new_page()
        for page in (visitor.open_express(), visitor.open_express(page=other)):
            press(page)
            assert visitor.is_thanked(page)
        assert len(visitor.orders()) == 2


def test_a_worker_dies_before_its_commit_and_the_browser_sends_again(visit: Any) -> None:
    """I3. Chromium sends a request again that was lost on a connection it had used before."""
    with visit() as visitor:
        visitor.fill_cart()
        page = visitor.open_checkout()
        with Hold(visitor.folder) as hold:
            press(page, no_wait_after=True)
            process, _ = hold.worker()
            hold.release()
            os.kill(process, signal.SIGKILL)
        assert visitor.is_thanked()
        visitor.assert_one_order()


def test_workers_die_until_the_browser_gives_up_and_the_visitor_reloads(visit: Any) -> None:
    with visit() as visitor:
        visitor.fill_cart()
        page = visitor.open_checkout()
        failed: list[Any] = []
        page.on("requestfailed", lambda request: failed.append(request))
        with Hold(visitor.folder) as hold:
            press(page, no_wait_after=True)
            killed: set[int] = set()
            while not failed:
                process, _ = hold.worker()
                if process not in killed:
                    os.kill(process, signal.SIGKILL)
                    killed.add(process)
                page.wait_for_timeout(20)
        assert len(killed) > 1
        assert visitor.orders() == []
        page.wait_for_url("chrome-error://**")  # its own page, which comes after the failure
        page.reload()
        assert visitor.is_thanked()
        visitor.assert_one_order()


def test_a_worker_dies_after_its_commit_and_before_the_session_is_saved(visit: Any) -> None:
    """The session is part of the commit: the cart is empty, and the visitor is thanked."""
    with visit() as visitor:
        visitor.fill_cart()
        page = visitor.open_checkout()
        crash = Crash(visitor.folder)
        crash.at(BEFORE)
        press(page)
        assert visitor.is_thanked()
        assert not crash.is_due
        visitor.assert_one_order()


def test_a_login_in_the_middle(visit: Any, example: WarmExample) -> None:
    """The cart and its key stay the visitor's; Django's CSRF token does not."""
    [account] = example.accounts(f"visitor-{uuid.uuid4().hex[:6]}")
    with visit() as visitor:
        visitor.fill_cart()
        page = visitor.open_checkout()
        key = page.input_value("[name=idempotency_key]")
        other = page.context.new_page()
        visitor.go("/login?next=/shop/", other)
        other.fill("[name=username]", account["name"])
        other.fill("[name=password]", account["password"])
        other.press("[name=password]", "Enter")
        other.wait_for_url("**/shop/")
        assert other.locator("#cart").inner_text() == "Backup"
        press(page)
        page.get_by_text("CSRF verification failed").or_(
            page.get_by_text("Forbidden")
        ).first.wait_for()
        assert visitor.orders() == []
        visitor.open_checkout()
        assert page.input_value("[name=idempotency_key]") == key
        press(page)
        assert visitor.is_thanked()
        visitor.assert_one_order()
