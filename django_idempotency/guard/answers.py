"""An answer that is decided before the view has run: a replay, or an error of the guard.

Code of the project stands between the guard and the client: ``finalize_response()``,
``dispatch()``, a decorator around ``as_view()``. It writes audit rows, counts, puts bodies into
envelopes. At the first request the guard stores what comes out of it. So a replay passes by it, for
those who watch, and at the end the stored answer is sent, not what has become of the copy that
passed (I6).
"""

from copy import copy
from typing import Any, TypeVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse

from ..compat.frameworks import copy_headers
from ..conf.policy import Policy
from ..http.responses import BODY_HEADERS, attributes_of

Response = TypeVar("Response", bound=HttpResponse)

TEMPLATE = "idempotency_template"
"""Flag on a response, stored with it: the handler returned a template response."""

REDIRECTION = 300
"""The first status that is no success."""

_ABOUT_THE_BODY = BODY_HEADERS | {"content-type", "content-encoding"}


def copied(response: HttpResponse, copy_to: Response) -> Response:
    """Make one response say what another says, and return it.

    :param response: rendered
    """
    copy_to.content = response.content
    copy_to.status_code = response.status_code
    copy_headers(response, copy_to)
    if response.cookies:
        copy_to.cookies = copy(response.cookies)
    for name, value in attributes_of(response).items():
        setattr(copy_to, name, value)
    if hasattr(response, "url"):
        copy_to.url = response.url  # type: ignore[attr-defined]  # as on a redirect
    return copy_to


def as_returned(response: HttpResponse) -> HttpResponse:
    """Return a copy of a stored answer of the kind that the handler returned."""
    if not getattr(response, TEMPLATE, False):
        return copied(response, HttpResponse())
    nothing: Any = None  # it is rendered already
    return copied(response, TemplateResponse(nothing, nothing, {}))


class EarlyAnswer:
    """What is sent in the end, and what passes by those who watch meanwhile.

    :param final: what the client gets, rendered; nobody else may have it
    :param passing: a copy of it
    :param is_replay: of a stored response; else it is an error
    """

    def __init__(
        self, final: HttpResponse, passing: HttpResponse, policy: Policy, is_replay: bool
    ) -> None:
        self.final = final
        self.passing = passing
        self._not_stored = policy.not_stored
        self._is_replay = is_replay

    def sent_for(self, passed: Any) -> HttpResponseBase:
        """Return what is sent, given what came out behind those who watch.

        Who refuses the caller now is obeyed: a permission that is checked around the view must not
        be outdone by a replay (I5), whether it says 403, hides what there is (404) or sends the
        caller to a login page, and an error of the server is no success. An error of the guard
        keeps header fields and cookies that the project has added to it.
        """
        if not isinstance(passed, HttpResponseBase) or self._is_refusal(passed):
            response: HttpResponseBase = passed
            return response
        if not self._is_replay:
            for name, value in passed.items():
                if name.lower() not in _ABOUT_THE_BODY:
                    self.final.headers.setdefault(name, value)
            self.final.cookies.update(passed.cookies)
        return self.final

    def _is_refusal(self, passed: HttpResponseBase) -> bool:
        status = passed.status_code
        if status == self.final.status_code:
            return False
        return status >= REDIRECTION if self._is_replay else status in self._not_stored
