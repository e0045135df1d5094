"""The list of keys in the help, and the handlers in the page's scripts, name the same keys."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

STATIC = Path(__file__).parents[2] / "modules" / "ui" / "static"
_COMPARED = re.compile(r"\bkey(?:\.toLowerCase\(\))? ?[!=]== ?\"([^\"]+)\"")
_ONE_OF = re.compile(r"\[((?:\"\w+\",? ?)+)\]\.includes\((?:event\.)?key\)")
_DIGITS = re.compile(r"\^\[(\d)-(\d)\]\$/\.test\(key\)|let rating = (\d); rating <= (\d)")
_DIRECT = re.compile(r"\{([^{}]*)\}\[(?:event\.)?key\]")
_BY_NAME = re.compile(r"\bkey in (\w+)|(\w+)\[(?:event\.)?key\b")
_PLACE = re.compile(r"(?:^|[{,])\s*(?:\"([^\"]+)\"|(\w+)):", re.MULTILINE)


def table() -> list[dict[str, Any]]:
    text = (STATIC / "shortcuts.js").read_text("utf-8")
    found = re.search(r"^export const SHORTCUTS = (\[\n.*?^\]);", text, re.MULTILINE | re.DOTALL)
    assert found is not None, "the table must stay JSON, so that it can be read here"
    rows: list[dict[str, Any]] = json.loads(re.sub(r",\s*\]$", "]", found[1]))
    return rows


def handled(text: str) -> set[str]:
    """The keys that a script does something for."""
    keys = set(_COMPARED.findall(text))
    keys |= {key for group in _ONE_OF.findall(text) for key in re.findall(r"\w+", group)}
    keys |= {str(digit) for low, high, *more in _DIGITS.findall(text) for digit in _range(low or more[0], high or more[1])}
    keys |= {key for body in _DIRECT.findall(text) for key in _places(body)}
    for name in {first or second for first, second in _BY_NAME.findall(text)}:
        body = re.search(rf"const {name} = \{{((?:[^{{}}]|\{{[^{{}}]*\}})*)\}};", text)
        keys |= _places(body[1]) if body else set()
    return keys


def _places(body: str) -> set[str]:
    return {quoted or plain for quoted, plain in _PLACE.findall("{" + re.sub(r"\{[^{}]*\}", "", body))}


def _range(low: str, high: str) -> range:
    return range(int(low), int(high) + 1)


def scripts() -> dict[str, str]:
    texts = {path.relative_to(STATIC).as_posix(): path.read_text("utf-8") for path in STATIC.rglob("*.js")}
    return {name: text for name, text in texts.items() if 'addEventListener("keydown"' in text}


@pytest.mark.parametrize("name", sorted(scripts()))
def test_the_table_has_the_keys_of_each_script(name: str) -> None:
    listed = {key for row in table() for key in row["keys"] if row["file"] == name}
    assert listed == handled(scripts()[name])


def test_the_table_names_only_scripts_that_listen() -> None:
    assert {row["file"] for row in table()} == set(scripts())
    for row in table():
        assert all(row[part] for part in ("where", "shown", "words")), row
        assert row["keys"] or re.search("click|drag|Ctrl V", row["shown"]), row
        assert row.get("scope", "none") in ("paint", "inpaint", "", "none"), row


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('if (event.key === "a" || key !== "Enter") x', {"a", "Enter"}),
        ('const to = { ArrowUp: 1, "+": f(2) }[event.key];', {"ArrowUp", "+"}),
        ('const T = { b: "brush", e: "x" };\nif (key in T) y; T[key.toLowerCase()]', {"b", "e"}),
        ('if (["Home", "End"].includes(event.key)) x', {"Home", "End"}),
        ("if (/^[0-2]$/.test(key)) x", {"0", "1", "2"}),
        ("const acts = {\n  f: () => this.#edit({ a: !b }),\n  d: () => c(),\n};\nconst act = acts[event.key];", {"f", "d"}),
    ],
)
def test_keys_are_found_in_handlers(text: str, keys: Any) -> None:
    assert handled(text) == keys
