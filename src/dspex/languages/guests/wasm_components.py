"""Components of WebAssembly for `wasm`: functions with types of their own, in instances that have names.

Theory of operation. What crosses is converted by the types that the component declares, for the library takes classes of its own: a
record is a dict by field, a variant its case's name or {name: content}, an option the value or None, a result {"ok": value} or
{"err": value}, flags a set of names, a list of u8 bytes. A function is called by its name, or by its instance's, `#` and its name.
"""

from __future__ import annotations

import re
import types
from typing import TYPE_CHECKING, Any, Final

from .speech import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    Tool = Callable[[str], Callable[..., Any]]

_BINARY: Final = b"\0asm\x0d\0\x01\0"
_TEXT: Final = re.compile(r"(?:\s|;;.*|\(;.*?;\))*\(\s*component\b", re.DOTALL)
_RUN: Final = re.compile(r"wasi:cli/run@")
_BITS: Final = {"U8": 8, "U16": 16, "U32": 32, "U64": 64, "S8": 8, "S16": 16, "S32": 32, "S64": 64}


def is_component(source: str | bytes) -> bool:
    """Whether this text or these bytes are a component, and no module."""
    return bool(_TEXT.match(source)) if isinstance(source, str) else source.startswith(_BINARY)


class Instance:
    """A component that has been instantiated."""

    def __init__(self, store: Any, engine: Any, component: Any, tool: Tool, wasi: Callable[[], Any]) -> None:
        from wasmtime.component import Linker

        self._store = store
        linker = Linker(engine)
        imports = component.type.imports(engine)
        self.exports = component.type.exports(engine)
        if any(name.startswith("wasi:") for name in imports):
            linker.add_wasip2()
            store.set_wasi(wasi())
        with linker.root() as root:
            for name, item in imports.items():
                if not name.startswith("wasi:"):
                    _define(root, engine, name, _type_of(item), tool)
        self._instance = linker.instantiate(store, component)

    def call(self, name: str, args: list[Any]) -> Any:
        """The value of one of its functions. Raises `Failure`, and what the library raises."""
        wanted = name or self._entry()
        function = self._function(wanted)
        declared = function.type(self._store)
        if len(declared.params) != len(args):
            raise _wrong(f"{wanted} takes {len(declared.params)} arguments, {len(args)} are given")
        given = [lowered(kind, value, label) for (label, kind), value in zip(declared.params, args, strict=True)]
        value = function(self._store, *given)
        value = None if declared.result is None else lifted(declared.result, value)
        if _RUN.match(wanted):
            if value != {"ok": None}:
                raise Failure("runtime", "SystemExit", "1")
            return None
        return value

    def _entry(self) -> str:
        run = next((name for name in self.exports if _RUN.match(name)), "")
        return "main" if "main" in self.exports or not run else f"{run}#run"

    def _function(self, wanted: str) -> Any:
        path, _, name = wanted.rpartition("#")
        at = self._instance.get_export_index(self._store, path) if path else None
        index = self._instance.get_export_index(self._store, name, at) if at is not None or not path else None
        function = self._instance.get_func(self._store, index) if index is not None else None
        if function is None:
            known = ", ".join(self.exports) or "nothing"
            raise Failure("runtime", "NameError", f"the component exports no function {wanted!r}; it exports {known}")
        return function


def _type_of(item: Any) -> Any:
    return getattr(item, "ty", item)


def _define(at: Any, engine: Any, name: str, kind: Any, tool: Tool) -> None:
    from wasmtime.component import ComponentInstanceType, FuncType

    if isinstance(kind, FuncType):
        at.add_func(name, _called(kind, tool(name.replace("-", "_"))))
    elif isinstance(kind, ComponentInstanceType):
        with at.add_instance(name) as instance:
            for each, item in kind.exports(engine).items():
                _define(instance, engine, each, _type_of(item), tool)
    elif type(kind).__name__ in ("ResourceType", "ComponentType", "ModuleType"):
        raise Failure(
            "syntax", "LinkError", f"the component imports {name}, a {type(kind).__name__}; tools are functions"
        )


def _called(kind: Any, tool: Callable[..., Any]) -> Callable[..., Any]:
    params, result = [each for _, each in kind.params], kind.result

    def call(_store: Any, *args: Any) -> Any:
        value = tool(*(lifted(each, arg) for each, arg in zip(params, args, strict=True)))
        return None if result is None else lowered(result, value, "what the tool returned")

    return call


# --- Values ---------------------------------------------------------------------------------------------------------------


def lifted(kind: Any, value: Any) -> Any:
    """What the library gave, as a value of Python's."""
    match type(kind).__name__:
        case "RecordType":
            return {name: lifted(each, getattr(value, name)) for name, each in kind.fields}
        case "TupleType":
            return tuple(lifted(each, item) for each, item in zip(kind.elements, value, strict=True))
        case "ListType":
            return value if isinstance(value, bytes) else [lifted(kind.element, item) for item in value]
        case "OptionType" | "ResultType" | "VariantType":
            return _lifted_case(kind, value)
        case "OwnType" | "BorrowType" | "FutureType" | "StreamType" | "ErrorContext":
            raise Failure("runtime", "TypeError", f"a {type(kind).__name__} cannot be carried out of a component")
    return value


def _lifted_case(kind: Any, value: Any) -> Any:
    tag, content = _case_of(kind, value)
    inner = dict(_cases(kind))[tag]
    told = None if inner is None else lifted(inner, content)
    match type(kind).__name__:
        case "OptionType":
            return told
        case "ResultType":
            return {tag: told}
    return tag if inner is None else {tag: told}


def _cases(kind: Any) -> list[tuple[str, Any]]:
    match type(kind).__name__:
        case "OptionType":
            return [("none", None), ("some", kind.payload)]
        case "ResultType":
            return [("ok", kind.ok), ("err", kind.err)]
    return list(kind.cases)


def _classes(kind: Any) -> set[type]:
    found: set[type] = set()
    if kind is None:
        return {object}
    kind.add_classes(found)
    return found


def _is_tagged(kind: Any) -> bool:
    """Whether the library tells the cases apart by name, because their classes do not."""
    seen: set[type] = set()
    for _, inner in _cases(kind):
        classes = _classes(inner)
        if classes & seen:
            return True
        seen |= classes
    return False


def _case_of(kind: Any, value: Any) -> tuple[str, Any]:
    if _is_tagged(kind):
        return value.tag, value.payload
    for tag, inner in _cases(kind):
        if value is None if inner is None else isinstance(value, tuple(_classes(inner))):
            return tag, value
    raise Failure("runtime", "TypeError", f"{value!r} is none of the cases of its type")


def lowered(kind: Any, value: Any, path: str) -> Any:
    """A value of Python's as the library takes it for this type. Raises `Failure`, which names the place."""
    name = type(kind).__name__
    if name in _BITS:
        return _integer(name, value, path)
    if name not in _LOWERED:
        raise _wrong(f"{path} is a {name}, which the host has nothing for")
    return _LOWERED[name](kind, value, path)


def _bool(_: Any, value: Any, path: str) -> Any:
    return _of((bool,), value, path)


def _string(_: Any, value: Any, path: str) -> Any:
    return _of((str,), value, path)


def _float(_: Any, value: Any, path: str) -> float:
    if isinstance(value, bool):
        raise _wrong(f"{path} is a bool; it must be a number")
    return float(_of((int, float), value, path))


def _char(_: Any, value: Any, path: str) -> str:
    if not isinstance(value, str) or len(value) != 1:
        raise _wrong(f"{path} must be a text of one character")
    return value


def _enum(kind: Any, value: Any, path: str) -> str:
    if value not in kind.names:
        raise _wrong(f"{path} is {value!r}; it must be one of {', '.join(kind.names)}")
    return str(value)


def _option(kind: Any, value: Any, path: str) -> Any:
    return _lowered_case(kind, "none" if value is None else "some", value, path)


def _wrong(message: str) -> Failure:
    return Failure("runtime", "TypeError", message)


def _of(kinds: tuple[type, ...], value: Any, path: str) -> Any:
    if not isinstance(value, kinds):
        raise _wrong(f"{path} is a {type(value).__name__}; it must be a {kinds[0].__name__}")
    return value


def _integer(name: str, value: Any, path: str) -> int:
    bits = _BITS[name]
    lowest, highest = (0, (1 << bits) - 1) if name[0] == "U" else (-(1 << bits - 1), (1 << bits - 1) - 1)
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise _wrong(f"{path} is {value!r}; {name.lower()} takes whole numbers from {lowest} to {highest}")
    return value


def _flags(kind: Any, value: Any, path: str) -> set[str]:
    names = set(_of((set, frozenset, list, tuple), value, path))
    if unknown := names - set(kind.names):
        raise _wrong(f"{path} holds {min(map(repr, unknown))}; there are {', '.join(kind.names)}")
    return names


def _list(kind: Any, value: Any, path: str) -> Any:
    if type(kind.element).__name__ == "U8":
        return _of((bytes,), value, path)
    items = _of((list, tuple), value, path)
    return [lowered(kind.element, item, f"{path}[{place}]") for place, item in enumerate(items)]


def _tuple(kind: Any, value: Any, path: str) -> tuple[Any, ...]:
    items = _of((list, tuple), value, path)
    if len(items) != len(kind.elements):
        raise _wrong(f"{path} has {len(items)} items; it must have {len(kind.elements)}")
    pairs = zip(kind.elements, items, strict=True)
    return tuple(lowered(each, item, f"{path}[{place}]") for place, (each, item) in enumerate(pairs))


def _record(kind: Any, value: Any, path: str) -> Any:
    given = {str(name).replace("_", "-"): item for name, item in _of((dict,), value, path).items()}
    names = [name for name, _ in kind.fields]
    if {*given} != {*names}:
        raise _wrong(f"{path} has the fields {', '.join(given) or 'none'}; it must have {', '.join(names)}")
    return types.SimpleNamespace(**{name: lowered(each, given[name], f"{path}.{name}") for name, each in kind.fields})


def _chosen(kind: Any, value: Any, path: str) -> Any:
    """A case by its name, or as {name: content}."""
    tag, content = next(iter(value.items())) if isinstance(value, dict) and len(value) == 1 else (value, None)
    if tag not in dict(_cases(kind)):
        known = ", ".join(name for name, _ in _cases(kind))
        raise _wrong(f"{path} must be one of {known}, by its name or as {{name: content}}")
    return _lowered_case(kind, tag, content, path)


def _lowered_case(kind: Any, tag: str, content: Any, path: str) -> Any:
    from wasmtime.component import Variant

    inner = dict(_cases(kind))[tag]
    value = None if inner is None else lowered(inner, content, f"{path}.{tag}")
    return Variant(tag, value) if _is_tagged(kind) else value


_LOWERED: Final[dict[str, Callable[[Any, Any, str], Any]]] = {
    "Bool": _bool,
    "F32": _float,
    "F64": _float,
    "String": _string,
    "Char": _char,
    "EnumType": _enum,
    "FlagsType": _flags,
    "ListType": _list,
    "TupleType": _tuple,
    "RecordType": _record,
    "OptionType": _option,
    "ResultType": _chosen,
    "VariantType": _chosen,
}
