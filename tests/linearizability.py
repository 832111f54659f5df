"""Whether a timed history of one register is linearizable: the search of Wing and Gong (1993), with Lowe's memory of dead ends.

An operation is a read of the register's value, or a compare-and-set of it. It began at one time and ended at another, or
never: then it may have taken effect at any time after it began, or not at all.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Operation(NamedTuple):
    """What one client did: `old` and `new` values of a compare-and-set, or `old` None for a read that saw `new`.

    `ended` is infinite, and `known` False, where no answer came.
    """

    began: float
    ended: float
    old: int | None
    new: int
    known: bool = True


def linearizable(operations: list[Operation], initial: int) -> bool:
    """Whether the operations can be put in an order that their times allow, in which each sees what those before it left."""
    pending = sorted(range(len(operations)), key=lambda i: operations[i].began)
    dead: set[tuple[int, int]] = set()
    stack = [(0, initial)]  # which operations are done, as bits; the register's value
    everything = sum(1 << i for i, operation in enumerate(operations) if operation.known)
    while stack:
        done, value = stack.pop()
        if done & everything == everything:
            return True
        if (done, value) in dead:
            continue
        dead.add((done, value))
        horizon = min((operations[i].ended for i in pending if not done >> i & 1), default=math.inf)
        for i in pending:
            operation = operations[i]
            if done >> i & 1:
                continue
            if operation.began > horizon:
                break
            if operation.old is None:
                if operation.new == value:
                    stack.append((done | 1 << i, value))
            elif operation.old == value:
                stack.append((done | 1 << i, operation.new))
    return False
