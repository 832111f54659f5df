"""The tree of errors: one root, the caller's mistakes apart from the engine's, fields that are carried."""

import copy
import inspect
import pickle

import pytest

from dspex import errors

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]


def tree_of_the_docstring():
    """The tree that the module's docstring draws: class to parent."""
    found, stack = {}, []
    for line in inspect.getdoc(errors).splitlines():
        name = line.strip("│├└─ ").partition(" ")[0]
        if not name.endswith("Error"):
            continue
        depth = len(line) - len(line.lstrip("│├└─ "))
        stack = [(d, n) for d, n in stack if d < depth]
        found[name] = stack[-1][1] if stack else "Exception"
        stack.append((depth, name))
    return found


def test_tree_is_the_one_that_is_drawn():
    """The picture on top of the file is the truth."""
    drawn = tree_of_the_docstring()
    assert drawn == {cls.__name__: cls.__mro__[1].__name__ for cls in CLASSES}


def test_one_root():
    """`except DspexError` catches all of them."""
    assert all(issubclass(cls, errors.DspexError) for cls in CLASSES)


def test_usage_errors_are_value_errors_and_engine_errors_are_not():
    """A wrong argument, or a state that is wrong, is a ValueError as everywhere in Python; the engine's failure never is."""
    wrong = (errors.UsageError, errors.StateFormatError, errors.StateMismatchError)
    assert all(issubclass(cls, ValueError) == issubclass(cls, wrong) for cls in CLASSES)
    assert not any(issubclass(cls, errors.UsageError) for cls in CLASSES if issubclass(cls, errors.SandboxError))


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_documented(cls):
    """Each class says when it is raised."""
    assert inspect.getdoc(cls)


EXAMPLES = [
    errors.VariableError("bad", path="xs[1]"),
    errors.ProgramError("bad", kind="runtime", type="ValueError", line=3, traceback="t"),
    errors.IsolationError("bad", missing=["x"], mend=["y"]),
    errors.ClosedError("bad"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_carry_their_fields(error):
    """The text is the message, the rest are attributes."""
    assert str(error) == "bad"
    assert vars(copy.copy(error)) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_cross_between_processes(error):
    """A worker of multiprocessing can raise them to its parent."""
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), str(found), vars(found)) == (type(error), str(error), vars(error))
