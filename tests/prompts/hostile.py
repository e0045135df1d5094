"""Texts of 32 kB made to hurt a reader: repetitions, depth, numbers without end, and everything unbalanced."""

from __future__ import annotations

from modules.prompts.emphasis import MAX_DEPTH
from modules.request import MAX_PROMPT

UNITS = [
    "[a:b:0.5] ",
    "[",
    "]",
    "(",
    ")",
    "[a|b]",
    "[a|b|",
    "\\",
    "\\(",
    ":",
    "(a:1.1)",
    "((((((((((a:1.2)b",
    "[a:[",
    "[[a:b:1]:",
]
UNITS += [
    "<a:",
    "<a:b",
    "<a:b>",
    "#",
    "\n#",
    " AND ",
    "a:1 AND ",
    " ",
    "  BREAK",
    "(:",
    ": ",
    "[:1]",
    "(a",
    "([",
    "(a)[b]",
    ":1",
]
UNITS += ["<", ">", "[|", "{", "}", "{a|", "__", "é", "\x85", "\ud800", "[a:b:1e5]", ": 1 ", "\x00", "😀", "{[|"]
HOSTILE = [unit * (MAX_PROMPT // len(unit)) for unit in UNITS]
HOSTILE += ["(" * k + "(a)b:" * ((MAX_PROMPT - 2 * k) // 5) + ")" * k for k in (MAX_DEPTH, 1_000, 10_000)]
HOSTILE += [
    "[" * 16_000 + "]" * 16_000,
    "[" * 10_000 + "a" + ":1]" * 7_000,
    "(" * 20 + "[" * 20 + ":" * 32_000 + "]" * 20 + ")" * 20,
]
HOSTILE += [":" + " " * 32_000, ":" + "1" * 32_000, "[a:b:" + "1" * 32_000, "a " + " " * 32_000 + "BREA", "<" + "a" * 32_000]
