"""Which management command has called: commands start the app, and run its checks, first.

Django does not tell apps, so the call stack is searched for ``ManagementUtility.execute()`` and
``BaseCommand.execute()``; ``tests/conf/test_start.py`` fails on a Django without them.
"""

import sys
from collections.abc import Iterator
from types import FrameType


def is_command() -> bool:
    """Whether ``manage.py``, or its like, has called."""
    execute = ("django.core.management", "ManagementUtility.execute")
    return any(_name(frame) == execute for frame in _callers())


def is_migrate() -> bool:
    """Whether ``manage.py migrate``, or a subclass of it, has called."""
    execute = ("django.core.management.base", "BaseCommand.execute")
    commands = (type(each.f_locals["self"]) for each in _callers() if _name(each) == execute)
    modules = {base.__module__ for command in commands for base in command.__mro__}
    return "django.core.management.commands.migrate" in modules


def _callers() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _name(frame: FrameType) -> tuple[object, str]:
    return frame.f_globals.get("__name__"), frame.f_code.co_qualname
