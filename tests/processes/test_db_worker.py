"""The worker of django-tasks-db, killed in the middle (I20)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.shop.models import Order
from tests.support import db_tasks
from tests.support.workers import all_were_killed, kill, running_worker

pytestmark = pytest.mark.processes


@pytest.fixture
def results(transactional_db: None, settings: Any) -> Iterator[Any]:
    with db_tasks.installed(settings) as model:
        yield model.objects


def test_a_task_has_one_effect_wherever_its_worker_is_killed(results: Any, tmp_path: Path) -> None:
    """I20: a killed worker leaves its task running; made ready again, it runs, or is over."""
    for item in ("a", "b", "c"):
        db_tasks.order.enqueue(item)
    kill(tmp_path, "in it", "a")
    kill(tmp_path, "after it", "b")
    connection.close()
    settings = {"DJANGO_SETTINGS_MODULE": "tests.support.db_tasks_settings"}
    with running_worker(tmp_path, "-m", "tests.support.db_worker", **settings) as worker:
        worker.wait()
    rounds = json.loads(worker.log().splitlines()[-1])
    assert rounds == [[], ["a", "b"], ["a", "b", "c"]], worker.log()
    assert all_were_killed(tmp_path)
    orders = set(Order.objects.values_list("pk", flat=True))
    found = {(each.status, each.return_value in orders) for each in results.all()}
    assert found == {("SUCCESSFUL", True)}, worker.log()
