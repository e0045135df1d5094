"""The kinds of a request's fields, their limits, and what a text may hold."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

MAX_PROMPT = 32_768
"""Characters of a prompt."""
MAX_STYLES = 100
MAX_SEED = 2**64 - 1
MAX_SIDE = 2048
"""Pixels of a side of what is painted, without tiled diffusion."""
MAX_TILED_SIDE = 8192
"""With tiled diffusion, whose evaluations take the memory of a window."""
MIN_SIDE = 64
SIDE_STEP = 8
MAX_PIXELS = 33_554_432
"""width x height x count of one request."""
MAX_SOURCE_SIDE = 8192
MAX_SOURCE_PIXELS = 33_554_432
"""Of a picture to start from, and of what it is extended to."""

MAX_SOURCE_TEXT = 100_000
"""Characters of what the file of a picture that is enlarged says of how it was made."""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[\ud800-\udfff]")


def clean_text(text: str) -> str:
    r"""`text` without NUL, other control characters and lone surrogates, which no file format or log can carry.

    >>> clean_text("a\x00b\r\nc\ud800")
    'ab\nc'
    """
    return _UNPRINTABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _prompt(value: Any) -> Any:
    return clean_text(value) if isinstance(value, str) else value


def _number(value: Any) -> Any:
    """Refuse bools and non-finite numbers, which pydantic would take or name cryptically."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Prompt = Annotated[str, BeforeValidator(_prompt), Field(max_length=MAX_PROMPT)]
SourceText = Annotated[str, BeforeValidator(_prompt), Field(max_length=MAX_SOURCE_TEXT)]
StyleName = Annotated[str, BeforeValidator(_prompt), Field(max_length=1_000)]
Integer = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Pixel = Annotated[int, BeforeValidator(_number), Field(ge=0, le=MAX_SOURCE_SIDE)]
SourceId = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Side = Annotated[int, BeforeValidator(_number), Field(ge=MIN_SIDE, le=MAX_TILED_SIDE, multiple_of=SIDE_STEP)]
