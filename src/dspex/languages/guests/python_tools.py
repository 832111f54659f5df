"""The host's functions, as the program sees them: functions that ask the host and give its answer.

Theory of operation. A call is a CALL frame with a number of its own; its RETURN carries the same number, and returns may
come in any order. Whoever waits for one reads the channel for all: a blocked thread, or the event loop as one of its readers;
what comes for somebody else is handed over. Other threads that wait look again every few milliseconds. Where the main thread
waits, none but it reads: the host may ask for a copy, and only the main thread can be copied.

In ordinary code a tool blocks and gives its value. Where an event loop runs it gives a coroutine, so `await tool(...)` and
`asyncio.gather(tool(1), tool(2))` work with every tool; `tool.wait(...)` blocks there too.

A copy of this process waits for the calls that were under way. The host answers those that it had read when it asked for the
copy; the others it has heard of from the copy's parent only, so the copy makes them again on its own channel (`repeat`).
"""

from __future__ import annotations

import _thread
import builtins
import inspect
import json
import select
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

from . import python_interrupts as interrupts
from . import python_values

if TYPE_CHECKING:
    import asyncio

_HEADER: Final = struct.Struct("<2sBBIQ")
_CALL_NUMBER: Final = struct.Struct("<I")
_CALL_NAME: Final = struct.Struct("<H")  # the length of its tool's name, which follows
_CALL, _TAGGED = 18, 1
_MOST: Final = 64  # calls under way at once; the host would take more for an attack
_SCALARS: Final = frozenset((type(None), bool, int, float, str))
_INTEGER: Final = 1 << 53
_SHORT: Final = 1000  # less than any limit may be
_LOOK: Final = 0.005  # seconds after which a thread that another one reads for looks again

_to_json: Final = json.JSONEncoder(check_circular=False, allow_nan=False, separators=(",", ":")).encode


class ToolError(RuntimeError):
    """A tool raised an exception that has no like among the builtin ones; `type` is its class's name."""

    __module__ = "builtins"
    type = ""


class Line(Protocol):
    """What tools need of the guest: its channel, and to take in one frame of the host's."""

    channel: Any
    sending: Any  # the lock of whoever writes to it

    def take_in(self) -> None:
        """Read one frame and act on it."""
        ...


class _Text(str):
    """Text that stands for itself: an annotation, or a default that only its repr is known of."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class _Blocked:
    """A call for whose return a thread waits."""

    __slots__ = ("_event", "_outcome", "settled")

    def __init__(self) -> None:
        self.settled = False
        self._outcome: tuple[bool, Any] = (False, None)
        self._event = _thread.allocate_lock()
        self._event.acquire()

    def settle(self, failed: bool, content: Any) -> None:
        """The return has come."""
        self._outcome = failed, content
        self.settled = True
        self._event.release()

    def wait(self, seconds: float) -> None:
        """Until it is settled, at most so long."""
        if self._event.acquire(timeout=seconds):
            self._event.release()

    def result(self) -> Any:
        """What the tool returned, or raised."""
        failed, content = self._outcome
        if failed:
            raise content
        return content


class _Awaited:
    """A call for whose return a task waits."""

    __slots__ = ("_future", "_home")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self._future = future
        self._home = _thread.get_ident()

    def settle(self, failed: bool, content: Any) -> None:
        """The return has come, or never will."""
        if _thread.get_ident() == self._home:
            self._set(failed, content)
            return
        try:
            self._future.get_loop().call_soon_threadsafe(self._set, failed, content)
        except RuntimeError:
            pass  # its loop was closed, so nobody waits

    def _set(self, failed: bool, content: Any) -> None:
        if self._future.done():
            return
        if failed:
            self._future.set_exception(content)
        else:
            self._future.set_result(content)


class Tools:
    """The tools that a run offers, bound to names of the program, and the calls under way."""

    def __init__(self, line: Line, limit: int) -> None:
        self._line = line
        self._limit = limit
        self._functions: dict[str, Any] = {}
        self._under_way: dict[int, _Blocked | _Awaited] = {}
        self._made: dict[int, tuple[str, tuple[Any, ...], dict[str, Any]]] = {}  # what these calls were
        self._last = 0
        self._open = False
        self._home_waits = False  # the main thread waits for a return
        self._sending, self._reading = line.sending, _thread.allocate_lock()
        self._loops: list[asyncio.AbstractEventLoop] = []  # that read the channel
        self._queue: list[asyncio.Future[None]] = []  # tasks that wait until fewer calls are under way
        self._poll = select.poll()
        self._poll.register(line.channel.fileno(), select.POLLIN)

    # --- What a run offers ------------------------------------------------------------------------------------------

    def offer(self, specs: Any, names: dict[str, Any]) -> None:
        """Bind these tools, and take back those of earlier runs that are not among them any more."""
        for name, function in self._functions.items():
            if names.get(name) is function:
                del names[name]
        self._functions = {spec[0]: self._function(*spec) for spec in specs}
        names.update(self._functions)
        builtins.ToolError = ToolError  # type: ignore[attr-defined]  # so that a program can name what it catches

    def bound(self, names: dict[str, Any]) -> list[str]:
        """The names under which tools are there."""
        return [name for name, function in self._functions.items() if names.get(name) is function]

    def begin(self) -> None:
        """A program begins."""
        self._open = True

    def end(self) -> None:
        """The program is over, and so are its calls; no frame of theirs is on its way when this returns."""
        with self._sending:
            self._open = False
        self._leave_loops()
        over = RuntimeError("the run that made this call is over")
        for slot in self._under_way.values():
            slot.settle(True, over)
        self._under_way.clear()
        self._made.clear()

    def repeat(self, known: frozenset[int]) -> None:
        """In a copy that goes on: make the calls again that the host does not know of, under their numbers."""
        for number in [number for number in self._under_way if number not in known]:
            try:
                frame = self._frame(number, *self._made[number])
            except (TypeError, ValueError) as error:  # what it was given has been changed since
                self.settle(number, True, error)
            else:
                with self._sending:
                    self._line.channel.sendall(frame)

    def _function(self, name: str, description: str | None, parameters: Any, returns: str | None) -> Any:
        def wait(*args: Any, **kwargs: Any) -> Any:
            return self._call(name, args, kwargs)

        def tool(*args: Any, **kwargs: Any) -> Any:
            if interrupts.running_loop() is None:
                return self._call(name, args, kwargs)
            call = self._acall(name, args, kwargs)
            call.__qualname__ = name  # type: ignore[attr-defined]  # for the warning that it was never awaited
            return call

        for function in (tool, wait):
            function.__name__ = function.__qualname__ = name
            function.__module__ = "__main__"
            function.__doc__ = description
            if parameters is not None:
                function.__signature__ = _signature(parameters, returns)  # type: ignore[attr-defined]
        tool.wait = wait  # type: ignore[attr-defined]
        return tool

    # --- Calls --------------------------------------------------------------------------------------------------------

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        while len(self._under_way) >= _MOST:
            self._read(_LOOK)
        slot = _Blocked()
        home = interrupts.is_home()
        if home:
            self._home_waits = True
        try:
            self._send(name, args, kwargs, slot)
            while not slot.settled:
                if not self._read(None if home else _LOOK):
                    slot.wait(_LOOK)
        finally:
            if home:
                self._home_waits = False
        return slot.result()

    async def _acall(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        loop = interrupts.running_loop()
        while len(self._under_way) >= _MOST:
            turn = loop.create_future()
            self._queue.append(turn)
            await turn
        if loop not in self._loops:
            self._loops.append(loop)
            loop.add_reader(self._line.channel.fileno(), self._readable)
        future = loop.create_future()
        self._send(name, args, kwargs, _Awaited(future))
        return await future

    def _send(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], slot: _Blocked | _Awaited) -> None:
        before, after = self._encoded(name, args, kwargs)
        _flush()
        with interrupts.sheltered, self._sending:
            if not self._open:
                raise RuntimeError(f"{name}() was called when its program was over")
            self._last += 1
            self._under_way[self._last] = slot
            self._made[self._last] = name, args, kwargs
            self._line.channel.sendall(b"".join((before, _CALL_NUMBER.pack(self._last & 0xFFFFFFFF), *after)))

    def _frame(self, number: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        before, after = self._encoded(name, args, kwargs)
        return b"".join((before, _CALL_NUMBER.pack(number & 0xFFFFFFFF), *after))

    def _encoded(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, list[Any]]:
        """A call's frame, before and after its number. Raises `TypeError`, `ValueError`."""
        try:
            text, buffers, tagged = _encoded(args, kwargs, self._limit)
        except python_values.NotCarried as reason:
            raise TypeError(f"{name}() was given what cannot be carried to the host: {reason}") from None
        except python_values.TooLarge:
            raise ValueError(f"{name}() was given arguments of more than {self._limit:,} bytes") from None
        called = name.encode()
        size = sum(memoryview(buffer).nbytes for buffer in buffers)
        length = _CALL_NUMBER.size + _CALL_NAME.size + len(called) + len(text)
        header = _HEADER.pack(b"dx", _CALL, _TAGGED if tagged else 0, length, size)
        return header, [_CALL_NAME.pack(len(called)), called, text.encode(), *buffers]

    # --- Returns ------------------------------------------------------------------------------------------------------

    def _read(self, seconds: float | None) -> bool:
        """Wait for one frame of the host's, and take it in; False at once when another thread does."""
        if self._is_anothers() or not self._reading.acquire(blocking=False):
            return False
        try:
            if self._poll.poll(seconds and seconds * 1000):  # here, and only here, it can be interrupted
                if self._is_anothers():
                    return False
                with interrupts.sheltered:
                    self._line.take_in()
            return True
        finally:
            self._reading.release()

    def _is_anothers(self) -> bool:
        return self._home_waits and not interrupts.is_home()

    def _readable(self) -> None:
        """Called by an event loop when something has come."""
        try:
            self._read(0)
        except interrupts.LIMITS:
            pass  # the loop was stopped as well, and whoever runs it knows

    def settle(self, number: int, failed: bool, content: Any) -> None:
        """A RETURN has come; one that nobody waits for any more is let go."""
        slot = self._under_way.pop(number, None)
        self._made.pop(number, None)
        if slot is not None:
            slot.settle(failed, _exception(content) if failed else content)
        if not self._under_way:
            self._leave_loops()
        while self._queue and len(self._under_way) < _MOST:
            _Awaited.settle(_Awaited(self._queue.pop(0)), False, None)

    def _leave_loops(self) -> None:
        for loop in self._loops:
            if not loop.is_closed():
                loop.remove_reader(self._line.channel.fileno())
        self._loops.clear()


def _flush() -> None:
    """What was printed before a call shall be told before it."""
    try:
        sys.stdout.flush()
    except Exception:
        pass  # a program may have put anything in its place


def _encoded(args: tuple[Any, ...], kwargs: dict[str, Any], limit: int) -> tuple[str, list[Any], bool]:
    """Arguments as `python_values` says [list of args, kwargs]; short for the few plain ones that most calls have."""
    values = (*args, *kwargs.values())
    types = set(map(type, values))
    if types <= _SCALARS and len(values) < 100:
        strings = [*kwargs, *(value for value in values if type(value) is str)] if kwargs or str in types else []
        small = all(-_INTEGER < value < _INTEGER for value in values if type(value) is int) if int in types else True
        if small and all(map(str.isascii, strings)) and sum(map(len, strings)) < _SHORT and "~" not in "".join(kwargs):
            try:
                return _to_json((args, kwargs)), [], False
            except ValueError:
                pass  # a NaN
    return python_values.encode([list(args), kwargs], limit)


def _exception(content: Any) -> BaseException:
    """The exception that a tool raised: of its own class where that is builtin, else a `ToolError`."""
    if isinstance(content, BaseException):
        return content
    name, message, args = content
    kind = vars(builtins).get(name)
    if args is not None and isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(*args)
        except TypeError:
            pass  # its arguments did not cross, and it takes others than a message
    error = ToolError(f"{name}: {message}" if message else name)
    error.type = name
    return error


def _signature(parameters: Any, returns: str | None) -> Any:
    nothing = inspect.Parameter.empty
    made = []
    for name, kind, annotation, default in parameters:
        value = nothing if default is None else default[1] if default[0] else _Text(default[1])
        shown = nothing if annotation is None else _Text(annotation)
        made.append(inspect.Parameter(name, inspect._ParameterKind(kind), default=value, annotation=shown))
    return inspect.Signature(made, return_annotation=nothing if returns is None else _Text(returns))
