"""A Rust program as the compiler shall see it: what stands around it, without moving one of its lines.

Theory of operation. A program that is items alone, `main` or tests among them, is compiled as it is; what dspex needs stands behind
it. Any other is the body of a closure, and its last expression, if it ends with one, stands in `answer!(...)`: there it may borrow
from what was bound before. Where that expression begins is found by walking over the statements: a lexer for brackets, texts and
comments, and the rule by which Rust ends a statement (a semicolon, or the block of an item, an `if`, a `match`). Where the walk is
wrong, the compiler says so; nothing else rests on it.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
      | (?P<comment>/\*)
      | (?P<text>[bc]?r(?P<hashes>\#*)".*?"(?P=hashes) | [bc]?"(?:[^"\\]|\\.)*" | b?'(?:[^'\\\n]|\\(?:u\{[^}]*\}|x..|.))')
      | (?P<word>'?(?:r\#)?[^\W\d]\w*)
      | (?P<other>\d\w*|.)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT: Final = re.compile(r"/\*|\*/")
_PAIRS: Final = {"(": "()", "[": "[]", "{": "{}"}
_TO_BLOCK: Final = frozenset(("fn", "struct", "enum", "union", "impl", "trait", "mod"))
_TO_SEMICOLON: Final = frozenset(("use", "static", "type", "let"))
_QUALIFIERS: Final = frozenset(("fn", "impl", "trait", "extern", "unsafe", "async"))
_BLOCKS: Final = frozenset(("if", "match", "for", "while", "loop", "unsafe", "{}"))
_ANSWER: Final = "::dspex::answer!("
_FINE: Final = f"{_ANSWER}::dspex::hidden::fine("  # of `Ok(...)`, which alone does not say what its error would be
_OPENING: Final = "fn main() { ::dspex::run(|| -> ::core::result::Result<(), ::dspex::Thrown> { use ::dspex::*; "
_CLOSING: Final = "; Ok(()) }) }\n"
_WHOLE: Final = "\n#[allow(unused_imports)] use ::dspex::*; #[used] static DSPEX: fn() = ::dspex::hidden::linked; "
# Before the tests begin: which of them are meant to panic.
_TESTS: Final = (
    '#[used] #[unsafe(link_section = ".init_array")] static DSPEX_TESTS: extern "C" fn() = {{ '
    'extern "C" fn tests() {{ ::dspex::hidden::tests(&[{}]) }} tests }}; '
)


class _Token(NamedTuple):
    text: str  # of a pair of brackets, both of them
    start: int


class Source(NamedTuple):
    """What the compiler is given, and where the engine put in how much: (line, column, length) in order."""

    text: str
    inserted: tuple[tuple[int, int, int], ...]
    tests: bool = False  # they are what runs


def wrapped(code: str, types: Mapping[str, str], tools: list[str]) -> Source:
    """The program with its variables, of these types, and a macro for each tool."""
    tokens = [*_outermost(code)]
    macros = "".join(_macro(name) for name in tools)
    if tokens and not tokens[-1].text:
        return Source(code, ())  # a bracket is open to the end: the compiler says so best where nothing follows
    starts = [*_statements(tokens)]
    if starts and all(kind == "item" for kind, _, _ in starts):
        main, panicking = any(main for _, main, _ in starts), _tests(code)
        if main or panicking is not None:
            statics = "".join(_static(name, kind) for name, kind in types.items())
            uses = "".join(
                f"#[allow(unused_imports)] use {name}; " for name in tools
            )  # wherever in the program they are named
            told = "" if main or panicking is None else _TESTS.format(", ".join(f'"{name}"' for name in panicking))
            return Source(f"{code}{_WHOLE}{told}{statics}{macros}{uses}\n", (), not main)
    prefix = f"{_OPENING}{_bindings(types)}{macros}"
    inserted = [(1, 1, len(prefix))]
    if not starts or starts[-1][0] != "value":
        return Source(f"{prefix}{code}\n{_CLOSING}", tuple(inserted))
    at = starts[-1][2]
    line, column = code.count("\n", 0, at) + 1, at - (code.rfind("\n", 0, at) + 1) + 1
    fine = [token.text for token in tokens if token.start >= at] == ["Ok", "()"]
    answer, close = (_FINE, "))") if fine else (_ANSWER, ")")
    inserted.append((line, column + (len(prefix) if line == 1 else 0), len(answer)))
    return Source(f"{prefix}{code[:at]}{answer}{code[at:]}\n{close}{_CLOSING}", tuple(inserted))


def _bindings(types: Mapping[str, str]) -> str:
    if not types:
        return ""
    read = "".join(f"let mut {name}: {kind} = given.variable(); " for name, kind in types.items())
    return f"let mut given = ::dspex::hidden::variables(); {read}"


def _static(name: str, kind: str) -> str:
    made = f'::std::sync::LazyLock::new(|| ::dspex::hidden::variable("{name}"))'
    return f"#[allow(non_upper_case_globals)] static {name}: ::std::sync::LazyLock<{kind}> = {made}; "


def _macro(name: str) -> str:
    call = f'::dspex::try_call("{name}", &[$(::dspex::json(&$a)),*])'
    return f"macro_rules! {name} {{ ($($a:expr),* $(,)?) => {{ ::dspex::returned({call}) }} }} "


# --- Statements -----------------------------------------------------------------------------------------------------------


def _tests(code: str) -> list[str] | None:
    """None where it has no tests; else those of them that should panic."""
    words = [token.text for token in _tokens(code)]
    marked = {words[at + 2] for at in range(len(words) - 2) if words[at] == "#" and words[at + 1] == "["}
    if "test" not in marked:
        return None
    starts = [at for at, word in enumerate(words) if word == "should_panic"]
    return [words[words.index("fn", at) + 1] for at in starts if "fn" in words[at:-1]]


def _tokens(code: str) -> Iterator[_Token]:
    """All of them, but for space and comments."""
    at = 0
    while at < len(code) and (found := _TOKEN.match(code, at)):
        at = found.end()
        if found.group("comment"):
            at = _past_comment(code, at)
        elif not found.group("space"):
            yield _Token(found.group(), found.start())


def _outermost(code: str) -> Iterator[_Token]:
    """The tokens outside of all brackets, each pair of brackets as one; one without text for a bracket that is not closed."""
    depth, opened = 0, 0
    for text, start in _tokens(code):
        if text in _PAIRS:
            opened = start if depth == 0 else opened
            depth += 1
        elif text in (")", "]", "}"):
            depth = max(0, depth - 1)
            if depth == 0:
                yield _Token({")": "()", "]": "[]", "}": "{}"}[text], opened)
        elif depth == 0:
            yield _Token(text, start)
    if depth:
        yield _Token("", opened)


def _past_comment(code: str, at: int) -> int:
    depth = 1
    while depth and (found := _COMMENT.search(code, at)):
        depth += 1 if found.group() == "/*" else -1
        at = found.end()
    return at if not depth else len(code)


def _statements(tokens: list[_Token]) -> Iterator[tuple[str, bool, int]]:
    """Of each statement: "item", "statement" or, of the last, "value"; whether it is `fn main`; where it begins."""
    at = 0
    while at < len(tokens):
        start, first = at, _past_attributes(tokens, at)
        at, kind = _end(tokens, first)
        main = kind == "item" and ("fn", "main") in pairwise(token.text for token in tokens[first:at])
        yield kind, main, tokens[start].start


def _past_attributes(tokens: list[_Token], at: int) -> int:
    while _text(tokens, at) == "#":
        at += 3 if _text(tokens, at + 1) == "!" else 2
    if _text(tokens, at) == "pub":
        at += 2 if _text(tokens, at + 1) == "()" else 1
    return at


def _text(tokens: list[_Token], at: int) -> str:
    return tokens[at].text if at < len(tokens) else ""


def _end(tokens: list[_Token], at: int) -> tuple[int, str]:
    """Behind a statement, and what it is."""
    word, following = _text(tokens, at), _text(tokens, at + 1)
    if not word:
        return len(tokens), "item"  # attributes of the whole
    if (
        word in _TO_SEMICOLON
        or (word == "const" and following not in ("{}", *_QUALIFIERS))
        or (word, following) == ("extern", "crate")
    ):
        return _until(tokens, at, (";",)), "statement" if word == "let" else "item"
    if word in _TO_BLOCK or (
        word in ("unsafe", "async", "const", "extern") and (following in _QUALIFIERS or following[:1] == '"')
    ):
        return _until(tokens, at, (";", "{}")), "item"
    if (word, following) == ("macro_rules", "!"):
        return _until(tokens, at + 2, ("{}", ";")), "item"
    if word in _BLOCKS or (word[:1] == "'" and following == ":"):
        return _past_block(tokens, at)
    return _past_expression(tokens, at)


def _until(tokens: list[_Token], at: int, ends: tuple[str, ...]) -> int:
    while at < len(tokens) and tokens[at].text not in ends:
        at += 1
    return min(at + 1, len(tokens))


def _past_block(tokens: list[_Token], at: int) -> tuple[int, str]:
    end = _past_body(tokens, at)
    while (following := _text(tokens, end)) in ("else", "=", "in", "|"):  # another branch; or it was a pattern
        end = _past_body(tokens, end)
    if following in (".", "?"):
        return _past_expression(tokens, end)
    if following == ";":
        return end + 1, "statement"
    return end, "value" if end == len(tokens) else "statement"


def _past_body(tokens: list[_Token], at: int) -> int:
    """Behind the next block; one that is `unsafe` is part of a condition, unless it stands here."""
    end = _until(tokens, at, ("{}",))
    while end - 2 > at and tokens[end - 2].text == "unsafe":
        end = _until(tokens, end, ("{}",))
    return end


def _past_expression(tokens: list[_Token], at: int) -> tuple[int, str]:
    """To its semicolon; a macro called with braces ends with these."""
    called = _called(tokens, at)
    if called and _text(tokens, called) not in (".", "?", ";", ""):
        return called, "statement"
    end = _until(tokens, at, (";",))
    return end, "statement" if tokens[end - 1].text == ";" else "value"


def _called(tokens: list[_Token], at: int) -> int:
    while _text(tokens, at) == ":" or re.fullmatch(r"[^\W\d]\w*", _text(tokens, at)):
        at += 1
    return at + 2 if (_text(tokens, at), _text(tokens, at + 1)) == ("!", "{}") else 0
