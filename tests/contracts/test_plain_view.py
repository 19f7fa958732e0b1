"""A plain Django view in a browser's session, guarded by the middleware alone."""

import pytest

from example_project.demo.client import Client
from example_project.demo.stage import MARKER
from tests.contracts.operations import tickets

pytestmark = pytest.mark.processes


@pytest.fixture
def operation():
    return tickets


def test_a_retry_is_a_replay(case):
    before, first = case.count(), case.post()
    assert case.replays(first, case.post())
    assert case.count() == before + 1


def test_another_body_is_refused(case):
    case.post()
    other = case.post(case.other)
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")


def test_another_account_is_another_caller(case, stranger):
    assert case.post().json != stranger.post().json


@pytest.mark.parametrize(("header", "status"), [("X-CSRFToken", 403), ("Cookie", 302)])
def test_nothing_is_replayed_to_who_fails_its_checks(case, header, status):
    assert case.post().status == 201
    headers = {name: value for name, value in case.client.headers.items() if name != header}
    if header == "Cookie":
        # Logged out, but past the CSRF check.
        headers["Cookie"] = f"csrftoken={headers['X-CSRFToken']}"
    refused = Client(case.client.address, headers).post(case.path, case.data, case.key)
    assert (refused.status, refused.headers[MARKER]) == (status, None)
