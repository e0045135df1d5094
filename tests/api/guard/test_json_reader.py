"""JSON bodies: equal to the json module's reading, within bounds of memory and of work in one go."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.api.guard.json_reader import LONG, MAX_DEPTH, MAX_NODES, MAX_REST, SLICE, JsonReader
from modules.errors import RequestError
from modules.request import clean_text


def fed(body: bytes, piece: int = SLICE) -> JsonReader:
    reader = JsonReader()
    for start in range(0, len(body), piece):
        reader.feed(body[start : start + piece])
    return reader


def read(body: bytes, piece: int = SLICE) -> Any:
    return fed(body, piece).value()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(values, st.integers(1, 40), st.booleans())
def test_any_value_is_read_as_the_json_module_reads_it(value: Any, piece: int, ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    try:
        expected = json.loads(body)
    except UnicodeDecodeError:
        return
    assert read(body, piece) == expected


LONG_TEXTS = [
    "iVBORw0KGgo/" * 20_000,
    'say "hi" \\ and \\u0041 ' * 10_000,
    "\\" * 200_000,
    "\U0001f9ff\u00e9\u4e2d" * 60_000,
    '"' * 150_000,
    "a" * (LONG - 1) + "\U0001f9ff",
]


@pytest.mark.parametrize("piece", [SLICE, 1_021, 65_521])
@pytest.mark.parametrize("ascii", [True, False])
@pytest.mark.parametrize("text", LONG_TEXTS, ids=["base64", "escapes", "backslashes", "characters of two", "quotes", "edge"])
def test_long_texts_are_put_aside_and_come_back(text: str, ascii: bool, piece: int) -> None:
    value = {"init_images": [text, "short", text], "n": 1, text[:5]: {"again": text}}
    written = json.dumps(value, ensure_ascii=ascii)
    assert read(written.encode(), piece) == value
    slashed = written.replace("/", "\\/")  # PHP writes them so
    assert slashed == written or read(slashed.encode(), piece) == value


def test_long_texts_are_cleaned_piece_by_piece() -> None:
    reader, seen = JsonReader(lambda text: (seen.append(len(text)), clean_text(text))[1]), []
    body = json.dumps({"image": "ab\u0000c\ud800" * 40_000}).encode()
    for start in range(0, len(body), SLICE):
        reader.feed(body[start : start + SLICE])
    assert reader.value() == {"image": "abc" * 40_000}
    assert len(seen) > 2
    assert max(seen) <= 2 * SLICE, "no call looks at more than two slices"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[" + b"[]," * MAX_NODES + b"[]]", "more than 100,000 values"),
        (b"{" + b",".join(b'"%d":1' % n for n in range(MAX_NODES + 1)) + b"}", "more than 100,000 values"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested more than 32 levels deep"),
        (b"[" + b" " * (MAX_REST + 1) + b"]", "more than 2 MiB beside its long texts"),
        (b"[" + b"1" * (MAX_REST + 1) + b"]", "more than 2 MiB beside its long texts"),
    ],
    ids=["lists", "keys", "depth", "blanks", "digits"],
)
def test_limits_hold_before_objects_are_built(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        fed(body)


def test_no_other_encoding_gets_past_the_limits() -> None:
    """In UTF-16 the quotes that are counted and those that are parsed are not the same ones."""
    deep = '{"a":["\u2220",' + "[" * 900 + "]" * 900 + ',"\u2220"]}'
    for encoding in ("utf-16-le", "utf-16-be", "utf-16", "utf-32"):
        with pytest.raises(RequestError):
            read(deep.encode(encoding))
    assert read(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}, "a mark of UTF-8 does no harm"


def test_a_body_of_brackets_costs_next_to_nothing() -> None:
    """60 MB of `[]` made 3 GB of lists; it is refused while the first pieces come in."""
    piece = b"[]," * (SLICE // 3)
    reader, taken = JsonReader(), 0
    tracemalloc.start()
    try:
        reader.feed(b'{"x":[')
        while taken < 60 << 20:
            reader.feed(piece)
            taken += len(piece)
    except RequestError as error:
        assert "more than 100,000 values" in str(error)  # noqa: PT017
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < 1 << 20
    assert peak < 4 << 20


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"a',
        b'{"a": "b\\',
        b"[1,]",
        b'["' + b"a" * 50_000,
        b'["' + b"\\x" * 50_000 + b'"]',
        b"nul",
        b"\xff",
        b'["\x01"]',
        b'["' + b"a" * 50_000 + b"\n" + b'"]',
        b'["' + b"a" * 50_000 + b"\xff" + b'"]',
        b'["' + b"\\u12" * 50_000 + b'"]',
        b"][",
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError, match="the request is not valid JSON"):
        read(body)
