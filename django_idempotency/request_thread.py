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
    context = copy_context()
    call: Coroutine[Any, Any, Result] = sync_to_async(function, thread_sensitive=True)(
        *args, **kwargs
    )
    work = asyncio.get_running_loop().create_task(call, context=context)
    cancelled = await _end_of(work)
    _adopt(context)
    if cancelled is not None:
        raise cancelled from (None if work.cancelled() else work.exception())
    return work.result()


async def _end_of(work: asyncio.Task[Any]) -> asyncio.CancelledError | None:
    cancelled = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


def _adopt(context: Context) -> None:
    """Set here what the function has set there, as a plain call would have."""
    for variable, value in context.items():
        if variable.get(None) is not value:
            variable.set(value)
