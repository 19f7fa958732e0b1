"""The built package: what is in it, and that it works with plain Django alone."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import django_idempotency

pytestmark = [pytest.mark.processes, pytest.mark.once]

ROOT = Path(__file__).parent.parent
LEFT_BEHIND = (".*", "__pycache__", "*.egg-info", "build", "dist", "*.sqlite3*")

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
print(IdempotencyRecord.objects.update(expires_at=timezone.now()), "records and no REST framework")
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


def new_environment(folder: Path, *packages: str | Path) -> Path:
    """Return the interpreter of a fresh virtual environment."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    install = ("-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    run(python, *install, *packages, cwd=folder.parent)
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
    python = new_environment(folder / "builder", "build")
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


def test_the_source_distribution_can_be_built_and_nothing_else(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert files_of_the_package() | {"setup.cfg", "pyproject.toml", "README.md", "LICENSE"} <= names
    assert not [name for name in names if name.startswith(("example_project", "benchmarks"))]


def test_it_works_with_plain_django_alone(project: Project) -> None:
    checked = project.run("-m", "django", "check", "--fail-level", "DEBUG", "--database", "default")
    assert checked == "System check identified no issues (0 silenced).\n"
    project.run("-m", "django", "makemigrations", "--check", "--dry-run")
    project.run("-m", "django", "migrate", "--verbosity", "0")
    assert project.run("story.py") == "2 records and no REST framework\n"
    assert project.run("-m", "django", "purge_idempotency_records").startswith("Removed 2 ")
    assert project.run("-m", "django", "purge_idempotency_records").startswith("Removed 0 ")
    project.run("-m", "django", "migrate", "--verbosity", "0", "django_idempotency", "zero")
