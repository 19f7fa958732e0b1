"""What is optional, and how to get it."""

from importlib.util import find_spec


def require(package: str, extra: str, who: str) -> None:
    """Make sure that a package is there which a part of this one is made for.

    :param package: its name for ``import``
    :param extra: the extra of django-idempotency that brings it
    :param who: what needs it, for people
    :raises ModuleNotFoundError: says what to install
    """
    if find_spec(package) is None:
        raise ModuleNotFoundError(
            f"{who} needs the package {package}, which is not installed: run python -m pip install "
            f"'django-idempotency[{extra}]'.",
            name=package,
        )
