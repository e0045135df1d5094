"""JSON of answers, strictly as RFC 8259 has it: the one place of `modules.api` that turns data into JSON text.

Python's own writer puts NaN and Infinity for floats that are none, which no other language's parser reads; Starlette's
`JSONResponse` raises instead, and a request that echoed such a number would be a 500.
"""

from __future__ import annotations

import json
import math
from typing import Any


def json_text(data: Any, *, ascii_only: bool = True, compact: bool = False, indent: int | None = None) -> str:
    """`data` as JSON; NaN and infinities become null, as JavaScript's `JSON.stringify` writes them.

    >>> json_text({"args": [1.5, float("nan")]})
    '{"args": [1.5, null]}'
    """
    separators = (",", ":") if compact else None

    def written(value: Any) -> str:
        return json.dumps(value, ensure_ascii=ascii_only, separators=separators, indent=indent, allow_nan=False)

    try:
        return written(data)
    except ValueError:  # rare, so the usual answer with its megabytes is walked once and not twice
        return written(_finite(data))


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    if isinstance(data, dict):
        return {str(_finite(key)) if isinstance(key, float) else key: _finite(value) for key, value in data.items()}
    return data
