"""`Checkpoint`: what a session was at one moment, parked as a copy of its guest that runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from types import TracebackType

    from dspex._sandbox.process import Guest
    from dspex.execution._calls import PendingCall
    from dspex.execution._session import Session
    from dspex.execution._tree import Tree


@final
class Checkpoint:
    """Come back to it with `session.restore(checkpoint)`, or open another session there; both any number of times.

    It costs one process, whose memory is shared with the session's as far as neither writes to it, and a copy of the working
    files. `close` gives that back. Made by `Session.checkpoint`.
    """

    def __init__(self, parked: Session, name: str) -> None:
        self._parked = parked
        self.name = name

    @property
    def pending(self) -> tuple[PendingCall, ...]:
        """The tool calls whose answers a session restored here waits for."""
        return self._parked.pending

    def session(self) -> Session:
        """Another session that begins here. Raises `ClosedError` for a checkpoint that was closed, `UsageError`."""
        return self._parked.fork()

    def copy(self, tree: Tree | None) -> Guest:
        """A process that begins here, for a session of `tree`. Raises `ClosedError`, `UsageError` for another tree."""
        return self._parked.copy_into(tree)

    def close(self) -> None:
        """Give back what it costs; sessions that began here live on."""
        self._parked.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Checkpoint({self.name!r})"
