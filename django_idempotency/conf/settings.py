"""The ``IDEMPOTENCY`` setting: the only place that reads it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from ..protocol.codecs import Keyring
from . import values
from .policy import POLICY_OPTIONS, Policy, PolicyError, Setting, build, unknown

PROJECT_SETTINGS = {
    "POLICIES": Setting(
        values.policies, "Policies by path, for views that you cannot decorate.", {}
    ),
    "PATHS": Setting(
        values.patterns, "The paths that the middleware guards: by default all.", [""]
    ),
    "EXEMPT_PATHS": Setting(values.reasons, "Paths that the middleware does not guard.", []),
    "SECRET": Setting(values.secret, "The secret key of scope digests."),
    "CACHE": Setting(
        values.alias("CACHES"), 'The cache that the stores `"cached_db"` and `"cache"` use.'
    ),
    "ENCRYPTION_KEYS": Setting(
        values.keyring, "The first key encrypts responses, all of them decrypt.", []
    ),
    "EFFECTS_BUDGET": Setting(
        values.duration(timedelta(0), timedelta(minutes=5), "zero to five minutes"),
        "After this time no further effect begins in the request that has staged it.",
        timedelta(seconds=5),
    ),
    "DOCUMENTATION": Setting(
        values.optional(values.url),
        "Where your people read this documentation: the admin links to its runbooks.",
    ),
}
"""Settings that are no policy options: they are the whole project's."""

POLICY_SETTINGS = {name.upper(): setting for name, setting in POLICY_OPTIONS.items()}
SETTINGS = POLICY_SETTINGS | PROJECT_SETTINGS


@dataclass(frozen=True, slots=True)
class Configuration:
    """The parsed setting.

    :param policy: the policy of every view that does not override it
    :param policies: policies by path, each with the setting's policy as its base; the first match
        holds
    :param paths: the middleware guards paths that match one of these
    :param exempt_paths: and that match none of these; each with the reason, or an empty text
    :param secret: key of the scope digests
    :param cache: alias of the cache that stores use
    :param keyring: keys of encrypted responses
    :param effects_budget: how long a request runs its effects
    :param documentation: address of the runbooks' site
    :ivar meta_keys: names in ``request.META``; a request without all of them has no key on any path
    :ivar any_required: whether some path requires a key
    """

    policy: Policy
    paths: tuple[re.Pattern[str], ...]
    exempt_paths: Mapping[re.Pattern[str], str]
    secret: bytes
    keyring: Keyring
    cache: str | None = None
    policies: Mapping[re.Pattern[str], Policy] = field(default_factory=dict)
    effects_budget: timedelta = timedelta(seconds=5)
    documentation: str | None = None
    meta_keys: tuple[str, ...] = field(init=False)
    any_required: bool = field(init=False)

    # The methods below run in every request, most of which carry no key: loops, not generators.

    def __post_init__(self) -> None:
        known = [self.policy, *self.policies.values()]
        meta_keys = tuple(dict.fromkeys(name for each in known for name in each.carriers))
        object.__setattr__(self, "meta_keys", meta_keys)
        object.__setattr__(self, "any_required", any(each.required for each in known))

    def policy_for(self, path: str) -> Policy:
        """Return the policy of a view that has no decorator.

        :param path: ``request.path_info``
        """
        for pattern, policy in self.policies.items():
            if pattern.search(path):
                return policy
        return self.policy

    def may_carry_key(self, meta: Mapping[str, object]) -> bool:
        """Whether some path may find a key in a request.

        :param meta: ``request.META``
        """
        for key in self.meta_keys:  # noqa: SIM110
            if key in meta:
                return True
        return False

    def may_concern(self, meta: Mapping[str, object]) -> bool:
        """Whether the middleware may have to guard or refuse a request, on any path.

        :param meta: ``request.META``
        """
        if self.any_required:
            return True
        for key in self.meta_keys:  # noqa: SIM110
            if key in meta:
                return True
        return False

    def covers(self, path: str) -> bool:
        """Whether the middleware guards this path."""
        for pattern in self.paths:
            if pattern.search(path):
                return not self.exempt_paths or self.exemption(path) is None
        return False

    def exemption(self, path: str) -> str | None:
        """Return why a path is exempt (maybe an empty text), or ``None`` if it is not."""
        for pattern, reason in self.exempt_paths.items():
            if pattern.search(path):
                return reason
        return None


class SettingError(ImproperlyConfigured):
    """``IDEMPOTENCY`` is wrong: ``problems`` maps names of settings to messages.

    A setting of a policy by path is named ``POLICIES["^/api/"]["RETENTION"]``.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        lines = [f"    {entry_of(name)}: {text}" for name, text in self.problems.items()]
        super().__init__("\n".join(["The setting IDEMPOTENCY is not valid:", *lines]))


def entry_of(name: str) -> str:
    """Return the expression that gives an entry: ``IDEMPOTENCY["RETENTION"]``.

    :param name: as in :attr:`SettingError.problems`
    """
    if name == "IDEMPOTENCY":
        return name
    head, inner, tail = name.partition("[")
    return f'IDEMPOTENCY["{head}"]{inner}{tail}'


@cache
def configuration() -> Configuration:
    """Return the parsed setting; ``override_settings`` takes effect at once.

    :raises SettingError: names every unknown setting and every bad value
    """
    given = getattr(settings, "IDEMPOTENCY", {})
    if not isinstance(given, Mapping):
        raise SettingError({"IDEMPOTENCY": f"must be a dict, not {given!r}"})
    project: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, setting in PROJECT_SETTINGS.items():
        if name in given or setting.default is not None:
            try:
                project[name] = setting.value.parse(given.get(name, setting.default))
            except (TypeError, ValueError) as error:
                problems[name] = str(error)  # without the value, which may be secret
    others = {name: value for name, value in given.items() if name not in PROJECT_SETTINGS}
    policy = _policy(others, Policy(), problems, "{}", SETTINGS)
    policies = {
        pattern: _policy(
            options, policy, problems, f'POLICIES["{pattern.pattern}"]["{{}}"]', POLICY_SETTINGS
        )
        for pattern, options in project.get("POLICIES", {}).items()  # none if they are wrong
    }
    if problems:
        raise SettingError(problems)
    return Configuration(
        policy=policy,
        paths=project["PATHS"],
        exempt_paths=project["EXEMPT_PATHS"],
        secret=project.get("SECRET") or settings.SECRET_KEY.encode(),
        cache=project.get("CACHE"),
        keyring=project["ENCRYPTION_KEYS"],
        policies=policies,
        effects_budget=project["EFFECTS_BUDGET"],
        documentation=project.get("DOCUMENTATION"),
    )


def _policy(
    given: Mapping[Any, object],
    base: Policy,
    problems: dict[str, str],
    entry: str,
    known: Mapping[str, Setting],
) -> Policy:
    """Return ``base`` with the changes of a dict of settings.

    :param problems: gets messages, by the name of the entry
    :param entry: how an entry is named; the last braces stand for its own name
    :param known: the names that may stand here, for the texts of errors
    """
    head, _, tail = entry.rpartition("{}")
    options: dict[str, object] = {}
    for name, value in given.items():
        if name not in POLICY_SETTINGS:
            problems[f"{head}{name}{tail}"] = unknown("setting", name, known)
            continue
        try:
            options[name.lower()] = _imported(POLICY_SETTINGS[name], value)
        except ImportError as error:
            problems[f"{head}{name}{tail}"] = f"cannot be imported: {error}"
    try:
        return build(options, base)
    except PolicyError as error:
        problems |= {f"{head}{name.upper()}{tail}": text for name, text in error.problems.items()}
        return base


def _imported(setting: Setting, value: object) -> object:
    """A function may be given as a dotted path."""
    if setting.value.takes_function and isinstance(value, str) and "." in value:
        return import_string(value)
    return value


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {"IDEMPOTENCY", "SECRET_KEY"}:
        configuration.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_idempotency.conf.settings")
