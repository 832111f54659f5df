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


def dspex(*arguments, stdin=b"", cwd=None, variables=None, before=()):
    """Run `dspex ARGUMENTS` to its end, by the command `before` if there is one; output and errors as text."""
    command = [*before, *DSPEX, *map(str, arguments)]
    environment = ENVIRONMENT | (variables or {})
    done = subprocess.run(command, input=stdin, capture_output=True, cwd=cwd, env=environment, timeout=100, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())
