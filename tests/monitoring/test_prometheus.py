"""Outcomes as Prometheus scrapes them."""

import re
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path, re_path, resolve
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from prometheus_client import start_http_server

from django_idempotency.contract.endpoints import endpoints
from django_idempotency.contrib import series
from django_idempotency.contrib.figures import figures
from django_idempotency.decorators import idempotent
from django_idempotency.operations import idempotent_function
from django_idempotency.signals import Outcome
from tests.conftest import Caller, row_locks
from tests.support.apps import install
from tests.support.story import CODES, PATH, STORY, VIEW, tell_the_story


@csrf_exempt
@idempotent
@require_POST
def first(request: HttpRequest, shop: int) -> HttpResponse:
    return HttpResponse(status=201)


@idempotent_function(scope="tests", key=lambda number: f"k-{number}")
def count(number: int) -> int:
    return number


VIEWS = [path("first/", first, name="first"), re_path("^old/$", first)]
urlpatterns = [path("called/<int:shop>/", include((VIEWS, "called")))]
# Counters of this process do not go back to 0, so a test has views of its own.
NEW = (path("new/<int:shop>/", include((VIEWS, "new"))),)


@pytest.fixture(autouse=True)
def installed(settings: Any) -> Iterator[None]:
    yield from install(settings, "django_idempotency.contrib.prometheus")


@pytest.fixture
def port() -> Iterator[int]:
    server, thread = start_http_server(0, "127.0.0.1")
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join(30)


def scrape(port: int) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    return page


def counts(page: str, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Return a counter by its labels."""
    found = re.findall(rf"^django_idempotency_{name}_total{{(.*)}} (.*)$", page, re.MULTILINE)
    given = [dict(re.findall(r'(\w+)="([^"]*)"', text)) for text, _ in found]
    assert all(set(each) == set(labels) for each in given)
    return {
        tuple(each[name] for name in labels): float(count)
        for each, (_, count) in zip(given, found, strict=True)
    }


def requests(page: str) -> dict[tuple[str, ...], float]:
    return counts(page, "requests", "outcome", "method", "view")


def errors(page: str) -> dict[tuple[str, ...], float]:
    return counts(page, "error_answers", "code", "view")


def test_the_story_has_every_outcome() -> None:
    assert set(STORY) == set(Outcome)


@row_locks
def test_a_scrape_shows_each_outcome(
    port: int, caller: Caller, settings: Any, monkeypatch: Any
) -> None:
    before = scrape(port)
    tell_the_story(caller, settings, monkeypatch)
    after = scrape(port)
    assert risen(requests(before), requests(after)) == {
        (str(outcome), "POST", VIEW): 1.0 for outcome in STORY
    }
    assert risen(errors(before), errors(after)) == {(code, VIEW): 1.0 for code in CODES}


def risen(
    before: dict[tuple[str, ...], float], after: dict[tuple[str, ...], float]
) -> dict[tuple[str, ...], float]:
    """Return by how much series have risen that were there before: what rate() and increase() see.

    One that comes with its first event has risen by nothing.
    """
    return {
        labels: after[labels] - count for labels, count in before.items() if after[labels] != count
    }


class TestFirstEvents:
    """Series begin at 0, before anything has happened (decision 0103)."""

    def test_the_first_scrape_shows_what_has_not_happened_yet(
        self, port: int, settings: Any
    ) -> None:
        settings.ROOT_URLCONF = NEW
        page = scrape(port)
        here = {key: count for key, count in requests(page).items() if key[2] == "new:first"}
        # The view takes only POST.
        assert here == {(str(outcome), "POST", "new:first"): 0.0 for outcome in Outcome}
        codes = {code for (code, view), count in errors(page).items() if view == "new:first"}
        assert {*CODES, "idempotency_store_busy"} <= codes
        assert "idempotency_key_missing" not in codes, "the policy asks for no key"

    def test_an_event_is_counted_where_its_zero_was(
        self, port: int, settings: Any, caller: Caller
    ) -> None:
        settings.ROOT_URLCONF = __name__
        before = scrape(port)
        assert caller.post("/called/7/first/").status_code == 201
        after = scrape(port)
        assert risen(requests(before), requests(after)) == {
            ("executed", "POST", "called:first"): 1.0
        }
        assert set(requests(after)) == set(requests(before))

    def test_functions_that_are_declared_begin_at_zero(self, port: int, caller: Caller) -> None:
        """Those that run once, of whom the URLconf knows nothing (I20)."""
        before = scrape(port)
        assert count(1) == count(1) == 1
        name = f"{__name__}.count"
        assert risen(requests(before), requests(scrape(port))) == {
            ("executed", "RUN", name): 1.0,
            ("replayed", "RUN", name): 1.0,
        }

    def test_a_key_that_nothing_looks_up_is_counted(
        self, port: int, settings: Any, caller: Caller
    ) -> None:
        """Nothing is silent (I18)."""
        settings.ROOT_URLCONF = __name__
        before = scrape(port)
        Client().post("/called/7/first/", headers={"idempotency-key": "k-1"})
        after = scrape(port)
        assert risen(
            counts(before, "unprotected_requests", "view"),
            counts(after, "unprotected_requests", "view"),
        ) == {("called:first",): 1.0}

    @pytest.mark.once
    @pytest.mark.parametrize("urlconf", ["tests.shop.urls", __name__])
    def test_views_have_the_names_that_requests_give_them(
        self, settings: Any, urlconf: str
    ) -> None:
        settings.ROOT_URLCONF = urlconf
        known = endpoints()
        assert known
        for endpoint in known:
            match = resolve(endpoint.example)
            if match.func is endpoint.callback:  # else another route comes first
                assert (endpoint.name, endpoint.route) == (match.view_name, match.route)

    def test_the_first_request_of_a_process_lets_them_exist(
        self, settings: Any, caller: Caller
    ) -> None:
        """In multiprocess mode nobody collects from the registry of a worker."""
        settings.ROOT_URLCONF = "tests.shop.urls"
        called = []
        series.before_first_request(lambda: called.append("prepared"))
        caller.get("/decorated-rest/")
        caller.get("/decorated-rest/")
        assert called == ["prepared"]

    def test_an_error_meanwhile_is_logged_and_harms_no_request(
        self, caller: Caller, caplog: Any
    ) -> None:
        series.before_first_request(lambda: 1 / 0)
        assert caller.post(PATH).status_code == 201
        assert "do not begin at 0" in caplog.text


def test_a_scrape_has_the_figures(port: int, caller: Caller) -> None:
    figures.forget()
    page = scrape(port)
    assert 'django_idempotency_collector_up{collector="records",database="default"} 1.0' in page
    assert 'django_idempotency_expired_records{database="default"} 0.0' in page
    assert 'django_idempotency_effects{database="default",state="failed"} 0.0' in page


def test_what_the_guard_adds_is_a_histogram(port: int, caller: Caller) -> None:
    """Without the view, whose time is that of the project."""
    before = bucket(scrape(port), "1.0")
    assert caller.post(PATH).status_code == 201
    page = scrape(port)
    assert bucket(page, "1.0") == before + 1
    assert 'guard_duration_seconds_bucket{le="0.0001",outcome="failed_open"}' in page


def bucket(page: str, le: str) -> float:
    """Return how many first requests took so long at most."""
    line = rf'guard_duration_seconds_bucket{{le="{le}",outcome="executed"}} (.*)'
    return float(re.findall(line, page)[0])


def test_labels_are_bounded(port: int, caller: Caller) -> None:
    """Whatever keys, paths and query strings come: no new time series."""
    before = scrape(port)
    for number in range(5):
        caller.post(f"{PATH}?page={number}", key=f"key-{number}")
    page = scrape(port)
    assert set(requests(page)) == set(requests(before))
    assert set(errors(page)) == set(errors(before))
    assert "key-" not in page
    assert "page=" not in page
