"""What kind of model a file is by its tensors, and the folder of a models folder that holds that kind.  No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from modules.checkpoints import keys
from modules.checkpoints.companions import vectors_of
from modules.checkpoints.completeness import check_vae
from modules.checkpoints.families import recognise
from modules.checkpoints.folders import listing
from modules.checkpoints.header import Header
from modules.checkpoints.upscalers import layout_of
from modules.errors import CheckpointError

AUTO = "auto"
FOLDERS: Mapping[str, tuple[str, ...]] = {
    "checkpoints": ("stable-diffusion", "checkpoints"),
    "loras": ("loras", "lora", "lycoris", "locon"),
    "vae": ("vae", "vaes"),
    "embeddings": ("embeddings",),
    "hypernetworks": ("hypernetworks", "hypernetwork"),
    "upscalers": ("esrgan", "realesrgan", "upscale_models", "upscalers"),
}
"""Names of the folders of each kind, in any case; the first is made where there is none, but for checkpoints."""
TITLES = {
    "checkpoints": "a checkpoint",
    "loras": "a LoRA",
    "vae": "a VAE",
    "embeddings": "an embedding",
    "hypernetworks": "a hypernetwork",
    "upscalers": "an upscaler",
}
_LORA = re.compile(
    r"lora_(?:up|down|A|B|linear_layer)\b|lora\.(?:up|down)\b|\.(?:hada|lokr)_|\.dora_scale$|\.oft_(?:blocks|diag)$|"
    r"^lora_(?:unet|te\d?|prior)_|^lycoris_|\.(?:a1|b1)\.weight$"
)
_HYPERNETWORK = re.compile(r"[0-9]{1,5}\.[01]\.linear\.")


def kinds_folder(base: Path, kind: str) -> Path:
    """The folder of the models folder `base` for this kind, under the name that it has there."""
    there = {name.casefold(): name for name in listing(base).folders}
    named = next((there[name] for name in FOLDERS[kind] if name in there), "" if kind == "checkpoints" else FOLDERS[kind][0])
    return base / named if named else base


def kind_of(header: Header, name: str) -> str:
    """The kind, as in `FOLDERS`, of a file with this header; "" where its tensors do not say."""
    shapes = header.shapes
    if any(_LORA.search(tensor) for tensor in shapes):
        return "loras"
    if any(tensor.startswith(("model.diffusion_model.", "double_blocks.", "joint_blocks.")) for tensor in shapes):
        return "checkpoints"
    if shapes and all(_HYPERNETWORK.match(tensor) for tensor in shapes):
        return "hypernetworks"
    for kind, check in (
        ("checkpoints", lambda: recognise(shapes)),
        ("upscalers", lambda: layout_of(header)),
        ("vae", lambda: check_vae(header, keys.vae_layout(shapes))),
        ("embeddings", lambda: vectors_of(shapes, name)),
    ):
        try:
            check()
        except CheckpointError:
            continue
        return kind
    return ""
