"""SwarmUI: a JSON object with its parameters under "sui_image_params", where A1111 has its text.

It runs ComfyUI, with its own seeds for variations and tags in prompts.  The object names parameters by the small letters
of their names; pictures and much of what is at its default are left out.  What came up beside them is in "sui_extra_data", the
hashes of the files' tensors are in "sui_models".

Source: SwarmUI's `T2IParamInput.cs`, `T2IParamTypes.cs`, `WorkflowGenerator.cs`, `SwarmKSampler.py` (0.5 to 0.9.8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modules.images.readers import language
from modules.images.readers.comfy_sampling import sampling, starts_lower
from modules.images.readers.file_texts import (
    MAX_ITEMS,
    ExtraNetwork,
    FileTexts,
    Reading,
    made,
    number,
    parse_object,
    said,
    stem,
)
from modules.images.readers.swarm_prompts import Words, words

_SIZE = re.compile(r"\s*(\d{1,5})\s*x\s*(\d{1,5})\s*")
_OFF = ("", "false", "none", "(none)", "0", "0.0", "automatic")
_NOT_TAKEN = {
    "refiner": "a second pass or a refiner",
    "controlnet": "a ControlNet",
    "freeu": "FreeU",
    "useipadapter": "an IP-Adapter",
    "ipadapterweight": "an IP-Adapter",
    "revision": "a picture as a prompt",
    "usereferenceonly": "a picture as a prompt",
    "seamless": "tiling",
    "unsampler": "unsampling",
    "endstepsearly": "steps that end early",
    "teacache": "TeaCache",
    "easycache": "EasyCache",
    "hypertile": "HyperTile",
    "renormcfg": "renormalised CFG",
    "comfyuicustomworkflow": "a workflow of its own",
    "comfyworkflow": "a workflow of its own",
    "removebackground": "a background that was removed",
    "video": "a video",
    "initimageresettonorm": "a source that is moved to the norm",
    "initimagenoise": "noise on the source",
    "sidelength": "a size by its side and shape",
}
"""Beginnings of parameters' names that change the picture and have no field here."""


def read(file: FileTexts) -> Reading | None:
    whole = parse_object(file.chunks.get("parameters") or file.comment)
    data = whole.get("sui_image_params")
    if not isinstance(data, dict):
        return None
    extra = whole["sui_extra_data"] if isinstance(whole.get("sui_extra_data"), dict) else {}
    version = said(data.get("swarm_version") or extra.get("swarm_version"))
    positive, negative = words(said(data.get("prompt"))), words(said(data.get("negativeprompt")))
    from_picture = "initimagecreativity" in data or "initimage" in data or "initimage_filename" in extra
    width, height = _size(data)
    sampled, notes = sampling(
        said(data.get("sampler")) or "euler", said(data.get("scheduler")) or "normal", whole=not from_picture
    )
    clip = number(data.get("clipstopatlayer"))
    items = made(
        language.whole_weight(positive.text),
        negative.text,
        steps=data.get("steps"),
        sampler=sampled.get("Sampler"),
        schedule=sampled.get("Schedule type"),
        cfg=data.get("cfgscale"),
        seed=data.get("seed"),
        width=width,
        height=height,
        model=stem(data.get("model")),
        vae=stem(data.get("vae")) if _is_on(data.get("vae")) else None,
        strength=_strength(data) if from_picture else None,
        clip_skip=-clip if clip is not None and -12 <= clip <= -2 else None,
        rng="CPU",
        version=f"SwarmUI {version}".strip(),
    )
    items |= sampled | _further(data, sampled.get("Schedule type", ""))
    if starts_lower(items):
        items.pop("SGM noise multiplier", None)
    if language.weighs(positive.text, negative.text):
        items["Emphasis"] = "No norm"
    networks = (
        *_loras(data, whole),
        *(ExtraNetwork("embedding", name) for name in (*positive.embeddings, *negative.embeddings)),
    )
    return Reading("SwarmUI", items, version, networks, (*_left_out(data, positive, negative), *notes))


def _further(data: Mapping[str, Any], schedule: str) -> dict[str, str]:
    """Variations, the ends of the schedule, and what guidance does beyond its scale."""
    keys = {
        "rescalecfgmultiplier": "CFG rescale",
        "perturbedattentionguidancescale": "PAG scale",
        "selfattentionguidancescale": "SAG scale",
        "selfattentionguidancesigmablur": "SAG blur sigma",
    }
    if number(data.get("variationseedstrength")):
        keys |= {"variationseed": "Variation seed", "variationseedstrength": "Variation seed strength"}
    if (
        schedule in ("Karras", "Exponential") and "samplersigmamin" in data and "samplersigmamax" in data
    ):  # both, or neither counts
        keys |= {"samplersigmamin": "Schedule min sigma", "samplersigmamax": "Schedule max sigma", "samplerrho": "Schedule rho"}
    return {key: value for name, key in keys.items() if (value := said(data.get(name)))}


def _strength(data: Mapping[str, Any]) -> float:
    strength = number(data.get("initimagecreativity"))
    return 0.6 if strength is None else strength


def _size(data: Mapping[str, Any]) -> tuple[Any, Any]:
    """Older versions kept what was typed beside what it overrides."""
    if raw := _SIZE.fullmatch(said(data.get("rawresolution"))[:40]):
        return raw[1], raw[2]
    width, height = data.get("width"), data.get("height")
    times, wide = number(data.get("altresolutionheightmultiplier")), number(width)
    return width, int(times * wide) if times and wide and times * wide < 1e5 else height


def _is_on(value: Any) -> bool:
    return said(value).strip().casefold() not in _OFF


def _left_out(data: Mapping[str, Any], positive: Words, negative: Words) -> list[str]:
    asked: dict[str, None] = {}
    for name, value in list(data.items())[:MAX_ITEMS]:
        what = next((what for begin, what in _NOT_TAKEN.items() if name.startswith(begin)), "")
        if what and (_is_on(value) or isinstance(value, list)):
            asked[what] = None
    asked |= dict.fromkeys((*positive.left_out, *negative.left_out))
    notes = [f"made with {', '.join(asked)}, which is not taken over"] if asked else []
    if said(data.get("zeronegative")) == "True" and not negative.text.strip():
        notes.append(
            "its empty negative prompt was zeros, here it is the encoding of no words: the picture will only be similar"
        )
    if positive.changes or negative.changes:
        notes.append("its prompt changes by the noise level and here by steps: the picture will only be similar")
    return notes


def _loras(data: Mapping[str, Any], whole: Mapping[str, Any]) -> list[ExtraNetwork]:
    """A list of names, or one text with commas; in "sui_models" with their hashes."""
    given = data.get("loras")
    given = given.split(",") if isinstance(given, str) else given
    found = [stem(name).strip() for name in given[:MAX_ITEMS]] if isinstance(given, list) else []
    hashes: dict[str, str] = {}
    models = whole.get("sui_models")
    for model in models[:MAX_ITEMS] if isinstance(models, list) else []:
        if isinstance(model, dict) and model.get("param") == "loras":
            hashes[stem(model.get("name"))] = said(model.get("hash")).removeprefix("0x")[:12]
    return [ExtraNetwork("lora", name, hashes.get(name, "")) for name in dict.fromkeys([*found, *hashes]) if name]
