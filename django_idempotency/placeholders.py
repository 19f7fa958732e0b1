"""What stands in a call for a value that is not known yet."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any


class Placeholder(Enum):
    """An enum, so that copies of it are the same object."""

    KEY = "key"

    def __repr__(self) -> str:
        return self.name


KEY: Any = Placeholder.KEY
"""Stands for the key of the step or the effect that the call belongs to, as text. It is replaced
where it is an argument itself, by position or by name, not inside of lists and dicts."""


def filled(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], key: Callable[[], str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call with its key in place of :data:`KEY`.

    :param key: asked at most once, and only if a placeholder is there
    """
    given = [*args, *kwargs.values()]
    if not any(each is KEY for each in given):
        return args, dict(kwargs)
    text = key()
    values = [text if each is KEY else each for each in given]
    return tuple(values[: len(args)]), dict(zip(kwargs, values[len(args) :], strict=True))
