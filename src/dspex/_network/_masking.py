"""Values taken out of answers, and placeholders exchanged in requests. No I/O.

Theory of operation: a value may come back as itself, as text of JSON or of a URL, or inside base64 at any of the three
places that a byte can have in its group of three. All these forms are sought at once, and overwritten with stars of
the same length, so that lengths that were announced stay true. At the end of each chunk only those last bytes are held
back that could be the beginning of a form: a stream of events is not delayed.
"""

from __future__ import annotations

import base64
import html
import json
import re
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dspex._sandbox.network import Secret

_STAR: Final = ord("*")


def new_placeholder(name: str) -> str:
    """Text that stands for a value inside the guest: it names the secret and cannot be guessed."""
    return f"dspex-secret-{name}-{secrets.token_hex(16)}"


def forms_of(value: str) -> set[bytes]:
    """Every form of a value that is sought in answers."""
    raw = value.encode()
    spelled = {spell(value) for spell in _SPELLINGS}
    return {form.encode() for form in spelled} | {form for offset in range(3) for form in _base64_forms(raw, offset)}


def _in_json(value: str, escaped: str = "") -> str:
    """As text of JSON, where `escaped` is written by number besides."""
    text = json.dumps(value)[1:-1]
    return "".join(f"\\u{ord(letter):04x}" if letter in escaped else letter for letter in text)


def _in_json_of_net(value: str) -> str:
    """As .NET writes it: quotes and the letters of HTML by number, in upper case."""
    return "".join(
        f"\\u{ord(letter):04X}" if letter in _NOT_IN_NET else "\\\\" if letter == "\\" else letter for letter in value
    )


def _in_url(value: str, safe: str = "") -> str:
    return quote(value, safe=safe)


def _lower(url: str) -> str:
    return re.sub("%..", lambda found: found[0].lower(), url)


_NOT_IN_NET: Final = "\"&'+<>`"
_SPELLINGS: Final[tuple[Callable[[str], str], ...]] = (
    str,
    _in_json,
    lambda value: _in_json(value).replace("/", "\\/"),
    lambda value: _in_json(value, "<>&"),  # Go
    lambda value: _in_json(value, "<>&'"),  # Flask, Rails
    lambda value: _in_json(value, "<>&'="),  # Gson
    _in_json_of_net,
    _in_url,
    lambda value: _in_url(value, "/"),  # Python
    lambda value: _in_url(value, "!'()*"),  # encodeURIComponent
    lambda value: _in_url(value, ";,/?:@&=+$!'()*#"),  # encodeURI
    lambda value: _lower(_in_url(value)),
    lambda value: _lower(_in_url(value, "/")),
    lambda value: quote(value, safe="*").replace("~", "%7E"),  # forms of browsers and Java
    html.escape,
    lambda value: html.escape(value).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),  # Go, Jinja
    lambda value: html.escape(value, quote=False),
)


def _base64_forms(raw: bytes, offset: int) -> set[bytes]:
    """The characters of base64 that depend on `raw` alone, when `offset` other bytes stand before it."""
    encoded = base64.b64encode(bytes(offset) + raw)
    first = (0, 2, 3)[offset]
    last = (offset + len(raw)) * 8 // 6
    form = encoded[first:last]
    return {form, form.translate(bytes.maketrans(b"+/", b"-_"))}


class Mask:
    """Overwrites the forms of some values in one stream of bytes, across its chunks."""

    def __init__(self, values: Iterable[str]) -> None:
        forms = sorted({form for value in values for form in forms_of(value)}, key=len, reverse=True)
        self._forms = forms
        # A lookahead finds forms that overlap; of those that begin at one place the longest is tried first.
        self._sought = re.compile(b"(?=(" + b"|".join(map(re.escape, forms)) + b"))") if forms else None
        self._first = re.compile(b"|".join(re.escape(form[:1]) for form in forms)) if forms else None
        self._held = b""
        self._stars = 0  # how many of the held bytes are to be overwritten already

    def feed(self, chunk: bytes) -> bytes:
        """What may be passed on after this chunk."""
        return self._pass_on(chunk, hold=True)

    def end(self) -> bytes:
        """What was held back, once the stream has ended."""
        return self._pass_on(b"", hold=False)

    def whole(self, data: bytes) -> bytes:
        """Bytes that are complete in themselves, as the value of a header."""
        return bytes(self._overwritten(data, 0)[0])

    def _pass_on(self, chunk: bytes, *, hold: bool) -> bytes:
        data = self._held + chunk
        clean, reach = self._overwritten(data, self._stars)
        cut = len(data) - (self._open_end(data) if hold else 0)
        self._held, self._stars = data[cut:], max(0, reach - cut)
        return bytes(clean[:cut])

    def _overwritten(self, data: bytes, stars: int) -> tuple[bytearray, int]:
        """The data with every form overwritten, and where the last form ends."""
        clean, reach = bytearray(data), stars
        clean[:stars] = b"*" * stars
        for match in self._sought.finditer(data) if self._sought else ():
            start, reach = match.start(), max(reach, match.end(1))
            clean[start : match.end(1)] = bytes([_STAR]) * (match.end(1) - start)
        return clean, reach

    def _open_end(self, data: bytes) -> int:
        """How many of the last bytes could be the beginning of a form."""
        longest = len(self._forms[0]) - 1 if self._forms else 0
        for found in self._first.finditer(data, max(0, len(data) - longest)) if self._first else ():
            end = data[found.start() :]
            if any(form.startswith(end) and len(form) > len(end) for form in self._forms):
                return len(end)
        return 0


class Exchange:
    """Placeholders for values, in what goes to one host; `elsewhere` are those of other hosts."""

    def __init__(self, placeholders: dict[str, str], given: Iterable[Secret]) -> None:
        self._values = {placeholders[secret.name].encode(): secret.value.encode() for secret in given}
        self._foreign = {
            placeholder.encode(): name
            for name, placeholder in placeholders.items()
            if placeholder.encode() not in self._values
        }

    def in_header(self, value: bytes) -> bytes:
        """The value of a header with the placeholders exchanged, also inside the base64 of Basic credentials."""
        inside = _basic(value)
        if inside is not None and self.found_in(inside):
            return b"Basic " + base64.b64encode(self.in_text(inside))
        return self.in_text(value)

    def found_in_header(self, value: bytes) -> bool:
        """Whether `in_header` would change the value."""
        return self.found_in(value) or self.found_in(_basic(value) or b"")

    def in_text(self, text: bytes) -> bytes:
        """The text with the placeholders exchanged."""
        for placeholder, value in self._values.items():
            text = text.replace(placeholder, value)
        return text

    def growth_in(self, text: bytes | bytearray) -> int:
        """By how many bytes `in_text` makes the text longer, at most."""
        return sum(
            text.count(placeholder) * max(0, len(value) - len(placeholder))
            for placeholder, value in self._values.items()
        )

    def growth_in_header(self, value: bytes) -> int:
        """By how many bytes `in_header` makes the value longer, at most; before base64."""
        return self.growth_in(value) + self.growth_in(_basic(value) or b"")

    def found_in(self, text: bytes) -> bool:
        """Whether a placeholder that belongs to this host is in the text."""
        return any(placeholder in text for placeholder in self._values)

    def foreign_in(self, text: bytes) -> list[str]:
        """The names of the secrets of other hosts whose placeholders are in the text."""
        return [name for placeholder, name in self._foreign.items() if placeholder in text]


def _basic(value: bytes) -> bytes | None:
    """What Basic credentials say (RFC 7617); None if the value of a header is none."""
    kind, _, rest = value.partition(b" ")
    try:
        return base64.b64decode(rest.strip(), validate=True) if kind.lower() == b"basic" else None
    except ValueError:
        return None
