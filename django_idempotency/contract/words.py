"""What a policy says, in words for people."""

from collections.abc import Iterator
from datetime import timedelta

from ..conf.described import described, key_source
from ..conf.policy import (
    Anonymous,
    Fingerprint,
    OnInFlight,
    OnInterrupted,
    OnOutage,
    Policy,
    Scope,
    key_alone,
)
from ..protocol.keys import KeyFormat

_KEYS = {
    KeyFormat.LENIENT: "printable ASCII in quotes (a Structured Fields String), or letters, digits "
    "and -_.~+/=: without quotes",
    KeyFormat.STRUCTURED: "printable ASCII in quotes: a Structured Fields String (RFC 9651)",
    KeyFormat.BARE: "letters, digits and -_.~+/=:, without quotes",
    KeyFormat.PRINTABLE: "printable ASCII, taken as it is",
    KeyFormat.UUID: "a UUID (RFC 9562), with or without quotes",
}
_SCOPES = {
    Scope.PRINCIPAL: "the authenticated caller",
    Scope.TOKEN: "the token or other credential that the request carries",
    Scope.SESSION: "the visitor, known by a session",
}
_SAME = {
    Fingerprint.REQUEST: "the same method, path, query string and content of the body",
    Fingerprint.BYTES: "the same method, path, query string and bytes of the body",
    Fingerprint.NONE: "the same method and path; the body is not compared",
}
_ANONYMOUS = {
    Anonymous.IGNORE: "Keys of callers who are not authenticated are ignored.",
    Anonymous.SHARE: "All callers who are not authenticated share their keys.",
    Anonymous.REFUSE: "Keys of callers who are not authenticated are refused.",
}
_SHORT = {"hours": "h", "minutes": "min", "seconds": "s", "second": "s"}
_SERVER_ERRORS = frozenset(range(500, 600))
_UNITS = ((86400, 2, "days"), (3600, 2, "hours"), (60, 2, "minutes"))


def key(policy: Policy) -> str:
    """Say what a key is: one sentence."""
    longest = "" if policy.key_format is KeyFormat.UUID else f", at most {policy.key_max_length} "
    length = longest and f"{longest}characters"
    form = "" if policy.key_pattern is None else f", of the form {policy.key_pattern.pattern}"
    return f"A key is {_KEYS[policy.key_format]}{length}{form}."


def scope(policy: Policy) -> str:
    """Say who a key belongs to: a noun. A function's docstring speaks for it."""
    if isinstance(policy.scope, Scope):
        owner = _SCOPES[policy.scope]
    else:
        owner = described(policy.scope, "the caller as this API defines it")
    return owner if policy.tenant is None else f"{owner}, within one tenant"


def anonymous(policy: Policy) -> str:
    if policy.required and policy.anonymous is Anonymous.IGNORE:
        return _ANONYMOUS[Anonymous.REFUSE]
    return _ANONYMOUS[policy.anonymous]


def same_request(policy: Policy) -> str:
    """Say what a retry has in common with the first request."""
    if policy.fingerprint is key_alone:
        return "the same key; nothing else is compared"
    if not isinstance(policy.fingerprint, Fingerprint):
        return "the same values of what this API compares"
    fields = ""
    if policy.fingerprint is not Fingerprint.NONE and policy.fingerprint_fields is not None:
        fields = f" (only the fields {', '.join(sorted(policy.fingerprint_fields))})"
    elif policy.fingerprint is not Fingerprint.NONE and policy.fingerprint_ignored_fields:
        fields = f" (without the fields {', '.join(sorted(policy.fingerprint_ignored_fields))})"
    ignored = ", ".join(sorted(policy.fingerprint_ignored_parameters))
    if policy.fingerprint is not Fingerprint.NONE and ignored:
        fields += f" (without the query parameters {ignored})"
    return _SAME[policy.fingerprint] + fields


def replay(policy: Policy) -> str:
    """Say what the retry of a completed request gets."""
    if not policy.store_body:
        return "nothing but `idempotency_response_unavailable`, because responses are not kept"
    redacted = ", ".join(sorted(policy.redacted_fields))
    instead = f", and `[redacted]` in the place of {redacted}" if redacted else ""
    return f"the same response{with_marker(policy)}{instead}"


def with_marker(policy: Policy) -> str:
    """Say how a replay is marked; nothing if it is not."""
    if policy.replay_header is None:
        return ""
    return f", with `{policy.replay_header}: {policy.replay_value}`"


def in_flight(policy: Policy) -> str:
    """Say what a duplicate of a running request gets."""
    if policy.in_flight is OnInFlight.WAIT:
        wait = duration(policy.wait_timeout)
        return f"waits up to {wait} for its answer, then gets {policy.in_flight_status}"
    return f"gets {policy.in_flight_status}"


def may_be_unknown(policy: Policy) -> bool:
    """Whether an interrupted attempt does not run again until its outcome is known."""
    return not policy.atomic and policy.on_interrupted is OnInterrupted.REFUSE


def not_stored(policy: Policy) -> tuple[str, str]:
    """Name the statuses after which a retry runs again, and those after which the outcome is
    unknown. The latter leave 503 out: it says that nothing was done."""
    codes, unknown = policy.not_stored, frozenset[int]()
    if may_be_unknown(policy):
        unknown = codes & (_SERVER_ERRORS - {503})
    again = ", ".join(statuses(codes - unknown))
    if unknown == _SERVER_ERRORS - {503}:
        return again, "other 5xx" if 503 in codes else "5xx but 503"
    return again, ", ".join(statuses(unknown))


def outage(policy: Policy) -> str:
    """Say what a request with a key gets while the store is out of reach."""
    if policy.outage is OnOutage.CLOSED:
        return "is refused with 503, and nothing runs"
    return "is executed all the same, and a retry may be executed again"


def terms(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield sentences about a policy: how each begins, and the rest of it."""
    needed = "required" if policy.required else "optional"
    begin = "Header" if policy.key_from is None else "Key"
    yield begin, f"{key_source(policy, '`{}`')}, {needed}. {key(policy)}"
    yield "Keys belong to", f"{scope(policy)}. {anonymous(policy)}"
    yield "Responses are kept for", f"{duration(policy.retention)} from the original response."
    if policy.tombstone:
        refused = duration(policy.tombstone)
        yield "After that", f"the key is refused for {refused} ({policy.expired_status})."
    else:
        yield "After that", "the key is free; the same request is a new operation."
    yield "A retry has", f"{same_request(policy)}."
    yield "It gets", f"{replay(policy)}."
    if policy.fingerprint is not key_alone:
        yield "Another request", f"with the same key gets {policy.mismatch_status}."
    yield "While the first runs", f"a retry {in_flight(policy)}."
    yield "If keys cannot be kept", f"a request with a key {outage(policy)}."


def duration(time: timedelta) -> str:
    """Say how long, in the largest unit of which it is a whole number (and more than one)."""
    seconds = time.total_seconds()
    for size, least, unit in _UNITS:
        if seconds >= least * size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return "1 second" if seconds == 1 else f"{seconds:g} seconds"


def short(time: timedelta) -> str:
    """Say how long in few characters: ``24 h``."""
    number, unit = duration(time).split()
    return f"{number} {_SHORT.get(unit, unit)}"


def statuses(codes: frozenset[int]) -> list[str]:
    """Name statuses, whole classes by one name: ``["409", "429", "5xx"]``."""
    whole = [first for first in range(1, 6) if {*range(first * 100, first * 100 + 100)} <= codes]
    single = [str(code) for code in sorted(codes) if code // 100 not in whole]
    return sorted([*single, *(f"{first}xx" for first in whole)])
