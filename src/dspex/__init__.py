"""dspex: the primitives layer for LLM programs.

       user program      dspex run / eval / repl / doctor
            │                              │
            ▼                              ▼
       dspex (public names, loaded on first use)
            ├── execution ──► languages ──► _sandbox ──► _kernel
            ├── evaluation
            └── telemetry · errors                    used by all, import nothing of dspex

Nothing below is imported until its name is used (PEP 562): `import dspex` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspex._sandbox.limits import ResourceLimits as ResourceLimits
    from dspex._sandbox.policy import SecurityPolicy as SecurityPolicy
    from dspex.execution._executor import CodeExecutor as CodeExecutor
    from dspex.execution._isolation import Isolation as Isolation
    from dspex.execution._job import Job as Job
    from dspex.execution._result import ExecutionResult as ExecutionResult
    from dspex.execution._result import Failure as Failure
    from dspex.execution._result import IsolationReport as IsolationReport
    from dspex.execution._result import Usage as Usage
    from dspex.execution._session import Session as Session

__version__ = "0.1.0"

_HOMES = {
    "CodeExecutor": "dspex.execution._executor",
    "Job": "dspex.execution._job",
    "Session": "dspex.execution._session",
    "ExecutionResult": "dspex.execution._result",
    "Failure": "dspex.execution._result",
    "Usage": "dspex.execution._result",
    "IsolationReport": "dspex.execution._result",
    "Isolation": "dspex.execution._isolation",
    "SecurityPolicy": "dspex._sandbox.policy",
    "ResourceLimits": "dspex._sandbox.limits",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  (the keys are str)


def __getattr__(name: str) -> object:
    if name in _HOMES:
        import importlib

        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'dspex' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
