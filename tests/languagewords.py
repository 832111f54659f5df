"""The programs of the conformance suite in the words of the languages that come with dspex."""

import dataclasses

from dspex.testing import Words

PYTHON = Words(
    add="x + y",
    out_and_err="import sys\nprint('to out')\nprint('to err', file=sys.stderr)",
    raises="def f():\n    # here\n    raise ValueError('wrong')\nf()",
    raised="ValueError",
    unreadable="x = 1\nx = = 2",
    endless="while True: pass",
    greedy="a = []\nwhile True: a.append(bytearray(1 << 20))",
    flood="while True: print('x' * 1000)",
    text_of="'x' * n",
    write="open('out.txt', 'w').write('written')",
    read="open('data.txt', encoding='utf-8').read()",
    fill_disk="open('big', 'wb').write(bytes(32 << 20))",
    leave_file="open('left.txt', 'w').close()",
    found="import os\nos.path.exists('left.txt')",
    exit_zero="import sys\nsys.exit(0)",
    define=("import math\na = 2", "def f(n):\n    return n * a", "class C:\n    x = 19", "from os import sep"),
    use="f(C.x) + math.floor(4.5) if sep else 0",
    fail="a += undefined",
    call="double(21)",
    call_failing="try:\n    refuse(1)\nexcept ValueError as error:\n    r = str(error)\nr",
    call_apart="import asyncio\nsum(await asyncio.gather(double(10), double(11)))",
    awaited="import asyncio\nawait asyncio.sleep(0, 42)",
    show="class H:\n    def _repr_html_(self): return '<b>shown</b>'\ndisplay(H())",
)

JAVASCRIPT = Words(
    add="x + y",
    out_and_err="console.log('to out')\nconsole.error('to err')",
    raises="function f() {\n  // here\n  throw new RangeError('wrong')\n}\nf()",
    raised="RangeError",
    unreadable="let x = 1\nx = = 2",
    endless="for (;;) {}",
    greedy="const a = []; for (;;) a.push(new Array(10000).fill(1.5))",
    flood="for (;;) console.log('x'.repeat(1000))",
    text_of="'x'.repeat(n)",
    write="require('fs').writeFileSync('out.txt', 'written')",
    read="require('fs').readFileSync('data.txt', 'utf8')",
    fill_disk="require('fs').writeFileSync('big', Buffer.alloc(32 << 20))",
    leave_file="require('fs').writeFileSync('left.txt', '')",
    found="require('fs').existsSync('left.txt')",
    exit_zero="process.exit(0)",
    define=(
        "import fs from 'node:fs'\nlet a = 2",
        "function f(n) { return n * a }",
        "class C { static x = 19 }",
        "const { sep } = require('path')",
    ),
    use="f(C.x) + (fs.existsSync('nothing') ? 0 : 4) * (sep ? 1 : 0)",
    fail="a += notDefined",
    call="await double(21)",
    call_failing="let r; try { await refuse(1) } catch (error) { r = error.message }; r",
    call_apart="const [p, q] = await Promise.all([double(10), double(11)]); p + q",
    awaited="await new Promise((resolve) => setTimeout(() => resolve(42), 5))",
    show="display({ 'text/html': '<b>shown</b>' })",
)

ELIXIR = Words(
    add="x + y",
    out_and_err='IO.puts("to out")\nIO.puts(:stderr, "to err")',
    raises='defmodule F do\n  def f do\n    raise ArgumentError, "wrong"\n  end\nend\nF.f()',
    raised="ArgumentError",
    unreadable="x = 1\nx = = 2",
    endless="Enum.each(Stream.cycle([1]), fn x -> x end)",
    greedy="Enum.reduce(Stream.iterate(1, &(&1 + 1)), [], fn x, all -> [List.duplicate(x, 1000) | all] end)",
    flood='Enum.each(Stream.cycle([1]), fn _ -> IO.puts(String.duplicate("x", 1000)) end)',
    text_of='String.duplicate("x", n)',
    write='File.write!("out.txt", "written")',
    read='File.read!("data.txt")',
    fill_disk='File.write!("big", :binary.copy(<<0>>, 33554432))',
    leave_file='File.touch!("left.txt")',
    found='File.exists?("left.txt")',
    exit_zero="exit(:normal)",
    define=(
        "import Enum, only: [sum: 1]\na = 2",
        "f = fn n -> n * a end",
        "defmodule C do\n  defstruct x: 19\n  def x, do: %C{}.x\nend",
        "alias String, as: S",
    ),
    use='f.(C.x()) + sum([1, 3]) * String.to_integer(S.trim(" 1 "))',
    fail='raise "no"',
    call="double(21)",
    call_failing="try do\n  refuse(1)\nrescue\n  error -> Exception.message(error)\nend",
    call_apart="[10, 11] |> Enum.map(&Task.async(fn -> double(&1) end)) |> Task.await_many() |> Enum.sum()",
    awaited="Task.await(Task.async(fn -> 42 end))",
    show='display(%{"text/html" => "<b>shown</b>"})',
)

ERLANG = Words(
    add="X + Y.",
    echo="X.",
    number="42",
    out_and_err='io:format("to out~n"),\nio:format(standard_error, "to err~n", []).',
    raises="f() ->\n  %% here\n  error(wrong).\nf().",
    raised="wrong",
    unreadable="X = 1,\nY = = 2.",
    endless="F = fun F() -> F() end,\nF().",
    greedy="F = fun F(All) -> F([lists:duplicate(1000, x) | All]) end,\nF([]).",
    flood='F = fun F() -> io:format("~s~n", [lists:duplicate(1000, $x)]), F() end,\nF().',
    text_of='binary:copy(<<"x">>, N).',
    write='ok = file:write_file("out.txt", "written").',
    read='{ok, Text} = file:read_file("data.txt"),\nText.',
    fill_disk='ok = file:write_file("big", binary:copy(<<0>>, 33554432)).',
    leave_file='ok = file:write_file("left.txt", "").',
    found='filelib:is_file("left.txt").',
    exit_zero="exit(normal).",
    define=("A = 2.", "f(N) -> N * 2.", "-record(c, {x = 19}).", "-import(lists, [sum/1]).\ng(L) -> sum(L)."),
    use="C = #c{},\nf(C#c.x) + g([1, 1]) + A.",
    fail="error(no).",
    call="double(21).",
    call_failing="try refuse(1) catch error:{tool_error, _, Message} -> Message end.",
    call_apart="Me = self(),\n[spawn(fun() -> Me ! double(N) end) || N <- [10, 11]],\n"
    "lists:sum([receive Twice -> Twice end || _ <- [10, 11]]).",
    awaited="erlang:send_after(5, self(), 42),\nreceive Answer -> Answer end.",
    show='display(#{<<"text/html">> => <<"<b>shown</b>">>}).',
)


def _wasi(body, *, data=""):
    """A module that writes: `write` takes a descriptor, and where a text lies and how long it is."""
    return f"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) {data}
  (func $write (param i32 i32 i32)
    (i32.store (i32.const 0) (local.get 1)) (i32.store (i32.const 4) (local.get 2))
    (drop (call $fd_write (local.get 0) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start") {body}))"""


_MAIN = '(module (func (export "main") {}))'
_TOOL = """(module (import "env" "{0}" (func $t (param i64) (result i64)))
  (func (export "main") (result i64) (call $t (i64.const 21))))"""

WASM = Words(
    add=_MAIN.format("(param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1))"),
    echo=_MAIN.format("(param f64) (result f64) (local.get 0)"),
    number=_MAIN.format("(result i64) (i64.const 42)"),
    out_and_err=_wasi(
        "(call $write (i32.const 1) (i32.const 16) (i32.const 7)) (call $write (i32.const 2) (i32.const 32) (i32.const 7))",
        data='(data (i32.const 16) "to out\\n") (data (i32.const 32) "to err\\n")',
    ),
    raises='(module (func $inner unreachable) (func (export "main") (call $inner)))',
    raised="UNREACHABLE",
    message="unreachable",
    unreadable='(module\n (func (export "main") (nonsense)))',
    endless=_MAIN.format("(loop (br 0))"),
    greedy='(module (memory 1) (func (export "main") '
    "(loop (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) (br 0))))",
    flood=_wasi("(loop (call $write (i32.const 1) (i32.const 64) (i32.const 4000)) (br 0))"),
    define=(
        '(module (global $n (mut i64) (i64.const 40)) (func (export "main") (result i64) '
        "(global.set $n (i64.add (global.get $n) (i64.const 1))) (global.get $n)))",
    ),
    use="",
    fail=_MAIN.format("unreachable"),
    call=_TOOL.format("double"),
    call_failing=_TOOL.format("refuse"),
)

QUICKJS = dataclasses.replace(
    JAVASCRIPT,
    write="writeFile('out.txt', 'written')",
    read="readFile('data.txt')",
    fill_disk="writeFile('big', 'x'.repeat(32 << 20))",
    leave_file="writeFile('left.txt', '')",
    found="fileExists('left.txt')",
    define=("let a = 2", "function f(n) { return n * a }", "class C { static x = 19 }"),
    use="f(C.x) + 4",
    fail="notDefined + 1",
    call="double(21)",
    call_failing="let r; try { refuse(1) } catch (error) { r = error.message }; r",
)

RUST = Words(
    add="x + y",
    out_and_err='println!("to out");\neprintln!("to err");',
    raises='fn f() -> i32 {\n    // here\n    panic!("wrong")\n}\nf()',
    raised="panic",
    unreadable="let x = 1;\nlet y: String = x;\ny",
    endless="let mut n = 0u64;\nloop { n = std::hint::black_box(n + 1); }",
    greedy="let mut all = vec![];\nloop { all.push(vec![1u8; 1 << 20]); }",
    flood='loop { println!("{}", "x".repeat(1000)); }',
    text_of='"x".repeat(n as usize)',
    write='std::fs::write("out.txt", "written")?;',
    read='std::fs::read_to_string("data.txt")?',
    fill_disk='std::fs::write("big", vec![0u8; 32 << 20])?;',
    leave_file='std::fs::write("left.txt", "")?;',
    found='std::path::Path::new("left.txt").exists()',
    exit_zero="std::process::exit(0)",
    call="double!(21)",
    call_failing='try_call("refuse", &[json(&1)]).err().map(|error| error.to_string())',
    show='display("text/html", "<b>shown</b>");',
)
