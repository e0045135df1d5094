"""How large the pictures in an AVIF really are: the sizes in its tables, and those in the AV1 streams themselves.

A decoder believes the streams, so a file whose tables say 64x64 may cost gigabytes.  Here both are read, without decoding: the
tables `ispe` and `iloc` of ISO/IEC 14496-12 and 23008-12, and the sequence headers of the AV1 specification, section 5.5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

MAX_ITEMS = 1_024
"""Items, extents, boxes and units of one file: tiles of the largest grid, and some more."""

Size = tuple[int, int]
_CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0}
"""Boxes with boxes in them, and how many bytes come before those."""


def sizes(data: bytes) -> Iterator[Size]:
    """Width and height of every picture in the file, as its tables say and as its streams do.

    Raises:
        ValueError, struct.error: damaged, or built in a way that nobody builds files.
    """
    boxes = dict.fromkeys((b"iloc", b"idat"), b"")
    for kind, body in _boxes(data, 0, len(data)):
        if kind == b"ispe":
            yield struct.unpack_from(">II", body, 4)
        elif kind in boxes:
            boxes[kind] = boxes[kind] or body
    streams = 0
    for item in _items(boxes[b"iloc"], boxes[b"idat"], data):
        for size in _stream_sizes(item):
            streams += 1
            yield size
    if not streams:
        raise ValueError("no picture in it")


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    seen = 0
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, at)
        begin = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, begin)
            begin += 8
        stop = end if length == 0 else at + length
        if stop < begin or stop > end:
            raise ValueError("a box without an end")
        if kind in _CONTAINERS:
            yield from _boxes(data, begin + _CONTAINERS[kind], stop)
        elif kind in (b"ispe", b"iloc", b"idat"):
            yield kind, data[begin:stop]
        at = stop
        seen += 1
        if seen > MAX_ITEMS:
            raise ValueError("too many boxes")


def _items(table: bytes, inside: bytes, data: bytes) -> Iterator[bytes]:
    """The bytes of every item: `table` is the `iloc`, `inside` the `idat`."""
    version = table[0]
    if version > 2:
        raise ValueError("a table of a later version")
    widths = (table[4] >> 4, table[4] & 15, table[5] >> 4, table[5] & 15 if version else 0)
    at = 6

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(table):
            raise ValueError("a table that is cut short")
        at += size
        return int.from_bytes(table[at - size : at], "big")

    offset_width, length_width, base_width, index_width = widths
    left = 2 * len(data)  # an item has bytes of its own; many that share the same would cost much to read
    for _ in range(_few(number(4 if version == 2 else 2))):
        number(4 if version == 2 else 2)
        method = number(2) & 15 if version else 0
        number(2)
        base, parts = number(base_width), []
        if method > 1:
            raise ValueError("items made of items")
        for _ in range(_few(number(2))):
            number(index_width)
            begin, length = base + number(offset_width), number(length_width)
            source = inside if method else data
            parts.append(source[begin : begin + length] if length else source[begin:])
            left -= len(parts[-1])
            if left < 0:
                raise ValueError("items upon items")
        yield b"".join(parts)


def _few(count: int) -> int:
    if count > MAX_ITEMS:
        raise ValueError("too many parts")
    return count


def _stream_sizes(item: bytes) -> Iterator[Size]:
    """The sizes in the sequence headers among the units of an AV1 stream; nothing for an item that is none."""
    at = units = 0
    while at < len(item):
        head = item[at]
        at += 2 if head & 4 else 1
        length = len(item) - at
        if head & 2:
            length = shift = 0
            while at < len(item) and shift < 56:
                length |= (item[at] & 127) << shift
                shift += 7
                at += 1
                if not item[at - 1] & 128:
                    break
        if head & 0x80 or length > len(item) - at:
            return
        if head >> 3 == 1:
            yield _sequence_size(item[at : at + min(length, 256)])
        at += length
        units = _few(units + 1)


def _sequence_size(header: bytes) -> Size:
    """The largest frame that a sequence header allows."""
    bits, at = int.from_bytes(header, "big"), len(header) * 8

    def take(count: int) -> int:
        nonlocal at
        at -= count
        if at < 0:
            raise ValueError("a header that is cut short")
        return bits >> at & (1 << count) - 1

    take(4)  # profile, still picture
    if take(1):  # the short header of still pictures
        take(5)
    else:
        delay_bits = _timing(take)
        has_display_delay = take(1)
        for _ in range(take(5) + 1):
            take(12)
            if take(5) > 7:
                take(1)
            if delay_bits and take(1):
                take(2 * delay_bits + 1)
            if has_display_delay and take(1):
                take(4)
    width_bits, height_bits = take(4) + 1, take(4) + 1
    return take(width_bits) + 1, take(height_bits) + 1


def _timing(take: Callable[[int], int]) -> int:
    """Skip what is said of time; returns how long the delays of a decoder's model are in bits, 0 without one."""
    if not take(1):
        return 0
    take(64)
    if take(1):  # a number that says by zeros in front how long it is
        zeros = 0
        while not take(1):
            zeros += 1
        if zeros < 32:
            take(zeros)
    if not take(1):
        return 0
    delay_bits = take(5) + 1
    take(42)
    return delay_bits
