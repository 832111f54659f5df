"""What programs show: bundles, order, bounds, and what a forged display comes to."""

import json
import struct

import pytest

from dspex import CodeExecutor, ResourceLimits, SecurityPolicy
from dspex._sandbox import wire
from dspex.execution import _displays
from dspex.execution._displays import Display, Displays

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(max_concurrency=1) as made:
        yield made


@pytest.fixture(scope="module")
def studio():
    for name in ("matplotlib", "PIL", "plotly", "pandas"):
        pytest.importorskip(name)
    policy = SecurityPolicy(packages=["matplotlib", "pillow", "plotly", "pandas"])
    with CodeExecutor(
        max_concurrency=1, policy=policy, limits=ResourceLimits(memory="2 GiB"), isolation="namespaces"
    ) as made:
        yield made


def test_displays_come_in_order_with_the_output(executor):
    """Each display has every form that the object offers, and says how many bytes were printed before it."""
    result = executor.execute("""
class Shown:
    def _repr_html_(self): return "<b>x</b>"
    def _repr_markdown_(self): return "**x**"
    def _repr_png_(self): return b"\\x89PNG"
    def __repr__(self): return "x"
print("äb"); display(Shown(), "text"); print("c"); display({"text/html": "raw"}, raw=True)""")
    assert result.displays == (
        Display({"text/plain": "x", "text/markdown": "**x**", "text/html": "<b>x</b>", "image/png": b"\x89PNG"}, {}, 4),
        Display({"text/plain": "text"}, {}, 4),
        Display({"text/html": "raw"}, {}, 6),
    )


def test_mimebundles_and_metadata_are_kept(executor):
    """`_repr_mimebundle_` adds its forms, base64 pictures become bytes, metadata comes along."""
    result = executor.execute("""
class Shown:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"image/png": "iVBORw==", "application/json": {"a": 1}}, {"image/png": {"width": 3}}
display(Shown())""")
    (shown,) = result.displays
    assert shown.data["image/png"] == b"\x89PNG"
    assert json.loads(shown.data["application/json"]) == {"a": 1}
    assert shown.metadata == {"image/png": {"width": 3}}


def test_plain_programs_show_nothing(executor):
    """No display, no bundle; `display` is a name like any other and may be taken."""
    assert executor.execute("display = 3\ndisplay").value == 3
    assert executor.execute("1").displays == ()


def test_displays_of_a_failed_program_are_kept(executor):
    """What was shown before the program failed or was killed comes back."""
    assert len(executor.execute("display(1)\n1/0").displays) == 1
    assert len(executor.execute("display(1)\nimport os; os._exit(3)").displays) == 1


def test_a_display_beyond_the_limit_is_replaced_by_a_note():
    """A display of a hundred times the limit is not sent; the program goes on."""
    with CodeExecutor(max_concurrency=1, limits=ResourceLimits(value="1 MiB")) as executor:
        result = executor.execute("display('x' * (100 << 20)); display('y'); 5")
    assert result.value == 5
    assert [shown.data["text/plain"][:40] for shown in result.displays] == [
        "[a display of 104,857,600 bytes is left ",
        "y",
    ]


def test_displays_of_one_run_are_bounded_together():
    """Four times the limit in all; what goes beyond is noted, each time."""
    with CodeExecutor(max_concurrency=1, limits=ResourceLimits(value="64 KiB")) as executor:
        result = executor.execute("for n in range(6): display('x' * 60_000)")
    assert [len(shown.data["text/plain"]) > 1000 for shown in result.displays] == [True] * 4 + [False] * 2


def test_a_flood_of_displays_ends_in_a_note(executor):
    """A thousand displays come, then one note, then none; the next call of a session begins anew."""
    with executor.session() as session:
        result = session.execute("for n in range(3000): display(n)")
        assert len(result.displays) == 1001
        assert "left out" in result.displays[-1].data["text/plain"]
        assert len(session.execute("display(1)").displays) == 1


def frame(entries, buffers=b"", **told):
    body = json.dumps({"entries": entries, "offset": 0, "metadata": {}, **told}).encode()
    return wire.Frame(wire.DISPLAY, 0, body, buffers)


@pytest.mark.parametrize(
    "forged",
    [
        frame([["no mime", False, 0]]),
        frame([["../../etc/x", False, 0]]),
        frame([["text/plain", False, -1]]),
        frame([["text/plain", False, 5]], b"abc"),
        frame([["text/plain", False, True]], b"a"),
        frame([["text/plain", 0, 1]], b"a"),
        frame([["text/plain", False]]),
        frame([[]] * 100),
        frame({}),
        frame([], offset=-1),
        frame([], offset="0"),
        frame([], metadata=[]),
        frame([["text/plain", False, 2000]], bytes(2000)),
        wire.Frame(wire.DISPLAY, 0, b"[" * 100_000, b""),
        wire.Frame(wire.DISPLAY, 0, b"\xff", b""),
        wire.Frame(wire.DISPLAY, 0, b"[]", b""),
    ],
)
def test_forged_displays_are_refused(forged):
    """A display that no guest program of ours sends is a breach."""
    with pytest.raises(ValueError, match="display"):
        Displays(1000).take(forged)


def test_the_host_counts_too():
    """A guest that does not keep to the bounds meets those of the host."""
    shown = Displays(1000)
    with pytest.raises(ValueError, match="bounds"):
        for _ in range(5):
            shown.take(frame([["text/plain", False, 1000]], bytes(1000)))
    assert len(shown.seen) == 4


def test_a_breach_ends_the_run_not_the_executor(executor):
    """A program that writes a forged display on the channel is ended, and the next one runs."""
    header = struct.pack("<2sBBIQ", b"dx", wire.DISPLAY, 0, 2, 0) + b"[]"
    code = """
import os
for n in range(3, 250):
    try: os.write(n, forged)
    except OSError: pass
import time; time.sleep(5)"""
    result = executor.execute(code, {"forged": header})
    assert result.error.type == "ProtocolBreach"
    assert executor.execute("1").value == 1


def test_displays_are_saved_under_names_of_ours(tmp_path):
    """The best form decides the ending; numbers are in order."""
    shown = (
        Display({"text/plain": "a", "image/png": PNG}, {}, 0),
        Display({"text/plain": "a", "text/html": "<b>"}, {}, 0),
        Display({"application/x-odd": b"?"}, {}, 0),
    )
    paths = _displays.save(shown, tmp_path / "new")
    assert [path.rpartition("/")[2] for path in paths] == ["001.png", "002.html", "003.bin"]
    assert (tmp_path / "new" / "001.png").read_bytes() == PNG


def test_figures_come_as_pictures(studio):
    """`plt.show()`, figures left open, and `display(figure)` give PNG; a closed figure gives none."""
    result = studio.execute("""
import matplotlib.pyplot as plt
plt.plot([1, 2]); plt.show()
figure, axes = plt.subplots(); display(figure); plt.close(figure)
plt.plot([3])""")
    assert result.ok, result.error
    assert [shown.data["image/png"][:8] for shown in result.displays] == [PNG] * 3
    assert not result.files
    assert not result.stderr


def test_images_charts_and_frames(studio):
    """Pillow, Plotly and pandas show as they do in a notebook."""
    result = studio.execute("""
from PIL import Image
Image.new("RGB", (2, 2)).show()
import plotly.graph_objects as go
go.Figure(go.Scatter(y=[1, 2])).show()
import pandas as pd
display(pd.DataFrame({"a": [1]}))""")
    assert result.ok, result.error
    image, chart, table = result.displays
    assert image.data["image/png"].startswith(PNG)
    assert json.loads(chart.data["application/vnd.plotly.v1+json"])["data"]
    assert "<table" in table.data["text/html"]
    assert "a" in table.data["text/plain"]


def test_a_display_of_a_gigabyte_costs_the_host_nothing():
    """The guest does not send it, and a note stands in its place."""
    import resource

    code = "class Page:\n    def _repr_html_(self): return 'x' * (1 << 30)\ndisplay(Page())\n'shown'"
    with CodeExecutor(limits=ResourceLimits(memory="6GiB", wall=60, cpu=60)) as executor:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = executor.execute(code)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert result.value == "shown", result
    assert "text/html" not in result.displays[0].data
    assert after - before < 50_000  # kilobytes
