"""The ``IDEMPOTENCY`` setting: the only place that reads it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from . import values
from .codecs import Keyring
from .policy import FIELDS, Policy, PolicyError, build

FUNCTIONS = frozenset(
    {"SCOPE", "TENANT", "FINGERPRINT", "ERRORS", "RESOLVER", "RESUMABLE", "RESUME_DATA"}
)
"""Settings that may name a function by its dotted path."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The parsed setting.

    :param policy: the policy of every view that does not override it
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

    def covers(self, path: str) -> bool:
        """Whether the middleware guards this path."""
        return any(each.search(path) for each in self.paths) and self.exemption(path) is None

    def exemption(self, path: str) -> str | None:
        """Return why a path is exempt (maybe an empty text), or ``None`` if it is not."""
        found = (why for pattern, why in self.exempt_paths.items() if pattern.search(path))
        return next(found, None)


class SettingError(ImproperlyConfigured):
    """``IDEMPOTENCY`` is wrong: ``problems`` maps names of settings to what is wrong."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        details = "; ".join(f"{name}: {text}" for name, text in self.problems.items())
        super().__init__(f"IDEMPOTENCY is not valid. {details}")


@cache
def configuration() -> Configuration:
    """Return the parsed setting; ``override_settings`` takes effect at once.

    :raises SettingError: names every unknown setting and every bad value
    """
    given = getattr(settings, "IDEMPOTENCY", {})
    if not isinstance(given, Mapping):
        raise SettingError({"IDEMPOTENCY": f"must be a dict, not {given!r}"})
    own: dict[str, Any] = {}
    options: dict[str, object] = {}
    problems: dict[str, str] = {}
    for name, value in given.items():
        if name in OWN_SETTINGS:
            try:
                own[name] = OWN_SETTINGS[name](value)
            except (TypeError, ValueError) as error:
                problems[name] = str(error)
        elif isinstance(name, str) and name.isupper() and name.lower() in FIELDS:
            options[name.lower()] = _imported(name, value, problems)
        else:
            problems[str(name)] = "there is no such setting; see the settings reference"
    policy = _policy(options, problems)
    if problems:
        raise SettingError(problems)
    return Configuration(
        policy=policy,
        paths=own.get("PATHS", (re.compile(""),)),
        exempt_paths=own.get("EXEMPT_PATHS", {}),
        secret=own.get("SECRET") or settings.SECRET_KEY.encode(),
        cache=own.get("CACHE"),
        keyring=own.get("ENCRYPTION_KEYS", Keyring()),
    )


def _policy(options: dict[str, object], problems: dict[str, str]) -> Policy:
    try:
        return build(options)
    except PolicyError as error:
        problems.update({name.upper(): text for name, text in error.problems.items()})
        return Policy()


def _imported(name: str, value: object, problems: dict[str, str]) -> object:
    """A function may be given as a dotted path."""
    if name not in FUNCTIONS or not isinstance(value, str) or "." not in value:
        return value
    try:
        return import_string(value)
    except ImportError as error:
        problems[name] = f"cannot be imported: {error}"
        return getattr(Policy(), name.lower())


def _patterns(value: object) -> tuple[re.Pattern[str], ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"must be a list of regular expressions, not {value!r}")
    try:
        return tuple(re.compile(item) for item in value)
    except (re.error, TypeError) as error:
        raise ValueError(f"must be a list of regular expressions: {error}") from error


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
    "PATHS": _patterns,
    "EXEMPT_PATHS": _exempt_patterns,
    "SECRET": _secret,
    "CACHE": values.cache_alias,
    "ENCRYPTION_KEYS": _keyring,
}


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {"IDEMPOTENCY", "SECRET_KEY"}:
        configuration.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_idempotency.conf")
