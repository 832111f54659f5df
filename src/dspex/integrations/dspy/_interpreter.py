"""`Interpreter`: DSPy's `PythonInterpreter`, with a session of dspex's in place of Deno and Pyodide."""

from __future__ import annotations

import asyncio
import copy
import inspect
import threading
import weakref
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, overload

from dspy.primitives.code_interpreter import CodeInterpreterError, FinalOutput
from dspy.utils.callback import with_callbacks

from dspex.errors import ClosedError, DspexError
from dspex.integrations.dspy import _errors, _guest, _shared, _strict, _tools, _values
from dspex.integrations.dspy._factory import Factory, instructions
from dspex.integrations.dspy._inputs import Inputs
from dspex.integrations.dspy._paths import Paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from os import PathLike

    from dspex.execution._checkpoint import Checkpoint
    from dspex.execution._executor import CodeExecutor
    from dspex.execution._result import ExecutionResult
    from dspex.execution._session import Session
    from dspex.execution._tools import Tool

_LIVED: Final = frozenset(("syntax", "runtime", "policy", "value_limit"))  # failures that never end a session
_Wanted = tuple[dict[str, "Callable[..., Any]"], list[dict[str, Any]]]
_SHUT: Final = "the interpreter was shut down while it was in use"
_WITHIN: ContextVar[tuple[int, ...]] = ContextVar("dspex_dspy_within", default=())  # interpreters that wait for a tool


class Interpreter:
    """Runs the code that DSPy's modules write, in a sandbox of dspex's; takes the place of `dspy.PythonInterpreter`.

    The keywords are DSPy's. `deno_command` is ignored. Files of `enable_read_paths` and `enable_write_paths` lie under
    their own names in /sandbox, where the program begins; the latter are written back after each call, unless `sync_files`
    is False. `strict_dspy` gives DSPy's exact values and texts with what they lose. `executor` is whose sessions are used; by
    default all interpreters of a process share one, with `enable_network_access` one for each set of hosts. `language`
    "javascript", "typescript" or "elixir" has models write that; `execution_instructions` tell them so. With
    `undo_failed` a program that fails leaves no trace: names and files are again what they were before it.

    May be used from any thread: calls run one after the other. `tools` and `output_fields` may be changed at any time; that
    holds from the next `execute` on. `last` is the `ExecutionResult` behind the latest one.
    """

    execution_instructions = instructions()

    def __new__(cls, *args: Any, language: str = "python", **keywords: Any) -> Interpreter:
        """An interpreter for `language`; those for other languages than Python are of a class of their own."""
        if cls is Interpreter and language != "python":
            from dspex.integrations.dspy._languages import Polyglot

            return super().__new__(Polyglot)
        return super().__new__(cls)

    def __init__(  # noqa: PLR0917  (the order is DSPy's)
        self,
        deno_command: Sequence[str] | None = None,
        enable_read_paths: Sequence[PathLike[str] | str] | None = None,
        enable_write_paths: Sequence[PathLike[str] | str] | None = None,
        enable_env_vars: Sequence[str] | None = None,
        enable_network_access: Sequence[str] | None = None,
        sync_files: bool = True,
        tools: Mapping[str, Callable[..., Any]] | None = None,
        output_fields: list[dict[str, Any]] | None = None,
        callbacks: Sequence[Any] | None = None,
        *,
        executor: CodeExecutor | None = None,
        language: str = "python",
        strict_dspy: bool = False,
        undo_failed: bool = False,
    ) -> None:
        if isinstance(deno_command, dict):
            raise TypeError("deno_command must be a list of strings, not a dict")
        self.deno_command, self.deno_process = list(deno_command or ()), None  # which callers of DSPy's look at
        self._paths = Paths(enable_read_paths, enable_write_paths, enable_env_vars, sync_files)
        self._hosts = tuple(enable_network_access or ())
        if executor is not None and self._hosts:
            raise CodeInterpreterError(
                "enable_network_access: the policy of the executor that is given says which hosts"
            )
        self._executor = executor
        self.language = language
        self.strict_dspy = strict_dspy
        self.undo_failed = undo_failed
        self.tools: dict[str, Callable[..., Any]] = dict(tools or {})
        self.output_fields = output_fields
        self.callbacks = list(callbacks or [])
        self.last: ExecutionResult | None = None
        self._session: Session | None = None
        self._ended = False
        self._lock = threading.RLock()  # `execute` starts what was not started
        self._offered: dict[str, Tool] = {}  # the tools as they cross, by the names under which they do
        self._prepared: _Wanted | None = None  # the tools and fields that the guest was prepared for
        self._anew = False
        self._submitted: dict[str, Any] | None = None  # what SUBMIT carried over in this call
        self._inputs = Inputs()

    # --- DSPy's protocol ------------------------------------------------------------------------------------------------

    @with_callbacks
    def start(self) -> None:
        """Open the session and prepare its guest. Does nothing when that was done. Raises `CodeInterpreterError`."""
        with self._lock:
            self._check_active()
            if self._session is None:
                self._open()

    @with_callbacks
    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """Run `code` with `variables` as names of its own.

        Returns `FinalOutput` when it called SUBMIT, else the value of its last expression, or what it printed where that is
        None. Raises `SyntaxError` and DSPy's `CodeExecutionError` for what the code may mend, `CodeInterpreterError` for
        anything else; after one that ended the session each call raises it.
        """
        self._check_outside()
        self._check_active()
        given = dict(variables or {})
        _values.check_names(given, self.tools)
        with self._turn():
            self._check_active()
            if self._session is None:
                self.start()
            try:
                self._prepare()
                small = self._send(given)
                with self._undoing():
                    outcome = self._outcome(self._run(code, small))
                if self.undo_failed and self.last is not None:
                    self._paths.write_back(self.last.files)
                return outcome
            except DspexError as error:
                raise self._broken(error) from error

    @with_callbacks
    def shutdown(self) -> None:
        """End the session and all that runs in it. May be called again."""
        self._ended = True
        self._let_go()
        self._inputs.forget()

    @with_callbacks
    def invoke_tool(self, tool_name: str, kwargs: dict[str, Any]) -> Any:
        """Call one of `tools`, as a program does. Raises `CodeInterpreterError` where there is none of that name."""
        if tool_name not in self.tools:
            raise CodeInterpreterError(f"Unknown tool: {tool_name}")
        value = self.tools[tool_name](*getattr(kwargs, "positional", ()), **kwargs)
        return _tools.finished(value) if inspect.iscoroutine(value) else value

    async def aexecute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """`execute` for event loops: in a thread, so that the loop goes on."""
        return await asyncio.to_thread(self.execute, code, variables)

    def __call__(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        return self.execute(code, variables)

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    @property
    def _tools_registered(self) -> bool:
        """DSPy's modules set this to False when they have changed tools or fields, and so may have reset the names."""
        return self._prepared is not None

    @_tools_registered.setter
    def _tools_registered(self, registered: bool) -> None:
        self._anew = not registered

    @classmethod
    def factory(cls, **keywords: Any) -> Factory:
        """What makes interpreters with these keywords, for `interpreter_factory=`, and tells models what these mean."""
        return Factory(cls, keywords)

    # --- Branching ------------------------------------------------------------------------------------------------------

    @overload
    def fork(self) -> Interpreter: ...

    @overload
    def fork(self, n: int) -> list[Interpreter]: ...

    def fork(self, n: int | None = None) -> Interpreter | list[Interpreter]:
        """Another interpreter with the same names and files, copy on write; with `n`, a list of so many.

        Each has its own `tools` from here, and does not write files back to the host. Raises `CodeInterpreterError` where
        sessions cannot be branched.
        """
        with self._still() as session:
            branches = [self._like(branch) for branch in session.fork(1 if n is None else n)]
        return branches if n is not None else branches[0]

    def checkpoint(self, name: str = "checkpoint") -> Checkpoint:
        """What this interpreter's session is now, to come back to any number of times. Close it when it is done with."""
        with self._still() as session:
            return session.checkpoint(name)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Be again what the session was at `checkpoint`. Large inputs cross again."""
        with self._still() as session:
            session.restore(checkpoint)
            self._inputs.forget()
            self._anew = True

    def become(self, branch: Interpreter) -> None:
        """Go on where `branch` stands, which is shut down; files that may be written get what it left in them."""
        if branch is self:
            return
        with ExitStack() as turns:  # taken in one order, for the other may be about to become this one
            sessions = {one: turns.enter_context(one._still()) for one in sorted((self, branch), key=id)}
            session = sessions[self]
            session.become(sessions[branch])
            self._inputs = branch._inputs.copy()  # the branch is about to forget its own
            self._anew = True
            self._paths.write_back(session.files)
        branch.shutdown()

    @contextmanager
    def _still(self) -> Iterator[Session]:
        """The session, started, while nothing runs in it."""
        self._check_outside()
        with self._turn():
            if self._session is None or self._ended:
                self.start()
            if (session := self._session) is None:
                raise self._broken(ClosedError(_SHUT))
            try:
                yield session
            except DspexError as error:
                if isinstance(error, ClosedError) and not self._is_lost():  # what was closed is the checkpoint
                    raise CodeInterpreterError(str(error)) from error
                raise self._broken(error) from error

    def _like(self, session: Session) -> Interpreter:
        branch = copy.copy(self)
        branch._session, branch._lock = session, threading.RLock()
        branch.tools, branch.callbacks = dict(self.tools), list(self.callbacks)
        branch._inputs, branch._paths = self._inputs.copy(), self._paths.apart()
        branch._anew, branch.last = True, None  # its tools are bound to itself
        return branch

    @contextmanager
    def _undoing(self) -> Iterator[None]:
        """Let the session be what it was when what is done here fails, also when that has ended it."""
        if not self.undo_failed:
            yield
            return
        if (session := self._session) is None:
            raise ClosedError(_SHUT)
        with session.checkpoint() as before:
            try:
                yield
            except Exception:
                again = before.session()
                self._let_go()
                self._session = again
                self._check_kept()
                raise

    # --- One call -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._lock:
            before = _WITHIN.set((*_WITHIN.get(), id(self)))
            try:
                yield
            finally:
                _WITHIN.reset(before)

    def _open(self) -> None:
        """Open a session, and have its first guest prepared in one call."""
        wanted, tools, binding = self._wanted(), self._crossing(), self._binding()
        try:
            session = self._session = (self._executor or _shared.executor(self._hosts)).session()
            self._check_kept()
            session.execute(
                _guest.PRELUDE + binding,
                environment=self._paths.environment(),
                files=self._paths.files(),
                working_directory=self._paths.directory,
                tools=tools,
            ).unwrap()
        except (DspexError, OSError) as error:
            raise self._broken(error) from error
        self._offered, self._prepared, self._anew = tools, wanted, False

    def _prepare(self) -> None:
        """Let the guest have the tools and fields of now. Raises `CodeInterpreterError` for names that cannot be."""
        wanted = self._wanted()
        if wanted == self._prepared and not self._anew:
            return
        tools, binding = self._crossing(), self._binding()
        self._inside("release")
        self._offered = tools
        if not self._call(binding).ok:
            self._call(_guest.PRELUDE + binding).unwrap()
        self._prepared, self._anew = wanted, False

    def _wanted(self) -> _Wanted:
        try:
            return dict(self.tools), [dict(field) for field in self.output_fields or ()]
        except (TypeError, ValueError) as error:
            raise CodeInterpreterError(f"output_fields must be a list of dicts that have a 'name': {error}") from error

    def _crossing(self) -> dict[str, Tool]:
        """The tools as they cross, and the one that SUBMIT calls."""
        tools = {_guest.engine_name(str(name)): self._tool(name, function) for name, function in self.tools.items()}
        tools[_guest.SUBMITTED] = _tools.offered(_guest.SUBMITTED, _guest.SUBMITTED, _fields, _weakly(self._received))
        return tools

    def _binding(self) -> str:
        """The program that gives tools their names, and SUBMIT its fields."""
        try:
            return _guest.binding(self.tools, self.output_fields)
        except KeyError as error:
            raise CodeInterpreterError(f"output_fields: a field has no {error}") from error
        except (ValueError, SyntaxError) as error:  # two names may be one to Python's parser
            raise CodeInterpreterError(f"output_fields: {error}") from error

    def _tool(self, name: str, function: Callable[..., Any]) -> Tool:
        if _guest.is_reserved(name):
            raise CodeInterpreterError(f"a tool cannot be called {name!r}: the interpreter has that name for itself")
        _check_tool(name, function)
        return _tools.offered(name, _guest.engine_name(name), function, _weakly(self._invoked))

    def _send(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Let the guest have the large ones among the variables, if it has not; returns all others."""
        if self.strict_dspy:
            return {name: self._carried(name, value) for name, value in variables.items()}
        parts = self._inputs.parted(variables)
        if parts.again and not self._inside("again", *parts.again, check=False):
            self._inputs.forget()
            return self._send(variables)
        small = {name: self._carried(name, value) for name, value in parts.small.items()}
        if parts.large:
            self._inside("take", _guest.GIVEN, *parts.pickled, given=parts.large)
            self._inputs.sent(parts)
        return small

    def _carried(self, name: str, value: Any) -> Any:
        try:
            return _strict.sent(value) if self.strict_dspy else _values.carried(value)
        except (RecursionError, TypeError) as error:  # it holds itself, or a key that is a list in DSPy
            raise CodeInterpreterError(f"variable {name!r} cannot cross: {error}") from error

    def _run(self, code: str, variables: dict[str, Any]) -> ExecutionResult:
        self._submitted = None
        self.last = self._call(code, variables)
        if not self.undo_failed:  # else when it is known that it did not fail
            self._paths.write_back(self.last.files)
        return self.last

    def _call(self, code: str, variables: dict[str, Any] | None = None) -> ExecutionResult:
        session = self._session
        if session is None:
            raise ClosedError(_SHUT)
        return session.execute(code, variables, tools=self._offered)

    def _inside(self, method: str, *arguments: object, given: dict[str, Any] | None = None, check: bool = True) -> bool:
        """Call what is prepared in the guest; a program that broke it has to live without."""
        variables = None if given is None else {_guest.GIVEN: given}
        result = self._call(_guest.calling(method, *arguments), variables)
        if check and not result.ok:
            self._call(_guest.PRELUDE).unwrap()
            self._call(_guest.calling(method, *arguments), variables).unwrap()
        return result.ok

    def _outcome(self, result: ExecutionResult) -> Any:
        failure = result.error
        if failure is None:
            value = _strict.returned(result) if self.strict_dspy else _values.returned(result)
            return result.stdout if value is None else value
        if failure.type == _guest.FINAL and self._submitted is not None:
            return FinalOutput(_strict.submitted(self._submitted) if self.strict_dspy else self._submitted)
        if failure.kind not in _LIVED and (self._ended or (not self.undo_failed and self._is_lost())):
            raise self._broken(None, f"{failure.type}: {failure.message}")
        raise _errors.raised(result, failure, strict=self.strict_dspy)

    # --- Tools ----------------------------------------------------------------------------------------------------------

    def _invoked(self, name: str, arguments: _tools.Arguments) -> Any:
        if not self.strict_dspy:
            return _values.answered(self.invoke_tool(name, arguments))
        try:
            return _strict.answered(self.invoke_tool(name, arguments))
        except Exception as error:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error

    def _received(self, name: str, arguments: _tools.Arguments) -> None:
        assert self._prepared is not None  # a program runs
        fields, wanted = arguments["fields"], _guest.field_names(self._prepared[1])  # a tool may have set others since
        if not isinstance(fields, dict) or {*fields} != {*wanted}:
            raise TypeError(f"SUBMIT takes {', '.join(wanted)}")  # the program went past SUBMIT
        self._submitted = {name: fields[name] for name in wanted}  # not every language keeps the order

    # --- The end --------------------------------------------------------------------------------------------------------

    def _check_outside(self) -> None:
        if id(self) in _WITHIN.get():
            raise CodeInterpreterError("the interpreter cannot execute recursively from one of its tools.")

    def _check_active(self) -> None:
        if self._ended:
            raise CodeInterpreterError(
                "the interpreter's session has ended (shutdown, or it was lost); create a new interpreter for a fresh session."
            )

    def _check_kept(self) -> None:
        """Let go of a session that came after another thread's `shutdown`. Raises `ClosedError`."""
        if self._ended:
            self._let_go()
            raise ClosedError(_SHUT)

    def _let_go(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _is_lost(self) -> bool:
        try:
            return not self._call("").ok
        except ClosedError:
            return True

    def _broken(self, cause: BaseException | None, what: str = "") -> CodeInterpreterError:
        """The error for a session that is over; its state is lost."""
        if isinstance(cause, ValueError):  # the caller's own mistake: nothing ran
            return CodeInterpreterError(str(cause))
        self._ended = True
        self._let_go()
        return CodeInterpreterError(
            f"{what or cause}; the interpreter state was lost. Create a new interpreter for a fresh session."
        )


# What `__new__` takes is what `__init__` takes, which is DSPy's: who looks at the class shall see that.
Interpreter.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    list(inspect.signature(Interpreter.__init__).parameters.values())[1:]
)


def _check_tool(name: object, function: object) -> None:
    from dspex.languages._values import name_fault

    if reason := name_fault(_guest.engine_name(name) if isinstance(name, str) else name):
        raise CodeInterpreterError(f"tool {name!r} {reason}")
    if not callable(function):
        raise CodeInterpreterError(f"tool {name!r} is a {type(function).__name__}; it must be a function")


def _fields(fields: dict[str, Any]) -> None:
    """What the tool that SUBMIT calls looks like."""


def _weakly(method: Callable[[str, _tools.Arguments], Any]) -> Callable[[str, _tools.Arguments], Any]:
    """A method that keeps its object from nothing: the session holds its tools, and the interpreter the session."""
    known = weakref.WeakMethod(method)

    def call(name: str, arguments: _tools.Arguments) -> Any:
        method = known()
        assert method is not None  # tools are called while `execute` runs
        return method(name, arguments)

    return call
