"""A search that branches one session 64 ways: place eight queens, each branch trying on from where its parent stood.

    python examples/tree_search.py

The board lives in the session. A branch costs a copy of the process, so nothing has to be undone or sent again.
"""

from dspex import CodeExecutor, ResourceLimits

SETUP = """
queens = []

def safe(column):
    row = len(queens)
    return all(c != column and abs(c - column) != row - r for r, c in enumerate(queens))
"""
GREEDY = """
import random
while len(queens) < 8 and (free := [c for c in range(8) if safe(c)]):
    queens.append(random.choice(free))
len(queens), list(queens)
"""


def main() -> None:
    """Fork 64 branches at once for the first two queens, let each go on by chance, and show the best."""
    with CodeExecutor(limits=ResourceLimits(branches=128)) as executor, executor.session(seed=1) as session:
        session.execute(SETUP).unwrap()
        starts = [(a, b) for a in range(8) for b in range(8)]
        branches = session.fork(len(starts))
        found = []
        for branch, (first, second) in zip(branches, starts, strict=True):
            fits = f"queens.append({first}); safe({second}) and not queens.append({second})"
            if branch.execute(fits).unwrap():
                found.append(branch.execute(GREEDY).unwrap())
            branch.close()
        placed, board = max(found)
        print(f"{len(branches)} branches, {len(found)} of them could begin; the best placed {placed} queens: {board}")
        print("the session itself still has", session.execute("queens").unwrap())


if __name__ == "__main__":
    main()
