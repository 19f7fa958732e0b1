"""Run a function once per key, through the records, locks and modes of requests (I20)."""

import json
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from time import perf_counter
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, cast, overload

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.urls import ResolverMatch

from ..conf.policy import Policy, PolicyError
from ..conf.settings import configuration
from ..conf.values import dotted_path
from ..context import as_running, running
from ..guard.factory import operation_of
from ..operations import base as begun
from ..operations.base import Operation
from ..protocol.codecs import Unreadable, decode, encode
from ..protocol.fingerprint import Payload, Target, fingerprint
from ..protocol.keys import MAX_KEY_LENGTH, SCOPE, keyed_digest
from ..protocol.record import (
    PLAIN_DATA,
    Claim,
    Mismatch,
    Omitted,
    Replay,
    StoredResponse,
    Tombstone,
    plain_text,
)
from ..signals import Outcome, Subject, report
from ..stores.base import Outage
from ..threads import on_request_thread
from .arguments import arguments_of, without_task
from .errors import (
    KeyExpired,
    KeyReused,
    NotPlainData,
    OperationError,
    OperationInFlight,
    OutcomeUnknown,
    ResultUnavailable,
)
from .keys import NO_KEY, NO_TEXT, TWICE, KeyFunction, current_delivery

if TYPE_CHECKING:
    from ..options import FunctionOptions

OPTIONS = frozenset(
    {
        *("atomic", "codec", "in_flight", "lock_connections", "on_interrupted", "resolver"),
        *("retention", "retry_after", "store", "tombstone", "using", "wait_limit", "wait_timeout"),
    }
)
"""Policy options that mean something without a request."""

METHOD = "RUN"
"""What records of functions have in place of a request's method."""

DONE = 200
"""What they have in place of a status."""

REUSED = (
    "{} did not run: its key belongs to a run with other arguments, or of another function, in the "
    "scope {!r}. Each operation needs a key of its own."
)
EXPIRED = "{} did not run: the result under its key has expired."
UNKNOWN = (
    "{} did not run: an earlier run under its key was interrupted, and it is not known what it "
    "did. Give it a resolver, or resolve it in the admin or with manage.py "
    "resolve_idempotency_record."
)
RUNNING = "{} did not run: another run under its key has not ended yet."
NO_STORE = "{} did not run: the store of its record does not answer. Try it again."

DECLARED: set[str] = set()
"""Names of the functions that were decorated in this process: what will be counted under them can
begin at 0."""

Given = ParamSpec("Given")
Result = TypeVar("Result")


def current_operation() -> Operation:
    """Return the operation whose function runs: its ``key``, ``attempt``, ``step()`` and
    ``derive_key()``.

    :raises RuntimeError: outside of such a function
    """
    operation: Operation | None = running.get()
    if operation is None:
        raise RuntimeError(
            "No function runs under a key here: call current_operation() inside of a function that "
            "run_once() or @idempotent_function runs. In a view use request.idempotency."
        )
    return operation


@overload
def run_once(
    function: Callable[..., Coroutine[Any, Any, Result]],
    /,
    *args: Any,
    key: str,
    scope: str,
    name: str = ...,
    kwargs: Mapping[str, Any] | None = ...,
    **options: "Unpack[FunctionOptions]",
) -> Result: ...
@overload
def run_once(
    function: Callable[..., Result],
    /,
    *args: Any,
    key: str,
    scope: str,
    name: str = ...,
    kwargs: Mapping[str, Any] | None = ...,
    **options: "Unpack[FunctionOptions]",
) -> Result: ...
def run_once(
    function: Callable[..., Any],
    /,
    *args: Any,
    key: str,
    scope: str,
    name: str = "",
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Run a function, once per scope and key, and return its result; a second call returns the
    stored one.

    By default the function's writes and its result are one commit, and an exception undoes both, so
    that the next call runs. With ``atomic=False`` the function owns its transactions, and
    ``on_interrupted``, ``resolver`` and steps mean what they mean for views.

    :param function: called with the arguments; it returns plain data. An async one runs to its end
        in this thread
    :param args: plain data. The same key with other arguments is an error
    :param key: identifies this very operation: a message's id, not what the operation is about
    :param scope: what the keys are unique in, such as ``"queue:invoices"``
    :param name: of the function, if it is not to be its dotted path: it stays when that changes
    :param kwargs: further arguments, by name
    :param options: policy options: ``atomic``, ``codec``, ``in_flight`` (``"wait"``),
        ``on_interrupted``, ``resolver``, ``retention``, ``store``, ``tombstone``, ``using`` ...
    :raises OperationInFlight: if another run has not ended, or the store is too busy to tell
    :raises KeyReused: if the key belongs to another function, or to other arguments
    :raises OutcomeUnknown: if an interrupted run must be resolved first (``atomic=False``)
    :raises KeyExpired: within the tombstone period
    :raises ResultUnavailable: if it has run, but its result cannot be read
    :raises NotPlainData: if arguments, or the result, are not plain data; nothing stays of that run
    :raises ImproperlyConfigured: inside of ``transaction.atomic()``, which could undo it
    """
    run = Run(function, name or _name_of(function), key, scope, options)
    return run(args, dict(kwargs or {}))


@overload
async def arun_once(
    function: Callable[..., Coroutine[Any, Any, Result]],
    /,
    *args: Any,
    key: str,
    scope: str,
    name: str = ...,
    kwargs: Mapping[str, Any] | None = ...,
    **options: "Unpack[FunctionOptions]",
) -> Result: ...
@overload
async def arun_once(
    function: Callable[..., Result],
    /,
    *args: Any,
    key: str,
    scope: str,
    name: str = ...,
    kwargs: Mapping[str, Any] | None = ...,
    **options: "Unpack[FunctionOptions]",
) -> Result: ...
async def arun_once(function: Callable[..., Any], /, *args: Any, **rest: Any) -> Any:
    """The same in async code. It ends in its own time, also if the caller is cancelled."""
    return await on_request_thread(run_once, function, *args, **rest)


def idempotent_function(
    *,
    scope: str,
    key: KeyFunction | None = None,
    name: str = "",
    **options: "Unpack[FunctionOptions]",
) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Make a function run once per key: a task that is delivered twice, for example.

    Put it below the decorator of the task queue. Arguments, results, errors and options are those
    of :func:`run_once`.

    :param scope: what the keys are unique in
    :param key: called with the function's arguments, returns the key. Without it the key is the id
        of the task that runs (Celery, RQ, Dramatiq; django.tasks with ``takes_context=True``), and
        in an effect the effect's. A key made of what a task is about, such as
        ``f"charge:{order_id}"``, also prevents a second charge that is intended
    :raises PolicyError: at import, for an unknown option or a bad value
    """
    policy_of(options, Policy())

    def decorate(function: Callable[Given, Result]) -> Callable[Given, Result]:
        label = name or _name_of(function)
        DECLARED.add(label)

        def run(*args: Any, **kwargs: Any) -> Any:
            if key is not None:
                return Run(function, label, key(*args, **kwargs), scope, options)(args, kwargs)
            delivery = current_delivery(args)
            if delivery is None:
                raise ImproperlyConfigured(NO_KEY.format(name=label))
            returned = delivery.returned()
            if label in returned:  # silently, the second of two charges would not happen
                raise ImproperlyConfigured(TWICE.format(name=label))
            result = Run(function, label, delivery.task_id, scope, options)(args, kwargs)
            returned.add(label)
            return result

        async def arun(*args: Any, **kwargs: Any) -> Any:
            return await on_request_thread(run, *args, **kwargs)

        wrapper = wraps(function)(arun if iscoroutinefunction(function) else run)
        return cast(Callable[Given, Result], wrapper)

    return decorate


def policy_of(options: Mapping[str, Any], base: Policy) -> Policy:
    """Return the policy of a function.

    :raises PolicyError: for an option that is unknown, or means nothing without a request
    """
    if strangers := options.keys() - OPTIONS:
        most = ", ".join(sorted(OPTIONS))
        raise PolicyError(
            dict.fromkeys(strangers, f"is no option of a function. Those are: {most}")
        )
    return base.override(**options)


class Run:
    """One call of a function under a key.

    :param name: of the function, in its record
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        key: str,
        scope: str,
        options: Mapping[str, Any],
    ) -> None:
        if not _is_key(key):
            raise ValueError(NO_TEXT.format(name=name, key=key, most=MAX_KEY_LENGTH))
        if not isinstance(scope, str) or not scope:
            raise ValueError(f"{name}: its scope is {scope!r}. A scope is a text.")
        if not isinstance(name, str) or not name.isprintable():
            raise ValueError(f"The name of a function is printable text, not {name!r}.")
        self._function = function
        self._name = name
        self._key = key
        self._scope = scope
        self._policy = policy_of(options, configuration().policy)
        request = _request_of(function, name)
        self._subject = Subject(request, self._policy, key, perf_counter())

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._policy.codec.encrypts:
            configuration().keyring.check()  # or nothing runs: its result could not be stored
        claim = self._claim(args, kwargs)
        operation = operation_of(self._policy, claim, None, render=self._resolved)
        try:
            found = operation.begin()
        except Outage as error:
            report(self._subject, Outcome.REFUSED, reason="store_unavailable", cause=str(error))
            raise OperationInFlight(
                NO_STORE.format(self._name), self._policy.retry_after
            ) from error
        if isinstance(found, begun.Started):
            return self._run(operation, args, kwargs)
        return self._result_of(found, operation)

    def _claim(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Claim:
        secret, policy = configuration().secret, self._policy
        arguments = arguments_of(self._function, args, kwargs)
        if plain_text(arguments) is None:
            given = (*without_task(args), *kwargs.values())
            kinds = ", ".join(type(each).__name__ for each in given)
            raise NotPlainData(
                f"{self._name}: its arguments ({kinds}) must be plain data, so that a second call "
                f"can be compared with the first: {PLAIN_DATA}. Pass a primary key instead of an "
                "object."
            )
        text = json.dumps(arguments, sort_keys=True)
        self._subject.scope = keyed_digest(SCOPE + secret, ("function", self._scope)).hex()
        return Claim(
            scope=self._subject.scope,
            key=self._key,
            fingerprint=fingerprint(Target(METHOD, self._name), Payload("json", text.encode())),
            method=METHOD,
            path=self._name[:255],
            retention=policy.retention,
            tombstone=policy.tombstone,
            codec=str(policy.codec),
            secret=secret,
        )

    def _run(self, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        function = self._function
        if iscoroutinefunction(function):
            function = async_to_sync(function)
        subject, left_at = self._subject, perf_counter()
        try:
            try:
                with as_running(operation):
                    result = function(*args, **kwargs)
            finally:
                subject.away = perf_counter() - left_at
            stored = self._stored(result, operation)
            operation.finish(stored, self._policy.retention)
        except BaseException as error:
            operation.fail(error)
            operation.abandon(error)
            outcome = Outcome.EXECUTED if operation.is_remembered else Outcome.INTERRUPTED
            name = type(error).__qualname__
            report(self._subject, outcome, attempt=operation.attempt, reason=name)
            raise
        outcome = Outcome.RECOVERED if operation.recovered else Outcome.EXECUTED
        report(self._subject, outcome, attempt=operation.attempt)
        return result

    def _stored(self, result: Any, operation: Operation) -> StoredResponse:
        text = plain_text(result)
        if text is None:
            raise NotPlainData(
                f"{self._name} returned {type(result).__name__}, which is not plain data, so that "
                f"it could not be stored: return {PLAIN_DATA}."
            )
        plain = StoredResponse(DONE, body=text.encode())
        policy = self._policy
        return encode(plain, policy.codec, configuration().keyring, operation.owner)

    def _resolved(self, result: Any) -> HttpResponse:
        """Return the result that a resolver has found, as it is stored."""
        text = plain_text(result)
        if text is None:
            raise NotPlainData(
                f"The resolver of {self._name} returned {type(result).__name__}. It must return "
                "the result of the function (plain data), RUN_AGAIN or STILL_UNKNOWN "
                "(django_idempotency.resolving)."
            )
        return HttpResponse(text, content_type="application/json")

    def _result_of(self, found: Any, operation: Operation) -> Any:
        """Return the stored result, or raise what stands in the way."""
        name = self._name
        match found:
            case Replay(response):
                return self._replay(response, operation)
            case Mismatch():
                raise self._refusal(Outcome.MISMATCH, KeyReused(REUSED.format(name, self._scope)))
            case Tombstone():
                raise self._refusal(Outcome.REFUSED, KeyExpired(EXPIRED.format(name)))
            case begun.OutcomeUnknown():
                raise self._refusal(Outcome.REFUSED, OutcomeUnknown(UNKNOWN.format(name)))
            case _:
                later = OperationInFlight(RUNNING.format(name), self._policy.retry_after)
                raise self._refusal(Outcome.CONFLICT, later)

    def _replay(self, response: StoredResponse, operation: Operation) -> Any:
        try:
            if response.omitted:
                is_refused = response.omitted is Omitted.REFUSED
                reason = "an operator has refused it" if is_refused else "it was not stored"
                error = ResultUnavailable(f"{self._name} has no result: {reason}.")
                raise self._refusal(Outcome.REFUSED, error, reason)
            plain = decode(response, configuration().keyring, operation.owner)
            result = json.loads(plain.body)
        except (Unreadable, ValueError) as error:
            lost = ResultUnavailable(f"{self._name} has run; its result is lost: {error}")
            raise self._refusal(Outcome.REFUSED, lost, str(error)) from error
        report(self._subject, Outcome.REPLAYED)
        return result

    def _refusal(self, outcome: Outcome, error: OperationError, cause: str = "") -> OperationError:
        report(self._subject, outcome, reason=type(error).__name__, cause=cause)
        return error


def _request_of(function: Callable[..., Any], name: str) -> HttpRequest:
    """Return what receivers of signals get in place of a request."""
    request = HttpRequest()
    request.method, request.path = METHOD, name
    request.resolver_match = ResolverMatch(function, (), {}, url_name=name, route="")
    return request


def _name_of(function: Callable[..., Any]) -> str:
    """
    :raises TypeError: if the function does not say what it is called
    """
    if "<lambda>" in getattr(function, "__qualname__", "<lambda>"):
        raise TypeError(f"{function!r} has no name. Give name=, by which its records are known.")
    return dotted_path(function)


def _is_key(key: object) -> bool:
    """Whether a value fits the record's column, whatever the database."""
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_LENGTH:
        return False
    return key.isprintable() and key.isascii()
