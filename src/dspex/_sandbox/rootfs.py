"""The minimal read-only tree that guests see: interpreter, packages, a small /etc, five devices, nothing else.

Theory of operation. The tree is a tmpfs with read-only binds, put together once by the zygote (or, for a host that is
root, by its parent before the privileges are dropped, since an interpreter may lie under a directory that only root may
enter). It is assembled on some directory that no bind comes from, then becomes the root; guests copy the mount
namespace and add only what is their own.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from dspex._kernel import mounts

DEVICES: Final = ("null", "zero", "full", "random", "urandom")
_FILES: Final = {
    "/etc/passwd": "guest:x:1000:1000:guest:/run/sandbox/work:/bin/false\n",
    "/etc/group": "guest:x:1000:\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
# Names are asked of the host, by TCP: guests have no datagrams, over which those that share a network could meet.
RESOLVING: Final = (
    ("/etc/resolv.conf", "nameserver 127.0.0.1\noptions use-vc\n"),
    ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
)
CERTIFICATES: Final = "/kernel/certificates.pem"  # that the host trusts, shown to guests that have a network
# Programs written for other sandboxes, DSPy's among them, look for files in /sandbox: whoever has some puts them there.
_LINKS: Final = (("/tmp", "/run/sandbox/tmp"), ("/proc", "/kernel/proc"), ("/sandbox", "/run/sandbox/work/sandbox"))
_STAGES: Final = ("/mnt", "/media", "/srv", "/opt", "/var", "/run", "/home", "/tmp", "/boot", "/sys")


class Mount(NamedTuple):
    """What is visible: `source` of the host at `target` inside. An empty source is an empty directory."""

    source: str
    target: str
    writable: bool = False


class Tree(NamedTuple):
    """All that a root file system is made of: binds, symbolic links as (path, where it points), files as (path, text)."""

    mounts: tuple[Mount, ...]
    links: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()


def stage(tree: Tree) -> str:
    """A directory of the host to assemble the tree on: mounting there hides no source of a bind."""
    sources = [mount.source for mount in tree.mounts if mount.source]
    for path in _STAGES:
        if os.path.isdir(path) and not os.path.islink(path) and not any(_related(path, s) for s in sources):
            return path
    raise OSError(f"no directory to assemble the root on: each of {', '.join(_STAGES)} is missing or bound")


def assemble(tree: Tree, at: str) -> None:
    """Mount the whole tree at `at`, read-only where it is not writable; /proc is mounted later, from inside."""
    mounts.tmpfs(at, size=1 << 20, inodes=4096)
    for path in ("/kernel/proc", "/run/sandbox", "/etc", "/dev"):
        os.makedirs(at + path, exist_ok=True)
    for path, text in {**_FILES, **dict(tree.files)}.items():
        _write(at + path, text)
    for name in DEVICES:
        _write(f"{at}/dev/{name}", "")
        mounts.bind(f"/dev/{name}", f"{at}/dev/{name}", device=True)
    ordered = sorted(tree.mounts, key=lambda mount: mount.target.count("/"))
    for mount in ordered:
        _place(mount, at)
    for mount in ordered:
        if not mount.source:
            mounts.read_only(at + mount.target)
    # Last, so that no mount is placed through a link, which would lead out of the tree and into the host's.
    for path, pointed in (*tree.links, *_LINKS):
        if not os.path.lexists(at + path):  # a mount beneath /tmp has made it; TMPDIR leads past it all the same
            os.symlink(pointed, at + path)


def enter(at: str) -> None:
    """Make the assembled tree the root, for good, and read-only."""
    mounts.change_root(at)
    mounts.read_only("/")


def _place(mount: Mount, at: str) -> None:
    target = at + mount.target
    if not mount.source:
        os.makedirs(target, exist_ok=True)
        mounts.tmpfs(target, size=1 << 16, inodes=1024)
        return
    if os.path.isdir(mount.source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _write(target, "")
    mounts.bind(mount.source, target, writable=mount.writable)


def _related(one: str, other: str) -> bool:
    return (one + "/").startswith(other.rstrip("/") + "/") or (other + "/").startswith(one + "/")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
