"""Values out of answers, placeholders out of requests."""

import base64
import html
import itertools
import json
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex._network._masking import Exchange, Mask, forms_of, new_placeholder
from dspex._sandbox.network import Secret

VALUE = 'sk-live/0123+"abc\\def'
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)


def masked(value, data, cuts=()):
    """The data through a mask, in chunks that end at the cuts."""
    mask, places = Mask([value]), sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return b"".join(mask.feed(data[a:b]) for a, b in itertools.pairwise(places)) + mask.end()


@given(VALUES, st.binary(max_size=20), st.binary(max_size=20), st.lists(st.integers(0, 500), max_size=8))
def test_no_chunking_lets_a_value_through(value, before, after, cuts):
    """Wherever the chunks are cut, the value is overwritten, and the length stays."""
    data = before + value.encode() + after + value.encode()
    clean = masked(value, data, cuts)
    assert value.encode() not in clean
    assert len(clean) == len(data)
    assert clean == masked(value, data)


@given(VALUES, st.binary(max_size=20), st.binary(max_size=20), st.lists(st.integers(0, 500), max_size=8))
def test_base64_is_found_at_every_place(value, before, after, cuts):
    """What is left of base64 that holds the value does not decode to it, whatever stands around it."""
    for encode, decode in ((base64.b64encode, base64.b64decode), (base64.urlsafe_b64encode, base64.urlsafe_b64decode)):
        clean = masked(value, encode(before + value.encode() + after), cuts)
        assert value.encode() not in decode(clean.replace(b"*", b"A"))
        assert clean.count(b"*") >= len(value) * 4 // 3 - 3


def test_written_forms_are_found():
    """In JSON and in URLs a value looks different, and is found."""
    for form in (json.dumps(VALUE), json.dumps(VALUE).replace("/", "\\/"), quote(VALUE, safe="")):
        assert b"0123" not in masked(VALUE, form.encode())


def html_by_number(value):
    """As servers in Go write text of HTML."""
    return html.escape(value).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


@pytest.mark.parametrize(
    "spell",
    [
        quote,
        lambda value: quote(value, safe="!'()*"),
        lambda value: quote(value, safe=";,/?:@&=+$!'()*#"),
        lambda value: re.sub("%..", lambda found: found[0].lower(), quote(value, safe="")),
        lambda value: json.dumps(value)[1:-1].replace("<", "\\u003c").replace("&", "\\u0026"),
        lambda value: value.replace("+", "\\u002B").replace("<", "\\u003C").replace("&", "\\u0026"),
        html.escape,
        html_by_number,
    ],
)
def test_what_servers_make_of_a_value_is_found(spell):
    """As they write it into JSON, URLs and HTML, which differs from one library to another."""
    written = spell("Zm9v+/<&==bar").encode()
    assert masked("Zm9v+/<&==bar", b"x" + written + b"y") == b"x" + b"*" * len(written) + b"y"


def test_overlapping_values_leave_nothing():
    """Where two finds overlap both are overwritten."""
    assert masked("abcabcab", b"abcabcabcab") == b"*" * 11
    assert masked("abcabcab", b"abcabcabcab", range(12)) == b"*" * 11


def test_nothing_is_held_back_without_need():
    """Text that cannot be the beginning of a value passes at once."""
    mask = Mask([VALUE])
    assert mask.feed(b"data: event\n\n") == b"data: event\n\n"
    assert mask.feed(b"data: sk-") == b"data: "
    assert mask.feed(b"x") == b"sk-x"


def test_without_values_everything_passes():
    """A mask for nothing changes nothing."""
    assert masked_nothing(b"abc") == b"abc"


def masked_nothing(data):
    mask = Mask([])
    return mask.feed(data) + mask.end()


def test_forms_are_never_short():
    """No form is so short that it would be found by chance."""
    assert min(map(len, forms_of("12345678"))) >= 8


def exchange():
    """Placeholders of two secrets, the first of which belongs to the host."""
    placeholders = {"ONE": new_placeholder("ONE"), "TWO": new_placeholder("TWO")}
    return placeholders, Exchange(placeholders, [Secret(name="ONE", value="value-of-one", hosts=("a.test",))])


def test_placeholders_of_the_host_are_exchanged():
    """The value takes the place of its placeholder, also inside Basic credentials."""
    placeholders, ours = exchange()
    one = placeholders["ONE"].encode()
    assert ours.in_header(b"Bearer " + one) == b"Bearer value-of-one"
    basic = ours.in_header(b"Basic " + base64.b64encode(b"me:" + one))
    assert base64.b64decode(basic.partition(b" ")[2]) == b"me:value-of-one"
    assert ours.found_in_header(b"basic " + base64.b64encode(b"me:" + one))
    assert ours.in_header(b"Basic !!!") == b"Basic !!!"


def test_growth_is_known_before_it_happens():
    """What an exchange adds is told without making it."""
    placeholders = {"ONE": new_placeholder("ONE")}
    ours = Exchange(placeholders, [Secret(name="ONE", value="v" * 8000, hosts=("a.test",))])
    text = placeholders["ONE"].encode() * 100
    assert len(text) + ours.growth_in(text) == len(ours.in_text(text)) == 800_000
    assert ours.growth_in_header(b"Basic " + base64.b64encode(text)) == ours.growth_in(text)


def test_placeholders_of_others_stay():
    """A placeholder of another host is told, and not exchanged."""
    placeholders, ours = exchange()
    two = placeholders["TWO"].encode()
    assert ours.in_header(b"Bearer " + two) == b"Bearer " + two
    assert ours.foreign_in(b"x" + two) == ["TWO"]


def test_placeholders_cannot_be_guessed():
    """Two placeholders of one name differ."""
    assert new_placeholder("KEY") != new_placeholder("KEY")
