"""Error answers as ``application/problem+json`` (RFC 9457)."""

import json
import uuid

from django.http import HttpResponse

from ..policy import Policy
from ..protocol.problems import Problem


def problem_response(problem: Problem, policy: Policy) -> HttpResponse:
    """Return the answer; the draft's section 2.7 asks for the link to the documentation."""
    document = {
        "type": f"{policy.docs_url}#{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": f"urn:uuid:{uuid.uuid4()}",
        "code": str(problem.code),
        "retryable": problem.retryable,
    }
    response = HttpResponse(
        json.dumps(document), status=problem.status, content_type="application/problem+json"
    )
    response["Link"] = f'<{policy.docs_url}>; rel="describedby"; type="text/html"'
    response["Cache-Control"] = "no-store"
    if problem.retry_after is not None:
        response["Retry-After"] = str(problem.retry_after)
    return response
