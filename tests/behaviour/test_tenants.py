"""With django-tenants itself: what one tenant did is never another's answer."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.databases import DATABASE
from tests.support.redis_server import RedisServer

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(DATABASE != "postgresql", reason="django-tenants needs PostgreSQL"),
    pytest.mark.skipif(
        importlib.util.find_spec("django_tenants") is None,
        reason="django-tenants is not installed",
    ),
]

ROOT = Path(__file__).parents[2]


def test_with_tenants(redis_server: RedisServer) -> None:
    """The stories share one database, which takes a while to make."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.tenants"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "IDEMPOTENCY_TEST_REDIS": redis_server.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = dict(json.loads(line) for line in done.stdout.splitlines())
    assert told
    failures = [f"{story}: {wrong}" for story, wrong in told.items() if wrong]
    assert failures == [], "\n".join(failures)
