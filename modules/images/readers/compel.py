r"""InvokeAI's prompts: word++ and (two words)1.3 where A1111 has (word:1.21) and (two words:1.3).

A + is a factor of 1.1, a - of 0.9; brackets without a weight only group.  `.swap()`, `.blend()`, `.and()` have no counterpart.

Source: the library compel and its page on syntax.  From memory: no copy of it was at hand.
"""

from __future__ import annotations

import re

from modules.images.readers import language

_WEIGHT = re.compile(r"(\++|-+|\d{1,3}(?:\.\d{1,6})?|\.\d{1,6})(?=[\s,.;:!?)]|$)")
_WORD = re.compile(r'([^\s()+,"-][^\s()+,"]{0,200}?)(\++|-+)(?=[\s,.;:!?)]|$)')
_FUNCTION = re.compile(r"\.(swap|blend|and)\(")
_DEEPEST = 40


def words(prompt: str) -> str:
    r"""`prompt` in this program's language; one whose brackets do not match is text.

    >>> words("a cat++ and (two dogs)0.8, (old) well-lit house-")
    'a (cat:1.21) and (two dogs:0.8), old well-lit (house:0.9)'
    """
    text = language.unescaped(language.without_choices(language.small_words(prompt)), "[]")
    opened: list[int] = []
    written: list[str] = []
    at = 0
    for bracket in re.finditer(r"\\.|[()]", text, re.DOTALL):
        if bracket.start() < at or len(bracket[0]) > 1:
            continue
        written.append(_weighed(text[at : bracket.start()]))
        at = bracket.end()
        if bracket[0] == "(":
            opened.append(len(written))
            if len(opened) > _DEEPEST:
                return language.text_only(prompt)
            continue
        if not opened:
            return language.text_only(prompt)
        begin = opened.pop()
        inner = "".join(written[begin:])
        weight = _WEIGHT.match(text, at)
        written[begin:] = [f"({inner}:{_number(weight[1])})" if weight else inner]
        at = weight.end() if weight else at
    return language.text_only(prompt) if opened else "".join([*written, _weighed(text[at:])])


def functions(*prompts: str) -> list[str]:
    """The functions of the prompts that have no counterpart, by name.

    >>> functions("a cat.swap(dog)", '("a", "b").blend(0.5, 0.5)')
    ['swap', 'blend']
    """
    return list(dict.fromkeys(name for prompt in prompts for name in _FUNCTION.findall(prompt)))


def _weighed(text: str) -> str:
    return _WORD.sub(lambda word: f"({word[1]}:{_number(word[2])})", text)


def _number(weight: str) -> str:
    if weight[0] in "+-":
        return f"{round((1.1 if weight[0] == '+' else 0.9) ** min(len(weight), _DEEPEST), 4):g}"
    return f"{float(weight):g}"
