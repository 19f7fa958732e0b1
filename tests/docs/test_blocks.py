"""Every block of code in the documentation runs, or says why it does not."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, name_of, runnable, section, text_of

pytestmark = [pytest.mark.processes, pytest.mark.once]

PYTHON_ELSEWHERE = {
    "docs/how-to/clients.md": "tests/contract/test_client_programs.py",
    "docs/how-to/mangopay.md": "tests/docs/test_howto.py::TestMangopay",
    "docs/how-to/payment-gateways.md": "tests/docs/test_gateway_page.py",
    "docs/tutorial.md": "tests/docs/test_tutorial.py",
}
"""Pages that need more than a namespace, and the tests that run them."""

SHELL_ELSEWHERE = {
    "README.md": "tests/docs/test_readme.py",
    "docs/contract-command.md": "tests/commands/test_contract_command.py",
    "docs/transcripts.md": "tests/contracts/test_transcripts.py",
    "docs/tutorial.md": "tests/docs/test_tutorial.py",
}

SHELL = [
    pytest.param(code, id=f"{name_of(page)}-{number}")
    for page in PAGES
    if name_of(page) not in SHELL_ELSEWHERE
    for number, code in enumerate(runnable(page, "sh"))
]

CRON = sorted(
    {
        line
        for page in PAGES
        for line in re.findall(r"^(?:[\d*/,-]+ +){5}(.+)$", text_of(page), re.MULTILINE)
    }
)
"""What cron runs; several pages have the same lines."""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_python_blocks_run() -> None:
    pages = [page for page in map(name_of, PAGES) if page not in PYTHON_ELSEWHERE]
    printed = run(sys.executable, "-W", "error", "-m", "tests.docs.run_blocks", *pages, cwd=ROOT)
    failed = json.loads(printed)
    assert failed == {}, "\n".join(failed.values())


@pytest.mark.parametrize("file", sorted({*PYTHON_ELSEWHERE.values(), *SHELL_ELSEWHERE.values()}))
def test_the_tests_that_run_the_others_exist(file: str) -> None:
    path, _, name = file.partition("::")
    assert f"class {name}" in text_of(ROOT / path) if name else (ROOT / path).exists()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a migrated project, and of the commands that pages name."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "manage.py").write_text(
        "import os, sys\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    )
    commands = {
        "python": f'exec {sys.executable} "$@"',
        "make": f'exec /usr/bin/env -i PATH=/usr/bin:/bin make --dry-run -C {ROOT} "$@"',
    }
    (folder / "bin").mkdir()
    for name, script in commands.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / "bin" / name).chmod(0o755)
    shell("python manage.py migrate --verbosity 0", folder)
    return folder


def shell(code: str, folder: Path) -> str:
    """Run what a reader would enter in a project's folder; ``make`` only says what it would do."""
    return run(
        *("bash", "-euo", "pipefail", "-c", code),
        cwd=folder,
        PATH=f"{folder / 'bin'}:{os.environ['PATH']}",
        PYTHONPATH=str(ROOT),
        IDEMPOTENCY_TEST_SQLITE=str(folder / "db.sqlite3"),
    )


@pytest.mark.parametrize("code", SHELL)
def test_shell_blocks_run(code: str, project: Path) -> None:
    shell(code, project)


@pytest.mark.parametrize("line", CRON)
def test_lines_of_cron_run(line: str, project: Path) -> None:
    shell(line, project)


def test_the_log_names_keys_as_the_page_says(project: Path) -> None:
    from django_idempotency.protocol.keys import short_digest

    (code,) = (
        line for line in section(DOCS / "operations.md", "Logs").splitlines() if "%s" in line
    )
    assert shell(code, project).strip() == short_digest("8e03978e-40d5")
