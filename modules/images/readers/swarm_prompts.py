r"""SwarmUI's tags in prompts, of which its pictures keep those that are no draw: <break>, <embed:name>, <segment:face> ...

Some of them begin a part of the text that is for something else than the picture: a region, a second pass.  What is drawn
is written out already; <alternate:a,b> and <fromto[0.5]:a,b> stand there as [a|b] and [a:b:0.5].

Source: SwarmUI's `T2IPromptHandling.cs`, `SwarmTextHandling.py`, and its page on prompts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from modules.images.readers import language

_TAG = re.compile(r"<([a-z]{1,20})\b([^<>]{0,2000})>", re.IGNORECASE)
_GROUP = re.compile(r"(?<!\\)\[([^\[\]]{0,2000})\]")
_NUMBER = re.compile(r"\s*\d{1,9}(?:\.\d{0,9})?\s*")
_PARTS = {
    "segment": "parts that are painted again",
    "object": "regions with words of their own",
    "region": "regions with words of their own",
    "refiner": "words for a second pass",
    "video": "words for a video",
    "videoswap": "words for a video",
    "extend": "words for a video",
    "pixeldecoder": "words for a second pass",
}
"""Tags that begin another part of the text, and what such a part is."""


@dataclass
class Words:
    """The text of the picture itself in this program's language, and what else the prompt held."""

    text: str = ""
    embeddings: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    changes: bool = False


def words(prompt: str) -> Words:
    r"""What of a prompt is for the picture itself.

    >>> words("a cat <break> at night<segment:face,0.6//cid=11> smiling").text
    'a cat BREAK at night'
    >>> words("a [cat|dog], [old], <embed:sub/easy>").text
    'a [cat|dog], \\[old\\], easy'
    """
    found = Words()
    kept: list[str] = []
    ours = True
    at = 0
    for tag in _TAG.finditer(prompt):
        if ours:
            kept.append(_text(prompt[at : tag.start()], found))
        at = tag.end()
        name, value = tag[1].lower(), tag[2].partition("//cid=")[0].lstrip(":").strip()
        if name == "base":
            ours = True
        elif name in _PARTS:
            ours = False
            found.left_out.append(_PARTS[name])
        elif name == "clear":
            found.left_out.append("parts that are made transparent")
        elif ours and name == "break":
            kept.append("BREAK")
        elif ours and name in ("embed", "embedding"):
            inversion = language.bare(value)
            found.embeddings.append(inversion)
            kept.append(inversion)
        elif ours and name != "comment":
            kept.append(tag[0])
    if ours:
        kept.append(_text(prompt[at:], found))
    found.text = "".join(kept).strip()
    return found


def _text(text: str, found: Words) -> str:
    """Text between tags: brackets that change it over the steps stay, others are text."""
    written = []
    at = 0
    for group in _GROUP.finditer(text):
        parts = group[1].split(":")
        if "|" in group[1] or (len(parts) in (2, 3) and _NUMBER.fullmatch(parts[-1])):
            written += [language.comfy(text[at : group.start()]), group[0]]
            found.changes = True
            at = group.end()
    return "".join([*written, language.comfy(text[at:])])
