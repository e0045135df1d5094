r"""NovelAI's prompts: {x} and [x] weigh 1.05 and 1 / 1.05 each, since V4 also 1.5::x::; they become A1111's numbers.

Source: NovelAI's documentation, "Strengthening and weakening vectors".
"""

from __future__ import annotations

import re

from modules.images.readers import language

_STEP = 1.05
_DEEPEST = 40
_MARK = re.compile(r"(-?(?:\d{1,3}(?:\.\d{0,6})?|\.\d{1,6}))?::")


def numbered(prompt: str) -> str:
    r"""A prompt of V4 and later: a number and :: weigh what follows, up to the next :: or the end.

    >>> numbered("1.5::a {cat}::, dog, -1::hat::")
    '(a (cat:1.05):1.5), dog, (hat:-1)'
    """
    written: list[str] = []
    weight = ""
    at = 0
    for mark in _MARK.finditer(prompt):
        written.append(_numbered(prompt[at : mark.start()], weight))
        weight = mark[1] or ""
        at = mark.end()
    return "".join([*written, _numbered(prompt[at:], weight)])


def _numbered(text: str, weight: str) -> str:
    inner = weighted(text)
    return f"({inner}:{float(weight):g})" if weight and inner.strip() else inner


def weighted(prompt: str) -> str:
    """{x} and [x] as (x:weight); what is not balanced stays as it is, and NovelAI's plain parentheses are escaped.

    >>> weighted("a {cat}, [[dog]]"), weighted("open {"), weighted("a (b)")
    ('a (cat:1.05), (dog:0.907)', 'open {', 'a \\\\(b\\\\)')
    """
    plain = language.unescaped(language.small_words(prompt), "()")
    if not _balanced(plain):
        return language.unescaped(language.without_choices(plain), "[]")
    written: list[str] = []
    opened: list[tuple[str, int]] = []  # kinds of brackets that are open, and where their contents begin in `written`
    at = 0
    while at < len(plain):
        char = plain[at]
        run = 1
        if char in "{[":
            while plain[at + run : at + run + 1] == char:
                run += 1
            opened.append((char * run, len(written)))
        elif char in "}]":
            kind, begin = opened.pop()
            while len(kind) > run and plain[at + run : at + run + 1] == char:
                run += 1
            weight = _STEP ** (run if char == "}" else -run)
            inner = "".join(written[begin:])
            del written[begin:]
            written.append(f"({inner}:{round(weight, 4):g})")
            if len(kind) > run:
                opened.append((kind[run:], begin))
        else:
            written.append(char)
        at += run
    return "".join(written)


def _balanced(text: str) -> bool:
    open_: list[str] = []
    for char in text:
        if char in "{[":
            open_.append(char)
            if len(open_) > _DEEPEST:
                return False
        elif char in "}]" and (not open_ or open_.pop() + char not in ("{}", "[]")):
            return False
    return not open_
