"""Declare effects, and find them by their names."""

from collections.abc import Callable
from copy import copy
from datetime import timedelta
from enum import StrEnum
from functools import update_wrapper
from inspect import isasyncgenfunction, isfunction, isgeneratorfunction, signature
from typing import Any, Generic, ParamSpec, TypeVar, overload

from ..conf import values
from .errors import EffectError

MAX_NAME_LENGTH = 150

Given = ParamSpec("Given")
Result = TypeVar("Result", covariant=True)


class RunBy(StrEnum):
    """Who runs an effect first. The command runs later what is left."""

    INLINE = "inline"
    """The process that has staged it, right after the commit."""
    WORKER = "worker"
    """The command ``run_idempotent_work``."""


_KINDS = {
    "max_tries": values.number(1, 1000, "number of tries"),
    "expires": values.duration(timedelta(seconds=1), values.TEN_YEARS, "one second to ten years"),
    "time_limit": values.duration(timedelta(seconds=1), timedelta(days=1), "one second to a day"),
    "run": values.choice(RunBy),
}


class Effect(Generic[Given, Result]):
    """A declared effect. Called, it does what the function below it does, and stages nothing; other
    attributes are those of what it was made of.

    :ivar target: a function, a task of django.tasks, or one of Celery
    :ivar name: its name in the table
    :ivar max_tries: number of tries after which it fails for good
    :ivar expires: age at which it fails for good
    :ivar time_limit: a try that takes longer counts as interrupted
    :ivar run_by: who runs it first
    :ivar using: alias of the database for code without an operation; ``None``: the router decides
    :ivar label: its name within an operation; by default effects are numbered there
    """

    def __init__(self, target: Any, name: str, using: str | None, options: dict[str, Any]) -> None:
        update_wrapper(self, target, updated=())
        self.target = target
        self.name = name
        self.using = using
        parsed = {option: _parsed(name, option, value) for option, value in options.items()}
        self.max_tries: int = parsed["max_tries"]
        self.expires: timedelta = parsed["expires"]
        self.time_limit: timedelta = parsed["time_limit"]
        self.run_by: RunBy = parsed["run"]
        self.label = ""

    def __call__(self, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        result: Result = self.target(*args, **kwargs)
        return result

    def __getattr__(self, name: str) -> Any:
        if name == "target":  # a copy that is not complete yet
            raise AttributeError(name)
        return getattr(self.target, name)

    def __repr__(self) -> str:
        return f"<Effect: {self.name}>"

    def named(self, label: str) -> "Effect[Given, Result]":
        """Return the effect under a name within its operation: its key is then made of that, and
        not of its number.

        :param label: unique in the operation
        :raises EffectError: if it is no text
        """
        if not _is_name(label):
            raise EffectError(f"{self.name}.named({label!r}): a name is {_NAMES}.")
        other = copy(self)
        other.label = label
        return other

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Notice at once what would fail at every try.

        :raises TypeError: if the function does not take these arguments
        """
        takes = signature(self.target).bind if isfunction(self.target) else None
        if getattr(self.target, "typing", False):
            # What a task of Celery asks when it is sent.
            takes = getattr(self.target, "__header__", None)
        try:
            if takes is not None:
                takes(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"after_commit({self.name}): {error}") from None


@overload
def effect(function: Callable[Given, Result], /) -> Effect[Given, Result]: ...
@overload
def effect(
    *,
    max_tries: int = 8,
    expires: timedelta = timedelta(days=7),
    time_limit: timedelta = timedelta(minutes=1),
    run: str = "inline",
    name: str | None = None,
    using: str | None = None,
) -> Callable[[Callable[Given, Result]], Effect[Given, Result]]: ...
@overload
def effect(task: Any, /) -> Effect[..., Any]: ...
def effect(
    target: Any = None,
    /,
    *,
    max_tries: int = 8,
    expires: timedelta = timedelta(days=7),
    time_limit: timedelta = timedelta(minutes=1),
    run: str = "inline",
    name: str | None = None,
    using: str | None = None,
) -> Any:
    """Declare an effect: something outside of the database, that happens after a commit.

    It runs at least once: :func:`.current_effect` has the key under which a receiver can count it
    once. Put it above the decorator of a task queue: running it means sending the task then.

    :param target: a function (which may be async), a task of django.tasks, or one of Celery, which
        is sent with the effect's key as its id
    :param max_tries: number of tries after which the effect fails for good; 1 to 1000
    :param expires: age at which it fails for good, however often it was tried; one second to ten
        years
    :param time_limit: a try that has taken so long counts as interrupted, and another one may
        begin; one second to a day
    :param run: ``"inline"``: right after the commit; ``"worker"``: by the command
    :param name: name of the effect in its rows, by default the dotted path; set it before the
        function moves
    :param using: alias of the database for code without an operation
    :raises EffectError: for bad options, a target without a name, and a name that is taken
    """
    options = {"max_tries": max_tries, "expires": expires, "run": run, "time_limit": time_limit}
    if target is None:
        return lambda target: _declared(target, name, using, options)
    return _declared(target, name, using, options)


_known: dict[str, Effect[..., Any]] = {}


def known_effects() -> dict[str, Effect[..., Any]]:
    """Return the effects that this process has declared, by name."""
    return dict(_known)


def _declared(
    target: Any, name: str | None, using: str | None, options: dict[str, Any]
) -> Effect[..., Any]:
    if not callable(target) and not hasattr(target, "enqueue"):
        raise EffectError(f"@effect is for functions and tasks, not for {target!r}.")
    if isgeneratorfunction(target) or isasyncgenfunction(target):
        raise EffectError(f"@effect: {target!r} is a generator: calling it would run nothing.")
    path = _path(target)
    if name is None and (not path or "<" in path):
        raise EffectError(
            f"@effect: {target!r} has no path by which another process could find it. Declare it "
            "in a module, or give it a name."
        )
    chosen = path if name is None else name
    if not _is_name(chosen):
        raise EffectError(f"@effect(name={chosen!r}): a name is {_NAMES}.")
    declared: Effect[..., Any] = Effect(target, chosen, using, options)
    other = _known.get(chosen)
    if other is not None and _path(other.target) != path:
        raise EffectError(
            f"Two effects have the name {chosen!r}: {_path(other.target)} and {path}. Each needs a "
            "name of its own."
        )
    _known[chosen] = declared
    return declared


def _path(target: Any) -> str:
    # A task of django.tasks has the function in func, one of Celery in run.
    inner = getattr(target, "func", None) or getattr(target, "run", None) or target
    module, name = (getattr(inner, each, "") for each in ("__module__", "__qualname__"))
    return f"{module}.{name or getattr(inner, '__name__', '')}" if module else ""


def _parsed(name: str, option: str, value: Any) -> Any:
    try:
        return _KINDS[option](value)
    except (TypeError, ValueError) as error:
        raise EffectError(f"@effect({option}={value!r}) of {name} {error}.") from error


def _is_name(name: object) -> bool:
    if not isinstance(name, str) or not name.isprintable():
        return False
    return 0 < len(name.encode()) <= MAX_NAME_LENGTH


_NAMES = f"printable text of 1 to {MAX_NAME_LENGTH} bytes"
