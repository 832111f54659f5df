"""dspex: the primitives layer for LLM programs.

       user program      dspex run / eval / repl / inspect / doctor
            │                              │
            ▼                              ▼
       dspex (public names, loaded on first use)
            ├── execution ──► languages ──► _sandbox ──► _kernel
            ├── evaluation
            ├── modules ──► examples, state
            ├── versions ──► stores, state, modules
            └── telemetry · errors                    used by all, import nothing of dspex

Nothing below is imported until its name is used (PEP 562): `import dspex` costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not from typing, whose loading takes longer than all else here

if TYPE_CHECKING:
    from dspex._sandbox.limits import ResourceLimits as ResourceLimits
    from dspex._sandbox.network import Host as Host
    from dspex._sandbox.policy import SecurityPolicy as SecurityPolicy
    from dspex.examples._completions import Completions as Completions
    from dspex.examples._example import Example as Example
    from dspex.examples._prediction import Prediction as Prediction
    from dspex.execution._best_of import Best as Best
    from dspex.execution._best_of import best_of as best_of
    from dspex.execution._checkpoint import Checkpoint as Checkpoint
    from dspex.execution._displays import Display as Display
    from dspex.execution._executor import CodeExecutor as CodeExecutor
    from dspex.execution._isolation import Isolation as Isolation
    from dspex.execution._job import Job as Job
    from dspex.execution._result import ExecutionResult as ExecutionResult
    from dspex.execution._result import Failure as Failure
    from dspex.execution._result import IsolationReport as IsolationReport
    from dspex.execution._result import Usage as Usage
    from dspex.execution._session import Session as Session
    from dspex.execution._stream import Finished as Finished
    from dspex.execution._stream import Output as Output
    from dspex.execution._tools import Tool as Tool
    from dspex.execution._tools import ToolCall as ToolCall
    from dspex.execution._tools import ToolReturn as ToolReturn
    from dspex.modules._composition import Ensemble as Ensemble
    from dspex.modules._composition import Fallback as Fallback
    from dspex.modules._composition import Parallel as Parallel
    from dspex.modules._composition import Sequence as Sequence
    from dspex.modules._diff import Difference as Difference
    from dspex.modules._diff import diff as diff
    from dspex.modules._files import load as load
    from dspex.modules._module import Module as Module
    from dspex.modules._parameter import Parameter as Parameter
    from dspex.modules._predictor import Predictor as Predictor
    from dspex.modules._signature import Field as Field
    from dspex.modules._signature import Signature as Signature
    from dspex.versions._compaction import Retention as Retention
    from dspex.versions._manager import StateManager as StateManager
    from dspex.versions._migrations import Migrations as Migrations
    from dspex.versions._version import NEW as NEW
    from dspex.versions._version import Version as Version

__version__ = "0.1.0"

_HOMES = {
    "CodeExecutor": "dspex.execution._executor",
    "Host": "dspex._sandbox.network",
    "Job": "dspex.execution._job",
    "Session": "dspex.execution._session",
    "Checkpoint": "dspex.execution._checkpoint",
    "best_of": "dspex.execution._best_of",
    "Best": "dspex.execution._best_of",
    "Display": "dspex.execution._displays",
    "Finished": "dspex.execution._stream",
    "Output": "dspex.execution._stream",
    "Tool": "dspex.execution._tools",
    "ToolCall": "dspex.execution._tools",
    "ToolReturn": "dspex.execution._tools",
    "ExecutionResult": "dspex.execution._result",
    "Failure": "dspex.execution._result",
    "Usage": "dspex.execution._result",
    "IsolationReport": "dspex.execution._result",
    "Isolation": "dspex.execution._isolation",
    "SecurityPolicy": "dspex._sandbox.policy",
    "ResourceLimits": "dspex._sandbox.limits",
    "Example": "dspex.examples._example",
    "Prediction": "dspex.examples._prediction",
    "Completions": "dspex.examples._completions",
    "Ensemble": "dspex.modules._composition",
    "Fallback": "dspex.modules._composition",
    "Parallel": "dspex.modules._composition",
    "Sequence": "dspex.modules._composition",
    "Difference": "dspex.modules._diff",
    "diff": "dspex.modules._diff",
    "load": "dspex.modules._files",
    "Module": "dspex.modules._module",
    "Parameter": "dspex.modules._parameter",
    "Predictor": "dspex.modules._predictor",
    "Field": "dspex.modules._signature",
    "Signature": "dspex.modules._signature",
    "Migrations": "dspex.versions._migrations",
    "NEW": "dspex.versions._version",
    "Retention": "dspex.versions._compaction",
    "StateManager": "dspex.versions._manager",
    "Version": "dspex.versions._version",
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
