"""DSPy's own state files: plain JSON without an envelope, as `dspy.Module.load` reads them."""

from __future__ import annotations

from typing import Any

from dspex.errors import StateError
from dspex.state import _packed
from dspex.state.formats import _json
from dspex.state.formats._format import Format


def dumps(tree: Any) -> bytes:
    """The packed tree as it is. Raises StateError for what DSPy could not load: see `_check`."""
    _check(tree)
    return _json.dumps(tree)


def _check(tree: Any) -> None:
    metadata = tree.get("metadata") if type(tree) is dict else None
    if type(metadata) is not dict or type(metadata.get("dependency_versions")) is not dict:
        raise StateError("DSPy loads only states with ['metadata']['dependency_versions']")
    pending = [("state", tree)]
    while pending:
        path, node = pending.pop()
        if type(node) is dict and _packed.is_tagged(node):
            raise StateError(f"{path}: DSPy's files hold JSON only, and this is {next(iter(node))}; save it as 'json'")
        inner = node.items() if type(node) is dict else enumerate(node)
        pending += [(f"{path}[{key!r}]", child) for key, child in inner if type(child) in (dict, list)]


FORMAT = Format("dspy", (), dumps, _json.loads, lambda data: False, bare=True)
