"""Components of WebAssembly: values of their types in and out, instances, tools, programs of WASI 0.2."""

import pytest

from dspex import CodeExecutor, ResourceLimits

_MODULE = """(core module $m
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (block $enough (loop $more
        (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (drop (memory.grow (i32.const 16))) (br $more)))
      (local.get $at))
    FUNC)
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "realloc" (core func $realloc))"""


def echoing(kind, flat, *, definition="", direct=False):
    """A component whose function `echo` gives back its argument, which crosses as these core values, at these places in memory."""
    params = " ".join(core for core, _ in flat)
    if direct:
        func = f'(func (export "echo") (param {params}) (result {params}) (local.get 0))'
    else:
        stores = "".join(f"({core}.store (i32.const {place}) (local.get {n}))" for n, (core, place) in enumerate(flat))
        func = f'(func (export "echo") (param {params}) (result i32) {stores} (i32.const 0))'
    named = f'(type $defined {definition}) (export $named "t" (type $defined))' if definition else ""
    return f"""(component {_MODULE.replace("FUNC", func)} {named}
      (func (export "echo") (param "x" {kind}) (result {kind})
        (canon lift (core func $i "echo") (memory $memory) (realloc $realloc))))"""


PAIR = [("i32", 0), ("i32", 4)]
RECORD = '(record (field "first-name" string) (field "age" u32))'
VARIANT = '(variant (case "nothing") (case "count" u32) (case "name" string))'
ECHOES = [
    (echoing("bool", [("i32", 0)], direct=True), [True, False], ["yes", 1]),
    (echoing("u8", [("i32", 0)], direct=True), [0, 255], [256, -1, True, "1"]),
    (echoing("s8", [("i32", 0)], direct=True), [-128, 127], [128]),
    (echoing("s64", [("i64", 0)], direct=True), [-(2**63), 2**63 - 1], [2**63]),
    (echoing("u64", [("i64", 0)], direct=True), [2**64 - 1], [-1, 2**64]),
    (echoing("f64", [("f64", 0)], direct=True), [1.5, float("inf"), -0.0], ["x", True]),
    (echoing("char", [("i32", 0)], direct=True), ["a", "€", "😀"], ["", "ab", 1]),
    (echoing("string", PAIR), ["", "plain", "ü € 😀", "x" * 3_000_000], [1, None]),
    (echoing("(list u8)", PAIR), [b"", b"\x00\xff" * 1000], ["text", [256]]),
    (echoing("(list s32)", PAIR), [[], [1, -2, 3]], [[1, "2"], 3]),
    (echoing("(list string)", PAIR), [["a", "ü"]], [["a", 1]]),
    (echoing("(tuple string u32)", [*PAIR, ("i32", 8)]), [("a", 1)], [("a",), ("a", "b")]),
    (
        echoing("$named", [*PAIR, ("i32", 8)], definition=RECORD),
        [{"first-name": "Ada", "age": 36}],
        [{"first-name": "Ada"}, {"first-name": "Ada", "age": "36"}, ["Ada", 36]],
    ),
    (
        echoing("$named", [("i32", 0), *[("i32", 4), ("i32", 8)]], definition=VARIANT),
        ["nothing", {"count": 3}, {"name": "x"}],
        ["other", {"count": "3"}, 3],
    ),
    (echoing("$named", [("i32", 0)], definition='(enum "red" "green")', direct=True), ["red", "green"], ["blue", 0]),
    (
        echoing("$named", [("i32", 0)], definition='(flags "read" "write")', direct=True),
        [set(), {"read", "write"}],
        [{"run"}, "read"],
    ),
    (echoing("(option u32)", PAIR), [None, 7], ["7"]),
    (
        echoing("(result u32 (error string))", [("i32", 0), ("i32", 4), ("i32", 8)]),
        [{"ok": 1}, {"err": "no"}],
        [{"bad": 1}, {"ok": "x"}, 1],
    ),
    (echoing("(list (list (option u32)))", PAIR), [[[None, 1], []]], [[[None, "1"]]]),
]


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor("wasm", limits=ResourceLimits(wall=20)) as made:
        yield made


@pytest.mark.parametrize(("component", "values", "wrong"), ECHOES, ids=range(len(ECHOES)))
def test_values_of_every_type_come_back(executor, component, values, wrong):
    """Nothing is lost; and what does not fit its type is told, with the place."""
    for value in values:
        found = executor.execute(component, {"call": "echo", "x": value}).unwrap()
        assert (found, type(found)) == (value, type(value))
    for value in wrong:
        error = executor.execute(component, {"call": "echo", "args": [value]}).error
        assert (error.kind, error.type) == ("runtime", "TypeError"), error
        assert error.message.startswith("x")


def test_a_field_may_be_written_as_in_python(executor):
    """`first_name` is `first-name`."""
    component = echoing("$named", [*PAIR, ("i32", 8)], definition=RECORD)
    found = executor.execute(component, {"call": "echo", "x": {"first_name": "Ada", "age": 36}}).unwrap()
    assert found == {"first-name": "Ada", "age": 36}


NESTED = """(component
  (core module $m (func (export "twice") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2))))
  (core instance $i (instantiate $m))
  (func $twice (param "n" u32) (result u32) (canon lift (core func $i "twice")))
  (instance $math (export "twice" (func $twice)))
  (export "example:numbers/math@1.0.0" (instance $math)))"""


def test_functions_in_instances_are_called_by_both_names(executor):
    """The instance's, `#`, and the function's; what there is stands in the error for what there is not."""
    assert executor.execute(NESTED, {"call": "example:numbers/math@1.0.0#twice", "n": 21}).unwrap() == 42
    for name in ("twice", "example:numbers/math@1.0.0#thrice", "other#twice", "#", "", "a\0b"):
        error = executor.execute(NESTED, {"call": name, "n": 21}).error
        assert (error.kind, error.type) == ("runtime", "NameError"), name
        assert "it exports example:numbers/math@1.0.0" in error.message
    error = executor.execute(NESTED, {"call": "example:numbers/math@1.0.0#twice"}).error
    assert "takes 1 arguments, 0 are given" in error.message


def importing(declared, used):
    return f"""(component
  {declared}
  (core func $lowered (canon lower {used}))
  (core module $m
    (import "host" "look-up" (func $f (param i32) (result i32)))
    (func (export "main") (param i32) (result i32) (call $f (local.get 0))))
  (core instance $i (instantiate $m (with "host" (instance (export "look-up" (func $lowered))))))
  (func (export "main") (param "n" u32) (result u32) (canon lift (core func $i "main"))))"""


@pytest.mark.parametrize(
    "component",
    [
        importing('(import "look-up" (func $f (param "n" u32) (result u32)))', "(func $f)"),
        importing(
            '(import "example:host/api" (instance $api (export "look-up" (func (param "n" u32) (result u32)))))',
            '(func $api "look-up")',
        ),
    ],
    ids=["alone", "in an instance"],
)
def test_tools_are_imports_by_their_names(executor, component):
    """A dash of the component's is an underscore of Python's. What a tool gives must fit; what it raises is the program's error."""

    def look_up(n):
        return {1: 10, 2: "ten"}[n]

    assert executor.execute(component, {"n": 1}, tools=[look_up]).unwrap() == 10
    error = executor.execute(component, {"n": 2}, tools=[look_up]).error
    assert (error.type, "what the tool returned is 'ten'" in error.message) == ("TypeError", True)
    assert executor.execute(component, {"n": 3}, tools=[look_up]).error.type == "KeyError"
    error = executor.execute(component, {"n": 1}).error
    assert (error.kind, error.type, "look_up" in error.message) == ("syntax", "LinkError", True)


def test_sessions_keep_the_instance(executor):
    """State in a component lives on, and so does a trap's end of one call."""
    component = """(component
      (core module $m (global $n (mut i32) (i32.const 0))
        (func (export "next") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))
      (core instance $i (instantiate $m))
      (func (export "next") (result u32) (canon lift (core func $i "next"))))"""
    with executor.session() as session:
        assert [session.execute(component, {"call": "next"}).value] == [1]
        assert [session.execute("", {"call": "next"}).value for _ in range(3)] == [2, 3, 4]
        assert session.execute("", {"call": "no"}).error.type == "NameError"
        assert session.execute("", {"call": "next"}).value == 5


def test_limits_hold_for_components_too():
    """A loop ends at the deadline, or when the fuel is used up; memory is bounded; a trap has its name."""

    def running(body, memory=""):
        return f"""(component (core module $m {memory} (func (export "main") {body}))
          (core instance $i (instantiate $m)) (func (export "main") (canon lift (core func $i "main"))))"""

    endless = running("(loop (br 0))")
    greedy = running("(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable", "(memory 1)")
    with CodeExecutor("wasm", limits=ResourceLimits(wall=1, memory="64MiB")) as executor:
        assert executor.execute(endless).error.kind == "timeout"
        assert executor.execute(greedy).error.kind == "memory_limit"
        assert executor.execute(running("unreachable")).error.type == "UNREACHABLE"
        with executor.session() as session:
            session.execute(running(""))
            assert session.execute(endless).error.kind == "timeout"
    with CodeExecutor("wasm", fuel=10_000) as executor:
        error = executor.execute(endless).error
        assert (error.kind, error.type) == ("cpu_limit", "OutOfFuel")


def test_what_cannot_be_read_or_has_no_memory_is_told(executor):
    """As of modules: kind `syntax`; and `write` and `read` are for modules."""
    error = executor.execute("(component (core module $m (func $no)))\n(oops").error
    assert error.kind == "syntax"
    assert executor.execute(b"\0asm\x0d\0\x01\0rubbish").error.kind == "syntax"
    error = executor.execute(NESTED, {"call": "example:numbers/math@1.0.0#twice", "args": [1], "read": [0, 1]}).error
    assert "exports no memory" in error.message
