"""``idempotency_contract``: what the project promises, and whether it has forgotten something."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import BaseCommand, CommandError, call_command
from django.db import transaction
from django.urls import URLResolver, path
from django.urls.resolvers import RegexPattern

from django_idempotency.contract.endpoints import endpoints
from django_idempotency.contract.tables import for_terminal
from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.management.commands.idempotency_contract import FORMATS, Command
from example_project.demo.server import PROJECT, Example
from tests.docs.pages import DOCS, blocks, rows, text_of
from tests.shop import views
from tests.support.checking import closed
from tests.support.golden import expect

pytestmark = [pytest.mark.processes, pytest.mark.once]

MIDDLEWARE = "django_idempotency.middleware.IdempotencyMiddleware"

PAGE = """# What the example project promises

This page is what `python manage.py idempotency_contract --format markdown` prints in the
[example project](../example_project/README.md); a test keeps it current.

{}
"""


@idempotent(
    required=True,
    key_format="printable",
    scope=lambda request: "x",
    fingerprint="none",
    retention=timedelta(days=7),
    tombstone=timedelta(days=30),
    in_flight="wait",
    not_stored=["5xx", 409],
    store_body=False,
    atomic=False,
)
class Pay(views.RestView):
    pass


class Urls:
    """A project with these routes."""

    def __init__(self, *patterns: Any) -> None:
        self.urlpatterns = list(patterns)


GUARDED = [path("pay/", Pay.as_view()), path("buy/", views.DecoratedRestView.as_view())]
EXEMPT = path("preview/", idempotency_exempt(reason="read only | cheap")(views.ClassView.as_view()))
OPEN = path("open/", views.ClassView.as_view())
BARE = path("bare/", idempotency_exempt(views.ClassView.as_view()))


@pytest.fixture
def run(settings: Any) -> Callable[..., str]:
    def run_with(*patterns: Any, **options: Any) -> str:
        settings.ROOT_URLCONF = Urls(*patterns)
        out = StringIO()
        call_command("idempotency_contract", stdout=out, **options)
        return out.getvalue()

    return run_with


class TestCheck:
    """What CI is to find."""

    def test_it_passes_if_every_write_is_guarded_or_exempt_for_a_reason(self, run: Any) -> None:
        assert run(*GUARDED, EXEMPT, check=True) == "Guarded: 2. Exempt: 1. Open: 0.\n"
        assert run(*GUARDED, EXEMPT, check=True, verbosity=0) == ""

    def test_it_fails_for_a_write_that_nobody_guards(self, run: Any) -> None:
        with pytest.raises(CommandError) as caught:
            run(*GUARDED, OPEN, check=True)
        assert "\n  POST /open/ (tests.shop.views.ClassView.post)\n" in str(caught.value)
        assert caught.value.returncode == 1
        assert "/pay/" not in str(caught.value)

    def test_it_fails_for_an_exemption_without_a_reason(self, run: Any) -> None:
        with pytest.raises(CommandError, match=r"POST /bare/ \(exempt without a reason\)"):
            run(BARE, check=True)

    def test_it_fails_for_a_view_that_cannot_be_guarded(self, run: Any, settings: Any) -> None:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
        with pytest.raises(CommandError, match=r"POST /hidden/ \(its permission check cannot be"):
            run(path("hidden/", transaction.atomic(closed(views.function))), check=True)

    def test_the_middleware_guards_what_nobody_mentions(self, run: Any, settings: Any) -> None:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
        assert run(OPEN, check=True).startswith("Guarded: 1.")

    def test_paths_of_the_settings_need_a_reason(self, run: Any, settings: Any) -> None:
        settings.IDEMPOTENCY = {"EXEMPT_PATHS": {"^/open/": "a test"}}
        run(OPEN, check=True)
        settings.IDEMPOTENCY = {"EXEMPT_PATHS": ["^/open/"]}
        with pytest.raises(CommandError, match="without a reason"):
            run(OPEN, check=True)

    def test_a_part_of_the_paths(self, run: Any) -> None:
        run(*GUARDED, OPEN, check=True, path="^/(pay|buy)/")
        with pytest.raises(CommandError, match="not a regular expression"):
            call_command("idempotency_contract", "--path", "(")


class TestFormats:
    def test_the_table(self, run: Any) -> None:
        everything = run(*GUARDED, EXEMPT, BARE, OPEN)
        assert everything.rstrip("\n").splitlines() == [
            "ENDPOINT      KEY       OF         KEPT    OTHER BODY  IN FLIGHT      GUARDED BY",
            "POST   /pay/  required  custom     7 days  ignored     409 after 5 s  class",
            "POST   /buy/  optional  principal  24 h    422         409            class",
            "",
            "Exempt:",
            "  POST /preview/  read only | cheap",
            "  POST /bare/     exempt without a reason",
            "",
            "Not guarded:",
            "  POST /open/  tests.shop.views.ClassView.post",
        ]

    def test_a_project_that_guards_nothing(self, run: Any) -> None:
        assert run(OPEN).startswith("No endpoint is guarded.\n\nNot guarded:\n  POST /open/")

    def test_many_paths_for_one_reason_are_summed_up(self, run: Any) -> None:
        exempt = idempotency_exempt(reason="generated")(views.ClassView.as_view())
        text = run(*(path(f"old/{number}/", exempt) for number in range(6)))
        assert text.endswith("Exempt:\n  /old/...  generated\n")

    def test_markdown(self, run: Any) -> None:
        text = run(*GUARDED, EXEMPT, format="markdown")
        assert (
            "| `POST /pay/` | `Idempotency-Key`, required, at most 255 characters, printable |"
            in text
        )
        assert "| 7 days, then 410 for 30 days | ignored | 409 after 5 s |" in text
        assert "| 409, 503; unknown after other 5xx | no replays |" in text
        assert "| `POST /preview/` | read only \\| cheap |" in text

    def test_json(self, run: Any) -> None:
        data = json.loads(run(*GUARDED, EXEMPT, OPEN, format="json"))
        pay, buy, preview, open_end = data["endpoints"]
        assert (pay["method"], pay["path"], pay["state"]) == ("POST", "/pay/", "guarded")
        assert pay["view"].endswith("test_contract_command.Pay.post")
        assert (pay["policy"]["retention"], pay["policy"]["wait"]) == (604800, 5)
        assert pay["policy"]["refused_after_retention"] == 2592000
        assert {error["status"] for error in pay["policy"]["errors"]} >= {400, 409, 410, 422, 503}
        assert (buy["policy"]["required"], buy["policy"]["scope"]) == (False, "principal")
        assert (preview["settled"], preview["reason"]) == (True, "read only | cheap")
        assert (open_end["settled"], open_end["policy"]) == (False, None)
        assert len(data["guide"]["promises"]) == 2

    def test_the_guide(self, run: Any) -> None:
        text = run(*GUARDED, format="guide")
        assert text.startswith("# Retry guide\n")
        assert "## `POST /pay/`\n" in text
        assert "- **After that:** the key is refused for 30 days (410).\n" in text
        assert "| `idempotency_key_missing` | 400 |" in text

    def test_a_terminal_of_100_columns_gets_a_table(self, tmp_path: Path) -> None:
        head, row = on_a_terminal(tmp_path, 100).splitlines()
        assert head.startswith("ENDPOINT ")
        assert row.startswith("POST   /tickets ")

    def test_a_narrow_terminal_gets_a_list(self, tmp_path: Path) -> None:
        lines = on_a_terminal(tmp_path, 40).splitlines()
        assert lines[:3] == ["POST   /tickets", "  key         optional", "  of          principal"]

    def test_a_table_that_is_too_wide_becomes_a_list(self) -> None:
        found = endpoints(URLResolver(RegexPattern("^/"), GUARDED))
        table = for_terminal(found)
        width = max(map(len, table.splitlines()))
        assert for_terminal(found, width) == table
        cards = for_terminal(found, width - 1)
        assert cards.splitlines()[7:9] == ["POST   /buy/", "  key         optional"]


def on_a_terminal(folder: Path, columns: int) -> str:
    """Run the command of the example project on a terminal of this width."""
    ours, theirs = pty.openpty()
    environment = Example(folder).environment | {"COLUMNS": str(columns)}
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        subprocess.run(
            [sys.executable, "manage.py", "idempotency_contract", "--path", "^/tickets"],
            cwd=PROJECT,
            env=environment,
            stdout=theirs,
            check=True,
        )
        os.close(theirs)
        return terminal.read(65536).decode().replace("\r\n", "\n")


class TestThePage:
    PAGE = DOCS / "contract-command.md"

    def test_the_table_is_real(self, run: Any) -> None:
        exempt = idempotency_exempt(reason="read only")(views.ClassView.as_view())
        printed = run(*GUARDED, path("preview/", exempt))
        assert f"$ python manage.py idempotency_contract\n{printed}" in blocks(
            text_of(self.PAGE), "text"
        )

    def test_the_options(self) -> None:
        parser = Command().create_parser("manage.py", "idempotency_contract")
        common = BaseCommand().create_parser("manage.py", "x")._option_string_actions
        options = set(parser._option_string_actions) - set(common)
        listed = {row[0].strip("`") for row in rows(text_of(self.PAGE))[2:]}
        assert listed == options
        assert set(re.findall(r"`(\w+)`", rows(text_of(self.PAGE))[2][2])) == set(FORMATS)


class TestTheExampleProject:
    """What CI is to find."""

    def test_every_write_is_settled(self, tmp_path: Path) -> None:
        (command,) = blocks(text_of(DOCS / "contract-command.md"), "sh")
        _, _, *arguments = shlex.split(command)
        said = Example(tmp_path).manage(*arguments)
        assert arguments == ["idempotency_contract", "--check"]
        assert said.endswith("Open: 0.")

    def test_its_page_in_the_documentation_is_current(self, tmp_path: Path) -> None:
        text = Example(tmp_path).manage("idempotency_contract", "--format", "markdown")
        expect(DOCS / "example-contract.md", PAGE.format(text))
