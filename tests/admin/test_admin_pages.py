"""Pages beside the list of records, which links to them."""

from types import ModuleType
from typing import Any

import pytest
from django.contrib import admin
from django.db import transaction
from django.http import HttpResponse
from django.urls import path, reverse

from django_idempotency.admin import pages
from django_idempotency.admin.actions import page as rendered
from django_idempotency.admin.pages import Page, register
from tests.support.admin import LIST, page, staff

pytestmark = [pytest.mark.django_db, pytest.mark.once]


@transaction.non_atomic_requests
def report(model_admin, request):
    return rendered(model_admin, request, "page", {"title": "A report"})


def secret(model_admin, request):
    return HttpResponse("secret")


REPORT = "admin:django_idempotency_idempotencyrecord_report"
SECRET = "admin:django_idempotency_idempotencyrecord_secret"


@pytest.fixture(autouse=True)
def registered(monkeypatch, settings):
    monkeypatch.setattr(pages, "_pages", {})
    register(Page("report", "Report of a test", report))
    register(Page("secret", "<Secret>", secret, lambda _, request: request.user.is_superuser))
    # Made after the pages are registered, like a project's.
    urls: Any = ModuleType("urls")
    urls.urlpatterns = [path("admin/", admin.site.urls)]
    settings.ROOT_URLCONF = urls


def test_the_list_links_to_them(client):
    client.force_login(staff("view_idempotencyrecord"))
    assert f'<a href="{reverse(REPORT)}">Report of a test</a>' in page(client)
    content = client.get(reverse(REPORT)).content.decode()
    assert "<h1>A report</h1>" in content
    assert f'<a href="{reverse(LIST)}">Idempotency records</a>' in content


def test_only_those_see_a_page_whom_it_allows(client, admin_client):
    client.force_login(staff("view_idempotencyrecord"))
    assert reverse(SECRET) not in page(client)
    assert client.get(reverse(SECRET)).status_code == 403
    assert "&lt;Secret&gt;</a>" in page(admin_client)
    assert admin_client.get(reverse(SECRET)).content == b"secret"


def test_a_page_needs_staff(client):
    assert client.get(reverse(REPORT)).status_code == 302


def test_a_page_decides_about_the_transaction_of_its_request(admin_client):
    """As Django asks it: ``ATOMIC_REQUESTS`` leaves a view alone that says so."""
    for name, expected in ((REPORT, {"default"}), (SECRET, set())):
        view = admin_client.get(reverse(name)).resolver_match.func
        assert getattr(view, "_non_atomic_requests", set()) == expected
