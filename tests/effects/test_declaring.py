"""What ``@effect`` takes, and what it makes of it."""

import copy
import pickle
import re
from datetime import timedelta
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any

import django
import pytest
from django.db import transaction

from django_idempotency import effects as public
from django_idempotency.effects import KEY, EffectError, after_commit, current_effect, effect
from django_idempotency.effects.declaring import known_effects
from django_idempotency.placeholders import filled
from tests.support import effects
from tests.support.effects import asend, later, send, sent

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]


DJANGO_6 = django.VERSION >= (6,)


def mail(order: int, to: str) -> None: ...


class TestDeclarations:
    def test_a_function_stays_what_it_was(self) -> None:
        @effect(name="double")
        def double(number: int) -> int:
            """Doubles."""
            return 2 * number

        assert double(2) == 4
        assert (double.__name__, double.__doc__) == ("double", "Doubles.")
        double.target.delay = "an attribute of its task"
        assert double.delay == "an attribute of its task"
        with pytest.raises(AttributeError, match="apply"):
            _ = double.apply
        assert repr(double) == "<Effect: double>"

    def test_its_name_is_its_path(self) -> None:
        assert known_effects()[send.name] is send
        assert send.name == "tests.support.effects.send"
        assert (send.max_tries, send.run_by) == (8, "inline")
        assert (later.max_tries, later.run_by) == (3, "worker")

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"max_tries": 0}, "max_tries=0"),
            ({"max_tries": True}, "max_tries=True"),
            ({"expires": 5}, "expires=5"),
            ({"expires": timedelta(0)}, "from one second"),
            ({"time_limit": timedelta(days=2)}, "to a day"),
            ({"run": "soon"}, "'inline', 'worker'"),
            ({"name": ""}, "name=''"),
            ({"name": "ü" * 76}, "150 bytes"),
            ({"name": "a\nb"}, "printable"),
            ({"name": 7}, "name=7"),
        ],
    )
    def test_bad_options_are_errors(self, options: dict[str, Any], problem: str) -> None:
        with pytest.raises(EffectError, match=re.escape(problem)):
            effect(**{"name": "bad", **options})(lambda: None)
        assert "bad" not in known_effects()

    def test_so_is_what_no_other_process_could_find(self) -> None:
        def inner() -> None: ...

        for target in (inner, lambda: None):
            with pytest.raises(EffectError, match="give it a name"):
                effect(target)
        with pytest.raises(EffectError, match="for functions and tasks, not for 'text'"):
            effect("text")

    def test_generators_are_errors(self) -> None:
        """Calling one runs nothing."""

        def generate() -> Any:
            yield 1

        async def agenerate() -> Any:
            yield 1

        for target in (generate, agenerate, partial(generate)):
            with pytest.raises(EffectError, match=r"generator.*would run nothing"):
                effect(name="generator")(target)
        assert "generator" not in known_effects()

    def test_two_effects_of_one_name_are_an_error(self) -> None:
        def one() -> None: ...
        def two() -> None: ...

        declared = effect(name="n")(one)
        with pytest.raises(EffectError, match=r"Two effects have the name 'n': .*one and .*two"):
            effect(name="n")(two)
        assert known_effects()["n"] is declared
        again = effect(name="n")(one)  # its module was loaded once more
        assert known_effects()["n"] is again

    @pytest.mark.parametrize("label", ["", 7, "a" * 151, "\x00"])
    def test_names_within_an_operation_are_text(self, label: Any) -> None:
        with pytest.raises(EffectError, match="a name is printable text"):
            send.named(label)

    def test_a_named_effect_is_the_same_effect(self) -> None:
        named = send.named("receipt")
        assert (named.name, named.label, send.label) == (send.name, "receipt", "")
        assert copy.deepcopy(later).name == later.name

    def test_the_package_has_its_public_names(self) -> None:
        assert all(getattr(public, name) is not None for name in public.__all__)
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = public.nothing


class TestTargets:
    def test_functions_async_ones_too(self) -> None:
        with transaction.atomic():
            after_commit(send, 1)
            after_commit(asend, 2)
        assert sent == [1, 2]

    def test_what_returns_a_coroutine_is_awaited(self) -> None:
        """Async code that does not look it: below a decorator, or the call of an object."""

        class Sender:
            async def __call__(self, what: Any) -> None:
                await asend.target(what)

        @wraps(asend.target)
        def decorated(what: Any) -> Any:
            return asend.target(what)

        for number, target in enumerate((Sender(), decorated)):
            with transaction.atomic():
                after_commit(effect(name=f"looks sync {number}")(target), number)
        assert sent == [0, 1]

    def test_arguments_that_a_task_of_celery_does_not_take(self) -> None:
        celery = pytest.importorskip("celery")
        app = celery.Celery("tests", broker="memory://", set_as_current=False)

        def bound(task: Any, order: int) -> None: ...

        shipped = effect(name="ship")(app.task(mail, name="ship"))
        billed = effect(name="bill")(app.task(bound, name="bill", bind=True))
        for sent_task, args in ((shipped, (1,)), (billed, (1, 2))):
            with (
                transaction.atomic(),
                pytest.raises(TypeError, match=rf"after_commit\({sent_task.name}\): .*arg"),
            ):
                after_commit(sent_task, *args)
        assert effects.effects() == []

    @pytest.mark.parametrize("is_shared", [False, True])
    def test_a_task_of_celery_is_sent_under_the_key(self, is_shared: bool) -> None:
        celery = pytest.importorskip("celery")
        before = celery.current_app._get_current_object()
        app = celery.Celery("tests", broker="memory://", set_as_current=is_shared)
        decorator = celery.shared_task if is_shared else app.task
        name = f"provision {is_shared}"
        calls = []

        @effect(name="provision")
        @decorator(name=name)
        def provision(order: int, to: str) -> None: ...

        def apply_async(*args: Any, **kwargs: Any) -> None:
            calls.append((args, kwargs))

        app.tasks[name].apply_async = apply_async
        with transaction.atomic():
            key = after_commit(provision, 1, to=KEY)
        before.set_current()
        assert calls == [(((1,), {"to": key}), {"task_id": key})]
        assert callable(provision.delay)

    def test_a_task_of_celery_needs_no_name(self) -> None:
        celery = pytest.importorskip("celery")
        declared = effect(celery.Celery("tests", set_as_current=False).task(send.target))
        assert declared.name == send.name

    def test_a_task_of_django_is_enqueued(self, settings: Any) -> None:
        tasks = pytest.importorskip("django.tasks" if DJANGO_6 else "django_tasks")
        path = "dummy.DummyBackend" if DJANGO_6 else "backends.dummy.DummyBackend"
        settings.TASKS = {"default": {"BACKEND": f"{tasks.__name__}.{path}"}}
        declared = effect(tasks.task(mail))
        assert declared.name == f"{__name__}.mail"
        with transaction.atomic():
            key = after_commit(declared, 1, to=KEY)
        (result,) = tasks.default_task_backend.results
        assert (list(result.args), result.kwargs) == ([1], {"to": key})

    def test_current_effect(self) -> None:
        found = []
        effects.before = lambda what: found.append(current_effect())
        with transaction.atomic():
            key = after_commit(send)
        assert [(each.key, each.name, each.tries) for each in found] == [(key, send.name, 1)]
        with pytest.raises(RuntimeError, match="No effect runs here"):
            current_effect()


class TestPlaceholders:
    def test_keys_are_filled_in_where_they_are_arguments(self) -> None:
        asked = []

        def key() -> str:
            asked.append(1)
            return "k"

        given = {"to": KEY, "note": "n"}
        assert filled((1, KEY, [2]), given, key) == ((1, "k", [2]), {"to": "k", "note": "n"})
        assert given["to"] is KEY
        assert filled((1,), {"a": 2}, key) == ((1,), {"a": 2})
        assert len(asked) == 1

    def test_what_compares_oddly_is_no_placeholder(self) -> None:
        class Equal:
            def __eq__(self, other: object) -> bool:
                return True

            __hash__ = None  # type: ignore[assignment]

        equal = Equal()
        assert filled((equal,), {}, lambda: "k")[0][0] is equal

    def test_copies_are_the_same(self) -> None:
        assert copy.deepcopy(KEY) is KEY
        assert pickle.loads(pickle.dumps(KEY)) is KEY
        assert repr(KEY) == "KEY"
        assert SimpleNamespace(key=KEY).key is KEY
