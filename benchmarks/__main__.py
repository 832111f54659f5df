"""`python -m benchmarks`: every figure as a ratio against a floor or a peer taken in the same run; prints a table.

python -m benchmarks                   all of it (some minutes)
python -m benchmarks latency session   only these
python -m benchmarks --problems HumanEval.jsonl.gz eval
"""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks import figures
from benchmarks.table import Row, show


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", help=f"which of: {', '.join(figures.FIGURES)}")
    parser.add_argument("--problems", help="a HumanEval problem file, for the figure `eval`")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows: list[Row] = []
    for name in given.names or figures.FIGURES:
        print(f"... {name}", file=sys.stderr, flush=True)
        rows += figures.FIGURES[name](given)
    if given.json:
        print(json.dumps([row._asdict() for row in rows], indent=2))
    else:
        show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
