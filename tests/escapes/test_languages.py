"""Every attack in the words of the other languages, in this process's own sandboxes; and what happens without a layer."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from dspex import CodeExecutor, Isolation, ResourceLimits
from escapes.languages import ATTACKS
from passage import open_to_all

ANSWERS = {
    "javascript": "40 + 2",
    "quickjs": "40 + 2",
    "elixir": "40 + 2",
    "erlang": "40 + 2.",
    "rust": "40 + 2",
    "wasm": '(module (func (export "main") (result i32) (i32.const 42)))',
}


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """A file that anybody may read, one that anybody may write, and a server on loopback."""
    directory = tmp_path_factory.mktemp("host")
    open_to_all(directory)
    secret, target = directory / "secret", directory / "target"
    secret.write_text("secret")
    target.write_text("untouched")
    secret.chmod(0o644)
    target.chmod(0o666)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"secret": str(secret), "target": str(target), "port": str(server.getsockname()[1])}


@pytest.fixture(scope="module")
def executors(tmp_path_factory):
    """One for each language and set of layers left out; what they compile is kept where all users see it."""
    made, cache, before = {}, tmp_path_factory.mktemp("cache"), os.environ.get("XDG_CACHE_HOME")
    open_to_all(cache)
    os.environ["XDG_CACHE_HOME"] = str(cache)

    def of(language, without=""):
        key = (language, without)
        if key not in made:
            isolation = Isolation("namespaces", frozenset(without.split()))
            limits = ResourceLimits(memory="256MiB", processes=32)
            name, options = ("javascript", {"runtime": language}) if language == "quickjs" else (language, {})
            made[key] = CodeExecutor(name, isolation=isolation, limits=limits, max_concurrency=1, **options)
        return made[key]

    yield of
    for executor in made.values():
        executor.close()
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


def run(attack, executor, targets):
    code = attack.code
    for name, value in targets.items():
        code = code.replace("{" + name + "}", value)
    return executor.execute(code.replace("{{", "{").replace("}}", "}"), files=attack.files, timeout=attack.timeout)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.language} cannot {attack.cannot}")
def test_attacker_cannot(attack, executors, targets):
    """The attack is blocked, bounded or refused, and the engine goes on."""
    executor = executors(attack.language)
    result = run(attack, executor, targets)
    assert result.value != "ESCAPED", result
    assert result.value != 0 or attack.language != "wasm", result  # WASI's word for success
    kind = result.error.kind if result.error else ""
    assert kind in attack.kinds if attack.kinds else kind != "syntax", (result, result.error)
    assert executor.execute(ANSWERS[attack.language]).unwrap() == 42
    assert Path(targets["target"]).read_text() == "untouched"


@pytest.mark.parametrize(
    "attack", [attack for attack in ATTACKS if attack.opened_by], ids=lambda a: f"{a.language} could {a.cannot}"
)
def test_what_would_happen_without(attack, executors, targets):
    """Without these layers the same words get through: so it was they that held."""
    result = run(attack, executors(attack.language, attack.opened_by), targets)
    assert result.value == "ESCAPED", (result, result.error)


def test_native_code_is_mapped_from_the_runtimes_own_mounts_alone(executors):
    """The machine's own library is taken, and told to be another module's; a copy in the working directory cannot be mapped."""
    code = """defmodule :x do
  def load(path), do: path |> Path.rootname() |> String.to_charlist() |> :erlang.load_nif(0) |> elem(1) |> elem(0)
end
library = Path.join(:code.priv_dir(:crypto), "lib/crypto.so")
File.cp!(library, "copy.so")
[:x.load(library), :x.load(Path.expand("copy.so"))]"""
    assert executors("elixir").execute(code).unwrap() == ["bad_lib", "load_failed"]
