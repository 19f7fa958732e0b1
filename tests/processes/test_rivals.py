"""Processes that begin the same operation at the same moment: consumers, and crons (I20)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.shop.models import Order
from tests.support.workers import ROOT, environment_of

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


def test_fifty_keys_in_eight_processes_and_a_command_in_two(tmp_path: Path) -> None:
    """I1, I20: one effect per key; everybody gets its result or is told to come again."""
    connection.close()
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.rivals"],
        cwd=ROOT,
        env=environment_of(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    items = sorted(Order.objects.values_list("item", flat=True))
    months = [f"invoices of 2026-0{month}" for month in (1, 2, 3)]
    assert items == sorted([*months, *(f"m{number}" for number in range(50))])
    assert seen["results per key"] == {"1": 50}, seen
    assert seen["crons"]["done"] >= len(months), seen
    if connection.vendor == "sqlite":  # duplicates wait there
        assert set(seen["answers"]) == {"int"}, seen
