"""`Tree`: the living processes of one session and its branches, and how one more is made.

Theory of operation. A session's guest and all copies of it have one warden (see `_sandbox.warden`), so they share a tree: while any
of them is held, by a `Session` or a `Checkpoint`, the warden lives; when the last is let go, it ends. `copy` announces
copies to the warden, sends the guest a FORK frame with a channel and two output files for each, and waits until the warden has
given each its view of the files. The guest says nothing on its own channel, so a copy can be taken while an answer, or the
return of a tool, is awaited there.

One lock makes this one conversation at a time. Copies that do not come whole are a fault of the guest: the whole tree ends.
"""

from __future__ import annotations

import itertools
import marshal
import os
import random
import socket
import struct
import threading
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple

from dspex._kernel import memory
from dspex._sandbox import process, wire
from dspex.errors import ClosedError, SandboxLostError, UsageError
from dspex.execution import _files

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.process import Ended, Guest, Warden

_AT_ONCE: Final = 80  # copies for one frame: the kernel sends at most 253 descriptors beside a message
_PATIENCE: Final = 20.0  # seconds that one copy may take, its files included
_PAGE: Final = 4096
_SERIALS: Final = itertools.count(1)  # of branches; taken as negative numbers, for zygotes count from one too


class Node(NamedTuple):
    """One process of a tree, as `Tree.nodes` tells of it."""

    number: int  # the session's first process is 2
    parent: int  # of which it is a copy; 0 for the first
    name: str
    alive: bool
    resident: int  # bytes, those that it shares with its parent included; 0 once it has ended


class Tree:
    """See the head of this file."""

    def __init__(
        self, first: Guest, warden: Warden, limits: ResourceLimits, seed: int | None, held: set[Guest | Warden]
    ) -> None:
        first.warden = None  # it is ours from here on
        first.post_mortem = self._post_mortem(first.inner)
        self._warden = warden
        self._held = held
        held.add(warden)
        self._limits = limits
        self._lock = threading.RLock()
        self._alive: dict[int, Guest] = {first.inner: first}
        self._told: dict[int, tuple[int, str]] = {first.inner: (0, "session")}
        self._chance = None if seed is None else random.Random(seed)
        self._closed = False

    def copy(self, parent: Guest, number: int, name: str) -> list[Guest]:
        """So many copies of a guest that waits for the host.

        Raises `UsageError` beyond `limits.branches`, `ClosedError` for an ended tree, `SandboxLostError` when the guest or
        the warden does not do its part.
        """
        with self._lock:
            self._forget_forsaken()
            if self._closed or parent.inner not in self._alive:
                raise ClosedError("the session that was to be copied has ended")
            if len(self._alive) + number > self._limits.branches:
                raise UsageError(
                    f"{number:,} more branches would make {len(self._alive) + number:,} of this session; limits.branches "
                    f"is {self._limits.branches:,}: close sessions or checkpoints that are no longer needed, or raise it"
                )
            copies: list[Guest] = []
            try:
                while len(copies) < number:
                    copies += self._some(parent, min(_AT_ONCE, number - len(copies)))
            except BaseException:
                for copy in copies:
                    copy.kill()
                    copy.close()
                raise
            for copy in copies:
                if parent.network is not None:
                    copy.network, copy.told = parent.network.share(), parent.network.count
                self._held.add(copy)
                self._alive[copy.inner] = copy
                self._told[copy.inner] = (parent.inner, name)
            return copies

    def release(self, guest: Guest) -> None:
        """Nobody needs this process any more: end it, and the whole tree with its last."""
        with self._lock:
            guest.kill()
            guest.close()
            self._held.discard(guest)
            self._alive.pop(guest.inner, None)
            if not self._alive:
                self.close()

    def close(self) -> None:
        """End every process of the tree."""
        with self._lock:
            self._closed = True
            self._warden.close()
            self._held.discard(self._warden)
            self._alive.clear()

    def nodes(self) -> list[Node]:
        """All processes that the tree has had, in the order in which they were made."""
        with self._lock:
            self._forget_forsaken()
            self._forget_leaves()
            return [
                Node(number, parent, name, number in self._alive, _resident(self._alive.get(number)))
                for number, (parent, name) in self._told.items()
            ]

    def draw(self) -> str:
        """The tree as text, a process on each line; `(ended)` where only copies of it live."""
        nodes = self.nodes()
        known = {node.number for node in nodes}
        lines: list[str] = []

        def add(node: Node, indent: str) -> None:
            cost = f"{node.resident / 2**20:.1f} MB resident" if node.alive else "ended"
            lines.append(f"{indent}{node.name} #{node.number} ({cost})")
            below.extend((other, indent + "  ") for other in reversed(nodes) if other.parent == node.number)

        below = [(node, "") for node in reversed(nodes) if node.parent not in known]
        while below:
            add(*below.pop())
        return "\n".join(lines)

    def __del__(self) -> None:
        self._held.discard(self._warden)
        self._warden.close()  # nobody holds any of its processes any more

    # --- Under the lock -------------------------------------------------------------------------------------------------

    def _forget_forsaken(self) -> None:
        """Sessions that nobody referred to any more did not say goodbye."""
        self._alive = {inner: guest for inner, guest in self._alive.items() if guest.pidfd >= 0}

    def _forget_leaves(self) -> None:
        """Processes that have ended and from which nothing living descends are no part of the picture any more."""
        kept: set[int] = set()
        pending = [*self._alive]
        while pending:
            number = pending.pop()
            if number and number not in kept:
                kept.add(number)
                pending.append(self._told[number][0])
        self._told = {number: told for number, told in self._told.items() if number in kept}

    def _some(self, parent: Guest, number: int) -> list[Guest]:
        equipment = [_Equipment(self._limits.output) for _ in range(number)]
        try:
            self._warden.announce(parent.inner, number)
            _send(parent.channel, self._frame(number), [fd for one in equipment for fd in one.theirs])
            found = self._gather(number)
        except BaseException as error:
            for one in equipment:
                one.close()
            if isinstance(error, OSError):
                self.close()
                raise SandboxLostError("the session ended while it was copied") from None
            raise
        finally:
            for one in equipment:
                one.sent()
        return [self._guest(found[index], equipment[index]) for index in range(number)]

    def _frame(self, number: int) -> bytes:
        seeds = [-1 if self._chance is None else self._chance.getrandbits(62) for _ in range(number)]
        body = marshal.dumps((0, seeds), 2)
        return wire.header(wire.FORK, 0, len(body), 0) + body

    def _gather(self, number: int) -> dict[int, process.Branch]:
        found: dict[int, process.Branch] = {}
        reason = "the warden said nothing more"
        while len(found) < number:
            word = self._warden.receive(_PATIENCE)
            if isinstance(word, process.Branch) and word.place not in found and word.inner not in self._told:
                found[word.place] = word
            elif not isinstance(word, process.Ended):
                reason = word.reason if isinstance(word, process.Uncopied) else reason
                for branch in found.values():
                    os.close(branch.pidfd)
                    os.close(branch.work)
                self.close()  # what was copied by halves is beyond telling
                raise SandboxLostError(f"the session ended when it was copied: {reason}")
        return found

    def _guest(self, branch: process.Branch, equipment: _Equipment) -> Guest:
        guest = process.Guest(
            -next(_SERIALS), process.Ends(equipment.channel, branch.pidfd, *equipment.files, branch.work)
        )
        guest.inner = branch.inner
        _files.remember(guest, self._limits.disk)
        guest.post_mortem = self._post_mortem(branch.inner)
        return guest

    def _post_mortem(self, inner: int) -> Callable[[float], Ended | None]:
        """Asks how one process ended; does not keep the tree alive."""
        reference = weakref.ref(self)

        def ask(patience: float) -> Ended | None:
            tree = reference()
            return None if tree is None else tree.how_ended(inner, patience)

        return ask

    def how_ended(self, inner: int, patience: float) -> Ended | None:
        """How a process came to its end, as its warden saw it."""
        with self._lock:
            return None if self._closed else self._warden.how_ended(inner, patience)


class _Equipment:
    """What one copy has in common with the host: both ends of its channel, its output files."""

    def __init__(self, output: int) -> None:
        ours, theirs = socket.socketpair()
        self.channel, self._theirs = ours.detach(), theirs.detach()
        size = (output + _PAGE - 1) // _PAGE * _PAGE + _PAGE
        self.files = memory.output_file("stdout", size), memory.output_file("stderr", size)

    @property
    def theirs(self) -> tuple[int, int, int]:
        """In the order in which a copy expects them."""
        return self._theirs, *self.files

    def close(self) -> None:
        """There will be no copy."""
        for descriptor in (self.channel, *self.files):
            os.close(descriptor)

    def sent(self) -> None:
        """The guest's end belongs to the guest."""
        os.close(self._theirs)


def tune(guest: Guest, settings: dict[str, object]) -> None:
    """Set what a guest that waits for the host shall go on with: `seed` of its generators, `seconds` to its deadline."""
    body = marshal.dumps(settings, 2)
    guest.channel.settimeout(_PATIENCE)
    try:
        guest.channel.sendall(wire.header(wire.TUNE, 0, len(body), 0) + body)
    except OSError:
        pass  # it has ended, which the run that follows finds out


def _send(channel: socket.socket, frame: bytes, descriptors: list[int]) -> None:
    channel.settimeout(_PATIENCE)
    rights = struct.pack(f"{len(descriptors)}i", *descriptors)
    channel.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def _resident(guest: Guest | None) -> int:
    if guest is None:
        return 0
    try:
        with open(f"/proc/{guest.pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
