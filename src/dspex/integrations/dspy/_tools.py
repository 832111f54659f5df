"""The host's functions as DSPy calls them: each through `invoke_tool`, in the caller's context, async ones too."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from typing import TYPE_CHECKING, Any

from dspex.execution._tools import Tool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Arguments(dict[str, Any]):
    """The keyword arguments of a call; `positional` holds those that have no name of their own."""

    positional: tuple[Any, ...] = ()


def offered(name: str, called: str, function: Callable[..., Any], invoke: Callable[[str, Arguments], Any]) -> Tool:
    """`function` as a tool that crosses as `called`, calls `invoke` with `name` and arguments, and tells what it is."""
    known = Tool(function, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        return invoke(name, named(known, args, kwargs))

    call.__name__, call.__doc__ = name, known.facts.about
    if known.facts.signature is not None:
        call.__signature__ = known.facts.signature  # type: ignore[attr-defined]
    return Tool(call, called)


def named(tool: Tool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Arguments by their names, as DSPy hands them over. Raises `TypeError` where they do not fit."""
    signature = tool.facts.signature
    bound = None if signature is None else signature.bind(*args, **kwargs)
    if bound is None or _needs_places(tool):
        arguments = Arguments(kwargs if bound is None else bound.kwargs)
        arguments.positional = args if bound is None else bound.args
        return arguments
    found = Arguments()
    for name, value in bound.arguments.items():
        variable = signature is not None and signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        found.update(value if variable else {name: value})
    return found


def _needs_places(tool: Tool) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
    signature = tool.facts.signature
    return signature is not None and any(parameter.kind in kinds for parameter in signature.parameters.values())


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns: run here, or, where an event loop runs already, in a thread with the same context."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return _beside(coroutine)


def _beside(coroutine: Coroutine[Any, Any, Any]) -> Any:
    outcome: list[Any] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome.extend((True, asyncio.run(coroutine)))
        except BaseException as error:
            outcome.extend((False, error))

    thread = threading.Thread(target=context.run, args=(run,), name="dspex-dspy-tool", daemon=True)
    thread.start()
    thread.join()
    returned, content = outcome
    if returned:
        return content
    raise content
