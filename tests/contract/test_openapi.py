"""Guarded operations in OpenAPI documents."""

import json
import re
from datetime import timedelta
from typing import Any

import jsonschema
import pytest
from django.http import JsonResponse
from django.urls import include, path
from django.utils.module_loading import import_string
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import spectacular_settings
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from hypothesis import given
from hypothesis import strategies as st
from ninja import NinjaAPI
from openapi_spec_validator import validate
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.versioning import URLPathVersioning
from rest_framework.views import APIView

from django_idempotency.conf.policy import Policy
from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.http.problem_json import problem_response
from django_idempotency.openapi import (
    COMPONENT,
    SCHEMA,
    DescribedOperations,
    describe,
    key_schema,
    parameter,
    spectacular_hook,
)
from django_idempotency.protocol.keys import InvalidKey, KeyFormat, parse_key
from django_idempotency.protocol.problems import Code, Problem
from tests.docs.pages import DOCS, blocks, text_of
from tests.support import golden

pytestmark = pytest.mark.once

DOCS_URL = "https://api.example.com/docs/retries"


def reference(request: Any) -> str:
    """The field `reference` of the order."""
    return "x"


POLICIES: dict[str, dict[str, Any]] = {
    "default": {"docs_url": DOCS_URL},
    "everything": {
        "docs_url": DOCS_URL,
        "header": "X-Request-Id",
        "key_from": reference,
        "required": True,
        "key_format": "bare",
        "key_max_length": 64,
        "key_pattern": "evt_[0-9a-z]+",
        "scope": "token",
        "tenant": lambda request: "x",
        "anonymous": "refuse",
        "fingerprint_fields": ["plan", "region"],
        "redacted_fields": ["token", "card.number"],
        "max_request_size": 1000,
        "new_keys_per_hour": 5,
        "retention": timedelta(days=7),
        "tombstone": timedelta(days=30),
        "not_stored": ["5xx"],
        "replay_header": "X-Replayed",
        "key_header": "X-Request-Id",
        "completed_header": "X-Completed",
        "expires_header": "X-Expires",
        "status_header": "X-Status",
        "in_flight": "wait",
        "in_flight_status": 425,
        "retry_after": 30,
    },
    "not-atomic": {"docs_url": DOCS_URL, "atomic": False},
    "drf-errors": {"docs_url": DOCS_URL, "errors": "drf", "status_header": "X-Status"},
    "no-bodies": {"docs_url": DOCS_URL, "store_body": False},
    "fail-open": {"docs_url": DOCS_URL, "outage": "open"},
    "own-errors": {"docs_url": DOCS_URL, "errors": lambda problem, request: JsonResponse({})},
}


def policy(**options: Any) -> Policy:
    return Policy().override(**options)


def document(operation: dict[str, Any]) -> dict[str, Any]:
    info = {"title": "A test", "version": "1"}
    return {"openapi": "3.0.3", "info": info, "paths": {"/orders": {"post": operation}}}


def described(options: dict[str, Any], operation: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a document with one operation under a policy."""
    operation = operation or {"responses": {"201": {"description": "The order."}}}
    whole = document(operation)
    describe(operation, policy(**options), whole)
    return whole


class TestDescribe:
    @pytest.mark.parametrize("name", POLICIES)
    def test_an_operation_is_described_as_expected(self, name: str) -> None:
        """What is published, compared with files."""
        whole = described(POLICIES[name])
        golden.expect(golden.FOLDER / f"{name}.json", json.dumps(whole, indent=2) + "\n")

    @pytest.mark.parametrize("name", POLICIES)
    @pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
    def test_the_document_is_valid(self, name: str, version: str) -> None:
        validate({**described(POLICIES[name]), "openapi": version})

    def test_what_the_operation_says_itself_is_kept(self) -> None:
        theirs = {"application/problem+json": {"schema": {"type": "string"}, "example": "no"}}
        operation = {
            "description": "Buys.",
            "parameters": [
                {"in": "query", "name": "Idempotency-Key", "schema": {"type": "string"}},
                {"in": "header", "name": "idempotency-key", "description": "Ours."},
            ],
            "responses": {
                "201": {"headers": {"Idempotency-Replayed": {"description": "Ours."}}},
                "400": {"$ref": "#/components/responses/Bad"},
                "409": {"description": "Sold out.", "content": theirs},
                "422": {"content": {"application/json": {"schema": {"type": "string"}}}},
            },
        }
        described({}, operation)
        query, header = operation["parameters"]
        assert query == {"in": "query", "name": "Idempotency-Key", "schema": {"type": "string"}}
        assert (header["name"], header["description"]) == ("idempotency-key", "Ours.")
        assert header["schema"] == key_schema(policy())
        responses: Any = operation["responses"]
        assert responses["201"]["headers"]["Idempotency-Replayed"] == {"description": "Ours."}
        assert responses["400"] == {"$ref": "#/components/responses/Bad"}
        assert responses["409"]["content"]["application/problem+json"] == {
            "schema": {"type": "string"},
            "example": "no",
        }
        assert responses["409"]["description"].startswith("Sold out.\n\n- `idempotency_in_flight`")
        assert set(responses["422"]["content"]) == {"application/json", "application/problem+json"}
        assert str(operation["description"]).startswith("Buys.\n\n**Safe to retry**")

    def test_the_header_is_not_demanded_where_a_function_finds_keys(self) -> None:
        whole = described({"key_from": reference, "required": True})
        operation = whole["paths"]["/orders"]["post"]
        (parameter,) = operation["parameters"]
        assert (parameter["name"], parameter["required"]) == ("Idempotency-Key", False)
        assert "or the field `reference` of the order" in operation["description"]
        assert operation["x-idempotency"]["required"] is True
        whole = described({"key_from": reference, "header": None})
        operation = whole["paths"]["/orders"]["post"]
        assert operation["parameters"] == []
        assert (
            "**Safe to retry** with the field `reference` of the order:"
            in (operation["description"])
        )
        assert operation["x-idempotency"]["header"] is None
        assert operation["x-idempotency"]["key"]["source"] == "the field `reference` of the order"
        validate(whole)

    def test_real_answers_and_examples_have_the_documented_form(self) -> None:
        whole = described({**POLICIES["everything"], "atomic": False})
        responses = whole["paths"]["/orders"]["post"]["responses"]
        examples = [
            example["value"]
            for response in responses.values()
            for media in response.get("content", {}).values()
            for example in media["examples"].values()
        ]
        # An anonymous caller is refused for one reason or for the other.
        assert {example["code"] for example in examples} == set(Code) - {Code.CALLER_REQUIRED}
        for example in examples:
            jsonschema.validate(example, SCHEMA)
            assert set(example) - {"original_status"} == set(SCHEMA["required"])
        code, status = examples[0]["code"], examples[0]["status"]
        real = problem_response(Problem(code, status, "t", "d"), policy(docs_url=DOCS_URL))
        jsonschema.validate(json.loads(real.content), SCHEMA)
        assert json.loads(real.content)["type"] == examples[0]["type"]

    @pytest.mark.parametrize("name", ["drf-errors", "own-errors"])
    def test_a_form_that_is_not_ours_is_not_promised(self, name: str) -> None:
        whole = described(POLICIES[name])
        responses = whole["paths"]["/orders"]["post"]["responses"]
        assert set(responses) == {"201", "400", "409", "422", "503"}
        assert not any("content" in response for response in responses.values())
        assert "components" not in whole


KEYS = st.text(
    st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\n"), max_size=12
)
QUOTED = KEYS.map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
UUIDS = st.uuids().map(str) | st.uuids().map(lambda uuid: f'"{uuid}"')


class TestKeySchema:
    @pytest.mark.parametrize("key_format", list(KeyFormat))
    @pytest.mark.parametrize("length", [1, 8, 255])
    def test_it_accepts_what_the_server_accepts(self, key_format: KeyFormat, length: int) -> None:
        schema = key_schema(policy(key_format=str(key_format), key_max_length=length))

        @given(KEYS | QUOTED | UUIDS)
        def agree(value: str) -> None:
            if value != value.strip(" \t"):
                return  # white space around a value is not part of it
            if key_format is KeyFormat.UUID and length < 36:
                return  # no UUID is that short
            try:
                accepted = bool(parse_key(value, key_format, length))
            except InvalidKey:
                accepted = False
            assert jsonschema.Draft202012Validator(schema).is_valid(value) is accepted

        agree()

    @pytest.mark.parametrize("length", [7, 255])
    @pytest.mark.parametrize("key_format", list(KeyFormat)[:-1])
    def test_the_example_is_a_key(self, key_format: KeyFormat, length: int) -> None:
        ours = parameter(policy(key_format=str(key_format), key_max_length=length))
        jsonschema.validate(ours["example"], ours["schema"])

    def test_nobody_makes_up_a_key_of_the_project_s_form(self) -> None:
        assert "example" not in parameter(policy(key_pattern="evt_[0-9]+"))

    @pytest.mark.parametrize(
        ("options", "good", "bad"),
        [
            ({"key_pattern": "evt_[0-9]+"}, ["evt_1", '"evt_1"'], ["evt_", "1", "xevt_1"]),
            ({"key_pattern": "a|b", "key_format": "bare"}, ["a", "b"], ['"a"', "c", "ab"]),
        ],
    )
    def test_a_pattern_of_the_project_s_own(self, options: Any, good: Any, bad: Any) -> None:
        validator = jsonschema.Draft202012Validator(key_schema(policy(**options)))
        assert [validator.is_valid(value) for value in good] == [True] * len(good)
        assert [validator.is_valid(value) for value in bad] == [False] * len(bad)

    @pytest.mark.parametrize(
        "pattern", ["(?P<year>[0-9]+)", "(?i)evt", r"\Aevt\Z", "[0-9]++", re.compile("x", re.I)]
    )
    def test_a_pattern_that_only_python_understands_is_left_to_the_words(
        self, pattern: Any
    ) -> None:
        assert "allOf" not in key_schema(policy(key_pattern=pattern))


class Orders(APIView):
    """Buys an order."""

    schema_responses = {201: OpenApiResponse(description="Bought.")}

    @extend_schema(request=None, responses=schema_responses)
    def post(self, request: Any, **kwargs: Any) -> Response:
        return Response(status=201)

    @extend_schema(request=None, responses=schema_responses)
    def put(self, request: Any, **kwargs: Any) -> Response:
        return Response(status=201)


@idempotent(retention=timedelta(days=2))
class Guarded(Orders):
    @idempotency_exempt(reason="a test")
    @extend_schema(request=None, responses=Orders.schema_responses)
    def put(self, request: Any, **kwargs: Any) -> Response:
        return Response(status=201)


class Versioned(Guarded):
    versioning_class = URLPathVersioning


@extend_schema(request=None, responses=Orders.schema_responses)
@api_view(["POST"])
@idempotent(required=True)
def adjust(request: Any) -> Response:
    return Response(status=201)


ID = [OpenApiParameter("id", int, OpenApiParameter.PATH)]
guarded_one = extend_schema(parameters=ID)(type("GuardedOne", (Guarded,), {}))
ROUTES = [
    path("api/orders/", Orders.as_view()),
    path("api/guarded/", Guarded.as_view()),
    path("api/guarded/<int:pk>/items/", guarded_one.as_view()),
    path("api/adjust/", adjust),
]


def generated(*patterns: Any, version: str | None = None, **settings: Any) -> dict[str, Any]:
    settings.setdefault("POSTPROCESSING_HOOKS", ["django_idempotency.openapi.spectacular_hook"])
    spectacular_settings.apply_patches(settings)
    try:
        generator = SchemaGenerator(patterns=patterns, api_version=version)
        whole: dict[str, Any] = generator.get_schema(public=True)
    finally:
        spectacular_settings.clear_patches()
    validate(whole)
    return whole


def guarded_in(whole: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{method} {where}": operation["x-idempotency"]["retention"] / 3600
        for where, item in whole["paths"].items()
        for method, operation in item.items()
        if "x-idempotency" in operation
    }


class TestThePage:
    def test_its_code_runs(self, settings: Any) -> None:
        namespace: dict[str, Any] = {}
        for block in blocks(text_of(DOCS / "openapi.md"), "python"):
            exec(block, namespace)
        validate(namespace["document"])
        assert namespace["operation"]["parameters"][0]["required"] is True
        hooks_named = namespace["SPECTACULAR_SETTINGS"]["POSTPROCESSING_HOOKS"]
        assert import_string(hooks_named[-1]) is spectacular_hook
        import_string(namespace["REST_FRAMEWORK"]["DEFAULT_METADATA_CLASS"])
        assert (
            "/" + str(namespace["urlpatterns"][0].pattern) == namespace["IDEMPOTENCY"]["DOCS_URL"]
        )


class DescribedAPI(DescribedOperations, NinjaAPI):
    pass


ninja = DescribedAPI(urls_namespace="described")


@ninja.post("/orders/{int:number}")
@idempotent(required=True)
def change(request: Any, number: int) -> int:
    """Change an order."""
    return number


@ninja.post("/plain")
def plain(request: Any) -> int:
    return 1


@ninja.get("/plain")
def read(request: Any) -> int:
    return 1


urlpatterns = [path("shop/", ninja.urls)]


@pytest.mark.urls(__name__)
class TestNinja:
    def described(self) -> dict[str, Any]:
        whole = ninja.get_openapi_schema()
        validate(json.loads(json.dumps(whole)))
        return guarded_in(whole)

    def test_guarded_operations_and_no_others_are_described(self) -> None:
        assert self.described() == {"post /shop/orders/{number}": 24}

    def test_the_middleware_counts(self, use_middleware: None) -> None:
        assert set(self.described()) == {"post /shop/orders/{number}", "post /shop/plain"}


class TestSpectacular:
    def test_guarded_operations_and_no_others_are_described(self) -> None:
        whole = generated(*ROUTES)
        assert guarded_in(whole) == {
            "post /api/guarded/": 48,
            "post /api/guarded/{id}/items/": 48,
            "post /api/adjust/": 24,
        }
        assert COMPONENT in whole["components"]["schemas"]

    def test_the_middleware_counts(self, use_middleware: None) -> None:
        assert "put /api/orders/" in guarded_in(generated(*ROUTES))

    @pytest.mark.parametrize(
        ("settings", "found"),
        [
            ({"CAMELIZE_NAMES": True}, "post /api/guarded/{id}/items/"),
            (
                {"SCHEMA_PATH_PREFIX": "/api", "SCHEMA_PATH_PREFIX_TRIM": True},
                "post /guarded/{id}/items/",
            ),
            ({"SCHEMA_PATH_PREFIX_INSERT": "/gateway"}, "post /gateway/api/guarded/{id}/items/"),
        ],
    )
    def test_settings_that_change_paths(self, settings: Any, found: str) -> None:
        assert found in guarded_in(generated(*ROUTES, **settings))

    def test_a_version_in_the_path(self) -> None:
        whole = generated(
            path("api/<version>/", include([path("orders/", Versioned.as_view())])), version="v2"
        )
        assert guarded_in(whole) == {"post /api/v2/orders/": 48}

    def test_a_path_that_could_be_several_is_left_alone(self, caplog: Any) -> None:
        whole = generated(
            path("a/orders/", Guarded.as_view()),
            path("b/orders/", Orders.as_view()),
            SCHEMA_PATH_PREFIX="/[ab]",
            SCHEMA_PATH_PREFIX_TRIM=True,
        )
        assert guarded_in(whole) == {}
        assert "No single route is known for /orders/" in caplog.text
