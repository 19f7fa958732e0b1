"""The example project is a healthy Django project, and its demo tells the truth."""

import os
import re
import socket
import subprocess
import sys

import pytest

from example_project.demo.report import Report
from example_project.demo.server import PROJECT, Example

# The demo has a database of its own.
pytestmark = [pytest.mark.processes, pytest.mark.once]


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["check"], "System check identified no issues (0 silenced).\n"),
        (["makemigrations", "--check", "--dry-run"], "No changes detected\n"),
    ],
    ids=["check", "makemigrations"],
)
def test_django_finds_nothing_to_complain_about(tmp_path, arguments, printed):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "django", *arguments],
        cwd=PROJECT,
        env=Example(tmp_path).environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


def test_its_own_tests_pass(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", "test", "--noinput"],
        cwd=PROJECT,
        env=Example(tmp_path).environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"Ran [1-9]\d* tests", done.stderr)


def test_a_wrong_database_url_is_named(tmp_path):
    example = Example(tmp_path, "oracle://localhost/example")
    with pytest.raises(RuntimeError, match=r"EXAMPLE_DATABASE must be a URL .* oracle://localhost"):
        example.manage("check")


def test_a_failing_command_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="Unknown command: 'no_such_command'"):
        Example(tmp_path).manage("no_such_command")


@pytest.mark.parametrize(("seen", "ok"), [([1], True), ([1, 2, 1], False), ([], False)])
def test_a_report_is_good_if_every_statement_holds(capsys, seen, ok):
    report = Report()
    for value in seen:
        report.check("A promise", "something", 1, value)
    assert report.ok is ok
    assert ("✗" in report.table()) is (2 in seen)


# ``make demo`` is the first one itself.
@pytest.mark.processes
@pytest.mark.parametrize(
    "options",
    [pytest.param([], id="wsgi", marks=pytest.mark.whole), pytest.param(["--asgi"], id="asgi")],
)
def test_the_demo_holds_and_leaves_nothing_behind(tmp_path, options):
    environment = {name: value for name, value in os.environ.items() if name != "EXAMPLE_DATABASE"}
    done = subprocess.run(
        [sys.executable, "-m", "example_project.demo", *options],
        cwd=PROJECT.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("statements hold.\n")
    assert "✗" not in done.stdout
    port = int(re.search(r"http://127\.0\.0\.1:(\d+)", done.stdout)[1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_newcomer_finds_charts_in_the_admin(tmp_path):
    example = Example(tmp_path)
    example.manage("migrate", "--verbosity", "0")
    assert example.manage("sample_traffic") == (
        "Sent 33 requests. The history of thirty days before is invented."
    )
    told = example.manage("idempotency_clients")
    for sentence in ("under a new key", "a key again with another request", "Counts its keys"):
        assert sentence in told
    counted = example.manage(
        "shell",
        "--verbosity",
        "0",
        "-c",
        "from django_idempotency.contrib.statistics import reading\n"
        "print(len(reading.worst_views()), all(sum(n) for _, n in reading.last_days().bars))",
    )
    assert counted == "3 True"
