"""With django-tenants itself: what one tenant did is never another's answer."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.databases import DATABASE
from tests.redis_server import RedisServer
from tests.tenants.stories import STORIES

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(DATABASE != "postgresql", reason="django-tenants needs PostgreSQL"),
    pytest.mark.skipif(
        importlib.util.find_spec("django_tenants") is None,
        reason="django-tenants is not installed",
    ),
]

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def told(redis_server: RedisServer) -> dict[str, str]:
    """What went wrong in each story. They share one database, which takes a while to make."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.tenants.stories"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "IDEMPOTENCY_TEST_REDIS": redis_server.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("story", STORIES)
def test_with_tenants(story: str, told: dict[str, str]) -> None:
    assert told[story] == ""
