"""NovelAI: JSON in "Comment" beside "Software: NovelAI", in PNG chunks, in WebP's EXIF, or hidden in the alpha channel.

Source: what its pictures of V1 to V4.5 hold, and A1111's reading of the first ones.  From memory: no copy of it was at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.images import exif
from modules.images.readers import language, names
from modules.images.readers.file_texts import FileTexts, Reading, made, number, parse_object, said
from modules.images.readers.novelai_prompts import numbered, weighted

_NOT_TAKEN = {
    "sm": "SMEA",
    "sm_dyn": "SMEA",
    "autoSmea": "SMEA",
    "controlnet_model": "a ControlNet",
    "reference_image": "a picture as a prompt",
    "reference_strength_multiple": "pictures as prompts",
    "reference_image_multiple": "pictures as prompts",
    "director_reference_strength_values": "a reference for a character",
    "director_reference_descriptions": "a reference for a character",
    "lora_unet_weights": "modules of its own",
    "lora_clip_weights": "modules of its own",
    "skip_cfg_above_sigma": "guidance for a part of the noise levels",
    "skip_cfg_below_sigma": "guidance for a part of the noise levels",
    "noise": "noise on the source",
    "explike_fine_detail": "a sampling of its own for detail",
}
"""Keys that change the picture and have no field here."""


def read(file: FileTexts) -> Reading | None:
    texts = {**file.chunks}
    if not texts.get("Comment") and (hidden := parse_object(file.comment)) and "Comment" in hidden:
        texts = {key: said(value) for key, value in hidden.items()}
    software = texts.get("Software", "") or file.tags.get(exif.SOFTWARE, "")
    data = parse_object(texts.get("Comment", "") or (file.comment if "NovelAI" in software else ""))
    if not data or not ("NovelAI" in software or ("uc" in data and "sampler" in data and "scale" in data)):
        return None
    in_ours = numbered if isinstance(data.get("v4_prompt"), dict) else weighted
    prompt = in_ours(_v4(data, "v4_prompt") or said(data.get("prompt")) or texts.get("Description", ""))
    negative = in_ours(_v4(data, "v4_negative_prompt") or said(data.get("uc")))
    sampler, schedule = names.sampler(said(data.get("sampler")))
    source = texts.get("Source", "")
    name, _, digits = source.rpartition(" ")
    items = made(
        language.whole_weight(prompt),
        negative,
        steps=data.get("steps"),
        sampler=sampler,
        schedule=names.schedule(said(data.get("noise_schedule"))) or schedule or "Uniform",
        cfg=data.get("scale"),
        seed=data.get("seed"),
        width=data.get("width"),
        height=data.get("height"),
        hash=digits if name else "",
        model=name or source,
        strength=data.get("strength") if _from_picture(data) else None,
        rescale=data.get("cfg_rescale") or None,
        version=source or "NovelAI",
    )
    # As A1111 reads them; these are what its first model was trained with.
    items |= {"Clip skip": "2", "ENSD": "31337"}
    if data.get("dynamic_thresholding") is True:
        items["Mimic scale"] = said(data.get("dynamic_thresholding_mimic_scale")) or "10"
        items["Threshold percentile"] = said(data.get("dynamic_thresholding_percentile")) or "0.999"
    note = "NovelAI's models are its own: another checkpoint paints another picture"
    return Reading("NovelAI", items, source, notes=(note, *_left_out(data, f"{prompt} {negative}")))


def _from_picture(data: Mapping[str, Any]) -> bool:
    return said(data.get("request_type")) in ("Img2ImgRequest", "NativeInfillingRequest", "InfillRequest")


def _left_out(data: Mapping[str, Any], words: str) -> list[str]:
    """Sentences about what changed the picture and is not taken over."""
    used = (key for key in _NOT_TAKEN if data.get(key) and (key != "noise" or _from_picture(data)))
    asked = list(dict.fromkeys(_NOT_TAKEN[key] for key in used))
    notes = [f"made with {', '.join(asked)}, which is not taken over"] if asked else []
    if "Infill" in said(data.get("request_type")):
        notes.append("painted through a mask, which is not in the file")
    if number(data.get("uncond_scale")) not in (None, 0, 1):
        notes.append(f"its negative prompt counted {said(data.get('uncond_scale'))} times, here it counts once")
    if _characters(data):
        notes.append("its characters had prompts and places of their own, here they are one prompt")
    if "|" in words:
        notes.append("the | in its prompt mixed several prompts, which is not done here")
    if data.get("deliberate_euler_ancestral_bug") is True and said(data.get("sampler")) == "k_euler_ancestral":
        notes.append("its Euler a kept an old mistake on purpose: the picture will only be similar")
    return notes


def _characters(data: Mapping[str, Any]) -> bool:
    node = data.get("v4_prompt")
    caption = node.get("caption") if isinstance(node, dict) else None
    return bool(caption.get("char_captions")) if isinstance(caption, dict) else False


def _v4(data: dict[str, Any], key: str) -> str:
    """The caption of V4's structured prompt, its characters behind it."""
    node = data.get(key)
    caption = node.get("caption") if isinstance(node, dict) else None
    if not isinstance(caption, dict):
        return ""
    parts = [said(caption.get("base_caption"))]
    people = caption.get("char_captions")
    if isinstance(people, list):
        parts += [said(one.get("char_caption")) for one in people[:20] if isinstance(one, dict)]
    return ", ".join(part for part in parts if part)
