"""InvokeAI before 3.0: JSON in "sd-metadata" (2.x), and the command line in "Dream" (1.x, lstein's stable-diffusion).

What stood in [brackets] was the negative prompt.  Noise was drawn on the device.  Before 2.3 the samplers were k-diffusion's,
with Karras' levels below 29 steps for some versions, which nothing in the file tells.

Source: InvokeAI's `ldm/invoke/args.py` (1.14 to 2.3).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from modules.images.readers import compel, language, names
from modules.images.readers.file_texts import MAX_ITEMS, FileTexts, Reading, made, number, parse_object, said, stem

_NEGATIVE = re.compile(r"\[([^\[\]]*)\]")
_DREAM = re.compile(r'"((?:[^"\\]|\\.)*)"(.*)', re.DOTALL)
_LETTERS = frozenset("sSWHCAfIMGUvV")
"""Options of one letter that have a value and a meaning here."""
_NOT_TAKEN = {
    "variations": "variations of its noise",
    "seamless": "tiling",
    "hires_fix": "a second pass at a larger size",
    "perlin": "Perlin noise",
    "threshold": "a threshold for the latents",
    "postprocessing": "upscaling or face restoration",
    "upscale": "upscaling",
    "facetool_strength": "face restoration",
    "gfpgan_strength": "face restoration",
    "mask_image_path": "a mask",
}
"""Keys of an image's JSON that change it and have no field here."""
_OF_LETTERS = {"v": "variations", "V": "variations", "G": "gfpgan_strength", "U": "upscale", "M": "mask_image_path"}


def read(file: FileTexts) -> Reading | None:
    if data := parse_object(file.chunks.get("sd-metadata", "")):
        return _read_sd_metadata(data)
    if text := (file.chunks.get("Dream") or file.chunks.get("dream", "")):
        return _read_dream(text)
    return None


def differs(sampler: str) -> tuple[str, ...]:
    return (f"InvokeAI's {sampler or 'samplers'} come from another library: the picture will only be similar",)


def _read_sd_metadata(data: dict[str, Any]) -> Reading | None:
    image = data.get("image")
    if not isinstance(image, dict):
        return None
    prompt = image.get("prompt")
    blended = isinstance(prompt, list) and len(prompt) > 1
    if isinstance(prompt, list):
        prompt = " ".join(said(part.get("prompt")) for part in prompt[:MAX_ITEMS] if isinstance(part, dict))
    version = said(data.get("app_version"))
    items, notes = _items(
        said(prompt),
        said(image.get("sampler")),
        steps=image.get("steps"),
        cfg=image.get("cfg_scale"),
        seed=image.get("seed"),
        width=image.get("width"),
        height=image.get("height"),
        hash=said(data.get("model_hash"))[:10],
        model=stem(data.get("model_weights")),
        strength=image.get("strength") if said(image.get("type")) == "img2img" else None,
        version=f"InvokeAI {version}".strip(),
    )
    asked = ["a blend of prompts"] if blended else []
    return Reading("InvokeAI", items, version, notes=(*_left_out(image, asked), *notes))


def _read_dream(text: str) -> Reading | None:
    """The command that made it: the prompt in quotes, then options of one letter."""
    found = _DREAM.match(text.strip())
    if found is None:
        return None
    try:
        words = shlex.split(found[2][:10_000])
    except ValueError:
        words = found[2][:10_000].split()
    given: dict[str, str] = {}
    for at, word in enumerate(words):
        letter, rest = word[1:2], word[2:]
        follows = words[at + 1] if at + 1 < len(words) and not words[at + 1].startswith("-") else ""
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            given[name] = value or follows or "True"
        elif word.startswith("-") and letter in _LETTERS:
            given[letter] = rest or follows
    items, notes = _items(
        found[1].replace('\\"', '"'),
        given.get("A", "") or given.get("sampler", ""),
        steps=given.get("s"),
        cfg=given.get("C"),
        seed=given.get("S"),
        width=given.get("W"),
        height=given.get("H"),
        strength=given.get("f"),
    )
    named = {_OF_LETTERS.get(key, key): value for key, value in given.items()}
    return Reading("InvokeAI", items, notes=(*_left_out(named, []), *notes))


def _items(prompt: str, raw: str, **said_so: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    """The items of a prompt with its [negative] parts, a sampler and whatever else was said; and what is unsure."""
    prompts = _divided(prompt)
    functions = compel.functions(*prompts)
    positive, negative = map(language.text_only if functions else compel.words, prompts)
    sampler, schedule = names.sampler(raw)
    items = made(language.whole_weight(positive), negative, sampler=sampler, schedule=schedule or "Uniform", **said_so)
    if language.weighs(positive, negative):
        items["Emphasis"] = "No norm"
    if names.is_singlestep(raw):
        items["Eta"] = "0"
    steps = number(items.get("Steps"))
    notes = list(differs(sampler))
    if raw.startswith("k_") and steps is not None and steps < 29:
        notes.append("it does not say its schedule: Uniform is taken, some versions took Karras below 29 steps")
    if functions:
        called = ", ".join(f".{name}()" for name in functions)
        notes.append(f"its prompt uses {called}, which is not known here: the prompt is taken as plain text")
    return items, tuple(notes)


def _left_out(image: Mapping[str, Any], asked: list[str]) -> list[str]:
    used = (key for key in _NOT_TAKEN if image.get(key) and said(image[key]) not in ("0", "0.0", "False"))
    asked = list(dict.fromkeys([*asked, *(_NOT_TAKEN[key] for key in used)]))
    return [f"made with {', '.join(asked)}, which is not taken over"] if asked else []


def _divided(prompt: str) -> tuple[str, str]:
    """Before 3.0 what stood in [brackets] was the negative prompt."""
    negative = ", ".join(part.strip(" ,") for part in _NEGATIVE.findall(prompt) if part.strip(" ,"))
    return " ".join(_NEGATIVE.sub(" ", prompt).split(" ")).strip(" ,"), negative
