"""Log formatting: no text of a request can pass for a line of its own or take the terminal over.

Knows characters; not what is logged.  Prompts never are.
"""

from __future__ import annotations

import logging
import unicodedata

MAX_LINE = 2000
"""Characters of a line; what is longer is cut."""


class PlainLines(logging.Formatter):
    """Further lines of a message or a traceback are indented, and characters that cannot be seen are written out."""

    def format(self, record: logging.LogRecord) -> str:
        return plain_lines(super().format(record))


def plain_lines(text: str) -> str:
    r"""
    >>> print(plain_lines("a job\n2026 ERROR forged \x1b[31m"))
    a job
      | 2026 ERROR forged \x1b[31m
    """
    lines = [_visible(line[: MAX_LINE + 1]) for line in text.split("\n")]
    return "\n  | ".join(line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}…" for line in lines)


def _visible(line: str) -> str:
    """Control, formatting (also right-to-left overrides), separator and half characters become escapes."""
    return "".join(_escaped(c) if c != "\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in line)


def _escaped(character: str) -> str:
    return (
        character.encode("unicode_escape", "surrogatepass").decode() if ord(character) < 0xD800 else f"\\u{ord(character):04x}"
    )
