"""The test project as a worker of django-tasks-db runs it."""

from importlib.util import find_spec

from tests.support.server_settings import *  # noqa: F403
from tests.support.server_settings import INSTALLED_APPS as APPS

_own = ["django_tasks_db"] if find_spec("django.tasks") else ["django_tasks", "django_tasks_db"]
INSTALLED_APPS = [*APPS, *_own]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
