"""Draw Things: a JSON object as the EXIF comment inside an XMP packet, with names of one letter."""

from __future__ import annotations

import html
import re
from typing import Any

from modules.images.readers import names
from modules.images.readers.told import MAX_ITEMS, Network, Reading, Told, made, number, parse_object, said, stem

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


def read(told: Told) -> Reading | None:
    data = parse_object(_comment(told.xmp)) or parse_object(told.comment)
    if "c" not in data or not ("uc" in data or "sampler" in data):
        return None
    size = _SIZE.fullmatch(said(data.get("size")))
    sampler, schedule = names.sampler(said(data.get("sampler")).replace("Ancestral", "a").replace("AYS", "Align Your Steps"))
    strength = number(data.get("strength"))
    items = made(
        data.get("c"),
        data.get("uc"),
        steps=data.get("steps"),
        sampler=sampler,
        schedule=schedule,
        cfg=data.get("scale"),
        seed=data.get("seed"),
        width=size[1] if size else None,
        height=size[2] if size else None,
        model=_model(data.get("model")),
        strength=strength if strength is not None and strength < 1 else None,
        version="Draw Things",
    )
    loras = data.get("lora")
    found = [_lora(lora) for lora in loras[:MAX_ITEMS]] if isinstance(loras, list) else []
    note = "Draw Things draws its noise in its own way: the picture will only be similar"
    return Reading("Draw Things", items, notes=(note,), networks=tuple(lora for lora in found if lora))


def _comment(xmp: str) -> str:
    """The text of the packet's comment.  It is looked for and not parsed as XML, which could be made to explode."""
    comment = _inside(xmp, "exif:UserComment")
    return html.unescape(_inside(comment, "rdf:li") or comment).strip()


def _inside(text: str, tag: str) -> str:
    """What stands between the first <tag ...> and the </tag> behind it."""
    begin = text.find(f"<{tag}")
    begin = text.find(">", begin) + 1 if begin >= 0 else 0
    end = text.find(f"</{tag}>", begin) if begin else -1
    return text[begin:end] if end >= 0 else ""


def _model(name: Any) -> str:
    return stem(name).removesuffix("_f16").removesuffix("_q6p_q8p").removesuffix("_q8p")


def _lora(value: Any) -> Network | None:
    name = _model(value.get("model") or value.get("file")) if isinstance(value, dict) else ""
    return Network("lora", name) if name else None
