"""A container without namespaces, imitated: `python tests/container.py COMMAND...` runs COMMAND in it.

All capabilities are dropped, the bounding set too, no_new_privs is set, and a seccomp filter refuses what a
container runtime's default filter refuses: unshare, setns, the mount calls, clone with a namespace flag; clone3
is missing, as there. Files and users stay those of the host.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from dspex._kernel import processes, seccomp
from dspex._kernel.syscalls import libc

_PR_CAPBSET_DROP = 24
_CLONE_NEW = 0x7E020000
_REFUSED = """
    unshare setns mount umount2 pivot_root chroot open_tree open_tree_attr move_mount mount_setattr
    fsopen fsconfig fsmount fspick
"""


def container_filter() -> bytes:
    """The filter of the imitated container, for this machine."""
    plain_clone = seccomp.Check((seccomp.Test(0, _CLONE_NEW, (0,)),))
    refused = dict.fromkeys(_REFUSED.split(), seccomp.REFUSE)
    return seccomp.program({**refused, "clone": plain_clone, "clone3": seccomp.MISSING}, seccomp.ALLOW)


def enter() -> None:
    """Put this process into the imitated container, for good."""
    for capability in range(64):
        libc().prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails beyond the last one, and for an ordinary user
    processes.drop_capabilities()
    processes.forbid_new_privileges()
    seccomp.install(container_filter())


if __name__ == "__main__":
    enter()
    os.execvp(sys.argv[1], sys.argv[1:])
