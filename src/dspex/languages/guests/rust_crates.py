"""The program that compiles crates from their vendored sources: run as any program, in a guest that may start others.

Theory of operation. cargo does it, offline: it knows versions, features, editions and targets. Build scripts and procedural macros
run here, where nothing is but the sources, the toolchain and a memory file system that ends with the guest. What comes out are
the files of the libraries, by name, and which of them each dependency is. Nothing here is trusted: the host takes names and bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

_HOME = "/run/sandbox/tmp/cargo"
_MOST = 20_000  # characters of what cargo says when it fails


def crates(cargo: str, settings: str, manifest: str, profile: str, environment: dict[str, str]) -> dict[str, Any]:
    """`{"files": {name: bytes}, "externs": {name: file}}`, or `{"failed": what cargo says}`."""
    os.makedirs(f"{_HOME}/src", exist_ok=True)
    for name, text in (("config.toml", settings), ("Cargo.toml", manifest), ("src/lib.rs", "")):
        with open(f"{_HOME}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    os.environ.update(environment, CARGO_HOME=_HOME, HOME=_HOME)
    command = [cargo, "build", "--offline", "--message-format=json-render-diagnostics", "--profile", profile]
    done = subprocess.run(command, cwd=_HOME, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        return {"failed": done.stderr[-_MOST:].strip() or f"cargo ended with status {done.returncode}"}
    told = [json.loads(row) for row in done.stdout.splitlines() if row.startswith("{")]
    made = {
        row["package_id"]: row["filenames"] for row in told if row["reason"] == "compiler-artifact" and _library(row)
    }
    command = [cargo, "metadata", "--offline", "--format-version", "1"]
    graph = json.loads(subprocess.run(command, cwd=_HOME, capture_output=True, check=True).stdout)["resolve"]
    root = next(node for node in graph["nodes"] if node["id"] == graph["root"])
    files = sorted(path for package, paths in made.items() if package != graph["root"] for path in paths if _kept(path))
    return {
        "files": {os.path.basename(path): _read(path) for path in files},
        "externs": {each["name"]: os.path.basename(next(filter(_kept, made[each["pkg"]]))) for each in root["deps"]},
    }


def _library(row: dict[str, Any]) -> bool:
    return not row["executable"] and "custom-build" not in row["target"]["kind"]


def _kept(path: str) -> bool:
    return path.endswith((".rlib", ".so"))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
