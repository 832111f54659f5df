"""`Tree`: the living processes of one session and its branches, and how one more is made.

Theory of operation. A session's guest and all copies of it have one warden (see `_sandbox.warden`), so they share a tree: while any
of them is held, by a `Session` or a `Checkpoint`, the warden lives; when the last is let go, it ends. `copy` announces
copies to the warden, sends the guest a FORK frame with a channel and two output files for each, and waits until the warden has
given each its view of the files. The guest says nothing on its own channel, so a copy can be taken while an answer, or the
return of a tool, is awaited there.

Two locks: whoever has `_talk` speaks with the warden, one conversation at a time, for as long as a slow guest makes it last;
`_lock` guards what is known of the tree, and nobody waits for anything under it. Copies that do not come whole, or not in time,
are a fault of the process that was to be copied: it ends, and what there is of its copies. Its branches and its parent live on.
"""

from __future__ import annotations

import itertools
import marshal
import os
import socket
import threading
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from dspex._kernel import memory
from dspex._sandbox import process, wire
from dspex.errors import ClosedError, SandboxError, SandboxLostError, UsageError
from dspex.execution import _files
from dspex.execution._outbox import send_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.process import Ended, Guest, Warden
    from dspex.execution._calls import PendingCall

    # Sends a frame with descriptors to the guest of a channel; tells for the return of which calls it waits when it reads it.
    Say = Callable[[socket.socket, bytes, list[int]], tuple[PendingCall, ...]]

_AT_ONCE: Final = 80  # copies for one frame: the kernel sends at most 253 descriptors beside a message
_PATIENCE: Final = 20.0  # seconds that copies may take, their files included
_EACH: Final = 0.05  # and so many more for each
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
        self._talk = threading.Lock()
        self._lock = threading.RLock()
        self._announcements = itertools.count(1)
        self._alive: dict[int, Guest] = {first.inner: first}
        self._told: dict[int, tuple[int, str]] = {first.inner: (0, "session")}
        self._chance = None if seed is None else _chance(seed)
        self._closed = False

    def copy(self, parent: Guest, number: int, name: str, say: Say) -> list[tuple[Guest, tuple[PendingCall, ...]]]:
        """So many copies of a guest that waits for the host, and the calls for whose return each waits; `say` tells the guest.

        Raises `UsageError` beyond `limits.branches`, `ClosedError` for an ended tree, `SandboxLostError` when the guest or
        the warden does not do its part (the guest has been ended then), `SandboxError` when this process may not open enough
        files.
        """
        with self._conversation():
            deadline = time.monotonic() + _PATIENCE + _EACH * number
            self._check(parent, number)
            copies: list[tuple[Guest, tuple[PendingCall, ...]]] = []
            try:
                while len(copies) < number:
                    copies += self._some(parent, min(_AT_ONCE, number - len(copies)), deadline, say)
                self._take_in([copy for copy, _ in copies], parent, name)
            except BaseException:
                for copy, _ in copies:
                    copy.kill()
                    copy.close()
                raise
            return copies

    def release(self, guest: Guest) -> None:
        """Nobody needs this process any more: end it, and the whole tree with its last."""
        with self._lock:
            guest.kill()
            guest.close()
            self._held.discard(guest)
            if self._alive.get(guest.inner) is guest:  # else its number is another's by now
                del self._alive[guest.inner]
            if self._alive:
                return
        self.close()

    def close(self) -> None:
        """End every process of the tree."""
        with self._lock:
            self._closed = True
            for guest in self._alive.values():
                guest.kill()
            self._alive.clear()
            self._held.discard(self._warden)
        self._warden.hang_up()
        if self._talk.acquire(blocking=False):  # else who speaks with it lets go of it
            self._warden.close()
            self._talk.release()

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

    @contextmanager
    def _conversation(self) -> Iterator[None]:
        """Nobody else speaks with the warden meanwhile."""
        with self._talk:
            try:
                yield
            finally:
                if self._closed:
                    self._warden.close()

    def _check(self, parent: Guest, number: int) -> None:
        with self._lock:
            self._forget_forsaken()
            if self._closed or parent.inner not in self._alive:
                raise ClosedError("the session that was to be copied has ended")
            if len(self._alive) + number > self._limits.branches:
                raise UsageError(
                    f"{number:,} more branches would make {len(self._alive) + number:,} of this session; limits.branches "
                    f"is {self._limits.branches:,}: close sessions or checkpoints that are no longer needed, or raise it"
                )

    def _take_in(self, copies: list[Guest], parent: Guest, name: str) -> None:
        with self._lock:
            if self._closed:
                raise ClosedError("the session ended while it was copied")
            for copy in copies:
                if parent.network is not None:
                    copy.network, copy.told = parent.network.share(), parent.network.count
                self._held.add(copy)
                self._alive[copy.inner] = copy
                self._told[copy.inner] = (parent.inner, name)

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

    # --- In a conversation ----------------------------------------------------------------------------------------------

    def _some(
        self, parent: Guest, number: int, deadline: float, say: Say
    ) -> list[tuple[Guest, tuple[PendingCall, ...]]]:
        announcement = next(self._announcements)
        with _equipped(number, self._limits.output) as equipment:
            try:
                self._warden.announce(announcement, parent.inner, number)
                pending = say(parent.channel, self._frame(number), [fd for one in equipment for fd in one.theirs])
                found = self._gather(announcement, number, deadline)
            except BaseException as error:
                self._warden.call_off()
                parent.kill()
                if isinstance(error, OSError):
                    raise SandboxLostError("the session ended while it was copied") from None
                raise
            return [(self._guest(found[index], equipment[index]), pending) for index in range(number)]

    def _frame(self, number: int) -> bytes:
        seeds = [-1 if self._chance is None else self._chance.getrandbits(62) for _ in range(number)]
        body = marshal.dumps((0, seeds), 2)
        return wire.header(wire.FORK, 0, len(body), 0) + body

    def _gather(self, announcement: int, number: int, deadline: float) -> dict[int, process.Branch]:
        found: dict[int, process.Branch] = {}
        try:
            while len(found) < number:
                branch = self._next(announcement, deadline)
                if branch is not None:
                    found[branch.place] = branch
            return found
        except BaseException:
            for branch in found.values():
                branch.forget()
            raise

    def _next(self, announcement: int, deadline: float) -> process.Branch | None:
        """The next copy of this announcement; None for a word about something else. `SandboxLostError` when there is none."""
        word = self._warden.receive(max(0.001, deadline - time.monotonic()))
        if isinstance(word, process.Branch):
            if word.announcement == announcement:
                return word
            word.forget()
        elif isinstance(word, process.Uncopied):
            if word.announcement == announcement:
                raise SandboxLostError(f"the session ended when it was copied: {word.reason}")
        elif word is None:
            reason = "it was closed" if self._closed else "it was not copied in time, or its warden was lost"
            raise SandboxLostError(f"the session ended when it was copied: {reason}")
        return None

    def _guest(self, branch: process.Branch, equipment: _Equipment) -> Guest:
        guest = process.Guest(
            -next(_SERIALS), process.Ends(equipment.channel, branch.pidfd, *equipment.files, branch.work)
        )
        equipment.taken = True
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
        """How a process came to its end, as its warden saw it; None when that cannot be told in time."""
        if not self._talk.acquire(timeout=patience):
            return None
        try:
            return None if self._closed else self._warden.how_ended(inner, patience)
        finally:
            if self._closed:
                self._warden.close()
            self._talk.release()


class _Equipment:
    """What one copy has in common with the host: both ends of its channel, its output files."""

    def __init__(self, output: int) -> None:
        self.taken = False  # by a guest
        self._open: list[int] = []
        size = (output + _PAGE - 1) // _PAGE * _PAGE + _PAGE
        try:
            self._open += (end.detach() for end in socket.socketpair())
            self._open.append(memory.output_file("stdout", size))
            self._open.append(memory.output_file("stderr", size))
        except BaseException:
            self.close()
            raise

    @property
    def channel(self) -> int:
        """The host's end."""
        return self._open[0]

    @property
    def files(self) -> tuple[int, int]:
        """Standard output and error."""
        return self._open[2], self._open[3]

    @property
    def theirs(self) -> tuple[int, int, int]:
        """In the order in which a copy expects them."""
        return self._open[1], *self.files

    def close(self) -> None:
        """Let go of all but what a guest has taken; the guest's end belongs to the guest."""
        for descriptor in self._open[1:2] if self.taken else self._open:
            os.close(descriptor)


@contextmanager
def _equipped(number: int, output: int) -> Iterator[list[_Equipment]]:
    """So much equipment, and room for the two descriptors more that come with each copy. Raises `SandboxError`."""
    equipment: list[_Equipment] = []
    room: list[int] = []
    try:
        try:
            equipment += (_Equipment(output) for _ in range(number))
            room += (os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(2 * number))
        except OSError as error:
            raise SandboxError(
                f"no room for {number} more branches, each of which takes five descriptors: {error} (see ulimit -n)"
            ) from None
        finally:
            for descriptor in room:
                os.close(descriptor)
        yield equipment
    finally:
        for one in equipment:
            one.close()


def _chance(seed: int) -> Random:
    from random import Random

    return Random(seed)


def tune(guest: Guest, settings: dict[str, object]) -> None:
    """Set what a guest that waits for the host shall go on with: `seed` of its generators, `seconds` to its deadline,
    `known`, the numbers of the calls that will be answered."""
    body = marshal.dumps(settings, 2)
    guest.channel.settimeout(_PATIENCE)
    try:
        guest.channel.sendall(wire.header(wire.TUNE, 0, len(body), 0) + body)
    except OSError:
        pass  # it has ended, which the run that follows finds out


def send(channel: socket.socket, frame: bytes, descriptors: list[int]) -> None:
    """Tell a guest that waits for the host, and that nobody else speaks with, of copies. Raises `OSError`."""
    channel.settimeout(_PATIENCE)
    send_beside(channel, frame, descriptors)


def _resident(guest: Guest | None) -> int:
    if guest is None:
        return 0
    try:
        with open(f"/proc/{guest.pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
