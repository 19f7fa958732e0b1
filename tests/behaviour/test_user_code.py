"""What mypy reads in ``user_code.py`` also runs: decorated things stay what they are."""

import inspect

import pytest

from tests.support import user_code

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", ["bare", "with_options", "exempt", "exempt_with_reason"])
def test_a_decorated_function_keeps_name_and_signature(name: str) -> None:
    function = getattr(user_code, name)
    assert function.__name__ == name
    assert list(inspect.signature(function).parameters) == ["request", "pk"]


def test_a_decorated_class_is_the_class() -> None:
    assert user_code.ClassView.__qualname__ == "ClassView"
    assert user_code.ClassView().other() == 1
