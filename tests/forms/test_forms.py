"""A form is carried out once: clicks, reloads, the Back button, tabs, logins."""

from contextlib import suppress
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import resolve

from django_idempotency.contract.endpoints import Coverage, protection_of
from django_idempotency.contract.words import terms
from django_idempotency.models import IdempotencyRecord
from tests.conftest import in_thread, row_locks
from tests.shop.models import Order
from tests.support import checkout
from tests.support.adapters import MIDDLEWARE
from tests.support.checking import ids
from tests.support.interruptions import Crash
from tests.support.visitors import Visitor
from tests.support.waiters import until_somebody_waits

pytestmark = pytest.mark.django_db(transaction=True)

each_view = pytest.mark.parametrize("view", checkout.VIEWS)


@pytest.fixture(autouse=True)
def _shop(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.support.checkout"


@pytest.fixture(params=["decorator", "middleware", "atomic requests"])
def _around(request: Any, settings: Any, monkeypatch: Any) -> None:
    if request.param != "decorator":
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    if request.param == "atomic requests":
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


everywhere = pytest.mark.usefixtures("_around")


@pytest.fixture
def ada() -> Visitor:
    return Visitor()


def ordered() -> list[str]:
    return list(Order.objects.order_by("pk").values_list("item", flat=True))


def without_blocks_if_async(view: str) -> None:
    if view.startswith("async") and connection.settings_dict["ATOMIC_REQUESTS"]:
        pytest.skip("Django has no ATOMIC_REQUESTS for async views")


@everywhere
@each_view
def test_a_form_that_is_sent_twice_is_carried_out_once(view: str, ada: Visitor) -> None:
    """I1, I6: a double click, a reload of the answer, a browser that sends again by itself."""
    without_blocks_if_async(view)
    page = ada.open(f"/{view}/")
    first, *others = (ada.send(page, item="vm") for _ in range(3))
    assert (first.status, ordered()) == (302, ["vm"])
    for other in others:
        assert (other.status, other.where) == (302, first.where)
    assert "Thanks for vm" in ada.open(first.where).html
    assert ada.client.session.get("bought", ["vm"]) == ["vm"]


@everywhere
@each_view
def test_an_invalid_form_frees_its_key(view: str, ada: Visitor) -> None:
    """It is corrected, and sent with the same key; the first page then makes no second order."""
    without_blocks_if_async(view)
    page = ada.open(f"/{view}/")
    corrected = wrong = ada.send(page, item="wrong")
    assert (wrong.status, wrong.key) == (200, page.key)
    again = ada.send(page, item="wrong")
    assert (again.status, "Wrong item." in again.html) == (200, True)
    corrected = ada.send(wrong, item="vm")
    assert (corrected.status, ordered()) == (302, ["vm"])
    back_to_the_first = ada.send(page, item="vm")
    assert (back_to_the_first.where, ordered()) == (corrected.where, ["vm"])


@pytest.mark.parametrize("view", ["function", "async-function"])
def test_a_refusal_frees_its_key(view: str, ada: Visitor) -> None:
    """A 400 that was stored would be shown again, and one that was not would be a mismatch."""
    page = ada.open(f"/{view}/")
    assert ada.send(page, item="refuse").status == 400
    assert ada.send(page, item="vm").status == 302
    assert ordered() == ["vm"]


def test_a_refusal_that_the_view_wants_to_keep_is_kept(ada: Visitor) -> None:
    page = ada.open("/function/")
    again = [ada.send(page, item="kept") for _ in range(2)][1]
    assert (again.status, again.response["Idempotency-Replayed"]) == (400, "true")
    assert ada.send(page, item="vm").status == 422


def test_a_refusal_after_a_step_keeps_the_key_of_the_step(ada: Visitor, monkeypatch: Any) -> None:
    """What is done is not done again (I11)."""

    def die() -> None:
        raise Crash

    page = ada.open("/function/")
    page.action = "/stepped/"
    assert [ada.send(page, item="vm").status for _ in range(2)] == [400, 400]
    assert ada.send(page, item="disk").status == 422
    other = ada.open("/function/")
    other.action = "/stepped/"
    with monkeypatch.context() as patch, suppress(Crash):
        patch.setattr(checkout, "after_write", die)
        ada.send(other, item="cd")
    assert [ada.send(other, item="cd").status for _ in range(2)] == [400, 400]
    assert ordered() == ["vm", "cd"]


def test_a_raised_refusal_is_not_stored(ada: Visitor) -> None:
    page = ada.open("/function/")
    ran = [ada.send(page, item="missing") for _ in range(2)]
    assert [each.status for each in ran] == [404, 404]
    assert "Idempotency-Replayed" not in ran[1].response


def test_another_item_after_going_back_asks(ada: Visitor) -> None:
    page = ada.open("/function/")
    first = ada.send(page, item="vm")
    other = ada.send(page, item="disk")
    assert (other.status, ordered()) == (422, ["vm"])
    assert first.where in other.links
    assert ("item", "disk") in other.fields
    assert other.key != page.key
    assert ada.send(other).status == 302
    assert ordered() == ["vm", "disk"]
    ada.send(other)
    assert ordered() == ["vm", "disk"]


def test_two_tabs_are_two_orders(ada: Visitor) -> None:
    tabs = [ada.open("/function/"), ada.open("/function/")]
    assert {ada.send(tab, item="vm").status for tab in tabs} == {302}
    assert ordered() == ["vm", "vm"]


def test_two_tabs_with_one_cart_are_one_order(ada: Visitor) -> None:
    tabs = [ada.open("/cart/7/"), ada.open("/cart/7/")]
    assert tabs[0].key == tabs[1].key
    assert len({ada.send(tab, item="vm").where for tab in tabs}) == 1
    assert ordered() == ["vm"]
    assert ada.send(ada.open("/cart/8/"), item="vm").status == 302
    assert ordered() == ["vm", "vm"]


def test_another_visitor_s_key_is_another_operation(ada: Visitor) -> None:
    """I5, I10: whoever knows a key learns and blocks nothing."""
    grace = Visitor()
    page, other = ada.open("/cart/7/"), grace.open("/cart/7/")
    first = ada.send(page, item="vm")
    assert page.key == other.key
    assert grace.send(other, item="vm").where != first.where
    assert ordered() == ["vm", "vm"]


@pytest.mark.parametrize("view", checkout.VIEWS)
def test_each_visit_is_a_new_order(view: str, ada: Visitor) -> None:
    """Also the second one, which has a session already, in an async view, too."""
    for _ in range(2):
        assert ada.send(ada.open(f"/{view}/"), item="vm").status == 302
    assert ordered() == ["vm", "vm"]


def test_a_login_in_the_middle_keeps_the_key(ada: Visitor) -> None:
    page = ada.open("/function/")
    first = ada.send(page, item="vm")
    ada.client.force_login(User.objects.create_user("ada"))
    ada.client.cookies["csrftoken"] = ada.client.cookies["csrftoken"].value
    assert ada.send(page, item="vm").where == first.where
    assert ordered() == ["vm"]


def test_after_a_logout_nobody_gets_what_was_stored(ada: Visitor) -> None:
    """I5. The visitor decides once more."""
    page = ada.open("/function/")
    ada.send(page, item="vm")
    ada.client.cookies.pop("sessionid")
    other = ada.send(page, item="vm")
    assert (other.status, ordered()) == (403, ["vm"])
    assert ada.send(other).status == 302
    assert ordered() == ["vm", "vm"]


def test_a_new_csrf_token_is_no_other_form(ada: Visitor) -> None:
    page = ada.open("/function/")
    first = ada.send(page, item="vm")
    [token] = [value for name, value in ada.open("/function/").fields if name.startswith("csrf")]
    assert ("csrfmiddlewaretoken", token) not in page.fields
    assert ada.send(page, item="vm", csrfmiddlewaretoken=token).where == first.where


@everywhere
@pytest.mark.parametrize("view", ["function", "mixin"])
def test_a_lost_answer_loses_neither_session_nor_message(view: str, ada: Visitor) -> None:
    """The browser sends the form again by itself, without the cookies of the answer."""
    page = ada.open(f"/{view}/")
    before = {name: each.value for name, each in ada.client.cookies.items()}
    ada.send(page, item="vm")
    ada.client.cookies.clear()
    ada.client.cookies.load(before)
    again = ada.send(page, item="vm")
    assert ada.open(again.where).html.count("Thanks for vm") == 1
    assert "Thanks" not in ada.open(again.where).html
    assert ada.client.session["bought"] == ordered() == ["vm"]


def test_files_count(ada: Visitor) -> None:
    page = ada.open("/function/")
    sent = [
        ada.send(page, item="vm", file=SimpleUploadedFile("a.txt", content)).status
        for content in (b"one", b"one", b"two")
    ]
    assert (sent, ordered()) == ([302, 302, 422], ["vm"])


def test_an_update_and_a_deletion(ada: Visitor) -> None:
    order = Order.objects.create(item="vm")
    page = ada.open(f"/change/{order.pk}/")
    assert [ada.send(page, item="disk").status for _ in range(2)] == [302, 302]
    page = ada.open(f"/cancel/{order.pk}/")
    assert [ada.send(page).where for _ in range(2)] == ["/orders/"] * 2
    assert ordered() == []


@row_locks
def test_a_double_click_waits_and_gets_the_first_answer(ada: Visitor, monkeypatch: Any) -> None:
    page = ada.open("/function/")
    rivals = []

    def click_again() -> None:
        monkeypatch.setattr(checkout, "after_write", checkout.nothing)
        rivals.append(in_thread(lambda: ada.send(page, item="vm")))
        until_somebody_waits()

    monkeypatch.setattr(checkout, "after_write", click_again)
    first = ada.send(page, item="vm")
    second = rivals[0].result()
    assert (second.status, second.where) == (302, first.where)
    assert ordered() == ["vm"]


def test_a_script_may_send_the_key_as_a_header(ada: Visitor) -> None:
    """Without the field. A header that a browser adds by itself does not compete with that."""
    page = ada.open("/function/")
    token = dict(page.fields)["csrfmiddlewaretoken"]
    form = {"csrfmiddlewaretoken": token, "item": "vm"}
    for field in ({}, {"idempotency_key": ""}):
        sent = ada.client.post("/function/", form | field, headers={"idempotency-key": '"k"'})
        assert (sent.status_code, ordered()) == (302, ["vm"])
    for key in ("a", "b"):
        ada.client.post("/function/", form | dict(page.fields), headers={"idempotency-key": key})
    assert ordered() == ["vm", "vm"]


def test_settings_for_the_clients_of_an_api_do_not_apply(ada: Visitor, settings: Any) -> None:
    settings.IDEMPOTENCY = {
        "ANONYMOUS": "share",
        "ERRORS": "drf",
        "FINGERPRINT": "none",
        "HEADER": "X-Key",
        "KEY_FORMAT": "uuid",
        "KEY_PATTERN": "[a-z]+",
        "METHODS": ["DELETE"],
        "NOT_STORED": [],
        "RECHECK": "authentication",
        "SCOPE": "token",
    }
    page = ada.open("/function/")
    assert ada.send(page, item="refuse").status == 400
    assert [ada.send(page, item="vm").status for _ in range(2)] == [302, 302]
    assert ada.send(page, item="disk").status == 422
    ada.client.cookies.pop("sessionid")
    assert ada.send(page, item="vm").status == 403
    assert ordered() == ["vm"]


def test_a_duplicate_costs_one_statement_and_the_page_about_other_content_one_more(
    ada: Visitor,
) -> None:
    page = ada.open("/function/")
    ada.send(page, item="vm")
    for item, expected in (("vm", 1), ("disk", 2)):
        with CaptureQueriesContext(connection) as queries:
            ada.send(page, item=item)
        about_records = [
            each for each in queries if IdempotencyRecord._meta.db_table in each["sql"]
        ]
        assert len(about_records) == expected


@pytest.mark.once
def test_the_checks_have_nothing_to_say_of_it() -> None:
    assert ids() == []


@pytest.mark.once
@each_view
def test_the_contract_says_where_the_key_is(view: str) -> None:
    protection = protection_of(resolve(f"/{view}/").func, "POST", f"/{view}/")
    assert protection.coverage is Coverage.GUARDED
    assert protection.policy is not None
    said = dict(terms(protection.policy))
    assert said["Key"].startswith("the form's hidden field `idempotency_key`, or else")
    assert "known by a session" in said["Keys belong to"]
