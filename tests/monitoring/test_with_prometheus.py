"""A real Prometheus scrapes the example project: the dashboard has data, and alerts fire."""

import json
import re
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from example_project.demo.client import Client
from tests.__main__ import why_left_out
from tests.docs.pages import ROOT, blocks, text_of
from tests.support.example import WarmExample
from tests.support.prometheus import (
    DASHBOARD,
    RULES,
    Prometheus,
    eventually,
    running_prometheus,
)

pytestmark = [
    pytest.mark.processes,
    pytest.mark.once,
    pytest.mark.skipif(bool(why_left_out("prometheus")), reason=why_left_out("prometheus")),
]

TOKEN = "for tests only"
ORDERS = "/api/billing/v1/orders"


@pytest.fixture(scope="module")
def example(tmp_path_factory: Any) -> Iterator[WarmExample]:
    running = WarmExample(tmp_path_factory.mktemp("example"))
    running.environment["EXAMPLE_METRICS_TOKEN"] = TOKEN
    with running:
        yield running


@pytest.fixture(scope="module")
def client(example: WarmExample) -> Client:
    return example.bearer(example.accounts("alice")[0]["token"])


@pytest.fixture(scope="module")
def prometheus(example: WarmExample, tmp_path_factory: Any) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    with running_prometheus(folder, example.address, TOKEN) as running:
        # What happens before the first scrape is no rise.
        eventually(lambda: running.query("up == 1"), "first scrape")
        yield running


def page_of(example: WarmExample, authorization: str) -> tuple[int, str]:
    connection = HTTPConnection(*example.address, timeout=30)
    connection.request("GET", "/metrics", headers={"Authorization": authorization})
    response = connection.getresponse()
    page = response.read().decode()
    connection.close()
    return response.status, page


class TestExporter:
    """The view on the page, in four processes."""

    @pytest.mark.parametrize("file", ["project/metrics.py", "gunicorn.conf.py"])
    def test_the_page_shows_what_the_example_has(self, file: str) -> None:
        shown = blocks(text_of(ROOT / "docs/metrics.md"), "python")
        heading = f"# {file}\n"
        (code,) = (each.removeprefix(heading) for each in shown if each.startswith(heading))
        assert code in text_of(ROOT / "example_project" / file)

    @pytest.mark.parametrize("given", ["", "Bearer ", "Bearer wrong", TOKEN])
    def test_strangers_get_nothing(self, example: WarmExample, given: str) -> None:
        assert page_of(example, given) == (401, "")

    def test_every_series_of_the_example_is_there(self, example: WarmExample) -> None:
        status, page = page_of(example, f"Bearer {TOKEN}")
        assert status == 200
        lines = re.findall(r"^django_idempotency_requests_total{(.*)} ", page, re.MULTILINE)
        found = {tuple(sorted(re.findall(r'(\w+)="([^"]*)"', line))) for line in lines}
        expected = json.loads(example.manage("shell", "--no-imports", "--command", EXPECTED))
        assert len(expected) > 100
        assert found == {tuple(map(tuple, labels)) for labels in expected}

    def test_processes_are_added_up_and_figures_are_not(
        self, example: WarmExample, client: Client
    ) -> None:
        def executed() -> float:
            page = page_of(example, f"Bearer {TOKEN}")[1]
            line = r'^django_idempotency_requests_total{.*outcome="executed".*view="orders".*} (.*)'
            return sum(map(float, re.findall(line, page, re.MULTILINE)))

        before = executed()
        for number in range(12):
            assert client.post(ORDERS, {"item": "disk"}, f"k-{number}").status == 201
        assert executed() == before + 12
        page = page_of(example, f"Bearer {TOKEN}")[1]
        assert page.count("\ndjango_idempotency_expired_records{") == 1
        assert 'django_idempotency_expired_records{database="default"} 0.0' in page


EXPECTED = """
import json
from django_idempotency.contrib.series import sources
print(json.dumps([
    [("method", each.method), ("outcome", str(outcome)), ("view", each.view)]
    for each in sources() for outcome in each.outcomes
]))
"""


class TestDashboard:
    def test_each_query_returns_data(self, prometheus: Prometheus, client: Client) -> None:
        def queries() -> Iterator[str]:
            for panel in json.loads(DASHBOARD.read_text())["panels"]:
                for target in panel["targets"]:
                    yield (
                        target["expr"]
                        .replace("$__rate_interval", "1m")
                        .replace("$__range", "1h")
                        .replace("$view", ".*")
                    )

        tell(client)
        for query in queries():
            if "cache_up" in query:  # the example has no cache
                assert prometheus.query(query) == []
                continue
            if 'outcome="conflict"' in query:  # for which two requests would have to meet
                query = query.removesuffix(" > 0)") + ")"
            found = eventually(lambda query=query: prometheus.query(query), query)
            assert [each for each in found if each["value"][1] != "NaN"], query

    def test_it_names_only_metrics_that_are_scraped(self, prometheus: Prometheus) -> None:
        scraped = {
            each["metric"]["__name__"]
            for each in prometheus.query('{__name__=~"django_idempotency_.*"}')
        } | {"django_idempotency_cache_up"}
        for file in (DASHBOARD, RULES):
            assert set(re.findall(r"django_idempotency_\w+", file.read_text())) <= scraped


def tell(client: Client) -> None:
    """First request, replay, mismatch: after a scrape that has seen none of them."""
    key = str(uuid4())
    for item in ("vm", "vm", "another"):
        client.post(ORDERS, {"item": item}, key)


class TestAlerts:
    def test_the_rules_are_healthy(self, prometheus: Prometheus) -> None:
        def evaluated() -> list[Any]:
            rules = prometheus.rules()
            return rules if all(rule["health"] != "unknown" for rule in rules) else []

        rules = eventually(evaluated, "evaluation of all rules")
        assert len(rules) == RULES.read_text().count("- alert:")
        assert {
            rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"
        } == {}

    def test_queries_of_the_runbooks_are_understood(self, prometheus: Prometheus) -> None:
        pages = sorted((ROOT / "docs/runbooks").glob("*.md"))
        queries = [query for page in pages for query in blocks(text_of(page), "promql")]
        assert len(queries) > 10
        for query in queries:
            prometheus.query(query)

    def test_the_first_mismatch_fires(self, prometheus: Prometheus, client: Client) -> None:
        tell(client)
        alert = eventually(lambda: prometheus.firing().get("IdempotencyKeyReused"), "alert")
        assert alert["summary"] == "A client of orders uses keys for other requests again"
        assert set(prometheus.firing()) <= {"IdempotencyKeyReused"}


@pytest.mark.parametrize(("what", "file"), [("check", str(RULES)), ("test", "alerts.test.yml")])
def test_promtool_agrees(what: str, file: str) -> None:
    """Each alert fires on the first event, and not before."""
    done = subprocess.run(
        ["promtool", what, "rules", file],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
