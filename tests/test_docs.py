"""The documentation says what the code does."""

import ast
import configparser
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings
from django.core.management.base import BaseCommand
from django.test import override_settings

from django_idempotency.conf import OWN_SETTINGS, Configuration, configuration
from django_idempotency.decorators import idempotent
from django_idempotency.drf import IdempotencyError
from django_idempotency.http.problems import problem_response
from django_idempotency.management.commands.purge_idempotency_records import Command
from django_idempotency.policy import FIELDS, Policy
from django_idempotency.protocol import problems
from django_idempotency.protocol.problems import Code, Problem

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "example_project").glob("*.md")],
)
NAMES = [*(name.upper() for name in FIELDS), *OWN_SETTINGS]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def section(page: Path, title: str) -> str:
    """Return what stands under a heading of the second level."""
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", text_of(page), re.DOTALL | re.MULTILINE)
    assert found is not None, f"{name_of(page)} has no section {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row, headings included."""
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


class TestPages:
    def test_there_are_pages(self) -> None:
        assert {"README.md", "docs/index.md", "CHANGELOG.md"} <= {name_of(page) for page in PAGES}

    @every_page
    def test_python_compiles(self, page: Path) -> None:
        for block in blocks(text_of(page), "python"):
            compile(block, name_of(page), "exec")

    @every_page
    def test_links_within_the_project_resolve(self, page: Path) -> None:
        broken = [link for link in links(page) if not resolves(page, link)]
        assert broken == []

    def test_the_index_leads_to_every_page(self) -> None:
        index = DOCS / "index.md"
        linked = {(DOCS / link.partition("#")[0]).resolve() for link in links(index)}
        assert {page for page in DOCS.rglob("*.md") if page != index} <= linked

    @every_page
    def test_make_targets_exist(self, page: Path) -> None:
        named = set(re.findall(r"`make (\w+)", text_of(page)))
        assert named <= set(re.findall(r"^(\w+):", text_of(ROOT / "Makefile"), re.MULTILINE))


def links(page: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text_of(page))):
        if not re.match(r"[a-z]+:", link):
            yield link


def resolves(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return False
    return not anchor or anchor in anchors(target)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and most renderers make them."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class TestSettings:
    PAGE = DOCS / "settings.md"

    def table(self) -> dict[str, list[str]]:
        found = (row for row in rows(text_of(self.PAGE)) if row[0].startswith("[`"))
        return {re.findall(r"`(\w+)`", row[0])[0]: row for row in found}

    def test_the_table_and_the_headings_name_every_setting(self) -> None:
        headings = re.findall(r"^## (\w+)$", text_of(self.PAGE), re.MULTILINE)
        assert sorted(self.table()) == sorted(headings) == sorted(NAMES)

    @pytest.mark.parametrize("name", NAMES)
    def test_the_documented_default_is_the_default(self, name: str) -> None:
        default = (
            self.table()[name][1].split(", ")[0] if name == "SECRET" else self.table()[name][1]
        )
        stated = re.match(r"\s*Default: `([^`]*)`", section(self.PAGE, name))
        assert stated is not None
        assert f"`{stated[1]}`" == default
        given = eval(stated[1], {"timedelta": timedelta, "SECRET_KEY": settings.SECRET_KEY})
        assert configured({name: given}) == configured({})

    @pytest.mark.parametrize("name", NAMES)
    def test_it_says_whether_the_decorator_takes_it(self, name: str) -> None:
        taken = name.lower() in FIELDS
        assert self.table()[name][3] == ("yes" if taken else "no")
        text = " ".join(section(self.PAGE, name).split())
        assert (f"Decorator: `{name.lower()}`." in text) is taken
        assert ("Not for the decorator." in text) is not taken

    @pytest.mark.parametrize("name", NAMES)
    def test_the_example_configures(self, name: str, monkeypatch: Any) -> None:
        monkeypatch.setenv("IDEMPOTENCY_SECRET", "a secret of its own")
        (example,) = blocks(section(self.PAGE, name), "python")
        namespace: dict[str, Any] = {
            "timedelta": timedelta,
            "os": os,
            "idempotent": idempotent,
        }
        exec(example, namespace)
        module = ModuleType("myproject.api")
        vars(module).update(namespace)
        monkeypatch.setitem(sys.modules, "myproject", ModuleType("myproject"))
        monkeypatch.setitem(sys.modules, "myproject.api", module)
        if "IDEMPOTENCY" not in namespace:
            assert f"@idempotent({name.lower()}=" in example
            return
        assert list(namespace["IDEMPOTENCY"]) == [name]
        assert configured(namespace["IDEMPOTENCY"]) != configured({})


def configured(given: dict[str, Any]) -> Configuration:
    with override_settings(IDEMPOTENCY=given):
        return configuration()


class TestErrors:
    PAGE = DOCS / "errors.md"
    PROBLEMS = (
        problems.key_missing("H"),
        problems.key_invalid("H", "reason"),
        problems.key_reused("H", Policy().mismatch_status),
        problems.in_flight(Policy().in_flight_status, Policy().retry_after),
        problems.response_unavailable(201, "reason"),
        problems.anonymous_refused("H"),
        problems.key_expired("H", Policy().expired_status),
        problems.store_busy(Policy().retry_after),
    )

    def test_the_table_names_every_code(self) -> None:
        codes = [row[0].strip("`") for row in rows(text_of(self.PAGE)) if "`idem" in row[0]]
        assert sorted(codes) == sorted(str(code) for code in Code)
        assert sorted(codes) == sorted(str(problem.code) for problem in self.PROBLEMS)

    @pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: str(problem.code))
    def test_status_and_advice(self, problem: Problem) -> None:
        (row,) = (row for row in rows(text_of(self.PAGE)) if row[0] == f"`{problem.code}`")
        assert row[1] == str(problem.status)
        assert row[3] == ("yes" if problem.retryable else "no")
        assert ("`Retry-After`" in row[4]) is (problem.retry_after is not None)

    def test_the_body_and_the_headers_are_real(self) -> None:
        (body,) = (json.loads(block) for block in blocks(text_of(self.PAGE), "json"))
        (head,) = blocks(text_of(self.PAGE), "http")
        policy = Policy(docs_url="https://api.example.com/docs/retries")
        (in_flight,) = (each for each in self.PROBLEMS if each.code == Code.IN_FLIGHT)
        response = problem_response(in_flight, policy)
        real = json.loads(response.content)
        assert real.pop("instance").startswith("urn:uuid:")
        assert body.pop("instance").startswith("urn:uuid:")
        assert body == real
        status, *fields = head.splitlines()
        assert status == f"HTTP/1.1 {response.status_code} {response.reason_phrase}"
        assert dict(field.split(": ", 1) for field in fields) == dict(response.items())

    def test_the_exception_handler_works(self) -> None:
        handle = self.example("Through DRF's exception handler", "api_exception_handler")
        for problem in self.PROBLEMS:
            response = handle(IdempotencyError(problem), {})
            assert response.status_code == problem.status
            assert response.data["error"]["code"] == problem.code
            assert response.data["message"] == problem.detail
            assert response.get("Retry-After") == waiting_time(problem)

    def test_the_function_works(self) -> None:
        respond = self.example("By a function of yours", "error_response")
        for problem in self.PROBLEMS:
            response = respond(problem, None)
            assert response.status_code == problem.status
            assert json.loads(response.content) == {"error": problem.code}
            assert response.get("Retry-After") == waiting_time(problem)

    def example(self, title: str, name: str) -> Any:
        (code,) = blocks(section(self.PAGE, title), "python")
        namespace: dict[str, Any] = {}
        exec(code, namespace)
        return namespace[name]


def waiting_time(problem: Problem) -> str | None:
    return None if problem.retry_after is None else str(problem.retry_after)


class TestOperations:
    PAGE = DOCS / "operations.md"

    def test_every_check_is_listed(self) -> None:
        pattern = r"django_idempotency\.[EWI]\d{3}"
        package = ROOT / "django_idempotency"
        sources = [*package.glob("checks.py"), *package.glob("checks/*.py")]
        known = {found for path in sources for found in re.findall(pattern, path.read_text())}
        listed = [row[0].strip("`") for row in rows(section(self.PAGE, "System checks"))[2:]]
        assert known
        assert sorted(listed) == sorted(known)

    @every_page
    def test_checks_named_elsewhere_exist(self, page: Path) -> None:
        pattern = r"django_idempotency\.[EWI]\d{3}"
        known = set(re.findall(pattern, section(self.PAGE, "System checks")))
        assert set(re.findall(pattern, text_of(page))) <= known

    def test_the_options_of_the_purge(self) -> None:
        parser = Command().create_parser("manage.py", "purge_idempotency_records")
        common = BaseCommand().create_parser("manage.py", "x")._option_string_actions
        options = {
            name: action.default
            for name, action in parser._option_string_actions.items()
            if name not in common
        }
        listed = {row[0].strip("`"): row[1] for row in rows(section(self.PAGE, "Purge"))[2:]}
        assert set(listed) == set(options)
        for name in ("--older-than", "--batch-size"):
            assert listed[name] == f"`{options[name]}`"


class TestGuarantees:
    PAGE = DOCS / "guarantees.md"

    def test_every_invariant_has_a_row(self) -> None:
        found = [row[0] for row in rows(text_of(self.PAGE)) if re.fullmatch(r"I\d+", row[0])]
        assert found == [f"I{number}" for number in range(1, 16)]

    def test_every_invariant_names_its_tests(self) -> None:
        for row in rows(text_of(self.PAGE)):
            if re.fullmatch(r"I\d+", row[0]):
                assert re.search(r"`test_\w+\.py::", row[2]) or row[2].startswith("not in this")

    def test_every_named_test_exists(self) -> None:
        named = re.findall(r"`(test_\w+\.py)::([\w:]+)`", text_of(self.PAGE))
        assert named
        missing = [f"{file}::{test}" for file, test in named if test not in names_of_tests(file)]
        assert missing == []


@cache
def names_of_tests(file: str) -> set[str]:
    path = ROOT / "tests" / file
    if not path.exists():
        return set()
    module = ast.parse(path.read_text(encoding="utf-8"))
    found = set(functions_of(module))
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{name}" for name in functions_of(node)}
    return found


def functions_of(node: ast.Module | ast.ClassDef) -> list[str]:
    return [each.name for each in node.body if isinstance(each, ast.FunctionDef)]


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
        assert f"Extra: `{', '.join(extras)}`" in text_of(self.PAGE)

    def test_the_start_works(self, tmp_path: Path) -> None:
        """A new project, the README's settings and view, and its curl sent as the README says."""
        start = section(self.PAGE, "Start")
        new_settings, urls = blocks(start, "python")
        (curl,) = (
            line for block in blocks(start, "sh") for line in block.splitlines() if "curl" in line
        )
        project(tmp_path, "-m", "django", "startproject", "shop", ".")
        with (tmp_path / "shop/settings.py").open("a") as file:
            file.write(new_settings)
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
