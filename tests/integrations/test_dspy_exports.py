"""The public names for DSPy's users, and that naming them loads nothing."""

import inspect
import subprocess
import sys

import pytest

dspy = pytest.importorskip("dspy")

from dspex.integrations import dspy as integration  # noqa: E402
from dspex.integrations.dspy import RLM, BestOfN, Interpreter  # noqa: E402

# DSPy 3.3 and 3.4: the order is part of what callers rely on.
DSPYS = [
    *(
        "deno_command",
        "enable_read_paths",
        "enable_write_paths",
        "enable_env_vars",
        "enable_network_access",
        "sync_files",
    ),
    *("tools", "output_fields", "callbacks"),
]


def test_public_names_are_pinned():
    """A name is public when it is listed here, and says what it is."""
    assert set(integration.__all__) == {"Interpreter", "RLM", "BestOfN"}
    assert all(inspect.getdoc(getattr(integration, name)) for name in integration.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        integration.no_such_name


def test_naming_the_integration_does_not_load_dspy():
    """That takes seconds, and comes with the first use of a name."""
    code = f"import sys; sys.path[:] = {sys.path!r}; import dspex.integrations.dspy; print('dspy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_constructor_is_dspys():
    """Its keywords come first, in its order and with its defaults; dspex's own are by keyword only."""
    ours = inspect.signature(Interpreter).parameters
    theirs = inspect.signature(dspy.PythonInterpreter).parameters
    assert [*theirs] == DSPYS
    assert [*ours][: len(DSPYS)] == DSPYS
    assert {name: ours[name].default for name in DSPYS} == {name: theirs[name].default for name in DSPYS}
    assert all(parameter.kind is parameter.KEYWORD_ONLY for name, parameter in ours.items() if name not in DSPYS)


def test_the_modules_take_what_dspys_take():
    """BestOfN and RLM stand where those of DSPy stood."""
    assert issubclass(RLM, dspy.RLM)
    assert [*inspect.signature(dspy.BestOfN).parameters] == [*inspect.signature(BestOfN).parameters][:5]
