"""The keys of forms, and the tag that writes them."""

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.template import Context, RequestContext, Template
from django.test import Client, RequestFactory
from django.urls import path
from django.views.decorators.cache import cache_page

from django_idempotency.forms import idempotency_key_input
from django_idempotency.http.session import SCOPE_ID
from tests.shop.models import Order
from tests.support import checkout
from tests.support.visitors import Page, Visitor

pytestmark = pytest.mark.once


@pytest.fixture
def request_() -> HttpRequest:
    made = RequestFactory().get("/")
    made.session = SessionStore()  # type: ignore[attr-defined]
    return made


def written(tag: str, request: Any, **context: Any) -> str:
    template = Template("{% load idempotency %}{% " + tag + " %}")
    return template.render(Context({"request": request, **context}))


def key_in(html: str) -> str:
    assert html.startswith('<input type="hidden" name="idempotency_key" value="')
    return html.split('value="')[1].split('"')[0]


def test_each_page_has_a_key_of_its_own(request_: HttpRequest) -> None:
    keys = {key_in(written("idempotency_key", request_)) for _ in range(20)}
    assert len(keys) == 20
    assert min(map(len, keys)) > 20


def test_the_page_makes_the_scope_that_the_form_needs(request_: Any) -> None:
    written("idempotency_key", request_)
    made = request_.session[SCOPE_ID]
    written("idempotency_key", request_)
    assert request_.session[SCOPE_ID] == made


def test_firefox_keeps_no_key_of_the_page_before(request_: HttpRequest) -> None:
    assert ' autocomplete="off">' in written("idempotency_key", request_)


@pytest.mark.parametrize("thing", [7, "7", "x" * 5000, uuid4(), "Ünï\0code", Order(pk=7)])
def test_one_thing_has_one_key(thing: Any, request_: HttpRequest) -> None:
    """In all pages and processes; without the secret nobody can compute it."""
    first, again = (written("idempotency_key for=thing", request_, thing=thing) for _ in range(2))
    assert key_in(first) == key_in(again)
    assert len(key_in(first)) < 60


def test_what_is_done_counts_too(request_: HttpRequest, settings: Any) -> None:
    tags = [
        "idempotency_key for=7",
        "idempotency_key for=8",
        'idempotency_key for=7 name="pay"',
        'idempotency_key for=7 name="ship"',
        "idempotency_key for=7 version=1",
        "idempotency_key for=7 version=2",
        "idempotency_key for=7 other=1",
    ]
    keys = [key_in(written(tag, request_)) for tag in tags]
    assert len(set(keys)) == len(tags)
    settings.IDEMPOTENCY = {"SECRET": "another secret of this project"}
    assert key_in(written(tags[0], request_)) not in keys


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (None, "empty text"),
        ("", "empty text"),
        (True, "is True"),
        (1.5, "an instance of builtins.float"),
        (object(), "an instance of builtins.object"),
        (Order(), "an instance of tests.shop.models.Order"),
    ],
)
def test_what_has_no_stable_text_is_refused(thing: Any, said: str, request_: HttpRequest) -> None:
    """I16. All forms for it could have one key, or each another one."""
    with pytest.raises(ImproperlyConfigured, match=said):
        written("idempotency_key for=thing", request_, thing=thing)


def test_a_variable_that_is_misspelled_is_refused(request_: HttpRequest) -> None:
    with pytest.raises(ImproperlyConfigured, match="a variable that the template does not know"):
        written("idempotency_key for=crat.pk", request_)


@pytest.mark.parametrize("tag", ["idempotency_key fro=7", 'idempotency_key nmae="a"'])
def test_a_word_that_is_misspelled_is_refused(tag: str, request_: HttpRequest) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"does not know (fro|nmae)"):
        written(tag, request_)


@pytest.mark.parametrize("name", ["a b", 'x">', "~", "=", "ä", "x" * 51, 7])
def test_a_name_is_plain(name: Any, request_: HttpRequest) -> None:
    with pytest.raises(ImproperlyConfigured, match="letters, digits"):
        idempotency_key_input(request_, name=name)


def test_without_the_request_the_tag_says_what_to_do() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"context_processors\.request"):
        written("idempotency_key", None)


def test_without_sessions_the_tag_says_what_to_do() -> None:
    with pytest.raises(ImproperlyConfigured, match="SessionMiddleware"):
        written("idempotency_key", RequestFactory().get("/"))


def test_other_template_languages_call_a_function(request_: HttpRequest) -> None:
    assert idempotency_key_input(request_, 7) == written("idempotency_key for=7", request_)
    named = idempotency_key_input(request_, Order(pk=7), name="pay")
    tag = 'idempotency_key for=order name="pay"'
    assert named == written(tag, request_, order=Order(pk=7))


# --- Several forms on a page, and pages that are kept ---

SEVERAL = Template(
    "{% load idempotency %}<form method=post>{% csrf_token %}"
    '{% idempotency_key name="order" %}{% idempotency_key name="letter" %}'
    "{% idempotency_key %}{% idempotency_key for=7 %}{% idempotency_key fresh=True %}</form>"
)


def shown(request: Any) -> HttpResponse:
    return HttpResponse(SEVERAL.render(RequestContext(request)))


@checkout.idempotent_form
def several(request: Any) -> HttpResponse:
    return (
        request.idempotency.not_done(shown(request)) if request.method == "POST" else shown(request)
    )


urlpatterns = [path("several/", several), path("kept/", cache_page(600)(shown))]


@pytest.fixture
def ada(settings: Any) -> Visitor:
    settings.ROOT_URLCONF = __name__
    return Visitor()


@pytest.mark.django_db(transaction=True)
def test_a_page_that_is_shown_again_keeps_the_key_of_the_form_that_was_sent(ada: Visitor) -> None:
    """Other forms on it are other operations."""
    page = ada.open("/several/")
    for place in range(4):
        sent = [each for each in page.fields if each[1] not in page.keys]
        form = {**dict(sent), "idempotency_key": page.keys[place]}
        again = Page(ada.client.post("/several/", form))
        expected = {place, 3}  # what a thing's key is does not change
        assert {at for at in range(5) if again.keys[at] == page.keys[at]} == expected


@pytest.mark.django_db(transaction=True)
def test_a_page_with_a_key_is_not_kept_by_the_cache(ada: Visitor) -> None:
    """One key for several orders would make one of them."""
    first, second = ada.open("/kept/"), ada.open("/kept/")
    assert set(first.keys[:3]).isdisjoint(second.keys)
    assert "max-age" not in first.response.get("Cache-Control", "")
    assert "Cookie" in first.response["Vary"]


@pytest.mark.django_db(transaction=True)
def test_a_page_without_a_key_is_still_kept(settings: Any) -> None:
    """So the test above shows something."""
    seen = []

    @cache_page(600)
    def bare(request: Any) -> HttpResponse:
        seen.append(request)
        return HttpResponse()

    settings.ROOT_URLCONF = type("Urls", (), {"urlpatterns": [path("bare/", bare)]})
    for _ in range(2):
        Client().get("/bare/")
    assert len(seen) == 1
