"""Calls that somebody watches: callbacks in DSPy's order, and an OpenTelemetry span.

A call that nobody watches does not come here: see `Module.__call__`.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import uuid
from typing import TYPE_CHECKING, Any

from dspex import telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_log = logging.getLogger("dspex.modules")

# The id of the call that is going on in this thread or task, for callbacks that draw the tree of calls.
active_call: contextvars.ContextVar[str | None] = contextvars.ContextVar("dspex.active_call", default=None)


class Watched:
    """What becomes of one call: the callbacks are told of it when it ends."""

    outputs: Any = None


@contextlib.contextmanager
def watched(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Watched]:
    """A context around one call of a module. What the call gives is to be left in `outputs`.

    Each callback's `on_module_start(call_id, instance, inputs)` is called before and its `on_module_end(call_id,
    outputs, exception)` after, in the order of the list; a callback that fails is told to the log and harms nothing.
    `inputs` are those of `__call__`, as in DSPy: `{"args": (...), "kwargs": {...}}`.
    """
    callbacks = list(module.callbacks)
    call_id, call, failure = uuid.uuid4().hex, Watched(), None
    inputs = {"args": args, "kwargs": kwargs}
    _tell(callbacks, "on_module_start", call_id=call_id, instance=module, inputs=inputs)
    outer = active_call.set(call_id)
    try:
        with _span(module):
            yield call
    except BaseException as error:
        failure = error
        raise
    finally:
        active_call.reset(outer)
        _tell(callbacks, "on_module_end", call_id=call_id, outputs=call.outputs, exception=failure)


def _tell(callbacks: list[Any], event: str, **arguments: Any) -> None:
    for callback in callbacks:
        handler: Callable[..., Any] | None = getattr(callback, event, None)
        try:
            if handler is not None:
                handler(**arguments)
        except Exception as error:
            _log.warning("callback %r failed in %s: %s: %s", callback, event, type(error).__name__, error)


def _span(module: Any) -> contextlib.AbstractContextManager[Any]:
    """A span named by the module's class; inputs and outputs are never recorded."""
    if not telemetry.listening():
        return contextlib.nullcontext()
    from opentelemetry import trace

    kind = type(module)
    attributes = {"dspex.module": f"{kind.__module__}.{kind.__qualname__}"}
    return trace.get_tracer("dspex").start_as_current_span("dspex.module", attributes=attributes)
