"""What is wrong in the settings stops the start, not each request, and says what to do (I18)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.processes, pytest.mark.once]

SETTINGS = """
SECRET_KEY = "only-for-tests"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django_idempotency"]
MIDDLEWARE = []
ROOT_URLCONF = "project"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
"""
WRONG = 'IDEMPOTENCY = {"RETENTOIN": 1, "POLICIES": {"^/api/": {"REQUIRED": "yes"}}}\n'
MIDDLEWARE = 'MIDDLEWARE = ["django_idempotency.middleware.IdempotencyMiddleware"]\n'
NO_APP = "INSTALLED_APPS = []\n"
WSGI = "from django.core.wsgi import get_wsgi_application; get_wsgi_application()"
ASGI = "from django.core.asgi import get_asgi_application; get_asgi_application()"
SETUP = "import django; django.setup()"
MANAGE = "from django.core.management import execute_from_command_line as run; run(['', {}])"
HIDE = (
    "from importlib import util; find = util.find_spec; "
    "util.find_spec = lambda name, *rest: None if name == '%s' else find(name, *rest); "
)
"""A package that looks as if it were not installed."""


@pytest.fixture
def start(tmp_path: Path):
    """Start a project in a process of its own; return the last lines of its errors."""

    def run(code: str, settings: str, urls: str = "urlpatterns = []\n") -> str:
        (tmp_path / "settings.py").write_text(SETTINGS + settings)
        (tmp_path / "project.py").write_text(urls)
        path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
        environment = os.environ | {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "settings"}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0 or done.stderr
        return done.stderr

    return run


def manage(*arguments: str) -> str:
    return MANAGE.format(", ".join(map(repr, arguments)))


class TestWrongSettings:
    @pytest.mark.parametrize("code", [WSGI, ASGI, SETUP], ids=["wsgi", "asgi", "worker"])
    def test_stop_servers_and_workers(self, start, code: str) -> None:
        errors = start(code, WRONG)
        assert errors.endswith(
            "django_idempotency.conf.settings.SettingError: The setting IDEMPOTENCY is not valid:\n"
            '    IDEMPOTENCY["RETENTOIN"]: there is no such setting (did you mean "RETENTION"?)\n'
            '    IDEMPOTENCY["POLICIES"]["^/api/"]["REQUIRED"]: must be True or False, not '
            "'yes'\n"
        )

    @pytest.mark.parametrize(
        "command", [["check"], ["runserver", "--noreload", "0"], ["migrate"]], ids=lambda c: c[0]
    )
    def test_are_system_checks_of_commands(self, start, command: list[str]) -> None:
        """Each with a hint, and no traceback."""
        errors = start(manage(*command), WRONG)
        assert errors.count("(django_idempotency.E001)") == 2
        assert errors.count("HINT: Correct IDEMPOTENCY[") == 2
        assert "Traceback" not in errors

    def test_stop_a_server_that_a_command_starts_without_checks(self, start) -> None:
        code = manage("runserver", "--noreload", "--skip-checks", "0")
        assert "SettingError: The setting IDEMPOTENCY is not valid" in start(
            code, WRONG + MIDDLEWARE
        )

    def test_are_clear_to_our_commands_that_run_no_checks(self, start) -> None:
        errors = start(manage("idempotency_contract"), WRONG)
        assert errors.startswith("CommandError: The setting IDEMPOTENCY is not valid:\n")

    def test_migrate_does_not_complain_about_the_tables_it_makes(self, start) -> None:
        assert "W051" in start(manage("check", "--database", "default"), MIDDLEWARE)
        assert "W051" not in start(manage("migrate", "-v0"), MIDDLEWARE)

    @pytest.mark.parametrize("code", [WSGI, ASGI, SETUP, manage("check")])
    def test_right_ones_do_not(self, start, code: str) -> None:
        assert start(code, 'IDEMPOTENCY = {"REQUIRED": True}\n' + MIDDLEWARE) == ""

    def test_a_missing_secret_key_is_left_to_django(self, start) -> None:
        """Commands that need none, such as collectstatic, run without."""
        assert start(SETUP, "SECRET_KEY = ''\n") == ""


class TestTheAppIsNotInstalled:
    ADVICE = 'add "django_idempotency" to INSTALLED_APPS, and run manage.py migrate.\n'

    def test_but_the_middleware_is(self, start) -> None:
        assert start(WSGI, NO_APP + MIDDLEWARE).endswith(self.ADVICE)

    def test_but_the_decorator_is_used(self, start) -> None:
        urls = "from django_idempotency.decorators import idempotent\nurlpatterns = []\n"
        assert start(manage("check"), NO_APP, urls).endswith(self.ADVICE)


@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [
        ("rest_framework", "reconciliation.urls", "drf"),
        ("prometheus_client", "contrib.prometheus.apps", "prometheus"),
        ("opentelemetry", "contrib.opentelemetry.apps", "opentelemetry"),
    ],
)
def test_a_missing_extra_is_named(start, package: str, module: str, extra: str) -> None:
    errors = start(f"{HIDE % package}{SETUP}; import django_idempotency.{module}", "")
    assert errors.endswith(
        f"needs the package {package}, which is not installed: run python -m pip install "
        f"'django-idempotency[{extra}]'.\n"
    )


def test_a_store_without_its_extra_names_it(start) -> None:
    backend = {"BACKEND": "django.core.cache.backends.redis.RedisCache"}  # Django's own
    caches = f"CACHES = {{'default': {backend}, 'redis': {backend}}}\n"
    for store in ("store.backend_of", "replay_cache.replay_cache_of"):
        module, _, name = store.partition(".")
        use = f"from django_idempotency.stores.cache.{module} import {name}; {name}('redis')"
        errors = start(f"{HIDE % 'django_redis'}{SETUP}; {use}", caches)
        assert errors.endswith("pip install 'django-idempotency[redis]'.\n")
