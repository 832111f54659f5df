"""Attacks in the words of the other languages, as data: what the attacker runs, and without which layers it gets through.

A program that gets through ends with the value "ESCAPED". {secret} is a file of the host that anybody may read, {target} one that
anybody may write, {port} a server on the host's loopback.
"""

from __future__ import annotations

from typing import NamedTuple


class Foreign(NamedTuple):
    """One attack; named after what the attacker cannot do."""

    language: str
    cannot: str
    code: str
    kinds: tuple[str, ...] = ()  # it must end with one of these, if any are given
    opened_by: str = ""  # the layers without which it succeeds, at level namespaces
    files: dict[str, bytes] = {}  # noqa: RUF012  (read only)
    limits: dict[str, object] = {}  # noqa: RUF012
    timeout: float = 10.0


def _js(action: str) -> str:
    return "let r; try { %s; r = 'ESCAPED' } catch (error) { r = String(error) }; r" % action  # noqa: UP031  (braces)


def _ex(condition: str) -> str:
    return f'try do\n  if ({condition}), do: "ESCAPED", else: "no"\nrescue\n  error -> inspect(error)\ncatch\n  _, error -> inspect(error)\nend'


def _er(match: str) -> str:
    return f'try\n  {match},\n  <<"ESCAPED">>\ncatch _:Reason -> Reason end.'


def _rs(condition: str) -> str:
    return f'if {condition} {{{{ "ESCAPED" }}}} else {{{{ "no" }}}}'


def _asm(number: int, *given: str) -> str:
    """A call of the kernel in machine code, past the C library."""
    places = zip(("rdi", "rsi", "rdx", "r10", "r8"), given, strict=False)
    loaded = "".join(f'in("{register}") {value}, ' for register, value in places)
    call = f'std::arch::asm!("syscall", inlateout("rax") {number}i64 => r, {loaded}out("rcx") _, out("r11") _)'
    return f"let r: i64;\nunsafe {{{{ {call} }}}};\n" + _rs("r >= 0")


_FS = "const fs = require('fs')"
_WAIT = "const r = await new Promise((done) => {{ {0}; setTimeout(() => done('silence'), 3000) }}); r"
_BOMB = '(module (memory 1) (func (export "main") (loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable))'
_TABLES = '(module (table 1 funcref) (func (export "main") (loop (br_if 0 (i32.ne (table.grow (ref.null func) (i32.const 1000000)) (i32.const -1)))) unreachable))'
_STACK = '(module (func $f (call $f)) (func (export "main") (call $f)))'
# Opens a path beneath the first preopened directory (descriptor 3), and returns WASI's error number.
_OPEN = """(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 16) "PATH")
  (func (export "main") (result i32) (call $open (i32.const 3) (i32.const LOOK) (i32.const 16) (i32.const LENGTH) (i32.const 0)
    (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8))))"""


def _opening(path: str, look: int = 0) -> str:
    return _OPEN.replace("PATH", path).replace("LENGTH", str(len(path))).replace("LOOK", str(look))


ATTACKS = (
    # --- JavaScript -----------------------------------------------------------------------------------------------------
    Foreign("javascript", "read a file of the host", _js("require('fs').readFileSync('{secret}')"), opened_by="root landlock"),
    Foreign("javascript", "write a file of the host", _js("require('fs').writeFileSync('{target}', 'x')")),
    Foreign("javascript", "list the host's root", _js("if (require('fs').readdirSync('/').includes('home')) throw 1; throw 2")),
    Foreign("javascript", "read the host's environment", _js("if (!require('fs').readFileSync('/proc/1/environ', 'latin1').includes('PYTEST')) throw 1")),
    Foreign("javascript", "start a program", _js("require('child_process').execFileSync('/proc/self/exe', ['-e', '1'])"), opened_by="seccomp"),
    Foreign("javascript", "fork", _js("if (require('child_process').fork('/dev/null').pid === undefined) throw 1")),
    Foreign("javascript", "start a program by its own binding", _js("if (process.binding('spawn_sync').spawn({ file: '/proc/self/exe', args: ['node', '-v'], stdio: [] }).error) throw 1")),
    Foreign("javascript", "start a program by internals", _js("const { internalBinding } = require('internal/test/binding'); if (internalBinding('spawn_sync').spawn({ file: '/proc/self/exe', args: ['node', '-v'], stdio: [] }).error) throw 1")),
    Foreign("javascript", "become another program", _js("process.execve('/proc/self/exe', ['node', '-p', '1'], {{}}); throw 1"), kinds=("killed", "runtime", "")),
    Foreign("javascript", "load native code", _js("process.dlopen({{ exports: {{}} }}, process.cwd() + '/a.node')"), files={"a.node": b"\x7fELF"}),
    Foreign("javascript", "run a file that it made", _js("const fs = require('fs'); fs.copyFileSync('/proc/self/exe', 'x'); fs.chmodSync('x', 0o755); require('child_process').execFileSync('./x', ['-v'])")),
    Foreign("javascript", "reach a server on loopback", _WAIT.format("require('net').connect({port}, '127.0.0.1').on('connect', () => done('ESCAPED')).on('error', (e) => done(String(e)))")),
    Foreign("javascript", "listen", _WAIT.replace("{0}", "const s = require('net').createServer().on('error', (e) => done(String(e))).listen(0, () => {{ s.close(); done('ESCAPED') }})"), opened_by="seccomp landlock"),
    Foreign("javascript", "send a datagram", _WAIT.replace("{0}", "const s = require('dgram').createSocket('udp4'); s.on('error', (e) => done(String(e))); s.send('x', {port}, '127.0.0.1', (e) => done(e ? String(e) : 'ESCAPED'))")),
    Foreign("javascript", "fetch", _js("await fetch('http://127.0.0.1:{port}/')")),
    Foreign("javascript", "resolve a name", _js("await require('dns').promises.resolve4('example.com')")),
    Foreign("javascript", "kill its neighbours", _js("process.kill(-1, 9)")),
    Foreign("javascript", "change its user", _js("process.setuid(0)")),
    Foreign("javascript", "flood with workers", "for (let i = 0; i < 500; i++) new (require('worker_threads').Worker)('setInterval(() => {{}}, 1000)', {{ eval: true }}); 'ESCAPED'", kinds=("memory_limit", "process_limit", "runtime"), timeout=20),
    Foreign("javascript", "take memory in buffers", "const a = []; for (;;) a.push(Buffer.alloc(1 << 24, 1))", kinds=("memory_limit",)),
    Foreign("javascript", "take memory in WebAssembly", "const a = []; for (;;) a.push(new Uint8Array(new WebAssembly.Memory({{ initial: 1000 }}).buffer).fill(1))", kinds=("memory_limit",)),
    Foreign("javascript", "forge the engine's answer", "require('fs').writeSync(3, Buffer.from('nonsense of sixteen and more bytes')); 1", kinds=("killed",)),
    Foreign("javascript", "hide in what outlives it", "process.on('exit', () => {{ for (;;) {{}} }}); 1", timeout=2),
    # --- Elixir ---------------------------------------------------------------------------------------------------------
    Foreign("elixir", "read a file of the host", _ex('match?({{:ok, _}}, File.read("{secret}"))'), opened_by="root landlock"),
    Foreign("elixir", "write a file of the host", _ex('File.write("{target}", "x") == :ok'), opened_by="root landlock"),
    Foreign("elixir", "read the host's environment", _ex('match?({{:ok, "PYTEST" <> _}}, File.read("/proc/1/environ"))')),
    Foreign("elixir", "run a command of a shell", _ex(":os.cmd('echo x') == 'x\\\\n'"), kinds=("policy", "")),
    Foreign("elixir", "open a port to a program", _ex('is_port(Port.open({{:spawn_executable, "/proc/self/exe"}}, []))'), kinds=("policy", ""), opened_by="seccomp"),
    Foreign("elixir", "connect to a server on loopback", _ex("match?({{:ok, _}}, :gen_tcp.connect({{127, 0, 0, 1}}, {port}, []))"), opened_by="network seccomp landlock"),
    Foreign("elixir", "listen", _ex("match?({{:ok, _}}, :gen_tcp.listen(0, []))"), opened_by="seccomp landlock"),
    Foreign("elixir", "send a datagram", _ex("match?({{:ok, _}}, :gen_udp.open(0))"), opened_by="seccomp"),
    Foreign("elixir", "become a node", _ex("match?({{:ok, _}}, :net_kernel.start([:a, :shortnames]))")),
    Foreign("elixir", "end the machine unnoticed", "System.halt(0)", kinds=("killed",)),
    Foreign("elixir", "flood with atoms", 'for i <- Stream.iterate(0, &(&1 + 1)), do: String.to_atom("a#{i}")'.replace("{i}", "{{i}}"), kinds=("memory_limit",), timeout=20),
    Foreign("elixir", "flood with processes", "Enum.each(Stream.cycle([1]), fn _ -> spawn(fn -> Process.sleep(:infinity) end) end)", kinds=("runtime", "memory_limit", "process_limit", "timeout", "killed"), timeout=5),
    Foreign("elixir", "take memory in binaries", "Enum.reduce(Stream.cycle([1]), [], fn _, all -> [:crypto.strong_rand_bytes(10_000_000) | all] end)", kinds=("memory_limit",), timeout=20),
    Foreign("elixir", "end the engine's own server", "Process.exit(Process.whereis(Dspex.Server), :kill)\nProcess.sleep(:infinity)", kinds=("timeout", "killed"), timeout=2),
    Foreign("elixir", "forge the engine's answer", "for port <- Port.list(), do: (try do Port.command(port, \"nonsense of sixteen and more\") rescue _ -> 1 end)\n1", kinds=("killed", "")),
    Foreign("elixir", "replace the engine's code", 'defmodule Dspex.Json do\n  def encode(_), do: {{"\\"ESCAPE\\"", [], false}}\nend\n1', kinds=("killed", "timeout", ""), timeout=2),
    Foreign("elixir", "read a file of the host without the file server", _ex('match?({{:ok, _}}, :prim_file.read_file("{secret}"))'), opened_by="root landlock"),
    Foreign("elixir", "list the host's processes", _ex('Path.wildcard("/proc/[0-9]*/cmdline") |> Enum.any?(&(File.read!(&1) =~ "python"))'), opened_by="pid"),
    Foreign("elixir", "replace what other guests are made of", _ex('File.write(:code.which(Dspex.Json), "x") == :ok')),
    Foreign("elixir", "make a socket by the kernel's words", _ex("match?({{:ok, _}}, :socket.open(:inet, :stream))"), opened_by="seccomp landlock"),
    Foreign("elixir", "listen in a file", _ex('match?({{:ok, _}}, :gen_tcp.listen(0, [{{:ifaddr, {{:local, "s"}}}}]))'), opened_by="seccomp landlock"),
    Foreign("elixir", "resolve a name", _ex("match?({{:ok, _}}, :inet_res.getbyname(~c\"example.com\", :a))")),
    Foreign("elixir", "halt with a slogan", ":erlang.halt(~c\"over\")", kinds=("killed",)),
    Foreign("elixir", "take memory in tables", "t = :ets.new(:t, [])\nEnum.each(Stream.iterate(0, &(&1 + 1)), &:ets.insert(t, {{&1, List.duplicate(&1, 1000)}}))", kinds=("memory_limit",), timeout=20),
    Foreign("elixir", "take memory in other processes", "grow = fn grow, all -> grow.(grow, [List.duplicate(1, 1000) | all]) end\nspawn(fn -> grow.(grow, []) end)\nProcess.sleep(:infinity)", kinds=("memory_limit",), timeout=20),
    Foreign("elixir", "compute where no process can be stopped", "Integer.to_string(7 ** 9_000_000)", kinds=("timeout", "cpu_limit"), timeout=2),
    Foreign("elixir", "speak on the channel", 'port = Port.open({{:fd, 3, 3}}, [:binary])\nPort.command(port, "nonsense of sixteen and more")\n1', kinds=("killed", "")),
    Foreign("elixir", "load code in the engine's name", '{{:module, _, code, _}} = defmodule Other do\n  def encode(_), do: {{~s("ESCAPE"), [], false}}\nend\n:code.load_binary(Dspex.Json, ~c"x", code)\n1', kinds=("killed", "timeout", ""), timeout=2),
    # --- Erlang ---------------------------------------------------------------------------------------------------------
    Foreign("erlang", "read a file of the host", _er('{{ok, _}} = file:read_file("{secret}")'), opened_by="root landlock"),
    Foreign("erlang", "write a file of the host", _er('ok = file:write_file("{target}", "x")'), opened_by="root landlock"),
    Foreign("erlang", "include a file of the host", '-include("{secret}").\nescaped().', kinds=("syntax",)),
    Foreign("erlang", "run a command of a shell", _er('"x\\n" = os:cmd("echo x")'), kinds=("policy", ""), opened_by="pid proc root landlock seccomp"),
    Foreign("erlang", "open a port to a program", _er('true = is_port(open_port({{spawn_executable, "/proc/self/exe"}}, []))'), kinds=("policy", ""), opened_by="seccomp"),
    Foreign("erlang", "connect to a server on loopback", _er("{{ok, _}} = gen_tcp:connect({{127, 0, 0, 1}}, {port}, [])"), opened_by="network seccomp landlock"),
    Foreign("erlang", "listen", _er("{{ok, _}} = gen_tcp:listen(0, [])"), opened_by="seccomp landlock"),
    Foreign("erlang", "become a node", _er("{{ok, _}} = net_kernel:start([a, shortnames])")),
    Foreign("erlang", "run a parse transform unbounded", "-compile({{parse_transform, spin}}).\nf() -> 1.\nf().", kinds=("syntax",)),
    Foreign("erlang", "compile for ever", "-on_load(spin/0).\nspin() -> spin().\n1.", kinds=("timeout",), timeout=2),
    # --- WebAssembly ----------------------------------------------------------------------------------------------------
    Foreign("wasm", "take memory", _BOMB, kinds=("memory_limit",)),
    Foreign("wasm", "take memory in tables", _TABLES, kinds=("memory_limit", "runtime")),
    Foreign("wasm", "use up the stack", _STACK, kinds=("runtime",)),
    Foreign("wasm", "run for ever", '(module (func (export "main") (loop (br 0))))', kinds=("timeout",), timeout=1),
    Foreign("wasm", "announce more memory than there is", '(module (memory 65536) (func (export "main") (i32.store (i32.const 0xfff0) (i32.const 1))))', kinds=("", "memory_limit", "runtime")),
    Foreign("wasm", "read beyond its memory", '(module (memory 1) (func (export "main") (result i32) (i32.load (i32.const 70000))))', kinds=("runtime",)),
    Foreign("wasm", "leave its directory upwards", _opening("../../../etc/passwd")),
    Foreign("wasm", "open an absolute path", _opening("/etc/passwd")),
    Foreign("wasm", "import what nobody offers", '(module (import "env" "system" (func (param i32))) (func (export "main")))', kinds=("syntax",)),
    # --- Rust -----------------------------------------------------------------------------------------------------------
    Foreign("rust", "read a file of the host", 'std::fs::read("{secret}").map(|_| "ESCAPED").unwrap_or("no")', opened_by="root landlock"),
    Foreign("rust", "write a file of the host", 'std::fs::write("{target}", "x").map(|_| "ESCAPED").unwrap_or("no")'),
    Foreign("rust", "start the linker, which it could see", 'std::process::Command::new("/usr/bin/cc").arg("-v").status().map(|_| "ESCAPED").unwrap_or("no")'),
    Foreign("rust", "fork", 'unsafe extern "C" {{ fn fork() -> i32; }}\nif unsafe {{ fork() }} >= 0 {{ "ESCAPED" }} else {{ "no" }}'),
    Foreign("rust", "fork by assembly", 'let r: i64;\nunsafe {{ std::arch::asm!("syscall", inlateout("rax") 57i64 => r, out("rcx") _, out("r11") _) }};\nif r >= 0 {{ "ESCAPED" }} else {{ "no" }}'),
    Foreign("rust", "make a namespace of its own", 'unsafe extern "C" {{ fn unshare(flags: i32) -> i32; }}\nif unsafe {{ unshare(0x10000000) }} == 0 {{ "ESCAPED" }} else {{ "no" }}'),
    Foreign("rust", "loosen the filter", 'unsafe extern "C" {{ fn syscall(n: i64, a: i64, b: i64, c: i64) -> i64; }}\nif unsafe {{ syscall(317, 1, 0, 0) }} == 0 {{ "ESCAPED" }} else {{ "no" }}'),
    Foreign("rust", "connect to a server on loopback", 'std::net::TcpStream::connect("127.0.0.1:{port}").map(|_| "ESCAPED").unwrap_or("no")'),
    Foreign("rust", "list what others compiled", 'let me = std::env::current_exe()?;\nstd::fs::read_dir(me.parent().unwrap()).map(|_| "ESCAPED").unwrap_or("no")'),
    Foreign("rust", "replace what was compiled", 'let me = std::env::current_exe()?;\nstd::fs::write(&me, "x").map(|_| "ESCAPED").unwrap_or("no")'),
    Foreign("rust", "compile the host's secrets in", 'include_str!("{secret}");\n"ESCAPED"', kinds=("syntax",)),
    Foreign("rust", "assemble the host's secrets in", 'mod m {{ std::arch::global_asm!(".section .note.x", ".incbin \\"{secret}\\"", ".text"); }}\n"ESCAPED"', kinds=("syntax",)),
    Foreign("rust", "read what the compiler left", 'std::fs::read_dir("/run/sandbox/tmp")?.next().map(|_| "ESCAPED").unwrap_or("no")'),
    Foreign("rust", "find what others compiled", 'std::fs::read_dir(std::env::home_dir().unwrap().join(".cache")).map(|_| "ESCAPED").unwrap_or("no")'),
    Foreign("rust", "write to itself", 'std::fs::OpenOptions::new().write(true).open("/proc/self/exe").map(|_| "ESCAPED").unwrap_or("no")'),
    Foreign("rust", "run a file that it made", 'std::fs::copy("/proc/self/exe", "x")?;\nuse std::os::unix::process::CommandExt;\nlet e = std::process::Command::new("./x").exec();\nif e.kind() == std::io::ErrorKind::PermissionDenied {{ "no" }} else {{ "ESCAPED" }}'),
    Foreign("rust", "listen", 'std::net::TcpListener::bind("127.0.0.1:0").map(|_| "ESCAPED").unwrap_or("no")', opened_by="seccomp landlock"),
    Foreign("rust", "compile types without an end", 'struct S<T>(T);\nfn f<T: std::fmt::Debug>(n: u64, x: Option<T>) {{ if n > 0 {{ f(n - 1, Some(x)) }} }}\nf(std::hint::black_box(9), Some(1))', kinds=("syntax", "timeout", "memory_limit"), timeout=5),
    Foreign("rust", "compile a constant of all memory", 'static S: [u8; 1 << 40] = [1; 1 << 40];\nS[0]', kinds=("syntax", "timeout", "memory_limit"), timeout=5),
    Foreign("rust", "have a plugin of its own loaded", '#![feature(plugin)]\n#![plugin(x)]\nfn main() {{}}', kinds=("syntax",)),
    Foreign("rust", "give the linker options", '#[link(name = "c", kind = "raw-dylib")] unsafe extern "C" {{ fn x(); }}\n"ESCAPED"', kinds=("syntax",)),
    Foreign("rust", "compile the host's environment in", 'let home = env!("PYTEST_CURRENT_TEST");\n"ESCAPED"', kinds=("syntax",)),
    Foreign("rust", "link a library of the host", '#[link(name = "x", kind = "static")] unsafe extern "C" {{ fn x(); }}\nunsafe {{ x() }};\n"ESCAPED"', kinds=("syntax",)),
    Foreign("rust", "compile for ever", 'const fn spin() -> u64 {{ let mut n = 0u64; loop {{ n += 1; if n == u64::MAX {{ return n }} }} }}\n#[allow(long_running_const_eval)] const N: u64 = spin();\nN', kinds=("timeout", "syntax", "memory_limit"), timeout=3),
    Foreign("rust", "expand for ever", 'macro_rules! grow {{ ($($x:tt)*) => {{ grow!($($x)* $($x)* a) }} }}\ngrow!(a)', kinds=("syntax", "timeout", "memory_limit"), timeout=5),
    Foreign("rust", "open a file of the host in machine code", _asm(257, "-100i64", 'c"{secret}".as_ptr()', "0i64"), opened_by="root landlock"),
    Foreign("rust", "start a process by a call that hides its flags", "let mut a = [0u64; 11]; a[4] = 17;\n" + _asm(435, "a.as_mut_ptr()", "88i64").replace("\nif", "\nif r == 0 {{ loop {{}} }}\nif"), opened_by="seccomp"),
    Foreign("rust", "flood with processes", 'let mut n = 0;\nfor _ in 0..100_000 {{ let r: i64; unsafe {{ std::arch::asm!("syscall", inlateout("rax") 56i64 => r, in("rdi") 17i64, in("rsi") 0, in("rdx") 0, in("r10") 0, in("r8") 0, out("rcx") _, out("r11") _) }}; if r == 0 {{ loop {{}} }} else if r > 0 {{ n += 1 }} }}\n' + _rs("n > 0")),
    Foreign("rust", "flood with threads", 'let all: Vec<_> = (0..100_000).map_while(|_| std::thread::Builder::new().spawn(|| std::thread::sleep(std::time::Duration::from_secs(60))).ok()).collect();\n' + _rs("all.len() > 200")),
    Foreign("rust", "be traced", _asm(101, "0i64", "0i64", "0i64", "0i64"), opened_by="seccomp"),
    Foreign("rust", "read another process", _asm(310, "1i64", "0i64", "0i64", "0i64", "0i64"), opened_by="seccomp"),
    Foreign("rust", "make a memory file", _asm(319, 'c"x".as_ptr()', "0i64"), opened_by="seccomp"),
    Foreign("rust", "make a ring of calls that no filter sees", "let mut p = [0u32; 30];\n" + _asm(425, "8i64", "p.as_mut_ptr()")),
    Foreign("rust", "mount", _asm(165, 'c"none".as_ptr()', 'c"/run/sandbox/tmp".as_ptr()', 'c"tmpfs".as_ptr()', "0i64", "0i64")),
    Foreign("rust", "make a socket of the machine", _asm(41, "2i64", "3i64", "1i64")),
    Foreign("rust", "make a datagram socket", _asm(41, "2i64", "2i64", "0i64"), opened_by="seccomp"),
    Foreign("rust", "make a socket of the kernel's", _asm(41, "16i64", "3i64", "0i64"), opened_by="seccomp"),
    Foreign("rust", "run code of a file that it made", 'std::fs::write("code", [0xc3u8; 4096])?;\nuse std::os::fd::AsRawFd;\nlet file = std::fs::File::open("code")?;\nunsafe extern "C" {{ fn mmap(a: usize, n: usize, p: i32, f: i32, d: i32, o: i64) -> isize; }}\n' + _rs("unsafe {{ mmap(0, 4096, 5, 2, file.as_raw_fd(), 0) }} > 0")),
    Foreign("rust", "do more by code that it writes while it runs", 'unsafe extern "C" {{ fn mmap(a: usize, n: usize, p: i32, f: i32, d: i32, o: i64) -> *mut u8; }}\nlet page = unsafe {{ mmap(0, 4096, 7, 0x22, -1, 0) }};\nif (page as isize) < 0 {{ return Ok(()) }}\nlet code = [0xb8u8, 57, 0, 0, 0, 0x0f, 0x05, 0xc3];\nunsafe {{ std::ptr::copy_nonoverlapping(code.as_ptr(), page, code.len()) }};\nlet fork: extern "C" fn() -> i32 = unsafe {{ std::mem::transmute(page) }};\n' + _rs("fork() >= 0")),
    Foreign("rust", "outlive its time by handlers", 'unsafe extern "C" {{ fn signal(n: i32, h: usize) -> usize; }}\nfor n in 1..65 {{ unsafe {{ signal(n, 1) }}; }}\nloop {{ std::hint::spin_loop() }}', kinds=("timeout",), timeout=1),
    Foreign("rust", "kill its neighbours", 'unsafe extern "C" {{ fn kill(p: i32, s: i32) -> i32; }}\n' + _rs("unsafe {{ kill(-1, 9) }} == 0"), kinds=("", "killed")),
    Foreign("rust", "walk the processes of the host", 'let seen = std::fs::read_dir("/proc")?.flatten().filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok()).filter_map(|e| std::fs::read(e.path().join("cmdline")).ok()).filter(|c| String::from_utf8_lossy(c).contains("pytest")).count();\n' + _rs("seen > 0"), opened_by="pid proc root landlock"),
    Foreign("rust", "read the host's environment", _rs('String::from_utf8_lossy(&std::fs::read("/proc/1/environ")?).contains("PYTEST")')),
    Foreign("rust", "climb out by its own root", _rs('std::fs::read("/proc/self/root/{secret}").is_ok()'), opened_by="root landlock"),
    Foreign("rust", "replace the library that all programs are linked with", 'let told = std::fs::read_to_string("/proc/self/mountinfo")?;\nlet place = told.split_whitespace().find(|word| word.contains("rust-prelude")).unwrap_or("/missing");\n' + _rs('std::fs::write(format!("{{place}}/libdspex.rlib"), "x").is_ok()')),
    Foreign("rust", "replace the compiler", _rs('std::env::var("PATH")?.split(\':\').chain(["/usr/lib", "/root/.rustup"]).any(|place| std::fs::write(format!("{{place}}/rustc"), "x").is_ok())')),
    Foreign("rust", "compile a file of the host as a module", '#[path = "{secret}"] mod host;\n"ESCAPED"', kinds=("syntax",)),
    Foreign("rust", "compile bytes of the host in", 'let found = include_bytes!("../../../../../{secret}");\n"ESCAPED"', kinds=("syntax",)),
    Foreign("rust", "include a program of the host", 'include!("{secret}");\n"ESCAPED"', kinds=("syntax",)),
    Foreign("rust", "compile the host's files in as words about it", '#[doc = include_str!("{secret}")] fn f() {{}}\n"ESCAPED"', kinds=("syntax",)),
    Foreign("rust", "compile another environment in than the compiler's", _rs('include_str!("/proc/self/environ").contains("PYTEST") || include_str!("/proc/1/environ").contains("PYTEST")'), kinds=("", "syntax")),
    Foreign("rust", "compile what has no end in", 'include_bytes!("/dev/zero").len();\n"ESCAPED"', kinds=("syntax", "memory_limit", "timeout")),
    Foreign("rust", "be a procedural macro of its own", '#![crate_type = "proc-macro"]\nextern crate proc_macro;\n#[proc_macro] pub fn m(x: proc_macro::TokenStream) -> proc_macro::TokenStream {{ std::fs::write("{target}", "x").unwrap(); x }}\nfn main() {{ println!("ESCAPED") }}', kinds=("syntax", "killed", "runtime")),
    Foreign("rust", "be a library that its own compiler loads", '#![crate_type = "cdylib"]\n#[unsafe(no_mangle)] pub extern "C" fn main() {{}}', kinds=("syntax", "killed", "runtime")),
    Foreign("rust", "take what only nightly compilers offer", '#![feature(asm_experimental_arch, rustc_attrs)]\nfn main() {{}}', kinds=("syntax",)),
    Foreign("rust", "hand words to the linker", '#![feature(link_args)]\n#[link_args = "-Wl,--dynamic-linker,/tmp/x"] unsafe extern "C" {{}}\nfn main() {{}}', kinds=("syntax",)),
    Foreign("rust", "name a file of the host as a library", '#[link(name = "../../../../..{secret}", kind = "static")] unsafe extern "C" {{}}\n"ESCAPED"', kinds=("syntax",)),
    Foreign("rust", "name an option of the linker's as a library", '#[link(name = "c -Wl,-T,{secret}")] unsafe extern "C" {{}}\n"ESCAPED"', kinds=("syntax",)),
    Foreign("rust", "begin before the engine does", '#[used] #[unsafe(link_section = ".preinit_array")] static FIRST: extern "C" fn() = {{ extern "C" fn first() {{ if std::fs::write("{target}", "x").is_ok() {{ std::process::abort() }} }} first }};\nfn main() {{}}', kinds=("",)),
    Foreign("rust", "compile brackets within brackets", "fn main() {{ let x = " + "(" * 60_000 + "1" + ")" * 60_000 + "; }}", kinds=("syntax", "memory_limit", "timeout", "killed"), timeout=5),
    Foreign("rust", "compile types of types", "struct A<T>(T, T);\ntype B<T> = A<A<A<A<T>>>>;\ntype C<T> = B<B<B<B<T>>>>;\ntype D = C<C<C<C<u8>>>>;\nstd::mem::size_of::<D>()", kinds=("syntax", "memory_limit", "timeout"), timeout=5),
    Foreign("rust", "have traits resolved for ever", "trait T {{}}\nimpl<X> T for X where Vec<X>: T {{}}\nfn f<X: T>() {{}}\nf::<u8>()", kinds=("syntax", "memory_limit", "timeout"), timeout=5),
    Foreign("rust", "have a flood of words from the compiler", "a::b();\n" * 30_000 + "1", kinds=("syntax", "timeout", "memory_limit"), timeout=10),
    Foreign("rust", "use up the stack", 'fn f(n: u64) -> u64 {{ std::hint::black_box(f(n + 1) + 1) }}\nf(0)', kinds=("runtime", "killed")),
    Foreign("rust", "forge the engine's answer", 'use std::io::Write; use std::os::fd::FromRawFd;\nunsafe {{ std::fs::File::from_raw_fd(3) }}.write_all(b"nonsense of sixteen and more bytes")?;\n1', kinds=("killed",)),
    Foreign("rust", "have the host keep what it likes", 'use std::io::Write; use std::os::fd::FromRawFd;\nlet mut frame = b"dx".to_vec(); frame.extend([21, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]); frame.extend(b"xy");\nunsafe {{ std::fs::File::from_raw_fd(3) }}.write_all(&frame)?;\n1', kinds=("killed",)),
)  # fmt: skip
