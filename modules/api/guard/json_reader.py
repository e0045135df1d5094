"""A JSON body as it comes in: its limits are checked and its long strings put aside before any object is built.

`json.loads` makes an object of every bracket (3 GB of 60 MB) and holds the interpreter while it reads a picture of tens of
megabytes in base64 (a second).  So the text is walked in small pieces: what stands outside of strings is counted, long strings
are taken out and decoded slice by slice, and only what is left, at most `MAX_REST` bytes and `MAX_NODES` values, goes to
`json.loads`.
"""

from __future__ import annotations

import codecs
import json
import re
import secrets
from collections.abc import Callable
from typing import Any

from modules.errors import RequestError

MAX_DEPTH = 32
"""Levels of lists and objects in one another."""
MAX_NODES = 100_000
"""Values of one body: numbers, texts, lists and objects."""
MAX_REST = 2 << 20
"""Bytes beside long texts."""
LONG = 16 << 10
"""Bytes from which a text is put aside."""
SLICE = 16 << 10
"""Bytes that are looked at in one go: some ten milliseconds where every third is a quote."""

_IN_TEXT = re.compile(rb'["\\]')
_WHOLE = re.compile(rb"(?:[^\\]|\\u[0-9a-fA-F]{4}|\\[^u])*")
_HALF = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")
_BRACKET = re.compile(rb"[\[\]{}]")
_TOO_MANY = f"the request has more than {MAX_NODES:,} values; send less at once"


class TooMuch(RequestError):
    """More values, deeper nesting or more beside long texts than is read."""


class JsonReader:
    """Takes the body piece by piece (`feed`), then gives its value.

    `clean` is applied to every piece of a long string; short strings are the caller's to clean.
    """

    def __init__(self, clean: Callable[[str], str] = lambda text: text) -> None:
        self._clean = clean
        self._rest = bytearray()
        self._mark = secrets.token_hex(8)
        self._aside: list[_Text] = []
        self._text: _Text | None = None
        self._start = 0
        """Where the string that is open begins in `_rest`, behind its quote."""
        self._open = self._escaped = False
        self._nodes, self._depth = 1, 0

    def feed(self, data: bytes) -> None:
        """Walk over the next piece of the body.  Callers with more than `SLICE` bytes should let others run in between.

        Raises:
            RequestError: there are too many values, they are nested too deeply, or it is no JSON.
        """
        position = 0
        while position < len(data):
            position = self._inside(data, position) if self._open else self._outside(data, position)
            if len(self._rest) > MAX_REST:
                raise TooMuch(f"the request has more than {MAX_REST >> 20} MiB beside its long texts; send less at once")

    def value(self) -> Any:
        """What the whole body says.

        Raises:
            RequestError: it is not valid JSON.
        """
        if self._open or self._escaped:
            raise RequestError("the request is not valid JSON")
        try:
            data = json.loads(self._rest.decode("utf-8-sig"))  # given bytes, it would guess another encoding than was walked
        except (ValueError, RecursionError):
            raise RequestError("the request is not valid JSON") from None
        return self._filled_in(data) if self._aside else data

    def _outside(self, data: bytes, position: int) -> int:
        """Up to the next string."""
        quote = data.find(b'"', position)
        end = len(data) if quote < 0 else quote
        part = data[position:end]
        self._nodes += part.count(b",") + part.count(b"[") + part.count(b"{")
        if self._nodes > MAX_NODES:
            raise TooMuch(_TOO_MANY)
        for bracket in _BRACKET.finditer(part):
            self._depth += 1 if bracket[0] in b"[{" else -1
            if self._depth > MAX_DEPTH:
                raise TooMuch(f"the request is nested more than {MAX_DEPTH} levels deep")
        self._rest += part
        if quote < 0:
            return end
        self._rest += b'"'
        self._open, self._start, self._text = True, len(self._rest), None
        return end + 1

    def _inside(self, data: bytes, position: int) -> int:
        """Up to the string's end, or the end of what is there."""
        start = position
        if self._escaped:
            self._escaped, position = False, position + 1
        closed = False
        while (found := _IN_TEXT.search(data, position)) is not None:
            if found[0] == b'"':
                closed = True
                break
            position = found.end() + 1
            if position > len(data):
                self._escaped = True
                break
        end = found.start() if closed and found is not None else len(data)
        self._keep(data[start:end])
        if not closed:
            return len(data)
        self._close()
        return end + 1

    def _keep(self, part: bytes) -> None:
        if self._text is None and len(self._rest) - self._start + len(part) > LONG:
            self._text = _Text(self._clean)
            self._text.feed(bytes(self._rest[self._start :]))
            del self._rest[self._start :]
        if self._text is None:
            self._rest += part
        else:
            self._text.feed(part)

    def _close(self) -> None:
        if self._text is not None:
            self._rest += f"{self._mark}:{len(self._aside)}".encode()
            self._text.finish()
            self._aside.append(self._text)
        self._rest += b'"'
        self._open = False

    def _filled_in(self, data: Any) -> Any:
        """`data` with the long strings where their places were left; keys are short or no field of ours."""
        if isinstance(data, str):
            mark, _, number = data.partition(":")
            return self._aside[int(number)].text() if mark == self._mark else data
        if isinstance(data, list):
            return [self._filled_in(each) for each in data]
        if isinstance(data, dict):
            return {self._filled_in(key): self._filled_in(each) for key, each in data.items()}
        return data


class _Text:
    """A long string, decoded slice by slice; a slice never ends within an escape sequence or a character."""

    def __init__(self, clean: Callable[[str], str]) -> None:
        self._clean = clean
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._waiting = bytearray()
        self._parts: list[str] = []

    def feed(self, part: bytes) -> None:
        self._waiting += part
        while len(self._waiting) >= 2 * SLICE:
            if not (end := self._safe_end()):
                raise RequestError("the request is not valid JSON")
            self._take(bytes(self._waiting[:end]))
            del self._waiting[:end]

    def finish(self) -> None:
        self._take(bytes(self._waiting), final=True)
        self._waiting = bytearray()

    def text(self) -> str:
        return "".join(self._parts)

    def _safe_end(self) -> int:
        """At most a slice of whole escape sequences; the first half of a character of two is left for the next one."""
        whole = _WHOLE.match(self._waiting, 0, SLICE)
        end = whole.end() if whole else 0
        return end - 6 if _HALF.fullmatch(self._waiting, max(0, end - 6), end) else end

    def _take(self, raw: bytes, final: bool = False) -> None:
        try:
            text = self._decoder.decode(raw, final)
            if "\\" in text or not text.isprintable():
                text = json.loads(f'"{text}"')
        except ValueError:
            raise RequestError("the request is not valid JSON") from None
        self._parts.append(self._clean(text))
