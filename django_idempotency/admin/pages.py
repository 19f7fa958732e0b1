"""Pages beside the list of records, which links to them.

A module of this package, or of a project, adds a page when it is imported::

    from django_idempotency.admin.actions import page
    from django_idempotency.admin.pages import Page, register

    def view(model_admin, request):
        return page(model_admin, request, "statistics", {"title": "Statistics"})

    register(Page("statistics", "Statistics", view, allowed=has_view_permission))

Its address is ``.../idempotencyrecord/statistics/``, and the name of its URL
``admin:django_idempotency_idempotencyrecord_statistics``. The template of that name extends
``admin/django_idempotency/idempotencyrecord/page.html``, and fills the block ``page``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse


def has_view_permission(model_admin: Any, request: HttpRequest) -> bool:
    """Whether the list of records may be seen."""
    return bool(model_admin.has_view_permission(request))


@dataclass(frozen=True, slots=True)
class Page:
    """A page that the list of records links to.

    :ivar name: last part of its address and of the name of its URL
    :ivar title: text of the link
    :ivar view: called with the admin of the records and the request, returns a response. Its
        attributes hold, so it may be decorated with ``transaction.non_atomic_requests``
    :ivar allowed: called with the same. To whom it denies the page the link is not shown, and the
        page answers 403
    """

    name: str
    title: Any
    view: Callable[[Any, HttpRequest], HttpResponse]
    allowed: Callable[[Any, HttpRequest], bool] = has_view_permission

    @property
    def url_name(self) -> str:
        return f"django_idempotency_idempotencyrecord_{self.name}"


_pages: dict[str, Page] = {}


def register(page: Page) -> None:
    """Add a page, or replace the one of its name, before the project's URLs are read."""
    _pages[page.name] = page


def url_patterns(model_admin: Any) -> list[URLPattern]:
    """Return the addresses of all pages, below the list's."""
    return [
        path(f"{each.name}/", _view_of(each, model_admin), name=each.url_name)
        for each in _pages.values()
    ]


def links(model_admin: Any, request: HttpRequest) -> Iterator[tuple[str, Any]]:
    """Yield address and title of each page that this request may see."""
    for each in _pages.values():
        if each.allowed(model_admin, request):
            yield reverse(f"{model_admin.admin_site.name}:{each.url_name}"), each.title


def _view_of(page: Page, model_admin: Any) -> Any:
    def view(request: HttpRequest) -> HttpResponse:
        if not page.allowed(model_admin, request):
            raise PermissionDenied
        return page.view(model_admin, request)

    view.__dict__.update(page.view.__dict__)
    return model_admin.admin_site.admin_view(view)
