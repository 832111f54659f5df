"""What a language has made before its first guest, in a guest of its own: compilers see their sources, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dspex._sandbox.limits import ResourceLimits
from dspex._sandbox.policy import SecurityPolicy

if TYPE_CHECKING:
    from dspex.execution._executor import CodeExecutor
    from dspex.execution._isolation import Isolation
    from dspex.languages._base import Build

_GIB: Final = 1 << 30


def run(kind: type[CodeExecutor], isolation: Isolation, build: Build) -> object:
    """The value of the build's program. Raises `ProgramError` where it fails."""
    policy = SecurityPolicy(subprocesses=True, readable=build.readable)
    limits = ResourceLimits(
        wall=build.patience,
        cpu=build.patience,
        memory=4 * _GIB,
        disk=2 * _GIB,
        value=_GIB,
        processes=256,
        open_files=1024,
    )
    with kind(build.language, policy=policy, limits=limits, isolation=isolation, max_concurrency=1) as executor:
        return executor.execute(build.program, build.variables).unwrap()
