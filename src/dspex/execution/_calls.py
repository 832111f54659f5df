"""`Calls`: the tool calls of one run, from the guest's frame to the frame that goes back.

Theory of operation. `take` checks a CALL frame, on the host's side of the wall: what no guest program of ours sends raises
`ValueError`, which ends the run; what a program may get wrong (a name, an argument, one call too many) is answered with an
exception at once. All others wait in `waiting` until a driver performs them: `perform` in the caller's own thread, or
`aperform` as a task. What they come to lies in `settled`, a RETURN frame and an event each, and `ring` wakes the driver.

What a guest can make the host hold is bounded: so many calls at once, and their arguments, as they came, by `limits.value`
together; so many records, and arguments in them.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import struct
import threading
import time
from collections import Counter, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dspex._sandbox import wire
from dspex.errors import VariableError
from dspex.execution import _nesting
from dspex.execution._exchange import Message, framed
from dspex.execution._outbox import send_beside
from dspex.execution._tools import ToolCall, ToolReturn

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

    from dspex.execution._executor import CodeExecutor
    from dspex.execution._outbox import Outbox
    from dspex.execution._session import Session
    from dspex.execution._tools import Tool

_HEAD: Final = struct.Struct("<IH")  # the call's number, the length of its tool's name
_AT_ONCE: Final = 64
_PARTS: Final = 2 * _AT_ONCE + 4  # of frames for that many calls, and the request
_RECORDS: Final = 1000
_KEPT: Final = 1 << 20  # bytes of arguments, as they came, that are kept in the records of one run
_PATIENCE: Final = 20.0  # seconds that a guest may take to read what stands before a frame that is interjected
_NONE: Final = -1  # for a number: the call was another run's
_MESSAGE: Final = 10_000  # characters of an exception's message


class Call(NamedTuple):
    """One call under way."""

    number: int
    tool: Tool
    args: list[Any]
    kwargs: dict[str, Any]
    told: ToolCall
    size: int
    begun: float


class PendingCall(NamedTuple):
    """A call that a branch waits for: it was under way when the branch was taken."""

    number: int
    name: str
    arguments: dict[str, Any]


class Refused(PermissionError):  # noqa: N818  (in the program it is a PermissionError)
    """A call that `max_calls` or `approve` does not let pass."""


class Calls:
    """See the head of this file."""

    def __init__(self, tools: Mapping[str, Tool], executor: CodeExecutor, session: Session | None) -> None:
        self.waiting: deque[Call] = deque()
        self.settled: deque[tuple[int, Message, ToolReturn]] = deque()  # with the call's number
        self.records: list[ToolReturn] = []
        self.count = 0  # all calls, recorded or not
        self.ring: Callable[[], None] = _nothing
        self.outbox: Outbox | None = None  # the driver's
        self.listen: Callable[[int], None] | None = None  # takes in what the guest sends, in the driver's stead
        self.late: Callable[[], bool] = bool  # whether the run's time is over
        self._driver = 0  # the thread in which `perform` runs, and which need not be rung
        self.context = contextvars.copy_context()  # the caller's, in which its tools run
        self._tools = tools
        self._executor = executor
        self._session = session
        self._under_way: dict[int, Call] = {}
        self._unanswered: dict[int, Call] = {}  # these, and those whose return has not been handed over yet
        self._tasks: set[Future[Any] | asyncio.Task[Any]] = set()
        self._counts: Counter[str] = Counter()
        self._held = self._kept = 0
        self._one_by_one: asyncio.Lock | None = None
        self._over = False
        self._lock = threading.Lock()  # tasks of the workshop settle while the driver takes

    @property
    def over(self) -> bool:
        """Whether the run is over: what is left of its tools runs for nobody."""
        return self._over

    def hand_over(self) -> ToolReturn:
        """Push the return of the call that was settled first."""
        assert self.outbox is not None  # the driver's, who calls this
        with self._lock:
            number, message, event = self.settled.popleft()
            self._unanswered.pop(number, None)
            self.outbox.push(message)
        return event

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Have somebody listen to the guest while its driver, which is here, does not: it reads nothing before it was heard out."""
        if self._driver != threading.get_ident() or self.listen is None:
            yield
            return
        end = os.eventfd(0, os.EFD_CLOEXEC)
        thread = threading.Thread(target=self.listen, args=(end,), name="dspex-listener")
        thread.start()
        try:
            yield
        finally:
            os.eventfd_write(end, 1)
            thread.join()
            os.close(end)

    def interject(self, channel: socket.socket, frame: bytes, descriptors: list[int]) -> tuple[PendingCall, ...]:
        """Send a frame of somebody else's, and tell which calls had no return before it, in the order in which they came.

        Raises `OSError` when the guest does not take it.
        """
        pending: list[PendingCall] = []

        def send() -> bool:
            with self._lock:  # no return is handed over meanwhile
                if outbox and not self._over:
                    return False
                try:
                    send_beside(channel, frame, descriptors)  # all or nothing: it is short
                except BlockingIOError:
                    return False
                pending.extend(PendingCall(c.number, c.told.name, c.told.arguments) for c in self._unanswered.values())
                return True

        outbox = self.outbox
        assert outbox is not None  # a driver performs the call that this comes out of
        outbox.interject(send, _PATIENCE)
        return tuple(pending)

    def again(self, session: Session) -> Calls:
        """For a branch of this run: the same tools, no call yet."""
        return Calls(self._tools, self._executor, session)

    def answer(self, call: PendingCall, value: object) -> Message:
        """The return of a call that was made before the branch. Raises `VariableError` for what cannot cross."""
        failed = isinstance(value, BaseException)
        content = _told(value) if isinstance(value, BaseException) else value
        return self._framed(*self._executor.language.encode_return(call.number, failed, content))

    def afterwards(self, answers: list[Message]) -> None:
        """Send these behind the first, which begins the run."""
        event = ToolReturn("", {}, 0, None, 0.0)
        self.settled.extend((_NONE, message, event) for message in answers)

    # --- What the guest sends -----------------------------------------------------------------------------------------

    def take(self, frame: wire.Frame) -> None:
        """A CALL frame. Raises `ValueError` for what no guest program of ours sends."""
        number, name, args, kwargs = self._read(frame)
        self.count += 1
        size = len(frame.body) + len(frame.buffers)
        tool = self._tools.get(name)
        if tool is None:
            arguments = {"args": args, **kwargs}
            told = ToolCall(name[:200], arguments, 1)
            self._refuse(number, told, size, NameError(f"the run offers no tool {told.name!r}"))
            return
        self._counts[name] += 1
        count = self._counts[name]
        try:
            told = ToolCall(name, tool.bound(args, kwargs), count)
        except TypeError as error:
            told = ToolCall(name, {"args": args, **kwargs}, count)
            self._refuse(number, told, size, TypeError(f"{name}(): {error}"))
            return
        limit = self._executor.limits.value
        if tool.max_calls is not None and count > tool.max_calls:
            text = f"{name} may be called {tool.max_calls} times in one run, and no more"
            self._refuse(number, told, size, Refused(text))
        elif self._held + size > limit:
            text = f"the arguments of the calls under way take more than {limit:,} bytes together"
            self._refuse(number, told, size, MemoryError(text))
        else:
            call = Call(number, tool, args, kwargs, told, size, time.perf_counter())
            with self._lock:
                self._held += size
                self._under_way[number] = self._unanswered[number] = call
            self.waiting.append(call)

    def _read(self, frame: wire.Frame) -> tuple[int, str, list[Any], dict[str, Any]]:
        if len(frame.body) < _HEAD.size:
            raise ValueError("a call is too short")
        number, length = _HEAD.unpack_from(frame.body)
        end = _HEAD.size + length
        name = str(frame.body[_HEAD.size : end], "utf-8")
        if number in self._under_way:
            raise ValueError(f"two calls under way have the number {number}")
        if len(self._under_way) + len(self.settled) >= _AT_ONCE or (
            self.outbox is not None and len(self.outbox) > _PARTS
        ):
            raise ValueError(f"more than {_AT_ONCE} calls at once")
        limit = self._executor.limits.value
        tagged = bool(frame.flags & wire.TAGGED)
        value = self._executor.language.decode(frame.body[end:], frame.buffers, tagged, limit)
        match value:
            case [list() as args, dict() as kwargs] if all(type(key) is str for key in kwargs):
                return number, name, args, kwargs
        raise ValueError("a call's arguments are malformed")

    # --- Performing ---------------------------------------------------------------------------------------------------

    def is_apart(self, call: Call) -> bool:
        """True for calls that may overlap, and so do not run in the caller's own thread."""
        return call.tool.is_async or call.tool.parallel

    def perform(self, call: Call) -> None:
        """In the caller's thread: ask for approval, call, settle."""
        token = None
        self._driver = threading.get_ident()
        try:
            token = _nesting.WAITING.set(_nesting.within(self._executor, self._session, self))
            approve = call.tool.approve
            if approve is not None:
                self._check(call, self._finished(approve(call.told)))
            value = self._finished(call.tool.function(*call.args, **call.kwargs))
        except Exception as error:
            self._settle(call, error, None)
        else:
            self._settle(call, None, value)
        finally:
            if token is not None:
                _nesting.WAITING.reset(token)

    def _finished(self, value: Any) -> Any:
        return self._executor.workshop().wait(value, contextvars.copy_context()) if _is_awaitable(value) else value

    def begin(self, call: Call) -> None:
        """For drivers that block: perform it as a task of the executor's workshop."""
        self._keep(self._executor.workshop().begin(self.aperform(call), self.context))

    def abegin(self, call: Call) -> None:
        """For drivers in an event loop: perform it as a task there."""
        self._keep(asyncio.get_running_loop().create_task(self.aperform(call)))

    def _keep(self, task: Future[Any] | asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aperform(self, call: Call) -> None:
        """As a task: the same, sync functions in a thread, one by one unless their tool says that they may overlap."""
        if self._one_by_one is None:
            self._one_by_one = asyncio.Lock()
        try:
            _nesting.WAITING.set(_nesting.within(self._executor, self._session, self))
            if self.is_apart(call):
                value = await self._awaited(call)
            else:
                async with self._one_by_one:
                    value = await self._awaited(call)
        except Exception as error:
            self._settle(call, error, None)
        except asyncio.CancelledError as error:
            if self._over:
                raise
            self._settle(call, error, None)  # by the tool itself
        else:
            self._settle(call, None, value)

    async def _awaited(self, call: Call) -> Any:
        approve, function = call.tool.approve, call.tool.function
        if approve is not None:
            if inspect.iscoroutinefunction(approve):
                self._check(call, await approve(call.told))
            else:
                self._check(call, await _patiently(await asyncio.to_thread(approve, call.told)))
        if call.tool.is_async:
            return await function(*call.args, **call.kwargs)
        return await _patiently(await asyncio.to_thread(function, *call.args, **call.kwargs))

    def _check(self, call: Call, verdict: object) -> None:
        """Raise `Refused` unless a call was approved while there was somebody to do it for."""
        if verdict is not True:
            reason = verdict if isinstance(verdict, str) and verdict else "it was not approved"
            raise Refused(f"{call.tool.name}: {reason}")
        if self.late():
            raise Refused(f"{call.tool.name}: the run's time was over before it was approved")

    # --- What comes of it ---------------------------------------------------------------------------------------------

    def _settle(self, call: Call, error: BaseException | None, value: Any) -> None:
        with self._lock:
            if self._under_way.pop(call.number, None) is None:
                return  # the run is over
            self._held -= call.size
        self._return(call.number, call.told, call.size, time.perf_counter() - call.begun, (error, value))

    def _refuse(self, number: int, told: ToolCall, size: int, error: Exception) -> None:
        self._return(number, told, size, 0.0, (error, None))

    def _return(
        self, number: int, told: ToolCall, size: int, seconds: float, outcome: tuple[BaseException | None, Any]
    ) -> None:
        error, value = outcome
        encode = self._executor.language.encode_return
        try:
            body, buffers = encode(number, error is not None, value if error is None else _told(error))
        except VariableError as fault:
            if error is None:
                error = TypeError(f"what {told.name} returned cannot cross: {fault}")
            name, text, _ = _told(error)
            body, buffers = encode(number, True, (name, text, (text,) if _is_builtin(error) else None))
        message = self._framed(body, buffers)
        with self._lock:
            if self._over:
                message.close()
                return
            self.settled.append((number, message, self._record(told, size, error, seconds)))
            if self._driver != threading.get_ident():
                self.ring()  # under the lock: after `close` nobody is there to be woken

    def _framed(self, body: bytes, buffers: list[memoryview]) -> Message:
        return framed(wire.RETURN, body, buffers, files=self._executor.language.runtime.files)

    def _record(self, told: ToolCall, size: int, error: BaseException | None, seconds: float) -> ToolReturn:
        text = None if error is None else f"{_name(error)}: {_message(error)}"
        event = ToolReturn(told.name, told.arguments, told.number, text, seconds)
        if len(self.records) < _RECORDS:
            fits = self._kept + size <= _KEPT
            self._kept += size if fits else 0
            self.records.append(event if fits else event._replace(arguments={}))
        return event

    def close(self) -> None:
        """The run is over: cancel what is still awaited, record what was not finished, let go of what was not sent."""
        with self._lock:
            self._over = True
            for call in self._under_way.values():
                seconds = time.perf_counter() - call.begun
                self._record(call.told, call.size, TimeoutError("the run was over before this call was"), seconds)
            self._under_way.clear()
            self._unanswered.clear()
            self.waiting.clear()
            while self.settled:
                self.settled.popleft()[1].close()
        for task in list(self._tasks):
            task.cancel()


def _nothing() -> None:
    """Nobody has to be woken."""


def _is_awaitable(value: object) -> bool:
    return hasattr(type(value), "__await__")


async def _patiently(value: Any) -> Any:
    return await value if _is_awaitable(value) else value


def _told(error: BaseException) -> tuple[str, str, tuple[Any, ...] | None]:
    """Class, message and arguments of an exception, as the guest makes it again from them; arguments for builtin ones only."""
    args: tuple[Any, ...] | None = error.args if _is_builtin(error) else None
    if args is not None and isinstance(error, OSError) and error.filename is not None:
        args = (*error.args[:2], str(error.filename))
    return _name(error), _message(error), args


def _is_builtin(error: BaseException) -> bool:
    return type(error).__module__ == "builtins" or isinstance(error, Refused)


def _name(error: BaseException) -> str:
    return "PermissionError" if isinstance(error, Refused) else type(error).__name__


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_MESSAGE]
    except Exception as failure:  # of the tool's own class: it may raise anything
        return f"its message could not be had: {type(failure).__name__}"
