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
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django.utils.decorators import decorator_from_middleware, method_decorator
from django.utils.deprecation import MiddlewareMixin
from django.views import View
from reversion.middleware import RevisionMiddleware

from django_idempotency import checks
from django_idempotency.checks import databases
from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.middleware import IdempotencyMiddleware
from tests.support.checking import check, closed, ids, only, silent

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


def ordinary(request: HttpRequest) -> HttpResponse:
    return HttpResponse("done")


@transaction.atomic
@closed
def hidden(request: HttpRequest) -> HttpResponse:
    return HttpResponse("done")


def opaque(view):
    """A decorator that does not say what it wraps."""

    def checked(request: HttpRequest) -> HttpResponse:
        return view(request)

    return checked


class HiddenMethod(View):
    @transaction.atomic
    @method_decorator(closed)
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("done")


class CheckedMethod(View):
    @method_decorator(login_required)
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("done")


class Overriding(CheckedMethod):
    def post(self, request: HttpRequest) -> HttpResponse:
        return super().post(request)


def hidden_operations():
    from ninja import NinjaAPI

    api = NinjaAPI(urls_namespace="hidden")
    api.post("/")(transaction.atomic(closed(ordinary)))
    return api.urls


class ClassView(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("done")


class URLconf:
    """What a URLconf module is to Django."""

    def __init__(self, *views: object) -> None:
        self.urlpatterns = [path(f"{number}/", view) for number, view in enumerate(views)]


class Nested:
    """One that includes another below ``/api/v1/``."""

    def __init__(self, *views: object) -> None:
        inner = include((URLconf(*views).urlpatterns, "api"))
        self.urlpatterns = [re_path("^api/v(?P<version>[0-9])/", inner)]


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


class TestViews:
    @pytest.fixture(autouse=True)
    def installed(self, settings):
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, OURS]
        settings.IDEMPOTENCY = {"PATHS": [""]}

    def test_a_hidden_permission_check(self, settings):
        settings.ROOT_URLCONF = URLconf(hidden)
        decorator = f"{closed.__module__}.closed"
        message = f"The decorator {decorator} around the view {MYSELF}hidden cannot run"
        assert only("E004").msg.startswith(message)
        settings.ROOT_URLCONF = URLconf(closed(idempotent(ordinary)))
        assert ids() == []
        silent("E004")

    @pytest.mark.parametrize("view", [HiddenMethod, Overriding])
    def test_a_hidden_check_of_a_handler(self, settings, view):
        settings.ROOT_URLCONF = URLconf(view.as_view())
        assert f"{MYSELF}{view.__name__}.post cannot run" in only("E004").msg
        settings.ROOT_URLCONF = URLconf(CheckedMethod.as_view())
        silent("E004")

    def test_a_hidden_check_of_a_class_that_is_decorated(self, settings):
        settings.MIDDLEWARE = settings.MIDDLEWARE[:-1]
        settings.ROOT_URLCONF = URLconf(idempotent(type("Own", (HiddenMethod,), {})).as_view())
        assert only("E004")

    def test_a_hidden_check_of_an_operation(self, settings):
        settings.ROOT_URLCONF = URLconf()
        settings.ROOT_URLCONF.urlpatterns = [path("hidden/", hidden_operations())]
        assert only("E004")

    def test_a_decorator_that_does_not_say_what_it_wraps(self, settings):
        settings.ROOT_URLCONF = URLconf(opaque(ordinary))
        assert f"{MYSELF}opaque.<locals>.checked seems to be a decorator" in only("W048").msg
        settings.ROOT_URLCONF = URLconf(closed(ordinary), admin.site.admin_view(ordinary))
        silent("W048")

    def test_a_policy_that_comes_after_the_checks(self, settings):
        decorated = idempotent(recheck="authentication")
        settings.ROOT_URLCONF = URLconf(login_required(decorated(ordinary)))
        silent("W049")  # the middleware answers before them
        settings.MIDDLEWARE = settings.MIDDLEWARE[:-1]
        assert f"{MYSELF}ordinary has the policy" in only("W049").msg
        settings.ROOT_URLCONF = URLconf(decorated(type("Own", (ClassView,), {})).as_view())
        silent("W049")

    def test_it_matters_only_to_the_middleware(self, settings):
        settings.ROOT_URLCONF = URLconf(hidden)
        settings.MIDDLEWARE = settings.MIDDLEWARE[:-1]
        silent("E004")

    def test_it_is_found_in_included_urlconfs_and_named_once(self, settings):
        settings.ROOT_URLCONF = Nested(hidden)
        settings.ROOT_URLCONF.urlpatterns.append(path("again/<slug>/", hidden))
        assert only("E004")

    @pytest.mark.parametrize(
        ("paths", "found"),
        [(["^/api/v[0-9]+/"], ["E004"]), (["/0/$"], ["E004"]), (["^/internal/"], ["W050"])],
    )
    def test_it_matters_only_where_the_middleware_guards(self, settings, paths, found):
        settings.ROOT_URLCONF = Nested(hidden)
        settings.IDEMPOTENCY = {"PATHS": paths}
        assert ids() == found

    @pytest.mark.parametrize("urlconf", ["no.such.module", None, URLconf])
    def test_broken_urlconfs_are_left_to_django(self, settings, urlconf):
        settings.ROOT_URLCONF = urlconf
        assert ids() == []

    def test_what_is_no_view_is_passed_over(self, settings):
        settings.ROOT_URLCONF = URLconf()
        settings.ROOT_URLCONF.urlpatterns.append("orders/")
        assert ids() == []


def paying():
    """A new one each time: transaction.non_atomic_requests marks the view itself."""

    @idempotent(atomic=False)
    def pays(request: HttpRequest) -> HttpResponse:
        return HttpResponse("done")

    return pays


@idempotent(store="cache")
def leased(request: HttpRequest) -> HttpResponse:
    return HttpResponse("done")


class Pays(View):
    @idempotent(atomic=False)
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("done")


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class PaysOutside(Pays):
    pass


class TestRequestBlocks:
    @pytest.fixture(autouse=True)
    def atomic_requests(self, monkeypatch):
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)

    def test_a_function_that_owns_its_transactions(self, settings):
        view = paying()
        settings.ROOT_URLCONF = URLconf(ordinary, idempotent(ordinary), view, view)
        assert "pays owns its transactions (atomic=False, " in only("E020").msg
        settings.ROOT_URLCONF = URLconf(transaction.non_atomic_requests(view))
        silent("E020")

    def test_a_class(self, settings):
        settings.ROOT_URLCONF = URLconf(Pays.as_view())
        assert f"The view {MYSELF}Pays owns" in only("E020").msg
        settings.ROOT_URLCONF = URLconf(PaysOutside.as_view())
        silent("E020")

    def test_a_view_whose_records_are_in_a_cache_alone(self, settings):
        settings.IDEMPOTENCY = {"CACHE": "default"}
        settings.ROOT_URLCONF = URLconf(leased)
        assert f"{MYSELF}leased" in only("E020").msg

    def test_the_settings_policy(self, settings):
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, OURS]
        settings.IDEMPOTENCY = {"ATOMIC": False}
        settings.ROOT_URLCONF = URLconf(ordinary)
        assert f"{MYSELF}ordinary" in only("E020").msg
        settings.IDEMPOTENCY = {}
        silent("E020")

    def test_the_block_of_another_database_does_not_count_as_left(self, settings):
        settings.ROOT_URLCONF = URLconf(transaction.non_atomic_requests(using="other")(paying()))
        assert '"default" has ATOMIC_REQUESTS' in only("E020").msg

    def test_without_such_blocks_there_is_nothing_to_say(self, settings, monkeypatch):
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", False)
        settings.ROOT_URLCONF = URLconf(paying())
        silent("E020")
