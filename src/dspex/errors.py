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
    ├── StateError                     the state of a module cannot be held, read or loaded
    │   ├── StateFormatError (ValueError)  bytes that are no state, or damaged: names file, place and cause
    │   ├── StateMismatchError (ValueError)  a state that does not fit; names every mismatch by its path
    │   ├── NotFoundError (LookupError)    no such module, version, tag, snapshot or moment
    │   ├── ConflictError              somebody else saved meanwhile; holds both versions and the paths that conflict
    │   ├── IntegrityError             what a store gave back is not what was saved; names what is affected
    │   ├── MigrationError             no path between two schemas, or a step that failed
    │   └── StoreError                 a store failed, not the state
    │       ├── MovedError             a record is not at the revision that a write expected
    │       ├── CompactedError         changes asked for have been forgotten
    │       ├── UnsupportedError       the store does not promise what was asked for
    │       ├── StoreUnavailableError  it cannot be reached, or cannot be written; nothing was changed
    │       └── UnknownOutcomeError    a write was sent and its answer lost
    ├── BatchError                     a batch was given up: too many of its calls failed
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


class StateError(DspexError):
    """The state of a module cannot be held, read or loaded; what was being loaded is unchanged."""


class StateFormatError(StateError, ValueError):
    """Bytes that are no state of dspex, or are damaged.

    `source` names the file (or says that bytes were given), `place` where in it, `cause` what is wrong there.
    """

    def __init__(self, cause: str, *, source: str = "bytes", place: str = "") -> None:
        super().__init__(f"{source}{f', {place}' if place else ''}: {cause}")
        self.source = source
        self.place = place
        self.cause = cause


class StateMismatchError(StateError, ValueError):
    """A state that does not fit what it is loaded into; `mismatches` holds one (path, reason) for each."""

    def __init__(self, message: str, *, mismatches: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.mismatches = tuple(mismatches)


class NotFoundError(StateError, LookupError):
    """There is no such module, version, tag, snapshot or moment in the store."""


class ConflictError(StateError):
    """Somebody else saved meanwhile, and the resolver refused.

    `ours` is the version that the save started from, `theirs` the head that it met; `paths` the places that both
    changed, where a merge was tried.
    """

    def __init__(self, message: str, *, ours: object = None, theirs: object = None, paths: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.ours = ours
        self.theirs = theirs
        self.paths = tuple(paths)


class IntegrityError(StateError):
    """What a store gave back is not what was saved: a checksum differs, or something is missing.

    `thing` names the record or chunk, `affected` the versions that need it, as (module, version) pairs.
    """

    def __init__(self, message: str, *, thing: str = "", affected: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.thing = thing
        self.affected = tuple(affected)


class MigrationError(StateError):
    """No path leads from one schema to the other, or a step failed; the old version is as it was."""


class StoreError(StateError):
    """A store failed, not the state; the message names the store and the way out."""


class MovedError(StoreError):
    """Records (`keys`) are not at the revisions that a write expected; nothing was written."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(f"changed by somebody else meanwhile: {', '.join(keys)}")
        self.keys = tuple(keys)


class CompactedError(StoreError):
    """Changes beyond `since` were asked for, and those up to `trimmed` have been forgotten: list, then watch on."""

    def __init__(self, since: int, trimmed: int) -> None:
        super().__init__(
            f"changes since revision {since} were asked for, those up to {trimmed} are forgotten;"
            f" list what there is, and watch from its revision on"
        )
        self.since = since
        self.trimmed = trimmed


class UnsupportedError(StoreError):
    """The store does not promise what was asked for; the message names a store that does."""


class StoreUnavailableError(StoreError):
    """The store cannot be reached, read or written; nothing was changed."""


class UnknownOutcomeError(StoreError):
    """A write was sent and its answer lost: it may have been made or not."""


class BatchError(DspexError):
    """A batch was given up: more of its calls failed than its error budget allows.

    `failures` holds (index, exception) of those that failed; `results` what was done, None elsewhere.
    """

    def __init__(
        self, message: str, *, failures: Sequence[tuple[int, BaseException]] = (), results: Sequence[object] = ()
    ) -> None:
        super().__init__(message)
        self.failures = tuple(failures)
        self.results = list(results)


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
