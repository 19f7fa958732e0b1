"""Policies in OpenAPI documents: the key, the headers, the errors, and a paragraph.

:func:`spectacular_hook` is for drf-spectacular; :func:`describe` works on any operation of an
OpenAPI 3.0 or 3.1 document, from any generator.
"""

import logging
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.urls import get_resolver

from .adapters.ninja import operations_behind
from .conf.described import key_source
from .conf.policy import Errors, Policy
from .contract import words
from .contract.endpoints import protection_of
from .contract.facts import facts, problems_of, response_headers
from .contract.routes import Route, routes
from .http.problem_json import MEDIA_TYPE, document_of, link_of
from .protocol.keys import KeyFormat, value_pattern
from .protocol.problems import ERRORS, Code, Problem

__all__ = ["DescribedOperations", "Policy", "describe", "spectacular_hook"]

Json = dict[str, Any]

COMPONENT = "IdempotencyProblem"
"""Name of the schema of error answers in ``components/schemas``."""

EXAMPLE_KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"
_INSTANCE = uuid.UUID("0f3e0c2e-9a55-4b1c-8d57-6f6ad1a8b0a4")
# Syntax that ECMA-262 lacks, or reads differently.
_PYTHON_ONLY = re.compile(r"\(\?(?![:=!])|\\[AZ]|[*+?}]\+")
_CLAUSES = {"After that", "While the first runs", "If keys cannot be kept"}
_PARAMETER = re.compile(r"\{[^}]*\}")

logger = logging.getLogger("django_idempotency")


def spectacular_hook(result: Json, generator: Any, **kwargs: Any) -> Json:
    """Describe every guarded operation of a document of drf-spectacular.

    Add it to ``SPECTACULAR_SETTINGS["POSTPROCESSING_HOOKS"]``.
    """
    known: dict[str, dict[str, Any]] = {}
    for path, _, method, view in generator.endpoints:
        known.setdefault(path, {})[method] = view
    for path, item in result["paths"].items():
        route, request_path = _route_of(path, known)
        for method, view in known.get(route, {}).items():
            policy = protection_of(view, method, request_path).guards
            if policy and method.lower() in item:
                describe(item[method.lower()], policy, result)
    return result


class DescribedOperations:
    """Describes the guarded operations of a Django Ninja API in its document.

    A mixin: ``class API(DescribedOperations, NinjaAPI)``.
    """

    def get_openapi_schema(self, **options: Any) -> Any:
        document = super().get_openapi_schema(**options)  # type: ignore[misc]
        known = _routes_by_operation(self)
        for item in document["paths"].values():
            for method, operation in item.items():
                route = known.get(operation.get("operationId"))
                if route is None:
                    continue
                policy = protection_of(route.view, method.upper(), route.example).guards
                if policy:
                    describe(operation, policy, document)
        return document


def describe(operation: Json, policy: Policy, document: Json) -> None:
    """Add the policy to an operation, without changing its own descriptions.

    :param operation: changed in place
    :param document: the OpenAPI document of the operation; gets the schema of errors
    """
    paragraphs = [str(operation.get("description", "")), paragraph(policy)]
    operation["description"] = "\n\n".join(filter(None, paragraphs))
    _add_parameter(operation.setdefault("parameters", []), policy)
    responses = operation.setdefault("responses", {})
    for response in responses.values():
        _add_headers(response, _headers(policy))
    for status, problems in _by_status(policy).items():
        _add_problems(responses.setdefault(status, {}), problems, policy)
    if policy.errors is Errors.PROBLEM:
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.setdefault(COMPONENT, SCHEMA)
    operation.setdefault("x-idempotency", facts(policy))


def paragraph(policy: Policy) -> str:
    """Return the paragraph about keys for the description of an operation."""
    _, *terms = words.terms(policy)
    again, unknown = words.not_stored(policy)
    sentences = [
        f"**Safe to retry** with {key_source(policy, 'the header `{}`')}: "
        "a request with a key runs once.",
        *(f"{begin}{',' if begin in _CLAUSES else ''} {rest}" for begin, rest in terms),
        f"Not kept, so that a retry runs again: {again}." if again else "",
        f"After {unknown} or a crash, a retry is refused until its outcome is known."
        if unknown
        else "",
        f"[More]({policy.docs_url})",
    ]
    return " ".join(filter(None, sentences))


def parameter(policy: Policy) -> Json:
    """Return the header as a Parameter Object. It is optional where a function finds keys, too."""
    purpose = "A new value per operation, the same one with every retry."
    found: Json = {
        "in": "header",
        "name": policy.header,
        "required": policy.required and policy.key_from is None,
        "description": f"{purpose} {words.key(policy)}",
        "schema": key_schema(policy),
    }
    if policy.key_pattern is None:  # no example is known to match a pattern
        key = EXAMPLE_KEY[: policy.key_max_length]
        quoted = policy.key_format is KeyFormat.STRUCTURED
        found["example"] = f'"{key}"' if quoted else key
    return found


def key_schema(policy: Policy) -> Json:
    """Return a schema of the accepted field values, including quotes."""
    schema: Json = {
        "type": "string",
        "minLength": 1,
        "pattern": value_pattern(policy.key_format, policy.key_max_length),
    }
    if policy.key_format in {KeyFormat.BARE, KeyFormat.PRINTABLE}:
        schema["maxLength"] = policy.key_max_length
    own = policy.key_pattern
    if own is not None and own.flags == re.UNICODE and not _PYTHON_ONLY.search(own.pattern):
        quotes = "" if policy.key_format in {KeyFormat.BARE, KeyFormat.PRINTABLE} else '"?'
        schema["allOf"] = [{"pattern": f"^{quotes}(?:{own.pattern}){quotes}$"}]
    return schema


def _routes_by_operation(api: Any) -> dict[str, Route]:
    """Return the routes of an API of Django Ninja, by the ids of its operations."""
    return {
        operation.operation_id or api.get_openapi_operation_id(operation): route
        for route in routes(get_resolver())
        for operation in operations_behind(route.view)
        if operation.api is api
    }


def _route_of(path: str, known: Iterable[str]) -> tuple[str, str]:
    """Return the route that became a path of the document, and an example of a request's path.

    Names of parameters may have changed, a version may stand for its parameter, and a prefix may
    have been cut off or added.
    """
    shape = _PARAMETER.sub("{}", path)
    shapes = {route: _PARAMETER.sub("{}", route) for route in known}
    ways: tuple[Callable[[str], object], ...] = (
        lambda other: other == shape,
        lambda other: re.fullmatch(re.escape(other).replace(r"\{\}", "[^/]+"), shape),
        lambda other: other.endswith(shape) or shape.endswith(other),
    )
    for way in ways:
        found = [route for route, other in shapes.items() if way(other)]
        if len(found) == 1:
            request_path = found[0] if way is ways[-1] else path
            return found[0], _PARAMETER.sub("0", request_path)
    logger.warning("No single route is known for %s of the OpenAPI document", path)
    return "", ""


def _add_parameter(parameters: list[Json], policy: Policy) -> None:
    if policy.header is None:
        return
    ours = parameter(policy)
    for place, given in enumerate(parameters):
        if given.get("in") == "header" and given["name"].lower() == policy.header.lower():
            parameters[place] = {**ours, **given}
            return
    parameters.append(ours)


def _headers(policy: Policy) -> dict[str, Json]:
    named = response_headers(policy).items()
    return {name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in named}


def _add_headers(response: Json, headers: dict[str, Json]) -> None:
    if "$ref" not in response:
        response["headers"] = {**headers, **response.get("headers", {})}


def _by_status(policy: Policy) -> dict[str, list[Problem]]:
    found: dict[str, list[Problem]] = {}
    for problem in problems_of(policy):
        found.setdefault(str(problem.status), []).append(problem)
    return dict(sorted(found.items()))


def _add_problems(response: Json, problems: list[Problem], policy: Policy) -> None:
    if "$ref" in response:
        return
    errors = [(each.code, ERRORS[each.code]) for each in problems]
    lines = [f"- `{code}`: {error.meaning}; {error.advice}." for code, error in errors]
    paragraphs = [str(response.get("description", "")), "\n".join(lines)]
    response["description"] = "\n\n".join(filter(None, paragraphs))
    _add_headers(response, dict(_problem_headers(problems, policy)))
    if policy.errors is Errors.PROBLEM:
        media = response.setdefault("content", {}).setdefault(MEDIA_TYPE, {})
        media.setdefault("schema", {"$ref": f"#/components/schemas/{COMPONENT}"})
        if "example" not in media:
            media["examples"] = {**_examples(problems, policy), **media.get("examples", {})}


def _problem_headers(problems: list[Problem], policy: Policy) -> Iterator[tuple[str, Json]]:
    for name in (policy.key_header, policy.status_header):
        if name is not None and policy.errors is not Errors.DRF:
            yield name, _headers(policy)[name]
    if any(problem.retry_after is not None for problem in problems):
        seconds: Json = {"type": "integer", "minimum": 1, "example": policy.retry_after}
        yield "Retry-After", {"description": "Seconds to wait.", "schema": seconds}
    if policy.errors is Errors.PROBLEM:
        link: Json = {"type": "string", "example": link_of(policy)}
        yield "Link", {"description": "The documentation of keys.", "schema": link}


def _examples(problems: list[Problem], policy: Policy) -> Json:
    return {
        str(each.code): {"summary": each.title, "value": document_of(each, policy, _INSTANCE)}
        for each in problems
    }


SCHEMA: Json = {
    "type": "object",
    "description": "An error about the key (RFC 9457). The refused request has executed nothing.",
    "required": ["type", "title", "status", "detail", "instance", "code", "retryable"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "Documentation."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri", "description": "Names this one answer."},
        "code": {"type": "string", "enum": [str(code) for code in Code]},
        "retryable": {
            "type": "boolean",
            "description": "Whether sending the same request again can help.",
        },
        "original_status": {
            "type": "integer",
            "description": "Status of the first answer, where that cannot be replayed.",
        },
    },
}
"""Error answers, as :func:`django_idempotency.http.problem_json.problem_response` writes them."""
