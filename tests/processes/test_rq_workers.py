"""Real workers of RQ, killed and fed with duplicates (I20)."""

from pathlib import Path

import pytest
from django.db import connection
from redis import Redis
from rq import Queue, Retry

from tests.shop.models import Order
from tests.support.redis_server import RedisServer
from tests.support.workers import all_were_killed, kill, running_worker

pytestmark = [pytest.mark.processes, pytest.mark.once]


def test_a_job_has_one_effect_however_often_it_is_run(
    transactional_db: None, redis_server: RedisServer, tmp_path: Path
) -> None:
    """I20: six jobs, three times each, by two workers whose processes are killed in the middle."""
    connection.close()
    redis_server.ask("FLUSHALL")
    items = [str(number) for number in range(6)]
    with Redis.from_url(redis_server.url) as redis:
        queue = Queue(connection=redis)
        for item in items * 3:
            name = "tests.support.rq_worker.job"
            queue.enqueue(name, item, job_id=f"job-{item}", retry=Retry(max=5))
        kill(tmp_path, "in it", "1", "4")
        kill(tmp_path, "after it", "3")
        command = ("-m", "tests.support.rq_worker")
        with running_worker(tmp_path, *command, IDEMPOTENCY_TEST_BROKER=redis_server.url) as worker:
            worker.wait()
        assert queue.failed_job_registry.count == 0, worker.log()
    assert sorted(Order.objects.values_list("item", flat=True)) == items
    assert all_were_killed(tmp_path)
