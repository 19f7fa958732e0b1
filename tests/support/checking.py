"""Running the system checks of this package in tests."""

from functools import wraps

from django.contrib.auth.decorators import login_required
from django.core.checks import CheckMessage, run_checks
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View

from django_idempotency.checks import CHECKS

HERE = f"{__name__}."
"""Before the names of the views below."""


def check(*databases: str, deploy: bool = False) -> list[CheckMessage]:
    """Run the checks like ``check --database ... --deploy``."""
    return run_checks(tags=["idempotency"], databases=databases, include_deployment_checks=deploy)


def ids(*databases: str, deploy: bool = False) -> list[str]:
    """Return the short ids of all messages: ``E001``."""
    messages = check(*databases, deploy=deploy)
    return [message.id.removeprefix("django_idempotency.") for message in messages]


def only(number: str, *databases: str, deploy: bool = False) -> CheckMessage:
    """Return the one message of a check; every message has a hint and is in the table."""
    messages = check(*databases, deploy=deploy)
    assert all(message.hint and message.id in CHECKS for message in messages)
    [message] = [each for each in messages if each.id == f"django_idempotency.{number}"]
    return message


def silent(number: str, *databases: str, deploy: bool = False) -> None:
    """Make sure that a check has nothing to say: what it names is mended, or not there."""
    assert number not in ids(*databases, deploy=deploy)


def closed(view):
    """A permission check of the project's own, which says no more than Django needs to know."""

    @wraps(view)
    def checked(request: HttpRequest) -> HttpResponse:
        return view(request)

    checked.login_url = "/login/"
    return checked


def ordinary(request: HttpRequest) -> HttpResponse:
    return HttpResponse("done")


class URLconf:
    """What a URLconf module is to Django."""

    def __init__(self, *views: object) -> None:
        self.urlpatterns = [path(f"{number}/", view) for number, view in enumerate(views)]


class CheckedMethod(View):
    @method_decorator(login_required)
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("done")


class ClassView(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("done")
