"""The codes of errors, and their bodies."""

import json
from typing import Any

import pytest

from django_idempotency.adapters.drf import IdempotencyError
from django_idempotency.conf.policy import Policy
from django_idempotency.http.problem_json import problem_of, problem_response
from django_idempotency.protocol.problems import Code, Problem
from tests.docs.pages import DOCS, blocks, rows, section, text_of

pytestmark = pytest.mark.once


class TestErrors:
    PAGE = DOCS / "errors.md"
    PROBLEMS = tuple(
        problem_of(
            code,
            Policy(header="H", max_request_size=1000),
            reason="reason",
            original_status=201 if code is Code.RESPONSE_UNAVAILABLE else 0,
        )
        for code in Code
    )

    def test_the_table_names_every_code(self) -> None:
        codes = [row[0].strip("`") for row in rows(text_of(self.PAGE)) if row[0][:1] == "`"]
        assert sorted(codes) == sorted(str(code) for code in Code)
        assert sorted(codes) == sorted(str(problem.code) for problem in self.PROBLEMS)

    @pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: str(problem.code))
    def test_status_and_advice(self, problem: Problem) -> None:
        (row,) = (row for row in rows(text_of(self.PAGE)) if row[0] == f"`{problem.code}`")
        assert row[1] == str(problem.status)
        assert row[3] == ("yes" if problem.retryable else "no")
        assert ("`Retry-After`" in row[4]) is (problem.retry_after is not None)

    def test_the_body_and_the_headers_are_real(self) -> None:
        (body,) = (json.loads(block) for block in blocks(text_of(self.PAGE), "json"))
        (head,) = blocks(text_of(self.PAGE), "http")
        policy = Policy(docs_url="https://api.example.com/docs/retries")
        (in_flight,) = (each for each in self.PROBLEMS if each.code == Code.IN_FLIGHT)
        response = problem_response(in_flight, policy)
        real = json.loads(response.content)
        assert real.pop("instance").startswith("urn:uuid:")
        assert body.pop("instance").startswith("urn:uuid:")
        assert body == real
        status, *fields = head.splitlines()
        assert status == f"HTTP/1.1 {response.status_code} {response.reason_phrase}"
        assert dict(field.split(": ", 1) for field in fields) == dict(response.items())

    def test_the_exception_handler_works(self) -> None:
        handle = self.example("Through DRF's exception handler", "api_exception_handler")
        for problem in self.PROBLEMS:
            response = handle(IdempotencyError(problem), {})
            assert response.status_code == problem.status
            assert response.data["error"]["code"] == problem.code
            assert response.data["message"] == problem.detail
            assert response.get("Retry-After") == waiting_time(problem)

    def test_the_function_works(self) -> None:
        respond = self.example("By a function of yours", "error_response")
        for problem in self.PROBLEMS:
            response = respond(problem, None)
            assert response.status_code == problem.status
            assert json.loads(response.content) == {"error": problem.code}
            assert response.get("Retry-After") == waiting_time(problem)

    def example(self, title: str, name: str) -> Any:
        (code,) = blocks(section(self.PAGE, title), "python")
        namespace: dict[str, Any] = {}
        exec(code, namespace)
        return namespace[name]


def waiting_time(problem: Problem) -> str | None:
    return None if problem.retry_after is None else str(problem.retry_after)
