"""Tasks of Celery and RQ that nobody runs: views hand them over, and checks find that."""

from celery import Celery
from redis import Redis
from rq import Queue
from rq.decorators import job

celery = Celery("tests", set_as_current=False)
redis = Redis()
queue = Queue(connection=redis)


@celery.task
def receipt(order: int) -> None: ...


@job("default", connection=redis)
def letter(order: int) -> None: ...
