"""Keys of functions: the id that a task queue gives to a task, and keeps for redeliveries."""

import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

from ..effects.running import running_effect

NO_KEY = (
    "{name} has no key. In a task of Celery, RQ or Dramatiq (with its CurrentMessage middleware) "
    "its id is the key, and in one of django.tasks with takes_context=True; in an effect it is the "
    "effect's; elsewhere give "
    "@idempotent_function(key=...) a function of the arguments that returns what identifies this "
    "very operation, such as a message's id."
)
NO_TEXT = "{name}: its key is {key!r}. A key is text of 1 to {most} printable ASCII characters."
TWICE = (
    "{name} has run in this task already, and its key is the task's id: a second call would return "
    "the first result instead of running. Call it in a separate task, or give each call a key: "
    "@idempotent_function(key=...), or run_once(..., key=...)."
)


class Delivery(NamedTuple):
    """One execution of a task by its queue.

    :param task_id: the same for all deliveries of a task
    :param source: what the queue makes anew for each of them
    """

    task_id: str
    source: object

    def returned(self) -> set[str]:
        """Return the names of the functions that have returned during this delivery."""
        source, names = _returned.get()
        if source is not self.source:
            names = set()
            _returned.set((self.source, names))
        return names


_returned: ContextVar[tuple[object, set[str]]] = ContextVar(
    "django_idempotency_returned", default=(None, set())
)


def current_delivery(args: tuple[Any, ...]) -> Delivery | None:
    """Return what a task queue executes, or which effect runs, if one does.

    Nothing is imported: a queue whose task runs has been.
    """
    for find in (_effect, _django_task, _celery_task, _rq_job, _dramatiq_message):
        found = find(args)
        if found is not None:
            return found
    return None


def is_context(value: Any) -> bool:
    return type(value).__name__ == "TaskContext" and hasattr(value, "task_result")


def _effect(args: tuple[Any, ...]) -> Delivery | None:
    found = running_effect.get()
    return None if found is None else Delivery(found.key, found)


def _django_task(args: tuple[Any, ...]) -> Delivery | None:
    # https://docs.djangoproject.com/en/stable/ref/tasks/#task-context
    return Delivery(str(args[0].task_result.id), args[0]) if args and is_context(args[0]) else None


def is_celery_task(value: Any) -> bool:
    tasks = sys.modules.get("celery.app.task")
    return tasks is not None and isinstance(value, tasks.Task)


def _celery_task(args: tuple[Any, ...]) -> Delivery | None:
    # https://docs.celeryq.dev/en/stable/userguide/tasks.html#task-request
    celery = sys.modules.get("celery")
    task = celery.current_task if celery is not None else None
    request = getattr(task, "request", None)
    found = getattr(request, "id", None)
    return Delivery(str(found), request) if found else None


def _rq_job(args: tuple[Any, ...]) -> Delivery | None:
    # https://python-rq.org/docs/jobs/#accessing-the-current-job-from-within-the-job-function
    rq = sys.modules.get("rq")
    job = rq.get_current_job() if rq is not None else None
    return None if job is None else Delivery(str(job.id), job)


def _dramatiq_message(args: tuple[Any, ...]) -> Delivery | None:
    # https://dramatiq.io/reference.html#dramatiq.middleware.CurrentMessage
    middleware = sys.modules.get("dramatiq.middleware")
    current = getattr(middleware, "CurrentMessage", None)
    message = current.get_current_message() if current is not None else None
    return None if message is None else Delivery(str(message.message_id), message)


KeyFunction = Callable[..., str]
"""Returns the key of a call, from its arguments."""
