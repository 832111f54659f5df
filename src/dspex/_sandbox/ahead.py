"""How a zygote is exec'd; and one that is started ahead, before the host has loaded the rest of dspex.

Theory of operation. Who is exec'd loads the engine's inner half, then waits for its charter on the control socket. A command that
runs one program and ends may start it at once, load its own half meanwhile, and find it waiting: the pool takes a zygote that was
started by the same words instead of starting one. Where nobody takes it, it sees the end of its socket when the host ends.
"""

from __future__ import annotations

import _socket
import os
import sys

CONTROL = 3  # the control socket's number in the launcher
_LAUNCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launch.py")
# LD_BIND_NOW: bind every symbol at once, or each guest would do it again, page by copied page. PYTHONHASHSEED: sets of text have
# one order in every guest of every zygote, so that runs with a seed can be repeated; nothing else of the caller's gets in.
_ENVIRONMENT = {"LD_BIND_NOW": "1", "PYTHONHASHSEED": "0"}

_waiting: dict[
    tuple[str, ...], tuple[int, int]
] = {}  # by their words: the host's end of the control socket, the process


def command(guest: str) -> tuple[str, ...]:
    """The words that start a zygote in this interpreter, for guests that run the module `guest`."""
    return sys.executable, "-s", "-P", "-S", "-X", "utf8", _LAUNCH, str(CONTROL), guest


def spawn(argv: tuple[str, ...], control: int) -> int:
    """Exec a launcher that has just standard error and this end of a control socket. `OSError` when it cannot be started.

    By posix_spawn, not by the subprocess module: it is loaded already, and it gives the child just the descriptors named
    here, whatever other threads open or fork meanwhile. Descriptors that others left inheritable, the launcher closes.
    """
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, control, CONTROL),
    ]
    return os.posix_spawn(argv[0], argv, _ENVIRONMENT, file_actions=actions, setsid=True)


def start(argv: tuple[str, ...]) -> None:
    """Start one that will be taken later. It ends with the thread that starts it."""
    try:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        process = spawn(argv, theirs.fileno())
    except OSError:
        return  # whoever needs it will try again, and say what is wrong
    theirs.close()
    _waiting[argv] = ours.detach(), process


def take(argv: tuple[str, ...]) -> tuple[int, int] | None:
    """One that was started by these words: the host's end of its control socket, and the process."""
    return _waiting.pop(argv, None)
