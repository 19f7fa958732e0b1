"""A URLconf whose views are decorated around the guard, inside Django's block of
``ATOMIC_REQUESTS``: what the decorator does comes between the guard's end and Django's COMMIT."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from tests.shop.views import DecoratedRestView, decorated_function

after: Callable[[], None] = lambda: None  # noqa: E731
"""What the decorator does; tests replace it."""


def around(view: Any) -> Any:
    """A decorator of a project."""

    def wrapped(request: HttpRequest) -> HttpResponse:
        response: HttpResponse = view(request)
        after()
        return response

    return csrf_exempt(wrapped)


urlpatterns = [
    path("function/", around(decorated_function)),
    path("rest/", around(DecoratedRestView.as_view())),
]
