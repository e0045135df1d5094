"""Easy Diffusion with embedded metadata: a PNG text for each setting, elsewhere one JSON object as the EXIF comment.

Where its settings are also saved as text files, the names are those that people see.

Source: Easy Diffusion's `ui/easydiffusion/utils/save_utils.py` (2.5 to 3.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.images.readers import names
from modules.images.readers.file_texts import ExtraNetwork, FileTexts, Reading, made, parse_object, said, stem

_SHOWN = {
    "prompt": "Prompt",
    "negative_prompt": "Negative Prompt",
    "seed": "Seed",
    "use_stable_diffusion_model": "Stable Diffusion model",
    "clip_skip": "Clip Skip",
    "use_controlnet_model": "ControlNet model",
    "use_vae_model": "VAE model",
    "sampler_name": "Sampler",
    "width": "Width",
    "height": "Height",
    "num_inference_steps": "Steps",
    "guidance_scale": "Guidance Scale",
    "prompt_strength": "Prompt Strength",
    "use_lora_model": "LoRA model",
    "use_hypernetwork_model": "Hypernetwork model",
    "tiling": "Seamless Tiling",
    "use_face_correction": "Use Face Correction",
    "use_upscale": "Use Upscaling",
}
_NOT_TAKEN = {
    "use_controlnet_model": "a ControlNet",
    "use_hypernetwork_model": "a hypernetwork",
    "tiling": "tiling",
    "use_face_correction": "face restoration",
    "use_upscale": "an upscaler",
}
_NOTHING = ("", "None", "none", "False", "[]")


def read(file: FileTexts) -> Reading | None:
    given: Mapping[str, Any] = file.chunks if _is_its(file.chunks) else parse_object(file.comment)
    if not _is_its(given):
        return None
    data = {key: given.get(key, given.get(shown)) for key, shown in _SHOWN.items()}
    sampler, schedule = names.sampler(said(data["sampler_name"]))
    items = made(
        data["prompt"],
        data["negative_prompt"],
        steps=data["num_inference_steps"],
        sampler=sampler,
        schedule=schedule or ("Uniform" if sampler else ""),
        cfg=data["guidance_scale"],
        seed=data["seed"],
        width=data["width"],
        height=data["height"],
        model=stem(data["use_stable_diffusion_model"]),
        vae=stem(data["use_vae_model"]) if said(data["use_vae_model"]) not in _NOTHING else None,
        strength=data["prompt_strength"] if said(data["prompt_strength"]) not in _NOTHING else None,
        clip_skip=2 if said(data["clip_skip"]) == "True" else None,
        version="Easy Diffusion",
    )
    asked = [what for key, what in _NOT_TAKEN.items() if said(data[key]) not in _NOTHING]
    notes = [f"made with {', '.join(asked)}, which is not taken over"] if asked else []
    notes.append("Easy Diffusion does not say where its noise was drawn nor its schedule: the picture will only be similar")
    lora = stem(data["use_lora_model"])
    return Reading(
        "Easy Diffusion", items, networks=(ExtraNetwork("lora", lora),) if lora not in _NOTHING else (), notes=tuple(notes)
    )


def _is_its(texts: Mapping[str, Any]) -> bool:
    """Whether these are settings of its: names that no other program has together."""
    return all(
        key in texts or _SHOWN[key] in texts for key in ("use_stable_diffusion_model", "num_inference_steps", "sampler_name")
    )
