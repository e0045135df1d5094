"""Fooocus: one JSON object with its scheme "fooocus"; with its scheme "a1111", A1111's text with a few keys of its own."""

from __future__ import annotations

import re
from typing import Any

from modules.images.infotext_parsing import parse
from modules.images.readers import a1111, names
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

_SIZE = re.compile(r"\D*(\d{1,5})\D+(\d{1,5})\D*")


def read(file: FileTexts) -> Reading | None:
    text = file.chunks.get("parameters") or file.comment
    if not text:
        return None
    if (data := parse_object(text)) and "prompt" in data and "base_model" in data:
        return _read_json(data)
    parsed = parse(text)
    if parsed.get("Version", "").startswith("Fooocus") and "Steps" in parsed:
        return _read_text(parsed)
    return None


def _read_json(data: dict[str, Any]) -> Reading:
    version = said(data.get("version"))
    size = _SIZE.fullmatch(said(data.get("resolution"))[:40])
    sampler, _ = names.sampler(said(data.get("sampler")))
    items = made(
        _joined(data.get("full_prompt")) or data.get("prompt"),
        _joined(data.get("full_negative_prompt")) or data.get("negative_prompt"),
        steps=data.get("steps"),
        sampler=sampler,
        schedule=names.schedule(said(data.get("scheduler"))),
        cfg=data.get("guidance_scale"),
        seed=data.get("seed"),
        width=size[1] if size else None,
        height=size[2] if size else None,
        hash=said(data.get("base_model_hash"))[:10],
        model=stem(data.get("base_model")),
        clip_skip=data.get("clip_skip"),
        rng="CPU",
        version=version,
    )
    items |= _refiner(data.get("refiner_model"), data.get("refiner_switch"))
    loras = data.get("loras")
    found = [_lora(lora) for lora in loras[:MAX_ITEMS]] if isinstance(loras, list) else []
    notes = [
        "Fooocus adds words, styles and its own sharpness and guidance to a picture: the prompt shown is the full one, "
        "the picture will only be similar"
    ]
    return Reading("Fooocus", items, version, tuple(lora for lora in found if lora), tuple(notes))


def _read_text(parsed: dict[str, str]) -> Reading:
    sampler, schedule = names.sampler(parsed.get("Sampler", "").removesuffix(" Karras"))
    schedule = names.schedule(parsed.get("Scheduler", "")) or schedule
    items = {**parsed, "Sampler": sampler, "RNG": "CPU", **_refiner(parsed.get("Refiner"), parsed.get("Refiner Switch"))}
    if schedule:
        items["Schedule type"] = schedule
    note = "Fooocus adds its own sharpness and guidance to a picture: it will only be similar"
    return Reading("Fooocus", items, parsed["Version"], a1111.networks(parsed), (note,))


def _refiner(model: Any, switch: Any) -> dict[str, str]:
    """The checkpoint that goes on with its picture: it takes over at a share of the steps, as in A1111 before 1.8."""
    if said(model) in ("", "None") or number(switch) is None:
        return {}
    return {"Refiner": stem(model), "Refiner switch at": said(number(switch)), "Refiner switch by sampling steps": "True"}


def _joined(value: Any) -> str:
    """The list of prompts that Fooocus sent to the network, as one."""
    return ", ".join(part for part in map(said, value[:MAX_ITEMS]) if part) if isinstance(value, list) else ""


def _lora(value: Any) -> ExtraNetwork | None:
    """From [name, weight, hash]."""
    if not isinstance(value, list) or not value or not (name := stem(value[0])):
        return None
    return ExtraNetwork("lora", name, said(value[2])[:12] if len(value) > 2 else "")
