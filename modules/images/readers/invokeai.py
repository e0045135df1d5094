"""InvokeAI since 3.0: a JSON object in "invokeai_metadata"; what came before is `invokeai_old`'s.

Its samplers are those of the library diffusers, spaced evenly where the name does not end in "_k" for Karras; noise is drawn on
the CPU unless "rand_device" says otherwise; words are weighed by the library compel.

Source: InvokeAI's `app/invocations/metadata.py` and `backend/stable_diffusion/schedulers/` (3.0 to 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.images.readers import compel, invokeai_old, language, names
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

_NOT_TAKEN = {
    "controlnets": "a ControlNet",
    "ipAdapters": "an IP-Adapter",
    "t2iAdapters": "a T2I-Adapter",
    "ref_images": "pictures as prompts",
    "refiner_model": "a refiner",
    "hrf_enabled": "a second pass at a larger size",
    "positive_style_prompt": "a prompt for the style",
    "negative_style_prompt": "a prompt for the style",
    "seamless_x": "tiling",
    "seamless_y": "tiling",
    "regions": "regions with words of their own",
    "control_layers": "layers that guide it",
    "canvas_v2_metadata": "layers of its canvas",
    "canvas_v3_metadata": "layers of its canvas",
    "upscale_model": "an upscaler",
}
"""Keys that change the picture and have no field here."""
_LAYERS = ("regionalGuidance", "controlLayers", "inpaintMasks", "referenceImages", "layers")


def read(file: FileTexts) -> Reading | None:
    if data := parse_object(file.chunks.get("invokeai_metadata", "")):
        return _read(data)
    return invokeai_old.read(file)


def _read(data: Mapping[str, Any]) -> Reading:
    raw = said(data.get("scheduler"))
    sampler, schedule = names.sampler(raw)
    model = data.get("model")
    model = model if isinstance(model, dict) else {}
    vae = data.get("vae")
    version = said(data.get("app_version"))
    skip = data.get("clip_skip")
    mode = said(data.get("generation_mode"))
    prompts = [said(data.get("positive_prompt")), said(data.get("negative_prompt"))]
    functions = compel.functions(*prompts)
    positive, negative = map(language.text_only if functions else compel.words, prompts)
    items = made(
        language.whole_weight(positive),
        negative,
        steps=data.get("steps"),
        sampler=sampler,
        schedule=schedule or ("Uniform" if sampler else ""),
        cfg=data.get("cfg_scale"),
        seed=data.get("seed"),
        width=data.get("width"),
        height=data.get("height"),
        model=_name(model),
        vae=_name(vae) if isinstance(vae, dict) else None,
        strength=data.get("strength") if not mode.endswith("txt2img") else None,
        clip_skip=skip + 1 if isinstance(skip, int) and 0 < skip < 12 else None,
        rng={"cuda": "GPU"}.get(said(data.get("rand_device")), "CPU"),
        rescale=data.get("cfg_rescale_multiplier") or None,
        version=f"InvokeAI {version}".strip(),
    )
    if language.weighs(positive, negative):
        items["Emphasis"] = "No norm"
    if names.is_singlestep(raw):
        items["Eta"] = "0"  # its 2S is deterministic
    refiner = _refiner(data)
    items |= refiner
    loras = data.get("loras")
    found = [_lora(lora) for lora in loras[:MAX_ITEMS]] if isinstance(loras, list) else []
    notes = (*_left_out({**data, "refiner_model": None} if refiner else data, functions), *invokeai_old.differs(sampler))
    return Reading("InvokeAI", items, version, tuple(lora for lora in found if lora), notes)


def _name(model: Mapping[str, Any]) -> str:
    return stem(model.get("name") or model.get("model_name"))


def _refiner(data: Mapping[str, Any]) -> dict[str, str]:
    """Its refiner as A1111's, where they are the same: sampler, steps, guidance and scores, and a sampler that remembers no
    earlier step, as its own begins anew."""
    model, start = data.get("refiner_model"), number(data.get("refiner_start"))
    if not isinstance(model, dict) or not _name(model) or start is None or not 0 < start < 1:
        return {}
    same = ("steps", "cfg_scale", "scheduler")
    usual = {"refiner_positive_aesthetic_score": 6.0, "refiner_negative_aesthetic_score": 2.5}
    alike = all(data.get(f"refiner_{name}") == data.get(name) for name in same)
    if not alike or said(data.get("scheduler")) not in _FORGETFUL:
        return {}
    if any(number(data.get(name)) not in (None, score) for name, score in usual.items()):
        return {}
    return {"Refiner": _name(model), "Refiner switch at": said(start)}


_FORGETFUL = ("euler", "euler_k", "ddim")
"""Samplers whose steps know nothing of those before."""


def _lora(value: Any) -> ExtraNetwork | None:
    model = value.get("model") or value.get("lora") if isinstance(value, dict) else None
    name = _name(model) if isinstance(model, dict) else ""
    return ExtraNetwork("lora", name) if name else None


def _left_out(data: Mapping[str, Any], functions: list[str]) -> list[str]:
    asked = dict.fromkeys(what for key, what in _NOT_TAKEN.items() if _is_used(data.get(key)))
    notes = [f"made with {', '.join(asked)}, which is not taken over"] if asked else []
    if functions:
        called = ", ".join(f".{name}()" for name in functions)
        notes.append(f"its prompt uses {called}, which is not known here: the prompt is taken as plain text")
    if number(data.get("strength")) is not None and said(data.get("generation_mode")).endswith(("inpaint", "outpaint")):
        notes.append("painted through a mask, which is not in the file")
    return notes


def _is_used(value: Any) -> bool:
    """Whether a key says something: a canvas is always there, its layers are lists."""
    if isinstance(value, dict):
        layers = [value[name] for name in _LAYERS if name in value]
        return any(layers) if layers else bool(value)
    return bool(value) if isinstance(value, list | bool) else bool(said(value))
