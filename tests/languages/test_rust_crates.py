"""Rust crates from vendored sources: compiled in a sandbox of their own, once, and kept while somebody uses them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dspex import CodeExecutor, Isolation
from dspex.errors import UnknownLanguageError, UsageError
from dspex.languages import _cache, _rust
from passage import open_to_all

DEBIAN = "/usr/share/cargo/registry"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of this test's own."""
    place = tmp_path / "cache"
    place.mkdir()
    open_to_all(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    return place / "dspex" / "rust-crates"


@pytest.fixture
def vendor(tmp_path):
    """A directory for crates, as `cargo vendor` makes it."""
    place = tmp_path / "vendor"
    place.mkdir()
    open_to_all(place)
    return place


def lay(vendor, name, files, manifest="", edition="2021"):
    """One crate of version 1.0.0, or of what stands in `name` behind a dash."""
    name, _, version = name.partition("@")
    home = vendor / f"{name}-{version or '1.0.0'}"
    head = f'[package]\nname = "{name}"\nversion = "{version or "1.0.0"}"\nedition = "{edition}"\n'
    for path, text in {**files, "Cargo.toml": head + manifest, ".cargo-checksum.json": '{"files": {}}'}.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)


def test_crates_of_a_distribution(cache):
    """Real ones, as Debian vendors them: one with a dependency, one with a procedural macro, whose crates have build scripts."""
    code = """use itertools::Itertools;
use thiserror::Error;

#[derive(Debug, Error)]
enum Wrong { #[error("no {0} here")] Missing(String) }

let pairs: Vec<(i32, i32)> = (1..=3).tuple_windows().collect();
let number = itoa::Buffer::new().format(1234567).to_string();
(pairs, number, Wrong::Missing("key".into()).to_string(), ["b", "a"].iter().sorted().join("+"))"""
    with CodeExecutor("rust", vendor=DEBIAN, dependencies=["itertools", "itoa", "thiserror@1"]) as executor:
        assert executor.execute(code).unwrap() == ([(1, 2), (2, 3)], "1234567", "no key here", "a+b")


def test_features_editions_and_versions(vendor, cache):
    """What a Cargo.toml says counts, and what a dependency asks for: the highest version that it allows, its features."""
    lay(vendor, "old-style", {"src/lib.rs": "pub fn async() -> i64 { 2015 }"}, edition="2015")
    lay(vendor, "shape@1.2.0", {"src/lib.rs": 'pub const VERSION: &str = "1.2";'})
    lay(vendor, "shape@1.4.0", {"src/lib.rs": 'pub const VERSION: &str = "1.4";'})
    lay(vendor, "shape@2.0.0", {"src/lib.rs": 'pub const VERSION: &str = "2.0";'})
    source = '#[cfg(feature = "extra")] pub fn extra() -> &\'static str { shape::VERSION }'
    lay(vendor, "user", {"src/lib.rs": source}, '[features]\nextra = []\n[dependencies]\nshape = "1"\n')
    asked = ["old-style", "user/extra", "shape@=2.0.0"]
    with CodeExecutor("rust", vendor=vendor, dependencies=asked) as executor:
        code = "(old_style::r#async(), user::extra(), shape::VERSION)"
        assert executor.execute(code).unwrap() == (2015, "1.4", "2.0")
    with CodeExecutor("rust", vendor=vendor, dependencies=["user"]) as executor:
        assert executor.execute("user::extra()").error.type == "error[E0425]"
        assert executor.execute("shape::VERSION").error.type == "error[E0433]"  # only what was asked for has a name


@pytest.mark.parametrize(
    ("without", "open"),
    [("", ()), ("seccomp landlock", (3,)), ("seccomp landlock network", (2, 3))],
    ids=["all layers", "without seccomp", "without network"],
)
def test_build_scripts_run_in_the_sandbox(vendor, cache, tmp_path, without, open):
    """They make files, and say what is to be compiled; of the host they see their sources and the toolchain. Without a layer more."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    script = f"""use std::{{env, fs, net, process}};
fn main() {{
    let home = env::var("CARGO_MANIFEST_DIR").unwrap();
    let found = [
        fs::read("{secret}").is_ok(),
        fs::read_dir("{os.path.expanduser("~")}/.cache").is_ok(),
        net::TcpStream::connect("127.0.0.1:{port}").is_ok(),
        net::UdpSocket::bind("0.0.0.0:0").is_ok(),
        env::var("PYTEST_CURRENT_TEST").is_ok(),
        fs::write(home + "/src/lib.rs", "").is_ok(),
    ];
    assert!(process::Command::new(env::var("RUSTC").unwrap()).arg("-V").status().unwrap().success());
    fs::write(env::var("OUT_DIR").unwrap() + "/found.rs", format!("pub const FOUND: [bool; 6] = {{found:?}};")).unwrap();
    println!("cargo:rustc-cfg=scripted");
}}"""
    source = 'include!(concat!(env!("OUT_DIR"), "/found.rs"));\n#[cfg(scripted)] pub fn scripted() {}'
    lay(vendor, "scripted", {"src/lib.rs": source, "build.rs": script})
    isolation = Isolation("namespaces", frozenset(without.split()))
    with server, CodeExecutor("rust", vendor=vendor, dependencies=["scripted"], isolation=isolation) as executor:
        found = executor.execute("scripted::scripted();\nscripted::FOUND").unwrap()
        assert [at for at, done in enumerate(found) if done] == [*open]


def test_procedural_macros_see_no_more(vendor, cache, tmp_path):
    """Neither where they are compiled nor where they expand in a program."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    macro = f"""use proc_macro::TokenStream;
#[proc_macro] pub fn look(_: TokenStream) -> TokenStream {{
    format!("{{:?}}", std::fs::read("{secret}").is_ok()).parse().unwrap()
}}"""
    lay(vendor, "looking", {"src/lib.rs": macro}, "[lib]\nproc-macro = true\n")
    source = "pub const THERE: bool = looking::look!(); pub use looking::look;"
    lay(vendor, "user", {"src/lib.rs": source}, '[dependencies]\nlooking = "1"\n')
    with CodeExecutor("rust", vendor=vendor, dependencies=["user"]) as executor:
        assert executor.execute("(user::THERE, user::look!())").unwrap() == (False, False)


def test_they_are_compiled_once(vendor, cache):
    """For this process and others, until a source changes; another profile is another compilation."""
    lay(vendor, "one", {"src/lib.rs": "pub fn f() -> i64 { 1 }"})
    program = "import sys; from dspex import CodeExecutor\n"
    program += f"with CodeExecutor('rust', vendor={str(vendor)!r}, dependencies=['one']) as e: print(e.execute('one::f()').unwrap())"
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    assert [process.communicate()[0] for process in started] == ["1\n", "1\n"]
    (made,) = cache.iterdir()
    before = {file.name: file.stat().st_mtime_ns for file in made.iterdir()}
    with CodeExecutor("rust", vendor=vendor, dependencies=["one"]) as executor:
        assert executor.execute("one::f()").unwrap() == 1
    assert {file.name: file.stat().st_mtime_ns for file in made.iterdir()} == before
    with CodeExecutor("rust", profile="release", vendor=vendor, dependencies=["one"]):
        assert len([*cache.iterdir()]) == 2
    lay(vendor, "one", {"src/lib.rs": "pub fn f() -> i64 { 2 }"})
    with CodeExecutor("rust", vendor=vendor, dependencies=["one"]) as executor:
        assert executor.execute("one::f()").unwrap() == 2


def test_a_panic_within_a_crate_has_no_line_of_the_program(vendor, cache):
    """Its line is that of another file."""
    lay(vendor, "failing", {"src/lib.rs": '\n\n\npub fn f() { panic!("inside") }'})
    with CodeExecutor("rust", vendor=vendor, dependencies=["failing"]) as executor:
        error = executor.execute("failing::f()").error
        assert (error.type, error.message, error.line) == ("panic", "inside", None)


def test_what_cannot_be_compiled_is_told(vendor, cache):
    """With the crate's name, in cargo's own words; nothing is kept of it."""
    lay(vendor, "broken", {"src/lib.rs": 'fn f() -> i64 { "a" }'})
    lay(vendor, "refusing", {"src/lib.rs": "", "build.rs": 'fn main() { panic!("not here") }'})
    lay(vendor, "lacking", {"src/lib.rs": ""}, '[dependencies]\nabsent = "1"\n')
    for name, why in [
        ("broken", "could not compile `broken`"),
        ("refusing", "not here"),
        ("lacking", "no matching package named `absent` found"),
        ("nowhere", "no matching package named `nowhere` found"),
        ("broken@2", "candidate versions found which didn't match: 1.0.0"),
        ("broken/more", "feature"),
    ]:
        with pytest.raises(UsageError, match=why):
            CodeExecutor("rust", vendor=vendor, dependencies=[name])
    assert [*cache.iterdir()] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"dependencies": ["one"]},
        {"vendor": "/usr"},
        {"vendor": "/usr", "dependencies": ["one"]},
        {"vendor": "/missing", "dependencies": ["one"]},
        {"vendor": DEBIAN, "dependencies": "itoa"},
        {"vendor": DEBIAN, "dependencies": ['itoa"\n[profile.dev]']},
        {"vendor": DEBIAN, "dependencies": [3]},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong):
    """Before anything is compiled."""
    with pytest.raises(UsageError, match=r"vendor|dependencies"):
        CodeExecutor("rust", **wrong)


def test_cargo_is_looked_for(monkeypatch, tmp_path):
    """Beside the compiler; without it the error says how to install it."""
    found = _rust._toolchain()
    monkeypatch.setattr(_rust, "_toolchain", lambda: found._replace(sysroot=str(tmp_path)))
    with pytest.raises(UnknownLanguageError, match="apt-get install cargo"):
        CodeExecutor("rust", vendor=DEBIAN, dependencies=["itoa"])


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {"files": {"../x": b""}, "externs": {}},
        {"files": {"libx.rlib": "text"}, "externs": {}},
        {"files": {}, "externs": {"x": "libx.rlib"}},
        {"files": {"libx.rlib": b""}, "externs": {"x=y": "libx.rlib"}},
    ],
)
def test_a_forged_answer_is_refused(vendor, cache, answer):
    """A build script may say anything: nothing but names of libraries and bytes is taken."""
    lay(vendor, "one", {"src/lib.rs": ""})
    language = _rust.Rust(vendor=vendor, dependencies=["one"])
    with pytest.raises(UsageError, match="no list of libraries"):
        language.build(lambda build: answer, "")
    assert [*cache.iterdir()] == []


def test_what_is_held_stays(cache):
    """What was used longest ago goes when there is too much, but not while it is open."""
    make = lambda place: Path(place, "data").write_bytes(bytes(600))  # noqa: E731
    first, held = _cache.held("rust-crates", "first", make, 1000)
    second, open_too = _cache.held("rust-crates", "second", make, 1000)
    assert {path.name for path in cache.iterdir()} == {"first", "second"}
    os.close(open_too)
    third, last = _cache.held("rust-crates", "third", make, 1000)
    assert {path.name for path in cache.iterdir()} == {"first", "third"}
    os.close(held)
    os.close(last)
    _, again = _cache.held("rust-crates", "second", make, 1000)
    os.close(again)
    assert {path.name for path in cache.iterdir()} == {"second"}
    assert (os.path.basename(first), os.path.basename(second), os.path.basename(third)) == ("first", "second", "third")
