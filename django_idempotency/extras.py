"""Optional dependencies."""

from importlib.util import find_spec


def require(package: str, extra: str, who: str) -> None:
    """Check that an optional dependency is installed.

    :param package: its name for ``import``
    :param extra: the extra of django-idempotency that installs it
    :param who: the part that needs it, for the message
    :raises ModuleNotFoundError: with the command that installs it
    """
    if find_spec(package) is None:
        raise ModuleNotFoundError(
            f"{who} needs the package {package}, which is not installed: run python -m pip install "
            f"'django-idempotency[{extra}]'.",
            name=package,
        )
