"""Checks of settings that name paths."""

from typing import Any

import pytest

from .checking import only, silent

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("use_middleware")]


class TestPolicies:
    def test_one_that_no_endpoint_has(self, settings: Any) -> None:
        settings.IDEMPOTENCY = {"POLICIES": {"^/rests/": {"REQUIRED": True}}}
        assert only("W052").msg.startswith('IDEMPOTENCY["POLICIES"]["^/rests/"] holds')
        settings.IDEMPOTENCY = {"POLICIES": {"^/rest/": {"REQUIRED": True}}}
        silent("W052")

    def test_one_behind_another_that_takes_all(self, settings: Any) -> None:
        settings.IDEMPOTENCY = {"POLICIES": {"": {}, "^/rest/": {"REQUIRED": True}}}
        assert '"^/rest/"' in only("W052").msg

    def test_one_whose_path_is_not_guarded(self, settings: Any) -> None:
        settings.IDEMPOTENCY = {"PATHS": ["^/api/"], "POLICIES": {"^/rest/": {}}}
        assert '"^/rest/"' in only("W052").msg

    def test_one_for_a_decorated_view(self, settings: Any) -> None:
        settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
        settings.IDEMPOTENCY = {"POLICIES": {"^/decorated-rest/": {}}}
        silent("W052")
