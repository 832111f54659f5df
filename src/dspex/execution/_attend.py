"""Drivers of runs that talk while they go on: their tools are called, their output is told as it comes.

Theory of operation. `Talk` holds what both drivers share: it reads whatever the guest sent and sends whatever it takes, and
never blocks, for a guest may be writing while we are, or may not read at all. `attend` is a generator that blocks between two
events in the consumer's thread, where sync tools run as well; `aattend` is the same on an event loop. `drive` and `adrive` use
them for runs with tools and throw the events away.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from typing import TYPE_CHECKING, Final

from dspex.execution._outbox import Outbox
from dspex.execution._run import send

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from dspex.execution._calls import Calls
    from dspex.execution._run import Run
    from dspex.execution._stream import Event, Tails

_LOOK: Final = 0.02  # seconds between two looks at the output
_GRACE: Final = 1.0  # seconds that an interrupted program may take to answer


class Talk:
    """One run's channel, read and written without ever blocking."""

    def __init__(self, run: Run, tails: Tails | None) -> None:
        self.run = run
        self.channel = run.guest.channel
        self.channel.setblocking(False)
        self._tails = tails
        self._shown = 0  # displays that were told
        self._outbox = Outbox(self.channel)
        self.push = self._outbox.push
        if run.exchange.calls is not None:
            run.exchange.calls.outbox = self._outbox
            run.exchange.calls.late = lambda: run.late
            run.exchange.calls.listen = self.listen
        self.push(run.message)

    @property
    def wants_to_write(self) -> bool:
        """True while something was not taken."""
        return len(self._outbox) > 0

    def read(self) -> None:
        """Take in what has come; nothing may mean that the deadline has."""
        try:
            message = self.run.feed(self.channel.recv(self.run.exchange.wanted))
        except BlockingIOError:
            if self.run.due:
                self.run.look()
        except OSError:
            self.run.feed(b"")
        else:
            if message is not None:
                self.push(message)

    def listen(self, end: int) -> None:
        """Take in what comes until the eventfd `end` is written to."""
        poll = select.poll()
        poll.register(end, select.POLLIN)
        poll.register(self.channel, select.POLLIN)
        while not self.run.over and not any(descriptor == end for descriptor, _ in poll.poll()):
            self.read()

    def write(self) -> None:
        """Send what is taken at once."""
        try:
            self._outbox.flush()
        except OSError:
            self.run.feed(b"")

    def patience(self) -> float:
        """Seconds to wait for something to happen."""
        return self.run.patience() if self._tails is None else min(self.run.patience(), _LOOK)

    def printed(self) -> Iterator[Event]:
        """Output and displays since the last time, in order, where they are to be told."""
        if self._tails is None:
            return
        displays = self.run.exchange.displays
        for display in displays.seen[self._shown :] if displays is not None else ():
            self._shown += 1
            yield from self._tails.events(before=display)
            yield display
        yield from self._tails.events()

    def close(self) -> None:
        """The run is over, or given up."""
        if self.run.exchange.calls is not None:
            self.run.exchange.calls.close()
        self._outbox.close()


def attend(run: Run, tails: Tails | None = None) -> Iterator[Event]:
    """Drive a run to its end; yields what it tells on the way."""
    talk, calls = Talk(run, tails), run.exchange.calls
    poll = select.poll()
    bell = -1
    if calls is not None:
        bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        calls.ring = lambda: os.eventfd_write(bell, 1)
        poll.register(bell, select.POLLIN)
    watched = 0
    try:
        if tails is not None:
            run.show()
        while not run.over:
            talk.write()
            wanted = select.POLLIN | select.POLLOUT if talk.wants_to_write else select.POLLIN
            if wanted != watched:
                poll.register(talk.channel, wanted)
                watched = wanted
            if any(descriptor == bell for descriptor, _ in poll.poll(talk.patience() * 1000 + 1)):
                os.eventfd_read(bell)
            talk.read()
            if tails is not None:
                yield from talk.printed()
            if calls is not None:
                yield from _served(talk, calls)
    finally:
        talk.close()
        if bell >= 0:
            os.close(bell)


def _served(talk: Talk, calls: Calls) -> Iterator[Event]:
    """Perform the calls that wait, send what others have come to."""
    while (calls.waiting or calls.settled) and not talk.run.over:
        while calls.settled:
            yield calls.hand_over()
        if calls.waiting:
            if talk.run.late:  # by the calls before: its end is there to be read, or made
                return
            call = calls.waiting.popleft()
            yield call.told
            if calls.is_apart(call):
                calls.begin(call)
            else:
                talk.write()  # what others have come to need not wait for this one
                talk.run.show()
                calls.perform(call)


def drain(run: Run) -> None:
    """Read on for a while, telling nothing, for the answer of a program that was interrupted."""
    poll = select.poll()
    poll.register(run.guest.channel, select.POLLIN)
    end = time.monotonic() + _GRACE
    while not run.over and (left := end - time.monotonic()) > 0:
        if not poll.poll(left * 1000):
            return
        try:
            message = run.feed(run.guest.channel.recv(run.exchange.wanted))
            if message is not None:
                send(run.guest.channel, message, left)
        except OSError:
            run.feed(b"")


async def aattend(run: Run, tails: Tails | None = None) -> AsyncGenerator[Event]:
    """`attend` for event loops: sync tools run in threads."""
    talk, calls = Talk(run, tails), run.exchange.calls
    bell = asyncio.Event()
    if calls is not None:
        calls.ring = bell.set
    try:
        if tails is not None:
            run.show()
        while not run.over:
            talk.write()
            await _stirred(talk, bell)
            talk.read()
            for event in talk.printed():
                yield event
            while calls is not None and (calls.waiting or calls.settled) and not run.over:
                while calls.settled:
                    yield calls.hand_over()
                if calls.waiting:
                    call = calls.waiting.popleft()
                    yield call.told
                    calls.abegin(call)
    finally:
        talk.close()


async def _stirred(talk: Talk, bell: asyncio.Event) -> None:
    """Wait until the guest sent something, takes something, a call was settled, or patience is over."""
    loop = asyncio.get_running_loop()
    loop.add_reader(talk.channel, bell.set)
    if talk.wants_to_write:
        loop.add_writer(talk.channel, bell.set)
    timer = loop.call_later(talk.patience(), bell.set)
    try:
        await bell.wait()
        bell.clear()
    finally:
        timer.cancel()
        loop.remove_reader(talk.channel)
        loop.remove_writer(talk.channel)
