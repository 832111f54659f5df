"""`dspex` as a real command, for the tests that run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
PROBLEMS = EXAMPLES / "problems.jsonl"
SAMPLES = EXAMPLES / "samples.jsonl"
DSPEX = [sys.executable, "-m", "dspex"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "120", "TERM": "dumb", "NO_COLOR": "1"}


def dspex(*arguments, stdin=b"", cwd=None):
    """Run `dspex ARGUMENTS` to its end; output and errors as text."""
    command = [*DSPEX, *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, cwd=cwd, env=ENVIRONMENT, timeout=100, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())
