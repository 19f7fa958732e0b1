"""The retry guide for clients, as data: what a client sees, and what it does."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..conf.policy import Policy
from ..protocol.problems import ERRORS, Code, Problem
from . import words
from .endpoints import Endpoint, State
from .facts import Facts, facts
from .problems import problems_of

INTRODUCTION = (
    "A request with a key is executed once, however often it arrives. Make a new random key for "
    "each operation (a UUID, if no other form is asked for), keep it with the operation, and send "
    "it with every try. A retry is the same request again, by the same caller. Wait longer before "
    "each further try."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client sees, what it means, and what it does."""

    seen: str
    meaning: str
    action: str


@dataclass(frozen=True, slots=True)
class Error:
    """An error answer, under all policies of a guide."""

    code: str
    statuses: tuple[int, ...]
    meaning: str
    retryable: bool
    action: str


@dataclass(frozen=True, slots=True)
class Promise:
    """One policy, in sentences, and the endpoints it holds for.

    :param operations: such as ``POST /orders``; empty for every operation that takes keys
    """

    operations: tuple[str, ...]
    terms: tuple[tuple[str, str], ...]
    outcomes: tuple[Outcome, ...]
    facts: Facts


@dataclass(frozen=True, slots=True)
class Guide:
    promises: tuple[Promise, ...]
    errors: tuple[Error, ...]


def guide_to(
    shown: Callable[[Endpoint], object], found: Iterable[Endpoint], general: Policy
) -> Guide:
    """Return the guide to those guarded endpoints that are to be shown.

    Errors of the others are explained, too: they may link to the same page.

    :param shown: whether an endpoint is to be shown
    :param general: the policy that the guide is about, if none is
    """
    guarded = [
        (each, policy)
        for each in found
        if each.verdict.state is State.GUARDED and (policy := each.verdict.policy)
    ]
    others = _distinct([general, *(policy for _, policy in guarded)])
    said = [repr(facts(policy)) for policy in others]
    groups: dict[str, tuple[Policy, list[str]]] = {}
    for endpoint, policy in guarded:
        if shown(endpoint):
            _, operations = groups.setdefault(said[others.index(policy)], (policy, []))
            operations.append(f"{endpoint.method} {endpoint.path}")
    explained = list(groups.values()) or [(general, [])]
    promises = tuple(_promise(policy, tuple(operations)) for policy, operations in explained)
    return Guide(promises, _errors([policy for policy, _ in explained], others))


def _distinct(policies: Iterable[Policy]) -> list[Policy]:
    """Return each policy once: endpoints may be thousands, their policies are few."""
    found: list[Policy] = []
    for policy in policies:
        if policy not in found:
            found.append(policy)
    return found


def _promise(policy: Policy, operations: tuple[str, ...]) -> Promise:
    return Promise(operations, tuple(_terms(policy)), tuple(_outcomes(policy)), facts(policy))


def _errors(policies: list[Policy], others: list[Policy]) -> tuple[Error, ...]:
    """Return each error once: under these policies, or else as others have it."""
    here, elsewhere = _by_code(policies), _by_code(others)
    return tuple(
        Error(
            str(code),
            tuple(sorted({problem.status for problem in met})),
            ERRORS[code].meaning,
            any(problem.retryable for problem in met),
            ERRORS[code].advice,
        )
        for code in ERRORS
        if (met := here.get(code) or elsewhere.get(code))
    )


def _by_code(policies: list[Policy]) -> dict[Code, list[Problem]]:
    found: dict[Code, list[Problem]] = {}
    for problem in (each for policy in policies for each in problems_of(policy)):
        found.setdefault(problem.code, []).append(problem)
    return found


def _terms(policy: Policy) -> Iterator[tuple[str, str]]:
    needed = "required" if policy.required else "optional"
    yield "Header", f"`{policy.header}`, {needed}. {words.key(policy)}"
    yield "Keys belong to", f"{words.scope(policy)}. {words.anonymous(policy)}"
    yield "Kept for", f"{words.duration(policy.retention)} from the original response."
    if policy.tombstone:
        refused = words.duration(policy.tombstone)
        yield "After that", f"the key is refused for {refused} ({policy.expired_status})."
    else:
        yield "After that", "the key is free; the same request is a new operation."
    yield "A retry has", f"{words.same_request(policy)}."
    yield "It gets", f"{words.replay(policy)}."
    yield "Another request", f"with the same key gets {policy.mismatch_status}."
    yield "While the first runs", f"a retry {words.in_flight(policy)}."
    yield "If keys cannot be kept", f"a request with a key {words.outage(policy)}."


def _outcomes(policy: Policy) -> Iterator[Outcome]:
    again = "send the same request with the same key"
    told = "gets this answer again" if policy.store_body else "is told so"
    yield Outcome("no answer", "the operation may have been executed, or not", again)
    if policy.store_body and policy.replay_header is not None:
        marker = f"`{policy.replay_header}: {policy.replay_value}`"
        yield Outcome(f"an answer with {marker}", "the answer of the first try", "take it as that")
    yield Outcome("a code of the errors below", "this is about the key", "see there")
    refused = _stored_errors(policy)
    correct = "after an error: correct the request, and send it with a *new* key"
    yield Outcome(
        ", ".join(["2xx", "3xx", *refused]),
        f"done; a retry {told}",
        correct if refused else "nothing",
    )
    not_now, unknown = words.not_stored(policy)
    if not_now:
        wait = "wait (`Retry-After`) or do what the answer asks for"
        changed = "A changed request needs a new key"
        yield Outcome(not_now, "not now; the operation was not done", f"{wait}; {again}. {changed}")
    if unknown:
        yield Outcome(unknown, "interrupted: what was done is not known", f"wait; {again}")


def _stored_errors(policy: Policy) -> list[str]:
    """Name the classes of errors that are results, at least in part."""
    return sorted(
        {f"other {code // 100}xx" for code in range(400, 600) if code not in policy.not_stored}
    )
