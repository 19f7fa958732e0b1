"""The README: what is supported, and a start that works."""

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, rows, section, text_of

pytestmark = [pytest.mark.processes, pytest.mark.once]


class TestReadme:
    PAGE = ROOT / "README.md"

    def test_the_supported_versions_are_those_of_the_package(self) -> None:
        package = configparser.ConfigParser()
        package.read(ROOT / "setup.cfg")
        table = {row[0]: row[1] for row in rows(section(self.PAGE, "Supported versions"))[2:]}
        for classifier in package["metadata"]["classifiers"].split("\n"):
            *kind, version = classifier.split(" :: ")
            if re.fullmatch(r"\d+\.\d+", version):
                assert version in table[kind[-1]]
        extras = package["options.extras_require"]
        assert extras["drf"].strip() == "djangorestframework>=3.16"
        assert table["Django REST framework"].startswith("3.16 or newer")
        (line,) = re.findall(r"^Extras: .*?\n\n", text_of(self.PAGE), re.MULTILINE | re.DOTALL)
        assert set(re.findall(r"`(\w+)`", line)) == set(extras)

    def test_the_start_works(self, tmp_path: Path) -> None:
        """A new project, the README's settings and view, and its curl sent as the README says."""
        start = section(self.PAGE, "Start")
        new_settings, urls = blocks(start, "python")
        (curl,) = (
            line for block in blocks(start, "sh") for line in block.splitlines() if "curl" in line
        )
        project(tmp_path, "-m", "django", "startproject", "shop", ".")
        with (tmp_path / "shop/settings.py").open("a") as file:
            file.write('INSTALLED_APPS += ["rest_framework"]\n' + new_settings)
        (tmp_path / "shop/urls.py").write_text(urls)
        project(tmp_path, "manage.py", "migrate", "--verbosity", "0")
        answers = json.loads(project(tmp_path, "-c", SEND, *shlex.split(curl)))
        first, retry, other = answers
        assert [first["status"], retry["status"], other["status"]] == [201, 201, 422]
        assert first["body"] == retry["body"]
        assert [first["replayed"], retry["replayed"]] == [None, "true"]


SEND = """
import base64, json, sys
import django

django.setup()

from django.contrib.auth.models import User
from django.test import Client

_, *arguments, url = sys.argv[1:]
options = {}
while arguments:
    name = arguments.pop(0)
    if name in ("-u", "-H", "-d"):
        options[name] = arguments.pop(0)
user, password = options["-u"].split(":")
header, key = options["-H"].split(": ")
User.objects.create_user(user, password=password)
credentials = base64.b64encode(options["-u"].encode()).decode()
client = Client(enforce_csrf_checks=True, SERVER_NAME="127.0.0.1")
answers = []
for data in (options["-d"], options["-d"], "item=disk"):
    response = client.post(
        url,
        data,
        content_type="application/x-www-form-urlencoded",
        headers={"authorization": "Basic " + credentials, header: key},
    )
    answers.append(
        {
            "status": response.status_code,
            "body": response.text,
            "replayed": response.get("Idempotency-Replayed"),
        }
    )
print(json.dumps(answers))
"""
"""Sends what the arguments of curl say twice, and then with another body."""


def project(folder: Path, *arguments: str) -> str:
    """Run Python in a project's folder; return what it printed."""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
    }
    if "startproject" in arguments:
        del environment["DJANGO_SETTINGS_MODULE"]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
