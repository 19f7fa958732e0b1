"""What a visitor sees instead of an answer: a page that says what happened and what to do."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models import F
from django.http import HttpResponse, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.translation import override
from django.views.decorators.debug import sensitive_post_parameters

from django_idempotency.forms import idempotency_key_input, idempotent_form
from django_idempotency.forms.pages import WORDS
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.problems import ERRORS, Code
from tests.conftest import in_thread, row_locks
from tests.shop.models import Order
from tests.support import checkout
from tests.support.outage import no_table
from tests.support.visitors import Page, Visitor

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "forms/checkout.html"


def page(request: Any) -> HttpResponse:
    return render(request, PAGE, {"form": checkout.OrderForm()})


def nothing(request: Any) -> None:
    """Happens in the view after its write, unless a test says otherwise."""


during: Callable[[Any], Any] = nothing


def thanks(request: Any) -> HttpResponse:
    return HttpResponseRedirect("/thanks/?a=1&b=<2>")


def form(answer: Callable[[Any], HttpResponse] = thanks, **options: Any) -> Any:
    @idempotent_form(**options)
    def view(request: Any) -> HttpResponse:
        if request.method != "POST":
            return page(request)
        Order.objects.create(item=request.POST.get("item", "nothing"))
        during(request)
        return answer(request)

    return view


@idempotent_form
def for_a_cart(request: Any) -> HttpResponse:
    if request.method != "POST":
        token = f'<input type="hidden" name="csrfmiddlewaretoken" value="{get_token(request)}">'
        key = idempotency_key_input(request, 7)
        return HttpResponse(f'<form method="post">{token}{key}</form>')
    Order.objects.create(item=request.POST["item"])
    return thanks(request)


def thanks_beside_a_search(request: Any) -> HttpResponse:
    search = checkout.OrderForm(request.GET)
    assert not search.is_valid()
    return TemplateResponse(request, PAGE, {"form": search})


def at(url: str) -> Callable[[Any], HttpResponse]:
    def answer(request: Any) -> HttpResponse:
        return HttpResponse(status=303, headers={"Location": url})

    return answer


urlpatterns = [
    path("form/", form()),
    path("/evil.example/form/", form()),
    path("cart/", for_a_cart),
    path("at-once/", form(in_flight="conflict")),
    path("shows-a-page/", form(page)),
    path("searches/", form(thanks_beside_a_search)),
    path("says-thanks/", form(lambda request: HttpResponse("Thanks"))),
    path("elsewhere/", form(at("https://pay.example/1?a=1&b=2"))),
    path("script/", form(at(" javascript:alert(1)"))),
    path("quoted/", form(at("/a\"><b>'"))),
    path("encrypted/", form(codec="fernet")),
    path("small/", form(max_request_size=300)),
    path("limited/", form(new_keys_per_hour=1)),
    path("expiring/", form(tombstone=timedelta(days=1))),
    path("outside/", form(atomic=False)),
    path("secret/", sensitive_post_parameters("nickname")(form())),
    path("secrets/", sensitive_post_parameters()(form())),
]


@pytest.fixture(autouse=True)
def _site(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def ada() -> Visitor:
    return Visitor()


@pytest.fixture
def meanwhile(monkeypatch: Any) -> Callable[[Callable[[Any], Any]], None]:
    """Let something happen in the next view, once."""

    def install(act: Callable[[Any], Any]) -> None:
        def once(request: Any) -> Any:
            monkeypatch.setattr(f"{__name__}.during", nothing)
            return act(request)

        monkeypatch.setattr(f"{__name__}.during", once)

    return install


def fail(request: Any) -> None:
    raise RuntimeError


def ordered() -> list[str]:
    return list(Order.objects.order_by("pk").values_list("item", flat=True))


def sound(page: Page) -> None:
    """What holds of each of these pages."""
    assert page.response["Content-Type"] == "text/html; charset=utf-8"
    assert page.response["Cache-Control"] == "no-store"
    assert "idempotency_" not in page.text
    assert page.html.count("<h1>") == page.html.count("<main>") == 1
    assert re.search('<html lang="en(-us)?" dir="ltr">', page.html)
    assert not re.search(r"<script|<style| style=| on\w+=", page.html)
    assert 'href="/static/django_idempotency/forms.css"' in page.html


def without(page: Page, *names: str) -> Page:
    page.fields = [each for each in page.fields if each[0] not in names]
    return page


def test_each_error_has_words() -> None:
    assert WORDS.keys() == ERRORS.keys() == set(Code)


@pytest.mark.parametrize("key", [None, "", "ключ", "a" * 256, "a\0b", " a"])
def test_without_a_key_nothing_is_carried_out(key: str | None, ada: Visitor) -> None:
    """The page is too old, or its form lacks the tag."""
    form = without(ada.open("/form/"), "idempotency_key")
    asked = ada.send(form, item="vm", **({} if key is None else {"idempotency_key": key}))
    sound(asked)
    assert (asked.status, ordered()) == (400, [])
    assert ada.send(asked).where.startswith("/thanks/")
    ada.send(asked)
    assert ordered() == ["vm"]


def test_developers_are_told_to_put_the_tag_into_the_form(ada: Visitor, settings: Any) -> None:
    form = without(ada.open("/form/"), "idempotency_key")
    tag = "{% load idempotency %}{% idempotency_key %}"
    assert tag not in ada.send(form, item="vm").text
    settings.DEBUG = True
    assert tag in ada.send(form, item="vm").text


def test_other_content_leads_to_the_first_answer_or_to_a_new_operation(ada: Visitor) -> None:
    form = ada.open("/form/")
    ada.send(form, item="vm")
    asked = ada.send(form, item="disk")
    sound(asked)
    assert (asked.status, asked.links[0]) == (422, "/thanks/?a=1&b=%3C2%3E")
    assert "not finished" not in asked.text
    ada.send(asked)
    assert ada.send(form, item="vm").status == 302
    assert ordered() == ["vm", "disk"]


def test_a_thing_with_other_content_is_not_offered_as_a_new_operation(ada: Visitor) -> None:
    """``for=``: a second order of the same cart is a mistake, and no button makes one."""
    form = ada.open("/cart/")
    ada.send(form, item="vm")
    asked = ada.send(form, item="disk")
    assert (asked.status, asked.links[0]) == (422, "/thanks/?a=1&b=%3C2%3E")
    assert "only once" in asked.text
    assert "<button" not in asked.html
    assert "more than this page can take up" not in asked.text
    assert ordered() == ["vm"]


@pytest.mark.parametrize(
    ("view", "links"),
    [
        ("elsewhere", ["https://pay.example/1?a=1&b=2"]),
        ("encrypted", ["/thanks/?a=1&b=%3C2%3E"]),
        ("quoted", ["/a\"><b>'"]),
        ("script", []),
        ("says-thanks", []),
    ],
)
def test_it_links_where_the_first_answer_went(
    view: str, links: list[str], ada: Visitor, settings: Any
) -> None:
    settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": ["A" * 43 + "="]}
    form = ada.open(f"/{view}/")
    ada.send(form, item="vm")
    asked = ada.send(form, item="disk")
    sound(asked)
    assert asked.links == [*links, f"http://testserver/{view}/"]


def test_it_says_so_while_the_first_is_not_finished(
    ada: Visitor, meanwhile: Callable[[Callable[[Any], Any]], None]
) -> None:
    form = ada.open("/form/")
    meanwhile(fail)
    assert ada.send(form, item="vm").status == 500
    asked = ada.send(form, item="disk")
    assert (asked.status, "not finished" in asked.text) == (422, True)


def test_developers_are_told_that_an_invalid_form_is_not_done(ada: Visitor, settings: Any) -> None:
    """A page with a form is not kept, because of its CSRF token."""
    form = ada.open("/shows-a-page/")
    ada.send(form, item="vm")
    assert "not_done" not in ada.send(form, item="disk").text
    settings.DEBUG = True
    assert "not_done" in ada.send(form, item="disk").text


def test_a_search_with_errors_does_not_free_the_key(ada: Visitor) -> None:
    """I1. It was not sent by the form."""
    form = ada.open("/searches/")
    assert [ada.send(form, item="vm").status for _ in range(2)] == [200, 409]
    assert ordered() == ["vm"]


def test_a_page_that_is_not_kept_is_not_made_again(ada: Visitor) -> None:
    form = ada.open("/shows-a-page/")
    ada.send(form, item="vm")
    asked = ada.send(form, item="vm")
    sound(asked)
    assert (asked.status, asked.action, ordered()) == (409, None, ["vm"])
    assert "status 200" in asked.text


@row_locks
def test_one_that_cannot_wait_asks_again_with_the_same_key(
    ada: Visitor, meanwhile: Callable[[Callable[[Any], Any]], None]
) -> None:
    form = ada.open("/at-once/")
    rivals = []
    meanwhile(lambda request: rivals.append(in_thread(lambda: ada.send(form, item="vm")).result()))
    ada.send(form, item="vm")
    [asked] = rivals
    sound(asked)
    assert (asked.status, asked.response["Retry-After"], asked.key) == (409, "3", form.key)
    assert ada.send(asked).where.startswith("/thanks/")
    assert ordered() == ["vm"]


def test_without_the_store_nothing_is_lost(ada: Visitor) -> None:
    form = ada.open("/form/")
    with no_table():
        asked = ada.send(form, item="vm")
    sound(asked)
    assert (asked.status, asked.response["Retry-After"], asked.key) == (503, "3", form.key)
    assert ada.send(asked).where.startswith("/thanks/")
    assert ordered() == ["vm"]


def test_a_session_that_has_ended_is_begun_anew(ada: Visitor) -> None:
    form = ada.open("/form/")
    ada.client.cookies.pop("sessionid")
    asked = ada.send(form, item="vm")
    sound(asked)
    assert (asked.status, ordered()) == (403, [])
    assert ada.send(asked).where.startswith("/thanks/")
    # A reload of the page, or the second click of a double click.
    assert ada.send(form, item="vm").where.startswith("/thanks/")
    assert ordered() == ["vm"]


def test_a_form_that_is_too_large_is_not_taken_up(ada: Visitor) -> None:
    asked = ada.send(ada.open("/small/"), item="vm" * 300)
    sound(asked)
    assert (asked.status, asked.action, ordered()) == (413, None, [])


def test_too_many_forms(ada: Visitor, settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    ada.send(ada.open("/limited/"), item="vm")
    form = ada.open("/limited/")
    asked = ada.send(form, item="disk")
    sound(asked)
    assert (asked.status, asked.key, ordered()) == (429, form.key, ["vm"])
    assert int(asked.response["Retry-After"]) > 3


def test_an_old_form_is_a_new_operation_only_if_the_visitor_wants(ada: Visitor) -> None:
    form = ada.open("/expiring/")
    ada.send(form, item="vm")
    IdempotencyRecord.objects.update(expires_at=F("expires_at") - timedelta(hours=25))
    asked = ada.send(form, item="vm")
    sound(asked)
    assert (asked.status, ordered()) == (410, ["vm"])
    ada.send(asked)
    assert ordered() == ["vm", "vm"]


def test_an_unknown_outcome_is_asked_for_with_the_same_key(
    ada: Visitor, meanwhile: Callable[[Callable[[Any], Any]], None]
) -> None:
    form = ada.open("/outside/")
    meanwhile(fail)
    ada.send(form, item="vm")
    asked = ada.send(form, item="vm")
    sound(asked)
    assert (asked.status, asked.key, asked.response["Retry-After"]) == (409, form.key, "60")
    IdempotencyRecord.objects.update(state="completed")


# --- What is sent once more ---

HOSTILE = {
    "quotes": "\"'><script>alert(1)</script>",
    "lines": "a\r\nb\r\n",
    '"><b>': "{{ request }} {% load idempotency %} &lt;",
    "letters": "Ünïcödé \u202e \U0001f600",
    "empty": "",
}


def resent(ada: Visitor, url: str, **typed: Any) -> Page:
    """Send other content with a key that was used, and return the page that says so."""
    form = ada.open(url)
    ada.send(form, item="vm")
    return ada.send(form, **({"item": "disk"} | typed))


def test_what_was_typed_is_sent_once_more_as_it_was(ada: Visitor, monkeypatch: Any) -> None:
    several = HOSTILE | {"several": ["a", "b", "a"]}
    asked = resent(ada, "/form/", **several)
    sound(asked)
    assert "<b>" not in asked.html
    seen = []
    monkeypatch.setattr(f"{__name__}.during", lambda request: seen.append(request.POST))
    assert ada.send(asked).status == 302
    [sent] = seen
    assert {name: sent[name] for name in HOSTILE} == HOSTILE
    assert sent.getlist("several") == ["a", "b", "a"]


def test_the_query_string_stays(ada: Visitor) -> None:
    assert resent(ada, "/form/?next=%22%3E/a&b=1").action == "/form/?next=%22%3E/a&b=1"


def test_it_is_sent_to_this_site(ada: Visitor) -> None:
    """I5. ``//evil.example/`` is a path in a request, and another site in a page."""
    fields = dict(without(ada.open("/form/"), "idempotency_key").fields)
    path = "//evil.example/form/"
    asked = Page(ada.client.post("/form/", fields | {"item": "vm"}, PATH_INFO=path))
    assert (asked.status, asked.action) == (400, "/%2Fevil.example/form/")
    asked.response = ada.client.post("/form/", dict(asked.fields), PATH_INFO=path)
    assert (asked.response.status_code, ordered()) == (302, ["vm"])


def test_half_a_character_is_no_error_of_the_server(ada: Visitor) -> None:
    """Some encodings bring in what no page can hold."""
    form = ada.open("/form/")
    ada.send(form, item="vm")
    fields = [*form.fields, ("item", "\\ud800")]
    head = 'Content-Disposition: form-data; name="'
    parts = [f'--edge\r\n{head}{name}"\r\n\r\n{value}\r\n' for name, value in fields]
    kind = "multipart/form-data; boundary=edge; charset=unicode_escape"
    body = "".join([*parts, "--edge--\r\n"])
    asked = Page(ada.client.generic("POST", "/form/", body, content_type=kind))
    sound(asked)
    assert (asked.status, asked.action) == (422, None)


def test_files_and_secrets_are_asked_for(ada: Visitor) -> None:
    """A page cannot send a file, and must not show a password."""
    typed = {
        "password1": "hunter2",
        "card_number": "4111 1111",
        "form-0-pin": "1234",
        "user_pwd": "hunter2",
        "CreditCardNo": "4111 1111",
        "cc-num": "4111 1111",
        "securityCode": "1234",
        "nickname": "ace",
        "passport": "Utopia",
        "spinning": "fast",
        "shipping": "Main St",
        "file": SimpleUploadedFile("a.txt", b"text"),
        "many": [SimpleUploadedFile("b.txt", b"1"), SimpleUploadedFile("c.txt", b"2")],
    }
    asked = resent(ada, "/secret/", **typed)
    sound(asked)
    assert not re.search("hunter2|4111|1234|ace", asked.html.replace("replace", ""))
    names = ["password1", "card_number", "form-0-pin", "user_pwd", "CreditCardNo", "cc-num"]
    secrets = dict.fromkeys([*names, "securityCode", "nickname"], "password")
    assert asked.typed == secrets | {"file": "file", "many": "file"}
    for shown in (("shipping", "Main St"), ("passport", "Utopia"), ("spinning", "fast")):
        assert shown in asked.fields
    assert 'enctype="multipart/form-data"' in asked.html
    assert asked.html.count(" multiple") == 1


@pytest.mark.parametrize(
    ("url", "typed"),
    [("/secrets/", {}), ("/form/", {"text": "a" * 300_000})],
    ids=["all is confidential", "large"],
)
def test_what_a_page_cannot_take_up_is_filled_in_anew(
    url: str, typed: dict[str, str], ada: Visitor
) -> None:
    asked = resent(ada, url, **typed)
    sound(asked)
    assert (asked.status, asked.action) == (422, None)
    assert len(asked.html) < 5000
    assert f"http://testserver{url}" in asked.links


def test_ten_thousand_fields(ada: Visitor, settings: Any) -> None:
    """Django refuses them, unless the project wants more; then they are not taken up."""
    many = {f"field-{number}": "a" for number in range(10_000)}
    form = ada.open("/form/")
    assert ada.send(form, item="vm", **many).status == 400
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = None
    assert ada.send(form, item="vm").status == 302
    asked = ada.send(form, item="vm", **many)
    assert (asked.status, asked.action) == (422, None)


def test_nul_is_a_different_text_and_no_error_of_the_server(ada: Visitor) -> None:
    asked = resent(ada, "/form/", text="a\0b", idempotency_note="\0")
    assert asked.status == 422


@pytest.mark.parametrize(
    "referrer", ["https://evil.example/", "javascript:alert(1)", "//evil.example/", "http://[", ""]
)
def test_it_links_to_pages_of_this_site_only(referrer: str, ada: Visitor) -> None:
    form = without(ada.open("/form/"), "idempotency_key")
    asked = Page(ada.client.post("/form/", dict(form.fields), headers={"referer": referrer}))
    assert (asked.status, asked.links) == (400, [])


def test_without_static_files_the_page_is_shown(ada: Visitor, settings: Any) -> None:
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}
    }
    asked = ada.send(without(ada.open("/form/"), "idempotency_key"), item="vm")
    assert (asked.status, "stylesheet" in asked.html) == (400, False)


def test_a_project_has_pages_of_its_own(ada: Visitor, settings: Any) -> None:
    own = {
        "idempotency/mismatch.html": '{% extends "idempotency/base.html" %}'
        "{% block details %}<p>Mine: {{ first.url }}</p>{% endblock %}",
        "idempotency/base.html": "<main>{% block details %}{% endblock %}"
        '{% include "idempotency/send.html" %}</main>',
        "forms/checkout.html": "{% load idempotency %}<form>{% csrf_token %}{% idempotency_key %}",
    }
    engine = "django.template.backends.django.DjangoTemplates"
    loaders = [
        ("django.template.loaders.locmem.Loader", own),
        "django.template.loaders.app_directories.Loader",
    ]
    options = {
        "loaders": loaders,
        "context_processors": ["django.template.context_processors.request"],
    }
    settings.TEMPLATES = [{"BACKEND": engine, "OPTIONS": options}]
    asked = resent(ada, "/form/")
    assert "Mine: /thanks/" in asked.text
    assert ada.send(asked).status == 302


def test_pages_speak_the_visitor_s_language(ada: Visitor, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    form = without(ada.open("/form/"), "idempotency_key")
    with override("en-us"):  # afterwards
        answer = ada.client.post("/form/", dict(form.fields), headers={"accept-language": "ar"})
    asked = Page(answer)
    assert '<html lang="ar" dir="rtl">' in asked.html
