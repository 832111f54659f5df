"""What a program shows: `display`, figures, images, charts; each goes to the host as a bundle of MIME types, as in Jupyter.

Theory of operation. `display` is a builtin name of every program and costs nothing until it is called. Libraries that show
things by themselves are turned to it when a program imports them, never before, by `Turning`, a finder of modules that does
nothing but wait for their names: Pillow's `Image.show`, Plotly's `show`. Matplotlib is told by its own variable (MPLBACKEND)
to draw on the module `dspex_figures`, which is made here and is empty until Matplotlib looks into it; figures that are left
open when the program ends are shown then.

A display is sent at once, in one frame, while the program goes on. One that is larger than the limit of a value, and those
beyond four times that in one run or beyond the thousandth, are replaced by a note.
"""

from __future__ import annotations

import base64
import builtins
import importlib
import io
import json
import os
import struct
import sys
import threading
import types
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec

_HEADER: Final = struct.Struct("<2sBBIQ")
_DISPLAY: Final = 19
_MOST: Final = 1000  # displays of one run
_ALL: Final = 4  # times the limit of one: the bytes of all displays of one run
_METADATA: Final = 65_536  # bytes
_MIMES: Final = 32
FIGURES: Final = "dspex_figures"

# Method of an object -> the MIME type of what it returns, best last, as Jupyter has them.
_METHODS: Final = (
    ("_repr_markdown_", "text/markdown"),
    ("_repr_latex_", "text/latex"),
    ("_repr_json_", "application/json"),
    ("_repr_html_", "text/html"),
    ("_repr_svg_", "image/svg+xml"),
    ("_repr_jpeg_", "image/jpeg"),
    ("_repr_png_", "image/png"),
)


class Screen:
    """Where the displays of one guest go: counts and bounds them, and sends them."""

    def __init__(self, limit: int, send: Callable[[bytes], None]) -> None:
        self._limit = limit
        self._send = send
        self._lock = threading.Lock()
        self._open = False
        self.begin()

    def begin(self) -> None:
        """A run begins: nothing was shown yet."""
        with self._lock:
            self._open = True
            self._count = 0
            self._room = _ALL * self._limit

    def end(self) -> None:
        """The run is over: what threads of the program still show comes too late."""
        with self._lock:
            self._open = False

    def show(self, bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        """Send one display, or a note in its place when it is beyond the bounds."""
        contents = [
            (str(mime), _content(content)) for mime, content in list(bundle.items())[:_MIMES] if content is not None
        ]
        told = json.dumps(metadata or {}, default=str)
        size = sum(len(content) for _, (content, _) in contents)
        with self._lock:
            if not self._open:
                raise RuntimeError("display() was called when its program was over")
            if self._count > _MOST:
                return
            self._count += 1
            if self._count > _MOST:
                contents, told = _note(f"displays after the first {_MOST:,} are left out"), "{}"
            elif size > min(self._limit, self._room) or len(told) > _METADATA:
                contents, told = (
                    _note(f"a display of {size:,} bytes is left out: it is beyond the limit of values"),
                    "{}",
                )
            else:
                self._room -= size
            self._put(contents, told)

    def _put(self, contents: list[tuple[str, tuple[bytes, bool]]], metadata: str) -> None:
        sys.stdout.flush()
        offset = os.lseek(1, 0, os.SEEK_CUR)
        entries = [[mime, binary, len(content)] for mime, (content, binary) in contents]
        body = json.dumps({"entries": entries, "offset": offset, "metadata": json.loads(metadata)}).encode()
        data = b"".join(content for _, (content, _) in contents)
        self._send(_HEADER.pack(b"dx", _DISPLAY, 0, len(body), len(data)) + body + data)


def _note(text: str) -> list[tuple[str, tuple[bytes, bool]]]:
    return [("text/plain", (f"[{text}]".encode(), False))]


def _content(content: Any) -> tuple[bytes, bool]:
    """The bytes of one part of a bundle, and whether they are no text."""
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content), True
    text = content if isinstance(content, str) else json.dumps(content, default=str)
    return text.encode("utf-8", "replace"), False


_screen: Screen  # made by `prepare`


def prepare(limit: int, send: Callable[[bytes], None]) -> Screen:
    """In the zygote: make `display` a builtin, and wait for libraries that show things by themselves."""
    global _screen
    _screen = Screen(limit, send)
    vars(builtins)["display"] = display
    sys.modules[FIGURES] = _figures()
    if not any(isinstance(finder, Turning) for finder in sys.meta_path):
        sys.meta_path.insert(0, Turning())
    for name, turn in _TURNED.items():
        if name in sys.modules:
            turn(sys.modules[name])
    return _screen


def end() -> None:
    """The program has ended: show the figures that it left open."""
    if "matplotlib.pyplot" in sys.modules:
        _show_figures()


def display(*objects: Any, metadata: dict[str, Any] | None = None, raw: bool = False) -> None:
    """Show objects to whoever runs this program: figures, images, charts, data frames, anything with `_repr_html_` and the like.

    With `raw`, each object is itself a mapping of MIME types to contents.
    """
    for shown in objects:
        bundle, extra = (dict(shown), {}) if raw else bundle_of(shown)
        _screen.show(bundle, {**extra, **(metadata or {})})


def bundle_of(shown: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The MIME bundle of any object, and its metadata; the plain text is always there."""
    for kind, make in _KINDS:
        if kind in {f"{base.__module__}.{base.__qualname__}" for base in type(shown).__mro__}:
            return make(shown), {}
    bundle: dict[str, Any] = {"text/plain": _plain(shown)}
    metadata: dict[str, Any] = {}
    if isinstance(shown, type):  # a class has the methods, but not the object to call them on
        return bundle, metadata
    for method, mime in _METHODS:
        _add(bundle, metadata, mime, _asked(shown, method))
    whole = _asked(shown, "_repr_mimebundle_")
    parts, extra = whole if isinstance(whole, tuple) and len(whole) == 2 else (whole, {})
    if isinstance(parts, dict):
        bundle.update(parts)
        metadata.update(extra if isinstance(extra, dict) else {})
    for mime in ("image/png", "image/jpeg"):  # Jupyter's protocol carries them as base64 text
        if isinstance(bundle.get(mime), str):
            bundle[mime] = base64.b64decode(bundle[mime])
    return bundle, metadata


def _plain(shown: Any) -> str:
    return shown if isinstance(shown, str) else repr(shown)


def _asked(shown: Any, method: str) -> Any:
    """What a method of the object returns; None where there is none, or where it has nothing to say."""
    ask = getattr(shown, method, None)
    try:
        return ask() if callable(ask) else None
    except NotImplementedError:
        return None


def _add(bundle: dict[str, Any], metadata: dict[str, Any], mime: str, told: Any) -> None:
    if isinstance(told, tuple) and len(told) == 2:
        told, metadata[mime] = told
    if told is not None:
        bundle[mime] = told


# --- Libraries that show things ----------------------------------------------------------------------------------------


def _figure(figure: Any) -> dict[str, Any]:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight")
    return {"image/png": drawn.getvalue(), "text/plain": repr(figure)}


def _image(image: Any) -> dict[str, Any]:
    drawn = io.BytesIO()
    kept = image if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16") else image.convert("RGB")
    kept.save(drawn, "PNG")
    return {"image/png": drawn.getvalue(), "text/plain": repr(image)}


def _chart(chart: Any) -> dict[str, Any]:
    html = chart.to_html(full_html=False, include_plotlyjs="cdn")
    return {"application/vnd.plotly.v1+json": chart.to_json(), "text/html": html, "text/plain": "a Plotly figure"}


_KINDS: Final = (
    ("matplotlib.figure.Figure", _figure),
    ("PIL.Image.Image", _image),
    ("plotly.basedatatypes.BaseFigure", _chart),
)


def _figures() -> types.ModuleType:
    """The backend that Matplotlib draws on: that for files, with a `show` of ours."""
    module = types.ModuleType(FIGURES)

    def found(name: str) -> Any:
        if name != "FigureCanvas":
            raise AttributeError(name)
        module.__dict__[name] = importlib.import_module("matplotlib.backends.backend_agg").FigureCanvasAgg
        return module.__dict__[name]

    def show(*_: Any, **__: Any) -> None:
        _show_figures()

    module.__dict__.update(__getattr__=found, show=show)
    return module


def _show_figures() -> None:
    """Show all open figures, in the order in which they were made, and close them."""
    pyplot = sys.modules["matplotlib.pyplot"]
    for number in pyplot.get_fignums():
        display(pyplot.figure(number))
        pyplot.close(number)


def _turn_images(module: types.ModuleType) -> None:
    def show(image: Any, title: str | None = None, **_: Any) -> bool:
        display(image)
        return True

    vars(module)["show"] = show


def _turn_charts(module: types.ModuleType) -> None:
    def show(chart: Any, *_: Any, **__: Any) -> None:
        display(chart)

    vars(module)["show"] = show


_TURNED: Final[dict[str, Callable[[types.ModuleType], None]]] = {
    "PIL.ImageShow": _turn_images,
    "plotly.io": _turn_charts,
}


class Turning:
    """A finder that lets the others find, and turns a module of `_TURNED` to `display` once it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """None for all but the modules to be turned; see `importlib.abc.MetaPathFinder`."""
        if name not in _TURNED:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                return _turning(spec)
        return None


def _turning(spec: ModuleSpec) -> ModuleSpec:
    loader = spec.loader
    assert loader is not None  # seen by the caller
    load = loader.exec_module

    def exec_module(module: types.ModuleType) -> None:
        load(module)
        _TURNED[spec.name](module)

    vars(loader)["exec_module"] = exec_module
    return spec
