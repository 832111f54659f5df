"""Files: states in every format, whole programs only for who trusts their code."""

import json
import pathlib
import subprocess
import sys

import pytest

import dspex
from dspex import Module, Parameter, Predictor, diff
from dspex.errors import StateError, StateFormatError, StateMismatchError, UsageError
from programs import Answer, with_demos

NAMES = [f"state{suffix}{compression}" for suffix in (".json", ".msgpack", ".etf") for compression in ("", ".gz")]


@pytest.mark.parametrize("name", NAMES)
def test_a_program_comes_back_from_every_file(tmp_path, name):
    """Whatever the format."""
    source, target = with_demos(Answer()), Answer()
    source.save(tmp_path / name)
    assert target.load(tmp_path / name) == ()
    assert not diff(source, target)
    assert target.search.demos[0].input_keys == frozenset({"question"})


def test_a_predictor_alone_is_saved_and_loaded(tmp_path):
    """The root may be a leaf."""
    source, target = Predictor("a -> b", n=1), Predictor("a -> b")
    source.save(tmp_path / "p.json")
    target.load(tmp_path / "p.json")
    assert target.config == {"n": 1}


def test_a_file_of_a_newer_schema_is_refused(tmp_path):
    """A predictor's as well as a program's, and both versions are named."""
    for program in (Answer(), Predictor("a -> b")):
        program.save(tmp_path / "new.json", format="dspy")
        state = json.loads((tmp_path / "new.json").read_text())
        state["metadata"]["dspex"] |= {"schema": 2, "version": "9.9"}
        (tmp_path / "new.json").write_text(json.dumps(state))
        with pytest.raises(StateFormatError, match=r"9\.9"):
            program.load(tmp_path / "new.json")


def test_dspys_layout_is_written_and_read(tmp_path):
    """Plain JSON: paths, Predict's keys, and the versions that DSPy looks for."""
    source, target = with_demos(Answer()), Answer()
    path = tmp_path / "state.json"
    source.save(path, format="dspy")
    written = json.loads(path.read_text())
    assert list(written) == ["search", "steps['main'][0]", "metadata"]
    assert set(written["search"]) == {"traces", "train", "demos", "signature", "lm"}
    assert set(written["metadata"]["dependency_versions"]) == {"python"}
    target.load(path)
    assert target.search.demos == source.search.demos


def test_a_file_of_dspys_own_is_read(tmp_path):
    """Without names of fields, and with versions of which we know nothing."""
    fields = [{"prefix": "Question:", "description": "asked"}, {"prefix": "Answer:", "description": "${answer}"}]
    state = {
        "predict": {
            "traces": [],
            "train": [],
            "demos": [{"question": "1", "answer": "2"}],
            "signature": {"instructions": "Think.", "fields": fields},
            "lm": None,
        },
        "metadata": {"dependency_versions": {"python": "3.9", "dspy": "2.6.0", "cloudpickle": "3.0"}},
    }
    (tmp_path / "dspy.json").write_text(json.dumps(state))
    module = Module()
    module.predict = Predictor("question -> answer")
    module.load(tmp_path / "dspy.json")
    assert module.predict.instructions == "Think."
    assert module.predict.fields[0].description == "asked"
    assert module.predict.demos[0].answer == "2"


def test_a_save_that_fails_leaves_the_file(tmp_path):
    """DSPy leaves an empty one."""
    path = tmp_path / "state.json"
    program = with_demos(Answer())
    program.save(path)
    before = path.read_bytes()
    program.search.demos.append({"x": object()})
    with pytest.raises(StateError, match=r"demos\[2\]"):
        program.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\x80\x04N.", b"\xff" * 40])
def test_damaged_and_foreign_files_change_nothing(tmp_path, data):
    """One error that names the file, or what does not fit."""
    path = tmp_path / "state.json"
    path.write_bytes(data)
    program = with_demos(Answer())
    before = program.dump_state(metadata=False)
    with pytest.raises((StateFormatError, StateMismatchError)):
        program.load(path)
    assert program.dump_state(metadata=False) == before


def test_arrays_cross_files(tmp_path):
    """With their kind and shape."""
    numpy = pytest.importorskip("numpy")
    source, target = Module(), Module()
    source.w, target.w = Parameter(numpy.arange(6.0).reshape(2, 3)), Parameter(numpy.zeros((2, 3)))
    source.save(tmp_path / "w.json")
    target.load(tmp_path / "w.json")
    assert (target.w.value == source.w.value).all()
    target.w.value = numpy.zeros((3, 2))
    with pytest.raises(StateMismatchError, match=r"w\.value"):
        target.load(tmp_path / "w.json")


class TestWholePrograms:
    """Code and state."""

    @pytest.fixture(autouse=True)
    def _needs_cloudpickle(self):
        pytest.importorskip("cloudpickle")

    def test_a_program_comes_back_for_who_trusts_it(self, tmp_path):
        """Its class need not be importable, when it is saved by value."""
        (tmp_path / "shop.py").write_text("import dspex\nclass Shop(dspex.Module):\n    def forward(self): return 42\n")
        code = (
            "import shop; m = shop.Shop(); m.x = [1]; m.save('whole', save_program=True, modules_to_serialize=[shop])"
        )
        source = str(pathlib.Path(dspex.__file__).parents[1])
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": f"{source}:{tmp_path}"}, check=True
        )
        loaded = dspex.load(tmp_path / "whole", trust="code")
        assert (loaded(), loaded.x) == (42, [1])

    @pytest.mark.parametrize("trust", [None, "state", True])
    def test_nothing_is_loaded_without_trust(self, tmp_path, trust):
        """No code runs."""
        Answer().save(tmp_path / "whole", save_program=True)
        with pytest.raises(UsageError, match='trust="code"'):
            dspex.load(tmp_path / "whole", trust=trust)

    def test_a_pickled_state_needs_leave(self, tmp_path):
        """DSPy's `.pkl` holds code too."""
        source, target = with_demos(Answer()), Answer()
        source.save(tmp_path / "s.pkl")
        with pytest.raises(UsageError, match="allow_pickle"):
            target.load(tmp_path / "s.pkl")
        target.load(tmp_path / "s.pkl", allow_pickle=True)
        assert target.search.demos == source.search.demos

    def test_what_cannot_be_pickled_is_named(self, tmp_path):
        """And leaves what was there."""
        program = Answer()
        program.generator = (i for i in ())
        with pytest.raises(StateError, match="generator"):
            program.save(tmp_path / "whole", save_program=True)
        assert not list(tmp_path.iterdir())

    def test_a_file_is_no_directory(self, tmp_path):
        """Whole programs go to a directory."""
        with pytest.raises(UsageError, match="directory"):
            Answer().save(tmp_path / "whole.json", save_program=True)

    def test_a_damaged_program_is_named(self, tmp_path):
        """The file, and the cause."""
        Answer().save(tmp_path / "whole", save_program=True)
        (tmp_path / "whole" / "program.pkl").write_bytes(b"damaged")
        with pytest.raises(StateFormatError, match=r"program\.pkl"):
            dspex.load(tmp_path / "whole", trust="code")
