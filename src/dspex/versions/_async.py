"""Asynchronous twins of methods that wait for a store."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    S = TypeVar("S")
    P = ParamSpec("P")
    R = TypeVar("R")


def asynchronous(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """The method as a coroutine function: it runs in a thread, and the event loop goes on.

    A call that is cancelled goes on in its thread: a write that was begun is made or not, never in part.
    """

    async def twin(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(method, self, *args, **kwargs)

    functools.update_wrapper(twin, method)
    twin.__name__ = f"a{method.__name__}"
    twin.__doc__ = f"`{method.__name__}`, without holding up the event loop."
    return twin
