"""Views whose permission checks the guard cannot see, or whose transactions it does not share."""

import pytest
from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django.utils.decorators import method_decorator
from django.views import View

from django_idempotency.decorators import idempotent
from django_idempotency.forms import idempotent_form
from django_idempotency.webhooks import receiving, standard_signature, stripe_signature, webhook
from tests.support.checking import (
    HERE,
    CheckedMethod,
    ClassView,
    URLconf,
    closed,
    ids,
    only,
    ordinary,
    silent,
)

pytestmark = pytest.mark.once

OURS = "django_idempotency.middleware.IdempotencyMiddleware"
MYSELF = f"{__name__}."


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


class Overriding(CheckedMethod):
    def post(self, request: HttpRequest) -> HttpResponse:
        return super().post(request)


def hidden_operations():
    from ninja import NinjaAPI

    api = NinjaAPI(urls_namespace="hidden")
    api.post("/")(transaction.atomic(closed(ordinary)))
    return api.urls


class Nested:
    """One that includes another below ``/api/v1/``."""

    def __init__(self, *views: object) -> None:
        inner = include((URLconf(*views).urlpatterns, "api"))
        self.urlpatterns = [re_path("^api/v(?P<version>[0-9])/", inner)]


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
        assert f"{HERE}ordinary has the policy" in only("W049").msg
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
        assert f"{HERE}ordinary" in only("E020").msg
        settings.IDEMPOTENCY = {}
        silent("E020")

    def test_the_block_of_another_database_does_not_count_as_left(self, settings):
        settings.ROOT_URLCONF = URLconf(transaction.non_atomic_requests(using="other")(paying()))
        assert '"default" has ATOMIC_REQUESTS' in only("E020").msg

    def test_without_such_blocks_there_is_nothing_to_say(self, settings, monkeypatch):
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", False)
        settings.ROOT_URLCONF = URLconf(paying())
        silent("E020")


class TestForms:
    @pytest.mark.parametrize("kind", ["function", "class", "method", "decorated method"])
    def test_the_pages_of_errors_are_not_found(self, settings, kind):
        class Form(View):
            def post(self, request: HttpRequest) -> HttpResponse:
                return HttpResponse()

        class Method(View):
            post = idempotent_form(Form.post)

        forms = {
            "function": lambda: closed(idempotent_form(ordinary)),
            "class": idempotent_form(Form).as_view,
            "method": Method.as_view,
            "decorated method": method_decorator(idempotent_form(), "post")(Form).as_view,
        }
        settings.ROOT_URLCONF = URLconf(forms[kind]())
        silent("E073")
        settings.INSTALLED_APPS = [each for each in settings.INSTALLED_APPS if "forms" not in each]
        assert only("E073")
        settings.TEMPLATES = []
        assert only("E073")
        settings.ROOT_URLCONF = URLconf(ordinary)
        silent("E073")


class TestWebhooks:
    @pytest.mark.parametrize("secrets", [None, "", [], [""]], ids=str)
    def test_a_receiver_without_a_secret(self, settings, monkeypatch, secrets):
        monkeypatch.setattr(receiving, "_receivers", {})
        settings.ROOT_URLCONF = URLconf(
            webhook("stripe", verify=stripe_signature("PAID_SECRETS"), key=len)(ordinary),
            webhook("other", verify=stripe_signature(lambda: ""), key=len)(
                lambda request, event: None
            ),
        )
        settings.PAID_SECRETS = secrets
        assert "receiver of the webhook stripe has no secret" in only("E052").msg
        del settings.PAID_SECRETS
        assert only("E052")
        settings.PAID_SECRETS = ["a secret"]
        silent("E052")

    def test_a_secret_that_its_sender_has_not_made(self, settings, monkeypatch):
        monkeypatch.setattr(receiving, "_receivers", {})
        verify = standard_signature("PAID_SECRETS")
        settings.ROOT_URLCONF = URLconf(webhook("svix", verify=verify, key=len)(ordinary))
        for secret, is_wrong in (("whsec_", True), ("no base64!", True), ("whsec_c2VjcmV0", False)):
            settings.PAID_SECRETS = [secret]
            (only if is_wrong else silent)("E052")
