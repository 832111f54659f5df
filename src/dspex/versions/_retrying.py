"""Again, when somebody else was faster."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

from dspex.errors import MovedError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
ATTEMPTS = 2000


def retrying(attempt: Callable[[], T]) -> T:
    """The result of `attempt`, which reads, then writes under the condition that nothing of that has moved."""
    for count in range(ATTEMPTS):
        try:
            return attempt()
        except MovedError:
            pause(count)
    raise StoreUnavailableError(f"others were faster {ATTEMPTS} times; nothing was changed")


def pause(attempt: int) -> None:
    """Let others go first, longer each time: who all begin again at once meet again."""
    if attempt:
        time.sleep(random.uniform(0, min(0.0005 * 2 ** min(attempt, 7), 0.05)))
