"""SwarmUI: a JSON object with its parameters under "sui_image_params", where A1111 has its text."""

from __future__ import annotations

from typing import Any

from modules.images.readers import names
from modules.images.readers.told import MAX_ITEMS, Network, Reading, Told, made, parse_object, said, stem


def read(told: Told) -> Reading | None:
    data = parse_object(told.chunks.get("parameters") or told.comment).get("sui_image_params")
    if not isinstance(data, dict):
        return None
    version = said(data.get("swarm_version"))
    sampler, in_name = names.sampler(said(data.get("sampler")))
    creativity = data.get("initimagecreativity") if "initimage" in data else None
    items = made(
        data.get("prompt"),
        data.get("negativeprompt"),
        steps=data.get("steps"),
        sampler=sampler,
        schedule=in_name or names.schedule(said(data.get("scheduler"))),
        cfg=data.get("cfgscale"),
        seed=data.get("seed"),
        width=data.get("width"),
        height=data.get("height"),
        model=stem(data.get("model")),
        strength=creativity,
        rng="CPU",
        version=f"SwarmUI {version}".strip(),
    )
    return Reading("SwarmUI", items, version, _loras(data.get("loras")))


def _loras(value: Any) -> tuple[Network, ...]:
    """A list of names, or one text with commas."""
    given = value.split(",") if isinstance(value, str) else value
    found = [stem(name) for name in given[:MAX_ITEMS]] if isinstance(given, list) else []
    return tuple(Network("lora", name.strip()) for name in found if name.strip())
