"""A new project, made from the tutorial's text alone, has a safe endpoint at its end."""

import os
import shutil
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, text_of
from tests.docs.tutorial import Reader
from tests.support.elsewhere import LEFT_BEHIND

pytestmark = [pytest.mark.once, pytest.mark.processes]

IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}


def test_the_tutorial_ends_with_a_safe_endpoint(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        (pytest.fail if IN_CI else pytest.skip)("curl is not installed")
    ignore = shutil.ignore_patterns(*LEFT_BEHIND, "tests")
    checkout = shutil.copytree(ROOT, tmp_path / "clone", ignore=ignore)
    folder = tmp_path / "empty"
    folder.mkdir()
    with Reader(folder, checkout) as reader:
        reader.follow(text_of(DOCS / "tutorial.md"))
        order = reader.shell(
            f"curl -i -u ada:lovelace -H 'Idempotency-Key: k' -d item=vm 127.0.0.1:{reader.port}"
            "/api/orders/ && python manage.py shell --verbosity 0 -c "
            "'from orders.models import Order; print(\"orders:\", Order.objects.count())'"
        )
        assert "HTTP/1.1 201 Created" in order
        assert "orders: 5" in order
    assert "Ran 2 tests" in "".join(reader.seen)
    assert "System check identified" in "".join(reader.seen)
