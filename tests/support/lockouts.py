"""A project with django-axes and drf-api-tracking: ``python -m tests.support.lockouts``.

No caller may switch their counters and logs off by sending a key. Prints what was seen, as JSON.
``GUARD`` says who guards the views: ``bare``, ``middleware`` or ``decorator``; ``atomic`` sets
``ATOMIC_REQUESTS``.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import django
from django.conf import settings

LIMIT = 3
"""Failures after which axes locks a user out."""


def configure(guard: str, folder: str, atomic_requests: bool) -> None:
    middleware = ["django_idempotency.middleware.IdempotencyMiddleware"]
    settings.configure(
        SECRET_KEY="only-for-tests-and-long-enough",
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(Path(folder) / "db"),
                "ATOMIC_REQUESTS": atomic_requests,
            }
        },
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "django_idempotency",
            "axes",
            "rest_framework_tracking",
        ],
        MIGRATION_MODULES=dict.fromkeys(["contenttypes", "auth", "sessions"]),
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "axes.middleware.AxesMiddleware",
            *(middleware if guard == "middleware" else []),
        ],
        AUTHENTICATION_BACKENDS=[
            "axes.backends.AxesStandaloneBackend",
            "django.contrib.auth.backends.ModelBackend",
        ],
        AXES_FAILURE_LIMIT=LIMIT,
        AXES_LOCKOUT_PARAMETERS=["username"],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        IDEMPOTENCY={"ANONYMOUS": "share", "PATHS": [r"^/"]},
    )
    django.setup()


def views(guard: str) -> list[Any]:
    from django.contrib.auth import authenticate
    from django.core.exceptions import PermissionDenied
    from django.http import HttpResponse
    from django.urls import path
    from django.views.decorators.csrf import csrf_exempt
    from rest_framework.exceptions import APIException
    from rest_framework.response import Response
    from rest_framework.views import APIView
    from rest_framework_tracking.mixins import LoggingMixin

    from django_idempotency.decorators import idempotent

    guarded = idempotent if guard == "decorator" else lambda view: view

    def enters(request: Any) -> bool:
        return authenticate(request, username="ada", password=request.POST["pin"]) is not None

    @csrf_exempt
    @guarded
    def returns(request: Any) -> HttpResponse:
        return HttpResponse(status=201 if enters(request) else 403)

    @csrf_exempt
    @guarded
    def raises(request: Any) -> HttpResponse:
        if not enters(request):
            raise PermissionDenied
        return HttpResponse(status=201)

    class Taken(APIException):
        status_code = 409

    class Logged(LoggingMixin, APIView):
        authentication_classes = ()
        permission_classes = ()

        @guarded
        def post(self, request: Any) -> Response:
            if "raise" in request.data:
                raise Taken
            return Response(status=409)

    return [
        path("returns/", returns),
        path("raises/", raises),
        path("logged/", Logged.as_view()),
    ]


urlpatterns: list[Any] = []


def main(guard: str, atomic_requests: bool) -> None:
    with TemporaryDirectory() as folder:
        configure(guard, folder, atomic_requests)
        from django.contrib.auth.models import User
        from django.core.management import call_command
        from django.test import Client

        # The module that Django's URLconf names, not ``__main__``.
        sys.modules[__name__].urlpatterns.extend(views(guard))  # type: ignore[attr-defined]
        call_command("migrate", run_syncdb=True, verbosity=0)
        User.objects.create_user("ada", password="right")
        print(json.dumps({"enters": enters(Client()), "logs": logs(Client())}))


def enters(client: Any) -> dict[str, list[int]]:
    """Guess as often as is allowed, each time under a new key, and then know."""
    from axes.utils import reset

    seen = {}
    for url in ("/returns/", "/raises/"):
        pins = [*(f"wrong-{number}" for number in range(LIMIT)), "right"]
        seen[url] = [
            client.post(url, {"pin": pin}, headers={"idempotency-key": url + pin}).status_code
            for pin in pins
        ]
        reset()
    return seen


def logs(client: Any) -> list[int]:
    """Be refused by a view that logs its requests."""
    from rest_framework_tracking.models import APIRequestLog

    for number, data in enumerate(({}, {"raise": "1"})):
        client.post("/logged/", data, headers={"idempotency-key": f"log-{number}"})
    return list(APIRequestLog.objects.order_by("pk").values_list("status_code", flat=True))


if __name__ == "__main__":
    from tests.support import lockouts

    lockouts.main(sys.argv[1], "atomic" in sys.argv[2:])
