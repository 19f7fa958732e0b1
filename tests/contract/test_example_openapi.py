"""The example's OpenAPI document, a client made from it, and a picture."""

import importlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from tests.support.browser import browser_page, missing
from tests.support.example import WarmExample

pytestmark = [pytest.mark.processes, pytest.mark.once]

DOCS = Path(__file__).parents[2] / "docs"
ORDERS = "/api/billing/v1/orders"
PUBLIC = "/api/public/v1/vms"
PAYMENT = "/v1/transactions"
ADJUST = "/api/v1/economy/adjust"
REPLICAS = "/apps/{id}/cvms/{vm_uuid}/replicas"


@pytest.fixture(scope="module")
def text(example: WarmExample) -> str:
    return example.manage("spectacular", "--format", "openapi-json", "--fail-on-warn")


@pytest.fixture(scope="module")
def document(text: str) -> Any:
    return json.loads(text)


@pytest.fixture(scope="module")
def example(tmp_path_factory: Any) -> Iterator[WarmExample]:
    with WarmExample(tmp_path_factory.mktemp("example")) as running:
        yield running


def test_it_is_valid(document: Any) -> None:
    validate(document)


def test_it_describes_what_the_project_guards(document: Any, example: WarmExample) -> None:
    """Every guarded DRF endpoint that has a schema, and no other."""
    listed = json.loads(example.manage("idempotency_contract", "--format", "json"))
    guarded = {
        (each["method"].lower(), each["path"].replace("{pk}", "{id}"))
        for each in listed["endpoints"]
        if each["state"] == "guarded"
    }
    described = {
        (method, path)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if "x-idempotency" in operation
    }
    plain = ("/tickets", "/hooks/reseller", "/shop/checkout", "/shop/express")
    others = {("post", path) for path in (*plain, "/adrf/backups", "/ninja/backups")}
    assert described == guarded - others


OWNER = "the authenticated caller"
TOKEN = "the token or other credential"
ENDPOINT = "the caller and the endpoint"
FACTS = {
    "/api/vps/v1/virtual-machines": ("400 409 503", [OWNER, "24 hours", "4xx, 5xx"]),
    ORDERS: ("400 409 503", [OWNER, "24 hours", "4xx, 5xx", "/docs/retries"]),
    PUBLIC: (
        "400 409 422 503",
        [TOKEN, "24 hours", "the body is not compared", "is executed all the same"],
    ),
    ADJUST: ("400 409 503", [TOKEN, "24 hours", "Idempotent-Replay: true", "at most 128"]),
    "/cvms": ("400 409 422 503", [ENDPOINT, "24 hours", "409, 429, 5xx"]),
    REPLICAS: ("400 409 422 503", [ENDPOINT, "24 hours", "409, 429, 5xx"]),
    PAYMENT: ("400 409 422 503", [OWNER, "60 minutes", "401, 403, 408"]),
}
"""What the five contracts' documents say: statuses beside 201, and words."""


@pytest.mark.parametrize("path", FACTS)
def test_the_facts_of_each_contract(document: Any, path: str) -> None:
    statuses, said = FACTS[path]
    operation = document["paths"][path]["post"]
    [header] = [each for each in operation["parameters"] if each["in"] == "header"]
    assert (header["name"], header["required"]) == ("Idempotency-Key", False)
    text = f"{operation['description']} {header['description']}"
    assert [words for words in said if words not in text] == []
    assert set(operation["responses"]) == {"201", *statuses.split()}
    headers = {
        ADJUST: ["Idempotent-Replay"],
        PUBLIC: ["Idempotency-Replayed", "Idempotency-Unprotected"],
    }
    expected = headers.get(path, ["Idempotency-Replayed"])
    assert list(operation["responses"]["201"]["headers"]) == expected
    assert "Retry-After" in operation["responses"]["409"]["headers"]


def test_what_is_not_guarded_is_not_described(document: Any) -> None:
    assert "x-idempotency" not in document["paths"][PUBLIC + "/{uuid}/backup"]["post"]
    assert "x-idempotency" not in document["paths"][PAYMENT + "/{transaction_id}"]["patch"]
    assert "x-idempotency" not in document["paths"][ORDERS]["get"]


@pytest.fixture(scope="module")
def client(text: str, tmp_path_factory: Any) -> Iterator[str]:
    """A package that a public generator made of the document; its name."""
    if find_spec("openapi_python_client") is None:
        missing("openapi-python-client")
    folder = tmp_path_factory.mktemp("generated")
    (folder / "schema.json").write_text(text)
    name = "generated_client"
    generate = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    subprocess.run(
        [*generate, "--path", "schema.json", "--output-path", name],
        cwd=folder,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=True,
    )
    sys.path.insert(0, str(folder))
    yield name
    sys.path.remove(str(folder))


@pytest.mark.processes
def test_a_generated_client_sends_the_key(client: str, example: WarmExample) -> None:
    create = importlib.import_module(f"{client}.api.api.api_billing_v1_orders_create")
    models = importlib.import_module(f"{client}.models")
    library = importlib.import_module(f"{client}.client")
    (account,) = example.accounts("alice")
    caller = library.AuthenticatedClient(example.url, token=account["token"])

    def buy(item: str, key: str) -> Any:
        order = models.Order.from_dict({"id": 0, "item": item, "created_at": "2030-01-01T00:00Z"})
        return create.sync_detailed(client=caller, body=order, idempotency_key=key)

    key = str(uuid.uuid4())
    first, retry, other = buy("backup", key), buy("backup", key), buy("disk", key)
    assert (first.status_code, retry.status_code) == (HTTPStatus.CREATED, HTTPStatus.CREATED)
    assert retry.parsed == first.parsed
    assert retry.headers["Idempotency-Replayed"] == "true"
    assert isinstance(other.parsed, models.IdempotencyProblem)
    assert other.parsed.code == "idempotency_key_reused"
    assert buy("disk", "not, a key").parsed.code == "idempotency_key_invalid"


@pytest.mark.browser
@pytest.mark.processes
def test_the_rendered_page_shows_it(example: WarmExample) -> None:
    with browser_page(viewport={"width": 1280, "height": 900}) as page:
        page.goto(f"{example.url}/openapi/page#operation/api_v1_economy_adjust_create")
        section = page.locator("[id='operation/api_v1_economy_adjust_create']")
        section.get_by_text("Safe to retry").wait_for()
        assert section.get_by_text("Idempotency-Key").first.is_visible()
        section.get_by_role("tab", name="409").click()
        section.get_by_text("idempotency_key_reused").last.wait_for()
        if os.environ.get("IDEMPOTENCY_TEST_REGENERATE"):
            section.scroll_into_view_if_needed()
            page.screenshot(path=DOCS / "images" / "openapi.png")
