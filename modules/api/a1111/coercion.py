"""Field types that convert as A1111's models do: pydantic 1 turns booleans, numbers and numeric strings into one another.

pydantic 2 refuses a boolean or a fraction for an integer, and a number for a string; pydantic 1, which A1111 1.10.1 uses, calls
`int`, `float` and `str` on them.  So 8.7 is 8, true is 1, "20" is 20, and 5 is "5".  Not finite is refused, here as there.

Facts: pydantic 1.10, `int_validator`, `float_validator`, `str_validator`, `bool_validator` and `dict_validator`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from modules.request import MAX_PROMPT, clean_text

YES, NO = ("on", "t", "true", "y", "yes"), ("off", "f", "false", "n", "no")
"""What pydantic takes for true and false beside 1 and 0, whatever its case."""


def _whole(value: Any) -> Any:
    """
    >>> [_whole(value) for value in (8.7, -0.5, True, "20")]
    [8, 0, 1, '20']
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return int(value) if isinstance(value, bool | float) else value


def _switch(value: Any) -> Any:
    """
    >>> [_switch(value) for value in (False, "TRUE", "off", "1", 1.0)]
    [0, 1, 0, '1', 1]
    """
    word = value.lower() if isinstance(value, str) else ""
    return int(word in YES) if word in YES + NO else _whole(value)


def _real(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return float(value) if isinstance(value, bool) else value


def _text(value: Any) -> Any:
    r"""
    >>> [_text(value) for value in ("a\x00", 5, 2.5, True, None)]
    ['a', '5', '2.5', 'True', None]
    """
    return clean_text(value) if isinstance(value, str) else str(value) if isinstance(value, int | float) else value


def _mapping(value: Any) -> Any:
    """
    >>> _mapping([]), _mapping([["a", 1]]), _mapping([1])
    ({}, {'a': 1}, [1])
    """
    if isinstance(value, list):
        try:
            return dict(value)
        except (TypeError, ValueError):
            return value
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Switch = Annotated[int, BeforeValidator(_switch), Field(ge=0, le=1)]
"""`int | bool` in A1111."""
Real = Annotated[float, BeforeValidator(_real), Field(allow_inf_nan=False)]
Text = Annotated[str, BeforeValidator(_text)]
Mapping = Annotated[dict[str, Any], BeforeValidator(_mapping)]
Prompt = Annotated[Text, Field(max_length=MAX_PROMPT)]
Name = Annotated[Text, Field(max_length=1_000)]


def is_no(value: Any) -> bool:
    """
    >>> [is_no(value) for value in (False, 0, "False", None, True, {})]
    [True, True, True, True, False, False]
    """
    return value is None or value == 0 or (isinstance(value, str) and value.lower() in ("0", *NO))
