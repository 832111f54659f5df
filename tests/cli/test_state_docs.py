"""The commands of docs/state-cli.md give what stands there."""

import re
import shlex
import subprocess
import sys

from command import ENVIRONMENT, ROOT, dspex

DOCS = (ROOT / "docs" / "state-cli.md").read_text()
BLOCKS = [
    "\n".join(line[4:] for line in block.splitlines())
    for block in re.findall(r"(?:^ {4}.*\n|^\n(?=\n* {4}))+", DOCS, re.M)
]


def timeless(text):
    """A text without its times, and without blanks at the ends of lines."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "(time)", text)
    return [line.rstrip() for line in text.strip().splitlines()]


def test_the_documentation_is_real(tmp_path):
    """Its program and its migrations are run and its commands called, in their order: each prints what is written."""
    program, migrations = (
        next(block for block in BLOCKS if words in block) for words in ("StateManager", "@migrations")
    )
    (tmp_path / "steps.py").write_text(migrations.partition("\n$ ")[0])
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=ENVIRONMENT, check=True, timeout=60)
    calls = [call for block in BLOCKS for call in re.split(r"^\$ ", block, flags=re.M)[1:]]
    assert len(calls) > 15
    for call in calls:
        command, _, expected = call.partition("\n")
        name, *arguments = shlex.split(command)
        assert name == "dspex"
        done = dspex(*arguments, cwd=tmp_path, variables={"DSPEX_STORE": "sqlite:///states.db"})
        assert done.returncode == 0, (command, done.stderr)
        assert timeless(done.stdout) == timeless(expected), command
