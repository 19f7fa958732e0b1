"""The retry guide for clients, what they see and what they do: as data, as Markdown and as HTML."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from ..conf.policy import Policy
from ..protocol.problems import ERRORS, Code, Problem
from . import words
from .endpoints import Endpoint
from .facts import Facts, facts, problems_of
from .tables import markdown_table

INTRODUCTION = (
    "A request with a key is executed once, however often it arrives. Make a new random key for "
    "each operation (a UUID, if no other form is asked for), keep it with the operation, and send "
    "it with every try. A retry is the same request again, by the same caller. Wait longer before "
    "each further try."
)


@dataclass(frozen=True, slots=True)
class Advice:
    """What a client sees, what it means, and what it does."""

    seen: str
    meaning: str
    action: str


@dataclass(frozen=True, slots=True)
class ErrorAdvice:
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
    outcomes: tuple[Advice, ...]
    facts: Facts


@dataclass(frozen=True, slots=True)
class Guide:
    promises: tuple[Promise, ...]
    errors: tuple[ErrorAdvice, ...]


def guide_to(
    shown: Callable[[Endpoint], object], found: Iterable[Endpoint], general: Policy
) -> Guide:
    """Return the guide to those guarded endpoints that are to be shown.

    Errors of the others are explained, too: they may link to the same page.

    :param shown: whether an endpoint is to be shown
    :param general: the policy that the guide is about, if none is
    """
    guarded = [(each, policy) for each in found if (policy := each.protection.guards)]
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
    return Promise(operations, tuple(words.terms(policy)), tuple(_outcomes(policy)), facts(policy))


def _errors(policies: list[Policy], others: list[Policy]) -> tuple[ErrorAdvice, ...]:
    """Return each error once: under these policies, or else as others have it."""
    here, elsewhere = _by_code(policies), _by_code(others)
    return tuple(
        ErrorAdvice(
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


def _outcomes(policy: Policy) -> Iterator[Advice]:
    again = "send the same request with the same key"
    told = "gets this answer again" if policy.store_body else "is told so"
    yield Advice("no answer", "the operation may have been executed, or not", again)
    if policy.store_body and policy.replay_header is not None:
        marker = f"`{policy.replay_header}: {policy.replay_value}`"
        yield Advice(f"an answer with {marker}", "the answer of the first try", "take it as that")
    yield Advice("a code of the errors below", "this is about the key", "see there")
    refused = _stored_errors(policy)
    correct = "after an error: correct the request, and send it with a *new* key"
    yield Advice(
        ", ".join(["2xx", "3xx", *refused]),
        f"done; a retry {told}",
        correct if refused else "nothing",
    )
    not_now, unknown = words.not_stored(policy)
    if not_now:
        wait = "wait (`Retry-After`) or do what the answer asks for"
        changed = "A changed request needs a new key"
        yield Advice(not_now, "not now; the operation was not done", f"{wait}; {again}. {changed}")
    if unknown:
        yield Advice(unknown, "interrupted: what was done is not known", f"wait; {again}")


def _stored_errors(policy: Policy) -> list[str]:
    """Name the classes of errors that are results, at least in part."""
    return sorted(
        {f"other {code // 100}xx" for code in range(400, 600) if code not in policy.not_stored}
    )


_EVERY = "Every operation that takes keys"
_SEEN = ("what the client sees", "what it means", "what it does")
_ERRORS = ("code", "status", "what happened", "retry helps", "what the client does")


def guide_as_markdown(guide: Guide) -> str:
    parts = ["# Retry guide", INTRODUCTION]
    for promise in guide.promises:
        operations = (f"`{operation}`" for operation in promise.operations)
        parts.append("## " + (", ".join(operations) or _EVERY))
        parts.append("\n".join(f"- **{name}:** {text}" for name, text in promise.terms))
        rows = [(each.seen, each.meaning, each.action) for each in promise.outcomes]
        parts.append(markdown_table([_SEEN, *rows]))
    errors = [(f"`{code}`", *rest) for code, *rest in map(_error_row, guide.errors)]
    return "\n\n".join([*parts, "## Errors", markdown_table([_ERRORS, *errors])])


def _error_row(error: ErrorAdvice) -> tuple[str, ...]:
    statuses = ", ".join(map(str, error.statuses))
    return error.code, statuses, error.meaning, "yes" if error.retryable else "no", error.action


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ border-bottom: 1px solid #8888; padding: .4rem .8rem .4rem 0; text-align: left;
  vertical-align: top }}
dt {{ font-weight: bold }}
tr:target {{ background: #fd04 }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{introduction}</p>
{promises}
<h2>Errors</h2>
<p>Errors about the key. A request that gets one has executed nothing itself. Each names its code,
and says in <code>retryable</code> whether sending the same request again can help.</p>
<table>
{errors}
</table>
</body>
</html>
"""


def guide_as_html(guide: Guide, title: str) -> SafeString:
    """Return the page, without scripts, and with nothing that is loaded from elsewhere. The code of
    each error is an anchor."""
    errors = [(error.code, _cells(_error_row(error)[1:])) for error in guide.errors]
    return format_html(
        _PAGE,
        title=title,
        introduction=INTRODUCTION,
        promises=format_html_join("\n", "{}", ((_section(each),) for each in guide.promises)),
        errors=_head(_ERRORS)
        + format_html_join("", '\n<tr id="{0}"><td><code>{0}</code>{1}</tr>', errors),
    )


def _section(promise: Promise) -> SafeString:
    operations = format_html_join(", ", "<code>{}</code>", ((each,) for each in promise.operations))
    rows = ((_cells((each.seen, each.meaning, each.action)),) for each in promise.outcomes)
    return format_html(
        "<section>\n<h2>{}</h2>\n<dl>\n{}\n</dl>\n<table>\n{}{}\n</table>\n</section>",
        operations or _EVERY,
        format_html_join("\n", "<dt>{}<dd>{}", ((n, _marked(text)) for n, text in promise.terms)),
        _head(_SEEN),
        format_html_join("", "\n<tr>{}</tr>", rows),
    )


def _head(names: Iterable[str]) -> SafeString:
    cells = format_html_join("", '<th scope="col">{}', ((name,) for name in names))
    return format_html("<tr>{}</tr>", cells)


def _cells(texts: Iterable[str]) -> SafeString:
    return format_html_join("", "<td>{}", ((_marked(text),) for text in texts))


def _marked(text: str) -> SafeString:
    """Make HTML of the two marks of Markdown that the guide's texts use: code and emphasis."""
    marked = re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
    return mark_safe(re.sub(r"\*(\w+)\*", r"<em>\1</em>", marked))  # noqa: S308  (escaped above)
