"""The retry guide as a page of the project, to which the ``type`` of an error links."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.decorators import classonlymethod
from django.views import View

from .conf.settings import configuration
from .contract.endpoints import Endpoint, endpoints
from .contract.guide import Guide, guide_as_html, guide_to

__all__ = ["RetryGuideView"]

HOUR = 3600


class RetryGuideView(View):
    """Serves the guide as HTML, or as JSON if the request prefers that.

    A reader learns which endpoints it is about, and their terms. By default it is about no endpoint
    in particular: the policy of the settings.

    :cvar paths: regular expressions; the guide is about guarded endpoints whose path matches one
    :cvar title: heading of the page
    :cvar max_age: how long clients may keep the page, in seconds
    """

    paths: Sequence[str] = ()
    title = "Retry guide"
    max_age = HOUR
    http_method_names = ["get", "head", "options"]

    @classonlymethod
    def as_view(cls, **initkwargs: Any) -> Any:  # noqa: N805
        """Return the view function.

        :raises re.error: at import, if a path is not a regular expression
        """
        for path in initkwargs.get("paths", cls.paths):
            re.compile(path)
        return super().as_view(**initkwargs)

    def get(self, request: HttpRequest) -> HttpResponseBase:
        guide = self.guide()
        if request.get_preferred_type(["text/html", "application/json"]) == "application/json":
            response = HttpResponse(json.dumps(asdict(guide)), "application/json")
        else:
            response = HttpResponse(guide_as_html(guide, self.title))
        patch_vary_headers(response, ["Accept"])
        response["Cache-Control"] = f"max-age={self.max_age}"
        response["ETag"] = f'"{hashlib.sha256(response.content).hexdigest()[:32]}"'
        return get_conditional_response(request, response["ETag"], None, response) or response

    def guide(self) -> Guide:
        return guide_to(self._shows, endpoints(), configuration().policy)

    def _shows(self, endpoint: Endpoint) -> bool:
        return any(re.search(path, endpoint.path) for path in self.paths)
