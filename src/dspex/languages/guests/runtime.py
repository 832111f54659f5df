"""The guest of runtimes that cannot be forked: a confined process that becomes the runtime.

Theory of operation. The zygote stays a small Python. What it forks is confined like every guest, by the same steps, and then
execs the runtime, which keeps what the kernel holds: namespaces, limits, Landlock, the filter. The channel becomes
descriptor 3. The runtime says READY once it waits for a request; a pool keeps such guests ahead, so nobody sees it start.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn

CHANNEL = 3
COMMON = ()  # nothing to import meanwhile

_argv: list[str] = []


def prepare(profile: dict[str, Any]) -> None:
    """In the zygote: what guests will become."""
    _argv[:] = profile["argv"]


def reseed() -> None:
    """Nothing: the runtime begins with random numbers of its own."""


def main(channel: int) -> NoReturn:
    """In a guest: become the runtime."""
    if channel != CHANNEL:
        os.dup2(channel, CHANNEL)
        os.close(channel)
    os.set_inheritable(CHANNEL, True)
    os.execve(_argv[0], _argv, os.environ)
