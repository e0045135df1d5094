"""EXIF, as far as pictures from machines use it: a handful of tags out of a block of bytes, and such a block for ours.

Only two directories are looked at, IFD 0 and the one of EXIF proper, and nothing is followed that could lead in circles.
Which file carries the block is `containers`' business, what the texts mean is `infotext`'s.

Format: TIFF 6.0 section 2, EXIF 2.32 (CIPA DC-008).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

DESCRIPTION, MAKE, MODEL, ORIENTATION, SOFTWARE = 0x010E, 0x010F, 0x0110, 0x0112, 0x0131
COPYRIGHT, XMP, MAKER_NOTE, USER_COMMENT = 0x8298, 0x02BC, 0x927C, 0x9286
_POINTER = 0x8769
_PREFIX = b"Exif\0\0"

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_MOST_ENTRIES = 256  # of one directory; cameras write a few dozen

Tags = dict[int, bytes]
"""Raw values by tag; numbers are big-endian whatever the block's order was."""


def read_tags(block: bytes) -> Tags:
    """The tags of IFD 0 and of the EXIF directory; of a damaged block, what can be read.  Never raises.

    >>> read_tags(write_tags({SOFTWARE: b"Atelier"}))[SOFTWARE]
    b'Atelier'
    >>> read_tags(b"nonsense")
    {}
    """
    block = block.removeprefix(_PREFIX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return {}
    tags = _directory(block, _number(block, 4, order), order)
    if len(pointer := tags.pop(_POINTER, b"")) >= 4:
        tags |= {tag: value for tag, value in _directory(block, _number(pointer, 0, ">"), order).items() if tag != _POINTER}
    return tags


def orientation(tags: Tags) -> int:
    """1 to 8; 1, upright, when there is none or it makes no sense."""
    value = tags.get(ORIENTATION, b"")
    number = int.from_bytes(value[:2], "big")
    return number if 1 <= number <= 8 else 1


def write_tags(tags: Mapping[int, bytes]) -> bytes:
    """A big-endian EXIF block of text tags: those that belong there in the EXIF directory, the rest in IFD 0.

    `USER_COMMENT` and `MAKER_NOTE` are written as they are (type UNDEFINED), `XMP` as bytes, the others as ASCII with an
    end mark.
    """
    first = {tag: value for tag, value in tags.items() if tag not in (USER_COMMENT, MAKER_NOTE)}
    second = {tag: value for tag, value in tags.items() if tag in (USER_COMMENT, MAKER_NOTE)}
    begin = 8
    if second:
        first[_POINTER] = struct.pack(">I", begin + len(_packed({**first, _POINTER: b"\0\0\0\0"}, begin)))
    head = b"MM\0*" + struct.pack(">I", begin) + _packed(first, begin)
    return _PREFIX + head + (_packed(second, len(head)) if second else b"")


def _directory(block: bytes, at: int, order: str) -> Tags:
    tags: Tags = {}
    if not 8 <= at <= len(block) - 2:
        return tags
    (count,) = struct.unpack_from(order + "H", block, at)
    for index in range(min(count, _MOST_ENTRIES)):
        entry = at + 2 + 12 * index
        if entry + 12 > len(block):
            break
        tag, kind, number = struct.unpack_from(order + "HHI", block, entry)
        length = _SIZES.get(kind, 0) * number
        begin = entry + 8 if length <= 4 else _number(block, entry + 8, order)
        if not length or begin + length > len(block):
            continue
        value = block[begin : begin + length]
        if order == "<" and (size := _SIZES[kind]) in (2, 4):
            value = b"".join(value[i : i + size][::-1] for i in range(0, min(length, 64), size))
        tags.setdefault(tag, value.rstrip(b"\0") if kind == 2 else value)
    return tags


def _number(block: bytes, at: int, order: str) -> int:
    return int(struct.unpack_from(order + "I", block, at)[0]) if at + 4 <= len(block) else -1


def _packed(tags: Mapping[int, bytes], begin: int) -> bytes:
    """A directory that stands at `begin`, and its values behind it."""
    entries, values = b"", b""
    behind = begin + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        kind, value = _typed(tag, tags[tag])
        number = 1 if kind == 4 else len(value)
        if len(value) <= 4:
            place = value.ljust(4, b"\0")
        else:
            place = struct.pack(">I", behind + len(values))
            values += value + b"\0" * (len(value) % 2)
        entries += struct.pack(">HHI", tag, kind, number) + place
    return struct.pack(">H", len(tags)) + entries + b"\0\0\0\0" + values


def _typed(tag: int, value: bytes) -> tuple[int, bytes]:
    if tag == _POINTER:
        return 4, value
    if tag in (USER_COMMENT, MAKER_NOTE):
        return 7, value
    return (1, value) if tag == XMP else (2, value + b"\0")
