"""The layers of docs/design.md: imports go downwards only, in no circles, and guests stand alone."""

import ast
import pathlib
import sys

import pytest

import dspex

ROOT = pathlib.Path(dspex.__file__).parent
# From the bottom up. A layer may import itself, what is below it, and the two that all use.
LAYERS = ["_kernel", "_sandbox", "_network", "languages", "execution", "evaluation", "_cli"]
SHARED = ["errors", "telemetry", "_collection"]
# The columns of the design: running code, and programs with their state. Only these join them.
RUNNING = {"_kernel", "_sandbox", "_network", "languages", "execution", "evaluation"}
STATE_LAYERS = ["state", "examples", "modules", "stores", "versions"]
STATE = {"modules", "examples", "predictions", "state", "stores", "versions", "registry", "lifecycle"}
JOINING = {"", "_cli", "__main__", "integrations", "testing"}


def modules():
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = [*path.relative_to(ROOT.parent).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def only_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports_of(name, *, inside_functions):
    """The absolute names that a module imports, without those for type checkers only."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    pending, found = list(ast.parse(path.read_text()).body), set()
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                upper = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*upper, *([node.module] if node.module else [])])
            members = {f"{base}.{alias.name}" for alias in node.names}
            found |= {member if member in MODULES else base for member in members}
        elif only_for_types(node):
            pending += node.orelse
        elif inside_functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            pending += ast.iter_child_nodes(node)
    return found


def layer_of(name):
    """The first part below `dspex`; empty for the package itself."""
    return name.partition(".")[2].partition(".")[0]


def test_every_module_belongs_to_a_layer():
    """A new package must be given its place here and in docs/design.md."""
    known = {*LAYERS, *SHARED, *STATE, *JOINING, "compute"}
    assert {layer_of(name) for name in MODULES} <= known


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downwards(name):
    """A module imports its own layer, those below it, and what all share; at the top and inside functions alike."""
    own = layer_of(name)
    imported = {layer_of(other) for other in imports_of(name, inside_functions=True) if other.split(".")[0] == "dspex"}
    if own in SHARED:
        allowed = {own}
    elif own in LAYERS:
        allowed = {*LAYERS[: LAYERS.index(own) + 1], *SHARED}
    else:
        return
    # The version and the names of the public surface are of the package itself.
    allowed |= {""} if own in ("_cli", "evaluation") else set()
    allowed |= STATE if own in JOINING else set()
    assert imported <= allowed


def test_no_import_cycles():
    """What is imported when a module is imported never leads back to it."""
    graph = {
        name: {other for other in imports_of(name, inside_functions=False) if other in MODULES and other != name}
        for name in MODULES
    }
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for other in graph[name]:
            visit(other)
        path.pop()
        done.add(name)

    for name in graph:
        visit(name)


# What guests hold their languages' engines by, where it is not called as they are.
ENGINES = {
    "wasm": ("wasmtime",),
    "wasm_components": ("wasmtime",),
    "quickjs_native": ("quickjs",),
    "quickjs_wasm": ("quickjs_rs", "wasmtime"),
    "python_wasm": ("eryx",),
    "python_inside": ("_eryx",),
}


@pytest.mark.parametrize("name", [name for name in MODULES if ".guests." in name])
def test_guests_import_the_standard_library_or_each_other(name):
    """A guest program runs where no module of dspex can be imported any more."""
    for other in imports_of(name, inside_functions=True):
        top = other.split(".")[0]
        local = other.startswith("dspex.languages.guests") or f"dspex.languages.guests.{other}" in MODULES
        optional = name.endswith("python_frames") and top in ("numpy", "pandas", "polars")
        engine = name.rpartition(".")[2] == top or top in ENGINES.get(name.rpartition(".")[2], ())
        assert local or optional or engine or top in sys.stdlib_module_names, other


@pytest.mark.parametrize("name", [name for name in MODULES if layer_of(name) == "_kernel"])
def test_kernel_doors_need_the_standard_library_only(name):
    """The lowest layer imports nothing but itself and the standard library."""
    for other in imports_of(name, inside_functions=True):
        assert other.startswith("dspex._kernel") or other.split(".")[0] in sys.stdlib_module_names, other


@pytest.mark.parametrize("name", [name for name in MODULES if layer_of(name) in STATE_LAYERS])
def test_the_column_of_state_is_layered_too(name):
    """Versions stand on stores, stores on states; none of them imports what stands above it."""
    imported = {layer_of(other) for other in imports_of(name, inside_functions=True) if other.split(".")[0] == "dspex"}
    assert imported <= {*STATE_LAYERS[: STATE_LAYERS.index(layer_of(name)) + 1], *SHARED, ""}


@pytest.mark.parametrize("name", MODULES)
def test_columns_never_import_each_other(name):
    """Running code and holding state are two columns; integrations, the CLI and user programs join them."""
    imported = {layer_of(other) for other in imports_of(name, inside_functions=True) if other.split(".")[0] == "dspex"}
    own = layer_of(name)
    if own in RUNNING:
        assert not imported & STATE
    if own in STATE:
        assert not imported & RUNNING


def test_host_never_unpickles():
    """No module of the host's side imports an unpickler or evaluates text."""
    for name, path in MODULES.items():
        if ".guests" in name or name == "dspex._sandbox.zygote":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in (
                    "eval",
                    "exec",
                    "pickle.loads",
                    "pickle.load",
                    "marshal.loads",
                    "pickle.Unpickler",
                ), f"{name}:{node.lineno}"
