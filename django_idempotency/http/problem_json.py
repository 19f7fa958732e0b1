"""Error answers as ``application/problem+json`` (RFC 9457)."""

import json
import uuid

from django.http import HttpResponse

from ..conf.described import key_source
from ..conf.policy import Policy
from ..protocol.problems import ERRORS, Code, Problem

MEDIA_TYPE = "application/problem+json"


def problem_of(
    code: Code,
    policy: Policy,
    *,
    reason: str = "",
    retry_after: int | None = None,
    original_status: int = 0,
    cause: str = "",
) -> Problem:
    """Return the error answer with a code, as policy has it.

    :param reason: why the key is not valid, or the response cannot be replayed
    :param retry_after: seconds to wait, where that does not depend on the code or policy
    :param original_status: of the first answer; 0 if it is not known
    :param cause: for logs, if it is not ``reason``
    """
    error = ERRORS[code]
    chosen = {
        Code.KEY_REUSED: policy.mismatch_status,
        Code.IN_FLIGHT: policy.in_flight_status,
        Code.KEY_EXPIRED: policy.expired_status,
    }
    detail = error.detail.format(
        header=policy.header,
        source=key_source(policy, "the {} header"),
        reason=reason,
        known=f" with status {original_status}" if original_status else "",
        largest=policy.max_request_size,
    )
    if error.retryable and retry_after is None:
        retry_after = error.retry_after or policy.retry_after
    title = error.title.format(header=policy.header or "the idempotency key")
    return Problem(
        code,
        chosen.get(code, error.status),
        title[:1].upper() + title[1:],
        detail,
        error.retryable,
        retry_after,
        original_status or None,
        cause or reason,
    )


def document_of(problem: Problem, policy: Policy, name: uuid.UUID) -> dict[str, object]:
    """Return the members of the answer's body.

    :param name: of this one answer
    """
    document: dict[str, object] = {
        "type": f"{policy.docs_url}#{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": f"urn:uuid:{name}",
        "code": str(problem.code),
        "retryable": problem.retryable,
    }
    if problem.original_status is not None:
        document["original_status"] = problem.original_status
    return document


def link_of(policy: Policy) -> str:
    """Return the value of ``Link``, which the draft's section 2.7 asks for."""
    return f'<{policy.docs_url}>; rel="describedby"; type="text/html"'


def problem_response(problem: Problem, policy: Policy) -> HttpResponse:
    """Return the answer, with its link to the documentation."""
    body = json.dumps(document_of(problem, policy, uuid.uuid4()))
    response = HttpResponse(body, status=problem.status, content_type=MEDIA_TYPE)
    response["Link"] = link_of(policy)
    response["Cache-Control"] = "no-store"
    if problem.retry_after is not None:
        response["Retry-After"] = str(problem.retry_after)
    return response
