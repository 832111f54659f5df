"""Predictors: what they hold, how they call, and their state in DSPy's layout."""

import asyncio

import pytest

from dspex import Example, Prediction, Predictor, Signature
from dspex.errors import StateError, StateMismatchError, UsageError
from programs import echo


def test_a_predictor_calls_its_function():
    """With itself and the inputs; a mapping becomes a Prediction, all else stays what it is."""
    predictor = Predictor("question -> answer", call=lambda p, question: {"answer": (p.config["n"], question)}, n=2)
    assert predictor(question="q") == Prediction(answer=(2, "q"))
    assert Predictor("a -> b", call=lambda p, a: 5)(a=1) == 5


def test_an_async_function_is_awaited():
    """By `acall`; a plain call says so."""

    async def call(predictor, a):
        return {"b": a}

    predictor = Predictor("a -> b", call=call)
    assert asyncio.run(predictor.acall(a=1)).b == 1
    with pytest.raises(UsageError, match="acall"):
        predictor(a=1)
    assert asyncio.run(Predictor("a -> b", call=echo).acall(a=1)).b == "b of [('a', 1)]"


def test_wrong_calls_are_named():
    """Without a function, or with positional inputs."""
    with pytest.raises(UsageError, match="call=function"):
        Predictor("a -> b")(a=1)
    with pytest.raises(UsageError, match=r"predictor\(a=\.\.\.\)"):
        Predictor("a -> b", call=echo)(1)


def test_signatures_are_read_as_dspy_reads_them():
    """Types stay text; prefixes, descriptions and instructions are DSPy's."""
    predictor = Predictor("longQuestion, context: dict[str, list[int]] -> answer_2: int, URL")
    assert [field.name for field in predictor.fields] == ["longQuestion", "context", "answer_2", "URL"]
    assert [field.prefix for field in predictor.fields] == ["Long Question:", "Context:", "Answer 2:", "URL:"]
    assert [field.type for field in predictor.fields] == ["str", "dict[str, list[int]]", "int", "str"]
    assert predictor.fields[0].description == "${longQuestion}"
    assert predictor.instructions == (
        "Given the fields `longQuestion`, `context`, produce the fields `answer_2`, `URL`."
    )
    assert str(predictor.signature) == "longQuestion, context: dict[str, list[int]] -> answer_2: int, URL"
    again = Predictor(predictor.signature, instructions="Think.")
    assert isinstance(again.signature, Signature)
    assert again.instructions == "Think."


@pytest.mark.parametrize("text", ["", "a", "a ->", "a -> b -> c", "a, a -> b", "1a -> b", "a b -> c", 5])
def test_a_wrong_signature_is_named(text):
    """Whatever is wrong with it."""
    with pytest.raises(UsageError):
        Predictor(text)


def full():
    predictor = Predictor("q -> a", temperature=0.5)
    predictor.demos = [Example(q="1", a=[{"x": 2}]).with_inputs("q"), {"q": "2", "a": 3}]
    predictor.lm = {"model": "m", "api_key": "secret", "temperature": 1.0}
    predictor.instructions = "Think."
    predictor.traces, predictor.train = [{"t": 1}], [1]
    return predictor


def test_the_state_has_dspys_layout():
    """The keys and the fields are those of `dspy.Predict`; secrets are left out."""
    assert full().dump_state(like_dspy=True) == {
        "traces": [{"t": 1}],
        "train": [1],
        "demos": [{"q": "1", "a": [{"x": 2}]}, {"q": "2", "a": 3}],
        "signature": {
            "instructions": "Think.",
            "fields": [
                {"name": "q", "prefix": "Q:", "description": "${q}"},
                {"name": "a", "prefix": "A:", "description": "${a}"},
            ],
        },
        "lm": {"model": "m", "temperature": 1.0},
    }


def test_a_state_loads_into_another_predictor():
    """Everything comes back, configuration and the marks of demos too, and nothing is shared."""
    source, target = full(), Predictor("q -> a")
    state = source.dump_state()
    assert target.load_state(state) == ()
    assert target.dump_state() == state
    assert target.demos[0].input_keys == frozenset({"q"})
    assert target.config == {"temperature": 0.5}
    state["demos"][0]["a"][0]["x"] = "changed"
    assert target.demos[0].a == [{"x": 2}]


def test_fields_are_matched_by_name():
    """A signature whose fields were reordered gets each its own description; DSPy's file has no names."""
    source, target = Predictor("a, b -> c"), Predictor("b, a -> c")
    state = source.dump_state()
    for field in state["signature"]["fields"]:
        field["description"] = f"about {field['name']}"
    target.load_state(state)
    assert [field.description for field in target.fields] == ["about b", "about a", "about c"]
    for field in state["signature"]["fields"]:
        del field["name"]
    target.load_state(state)
    assert [field.description for field in target.fields] == ["about a", "about b", "about c"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"evil_attr": 1}, "evil_attr"),
        ({"forward": 1}, "forward"),
        ({"demos": 1}, "demos"),
        ({"demos": [1]}, "demos[0]"),
        ({"demos": [{1: 2}]}, "demos[0]"),
        ({"signature": {}}, "signature"),
        ({"signature": {"instructions": "x", "fields": []}}, "signature.fields"),
        ({"signature": {"instructions": "x", "fields": [1, 2]}}, "signature.fields[0]"),
        ({"lm": 1}, "lm"),
        ({"config": 1}, "config"),
        ({"traces": {}}, "traces"),
        ({"demo_inputs": [1]}, "demo_inputs"),
        ({"fields": []}, "fields"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(change, path):
    """Injected attributes and wrong types are refused, by path."""
    predictor = full()
    before = dict(vars(predictor))
    with pytest.raises(StateMismatchError) as caught:
        predictor.load_state({**Predictor("q -> a").dump_state(), **change})
    assert caught.value.mismatches[0][0] == path
    assert vars(predictor) == before
    skipped = predictor.load_state({**Predictor("q -> a").dump_state(), **change}, strict=False)
    assert path in [place for place, _ in skipped]


@pytest.mark.parametrize("state", [None, 1, [], "x", {}])
def test_a_state_that_is_none_is_refused(state):
    """Whatever it is."""
    with pytest.raises(StateMismatchError):
        Predictor("a -> b").load_state(state)


@pytest.mark.parametrize("key", ["api_base", "base_url", "model_list"])
@pytest.mark.parametrize("part", ["lm", "config"])
def test_where_prompts_are_sent_does_not_come_from_a_state(key, part, caplog):
    """Neither by the model settings nor by the configuration, unless the state is trusted."""
    state = {**Predictor("a -> b").dump_state(), part: {"model": "m", key: "http://elsewhere"}}
    predictor = Predictor("a -> b")
    predictor.load_state(state)
    assert getattr(predictor, part) == {"model": "m"}
    assert key in caplog.text
    predictor.load_state(state, allow_unsafe_lm_state=True)
    assert getattr(predictor, part)[key] == "http://elsewhere"


def test_loading_is_repeatable():
    """DSPy dies after 140 loads of the same program."""
    predictor = full()
    state = predictor.dump_state()
    for _ in range(300):
        predictor.load_state(state)
    assert predictor.dump_state() == state


def test_what_is_no_plain_data_is_named_on_dumping():
    """A demo that holds an object names its place."""
    predictor = Predictor("a -> b")
    predictor.demos = [{"a": [1, object()]}]
    with pytest.raises(StateError, match=r"demos\[0\]\['a'\]\[1\]"):
        predictor.dump_state()


def test_model_settings_may_be_an_object_that_dumps_itself():
    """As DSPy's LM does."""

    class Lm:
        def dump_state(self):
            return {"model": "m", "api_key": "secret"}

    predictor = Predictor("a -> b")
    predictor.lm = Lm()
    assert predictor.dump_state()["lm"] == {"model": "m"}
    predictor.lm = object()
    with pytest.raises(StateError, match="lm"):
        predictor.dump_state()
