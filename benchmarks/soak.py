"""`python -m benchmarks.soak RUNS`: fresh runs for as long as it takes, and what they leave behind.

Prints, every tenth of the way: runs a second, the host's resident memory and descriptors, the memory of zygote and launcher,
processes below the host, mounts of the host. All but the first must stay flat after the warm-up.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from benchmarks.figures import _descendants, children
from dspex import CodeExecutor


def _resident(pid):
    """Kilobytes of a process that lives as long as the executor does."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def _lasting():
    """The launcher and the zygote, which is its child: by descent, for the numbers of processes come round."""
    (launcher,) = children(os.getpid())
    (zygote,) = children(launcher)
    return launcher, zygote


def _state(done, rate):
    children = _descendants(os.getpid())
    mounts = len(Path("/proc/self/mounts").read_text().splitlines())
    descriptors = len(os.listdir("/proc/self/fd"))
    zygote = "+".join(str(_resident(pid)) for pid in _lasting())
    print(
        f"{done:>9,} runs {rate:7.0f}/s  host {_resident(os.getpid()):,} kB {descriptors} descriptors  "
        f"launcher+zygote {zygote} kB  {len(children)} processes  {mounts} mounts",
        flush=True,
    )


def main():
    total = int(sys.argv[1])
    step = max(1, total // 20)
    with CodeExecutor() as executor:
        executor.execute("1")
        time.sleep(2)  # until the zygote has imported what it imports when nobody wants anything
        started, wrong = time.perf_counter(), 0
        for number, result in enumerate(executor.map(f"{n} + 1" for n in range(total)), 1):
            wrong += result.value != number
            if number % step == 0:
                _state(number, step / (time.perf_counter() - started))
                started = time.perf_counter()
    print(f"wrong answers: {wrong}; processes left: {len(_descendants(os.getpid()))}")


if __name__ == "__main__":
    main()
