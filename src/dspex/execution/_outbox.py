"""`Outbox`: what goes to a guest while a run talks with it, frame after frame.

Theory of operation. The run's driver pushes frames and flushes as much as the guest takes, and never blocks. A tool that runs
in another thread may have to say something as well: that copies are to be made. It must not come in the middle of a frame, nor
change how the driver's socket waits. So whoever sends holds `_sending` from what it finds half sent to where it stops; the
driver goes without where another is at it, and `interject` first sends all that stood before it.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspex.execution._exchange import Message


class Outbox:
    """See the head of this file. Its socket does not block."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._parts: deque[tuple[bytes | memoryview, int]] = deque()  # with the descriptor to send beside it, or -1
        self._sending = threading.Lock()

    def __len__(self) -> int:
        return len(self._parts)

    def push(self, message: Message) -> None:
        """Send this behind all others; it is the outbox's from here on, its descriptor too."""
        first, *rest = message.data
        self._parts.extend([(first, message.descriptor), *((part, -1) for part in rest)])

    def flush(self) -> None:
        """Send what is taken at once; nothing while another thread sends. Raises `OSError`."""
        if self._sending.acquire(blocking=False):
            try:
                self._flush()
            finally:
                self._sending.release()

    def interject(self, send: Callable[[], bool], patience: float) -> None:
        """Flush, and call `send` where one frame ends and none is half sent, until it is true. Raises `OSError` when it never is.

        `send` must not block; it finds the outbox empty, unless it says no for that reason.
        """
        deadline = time.monotonic() + patience
        if not self._sending.acquire(timeout=patience):
            raise TimeoutError("another thread has been sending all the time")
        try:
            self._flush()
            while self._parts or not send():
                if not _takes_more(self._channel, deadline - time.monotonic()):
                    raise TimeoutError("the guest does not take what it is sent")
                self._flush()
        finally:
            self._sending.release()

    def close(self) -> None:
        """What was not sent never will be."""
        while self._parts:
            _, descriptor = self._parts.popleft()
            if descriptor >= 0:
                os.close(descriptor)

    def _flush(self) -> None:
        while self._parts:
            part, descriptor = self._parts.popleft()
            sent = self._send(part, descriptor)
            if sent < len(part):
                self._parts.appendleft((memoryview(part)[sent:], -1 if sent else descriptor))
                return

    def _send(self, part: bytes | memoryview, descriptor: int) -> int:
        try:
            if descriptor < 0:
                return self._channel.send(part)
            sent = send_beside(self._channel, part, (descriptor,))
        except BlockingIOError:
            return 0
        except OSError:
            if descriptor >= 0:
                os.close(descriptor)
            raise
        os.close(descriptor)
        return sent


def send_beside(channel: socket.socket, part: bytes | memoryview, descriptors: Sequence[int]) -> int:
    """Send bytes with descriptors beside them; how many bytes were taken. Raises `OSError`."""
    rights = struct.pack(f"{len(descriptors)}i", *descriptors)
    return channel.sendmsg([part], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def _takes_more(channel: socket.socket, seconds: float) -> bool:
    """Wait until the guest has taken something, or has gone; False when `seconds` are over before."""
    poll = select.poll()
    poll.register(channel, select.POLLOUT)
    return seconds > 0 and bool(poll.poll(seconds * 1000))
