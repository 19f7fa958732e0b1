"""The admin's page of statistics: charts, and the same numbers as tables."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.support import statistics
from tests.support.admin import staff
from tests.support.counting import counted
from tests.support.statistics import batch, write

PAGE = "admin:django_idempotency_idempotencyrecord_statistics"


@pytest.fixture
def page(installed: None, transactional_db: None, admin_client: Client) -> Any:
    """Return a function that gets the page."""

    def get() -> str:
        response = admin_client.get(reverse(PAGE))
        assert response.status_code == 200
        return response.content.decode().partition('class="idempotency-page"')[2]

    return get


@pytest.fixture
def noon(monkeypatch: Any, table: None) -> int:
    """It is noon of a day in October; return the hour."""
    from django_idempotency.contrib.statistics import models

    hour = statistics.DAY + 12
    monkeypatch.setattr(models, "time", lambda: hour * 3600 + 10)
    return hour


class Tables(HTMLParser):
    """The tables of a page, as lists of lists of text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[list[list[str]]] = []
        self._cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "table":
            self.found.append([])
        elif tag == "tr" and self.found:
            self.found[-1].append([])
        elif tag in {"td", "th"}:
            self.found[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"}:
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.found[-1][-1][-1] += data


def test_the_list_links_to_it(page: Any, table: None, admin_client: Client) -> None:
    listed = admin_client.get(reverse("admin:django_idempotency_idempotencyrecord_changelist"))
    assert f'href="{reverse(PAGE)}"' in listed.content.decode()


def test_only_those_who_may_see_records_see_it(page: Any, table: None, client: Client) -> None:
    client.force_login(staff())
    assert client.get(reverse(PAGE)).status_code == 403


def test_before_anything_is_counted(page: Any, table: None) -> None:
    text = page()
    assert "Nothing has been counted yet" in text
    assert "idempotency-chart" not in text


def test_without_its_tables(page: Any) -> None:
    assert "run manage.py migrate" in page()


def test_hours_and_days(page: Any, noon: int, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Kolkata"  # half an hour off
    write(batch(noon, executed=5, mismatch=1), batch(noon - 23, replayed=2))
    write(batch(noon - 24, conflict=1000), batch(noon - 24 * 29, refused=7))
    write(batch(noon - 24 * 30, executed=9))  # nobody looks so far back
    text = page()
    hours, days, *_ = Tables(text).found
    assert hours[0] == ["time", "executed", "replayed", "mismatch"]
    assert len(hours) == 25
    assert (hours[1], hours[-1]) == (["18:30", "0", "2", "0"], ["17:30", "5", "0", "1"])
    assert days[0] == ["time", "executed", "replayed", "conflict", "mismatch", "refused"]
    assert len(days) == 31
    assert days[1] == ["5 Sep", "0", "0", "0", "0", "7"]
    assert days[-2:] == [["3 Oct", "0", "2", "1,000", "0", "0"], ["4 Oct", "5", "0", "0", "1", "0"]]
    assert "Hours in the time zone Asia/Kolkata, days in UTC. Counted since Sept. 4, 2024." in text
    assert "<title>17:30: executed 5, mismatch 1</title>" in text


def test_a_chart_says_in_words_what_it_shows(page: Any, noon: int) -> None:
    write(batch(noon, executed=5, mismatch=1))
    text = page()
    assert text.count('role="img"') == text.count("<desc") == 4
    assert "Requests with a key: 6. executed 5, mismatch 1." in text


def test_heights_are_in_proportion(page: Any, noon: int) -> None:
    write(batch(noon, executed=3, replayed=1))
    chart = page().partition('<svg class="idempotency-chart"')[2].partition("</svg>")[0]
    heights = re.findall(r'#idempotency-(\w+)\)".*? y="([0-9.]+)" height="([0-9.]+)"', chart)
    assert heights == [("executed", "53.00", "105.00"), ("replayed", "18.00", "35.00")]


def test_the_share_of_requests_with_a_key(page: Any, noon: int) -> None:
    write(batch(noon, executed=1, replayed=1, unprotected=1, without_key=9))
    text = page()
    assert "25% of the writes to guarded views had a key in the last 30 days: 3 with, 9 w" in text
    shares = next(each for each in Tables(text).found if "Percentage" in each[0][1])
    assert shares[-2:] == [["3 Oct", "-"], ["4 Oct", "25%"]]


def test_durations(page: Any, noon: int) -> None:
    from django_idempotency.contrib.statistics.figures import Batch, count, nothing

    found = Batch()
    here = found.hours[noon, "pay"] = nothing()
    for _ in range(94):
        count(here, "executed", 0.0008)
    for seconds in (0.004, 0.004, 0.004, 0.015, 0.015, 2.5):
        count(here, "executed", seconds)
    write(found)
    text = page().replace("\N{NO-BREAK SPACE}", " ")
    summary = next(each for each in Tables(text).found if each[0][0] == "duration")
    assert summary[1:] == [
        ["mean", "26 ms", "26 ms"],
        ["half of the requests", "≤ 1 ms", "≤ 1 ms"],
        ["95 %", "≤ 5 ms", "≤ 5 ms"],
        ["99 %", "≤ 20 ms", "≤ 20 ms"],
        ["longest", "2.5 s", "2.5 s"],
    ]


def test_numbers_are_in_the_readers_language_and_positions_are_not(
    page: Any, noon: int, settings: Any
) -> None:
    """A comma in the position of a bar would be none for a browser."""
    from django_idempotency.contrib.statistics.figures import count

    settings.LANGUAGE_CODE, settings.USE_THOUSAND_SEPARATOR = "de", True
    numbers = batch(noon, mismatch=0)
    for _ in range(1500):
        count(numbers.hours[noon, "pay"], "executed", 0.0015)
    write(numbers)
    text = page().replace("\N{NO-BREAK SPACE}", " ")
    assert ["mean", "1,5 ms", "1,5 ms"] in next(
        each for each in Tables(text).found if each[0][0] == "duration"
    )
    assert ": executed 1.500</title>" in text
    charts = "".join(re.findall(r'<svg class="idempotency-chart".*?</svg>', text, re.S))
    positions = re.findall(r' (?:x|y|x1|x2|y1|y2|width|height)="([^"]*)"', charts)
    assert positions
    assert [each for each in positions if not re.fullmatch(r"\d+(\.\d+)?%?", each)] == []


def test_the_views_with_most_conflicts_and_mismatches(page: Any, noon: int) -> None:
    for number in range(12):
        write(batch(noon, f"view-{number}", conflict=number, mismatch=1, executed=3))
    write(batch(noon, "", mismatch=50), batch(noon, "(other)", mismatch=49))
    write(batch(noon, "<script>alert(1)</script>", mismatch=48, without_key=48))
    text = page()
    views = next(each for each in Tables(text).found if each[0][0] == "view")
    assert views[1:5] == [
        ["no view", "0", "50", "100%"],
        ["other views", "0", "49", "100%"],
        ["<script>alert(1)</script>", "0", "48", "50%"],
        ["view-11", "11", "1", "100%"],
    ]
    assert len(views) == 11
    assert "<script>alert" not in text


def test_it_takes_twelve_statements_at_most(page: Any, noon: int) -> None:
    for number in range(30):
        write(batch(noon - number, f"view-{number}", executed=1, mismatch=1))
    page()
    with counted() as count:
        page()
    assert count.statements <= 7
