"""What Civitai writes into A1111's texts: its own generator's, and its extension's "Hashes".

"Civitai resources" is a list of the models with their names on the site, no files; "Hashes" an object of "model", "vae",
"lora:NAME" and "embed:NAME".  Its generator's texts say no program; it runs ComfyUI.

Source: Civitai's `src/utils/metadata/automatic.metadata.ts` and the extension sd_civitai_extension.
From memory: no copy of it was at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.images.readers.file_texts import MAX_ITEMS, ExtraNetwork, parse_json, parse_object, said

_KINDS = {
    "lora": "lora",
    "lycoris": "lora",
    "locon": "lora",
    "dora": "lora",
    "embed": "embedding",
    "textualinversion": "embedding",
}


def is_of_its_generator(parsed: Mapping[str, str]) -> bool:
    return "Version" not in parsed and ("Civitai resources" in parsed or "Civitai metadata" in parsed)


def model(parsed: Mapping[str, str]) -> dict[str, str]:
    """The checkpoint's items that the text lacks and these keys say."""
    found: dict[str, str] = {}
    digits = said(parse_object(parsed.get("Hashes", "")).get("model"))
    if digits and "Model hash" not in parsed:
        found["Model hash"] = digits[:10]
    names = [resource for kind, resource in _resources(parsed) if kind in ("checkpoint", "model")]
    if names and "Model" not in parsed and said(names[0].get("modelName")):
        found["Model"] = said(names[0].get("modelName"))
    return found


def networks(parsed: Mapping[str, str], known: tuple[ExtraNetwork, ...]) -> tuple[ExtraNetwork, ...]:
    """LoRAs and embeddings that these keys name and the text does not."""
    found = []
    for key, value in list(parse_object(parsed.get("Hashes", "")).items())[:MAX_ITEMS]:
        kind, _, name = key.partition(":")
        if name and kind.casefold() in _KINDS:
            found.append((_KINDS[kind.casefold()], name, said(value)[:12]))
    for kind, resource in _resources(parsed):
        if kind in _KINDS and (name := said(resource.get("modelName"))):
            found.append((_KINDS[kind], name, ""))
    have = {network.name.casefold() for network in known}
    added = [ExtraNetwork("lora" if kind == "lora" else "embedding", name, digits) for kind, name, digits in found]
    return tuple(network for network in added if network.name.casefold() not in have)


def _resources(parsed: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """The kind and the object of each resource."""
    listed = parse_json(parsed.get("Civitai resources", "null"))
    usable = [one for one in listed[:MAX_ITEMS] if isinstance(one, dict)] if isinstance(listed, list) else []
    return [(said(one.get("type")).casefold(), one) for one in usable]
