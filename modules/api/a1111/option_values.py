"""Readers of option values: each takes what a caller sent and returns it as the option's own type, or says what it must be.

A1111 keeps whatever JSON it is sent; clients send numbers as text, 20.0 for 20, and words for true and false.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from modules.api.a1111.coercion import NO, YES
from modules.request import clean_text

Read = Callable[[Any], Any]
"""Raises ValueError with what the value must be."""

MAX_TEXT = 1_000
"""Characters of a text option, and of one entry of a list."""
MAX_ENTRIES = 200

_FOLDERS = re.compile(r"[/\\]|^\.\.")


def choice(*choices: Any) -> Read:
    """One of `choices`; true and false are not 1 and 0."""

    def read(value: Any) -> Any:
        if isinstance(value, bool) is not any(isinstance(choice, bool) for choice in choices) or value not in choices:
            raise ValueError(f"must be {' or '.join(map(repr, choices))}")
        return value

    return read


def whole(low: int, high: int) -> Read:
    def read(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value  # not by way of a float: 64 bits do not fit into one
        number = real(low, high)(value)
        if number != int(number):
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(number)

    return read


def real(low: float, high: float) -> Read:
    def read(value: Any) -> float:
        with suppress(ValueError, OverflowError):
            if isinstance(value, int | float | str) and not isinstance(value, bool) and len(str(value)) <= 40:
                number = float(value)
                if math.isfinite(number) and low <= number <= high:
                    return number
        raise ValueError(f"must be a number from {low} to {high}")

    return read


def switch(value: Any) -> bool:
    """
    >>> [switch(value) for value in (True, 0, 1.0, "false", "Yes")]
    [True, False, True, False, True]
    """
    word = value.lower() if isinstance(value, str) else value
    if word in (*YES, "1"):
        return True
    if word in (*NO, "0"):
        return False
    if word not in (True, False):
        raise ValueError("must be true or false")
    return bool(word)


def clip_skip(value: Any) -> int:
    """In A1111 0 skips no layer, as 1 does.

    >>> clip_skip(0), clip_skip(2.0)
    (1, 2)
    """
    return 1 if value == 0 and not isinstance(value, bool) else whole(1, 12)(value)


def name(value: Any) -> str:
    """A name that is looked up, never a path that is opened."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError("must be a name")
    return clean_text(value)


def text(default: str = "") -> Read:
    """A text that is kept for its owner and used for nothing.  Beside the default none that could be a path."""

    def read(value: Any) -> str:
        if value == default:
            return default
        if not isinstance(value, str) or len(value) > MAX_TEXT or _FOLDERS.search(value):
            raise ValueError(f"must be a text of at most {MAX_TEXT} characters without a folder in it")
        return clean_text(value)

    return read


def texts(value: Any) -> list[str]:
    """A list of texts; a comma between them will do as well."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        raise ValueError(f"must be a list of at most {MAX_ENTRIES} names")
    return [text()(entry) for entry in value]
