"""NovelAI: JSON in "Comment" beside "Software: NovelAI", in PNG chunks, in WebP's EXIF, or hidden in the alpha channel.

The weights of its prompts are written in braces, {x} for 1.05 and [x] for 1 / 1.05 each; they become A1111's numbers.
"""

from __future__ import annotations

from typing import Any

from modules.images import exif
from modules.images.readers import names
from modules.images.readers.told import Reading, Told, made, parse_object, said

_STEP = 1.05
_DEEPEST = 40


def read(told: Told) -> Reading | None:
    texts = {**told.chunks}
    if not texts.get("Comment") and (hidden := parse_object(told.comment)) and "Comment" in hidden:
        texts = {key: said(value) for key, value in hidden.items()}
    software = texts.get("Software", "") or told.tags.get(exif.SOFTWARE, "")
    data = parse_object(texts.get("Comment", "") or (told.comment if "NovelAI" in software else ""))
    if not data or not ("NovelAI" in software or ("uc" in data and "sampler" in data and "scale" in data)):
        return None
    prompt = _v4(data, "v4_prompt") or said(data.get("prompt")) or texts.get("Description", "")
    negative = _v4(data, "v4_negative_prompt") or said(data.get("uc"))
    sampler, schedule = names.sampler(said(data.get("sampler")))
    source = texts.get("Source", "")
    name, _, digits = source.rpartition(" ")
    items = made(
        weighted(prompt),
        weighted(negative),
        steps=data.get("steps"),
        sampler=sampler,
        schedule=names.schedule(said(data.get("noise_schedule"))) or schedule,
        cfg=data.get("scale"),
        seed=data.get("seed"),
        width=data.get("width"),
        height=data.get("height"),
        hash=digits if name else "",
        model=name or source,
        strength=data.get("strength") if data.get("request_type") == "Img2ImgRequest" else None,
        rescale=data.get("cfg_rescale") or None,
        version=source or "NovelAI",
    )
    # As A1111 reads them; these are what its first model was trained with.
    items |= {"Clip skip": "2", "ENSD": "31337"}
    note = "NovelAI's models are its own: another checkpoint paints another picture"
    return Reading("NovelAI", items, source, notes=(note,))


def _v4(data: dict[str, Any], key: str) -> str:
    """The caption of V4's structured prompt, its characters behind it."""
    node = data.get(key)
    caption = node.get("caption") if isinstance(node, dict) else None
    if not isinstance(caption, dict):
        return ""
    parts = [said(caption.get("base_caption"))]
    people = caption.get("char_captions")
    if isinstance(people, list):
        parts += [said(one.get("char_caption")) for one in people[:20] if isinstance(one, dict)]
    return ", ".join(part for part in parts if part)


def weighted(prompt: str) -> str:
    """{x} and [x] as (x:weight); what is not balanced stays as it is, and NovelAI's plain parentheses are escaped.

    >>> weighted("a {cat}, [[dog]]"), weighted("open {"), weighted("a (b)")
    ('a (cat:1.05), (dog:0.907)', 'open {', 'a \\\\(b\\\\)')
    """
    plain = prompt.replace("(", "\\(").replace(")", "\\)")
    if not _balanced(plain):
        return plain
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
