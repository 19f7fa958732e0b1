"""Lockouts and logs of other packages count, whatever header their caller sends (I2)."""

import importlib.util
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.processes,
    pytest.mark.once,
    pytest.mark.skipif(
        importlib.util.find_spec("axes") is None
        or importlib.util.find_spec("rest_framework_tracking") is None,
        reason="django-axes or drf-api-tracking is not installed",
    ),
]


@cache
def seen(*arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.lockouts", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("guard", ["middleware", "decorator"])
@pytest.mark.parametrize("mode", [(), ("atomic",)], ids=["", "atomic-requests"])
class TestKeysSwitchNothingOff:
    def test_guesses_are_counted(self, guard: str, mode: tuple[str, ...]) -> None:
        """django-axes: with a new key for each guess, the right one is refused in the end."""
        with_keys, bare = seen(guard, *mode)["enters"], seen("bare", *mode)["enters"]
        assert with_keys == bare
        assert seen("bare")["enters"]["/returns/"] == [403, 403, 429, 429]

    def test_refusals_are_logged(self, guard: str, mode: tuple[str, ...]) -> None:
        """drf-api-tracking: the log has what it has without keys."""
        assert seen(guard, *mode)["logs"] == seen("bare", *mode)["logs"]
        assert seen("bare")["logs"] == [409, 409]
