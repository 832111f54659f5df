"""Examples: fields of any name, inputs and labels, copies, equality, hashing, pickling."""

import copy
import gc
import pickle
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex import Example, Prediction
from dspex.errors import UsageError

METHODS = sorted(name for name in dir(Example) if not name.startswith("_"))
NAMES = st.text(max_size=8) | st.sampled_from(
    [*METHODS, "_id", "_store", "_input_keys", "dspy_uuid", "__dict__", "self"]
)
ATOMS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
FIELDS = st.dictionaries(NAMES, VALUES, max_size=6)


class Question(Example):
    """A subclass with a default, a property that can be set, and a constructor of its own."""

    level = 1

    def __init__(self, text, **fields):
        super().__init__(question=text, **fields)
        self._source = "here"

    @property
    def source(self):
        return self._source

    @source.setter
    def source(self, value):
        self._source = value


# --- making and fields ---


def test_fields_are_read_by_attribute_and_by_bracket():
    """Both ways give the same value."""
    example = Example(question="Why?", answer="So.")
    assert (example.question, example["answer"]) == ("Why?", "So.")


@pytest.mark.parametrize("base", [{"a": 1, "b": 2}, Example(a=1, b=2), Prediction(a=1, b=2)])
def test_base_gives_fields_and_keywords_win(base):
    """The fields of a base come first, in its order."""
    example = Example(base, b=3, c=4)
    assert example.items() == [("a", 1), ("b", 3), ("c", 4)]


def test_base_is_not_shared():
    """Neither the dict nor the example that it was made from changes with it."""
    fields = {"a": 1}
    first = Example(fields)
    second = Example(first)
    first.b, second.c = 2, 3
    assert (fields, first.keys(), second.keys()) == ({"a": 1}, ["a", "b"], ["a", "c"])


@pytest.mark.parametrize("base", [5, "text", [("a", 1)], ""])
def test_base_of_another_kind_is_refused(base):
    """What has no fields makes no empty example."""
    with pytest.raises(UsageError, match=f"not {type(base).__name__}"):
        Example(base)


@pytest.mark.parametrize("name", [5, None, ("a",)])
def test_names_are_strings(name):
    """Another key is told at once, not when the fields are listed."""
    with pytest.raises(UsageError, match="named by a str"):
        Example({name: 1})
    with pytest.raises(UsageError, match="named by a str"):
        Example()[name] = 1


def test_a_field_may_be_called_self():
    """By keyword as well."""
    assert Example(self=1).copy(self=2).replace(self=3)["self"] == 3
    assert Prediction(self=1).self == 1


def test_missing_field_is_an_attribute_error_and_a_key_error():
    """The error of each way to read names what is missing."""
    with pytest.raises(AttributeError, match="'Example' object has no attribute 'b'") as caught:
        Example(a=1).b
    assert caught.value.name == "b"
    with pytest.raises(KeyError, match="b"):
        Example(a=1)["b"]


def test_fields_are_set_and_deleted_both_ways():
    """Attribute and bracket change the same field."""
    example = Example(a=1, b=2, c=3)
    example.a, example["b"], example.d = 10, 20, 40
    assert (example["a"], example.b, example["d"]) == (10, 20, 40)
    del example.a
    del example["b"]
    assert example.keys() == ["c", "d"]
    with pytest.raises(AttributeError):
        del example.a
    with pytest.raises(AttributeError):
        example.b


@given(FIELDS)
def test_every_field_can_be_had_by_bracket(fields):
    """No name is lost, whatever it is; and what is no name of the class is an attribute too."""
    example = Example(fields)
    assert {name: example[name] for name in example} == fields
    for name in fields:
        if name not in dir(Example):
            assert getattr(example, name) == fields[name]
    assert list(example) == list(fields)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("read_before", [True, False])
def test_field_named_like_a_method_hides_no_method(name, read_before):
    """It is read with brackets, however it was set, and the class's own name stays what it was."""
    example = Example(question=1)
    own = repr(getattr(Example(), name))
    for set_field in (Example.__setitem__, setattr):
        if read_before:
            assert example.question == 1
        if name != "input_keys" or set_field is not setattr:
            set_field(example, name, 5)
        assert example[name] == 5
        assert type(getattr(example, name)) is type(getattr(Example(), name)), own
        assert example.question == 1
        assert example.copy()[name] == 5
    assert Example({name: 5}).keys() == [name]


def test_property_without_setter_cannot_be_set():
    """As anywhere in Python; the field of that name can be set by bracket."""
    example = Example(a=1)
    with pytest.raises(AttributeError):
        example.input_keys = {"a"}
    example["input_keys"] = 5
    assert (example.input_keys, example["input_keys"]) == (None, 5)


def test_private_attributes_are_no_fields():
    """A name with an underscore is an attribute, unless a field is called so; copies have it too."""
    example = Example(a=1, _id=7)
    assert (example.a, example._id) == (1, 7)
    example._note = "x"
    example._id = 8
    assert example.keys() == ["a", "_id"]
    copied = example.copy()
    copied._note = "y"
    assert (example._note, copied._note, example["_id"], copied.a) == ("x", "y", 8, 1)


def test_hidden_fields_show_on_request_only():
    """What starts with `dspy_` is in the store, but not in length, keys and looks."""
    example = Example(a=1, dspy_uuid=2)
    assert (len(example), example.keys(), example.values(), example.items()) == (1, ["a"], [1], [("a", 1)])
    assert example.keys(include_dspy=True) == list(example) == ["a", "dspy_uuid"]
    assert example.values(include_dspy=True) == [1, 2]
    assert example.items(include_dspy=True) == [("a", 1), ("dspy_uuid", 2)]
    assert "dspy_uuid" in example
    assert "dspy" not in repr(example)
    assert not Example(dspy_uuid=2)


def test_fields_may_be_set_while_iterating():
    """Iteration is over the names as they were."""
    example = Example(a=1, b=2)
    for name in example:
        example[name + name] = 0
    assert example.keys() == ["a", "b", "aa", "bb"]


def test_get_has_a_default():
    """A missing field gives the default."""
    example = Example(a=None)
    assert (example.get("a", 1), example.get("b"), example.get("b", 2)) == (None, None, 2)


def test_fields_are_completed_at_the_prompt():
    """`dir` lists fields beside methods."""
    assert {"question", "copy"} <= set(dir(Example(question=1)))


# --- inputs and labels ---


def test_inputs_and_labels_part_the_fields():
    """Each field is in one of the two; labels are marked no more."""
    example = Example(q=1, context=2, a=3).with_inputs("q", "context")
    assert example.inputs().items() == [("q", 1), ("context", 2)]
    assert example.labels().items() == [("a", 3)]
    assert example.inputs().input_keys == example.input_keys == {"q", "context"}
    assert example.labels().input_keys is None


@pytest.mark.parametrize("way", ["inputs", "labels"])
def test_inputs_must_have_been_marked(way):
    """The error says how."""
    with pytest.raises(ValueError, match="with_inputs"):
        getattr(Example(a=1), way)()


def test_with_inputs_leaves_the_original():
    """It gives a new example."""
    example = Example(a=1)
    marked = example.with_inputs("a")
    assert (example.input_keys, marked.input_keys, marked == example) == (None, {"a"}, True)


def test_marking_no_inputs_is_a_mark():
    """`with_inputs()` says that all fields are labels."""
    example = Example(a=1).with_inputs()
    assert (example.inputs().keys(), example.labels().keys()) == ([], ["a"])


@pytest.mark.parametrize(
    "derive",
    [
        lambda e: e.copy(b=3),
        lambda e: e.without("b"),
        lambda e: e.replace(b=3),
        Example,
        lambda e: Example(base=e, c=1),
        copy.copy,
        copy.deepcopy,
        lambda e: pickle.loads(pickle.dumps(e)),
    ],
)
def test_marks_are_kept(derive):
    """Whatever is made from an example has its inputs."""
    assert derive(Example(a=1, b=2).with_inputs("a")).input_keys == {"a"}


# --- copies ---


@pytest.mark.parametrize("make", [Example.copy, copy.copy, Example, Example.replace, Example.without])
def test_copy_is_shallow_and_apart(make):
    """Values are shared, fields are not."""
    example = Example(a=[1])
    copied = make(example)
    copied.b = 2
    assert copied.a is example.a
    assert (example.keys(), copied.keys()) == (["a"], ["a", "b"])
    assert example.copy(a=2, b=3).items() == [("a", 2), ("b", 3)]


def test_replace_changes_what_is_there_only():
    """A misspelt name is told, not added."""
    example = Example(question=1, answer=2)
    assert example.replace(answer=3) == Example(question=1, answer=3)
    with pytest.raises(UsageError, match=r"'anwser'.*'question', 'answer'"):
        example.replace(anwser=3)
    assert example == Example(question=1, answer=2)


def test_without_refuses_a_name_that_is_not_there():
    """As deleting it would."""
    assert Example(a=1, b=2).without("a").keys() == ["b"]
    with pytest.raises(KeyError, match="c"):
        Example(a=1).without("c")


def test_deepcopy_shares_nothing_mutable():
    """Also through nested examples, and what was shared inside is shared in the copy."""
    inner = Example(xs=[1])
    example = Example(inner=inner, again=inner, pair=([2],))
    example._note = [3]
    copied = copy.deepcopy(example)
    copied.inner.xs.append(9)
    copied.pair[0].append(9)
    copied._note.append(9)
    assert copied.inner is copied.again
    assert (example.inner.xs, example.pair, example._note) == ([1], ([2],), [3])


@pytest.mark.parametrize("make", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
@pytest.mark.parametrize("kind", [Example, Prediction])
def test_one_that_holds_itself_is_copied_as_such(make, kind):
    """A cycle ends."""
    example = kind(a=1)
    example.me = example
    copied = make(example)
    assert copied.me is copied
    assert copied is not example


@given(FIELDS, st.integers(0, pickle.HIGHEST_PROTOCOL), st.booleans())
def test_pickling_keeps_everything(fields, protocol, read_before):
    """Every protocol, before and after fields were read as attributes."""
    example = Example(fields).with_inputs("a")
    if read_before:
        _ = [getattr(example, name, None) for name in fields]
    example._note = 1
    back = pickle.loads(pickle.dumps(example, protocol))
    assert (back, back.input_keys, back._note, list(back)) == (example, {"a"}, 1, list(fields))


def test_an_empty_shell_has_no_recursion_trap():
    """While it is unpickled an example has no store; asking it for a field is an AttributeError."""
    shell = Example.__new__(Example)
    for name in ("a", "_store", "__setstate__x", "toDict_"):
        assert not hasattr(shell, name)


def test_examples_can_be_weakly_referenced_and_end():
    """Attaching the store makes no cycle."""
    gc.disable()
    try:
        example = Example(a=1)
        assert example.a == 1
        reference = weakref.ref(example)
        del example
        assert reference() is None
    finally:
        gc.enable()


# --- subclasses ---


def test_subclass_keeps_its_own_ways():
    """A default is overridden as in any class, a property is set through its setter, copies run no constructor."""
    question = Question("Why?", topic="x")
    assert question.level == 1
    question.level, question.source = 2, "there"
    assert question.items() == [("question", "Why?"), ("topic", "x")]
    for derived in (
        question.copy(),
        copy.deepcopy(question),
        pickle.loads(pickle.dumps(question)),
        question.without("topic"),
    ):
        assert type(derived) is Question
        assert (derived.level, derived.source, derived.question) == (2, "there", "Why?")


def test_method_of_a_subclass_is_hidden_by_no_field():
    """Names that a subclass adds are guarded as well."""

    class Shouting(Example):
        def shout(self):
            return self.word.upper()

    example = Shouting(word="hey", shout="field")
    assert (example.shout(), example["shout"], example.shout()) == ("HEY", "field", "HEY")


# --- equality and hashing ---


def test_equality_is_that_of_fields():
    """Marks and order do not count, and other types are not equal."""
    assert Example(a=1, b=2) == Example(b=2, a=1).with_inputs("a")
    assert Example(a=1) != Example(a=2)
    assert Example(a=1) != {"a": 1}
    assert Prediction(a=1) == Example(a=1)


@given(FIELDS)
def test_equal_examples_hash_alike(fields):
    """With nested lists and dicts, in whatever order."""
    again = dict(reversed(copy.deepcopy(fields).items()))
    assert hash(Example(fields)) == hash(Example(again))
    assert len({Example(fields), Example(again)}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1], [1.0]),
        ({"a": [1]}, {"a": [True]}),
        (bytearray(b"a"), b"a"),
        ({1}, frozenset({1})),
        ((1, {2}), (1, frozenset({2}))),
    ],
)
def test_equal_values_of_different_types_hash_alike(one, other):
    """What Python holds for equal counts as equal."""
    assert Example(a=one) == Example(a=other)
    assert hash(Example(a=one)) == hash(Example(a=other))


def test_hashing_tells_different_examples_apart():
    """Contents count, not types alone."""
    assert len({hash(Example(a=[n, {"b": n}])) for n in range(100)}) > 90


# --- looks ---


def test_repr_is_dspys():
    """Fields, then what is marked, in one order."""
    assert repr(Example(a=1)) == str(Example(a=1)) == "Example({'a': 1}) (input_keys=None)"
    assert repr(Example(a=1).with_inputs("b", "a")) == "Example({'a': 1}) (input_keys={'a', 'b'})"
    assert repr(Example(a=1).with_inputs()) == "Example({'a': 1}) (input_keys=set())"
