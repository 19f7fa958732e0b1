"""System checks: each id is raised by what it names, and silent when that is mended."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.auth.decorators import login_required, permission_required
from django.core.checks.registry import registry
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import decorator_from_middleware
from django.utils.deprecation import MiddlewareMixin
from reversion.middleware import RevisionMiddleware

from django_idempotency import checks
from django_idempotency.checks import databases
from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.middleware import IdempotencyMiddleware
from tests.support.checking import (
    CheckedMethod,
    ClassView,
    URLconf,
    check,
    closed,
    ids,
    only,
    ordinary,
    silent,
)

pytestmark = pytest.mark.once

OURS = "django_idempotency.middleware.IdempotencyMiddleware"
MYSELF = f"{__name__}."


# Middlewares and views that a project might have.


class Ours(IdempotencyMiddleware):
    pass


class Plain(MiddlewareMixin):
    def process_request(self, request: HttpRequest) -> None:
        """Changes nothing."""


class Catches(Plain):
    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        """Sees what views raise."""


class Renders(Plain):
    def process_template_response(self, request: HttpRequest, response: HttpResponse):
        return response


class Looks(Plain):
    def process_view(self, request: HttpRequest, *args: object) -> None:
        """Sees views."""


def function_middleware(get_response):
    return get_response


class Enclosing(Plain):
    def __call__(self, request: HttpRequest) -> HttpResponse:
        with transaction.atomic():
            return self.get_response(request)


class Decorated(Plain):
    @transaction.atomic
    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)


class Logs(Plain):
    """Its own block ends before the view begins."""

    def process_request(self, request: HttpRequest) -> None:
        with transaction.atomic():
            request.session.save()


class QuietRevisions(RevisionMiddleware):
    atomic = False


def enclosing_function(get_response):
    def middleware(request: HttpRequest) -> HttpResponse:
        with transaction.atomic(using="default"):
            return get_response(request)

    return middleware


GOOD_VIEWS = [
    ordinary,
    login_required(ordinary),
    permission_required("shop.add_order", raise_exception=True)(ordinary),
    closed(idempotent(ordinary)),
    closed(ordinary),
    transaction.atomic(login_required(ordinary)),
    CheckedMethod.as_view(),
    idempotency_exempt(closed(ordinary)),
    closed(ClassView.as_view()),
    admin.site.admin_view(ordinary),
    decorator_from_middleware(Looks)(ordinary),
]


def test_a_good_project_is_silent(settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, OURS]
    settings.ROOT_URLCONF = URLconf(*GOOD_VIEWS)
    settings.IDEMPOTENCY = {"SECRET": "only for the tests", "PATHS": [""]}
    assert check() == []


SMALL_PROJECT = """
import django
from django.conf import settings
from django.core.management import call_command
settings.configure(
    SECRET_KEY="only-for-tests",
    INSTALLED_APPS=["django_idempotency"],
    MIDDLEWARE=["django_idempotency.middleware.IdempotencyMiddleware"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
call_command("migrate", verbosity=0)
call_command("check", databases=["default"])
"""


def test_a_project_without_auth_and_sessions_is_silent():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "error", "-c", SMALL_PROJECT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "System check identified no issues (0 silenced).\n"


def test_every_check_is_tagged():
    ours = [
        each
        for each in registry.get_checks(include_deployment_checks=True)
        if each.__module__.startswith("django_idempotency")
    ]
    assert ours
    assert all("idempotency" in each.tags for each in ours)


def test_every_id_is_used_and_is_in_the_table():
    sources = [file.read_text() for file in Path(checks.__file__).parent.glob("*.py")]
    used = {name for text in sources for name in re.findall(r'message\(\s*"(\w+)"', text)}
    used |= {*databases._FAULTS.values()}
    assert {f"django_idempotency.{number}" for number in used} == set(checks.CHECKS)


class TestTransactionsAroundTheView:
    @pytest.mark.parametrize(
        "name",
        [
            "reversion.middleware.RevisionMiddleware",
            *(f"{MYSELF}{name}" for name in ("Enclosing", "Decorated", "enclosing_function")),
        ],
    )
    def test_a_middleware_that_opens_one_is_named(self, name, settings):
        settings.MIDDLEWARE = [name, OURS]
        assert name in only("W005").msg
        assert "atomic = False" in only("W005").hint
        for other in (f"{MYSELF}QuietRevisions", f"{MYSELF}Logs", f"{MYSELF}function_middleware"):
            settings.MIDDLEWARE = [other, OURS]
            silent("W005")

    def test_only_a_project_that_guards_something_is_told(self, settings):
        settings.MIDDLEWARE = [f"{MYSELF}Enclosing"]
        settings.ROOT_URLCONF = URLconf(ordinary)
        silent("W005")
        settings.ROOT_URLCONF = URLconf(idempotent(ordinary))
        only("W005")


class TestSettings:
    def test_each_bad_entry_is_an_error(self, settings):
        settings.IDEMPOTENCY = {"RETENTION": 5, "REQUIRED": True, "PATHS": ["("]}
        messages = {message.msg for message in check()}
        assert ids() == ["E001", "E001"]
        assert 'IDEMPOTENCY["RETENTION"]: must be a datetime.timedelta, not 5.' in messages
        assert all(message.hint.startswith("Correct IDEMPOTENCY[") for message in check())

    @pytest.mark.parametrize("name", ["RETENTOIN", "retention", "Retention"])
    def test_an_unknown_name_suggests_the_closest(self, settings, name):
        settings.IDEMPOTENCY = {name: 5}
        assert name in only("E001").msg
        assert 'did you mean "RETENTION"?' in only("E001").msg

    def test_a_name_like_no_other_gets_the_list(self, settings):
        settings.IDEMPOTENCY = {"XYZZY": 5}
        assert "ANONYMOUS, " in only("E001").msg
        assert "SECRET" in only("E001").msg

    def test_the_setting_must_be_a_dict(self, settings):
        settings.IDEMPOTENCY = ["POST"]
        assert only("E001").msg == "IDEMPOTENCY: must be a dict, not ['POST']."

    def test_bad_settings_leave_the_other_checks_in_peace(self, settings):
        settings.IDEMPOTENCY = {"USING": 5}
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, OURS]
        assert ids("default", deploy=True) == ["E001"]

    def test_an_empty_secret_key_is_left_to_django(self, settings):
        settings.SECRET_KEY = ""
        assert ids(deploy=True) == []

    def test_production_should_have_a_secret_of_its_own(self, settings):
        assert "SECRET_KEY" in only("I001", deploy=True).msg
        assert "I001" not in ids()
        settings.IDEMPOTENCY = {"SECRET": settings.SECRET_KEY}
        assert "I001" not in ids(deploy=True)
        silent("I001", deploy=True)


class TestMiddleware:
    @pytest.fixture(autouse=True)
    def paths(self, settings):
        settings.IDEMPOTENCY = {"PATHS": [""]}

    @pytest.mark.parametrize("second", [OURS, MYSELF + "Ours"])
    def test_listed_twice(self, settings, second):
        settings.MIDDLEWARE = [OURS, second]
        assert "listed 2 times" in only("E002").msg
        settings.MIDDLEWARE = [OURS]
        silent("E002")

    @pytest.mark.parametrize(
        "path",
        [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.auth.middleware.LoginRequiredMiddleware",
            "django.contrib.auth.middleware.PersistentRemoteUserMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
        ],
    )
    def test_above_one_that_checks_the_caller(self, settings, path):
        settings.MIDDLEWARE = [OURS, path]
        assert path in only("E003").msg
        settings.MIDDLEWARE = [path, OURS]
        assert ids() == []
        silent("E003")

    @pytest.mark.parametrize(
        ("name", "hook"),
        [
            ("Looks", "process_view"),
            ("Catches", "process_exception"),
            ("Renders", "process_template_response"),
        ],
    )
    def test_above_one_with_view_hooks(self, settings, name, hook):
        settings.MIDDLEWARE = [OURS, MYSELF + name]
        assert f"{MYSELF}{name} in MIDDLEWARE, which has {hook}:" in only("W001").msg
        settings.MIDDLEWARE = [MYSELF + name, OURS]
        assert ids() == []
        silent("W001")

    @pytest.mark.parametrize(
        "path",
        [
            "django.middleware.gzip.GZipMiddleware",
            "django.middleware.http.ConditionalGetMiddleware",
            "django.middleware.locale.LocaleMiddleware",
            "django.middleware.cache.UpdateCacheMiddleware",
        ],
    )
    def test_above_one_that_changes_responses(self, settings, path):
        settings.MIDDLEWARE = [OURS, path]
        assert path in only("W002").msg
        settings.MIDDLEWARE = [path, OURS]
        assert ids() == []
        silent("W002")

    def test_each_misplaced_middleware_is_named(self, settings):
        below = list(settings.MIDDLEWARE)
        settings.MIDDLEWARE = [OURS, *below]
        text = " ".join(each.msg for each in check())
        assert [path for path in below if path not in text] == []
        assert len(ids()) == len(set(ids()))

    def test_what_cannot_be_looked_into_is_left_alone(self, settings):
        settings.MIDDLEWARE = [OURS, MYSELF + "Plain", MYSELF + "function_middleware", "no.such"]
        assert ids() == []

    def test_nothing_is_asked_of_projects_without_the_middleware(self, settings):
        settings.MIDDLEWARE = list(reversed(settings.MIDDLEWARE))
        assert ids() == []
