"""The public names of dspex, and that importing it costs next to nothing."""

import inspect
import os
import pathlib
import subprocess
import sys

import pytest

import dspex
from dspex import errors

PUBLIC = {
    "Best",
    "Checkpoint",
    "best_of",
    "CodeExecutor",
    "Completions",
    "Example",
    "ExecutionResult",
    "Failure",
    "Host",
    "Isolation",
    "IsolationReport",
    "Job",
    "Prediction",
    "ResourceLimits",
    "Display",
    "Finished",
    "Output",
    "SecurityPolicy",
    "Session",
    "Tool",
    "ToolCall",
    "ToolReturn",
    "Usage",
    "Ensemble",
    "Fallback",
    "Parallel",
    "Sequence",
    "Difference",
    "diff",
    "load",
    "Module",
    "Parameter",
    "Predictor",
    "Field",
    "Signature",
    "Migrations",
    "NEW",
    "Retention",
    "StateManager",
    "Version",
    "__version__",
}
HEAVY = {
    "numpy",
    "pandas",
    "polars",
    "msgspec",
    "typer",
    "rich",
    "click",
    "asyncio",
    "opentelemetry",
    "subprocess",
    "json",
    "socket",
    "ctypes",
    "threading",
}
SOURCE = str(pathlib.Path(dspex.__file__).parents[1])


def modules_after(code):
    """The modules that a fresh interpreter has imported after running `code`, without those it starts with."""
    script = f"import sys; before = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))"
    ran = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {SOURCE!r})\n{script}"],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ),
        check=True,
    )
    return set(ran.stdout.split())


def test_public_names_are_pinned():
    """A name is public when it is listed here; one more or less is a decision."""
    assert set(dspex.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_names_exist_and_are_documented(name):
    """Every public name can be had and says what it is."""
    value = getattr(dspex, name)
    assert inspect.getdoc(value)
    assert name in dir(dspex)


def test_unknown_name_is_an_attribute_error():
    """The package behaves like any module."""
    with pytest.raises(AttributeError, match="no_such_name"):
        dspex.no_such_name


def test_importing_dspex_imports_nothing_heavy():
    """`import dspex` imports none of its own layers and nothing that takes time."""
    found = modules_after("import dspex")
    assert not {name.partition(".")[0] for name in found} & HEAVY
    assert {name for name in found if name.startswith("dspex")} == {"dspex"}


def test_errors_alone_are_light():
    """Catching dspex's errors does not import the engine."""
    found = modules_after("import dspex.errors")
    assert {name for name in found if name.startswith("dspex")} == {"dspex", "dspex.errors"}


def test_running_a_program_imports_no_packages():
    """The path of a plain run imports neither CLI libraries nor asyncio nor OpenTelemetry nor NumPy."""
    found = modules_after(
        "from dspex import CodeExecutor\nwith CodeExecutor(max_concurrency=1) as executor: assert executor.execute('1').value == 1"
    )
    assert not {name.partition(".")[0] for name in found} & {
        "numpy",
        "pandas",
        "polars",
        "typer",
        "rich",
        "click",
        "asyncio",
        "opentelemetry",
        "pickle5",
    }


def test_constructor_is_as_documented():
    """The arguments of `CodeExecutor`, their order and their defaults."""
    parameters = inspect.signature(dspex.CodeExecutor).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == {
        "language": "python",
        "policy": None,
        "limits": None,
        "isolation": None,
        "max_concurrency": None,
        "queue": 10_000,
        "options": inspect.Parameter.empty,  # of the language
    }
    assert [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD] == ["language"]


@pytest.mark.parametrize("way", ["execute", "aexecute", "submit", "stream", "astream"])
def test_ways_to_run_take_the_same_arguments(way):
    """`execute`, `aexecute`, `submit`, `stream`, `astream` of an executor and those of a session, and `Job`, agree."""
    expected = ["code", "variables", "imports", "environment", "working_directory", "timeout", "tools", "files"]
    assert list(inspect.signature(getattr(dspex.CodeExecutor, way)).parameters)[1:] == expected
    if way != "submit":
        assert list(inspect.signature(getattr(dspex.Session, way)).parameters)[1:] == expected
    assert list(dspex.Job._fields) == expected


def test_errors_are_public():
    """Every error class of the package lives in `dspex.errors`."""
    found = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert {"DspexError", "UsageError", "SandboxError", "ProgramError", "ClosedError"} <= found
