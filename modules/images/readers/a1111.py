"""AUTOMATIC1111, Forge, SD.Next and all who write A1111's text: PNG "parameters", elsewhere the EXIF comment."""

from __future__ import annotations

import re
from collections.abc import Mapping

from modules.images.infotext_parsing import parse
from modules.images.readers import civitai, comfyui, comfyui_text, extensions, sdnext
from modules.images.readers.file_texts import MAX_ITEMS, ExtraNetwork, FileTexts, Reading

_TAG = re.compile(r"<(?:lora|lyco):([^:<>]{1,200})[:>]")
_HYPERNETWORK = re.compile(r"<hypernet:([^:<>]{1,200})[:>]")


def read(file: FileTexts) -> Reading | None:
    text = file.chunks.get("parameters") or file.comment
    reading = read_text(text) if text else None
    if reading is not None and reading.program == "ComfyUI":
        return comfyui_text.with_graph(reading, comfyui.read(file))
    return reading


def read_text(text: str) -> Reading | None:
    """The reading of an A1111 text, None when it has no settings."""
    parsed = parse(text)
    if "Steps" not in parsed:
        return None
    version = parsed.get("Version", "")
    program = program_of(parsed)
    parsed |= civitai.model(parsed)
    files = networks(parsed)
    files += civitai.networks(parsed, files)
    notes: tuple[str, ...] = ()
    if program in ("ComfyUI", "Civitai"):
        files += comfyui_text.inversions(parsed, files)
        parsed, notes = comfyui_text.meant(parsed)
        if program == "Civitai":
            notes = ("Civitai's texts do not say what painted the picture: it is read as ComfyUI's", *notes)
    elif program == "SD.Next":
        files += tuple(network for network in sdnext.inversions(parsed) if network.name not in {known.name for known in files})
        parsed, notes = sdnext.meant(parsed)
    elif program != "Atelier":
        parsed, notes = extensions.meant(parsed)
    return Reading(program, parsed, version, files, notes)


def program_of(parsed: Mapping[str, str]) -> str:
    """Who wrote the text, by its version and by keys that only one of them has."""
    version = parsed.get("Version", "")
    app = parsed.get("App", "")
    if version.startswith("Atelier"):
        return "Atelier"
    if re.match(r"f\d|neo", version):
        return "Forge"
    if app == "SD.Next" or "Backend" in parsed or version == "SD.Next":
        return "SD.Next"
    if version.startswith("Fooocus"):
        return "Fooocus"
    if comfyui_text.is_of_comfyui(parsed):
        return "ComfyUI"
    return "Civitai" if civitai.is_of_its_generator(parsed) else "A1111"


def networks(parsed: Mapping[str, str]) -> tuple[ExtraNetwork, ...]:
    """LoRAs and embeddings: those with hashes from the items, LoRAs without and hypernetworks from the prompt's tags."""
    found = [ExtraNetwork("lora", name, digits) for name, digits in _hashes(parsed.get("Lora hashes", ""))]
    found += [ExtraNetwork("embedding", name, digits) for name, digits in _hashes(parsed.get("TI hashes", ""))]
    known = {network.name for network in found}
    tags = dict.fromkeys(_TAG.findall(parsed.get("Prompt", "")[: MAX_ITEMS * 300]))
    found += [ExtraNetwork("lora", name) for name in tags if name not in known]
    named = [parsed.get("Hypernet", ""), *_HYPERNETWORK.findall(parsed.get("Prompt", "")[: MAX_ITEMS * 300])]
    found += [ExtraNetwork("hypernetwork", name) for name in dict.fromkeys(filter(None, named))]
    return tuple(found[:MAX_ITEMS])


def _hashes(text: str) -> list[tuple[str, str]]:
    """Pairs of "name: hash, name: hash"."""
    pairs = (part.rsplit(":", 1) for part in text.split(",")[:MAX_ITEMS] if part.strip())
    return [(pair[0].strip(), pair[1].strip() if len(pair) == 2 else "") for pair in pairs]
