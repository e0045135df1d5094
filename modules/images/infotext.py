"""The text that travels with a picture: A1111's "parameters" line, written here, and the entry to all that reads it.

The text form is what every other program reads; it is ambiguous in places (a prompt with a line "Negative prompt:", leading
blanks), therefore our JSON record says the same without loss and is preferred when we read our own pictures.  These files know
text only: neither image formats nor which samplers or checkpoints exist.

    infotext_keys      the keys and the request's fields that they name
    infotext_info      GenerationInfo, what is written
    infotext_parsing   text -> items, and what A1111 means by what it leaves out
    infotext_fields    items -> fields of a request
    infotext_hires     the keys of a second pass
    infotext_tiles     the key of tiled diffusion
    infotext_record    our JSON record

Formats: AUTOMATIC1111 v1.10.1, `processing.create_infotext`, whose behaviour is matched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from modules.fields import infotext_keys
from modules.images.infotext_fields import checkpoint_names, request_fields
from modules.images.infotext_hires import hires_items
from modules.images.infotext_info import GenerationInfo
from modules.images.infotext_keys import (
    A1111_RNG,
    CORE_KEYS,
    EARLY_EXTRAS,
    EXTENSIONS,
    EXTENSIONS_KEPT,
    HIRES_CHECKPOINT,
    INIT_HASH,
    MASK_WEIGHT,
    NEGATIVE,
    NEGATIVE_LINE,
    PROMPT,
    REFINER,
    SOFT_INPAINTING,
    SOURCE,
    VAE,
    ZERO_SNR,
)
from modules.images.infotext_parsing import completed, is_word, parse
from modules.images.infotext_record import RECORD_FORMAT, Record, parse_record, render_record
from modules.images.infotext_tiles import tile_items
from modules.request import GenerationRequest, Img2Img, Upscaling, clean_text, extensions
from modules.request.kept_extensions import as_kept_text

__all__ = [
    "A1111_RNG",
    "NEGATIVE",
    "PROMPT",
    "RECORD_FORMAT",
    "GenerationInfo",
    "Record",
    "as_text",
    "checkpoint_names",
    "completed",
    "enlarging_items",
    "parse",
    "parse_record",
    "render",
    "render_record",
    "request_fields",
]


def render(info: GenerationInfo) -> str:
    """The A1111 text of a picture.

    Prompt, "Negative prompt: ..." (left out when empty) and one line of `key: value` items, Steps first, Version last.  Of one
    that was only enlarged, its source's text with how that was done.
    """
    if isinstance(info.request, Upscaling):
        return _enlarged(info.request.source_text, enlarging_items(info))
    return as_text(info.request.prompt, info.request.negative_prompt, _items(info))


def enlarging_items(info: GenerationInfo) -> str:
    """The items of A1111's text on how a picture was enlarged, "" of one that was painted."""
    if not isinstance(info.request, Upscaling):
        return ""
    said = {key: value for key, value in info.extras.items() if key.startswith("Postprocess ")}
    return ", ".join(_item(key, clean_text(value)) for key, value in said.items())


def _enlarged(source: str, items: str) -> str:
    """What a picture's source said, and how it was enlarged: items go on in the line of items, where there is one."""
    return (", " if "Steps" in parse(source) else "\n").join(text for text in (source.rstrip(), items) if text)


def as_text(prompt: str, negative_prompt: str, items: Iterable[tuple[str, str]]) -> str:
    """Prompts and items in A1111's layout."""
    negative = f"\n{NEGATIVE_LINE} {negative_prompt}" if negative_prompt else ""
    line = ", ".join(_item(key, value) for key, value in items)
    return f"{prompt}{negative}\n{line}".strip()


def _items(info: GenerationInfo) -> Iterator[tuple[str, str]]:
    request = info.request
    source = request if isinstance(request, Img2Img) else None
    yield "Steps", str(request.steps)
    yield "Sampler", clean_text(request.sampler)
    yield "Schedule type", clean_text(info.schedule_label)
    yield "CFG scale", _number(request.cfg_scale)
    if source is not None and source.image_cfg_scale != _default(source, "image_cfg_scale"):
        yield "Image CFG scale", _number(source.image_cfg_scale)
    yield "Seed", str(request.seed)
    yield "Size", f"{request.width}x{request.height}"
    if info.model_hash:
        yield "Model hash", clean_text(info.model_hash)
    if info.model_name:
        yield "Model", clean_text(info.model_name)
    yield from _vae_items(info)
    # A key that the format cannot carry is bent into shape rather than refused: metadata must never cost a picture.
    extras = {_legal_key(key): clean_text(value) for key, value in info.extras.items()}
    yield from _noise_items(request, extras)
    yield from hires_items(request, {key: clean_text(info.extras[key]) for key in (HIRES_CHECKPOINT,) if key in info.extras})
    if source is not None and source.inpaints:
        yield from _mask_items(source)
    if request.hires is not None:
        extras = {key: value for key, value in extras.items() if not key.startswith("Hires ")}
    extras = {key: value for key, value in extras.items() if len(key) > 1 and key not in CORE_KEYS}
    yield from ((key, extras.pop(key)) for key in EARLY_EXTRAS if key in extras)
    yield from tile_items(request)
    yield from _option_items(request, {key: clean_text(info.extras[key]) for key in (REFINER,) if key in info.extras})
    if source is not None:
        yield from _our_items(source)
    if request.extensions:
        yield EXTENSIONS, extensions.as_text(request.extensions)
    if request.kept_extensions:
        yield EXTENSIONS_KEPT, as_kept_text(request.kept_extensions)
    yield from extras.items()
    yield "Version", clean_text(info.version)


def _vae_items(info: GenerationInfo) -> Iterator[tuple[str, str]]:
    """The autoencoder's file, where it is not the checkpoint's own, as A1111 says it."""
    said = [(key, clean_text(info.extras[key])) for key in VAE if key in info.extras]
    if not said and info.request.vae != _default(info.request, "vae"):
        said = [("VAE", clean_text(info.request.vae))]
    yield from said


def _noise_items(request: GenerationRequest, extras: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Noise, and the source; takes what of it stands in `extras` out of there."""
    weight, md5 = extras.pop(MASK_WEIGHT, ""), extras.pop(INIT_HASH, "")
    if request.variation_strength > 0:
        yield "Variation seed", str(request.variation_seed)
        yield "Variation seed strength", _number(request.variation_strength)
    if request.seed_resize_width and request.seed_resize_height:
        yield "Seed resize from", f"{request.seed_resize_width}x{request.seed_resize_height}"
    if request.hires is not None:
        yield "Denoising strength", _number(request.hires.denoising_strength)
    if isinstance(request, Img2Img):
        yield "Denoising strength", _number(request.denoising_strength)
        if weight or request.conditioning_mask_strength != 1:
            yield MASK_WEIGHT, _number(request.conditioning_mask_strength)
    if request.clip_skip > 1:
        yield "Clip skip", str(request.clip_skip)
    if request.ensd:
        yield "ENSD", str(request.ensd)
    if isinstance(request, Img2Img):
        if md5:
            yield INIT_HASH, md5
        for key, name in SOURCE.items():
            if value := getattr(request, name):
                yield key, value
    if request.rng != A1111_RNG:
        yield "RNG", request.rng


def _mask_items(request: Img2Img) -> Iterator[tuple[str, str]]:
    """What is repainted.  A blur of 0 is said, where A1111 leaves it out: its reader then keeps what the form shows."""
    if request.mask_mode != "Inpaint masked":
        yield "Mask mode", request.mask_mode
    if request.mask_blur_x == request.mask_blur_y:
        yield "Mask blur", str(request.mask_blur_x)
    else:
        yield "Mask blur X", str(request.mask_blur_x)
        yield "Mask blur Y", str(request.mask_blur_y)
    if request.inpaint_area != "Whole picture":
        yield "Inpaint area", request.inpaint_area
        yield "Masked area padding", str(request.masked_padding)
    if request.masked_content != "original":
        yield "Masked content", request.masked_content


def _option_items(request: GenerationRequest, told: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What is not at its default, under A1111's names where it has one; `told` are items that say more than the request."""
    for key, name in infotext_keys(type(request), "options").items():
        value = getattr(request, name)
        always = name == "refiner_switch_at" and request.refiner  # A1111 says it of every refiner
        if value == _default(request, name) and not always:
            continue
        if name == "eta" and request.sampler.startswith("DDIM") != (key == "Eta DDIM"):
            continue
        yield key, ZERO_SNR if name == "zero_snr" else told.get(key) or clean_text(_text(value))
    if isinstance(request, Img2Img) and request.inpaints and request.soft_inpainting:
        for key, name in SOFT_INPAINTING.items():
            yield key, _text(getattr(request, name))


def _our_items(request: Img2Img) -> Iterator[tuple[str, str]]:
    for key, name in infotext_keys(type(request), "picture options").items():
        if (value := getattr(request, name)) != _default(request, name):
            yield key, _text(value)


def _default(request: GenerationRequest, name: str) -> object:
    return type(request).model_fields[name].default


def _text(value: object) -> str:
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    assert isinstance(value, int | float)
    return _number(value)


def _number(value: float) -> str:
    """7.0 as "7", 4.5 as "4.5": what A1111's own sliders write."""
    return str(int(value)) if value == int(value) else repr(value)


def _legal_key(key: str) -> str:
    kept = "".join(c if is_word(c) or c in " -/" else " " for c in clean_text(key))
    return " ".join(kept.split()).strip("-/ ")


def _item(key: str, value: str) -> str:
    return key if key == value else f"{key}: {_quote(value)}"


def _quote(value: str) -> str:
    """A1111 quotes what contains a comma, a newline or a colon; we also quote what its reader would trim or unquote."""
    if any(c in value for c in ",\n:") or value.startswith('"') or value != value.strip():
        return json.dumps(value, ensure_ascii=False)
    return value
