"""The executors that all interpreters of this process share: one for each language and set of hosts they may reach."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from dspex._sandbox.limits import ResourceLimits
from dspex._sandbox.policy import SecurityPolicy
from dspex.execution._executor import CodeExecutor

if TYPE_CHECKING:
    from collections.abc import Iterable

# DSPy has no limits at all. The wall time holds the answers of language models, which tools wait for.
LIMITS: Final = ResourceLimits(wall="10m", cpu="2m", memory="1GiB")
_PLACES: Final = 64  # a program that waits for a language model keeps its place

_executors: dict[tuple[str, tuple[str, ...]], CodeExecutor] = {}
_lock = threading.Lock()


def executor(hosts: Iterable[str] = (), language: str = "python") -> CodeExecutor:
    """The executor for a language whose guests may reach `hosts`; it lives as long as the process."""
    reached = tuple(sorted({str(host) for host in hosts}))
    key = (language, reached)
    with _lock:
        if key not in _executors:
            policy = SecurityPolicy(network=reached) if reached else None
            _executors[key] = CodeExecutor(language, policy=policy, limits=LIMITS, max_concurrency=_PLACES)
        return _executors[key]
