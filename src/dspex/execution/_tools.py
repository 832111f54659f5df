"""`Tool`: a function of the caller's that programs may call; `ToolCall` and `ToolReturn`: what is told of a call."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

from dspex.errors import UsageError
from dspex.languages._base import Parameter, ToolSpec

_PLAIN: Final = (type(None), bool, int, float, str, bytes)
_SHOWN: Final = 200  # characters of a default that is told by its repr


class ToolCall(NamedTuple):
    """A call that a program makes: what `Tool.approve` decides about, and an event of `stream`."""

    name: str
    arguments: dict[str, Any]  # by the parameters' names
    number: int  # which call of this tool in this run it is, from 1


class ToolReturn(NamedTuple):
    """A call that is over: an event of `stream`, and an entry of `ExecutionResult.tool_calls`."""

    name: str
    arguments: dict[str, Any]
    number: int
    error: str | None  # the exception's class and message; None when the tool returned
    seconds: float  # of wall time, approval included

    @property
    def ok(self) -> bool:
        """True when the tool returned a value."""
        return self.error is None


@final
@dataclass(frozen=True, eq=False)
class Tool:
    """A function that programs may call by `name` (its own by default), sync or async, and under which conditions.

    `description` replaces its docstring. After `max_calls` calls in one run more are refused. `approve` is asked before
    each call, with a `ToolCall`: True lets it pass; False, or a str that says why, refuses it; it may be async, and what it
    raises the program gets as if the tool had. What is refused raises `PermissionError` in the program.

    Sync tools of one run never overlap, whatever the program does, unless `parallel` says that they may.
    """

    function: Callable[..., Any]
    name: str = ""
    description: str | None = None
    max_calls: int | None = None
    approve: Callable[[ToolCall], Any] | None = None
    parallel: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise UsageError(f"a tool is a {type(self.function).__name__}; it must be a function")
        if self.max_calls is not None and (type(self.max_calls) is not int or self.max_calls < 0):
            raise UsageError(f"max_calls is {self.max_calls!r}; it must be a whole number of at least 0")
        if not self.name:
            object.__setattr__(self, "name", getattr(self.function, "__name__", ""))

    @functools.cached_property
    def facts(self) -> Facts:
        """What Python knows of the function."""
        return _facts(self.function)

    @functools.cached_property
    def spec(self) -> ToolSpec:
        """What programs are told of it."""
        facts = self.facts
        about = facts.about if self.description is None else self.description
        return ToolSpec(self.name, about, facts.parameters, facts.returns)

    @property
    def is_async(self) -> bool:
        """True for functions that are to be awaited."""
        return self.facts.is_async

    def bound(self, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by the parameters' names. Raises `TypeError` where they do not fit."""
        facts = self.facts
        if facts.signature is None:
            return {"args": args, **kwargs}
        if not kwargs and facts.needed <= len(args) <= len(facts.plain):
            return dict(zip(facts.plain, args, strict=False))  # as `bind` would say, at a tenth of its price
        return dict(facts.signature.bind(*args, **kwargs).arguments)


class Facts(NamedTuple):
    """What Python knows of a function; `signature` and what follows from it is None or empty where it cannot say."""

    signature: inspect.Signature | None
    about: str | None
    is_async: bool
    parameters: tuple[Parameter, ...] | None = None
    returns: str | None = None
    plain: tuple[str, ...] = ()  # the parameters' names, if they all take arguments by position and by name
    needed: int = 1  # how many of these have no default


_KNOWN: Final[weakref.WeakKeyDictionary[Any, Facts]] = weakref.WeakKeyDictionary()


def _facts(function: Any) -> Facts:
    """What is known of a function, found out once."""
    try:
        found = _KNOWN.get(function)
        if found is None:
            found = _KNOWN[function] = _found(function)
    except TypeError:  # without a hash, or without weak references
        return _found(function)
    return found


def _found(function: Any) -> Facts:
    call = getattr(function, "__call__", None)  # noqa: B004  (an object may have an async one)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
    about = inspect.getdoc(function)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return Facts(None, about, is_async)
    parameters = signature.parameters.values()
    names = tuple(p.name for p in parameters) if all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters) else ()
    needed = sum(p.default is p.empty for p in parameters) if names else 1
    told = tuple(_parameter(parameter) for parameter in parameters)
    return Facts(signature, about, is_async, told, _annotation(signature.return_annotation), names, needed)


def _parameter(parameter: inspect.Parameter) -> Parameter:
    default = parameter.default
    told = None if default is parameter.empty else (True, default) if _is_plain(default) else (False, _shown(default))
    return Parameter(parameter.name, int(parameter.kind), _annotation(parameter.annotation), told)


def _is_plain(value: object, depth: int = 3) -> bool:
    if type(value) in (list, tuple):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)  # type: ignore[attr-defined]
    if type(value) is dict:
        return depth > 0 and all(_is_plain(k, depth - 1) and _is_plain(v, depth - 1) for k, v in value.items())
    return type(value) in _PLAIN


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _annotation(annotation: Any) -> str | None:
    if annotation is inspect.Parameter.empty:
        return None
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


# --- What a run offers ------------------------------------------------------------------------------------------------

Tools = Mapping[str, Callable[..., Any] | Tool] | Iterable[Callable[..., Any] | Tool]


def offered(*given: Tools | None) -> dict[str, Tool]:
    """Tools by name, later ones in place of earlier ones. Raises `UsageError`."""
    found: dict[str, Tool] = {}
    for tools in given:
        for tool in _listed(tools):
            found[_checked(tool.name)] = tool
    return found


def _listed(tools: Any) -> list[Tool]:
    if tools is None:
        return []
    if isinstance(tools, Mapping):
        return [_tool(function, name) for name, function in tools.items()]
    if isinstance(tools, Iterable) and not isinstance(tools, (str, bytes)):
        return [_tool(function) for function in tools]
    raise UsageError(
        f"tools is a {type(tools).__name__}; it must be a list of functions, or a mapping of names to them"
    )


def _tool(function: Any, name: object = "") -> Tool:
    """`function` as a tool; one that is not changed keeps what was found out about it."""
    if name != "" and not isinstance(name, str):
        raise UsageError(f"tools has the name {name!r}; a name is a str")
    if isinstance(function, Tool):
        if name in ("", function.name):
            return function
        return Tool(
            function.function, str(name), function.description, function.max_calls, function.approve, function.parallel
        )
    return Tool(function, str(name))


def _checked(name: str) -> str:
    from dspex.languages._values import name_fault

    if not name:
        raise UsageError("a tool has no name of its own; give it one: Tool(function, name='...')")
    if reason := name_fault(name):
        raise UsageError(f"tool {name!r} {reason}")
    return name
