"""The built package: what is in it, and that it works with plain Django alone."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import django_idempotency
from tests.support.elsewhere import LEFT_BEHIND

pytestmark = [pytest.mark.processes, pytest.mark.once]

ROOT = Path(__file__).parents[2]


def declared() -> configparser.ConfigParser:
    package = configparser.ConfigParser()
    package.read(ROOT / "setup.cfg")
    return package


EXTRAS = sorted(declared()["options.extras_require"])
ALL_EXTRAS = ",".join(EXTRAS)
ONE_BY_ONE = EXTRAS if os.environ.get("IDEMPOTENCY_TEST_EXTRAS") else []
"""An environment for each extra takes its time: ``make extras``."""

PROJECT = """
from django.contrib.auth.models import Group
from django.http import JsonResponse
from django.urls import path

from django_idempotency.decorators import idempotent


def create(request):
    group = Group.objects.create(name=request.POST["name"])
    return JsonResponse({"id": group.pk}, status=201)


urlpatterns = [path("create/", create), path("decorated/", idempotent(create))]
"""

SETTINGS = """
SECRET_KEY = "a" * 50
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "project"
IDEMPOTENCY = {"PATHS": [""]}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "db.sqlite3",
        "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL"},
    }
}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django_idempotency",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_idempotency.middleware.IdempotencyMiddleware",
]
"""

STORY = """
import sys
from importlib.util import find_spec

import django

django.setup()

from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

import django_idempotency
from django_idempotency.models import IdempotencyRecord

assert django_idempotency.__file__.startswith(sys.prefix), django_idempotency.__file__
client = Client()
client.force_login(User.objects.create_user("ada.lovelace"))


def post(path, name):
    return client.post(path, {"name": name}, headers={"idempotency-key": name[0]})


for path, name in (("/create/", "middleware"), ("/decorated/", "decorator")):
    first, replay, mismatch = post(path, name), post(path, name), post(path, name + "s")
    assert (first.status_code, replay.status_code) == (201, 201), first.content
    assert "Idempotency-Replayed" not in first
    assert (replay.content, replay["Idempotency-Replayed"]) == (first.content, "true")
    assert mismatch.status_code == 422
    assert mismatch.json()["code"] == "idempotency_key_reused"
    assert Group.objects.get().name == name
    Group.objects.all().delete()

assert find_spec("rest_framework") is None
past = timezone.now()
print(
    IdempotencyRecord.objects.update(expires_at=past, purge_at=past),
    "records and no REST framework",
)
"""

IMPORT_ALL = """
import importlib, json, pathlib

import django

django.setup()
import django_idempotency

package = pathlib.Path(django_idempotency.__file__).parent
missing = {}
for file in package.rglob("*.py"):
    parts = file.relative_to(package.parent).with_suffix("").parts
    if "admin" in parts or parts[1:3] == ("contrib", "statistics"):
        continue  # they ask for django.contrib.admin, and to be installed
    try:
        importlib.import_module(".".join(part for part in parts if part != "__init__"))
    except ModuleNotFoundError as error:
        missing[".".join(parts)] = error.name.partition(".")[0]
print(json.dumps(missing))
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "DJANGO_SETTINGS_MODULE"}
    }
    done = subprocess.run(
        command,
        cwd=cwd,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python")


def new_environment(folder: Path, *packages: str | Path) -> Path:
    """Return the interpreter of a fresh virtual environment, into which our own pip installs."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    run(*PIP, python, "install", *packages, cwd=folder.parent)
    return python


def files_of_the_package() -> set[str]:
    package = ROOT / "django_idempotency"
    return {
        file.relative_to(ROOT).as_posix()
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    # A build writes into its source.
    source = shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    python = new_environment(folder / "builder", "build", "pip")
    run(python, "-m", "build", "--outdir", folder / "dist", source, cwd=folder)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [found] = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def project(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> "Project":
    folder = tmp_path_factory.mktemp("project")
    (folder / "project.py").write_text(PROJECT)
    (folder / "settings.py").write_text(SETTINGS)
    (folder / "story.py").write_text(STORY)
    return Project(new_environment(folder / "venv", wheel), folder)


class Project:
    """A project with nothing but Django and the wheel."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python = python
        self.folder = folder

    def run(self, *arguments: str) -> str:
        return run(
            self.python,
            "-W",
            "error",
            *arguments,
            cwd=self.folder,
            DJANGO_SETTINGS_MODULE="settings",
        )


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == files_of_the_package()
    assert {
        "django_idempotency/py.typed",
        "django_idempotency/migrations/0001_initial.py",
        "django_idempotency/management/commands/purge_idempotency_records.py",
    } <= names


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        about = message_from_string(archive.read(metadata).decode())
    assert about["Name"] == "django-idempotency"
    assert about["Version"] == django_idempotency.__version__
    assert "BSD-3-Clause" in {about["License-Expression"], about["License"]}
    assert any(name.endswith("/LICENSE") for name in names)
    assert about["Requires-Python"] == ">=3.11"
    needed = [line for line in about.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert needed == ["django>=5.2"]
    assert "drf" in about.get_all("Provides-Extra", [])
    assert about.get_payload().startswith("# ")


def test_the_source_distribution_holds_tests_and_documentation_too(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert files_of_the_package() | {"setup.cfg", "pyproject.toml", "README.md", "LICENSE"} <= names
    assert {"CHANGELOG.md", "docs/index.md", "tests/conftest.py", "tests/__main__.py"} <= names
    assert {"example_project/manage.py", "proof/checker.py"} <= names  # the tests use both
    assert not [name for name in names if name.startswith("benchmarks") or ".sqlite3" in name]


def test_it_works_with_plain_django_alone(project: Project) -> None:
    project.run("-m", "django", "makemigrations", "--check", "--dry-run")
    project.run("-m", "django", "migrate", "--verbosity", "0")
    checked = project.run("-m", "django", "check", "--fail-level", "DEBUG", "--database", "default")
    assert checked == "System check identified no issues (0 silenced).\n"
    assert project.run("story.py") == "2 records and no REST framework\n"
    assert project.run("-m", "django", "purge_idempotency_records").startswith("Removed 2 ")
    assert project.run("-m", "django", "purge_idempotency_records").startswith("Removed 0 ")
    project.run("-m", "django", "migrate", "--verbosity", "0", "django_idempotency", "zero")


DRIVERS = {"django_idempotency.compat.psycopg": "psycopg"}
"""What is imported only where a project has the driver."""


@pytest.mark.parametrize("extra", [*ONE_BY_ONE, ALL_EXTRAS])
def test_each_extra_brings_what_its_modules_import(
    extra: str, wheel: Path, project: Project, tmp_path: Path
) -> None:
    """With all of them, every module can be imported, but for those of Django's drivers."""
    python = new_environment(tmp_path / "venv", f"{wheel}[{extra}]")
    run(*PIP, python, "check", cwd=tmp_path)
    without = json.loads(project.run("-c", IMPORT_ALL))
    missing = json.loads(Project(python, project.folder).run("-c", IMPORT_ALL))
    assert missing.items() < without.items()
    assert missing == DRIVERS or extra != ALL_EXTRAS


def test_what_it_says_of_itself_is_what_is_tested() -> None:
    """Classifiers, tox and the least versions name the same Pythons and Djangos."""
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    environments, pins = tox["tox"]["env_list"], tox["testenv"]["deps"]
    classifiers = declared()["metadata"]["classifiers"]
    djangos = re.findall(r"Django :: (\d)\.(\d)", classifiers)
    assert {f"django{major}{minor}" for major, minor in djangos} == set(
        re.findall(r"^ *(django\d+):", pins, re.MULTILINE)
    )
    pythons = re.findall(r"Python :: (3\.\d+)", classifiers)
    assert {python.replace(".", "") for python in pythons} == {
        minor
        for group in re.findall(r"py(?:(\d+)|\{([\d,]+)\})", environments)
        for minor in "".join(group).split(",")
    }
    assert tox["testenv"]["extras"].split() == EXTRAS
    options = declared()["options"]
    assert options["python_requires"] == f">={pythons[0]}"
    oldest = {re.sub(r"(\.0)+$", "", line) for line in re.findall(r"oldest: (.*)", pins)}
    extras = declared()["options.extras_require"]
    required = options["install_requires"] + "".join(extras[extra] for extra in EXTRAS)
    assert oldest == {line.replace(">=", "==") for line in required.split()}
