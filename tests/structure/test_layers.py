"""Imports run one way: each room uses only the rooms before it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import django_idempotency

pytestmark = pytest.mark.once

PACKAGE = Path(django_idempotency.__file__).parent

ROOMS = [
    # Pure: the rules and what may be asked of them.
    *("protocol", "resolving", "extras", "placeholders", "context"),
    # Django's settings and database, and what reaches beyond their documented interfaces.
    *("threads", "compat", "conf", "options", "signals"),
    *("fields", "migrations", "models", "stores", "effects"),
    *("operations", "invalidation"),
    # Requests and responses, and the views behind them.
    *("http", "remember", "guard", "functions", "adapters", "drf", "decorators", "middleware"),
    *("webhooks", "graphql", "forms"),
    # What is guarded how, and who is told.
    *("contract", "openapi", "metadata", "views", "reconciliation", "finding"),
    # What people use.
    *("admin", "checks", "management", "apps", "contrib"),
    # What their tests use.
    "test",
]
PURE = ROOMS[: ROOMS.index("threads")]

LAZY = {
    (
        "fields",
        "stores.database.dialects",
    ): "a column's type is the database's; dialects name the columns of the models",
    **dict.fromkeys(
        [
            ("operations", "functions.errors"),
            ("operations", "functions.run"),
            ("operations", "guard.status"),
        ],
        "projects import these names from operations",
    ),
}
"""The only imports that go the other way. They are made inside functions, or for type checkers."""

OPTIONAL = {
    "corsheaders": {"checks"},
    "cryptography": {"protocol"},
    "opentelemetry": {"contrib"},
    "prometheus_client": {"contrib"},
    "psycopg": {"compat"},
    "rest_framework": {"adapters", "metadata", "reconciliation"},
    "ninja": {"compat"},
    "django_redis": {"stores", "checks"},
    "redis": {"stores", "compat"},
    "stripe": {"webhooks"},
    "graphql": {"graphql"},
}
"""What not every project has installed, and who may ask for it."""


@dataclass(frozen=True)
class Import:
    importer: str
    """Dotted path below the package, as all names here: ``stores.db``."""
    target: str
    """A module of ours, or the name of another package."""
    ours: bool
    lazy: bool

    @property
    def rooms(self) -> tuple[str, str]:
        return self.importer.split(".")[0], self.target.split(".")[0]


def modules() -> dict[str, Path]:
    found = {}
    for file in PACKAGE.rglob("*.py"):
        name = file.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
        found[name.removesuffix("__init__").rstrip(".")] = file
    return found


MODULES = modules()


@cache
def imports() -> list[Import]:
    """Read the package once, and only in a process that runs these tests."""
    return sorted((each for module in MODULES.items() for each in imports_of(*module)), key=str)


def imports_of(name: str, file: Path) -> Iterator[Import]:
    tree = ast.parse(file.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        or (isinstance(function, ast.If) and ast.unparse(function.test) == "TYPE_CHECKING")
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        for target, ours in targets(node, name, file.name == "__init__.py"):
            yield Import(name, target, ours, lazy=id(node) in inside)


def targets(node: ast.AST, importer: str, is_package: bool) -> Iterator[tuple[str, bool]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield target(alias.name)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = f"django_idempotency.{importer}".split(".")
            kept = above[: len(above) - node.level + is_package]
            base = ".".join([*kept, *([base] if base else [])])
        for alias in node.names:
            yield target(base, alias.name)


def target(base: str, name: str = "") -> tuple[str, bool]:
    """``from base import name``: a module, or what is in one."""
    package, _, rest = base.partition(".")
    if package != "django_idempotency":
        return package, False
    whole = f"{rest}.{name}".strip(".")
    return (whole if whole in MODULES else rest), True


def test_every_module_has_its_room() -> None:
    assert {name.split(".")[0] for name in MODULES} - {""} - set(ROOMS) == set()


def test_rooms_use_only_rooms_before_them() -> None:
    backwards = {
        (each.importer, each.target)
        for each in imports()
        if each.ours and (each.importer, each.target) not in LAZY
        if not each.target or ROOMS.index(each.rooms[1]) > ROOMS.index(each.rooms[0])
    }
    assert backwards == set()


def test_exceptions_are_needed_and_made_in_functions() -> None:
    exceptions = [each for each in imports() if (each.importer, each.target) in LAZY]
    assert {(each.importer, each.target) for each in exceptions} == set(LAZY)
    assert [each for each in exceptions if not each.lazy] == []


def test_no_module_waits_for_itself() -> None:
    """Neither within a room."""
    ours = [each for each in imports() if each.ours and (each.importer, each.target) not in LAZY]
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for each in ours:
        graph[each.importer] |= {each.target} - {each.importer}
    assert set(TopologicalSorter(graph).static_order()) == set(MODULES)


def test_only_tests_use_the_helpers_for_tests() -> None:
    assert [each.importer for each in imports() if each.ours and each.rooms[1] == "test"] == []


@pytest.mark.parametrize("room", ["fields", "models", "stores", "compat", "operations"])
def test_stores_receive_their_parameters(room: str) -> None:
    """They know neither the settings nor the policies made of them."""
    used = {each.rooms[1] for each in imports() if each.ours and each.rooms[0] == room}
    assert not used & {"conf"}


def test_only_dialects_know_which_database_it_is() -> None:
    """A new database is one module."""
    asking = {name for name, file in MODULES.items() if ".vendor" in file.read_text()}
    assert asking == {"stores.database.dialects.base"}


def test_the_package_itself_imports_nothing() -> None:
    assert [each for each in imports() if each.importer == ""] == []


def test_other_packages_are_django_and_what_is_optional() -> None:
    others = {
        (each.rooms[0], each.target)
        for each in imports()
        if not each.ours and each.target not in sys.stdlib_module_names
    }
    # Django itself needs asgiref.
    required = {"django", "asgiref"}
    assert {package for _, package in others} == required | set(OPTIONAL)
    assert [room for room, package in others if package in required and room in PURE] == []
    for optional, rooms in OPTIONAL.items():
        assert {room for room, package in others if package == optional} == rooms


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=PACKAGE.parent,
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_rules_are_imported_without_django() -> None:
    """Neither its settings are needed, nor that it is there at all."""
    pure = sorted(name for name in MODULES if name.split(".")[0] in PURE)
    lines = [
        "import importlib, sys",
        "sys.modules['django'] = sys.modules['rest_framework'] = None",
    ]
    lines += [f"importlib.import_module('django_idempotency.{name}')" for name in pure]
    lines += ["print(len([name for name in sys.modules if name.startswith('django_idem')]))"]
    assert int(run("\n".join(lines))) == len(pure) + 1


def test_the_package_is_imported_without_anything() -> None:
    code = "import sys; before = set(sys.modules); import django_idempotency; "
    assert run(code + "print(sorted(set(sys.modules) - before))") == "['django_idempotency']\n"
