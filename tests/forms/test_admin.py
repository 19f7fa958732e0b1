"""The forms of Django's admin are carried out once, if a ``ModelAdmin`` has the mixin."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from rest_framework.authtoken.models import Token

from django_idempotency.forms import IdempotentAdminMixin
from django_idempotency.models import IdempotencyRecord
from tests.shop.models import Coupon, Order
from tests.support.adapters import MIDDLEWARE
from tests.support.interruptions import Crash
from tests.support.visitors import Page, Visitor

pytestmark = pytest.mark.django_db(transaction=True)

site = admin.AdminSite(name="admin")


class OrderAdmin(IdempotentAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    save_as = True


class TokenInline(admin.StackedInline):  # type: ignore[type-arg]
    model = Token


class PersonAdmin(IdempotentAdminMixin, UserAdmin):  # type: ignore[type-arg]
    """Its views are in transactions of their own, and its form for new users is another one."""

    inlines = [TokenInline]

    def get_inline_instances(self, request: Any, obj: Any = None) -> Any:
        return admin.ModelAdmin.get_inline_instances(self, request, obj)


class CouponAdmin(IdempotentAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    idempotency_options = {"required": True}
    change_form_template = "forms/own_change_form.html"


site.register(Order, OrderAdmin)
site.register(User, PersonAdmin)
site.register(Coupon, CouponAdmin)
urlpatterns = [path("admin/", site.urls)]

ADD = "/admin/shop/order/add/"


@pytest.fixture(autouse=True, params=["decorator", "middleware", "atomic requests"])
def _around(request: Any, settings: Any, monkeypatch: Any) -> None:
    settings.ROOT_URLCONF = __name__
    if request.param != "decorator":
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    if request.param == "atomic requests":
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


@pytest.fixture
def user() -> User:
    return User.objects.create_superuser("ada", password="secret")


@pytest.fixture
def ada(user: User) -> Visitor:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(user)
    return Visitor(client)


def ordered() -> list[str]:
    return list(Order.objects.order_by("pk").values_list("item", flat=True))


@pytest.mark.parametrize("button", ["_save", "_addanother", "_continue"])
def test_add_is_carried_out_once(button: str, ada: Visitor) -> None:
    """With its log entry, which is in the commit."""
    form = ada.open(ADD)
    first, *others = (ada.send(form, item="vm", **{button: "1"}) for _ in range(3))
    assert (first.status, ordered(), LogEntry.objects.count()) == (302, ["vm"], 1)
    assert {(each.status, each.where) for each in others} == {(302, first.where)}
    assert ada.open(first.where).html.count("was added successfully") == 1


def test_change_is_carried_out_once(ada: Visitor) -> None:
    order = Order.objects.create(item="vm")
    form = ada.open(f"/admin/shop/order/{order.pk}/change/")
    for _ in range(2):
        assert ada.send(form, item="disk", _save="1").status == 302
    assert (ordered(), LogEntry.objects.count()) == (["disk"], 1)
    form = ada.open(f"/admin/shop/order/{order.pk}/change/")
    for _ in range(2):
        assert ada.send(form, item="copy", _saveasnew="1").status == 302
    assert (ordered(), LogEntry.objects.count()) == (["disk", "copy"], 2)


def test_a_popup_answers_as_at_first(ada: Visitor) -> None:
    form = ada.open(f"{ADD}?_popup=1")
    first, again = (ada.send(form, item="vm", _save="1") for _ in range(2))
    assert (first.status, again.html, ordered()) == (200, first.html, ["vm"])
    assert "data-popup-response" in first.html


def test_an_invalid_form_frees_its_key(ada: Visitor) -> None:
    form = ada.open(ADD)
    wrong = ada.send(form, item="", _save="1")
    assert (wrong.status, wrong.key, "errornote" in wrong.html) == (200, form.key, True)
    assert [ada.send(page, item="vm", _save="1").status for page in (wrong, form)] == [302, 302]
    assert ordered() == ["vm"]


def test_another_content_after_going_back_asks(ada: Visitor) -> None:
    form = ada.open(ADD)
    ada.send(form, item="vm", _save="1")
    asked = ada.send(form, item="disk", _save="1")
    assert (asked.status, ordered(), ("item", "disk") in asked.fields) == (422, ["vm"], True)
    assert ada.send(asked).status == 302
    assert ordered() == ["vm", "disk"]


def test_inlines_belong_to_it(ada: Visitor) -> None:
    """And a form of their own for new users, in a block of its own."""
    form = ada.open("/admin/auth/user/add/")
    typed = {"username": "grace", "password1": "xk3-dsa-99", "password2": "xk3-dsa-99"}
    typed |= {"usable_password": "true", "auth_token-0-key": "", "_save": "1"}
    typed |= {"auth_token-TOTAL_FORMS": "0"}
    for _ in range(2):
        assert ada.send(form, **typed).status == 302
    grace = User.objects.get(username="grace")
    form = ada.open(f"/admin/auth/user/{grace.pk}/change/")
    typed = {
        "username": "grace",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "12:00:00",
        "auth_token-0-user": str(grace.pk),
        "auth_token-0-key": "a-token",
        "auth_token-TOTAL_FORMS": "1",
        "_save": "1",
    }
    answers = [ada.send(form, **typed) for _ in range(2)]
    assert [each.status for each in answers] == [302, 302], answers[0].text
    assert Token.objects.filter(user=grace).count() == 1


def test_who_may_no_longer_add_gets_no_answer(user: User, ada: Visitor) -> None:
    """I5: the admin asks in its view, which does not run before a replay."""
    form = ada.open(ADD)
    ada.send(form, item="vm", _save="1")
    User.objects.update(is_superuser=False)
    assert ada.send(form, item="vm", _save="1").status == 403
    user.user_permissions.add(Permission.objects.get(codename="change_order"))
    order = Order.objects.get()
    form = ada.open(f"/admin/shop/order/{order.pk}/change/")
    assert ada.send(form, item="disk", _save="1").status == 302
    user.user_permissions.clear()
    assert ada.send(form, item="disk", _save="1").status == 403
    assert ordered() == ["disk"]


def test_a_deleted_object_is_gone(ada: Visitor) -> None:
    order = Order.objects.create(item="vm")
    form = ada.open(f"/admin/shop/order/{order.pk}/change/")
    order.delete()
    assert ada.send(form, item="disk", _save="1").where == "/admin/"
    assert not IdempotencyRecord.objects.exists()


def test_tools_that_post_without_a_key_are_left_alone(ada: Visitor) -> None:
    """I9."""
    form = ada.open(ADD)
    form.fields = [each for each in form.fields if each[0] != "idempotency_key"]
    with CaptureQueriesContext(connection) as queries:
        for _ in range(2):
            assert ada.send(form, item="vm", _save="1").status == 302
    assert "idempotency" not in str(queries.captured_queries)
    assert ordered() == ["vm", "vm"]


def test_a_template_of_the_project_s_own_gets_the_key_too(ada: Visitor) -> None:
    form = ada.open("/admin/shop/coupon/add/")
    assert form.key
    assert "Ours" in form.text
    for _ in range(2):
        assert ada.send(form, code="a", _save="1").status == 302
    assert Coupon.objects.count() == 1


def test_an_admin_that_answers_without_a_template(ada: Visitor, monkeypatch: Any) -> None:
    def plain(self: Any, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse("plain")

    monkeypatch.setattr(admin.ModelAdmin, "render_change_form", plain)
    assert Page(ada.client.get(ADD)).text == "plain"


def test_a_worker_that_dies_before_the_commit_has_done_nothing(
    ada: Visitor, monkeypatch: Any
) -> None:
    """I2, I3."""

    def die(*args: Any, **kwargs: Any) -> None:
        raise Crash

    form = ada.open(ADD)
    with monkeypatch.context() as patch:
        patch.setattr(OrderAdmin, "log_addition", die)
        with pytest.raises(Crash):
            ada.send(form, item="vm", _save="1")
    assert (ordered(), LogEntry.objects.count()) == ([], 0)
    ada.send(form, item="vm", _save="1")
    assert (ordered(), LogEntry.objects.count()) == (["vm"], 1)
