"""Every language against its bare runtime, in turns in one run."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import tempfile
import time

from benchmarks.table import Row, median, milliseconds
from dspex import CodeExecutor, ResourceLimits

_PAUSE = 0.5  # seconds in which the pool makes another guest
_ROUNDS = 15
_WAT = '(module (func (export "main") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'
_FIB = "const f = (n) => n < 2 ? n : f(n - 1) + f(n - 2); let t = performance.now(); f(36); t = performance.now() - t; "
_ROWS = [{"id": i, "name": f"user {i}", "tags": ["a", "b", "c"], "score": i + 0.5} for i in range(125_000)]
# What node itself takes to parse and print the same data, in milliseconds.
_NODE_JSON = (
    "const s = JSON.stringify(x); let t = performance.now(); JSON.stringify(JSON.parse(s)); performance.now() - t"
)
_BEAM_JSON = os.path.join(os.path.dirname(__file__), "own_json.exs")


def _timed(action):
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _turns(ours, theirs, *, rounds=_ROUNDS, pause=_PAUSE):
    """Seconds of each, one after the other, with time for the pool in between."""
    times = [], []
    for _ in range(rounds):
        time.sleep(pause)
        times[0].append(_timed(ours))
        times[1].append(_timed(theirs))
    return times


def _row(figure, ours, theirs, bar, *, faster=True):
    ratio = median(theirs) / median(ours) if faster else median(ours) / median(theirs)
    return Row(figure, milliseconds(ours), milliseconds(theirs), ratio, bar)


def _spawned(*command):
    return lambda: subprocess.run(command, capture_output=True, check=True)


def _javascript():
    with CodeExecutor("javascript", max_concurrency=2) as executor:
        node = executor.language._node
        executor.execute("1+1")
        time.sleep(2)
        yield _row(
            "javascript: fresh `1+1` / `node -e`",
            *_turns(lambda: executor.execute("1+1").unwrap(), _spawned(node, "-e", "1+1")),
            ">= 20",
        )
        inside, outside = [], []
        for _ in range(7):
            with executor.session() as session:
                session.execute("1")
                time.sleep(_PAUSE)  # the pool makes another guest meanwhile, not while the program computes
                inside.append(session.execute(_FIB + "t").unwrap() / 1000)
            outside.append(
                float(subprocess.run([node, "-e", _FIB + "console.log(t)"], capture_output=True, check=True).stdout)
                / 1000
            )
        yield _row("javascript: CPU-bound / node outside", inside, outside, "<= 1.05", faster=False)


def _quickjs():
    rates = {"quickjs": [], "python": []}
    with CodeExecutor("javascript", runtime="quickjs") as quickjs, CodeExecutor("python") as python:
        for _ in range(4):
            for name, executor in (("quickjs", quickjs), ("python", python)):
                seconds = _timed(lambda each=executor: [result.unwrap() for result in each.map(["1+1"] * 500)])
                rates[name].append(500 / seconds)
    ours, theirs = max(rates["quickjs"]), max(rates["python"])
    yield Row("quickjs: fresh runs a second / python's", f"{ours:.0f}/s", f"{theirs:.0f}/s", ours / theirs, ">= 0.8")


def _elixir():
    with CodeExecutor("elixir", max_concurrency=1) as executor:
        executor.execute("1 + 1")
        time.sleep(4)
        times = _turns(lambda: executor.execute("1 + 1").unwrap(), _spawned("elixir", "-e", "1 + 1"), rounds=9, pause=3)
        yield _row("elixir: fresh `1 + 1` / `elixir -e`", *times, ">= 50")
        with executor.session() as session:
            session.execute("1 + 1")
            calls = [_timed(lambda: session.execute("1 + 1").unwrap()) for _ in range(300)]
        yield Row("elixir: session call", milliseconds(calls), "1 ms", median(calls) * 1000, "<= 1")


def _rust():
    with CodeExecutor("rust", max_concurrency=2) as executor, tempfile.TemporaryDirectory() as directory:
        compiler = executor.language._toolchain.compiler
        source, bare = f"{directory}/bare.rs", f"{directory}/bare"
        with open(source, "w") as file:
            file.write('fn main() { println!("{}", 1 + 1); }')
        subprocess.run([compiler, "-o", bare, source], check=True, cwd=directory)
        executor.execute("1 + 1").unwrap()
        times = _turns(lambda: executor.execute("1 + 1").unwrap(), _spawned(bare), pause=0.1)
        yield _row("rust: cached program / spawning the bare binary", *times, "<= 4", faster=False)
        yield _row(
            "rust: a miss / bare rustc with the same prelude",
            *_turns(_missing(executor), _compiling(executor, directory), pause=0.1, rounds=9),
            "<= 1.3",
            faster=False,
        )


def _missing(executor):
    return lambda: executor.execute(f"// {os.urandom(8).hex()}\n1 + 1").unwrap()


def _compiling(executor, directory):
    """The same program by the same compiler, without a sandbox."""
    from dspex.languages import _rust_source

    plan = executor.language.plan(executor.policy, executor.limits, (), "namespaces")
    source, binary = f"{directory}/same.rs", f"{directory}/same"
    with open(source, "w") as file:
        file.write(_rust_source.wrapped("1 + 1", {}, []).text)
    return _spawned(*plan.profile["compiler"], "-C", "opt-level=0", "-o", binary, source)


def _wasm():
    import wasmtime

    engine = wasmtime.Engine()
    compiled = wasmtime.Module(engine, _WAT).serialize()

    def in_process():
        store = wasmtime.Store(engine)
        instance = wasmtime.Instance(store, wasmtime.Module.deserialize(engine, compiled), [])
        instance.exports(store)["main"](store, 1, 2)

    with CodeExecutor("wasm", max_concurrency=2) as executor:
        fresh = lambda: executor.execute(_WAT, {"x": 1, "y": 2}).unwrap()  # noqa: E731
        fresh()
        yield _row(
            "wasm: fresh instance and call / in process",
            *_turns(fresh, in_process, pause=0.1, rounds=40),
            "<= 5",
            faster=False,
        )
        with executor.session() as session:
            session.execute(_WAT, {"x": 1, "y": 2})
            times = _turns(lambda: session.execute("", {"x": 1, "y": 2}).unwrap(), in_process, pause=0.0, rounds=200)
        yield _row("wasm: call in a session / in process", *times, "", faster=False)


def _rust_data():
    """Against the same data read and written by the prelude alone, in the guest: std has no JSON."""
    limits = ResourceLimits(memory="3GiB")
    timed = "let x = json(&x);\nlet began = std::time::Instant::now();\nlet text = x.to_string();\nlet back: Json = parse(&text)?;\n"
    with CodeExecutor("rust", profile="release", limits=limits) as executor:
        own = [
            executor.execute(f"{timed}assert!(back == x);\nbegan.elapsed().as_secs_f64()", {"x": _ROWS})
            for _ in range(4)
        ]
        ours = [_timed(lambda: executor.execute("x", {"x": _ROWS}).unwrap()) for _ in range(4)]
    yield _row(
        "rust: the same rows in and out / the prelude's own parse and print",
        ours,
        [each.unwrap() for each in own],
        "<= 4",
        faster=False,
    )


def _data():
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(_ROWS, file)
        file.flush()
        beam = ("elixir", _BEAM_JSON, file.name)
        yield from _in_and_out("javascript", lambda session: session.execute(_NODE_JSON, {"x": _ROWS}).unwrap())
        yield from _in_and_out(
            "elixir", lambda session: float(subprocess.run(beam, capture_output=True, check=True).stdout)
        )


def _in_and_out(language, own):
    """Rows as variables and as the value, against the milliseconds that `own` measures."""
    ours, theirs = [], []
    with CodeExecutor(language, limits=ResourceLimits(memory="3GiB")) as executor, executor.session() as session:
        session.execute("1")
        for _ in range(5):
            theirs.append(own(session) / 1000)
            ours.append(_timed(lambda: session.execute("x", {"x": _ROWS}).unwrap()))
    size = f"{len(json.dumps(_ROWS)) / 1e6:.0f} MB"
    yield _row(f"{language}: {size} of rows in and out / its own parse and print", ours, theirs, "<= 4", faster=False)


def _portable():
    """In WebAssembly, against its engines in process; Python where its engine is installed, which takes Python 3.12."""
    engines = [("javascript", "quickjs_rs", _quickjs_in_process), ("python", "eryx", _eryx_in_process)]
    for language, package, engine in engines:
        if importlib.util.find_spec(package) is None:
            continue
        bare = engine()
        bare()
        with CodeExecutor(language, isolation="wasm", max_concurrency=2) as executor:
            fresh = lambda: executor.execute("1 + 1").unwrap()  # noqa: E731  (used before the next turn)
            fresh()
            yield _row(
                f"{language} in WebAssembly: fresh `1 + 1` / {package} in process",
                *_turns(fresh, bare, pause=1.0),
                "",
                faster=False,
            )


def _quickjs_in_process():
    import quickjs_rs

    def run():
        with quickjs_rs.Runtime() as runtime, runtime.new_context() as context:
            context.eval("1 + 1")

    return run


def _eryx_in_process():
    import eryx

    return lambda: eryx.Session().execute("result = 1 + 1")


def languages(given):
    """All of it; the pool keeps up, for there are pauses."""
    parts = (_javascript, _quickjs, _elixir, _rust, _wasm, _portable, _data, _rust_data)
    return [row for part in parts for row in part()]
