"""Every error that dspex raises.

A program that fails inside the sandbox is a *value* (`ExecutionResult.error`), never one of these; the one
exception is `ProgramError`, into which `ExecutionResult.unwrap()` turns that value on request.

    DspexError
    ├── UsageError (ValueError)        the caller's argument is wrong; names it and what is allowed
    │   ├── PolicyError                a SecurityPolicy that cannot be: bad field, missing path
    │   ├── LimitsError                a ResourceLimits that cannot be
    │   ├── VariableError              a variable whose name or value cannot cross into the guest
    │   └── UnknownLanguageError       no such language, or its runtime is not installed
    ├── ProgramError                   raised by ExecutionResult.unwrap() only
    └── SandboxError                   the engine failed, not the program
        ├── IsolationError             the host cannot enforce what was asked for
        ├── SandboxStartError          a zygote or a guest could not be started
        ├── SandboxLostError           a zygote or a guest was lost while it was in use
        ├── QueueFullError             more callers wait than the queue holds
        └── ClosedError                the executor or session was closed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class DspexError(Exception):
    """The root of every error of dspex."""


class UsageError(DspexError, ValueError):
    """An argument is wrong; the message names it, the place and what is allowed."""


class PolicyError(UsageError):
    """A security policy cannot be built or applied as it is written."""


class LimitsError(UsageError):
    """A resource limit is out of its range."""


class VariableError(UsageError):
    """A variable cannot cross into the guest, for its name or its value.

    `path` says where in the variables, as `xs[3]['key']`.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class UnknownLanguageError(UsageError):
    """No such language is known, or its runtime is not installed here."""


class ProgramError(DspexError):
    """The program failed and the caller asked for an exception (`ExecutionResult.unwrap`).

    `kind`, `type`, `line` and `traceback` are those of `ExecutionResult.error`.
    """

    def __init__(
        self, message: str, *, kind: str = "", type: str = "", line: int | None = None, traceback: str = ""
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.type = type
        self.line = line
        self.traceback = traceback


class SandboxError(DspexError):
    """The engine failed, not the program that it ran."""


class IsolationError(SandboxError):
    """The host cannot enforce the isolation asked for.

    `missing` names the kernel features, `mend` the commands or settings that bring them.
    """

    def __init__(self, message: str, *, missing: Sequence[str] = (), mend: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)
        self.mend = tuple(mend)


class SandboxStartError(SandboxError):
    """A zygote or a guest could not be started; the message says at which step."""


class SandboxLostError(SandboxError):
    """A zygote or a guest died while it was in use, through no fault of the program's."""


class QueueFullError(SandboxError):
    """More callers wait for a guest than the executor's queue holds."""


class ClosedError(SandboxError):
    """The executor or the session has been closed."""
