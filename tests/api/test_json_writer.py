"""Answers are JSON as other languages read it: no NaN, no Infinity, whatever was sent or stands in a file."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

import modules.api
from modules.api.json_writer import json_text


def strict(text: str | bytes) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_become_null_wherever_they_stand(number: float) -> None:
    data = {"a": number, "b": [1, (number, {"c": number})], "d": "NaN"}
    assert strict(json_text(data)) == {"a": None, "b": [1, [None, {"c": None}]], "d": "NaN"}
    assert set(strict(json_text({number: 1}))) <= {"None"}


def test_other_data_is_written_as_python_writes_it() -> None:
    data = {"text": "ä\ud800", "many": [1, 2.5, None, True], 1: {"x": "y"}}
    assert json_text(data) == json.dumps(data)
    assert json_text(data, ascii_only=False, compact=True) == json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    assert json_text(data, indent=2) == json.dumps(data, indent=2)


def test_no_other_code_of_the_api_writes_json() -> None:
    """Starlette's `JSONResponse` is strict by itself, but raises; what echoes a request or a file goes through `json_text`."""
    folder = Path(modules.api.__file__).parent
    writers = {path.name for path in folder.rglob("*.py") if re.search(r"json\.dumps\(|JSONEncoder", path.read_text("utf-8"))}
    assert writers == {"json_writer.py"}
