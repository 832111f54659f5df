"""`Workshop`: one thread with an event loop, for what must be awaited on behalf of callers that block."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final

from dspex.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from concurrent.futures import Future
    from contextvars import Context

_PATIENCE: Final = 1.0  # seconds for cancelled tasks to be over


class Workshop:
    """See the head of this file. One for each executor, so that a client of an async tool's meets one loop only."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="dspex-tools", daemon=True)
        self._thread.start()

    def begin(self, coroutine: Coroutine[Any, Any, Any], context: Context) -> Future[Any]:
        """Start it as a task in a copy of `context`; cancelling the future cancels the task.

        Raises `UsageError` in the workshop's own thread: an async tool that blocks would wait for itself.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise UsageError("an async tool blocks in a run with tools of its own; await aexecute instead")
        return context.copy().run(asyncio.run_coroutine_threadsafe, coroutine, self._loop)

    def wait(self, awaitable: Awaitable[Any], context: Context) -> Any:
        """Block until it is done; what it returns, or raises."""
        future = self.begin(_awaited(awaitable), context)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what is under way, and end the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=_PATIENCE))
        finally:
            self._loop.close()


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
