"""From the event loop to the thread that a request's database work belongs to, and back.

Django gives each request one thread for its thread-sensitive work, the ORM's async methods
included (https://docs.djangoproject.com/en/stable/topics/async/#async-adapter-functions). So what
the guard does there happens on the connection that the view will use, and in its order.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


async def on_request_thread(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Run a function to its end on the request's thread, as if it were called here.

    The thread goes on when whoever awaits it is cancelled. A claim or a commit must not be left
    to itself, so its end is awaited all the same, and only then the cancellation goes on.

    :raises asyncio.CancelledError: if cancelled meanwhile; the function has ended
    """
    call: Coroutine[Any, Any, Result] = sync_to_async(function, thread_sensitive=True)(
        *args, **kwargs
    )
    work, cancelled = await to_its_end(call, lambda: False)
    if cancelled is not None:
        raise cancelled from (None if work.cancelled() else work.exception())
    return work.result()


async def to_its_end(
    call: Coroutine[Any, Any, Result], may_be_cancelled: Callable[[], bool]
) -> tuple[asyncio.Task[Result], asyncio.CancelledError | None]:
    """Await a call in a task of its own, so that a cancellation need not reach it.

    A cancellation ends the innermost ``await``, and a thread that is awaited there goes on
    unseen: its result is lost. So it is held back for as long as that would be so.

    :param may_be_cancelled: asked at each cancellation; if so, the call gets it, as without us
    :return: the task, which is done, and a cancellation that was held back: raise it at last
    """
    context = copy_context()
    work = asyncio.get_running_loop().create_task(call, context=context)
    held_back = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            if may_be_cancelled():
                work.cancel(*error.args)
            else:
                held_back = error
    _adopt(context)
    return work, held_back


def _adopt(context: Context) -> None:
    """Set here what the function has set there, as a plain call would have."""
    for variable, value in context.items():
        if variable.get(None) is not value:
            variable.set(value)
