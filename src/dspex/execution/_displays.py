"""What a program showed: `Display`, read from frames of the guest, of which nothing is believed and nothing ever evaluated."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import os

    from dspex._sandbox import wire

_MOST: Final = 1001  # displays of one run: a thousand, and the note that there were more
_ALL: Final = 4  # times the limit of one
_BODY: Final = 1 << 18  # bytes that tell of the contents
_MIMES: Final = 32
_MIME: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_NOTE: Final = 200  # bytes that a note in the place of a display may take
# How a display is best kept in a file: the first of these that it has.
_ENDINGS: Final = (
    ("image/png", "png"),
    ("image/jpeg", "jpg"),
    ("image/svg+xml", "svg"),
    ("text/html", "html"),
    ("text/markdown", "md"),
    ("text/latex", "tex"),
    ("application/json", "json"),
    ("text/plain", "txt"),
)


class Display(NamedTuple):
    """One thing shown, in each form that it has. HTML and SVG are the program's own: show them as you would a stranger's."""

    data: dict[str, str | bytes]  # by MIME type: text as str, pictures as bytes
    metadata: dict[str, Any]
    offset: int  # bytes of stdout before it


class Displays:
    """The displays of one run as they come, held to their bounds."""

    __slots__ = ("_limit", "_room", "seen")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = _ALL * limit
        self.seen: list[Display] = []

    def take(self, frame: wire.Frame) -> Display:
        """One more. Raises `ValueError` for what no guest program of ours sends."""
        size = len(frame.buffers)
        if len(self.seen) >= _MOST or size > max(self._limit, _NOTE) or len(frame.body) > _BODY:
            raise ValueError("a display is beyond its bounds")
        self._room -= size if size > _NOTE else 0
        if self._room < 0:
            raise ValueError("the displays of one run are beyond their bounds")
        self.seen.append(_read(frame))
        return self.seen[-1]


def _read(frame: wire.Frame) -> Display:
    try:
        told = json.loads(frame.body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a display is told of in no JSON: {error}") from None
    entries, offset, metadata = (told.get(key) for key in _KEYS) if isinstance(told, dict) else (None, None, None)
    if not isinstance(entries, list) or len(entries) > _MIMES or not isinstance(metadata, dict):
        raise ValueError("a display is malformed")
    if type(offset) is not int or not 0 <= offset < 1 << 63:
        raise ValueError("a display stands at no place of the output")
    return Display(_contents(entries, frame.buffers), metadata, offset)


_KEYS: Final = ("entries", "offset", "metadata")


def _contents(entries: list[Any], buffers: bytes) -> dict[str, str | bytes]:
    data: dict[str, str | bytes] = {}
    start = 0
    for entry in entries:
        match entry:
            case [str(mime), bool(binary), int(length)] if (
                _MIME.fullmatch(mime) and type(length) is int and length >= 0
            ):
                content = buffers[start : start + length]
                start += length
                data[mime] = content if binary else content.decode("utf-8", "replace")
            case _:
                raise ValueError("a part of a display is malformed")
    if start != len(buffers):
        raise ValueError("the parts of a display are longer or shorter than announced")
    return data


def save(displays: tuple[Display, ...], directory: str | os.PathLike[str]) -> list[str]:
    """Write each display into the directory, made if it is missing, as 001.png, 002.html and so on; the paths.

    The names are ours. Files of these names are written over. Raises `OSError`.
    """
    import os

    os.makedirs(directory, exist_ok=True)
    paths = []
    for number, shown in enumerate(displays, 1):
        ending, content = _best(shown)
        path = os.path.join(directory, f"{number:03d}.{ending}")
        with open(path, "wb") as file:
            file.write(content.encode("utf-8", "replace") if isinstance(content, str) else content)
        paths.append(path)
    return paths


def _best(shown: Display) -> tuple[str, str | bytes]:
    for mime, ending in _ENDINGS:
        if mime in shown.data:
            return ending, shown.data[mime]
    return next(((("bin"), content) for content in shown.data.values()), ("txt", ""))
