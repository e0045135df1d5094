"""InvokeAI in its three ages: "invokeai_metadata" (since 3.0), "sd-metadata" (2.x), and the command line in "Dream" (1.x)."""

from __future__ import annotations

import re
import shlex
from typing import Any

from modules.images.readers import names
from modules.images.readers.told import MAX_ITEMS, Network, Reading, Told, made, parse_object, said, stem

_NEGATIVE = re.compile(r"\[([^\[\]]*)\]")
_DREAM = re.compile(r'"((?:[^"\\]|\\.)*)"(.*)', re.DOTALL)


def read(told: Told) -> Reading | None:
    if data := parse_object(told.chunks.get("invokeai_metadata", "")):
        return _read_metadata(data)
    if data := parse_object(told.chunks.get("sd-metadata", "")):
        return _read_sd_metadata(data)
    if text := (told.chunks.get("Dream") or told.chunks.get("dream", "")):
        return _read_dream(text)
    return None


def _read_metadata(data: dict[str, Any]) -> Reading:
    sampler, schedule = names.sampler(said(data.get("scheduler")))
    model = data.get("model")
    model = model if isinstance(model, dict) else {}
    version = said(data.get("app_version"))
    skip = data.get("clip_skip")
    items = made(
        data.get("positive_prompt"),
        data.get("negative_prompt"),
        steps=data.get("steps"),
        sampler=sampler,
        schedule=schedule or ("Uniform" if sampler else ""),
        cfg=data.get("cfg_scale"),
        seed=data.get("seed"),
        width=data.get("width"),
        height=data.get("height"),
        model=stem(model.get("name") or model.get("model_name")),
        strength=data.get("strength"),
        clip_skip=skip + 1 if isinstance(skip, int) and 0 < skip < 12 else None,
        rng={"cuda": "GPU"}.get(said(data.get("rand_device")), "CPU"),
        rescale=data.get("cfg_rescale_multiplier") or None,
        version=f"InvokeAI {version}".strip(),
    )
    loras = data.get("loras")
    found = [_lora(lora) for lora in loras[:MAX_ITEMS]] if isinstance(loras, list) else []
    return Reading("InvokeAI", items, version, tuple(lora for lora in found if lora), _notes(sampler))


def _lora(value: Any) -> Network | None:
    model = value.get("model") or value.get("lora") if isinstance(value, dict) else None
    name = stem(model.get("name") or model.get("model_name")) if isinstance(model, dict) else ""
    return Network("lora", name) if name else None


def _notes(sampler: str) -> tuple[str, ...]:
    return (f"InvokeAI's {sampler or 'samplers'} come from another library: the picture will only be similar",)


def _read_sd_metadata(data: dict[str, Any]) -> Reading | None:
    image = data.get("image")
    if not isinstance(image, dict):
        return None
    prompt = image.get("prompt")
    if isinstance(prompt, list):
        prompt = " ".join(said(part.get("prompt")) for part in prompt[:MAX_ITEMS] if isinstance(part, dict))
    positive, negative = _divided(said(prompt))
    sampler, schedule = names.sampler(said(image.get("sampler")))
    version = said(data.get("app_version"))
    items = made(
        positive,
        negative,
        steps=image.get("steps"),
        sampler=sampler,
        schedule=schedule,
        cfg=image.get("cfg_scale"),
        seed=image.get("seed"),
        width=image.get("width"),
        height=image.get("height"),
        hash=said(data.get("model_hash"))[:10],
        model=stem(data.get("model_weights")),
        strength=image.get("strength") if said(image.get("type")) == "img2img" else None,
        version=f"InvokeAI {version}".strip(),
    )
    return Reading("InvokeAI", items, version, notes=_notes(sampler))


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
        if word.startswith("-") and letter in "sSWHCAfm" and word[:2] != "--":
            follows = words[at + 1] if at + 1 < len(words) and not words[at + 1].startswith("-") else ""
            given[letter] = rest or follows
    positive, negative = _divided(found[1].replace('\\"', '"'))
    sampler, schedule = names.sampler(given.get("A", ""))
    items = made(
        positive,
        negative,
        steps=given.get("s"),
        sampler=sampler,
        schedule=schedule,
        cfg=given.get("C"),
        seed=given.get("S"),
        width=given.get("W"),
        height=given.get("H"),
        strength=given.get("f"),
    )
    return Reading("InvokeAI", items, notes=_notes(sampler))


def _divided(prompt: str) -> tuple[str, str]:
    """Before 3.0 what stood in [brackets] was the negative prompt."""
    negative = ", ".join(part.strip(" ,") for part in _NEGATIVE.findall(prompt) if part.strip(" ,"))
    return " ".join(_NEGATIVE.sub(" ", prompt).split(" ")).strip(" ,"), negative
