"""Languages: what differs from one to the next, behind one small protocol (see `_base`).

Built in are those of `BUILT_IN`; others come by the entry point group `dspex.languages`: a name, and a class (or function) that
makes the `Language` from the options given. docs/languages.md shows one whole.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from dspex.errors import IsolationError, UnknownLanguageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoint

    from dspex.languages._base import Found as Found
    from dspex.languages._base import Language as Language
    from dspex.languages._base import Runtime as Runtime
    from dspex.languages._foreign import Foreign as Foreign
    from dspex.languages._foreign import Start as Start

GROUP: Final = "dspex.languages"
BUILT_IN: Final = {
    "python": ("dspex.languages._python", "Python"),
    "javascript": ("dspex.languages._javascript", "javascript"),
    "elixir": ("dspex.languages._elixir", "Elixir"),
    "erlang": ("dspex.languages._erlang", "Erlang"),
    "rust": ("dspex.languages._rust", "Rust"),
    "wasm": ("dspex.languages._wasm", "Wasm"),
    "typescript": ("dspex.languages._javascript", "typescript"),
}
# What runs them with isolation "wasm".
PORTABLE: Final = {
    "python": ("dspex.languages._portable", "PortablePython"),
    "javascript": ("dspex.languages._portable", "javascript"),
    "wasm": BUILT_IN["wasm"],
}
SUFFIXES: Final = {
    ".py": "python",
    ".js": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".ex": "elixir",
    ".exs": "elixir",
    ".erl": "erlang",
    ".rs": "rust",
    ".wat": "wasm",
    ".wasm": "wasm",
    ".ts": "typescript",
    ".mts": "typescript",
}


_PARTS: Final = {
    "Foreign": "dspex.languages._foreign",
    "Found": "dspex.languages._base",
    "Language": "dspex.languages._base",
    "Runtime": "dspex.languages._base",
    "Start": "dspex.languages._foreign",
}


def __getattr__(name: str) -> object:
    """What a language is made of, loaded when it is asked for."""
    if name in _PARTS:
        return getattr(importlib.import_module(_PARTS[name]), name)
    raise AttributeError(f"module 'dspex.languages' has no attribute {name!r}")


def get(language: str | Language, **options: object) -> Language:
    """The language called so, made with `options`. Raises `UnknownLanguageError`, `UsageError` for options it does not know."""
    if not isinstance(language, str):
        if options:
            raise UsageError(f"{min(options)!r}: options belong to a language's name; this one is made already")
        return language
    return _made(language, find(language), options)


def _made(language: str, factory: Callable[..., Any], options: dict[str, Any]) -> Language:
    try:
        made: Language = factory(**options)
    except TypeError as error:
        if not options:
            raise
        raise UsageError(f"language {language!r} does not take {', '.join(map(repr, options))}: {error}") from None
    return made


def find(name: str) -> Callable[..., Any]:
    """What makes the language of this name. Raises `UnknownLanguageError`, which lists those there are."""
    if name in BUILT_IN:
        module, factory = BUILT_IN[name]
        found: Callable[..., Any] = getattr(importlib.import_module(module), factory)
        return found
    others = _installed()
    if name not in others:
        known = ", ".join(repr(known) for known in sorted({*BUILT_IN, *others}))
        raise UnknownLanguageError(f"no language {name!r} is known; there are {known}")
    made: Callable[..., Any] = others[name].load()
    return made


def portable(language: str | Language, **options: object) -> Language:
    """The same language in WebAssembly. Raises `IsolationError` for those that have no such form, `UnknownLanguageError`."""
    if not isinstance(language, str) or language not in PORTABLE:
        name = language if isinstance(language, str) else language.name
        known = ", ".join(map(repr, PORTABLE))
        raise IsolationError(f"isolation 'wasm' runs {known}; {name!r} takes 'namespaces' or 'landlock'")
    module, factory = PORTABLE[language]
    return _made(language, getattr(importlib.import_module(module), factory), options)


def names() -> tuple[str, ...]:
    """All that are known, whether their runtime is there or not."""
    return (*BUILT_IN, *sorted({*_installed()} - {*BUILT_IN}))


def survey() -> list[tuple[str, Found]]:
    """Every runtime of every language, installed or not, beside the language's name."""
    from dspex.languages._base import Found

    found: list[tuple[str, Found]] = []
    for name in names():
        runtimes = getattr(find(name), "runtimes", None)
        found += [(name, runtime) for runtime in (runtimes() if runtimes else [Found(name, "?", "", "")])]
    return [*found, *importlib.import_module("dspex.languages._portable").runtimes()]


def _installed() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}
