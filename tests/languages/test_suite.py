"""Every language that comes with dspex passes the suite that a stranger's must."""

import dataclasses

import languagewords as words
from dspex.testing import LanguageSuite


class TestPython(LanguageSuite):
    language = "python"
    words = words.PYTHON


class TestJavaScript(LanguageSuite):
    language = "javascript"
    words = words.JAVASCRIPT
    lacks = frozenset({"floats"})


class TestTypeScript(LanguageSuite):
    language = "typescript"
    words = dataclasses.replace(words.JAVASCRIPT, number="const n: number = 42\nn")
    lacks = frozenset({"floats"})


class TestElixir(LanguageSuite):
    language = "elixir"
    words = words.ELIXIR
    lacks = frozenset({"bytes_apart", "columns", "special_floats"})


class TestErlang(LanguageSuite):
    language = "erlang"
    words = words.ERLANG
    lacks = frozenset({"bytes_apart", "columns", "special_floats"})


class TestWasm(LanguageSuite):
    language = "wasm"
    words = words.WASM
    lacks = frozenset(
        (
            *(
                "await",
                "big_integers",
                "bytes",
                "columns",
                "data",
                "displays",
                "files",
                "floats",
                "lines",
                "maps_of_any",
            ),
            *("null_text", "parallel_tools", "tracebacks"),
        )
    )


class TestQuickJS(LanguageSuite):
    language = "javascript"
    options = {"runtime": "quickjs"}  # noqa: RUF012
    words = words.QUICKJS
    lacks = frozenset({"await", "floats", "interruption", "parallel_tools", "soft_deadline"})


class TestRust(LanguageSuite):
    language = "rust"
    words = words.RUST
    lacks = frozenset({"await", "parallel_tools", "sessions"})
