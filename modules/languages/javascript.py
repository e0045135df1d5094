"""The string literals of a JavaScript module, templates among them, found without a parser: a scanner of its tokens.

A template's values become `{1}`, `{2}` …, and what stands inside of them is looked through too.  Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_BEFORE_REGEX = re.compile(r"(?:^|[(,=:\[!&|?{};\n+]|=>|\breturn|\bcase|\btypeof)\s*$")
_REGEX = re.compile(r"/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\[\n])+/[a-z]*")
_ESCAPE = re.compile(r"\\(u\{([0-9a-fA-F]+)\}|u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|\n|.)", re.DOTALL)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\n": ""}


def literals(source: str) -> Iterator[tuple[str, str]]:
    """Each string and template of `source`, in its order, with what stands before it on its line.

    >>> [text for text, _ in literals('h("p", {}, `${n} of ${all ? "all" : m} done`) // "no"')]
    ['p', 'all', '{1} of {2} done']
    """
    yield from _code(source, 0, "")[0]


def _code(source: str, at: int, until: str) -> tuple[list[tuple[str, str]], int]:
    """The literals from `at` to the brace that closes what was open, or to the end; and where that is."""
    found: list[tuple[str, str]] = []
    depth = 0
    while at < len(source):
        char = source[at]
        if source.startswith("//", at):
            at = source.find("\n", at) % (len(source) + 1)
        elif source.startswith("/*", at):
            at = source.index("*/", at) + 2
        elif char in "\"'":
            end = at + 1
            while source[end] != char:
                end += 2 if source[end] == "\\" else 1
            found.append((_unescaped(source[at + 1 : end]), _before(source, at)))
            at = end + 1
        elif char == "`":
            inner, at = _template(source, at + 1)
            found += inner
        elif char == "/" and _BEFORE_REGEX.search(source[max(0, at - 40) : at]) and (regex := _REGEX.match(source, at)):
            at = regex.end()
        else:
            if char == "{":
                depth += 1
            elif char == "}":
                if until and not depth:
                    return found, at
                depth -= 1
            at += 1
    return found, at


def _template(source: str, at: int) -> tuple[list[tuple[str, str]], int]:
    """The literals inside of a template's values and then the template itself; and where it has ended."""
    found: list[tuple[str, str]] = []
    text, number, begin, start = "", 0, at, at
    while source[at] != "`":
        if source[at] == "\\":
            at += 2
        elif source.startswith("${", at):
            text += _unescaped(source[begin:at])
            inner, at = _code(source, at + 2, "}")
            found += inner
            number += 1
            text += f"{{{number}}}"
            at = begin = at + 1
        else:
            at += 1
    return [*found, (text + _unescaped(source[begin:at]), _before(source, start - 1))], at + 1


def _before(source: str, at: int) -> str:
    return source[source.rfind("\n", 0, at) + 1 : at]


def _unescaped(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[2] or match[3] or match[4]
        return chr(int(code, 16)) if code else _SIMPLE.get(match[1], match[1])

    return _ESCAPE.sub(one, text)
