"""Making many objects that all live: without the garbage collector, which would go through them in vain."""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Put garbage collection off until the end, unless it is off anyway.

    It starts after a number of new objects, and again and again while a large program is made; that doubles the time.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
