"""The page of clients in a real browser, also on a phone."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import path
from django.utils import timezone

from tests.support.admin import remember
from tests.support.browser import browser_page, log_in

urlpatterns = [path("admin/", admin.site.urls)]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True),
]

IMAGES = os.environ.get("IDEMPOTENCY_TEST_IMAGES")
"""Where to put pictures for the documentation, if they are wanted (``make images``)."""

PAGE = "/admin/django_idempotency/idempotencyrecord/clients/"


@pytest.fixture
def address(live_server: Any) -> str:
    """A shop with a client whose library makes a key for each try, and one that counts."""
    User.objects.create_superuser("admin", password="secret")
    now = timezone.now()
    for number in range(4):
        created = now - timedelta(seconds=90 - 20 * number)
        remember(f"8e03978e-40d5-43e8-{number:04}-6894a57f9324", created_at=created)
    for number in range(7):
        remember(f"pay-{number}", scope="f0e1d2c3b4a5" * 5, fingerprint=str(number), method="PUT")
    return str(live_server.url)


@pytest.mark.once
def test_nothing_scrolls_sideways_on_a_phone(address: str) -> None:
    with browser_page(viewport={"width": 390, "height": 844}) as page:
        log_in(page, address, "admin")
        page.goto(address + PAGE)
        page.get_by_role("heading", name="Counts its keys").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.skipif(not IMAGES, reason="only for `make images`")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_for_the_documentation(address: str, scheme: str) -> None:
    with browser_page(color_scheme=scheme, viewport={"width": 1280, "height": 700}) as page:
        log_in(page, address, "admin")
        page.goto(address + PAGE)
        page.screenshot(path=Path(str(IMAGES)) / f"clients-{scheme}.png", full_page=True)
