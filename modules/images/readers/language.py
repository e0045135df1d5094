r"""Prompts of other programs in this program's language, so that each word keeps the weight and the place that it had.

What is a sign here and text there gets a backslash; AND and BREAK become small letters, which are the same tokens to CLIP.
"""

from __future__ import annotations

import re

_WORDS = re.compile(r"\b(?:AND|BREAK)\b")
_EMBEDDING = re.compile(r"\bembedding:([^\s,:()]+)")
_LAST_NUMBER = re.compile(r":\s*[-+]?(?:\d+\.?\d*|\.\d+)\s*$")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def unescaped(text: str, signs: str) -> str:
    r"""`text` with a backslash before each of `signs` that has none.

    >>> unescaped("[a] \\[b]", "[]")
    '\\[a\\] \\[b\\]'
    """
    return re.sub(rf"(\\.)|([{re.escape(signs)}])", lambda found: found[1] or f"\\{found[2]}", text, flags=re.DOTALL)


def small_words(text: str) -> str:
    """AND and BREAK as ordinary words.

    >>> small_words("salt AND pepper")
    'salt and pepper'
    """
    return _WORDS.sub(lambda found: found[0].lower(), text)


def whole_weight(prompt: str) -> str:
    """A positive prompt whose last colon and number are words: behind a weight of 1 they are no weight of the whole.

    >>> whole_weight("ratio 16:9"), whole_weight("a (cat:1.2)")
    ('ratio 16:9:1', 'a (cat:1.2)')
    """
    return f"{prompt.rstrip()}:1" if _LAST_NUMBER.search(prompt) else prompt


def without_choices(text: str) -> str:
    r"""`text` whose {a|b} is no draw.

    >>> without_choices("{a|b} {c}"), without_choices("{c}")
    ('\\{a|b} \\{c}', '{c}')
    """
    return unescaped(text, "{") if "{" in text and ("|" in text or "$$" in text) else text


def text_only(text: str) -> str:
    r"""A text of a program without signs: brackets, braces and words that mean something here are words.

    >>> text_only("(a) [b] AND c")
    '\\(a\\) \\[b\\] and c'
    """
    return unescaped(without_choices(small_words(text)), "()[]")


def comfy(text: str) -> str:
    r"""ComfyUI's: round brackets weigh as in A1111, everything else is text; `embedding:name` is a textual inversion.

    Source: ComfyUI's `comfy/sd1_clip.py` (`token_weights`, `SDTokenizer`).

    >>> comfy("(a:1.2) [b], embedding:easy.pt BREAK")
    '(a:1.2) \\[b\\], easy break'
    """
    return _EMBEDDING.sub(lambda found: bare(found[1]), unescaped(without_choices(small_words(text)), "[]"))


def embeddings(text: str) -> list[str]:
    """The names of the textual inversions of a prompt of ComfyUI's, each once.

    >>> embeddings("(embedding:sub/easy.pt:1.2), embedding:bad")
    ['easy', 'bad']
    """
    return list(dict.fromkeys(bare(name) for name in _EMBEDDING.findall(text)))


def bare(name: str) -> str:
    """The name of a textual inversion's file, without folder and suffix."""
    return re.sub(r"\.(?:safetensors|pt|bin)$", "", name.replace("\\", "/").rsplit("/", 1)[-1])


def weighs(*prompts: str) -> bool:
    """Whether a round bracket stands in one of the prompts that is no word."""
    return any("(" in _ESCAPED.sub("", prompt) for prompt in prompts)
