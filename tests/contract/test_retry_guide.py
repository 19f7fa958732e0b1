"""The guide for clients says what the project does, and errors lead to it."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import Client
from django.urls import path

from django_idempotency.conf.policy import Policy
from django_idempotency.contract import words
from django_idempotency.contract.facts import facts, problems_of
from django_idempotency.contract.tables import key
from django_idempotency.decorators import idempotent
from django_idempotency.protocol.problems import ERRORS, Code
from django_idempotency.views import RetryGuideView
from tests.conftest import Caller
from tests.docs.pages import DOCS, rows, text_of
from tests.shop import views

pytestmark = pytest.mark.once


def secret_scope(request: HttpRequest) -> str:
    """The department.

    Nobody outside needs to read on.
    """
    return "x"


def reference(request: HttpRequest) -> str:
    """The field `reference`."""
    return "x"


@idempotent(required=True, retention=timedelta(days=3), not_stored=["4xx", "5xx"])
class Pay(views.RestView):
    pass


@idempotent(
    key=reference,
    scope=secret_scope,
    anonymous="refuse",
    tombstone=timedelta(hours=2),
    atomic=False,
    max_request_size=1000,
    new_keys_per_hour=5,
)
class Internal(views.RestView):
    pass


urlpatterns = [
    path("api/pay/", Pay.as_view()),
    path("api/buy/", views.DecoratedRestView.as_view()),
    path("internal/", Internal.as_view()),
    path("open/", views.ClassView.as_view()),
    path("retries/", RetryGuideView.as_view()),
    path("api/retries/", RetryGuideView.as_view(paths=["^/api/"], title="How to <retry>")),
]
EVERYTHING = {
    "key_from": reference,
    "required": True,
    "anonymous": "refuse",
    "tombstone": timedelta(days=1),
    "max_request_size": 1000,
    "new_keys_per_hour": 5,
    "atomic": False,
}


@pytest.fixture
def client(settings: Any) -> Client:
    settings.ROOT_URLCONF = __name__
    return Client()


class TestWords:
    def test_every_error_is_explained(self) -> None:
        policies = (Policy().override(**EVERYTHING), Policy(required=True))
        possible = {problem.code for policy in policies for problem in problems_of(policy)}
        assert possible == set(ERRORS) == set(Code)

    def test_the_documentation_gives_the_same_advice(self) -> None:
        page = {row[0].strip("`"): row[-1] for row in rows(text_of(DOCS / "errors.md"))}
        assert {code: page[code] for code in ERRORS} == {
            code: error.advice for code, error in ERRORS.items()
        }

    def test_where_the_key_comes_from(self) -> None:
        both = Policy(key_from=reference, required=True)
        name, text = next(words.terms(both))
        assert (name, text[:55]) == (
            "Key",
            "`Idempotency-Key`, or the field `reference`, required. ",
        )
        assert key(both).startswith("`Idempotency-Key`, or the field `reference`, required")
        alone = Policy(key_from=lambda request: None, header=None)
        assert next(words.terms(alone))[1].startswith("a key as this API defines it, optional. ")
        codes = {problem.code for problem in problems_of(alone)}
        assert Code.KEY_AMBIGUOUS not in codes

    def test_errors_that_policy_rules_out_are_not_expected(self) -> None:
        impossible = {
            *(Code.KEY_MISSING, Code.ANONYMOUS, Code.CALLER_REQUIRED, Code.KEY_EXPIRED),
            *(Code.OUTCOME_UNKNOWN, Code.OPERATION_REFUSED, Code.REQUEST_TOO_LARGE),
            *(Code.TOO_MANY_KEYS, Code.KEY_AMBIGUOUS),
        }
        assert impossible == set(Code) - {problem.code for problem in problems_of(Policy())}

    @pytest.mark.parametrize(
        ("time", "said", "short"),
        [
            (timedelta(hours=24), "24 hours", "24 h"),
            (timedelta(hours=1), "60 minutes", "60 min"),
            (timedelta(days=31), "31 days", "31 days"),
            (timedelta(hours=36), "36 hours", "36 h"),
            (timedelta(seconds=1), "1 second", "1 s"),
            (timedelta(seconds=90), "90 seconds", "90 s"),
            (timedelta(milliseconds=500), "0.5 seconds", "0.5 s"),
        ],
    )
    def test_durations(self, time: timedelta, said: str, short: str) -> None:
        assert (words.duration(time), words.short(time)) == (said, short)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({}, "the same method, path, query string and content of the body"),
            (
                {"fingerprint": "none", "fingerprint_fields": ["a"]},
                "the same method and path; the body is not compared",
            ),
            ({"fingerprint": lambda request: "x"}, "the same values of what this API compares"),
            (
                {"fingerprint": "bytes", "fingerprint_fields": ["b", "a"]},
                "the same method, path, query string and bytes of the body (only the fields a, b)",
            ),
            (
                {"fingerprint": "bytes", "fingerprint_ignored_fields": ["at"]},
                "the same method, path, query string and bytes of the body (without the fields at)",
            ),
        ],
    )
    def test_what_a_retry_is(self, options: Any, said: str) -> None:
        assert words.same_request(Policy().override(**options)) == said

    def test_a_scope_function_speaks_by_its_docstring(self) -> None:
        scoped = Policy().override(scope=secret_scope, tenant=lambda request: "x")
        assert words.scope(scoped) == "the department, within one tenant"
        assert (
            words.scope(Policy().override(scope=lambda request: "x"))
            == "the caller as this API defines it"
        )

    def test_what_is_not_kept_is_not_promised(self) -> None:
        assert words.replay(Policy().override(store_body=False)).startswith("nothing but `idem")
        redacted = Policy().override(redacted_fields=["token", "card.number"])
        assert words.replay(redacted).endswith("`[redacted]` in the place of card.number, token")

    def test_what_an_outage_means(self) -> None:
        open_policy = Policy().override(outage="open")
        assert words.outage(open_policy).endswith("a retry may be executed again")
        codes = {problem.code for problem in problems_of(open_policy)}
        assert Code.STORE_UNAVAILABLE not in codes

    def test_keys(self) -> None:
        policy = Policy().override(key_format="uuid", key_pattern="[a-f].*")
        assert words.key(policy) == (
            "A key is a UUID (RFC 9562), with or without quotes, of the form [a-f].*."
        )


class TestPage:
    def test_errors_lead_to_it(self, client: Client, caller: Caller, settings: Any) -> None:
        """The ``type`` of every error, and its ``Link``, name a part of a page that is there."""
        settings.ROOT_URLCONF = __name__
        for address in ("/retries/", "/api/retries/"):
            settings.IDEMPOTENCY = {"DOCS_URL": address}
            for where in ("/api/pay/", "/internal/"):
                problem = caller.post(where, key='"')
                page, fragment = json.loads(problem.content)["type"].split("#")
                assert f'<tr id="{fragment}">' in client.get(page).text
            page = client.get(address).text
            ids = re.findall('id="(.*?)"', page)
            assert sorted(ids) == sorted(str(code) for code in Code)

    def test_it_is_about_the_endpoints_that_somebody_chose(self, client: Client) -> None:
        page = client.get("/api/retries/").text
        assert re.findall("<h2>(.*)</h2>", page) == [
            "<code>POST /api/pay/</code>",
            "<code>POST /api/buy/</code>",
            "Errors",
        ]
        assert "<dt>Responses are kept for<dd>3 days from the original response." in page
        assert "<title>How to &lt;retry&gt;</title>" in page

    def test_it_names_no_endpoint_unless_told_to(self, client: Client, settings: Any) -> None:
        settings.IDEMPOTENCY = {"RETENTION": timedelta(days=9)}
        page = client.get("/retries/").text
        assert "Responses are kept for<dd>9 days" in page
        for secret in ("/internal/", "/api/pay/", "/open/", __name__, "secret_scope"):
            assert secret not in page

    def test_only_what_is_guarded_is_named(self, client: Client) -> None:
        everything = RetryGuideView.as_view(paths=[""])
        page = everything(client.get("/retries/").wsgi_request).text
        assert "/internal/" in page
        assert "/open/" not in page
        assert "secret_scope" not in page

    def test_programs_get_json(self, client: Client) -> None:
        response = client.get("/api/retries/", headers={"accept": "application/json"})
        assert response["Content-Type"] == "application/json"
        pay, _ = response.json()["promises"]
        assert pay["operations"] == ["POST /api/pay/"]
        policy = Policy().override(
            required=True, retention=timedelta(days=3), not_stored=["4xx", "5xx"]
        )
        assert pay["facts"] == facts(policy)

    def test_browsers_keep_it_and_ask_whether_it_has_changed(self, client: Client) -> None:
        first = client.get("/retries/")
        assert first["Cache-Control"] == "max-age=3600"
        assert first["Vary"] == "Accept"
        again = client.get("/retries/", headers={"if-none-match": first["ETag"]})
        assert (again.status_code, again.content) == (304, b"")

    def test_it_is_only_read(self, client: Client) -> None:
        assert client.post("/retries/").status_code == 405
        assert client.head("/retries/").status_code == 200

    def test_a_bad_path_is_refused_at_import(self) -> None:
        with pytest.raises(re.error):
            RetryGuideView.as_view(paths=["("])


class TestOutcomes:
    def test_without_bodies_there_are_no_replays(self, client: Client, settings: Any) -> None:
        settings.IDEMPOTENCY = {"STORE_BODY": False}
        page = client.get("/retries/").text
        assert "done; a retry is told so" in page
        assert "Idempotency-Replayed" not in page

    @pytest.mark.parametrize(
        ("options", "last"),
        [
            ({}, ["401, 403, 408, 409, 412, 423, 425, 429, 503", "other 5xx"]),
            ({"NOT_STORED": ["5xx"], "ON_INTERRUPTED": "run"}, ["5xx"]),
            ({"NOT_STORED": [429, 502]}, ["429", "502"]),
            ({"NOT_STORED": [*range(500, 503), *range(504, 600)]}, ["5xx but 503"]),
        ],
    )
    def test_where_effects_lie_outside_of_the_database(
        self, options: Any, last: list[str], client: Client, settings: Any
    ) -> None:
        """I11: what broke is not known to be undone."""
        settings.IDEMPOTENCY = {"ATOMIC": False, **options}
        response = client.get("/retries/", headers={"accept": "application/json"})
        (promise,) = response.json()["promises"]
        assert [outcome["seen"] for outcome in promise["outcomes"][4:]] == last

    @pytest.mark.parametrize(
        ("not_stored", "final", "not_now"),
        [
            (["4xx", "5xx"], "2xx, 3xx", "4xx, 5xx"),
            (["5xx"], "2xx, 3xx, other 4xx", "5xx"),
            ([409, "5xx"], "2xx, 3xx, other 4xx", "409, 5xx"),
            ([], "2xx, 3xx, other 4xx, other 5xx", None),
            ([202, 401], "2xx, 3xx, other 4xx, other 5xx", "202, 401"),
        ],
    )
    def test_which_answers_are_final(
        self, not_stored: Any, final: str, not_now: str | None, client: Client, settings: Any
    ) -> None:
        settings.IDEMPOTENCY = {"NOT_STORED": not_stored}
        response = client.get("/retries/", headers={"accept": "application/json"})
        (promise,) = response.json()["promises"]
        seen = [outcome["seen"] for outcome in promise["outcomes"]]
        assert seen[:3] == [
            "no answer",
            "an answer with `Idempotency-Replayed: true`",
            "a code of the errors below",
        ]
        assert seen[3:] == [final, *([not_now] if not_now else [])]
