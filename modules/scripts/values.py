"""The values of an axis as A1111's X/Y/Z plot writes them: CSV, in which numbers may be ranges.

    1, 2, 5                 three values
    1-5                     1, 2, 3, 4, 5
    1-10 (+3)               1, 4, 7, 10
    10-1 (-3)               10, 7, 4, 1
    0-1 [5]                 five values, evenly from 0 to 1
    "a, b", c               two texts, the first with a comma

Both ends belong to a range.  Source: AUTOMATIC1111 v1.10.1, `scripts/xyz_grid.py`, whose syntax this is; there a step beyond
the end, and a falling range, miss or overshoot it.
"""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections.abc import Iterator

from modules.errors import RequestError

MAX_VALUES = 1000
"""Of one axis, permutations included."""

_MAX_RANGE = 100
"""Characters of a number or range."""

_INT, _REAL = r"[+-]?\s*\d+", r"[+-]?\s*(?:\d+(?:\.\d*)?|\.\d+)"
_SHAPE = r"\s*({0})\s*-\s*({0})\s*(?:\(\s*({0})\s*\)|\[\s*(\d+)\s*\])?\s*"
_RANGE = {int: re.compile(_SHAPE.format(_INT)), float: re.compile(_SHAPE.format(_REAL))}


def split(text: str) -> list[str]:
    """The values of a CSV text, without the blanks around them; quoted ones may hold commas and line breaks.

    >>> split('a, "b, c" , "d ""e"" f"')
    ['a', 'b, c', 'd "e" f']

    Raises:
        RequestError: a value is longer than CSV fields may be.
    """
    try:
        rows = list(csv.reader(text.splitlines(keepends=True), skipinitialspace=True))
    except csv.Error as error:
        raise RequestError(f"the values cannot be read as CSV ({error})") from None
    return [value.strip() for row in rows for value in row]


def joined(values: list[str]) -> str:
    """The other way: texts as CSV, quoted where `split` would not give them back otherwise.

    >>> joined(["a", "b, c", 'd "e" f'])
    'a, "b, c", "d ""e"" f"'
    """
    return ", ".join(value if _plain(value) else '"' + value.replace('"', '""') + '"' for value in values)


def _plain(value: str) -> bool:
    return bool(value) and value == value.strip() and not any(mark in value for mark in ',"\n\r')


def integers(values: list[str]) -> list[int]:
    """Whole numbers, ranges expanded.

    >>> integers(["3", "1-4", "1-10 (+3)", "10-1 (-3)", "1-10 [4]", "-2--1"])
    [3, 1, 2, 3, 4, 1, 4, 7, 10, 10, 7, 4, 1, 1, 4, 7, 10, -2, -1]

    Raises:
        RequestError: one is neither a whole number nor a range of them, or there are too many.
    """
    return [round(one) for one in _numbers(values, int)]


def reals(values: list[str]) -> list[float]:
    """Numbers, ranges expanded; steps are counted, so that no rounding errors add up.

    >>> reals(["0.5", "1-2 (+0.4)", "0-1 [3]", "1-3"])
    [0.5, 1.0, 1.4, 1.8, 0.0, 0.5, 1.0, 1.0, 2.0, 3.0]

    Raises:
        RequestError: one is neither a number nor a range, or there are too many.
    """
    return [round(one, 10) for one in _numbers(values, float)]


def _numbers(values: list[str], kind: type[int] | type[float]) -> list[float]:
    found: list[float] = []
    for value in values:
        found.extend(_expanded(value, kind))
        check_count(len(found))
    return found


def _expanded(value: str, kind: type[int] | type[float]) -> Iterator[float]:
    try:
        number = kind(value.replace(" ", ""))
        if not math.isfinite(number):
            raise ValueError
        return iter((number,))
    except (ValueError, OverflowError):
        pass
    match = _RANGE[kind].fullmatch(value) if len(value) <= _MAX_RANGE else None
    if match is None:
        what = "a whole number" if kind is int else "a number"
        raise RequestError(f"{value[:60]!r} is not {what} and no range of them, such as 1-5, 1-9 (+2) or 1-9 [3]")
    start, end, step = (kind((part or "0").replace(" ", "")) for part in match.groups()[:3])
    if match[4] is not None:
        return _spaced(value, start, end, int(match[4]))
    return _stepped(value, start, end, step if match[3] is not None else (1 if end >= start else -1))


def _spaced(value: str, start: float, end: float, count: int) -> Iterator[float]:
    check_count(count)
    if count < 1:
        raise RequestError(f"{value[:60]!r} asks for no values; the number in [] is at least 1")
    if count == 1:
        return iter((start,))
    exact = isinstance(start, int) and isinstance(end, int)
    spread = (end - start) / (count - 1)
    return iter([_truncated(start + spread * place) if exact else start + spread * place for place in range(count)])


def _truncated(number: float) -> int:
    """As A1111 makes whole numbers of evenly spaced ones: towards 0, but for what rounding errors took away."""
    return int(number + math.copysign(1e-9, number))


def _stepped(value: str, start: float, end: float, step: float) -> Iterator[float]:
    if not step:
        raise RequestError(f"{value[:60]!r} never gets on; its step must not be 0")
    if start != end and (end - start > 0) != (step > 0):
        raise RequestError(f"{value[:60]!r} goes the other way; its step must be {'above' if end > start else 'below'} 0")
    count = math.floor((end - start) / step + 1e-9) + 1
    check_count(count)
    return iter([start + step * place for place in range(count)])


def permutations(values: list[str]) -> list[tuple[str, ...]]:
    """All orders of the values.

    Raises:
        RequestError: there are too many.
    """
    check_count(math.factorial(min(len(values), 20)))
    return list(itertools.permutations(values))


def check_count(count: int) -> None:
    """
    Raises:
        RequestError: more values than an axis may have.
    """
    if count > MAX_VALUES:
        raise RequestError(f"that are {count:,} values or more; an axis has at most {MAX_VALUES:,}")
