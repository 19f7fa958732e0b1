"""The ``IDEMPOTENCY`` setting: the only place that reads it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from ..protocol.codecs import Keyring
from . import values
from .policy import FIELDS, Policy, PolicyError, build

FUNCTIONS = frozenset(
    {"SCOPE", "TENANT", "FINGERPRINT", "ERRORS", "RESOLVER", "RESUMABLE", "RESUME_DATA"}
)
"""Settings that may name a function by its dotted path."""


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
    """

    policy: Policy
    paths: tuple[re.Pattern[str], ...]
    exempt_paths: Mapping[re.Pattern[str], str]
    secret: bytes
    keyring: Keyring
    cache: str | None = None
    policies: Mapping[re.Pattern[str], Policy] = field(default_factory=dict)

    def policy_for(self, path: str) -> Policy:
        """Return the policy of a view that has no decorator.

        :param path: ``request.path_info``
        """
        rule = self.rule_for(path)
        return self.policy if rule is None else self.policies[rule]

    def rule_for(self, path: str) -> re.Pattern[str] | None:
        """Return the entry of ``POLICIES`` that holds for a path, if one does."""
        return next((pattern for pattern in self.policies if pattern.search(path)), None)

    def may_carry_key(self, meta: Mapping[str, object]) -> bool:
        """Whether a request has a header that some path takes for that of the key.

        :param meta: ``request.META``
        """
        if self.policy.meta_key in meta:
            return True
        return any(policy.meta_key in meta for policy in self.policies.values())

    def may_concern(self, meta: Mapping[str, object]) -> bool:
        """Whether the middleware may have to guard or refuse a request, whatever its path.

        :param meta: ``request.META``
        """
        if self.policy.required or self.may_carry_key(meta):
            return True
        return any(policy.required for policy in self.policies.values())

    def covers(self, path: str) -> bool:
        """Whether the middleware guards this path."""
        return any(each.search(path) for each in self.paths) and self.exemption(path) is None

    def exemption(self, path: str) -> str | None:
        """Return why a path is exempt (maybe an empty text), or ``None`` if it is not."""
        found = (why for pattern, why in self.exempt_paths.items() if pattern.search(path))
        return next(found, None)


class SettingError(ImproperlyConfigured):
    """``IDEMPOTENCY`` is wrong: ``problems`` maps names of settings to what is wrong.

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
    head, bracket, tail = name.partition("[")
    return f'IDEMPOTENCY["{head}"]{bracket}{tail}'


@cache
def configuration() -> Configuration:
    """Return the parsed setting; ``override_settings`` takes effect at once.

    :raises SettingError: names every unknown setting and every bad value
    """
    given = getattr(settings, "IDEMPOTENCY", {})
    if not isinstance(given, Mapping):
        raise SettingError({"IDEMPOTENCY": f"must be a dict, not {given!r}"})
    own: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name in (each for each in given if each in OWN_SETTINGS):
        try:
            own[name] = OWN_SETTINGS[name](given[name])
        except (TypeError, ValueError) as error:
            problems[name] = str(error)
    others = {name: value for name, value in given.items() if name not in OWN_SETTINGS}
    policy = _policy(others, Policy(), problems, "{}")
    policies = {
        pattern: _policy(options, policy, problems, f'POLICIES["{pattern.pattern}"]["{{}}"]')
        for pattern, options in own.get("POLICIES", {}).items()
    }
    if problems:
        raise SettingError(problems)
    return Configuration(
        policy=policy,
        paths=own.get("PATHS", (re.compile(""),)),
        exempt_paths=own.get("EXEMPT_PATHS", {}),
        secret=own.get("SECRET") or settings.SECRET_KEY.encode(),
        cache=own.get("CACHE"),
        keyring=own.get("ENCRYPTION_KEYS", Keyring()),
        policies=policies,
    )


def _policy(
    given: Mapping[object, object], base: Policy, problems: dict[str, str], entry: str
) -> Policy:
    """Return ``base`` with what a dict of settings changes.

    :param problems: gets what is wrong, by the name of the entry
    :param entry: how an entry is named, with braces in the place of its own name
    """
    options: dict[str, object] = {}
    for name, value in given.items():
        if not (isinstance(name, str) and name.isupper() and name.lower() in FIELDS):
            problems[_entry(entry, name)] = "there is no such setting; see the settings reference"
            continue
        try:
            options[name.lower()] = _imported(name, value)
        except ImportError as error:
            problems[_entry(entry, name)] = f"cannot be imported: {error}"
    try:
        return build(options, base)
    except PolicyError as error:
        for option, text in error.problems.items():
            problems[_entry(entry, option.upper())] = text
        return base


def _entry(entry: str, name: object) -> str:
    head, _, tail = entry.rpartition("{}")
    return f"{head}{name}{tail}"


def _imported(name: str, value: object) -> object:
    """A function may be given as a dotted path."""
    if name not in FUNCTIONS or not isinstance(value, str) or "." not in value:
        return value
    return import_string(value)


def _policies(value: object) -> dict[re.Pattern[str], Mapping[object, object]]:
    if not isinstance(value, Mapping):
        raise TypeError(f"must map regular expressions to dicts of settings, not {value!r}")
    for pattern, options in value.items():
        if not isinstance(options, Mapping):
            raise TypeError(f"must map {pattern!r} to a dict of settings, not {options!r}")
    return dict(zip(_patterns(list(value)), value.values(), strict=True))


def _patterns(value: object) -> tuple[re.Pattern[str], ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"must be a list of regular expressions, not {value!r}")
    return tuple(_pattern(item) for item in value)


def _pattern(value: Any) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except (re.error, TypeError) as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from error


def _exempt_patterns(value: object) -> dict[re.Pattern[str], str]:
    if isinstance(value, Mapping):
        if not all(isinstance(reason, str) for reason in value.values()):
            raise TypeError("must map regular expressions to reasons, which are text")
        return dict(zip(_patterns(list(value)), value.values(), strict=True))
    return dict.fromkeys(_patterns(value), "")


def _secret(value: object) -> bytes:
    if not isinstance(value, str) or len(value) < 16:
        raise ValueError("must be a string of at least 16 characters")
    return value.encode()


def _keyring(value: object) -> Keyring:
    """The texts of errors hold no key."""
    if not isinstance(value, list | tuple):
        raise TypeError("must be a list of Fernet keys")
    for place, key in enumerate(value, 1):
        if not isinstance(key, str) or not _is_fernet_key(key):
            raise ValueError(
                f"key {place} is not a Fernet key (32 bytes as URL-safe base64); make one with "
                "cryptography.fernet.Fernet.generate_key().decode()"
            )
    return Keyring(tuple(value))


def _is_fernet_key(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-]{43}=", text) is not None


OWN_SETTINGS: dict[str, Callable[[object], Any]] = {
    "POLICIES": _policies,
    "PATHS": _patterns,
    "EXEMPT_PATHS": _exempt_patterns,
    "SECRET": _secret,
    "CACHE": values.cache_alias,
    "ENCRYPTION_KEYS": _keyring,
}


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {"IDEMPOTENCY", "SECRET_KEY"}:
        configuration.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_idempotency.conf.settings")
