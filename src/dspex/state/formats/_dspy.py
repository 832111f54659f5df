"""DSPy's own state files: plain JSON without an envelope, as `dspy.Module.load` reads them."""

from __future__ import annotations

from typing import Any

from dspex.errors import StateError
from dspex.state import _packed
from dspex.state.formats import _json
from dspex.state.formats._format import Format


def dumps(tree: Any) -> bytes:
    """The packed tree without tags. Raises StateError naming what DSPy's files cannot hold."""
    metadata = tree.get("metadata") if type(tree) is dict else None
    if type(metadata) is not dict or type(metadata.get("dependency_versions")) is not dict:
        raise StateError("DSPy loads only states with ['metadata']['dependency_versions']")
    return _json.dumps(_untagged(tree, "state"))


def _untagged(node: Any, path: str) -> Any:
    if type(node) is list:
        return [_untagged(item, f"{path}[{index}]") for index, item in enumerate(node)]
    if type(node) is not dict:
        return node
    if _packed.is_tagged(node):
        node = _looks_tagged(node, path)
    return {key: _untagged(item, f"{path}[{key!r}]") for key, item in node.items()}


def _looks_tagged(node: dict[str, Any], path: str) -> dict[str, Any]:
    """A dict that only looks like a tag, such as the {"$ref": ...} of a JSON schema, is JSON after all."""
    pairs = node.get("$dict", [])
    if len(pairs) == 1 and type(pairs[0][0]) is str:
        return dict(pairs)
    raise StateError(f"{path}: DSPy's files hold JSON only, and this is a {next(iter(node))}; save it as 'json'")


FORMAT = Format("dspy", (), dumps, _json.loads, lambda data: False, bare=True)
