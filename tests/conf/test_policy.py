"""Policies and settings: every bad value is named, nothing bad is accepted."""

import re
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_idempotency.conf.options import Options
from django_idempotency.conf.policy import (
    NOT_STORED,
    POLICY_OPTIONS,
    Policy,
    PolicyError,
    Scope,
    build,
)
from django_idempotency.conf.settings import SettingError, configuration

pytestmark = pytest.mark.once


async def an_async_function(request: Any) -> str:
    return "k"


BAD = [
    ("header", "Idempotency Key"),
    ("header", ""),
    ("header", 1),
    ("header", "Authorization"),
    ("methods", ["GET"]),
    ("methods", []),
    ("methods", "POST"),
    ("methods", [1]),
    ("key_from", "nobody"),
    ("key_from", dict),
    ("key_from", an_async_function),
    ("request_id", "X Request Id"),
    ("request_id", 1),
    ("request_id", an_async_function),
    ("required", "yes"),
    ("key_format", "uuid4"),
    ("key_max_length", 0),
    ("key_max_length", 256),
    ("key_max_length", True),
    ("key_max_length", "128"),
    ("scope", "nobody"),
    ("scope", int),
    ("save_session", "yes"),
    ("anonymous", "allow"),
    ("fingerprint", None),
    ("retention", 86400),
    ("retention", timedelta(0)),
    ("retention", timedelta(days=10**5)),
    ("not_stored", [99]),
    ("not_stored", ["6xx"]),
    ("not_stored", 500),
    ("max_response_size", -1),
    ("max_request_size", -1),
    ("max_request_size", "1 MB"),
    ("excluded_headers", ["X Y"]),
    ("replay_header", "a:b"),
    ("mismatch_status", 500),
    ("in_flight_status", 399),
    ("retry_after", 0),
    ("errors", "json"),
    ("docs_url", "javascript:alert(1)"),
    ("docs_url", 'https://example.com/">'),
    ("docs_url", None),
    ("using", ""),
    ("using", 1),
    ("tenant", "organisation"),
    ("key_pattern", 1),
    ("key_pattern", "("),
    ("fingerprint_fields", [1]),
    ("fingerprint_fields", "item"),
    ("fingerprint_ignored_fields", ["meta."]),
    ("fingerprint_ignored_parameters", "ts"),
    ("fingerprint_host", True),
    ("replay_value", "a\nb"),
    ("key_header", "a b"),
    ("errors", 3),
    ("wait_timeout", 5),
    ("wait_limit", 0),
    ("tombstone", timedelta(days=-1)),
    ("atomic", 0),
    ("on_interrupted", "ignore"),
    ("resolver", "nobody"),
    ("lock_connections", 0),
]


def test_a_policy_without_header_needs_a_function() -> None:
    """I18: keys that nobody can send protect nothing."""
    with pytest.raises(PolicyError, match=r"header: must name a header field, unless KEY_FROM"):
        build({"header": None})
    with override_settings(IDEMPOTENCY={"HEADER": None}), pytest.raises(SettingError) as caught:
        configuration()
    assert list(caught.value.problems) == ["HEADER"]
    assert build({"header": None, "key_from": len}).meta_key == ""


@pytest.mark.parametrize(
    ("name", "value"), BAD, ids=lambda each: getattr(each, "__name__", str(each))
)
def test_bad_values_are_named(name: str, value: object) -> None:
    with pytest.raises(PolicyError, match=rf"{name}: .* not {re.escape(repr(value))}"):
        build({name: value})
    with override_settings(IDEMPOTENCY={name.upper(): value}):
        with pytest.raises(SettingError) as caught:
            configuration()
        assert list(caught.value.problems) == [name.upper()]


def test_all_problems_come_at_once() -> None:
    setting = {"RETENTION": 1, "HEADR": "x", "PATHS": "^/api"}
    with override_settings(IDEMPOTENCY=setting), pytest.raises(ImproperlyConfigured) as caught:
        configuration()
    for name in ("RETENTION", "HEADR", "PATHS"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    "setting",
    [
        "not a dict",
        {"retention": timedelta(hours=1)},
        {1: 2},
        {"PATHS": ["("]},
        {"PATHS": [1]},
        {"EXEMPT_PATHS": "^/x"},
        {"EXEMPT_PATHS": {"^/x": None}},
        {"EXEMPT_PATHS": {"(": "a reason"}},
        {"SECRET": "short"},
        {"SECRET": b"bytes are not text, however long"},
        {"SCOPE": "no.such.function"},
    ],
    ids=str,
)
def test_bad_settings(setting: Any) -> None:
    with override_settings(IDEMPOTENCY=setting), pytest.raises(SettingError):
        configuration()


def test_any_header_can_be_kept_out_of_records() -> None:
    """Those that this package reads or writes are others."""
    policy = build({"excluded_headers": ["Authorization", "Cookie", "Content-Type"]})
    assert policy.excluded_headers == {"authorization", "cookie", "content-type"}


def test_good_values() -> None:
    policy = Policy().override(
        header="X-Request-Id",
        methods=["post"],
        not_stored=[429, "5xx"],
        excluded_headers=["X-Secret"],
        scope="token",
        using="default",
    )
    assert policy.meta_key == "HTTP_X_REQUEST_ID"
    assert policy.methods == {"POST"}
    assert policy.not_stored == {429, *range(500, 600)}
    assert policy.excluded_headers == {"x-secret"}
    assert (policy.scope, policy.using) == (Scope.TOKEN, "default")
    assert policy.retention == timedelta(hours=24)


def test_the_defaults_are_what_the_parsers_accept() -> None:
    defaults = Policy()
    names = [name for name in POLICY_OPTIONS if name not in {"not_stored"}]
    assert build({name: getattr(defaults, name) for name in names}) == defaults
    assert build({"not_stored": sorted(NOT_STORED)}) == defaults


def test_settings_are_read_live(settings: Any) -> None:
    settings.IDEMPOTENCY = {"REQUIRED": True, "PATHS": ["^/api/"], "EXEMPT_PATHS": ["/hook$"]}
    assert configuration().policy.required is True
    assert configuration().covers("/api/orders")
    assert not configuration().covers("/api/hook")
    assert not configuration().covers("/shop/api/")
    settings.IDEMPOTENCY = {}
    assert configuration().policy.required is False
    assert configuration().covers("/anything")


@pytest.mark.parametrize("policies", [{}, {"^/a/": {}, "^/b/": {}, "^/c/": {}}], ids=len)
def test_questions_of_every_request_are_one_call_each(policies: Any, settings: Any) -> None:
    """However many policies and paths there are."""
    settings.IDEMPOTENCY = {"PATHS": ["^/x/", ""], "POLICIES": policies}
    known, calls = configuration(), []

    def count(frame: Any, event: str, arg: Any) -> None:
        if event == "call":
            calls.append(frame.f_code.co_name)

    sys.setprofile(count)
    known.may_concern({"HTTP_HOST": "shop.example"})
    known.may_carry_key({"HTTP_HOST": "shop.example"})
    known.policy_for("/c/")
    known.covers("/c/")
    sys.setprofile(None)
    assert calls == ["may_concern", "may_carry_key", "policy_for", "covers"]


def test_the_secret_is_the_projects_unless_given(settings: Any) -> None:
    settings.SECRET_KEY = "the project's own secret"
    assert configuration().secret == b"the project's own secret"
    settings.IDEMPOTENCY = {"SECRET": "another secret of its own"}
    assert configuration().secret == b"another secret of its own"


class TestOptions:
    """What decorators say is parsed once, whatever other views say."""

    def test_a_policy_is_made_once(self) -> None:
        policy, options = Policy(), Options({"required": True})
        assert options.over(policy) is options.over(policy)
        assert options.over(policy).required
        assert Options().over(policy) is policy

    def test_other_options_evict_nothing(self) -> None:
        policy, options = Policy(), Options({"required": True})
        made = options.over(policy)
        for seconds in range(1, 2000):
            Options({"retention": timedelta(seconds=seconds)}).over(policy)
        assert options.over(policy) is made

    def test_options_of_several_decorators_are_the_same_each_time(self) -> None:
        api, router = Options({"required": True, "retry_after": 1}), Options({"retry_after": 2})
        assert api.around(router) is api.around(router)
        assert api.around(router) == {"required": True, "retry_after": 2}
        assert api.around(Options()) is api
        assert Options().around(api) is api

    def test_what_is_remembered_is_bounded(self) -> None:
        options = Options({"required": True})
        policies = [Policy(retry_after=number) for number in range(1, 100)]
        assert [options.over(each).retry_after for each in policies] == [*range(1, 100)]
        assert len(options._made) == 16
