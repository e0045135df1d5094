"""What a file says of itself, what a reader makes of it, and the tools that readers of hostile JSON need.

Readers speak A1111's language: whatever a program calls its settings, they hand over items with A1111's keys, from which the
request's fields follow as they do for A1111's own texts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from modules.request import clean_text

MAX_JSON = 1 << 20
"""Characters of JSON that are looked at."""
MAX_TEXT = 100_000
"""Characters of one value that are passed on."""
MAX_ITEMS = 200
"""Settings and networks of one picture that are passed on."""


@dataclass(frozen=True)
class FileTexts:
    """The texts of a file: a PNG's `chunks` by keyword, the EXIF comment, further EXIF texts by tag, and the XMP packet."""

    chunks: Mapping[str, str] = field(default_factory=dict)
    comment: str = ""
    tags: Mapping[int, str] = field(default_factory=dict)
    xmp: str = ""


@dataclass(frozen=True)
class ExtraNetwork:
    """Something beside the checkpoint that a picture needs: its name, and its hash where the picture says it."""

    kind: Literal["lora", "embedding", "hypernetwork"]
    name: str
    hash: str = ""


@dataclass(frozen=True)
class Reading:
    """What one program's picture says.

    `items` are A1111's keys in order, as `infotext.parse` yields them, prompts included; `version` is the program's own
    ("" when it does not say); `notes` are sentences for the user about what could not be carried over.
    """

    program: str
    items: Mapping[str, str]
    version: str = ""
    networks: tuple[ExtraNetwork, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reader:
    """What reads the pictures of a program: `read` answers None where a file's texts are none of that program's."""

    name: str
    read: Callable[[FileTexts], Reading | None]


def parse_json(text: str) -> Any:
    """The value of a JSON text, None for what is none, too long or too deep.  Never raises."""
    if len(text) > MAX_JSON:
        return None
    try:
        return json.loads(text, parse_int=_integer, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object of a text, empty for anything else."""
    value = parse_json(text) if text.lstrip()[:1] == "{" else None
    return value if isinstance(value, dict) else {}


def _integer(digits: str) -> int | float:
    """Numbers of thousands of digits would take long to convert."""
    return int(digits) if len(digits) <= 40 else math.inf


def said(value: Any) -> str:
    """A value as a text for people: words as they are, numbers as A1111 writes them, anything else not at all.

    >>> said(7.0), said(True), said([1])
    ('7', 'True', '')
    """
    if isinstance(value, str):
        return clean_text(value)[:MAX_TEXT]
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float) and math.isfinite(value):
        return str(int(value)) if value == int(value) else repr(value)
    return ""


def number(value: Any) -> float | None:
    """`value`, or the number that a text holds; None for everything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) < 40:
        try:
            value = float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def made(prompt: Any, negative: Any, **items: Any) -> dict[str, str]:
    """Items in A1111's order and spelling from keywords that stand for them; what is None or empty is left out.

    >>> made("a cat", "", steps=20, seed=7, width=64, height=32)["Size"]
    '64x32'
    """
    width, height = said(items.pop("width", None)), said(items.pop("height", None))
    if width and height:
        items["size"] = f"{width}x{height}"
    found = {"Prompt": said(prompt), "Negative prompt": said(negative)}
    for word, key in _KEYS.items():
        if value := said(items.get(word)):
            found[key] = value
    if width and height:
        found |= {"Size-1": width, "Size-2": height}
    return found


_KEYS = {
    "steps": "Steps",
    "sampler": "Sampler",
    "schedule": "Schedule type",
    "cfg": "CFG scale",
    "seed": "Seed",
    "size": "Size",
    "hash": "Model hash",
    "model": "Model",
    "vae": "VAE",
    "strength": "Denoising strength",
    "clip_skip": "Clip skip",
    "rng": "RNG",
    "rescale": "CFG rescale",
    "version": "Version",
}


def stem(name: Any) -> str:
    """The bare name of a model file: no folder, no suffix.

    >>> stem("sub\\\\dream.safetensors")
    'dream'
    """
    bare = said(name).replace("\\", "/").rsplit("/", 1)[-1]
    for suffix in (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".sft"):
        bare = bare.removesuffix(suffix)
    return bare
