"""The test cases of "Testing your own endpoints", run as they stand."""

import sys
from types import ModuleType

import pytest
from django.test import override_settings
from django.urls import path

from tests.docs.pages import DOCS, blocks, text_of
from tests.shop import models, views
from tests.support.adapters import MIDDLEWARE

pytestmark = pytest.mark.once

PAGE = DOCS / "how-to/testing.md"
urlpatterns = [path("orders/", views.function)]


def cases() -> dict[str, type]:
    """Return the page's test cases, in a project with one guarded view."""
    module = ModuleType("shop.models")
    vars(module).update(Order=models.Order)
    namespace: dict[str, type] = {"__name__": __name__}  # type: ignore[dict-item]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "shop", ModuleType("shop"))
        patch.setitem(sys.modules, "shop.models", module)
        for code in blocks(text_of(PAGE), "python"):
            exec(compile(code, PAGE, "exec"), namespace)
    return {name: thing for name, thing in namespace.items() if name.endswith("Test")}


for _name, _case in cases().items():
    globals()[_name] = override_settings(
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            MIDDLEWARE,
        ],
    )(_case)


def test_the_page_has_test_cases() -> None:
    assert len(cases()) == 4
