"""The family of models that an adapter, embedding or autoencoder was made for, and why it does not fit a checkpoint.

By what its trainer wrote (kohya's `ss_base_model_version`, Stability's `modelspec.architecture`), else by the names and shapes
of its tensors: the keys and values of cross-attention are as wide as the text encoders' output (768 in SD 1.x, 1024 in SD 2.x,
2048 in SDXL).  No torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod

from modules.checkpoints import keys
from modules.checkpoints.families.foreign import OTHER_MODELS
from modules.checkpoints.lora_names import split

SD1, SD2, SDXL, SD3, FLUX = "SD 1.x", "SD 2.x", "SDXL", "SD 3", "Flux"
BY_WIDTH = {768: SD1, 1024: SD2, 2048: SDXL}
"""By the width of the text that cross-attention sees."""

Shapes = Mapping[str, tuple[int, ...]]

_BY_BASE = (
    (re.compile(r"sd_?v?1|sd1"), SD1),
    (re.compile(r"sd_?v?2|sd2"), SD2),
    (re.compile(r"sdxl|xl"), SDXL),
    (re.compile(r"sd_?v?3|sd3"), SD3),
    (re.compile(r"flux"), FLUX),
    (re.compile(r"chroma"), "Chroma"),
    (re.compile(r"lumina"), "Lumina 2"),
)
"""Beginnings of `ss_base_model_version`."""
_BY_ARCHITECTURE = (
    ("stable-diffusion-v1", SD1),
    ("stable-diffusion-v2", SD2),
    ("stable-diffusion-xl", SDXL),
    ("stable-diffusion-3", SD3),
    ("stable-diffusion-v3", SD3),
    ("flux", FLUX),
    ("chroma", "Chroma"),
    ("lumina", "Lumina 2"),
)
"""Beginnings of `modelspec.architecture`."""
_BY_WORDS = (
    (re.compile(r"(?i)sdxl|\bxl\b|pony|illustrious|noob"), SDXL),
    (re.compile(r"(?i)\bsd ?3"), SD3),
    (re.compile(r"(?i)\bsd ?2"), SD2),
    (re.compile(r"(?i)\bsd ?1"), SD1),
    (re.compile(r"(?i)flux"), FLUX),
)
"""What people and civitai call a base model: "SD 1.5", "Pony", "SDXL 1.0"."""
_BY_NAMES = (
    (("double_blocks", "single_blocks", "single_transformer_blocks"), FLUX),
    (("joint_blocks",), SD3),
)


def by_metadata(metadata: Mapping[str, str]) -> str:
    """The family that the trainer wrote down, "" for none that is known.

    >>> by_metadata({"ss_base_model_version": "sdxl_base_v1-0"}), by_metadata({"modelspec.architecture": "flux-1-dev/lora"})
    ('SDXL', 'Flux')
    """
    base = metadata.get("ss_base_model_version", "").lower()
    if found := next((family for pattern, family in _BY_BASE if pattern.match(base)), ""):
        return found
    architecture = metadata.get("modelspec.architecture", "").lower()
    if found := next((family for begin, family in _BY_ARCHITECTURE if architecture.startswith(begin)), ""):
        return found
    if "ss_v2" in metadata and "ss_network_dim" in metadata:
        return SD2 if metadata["ss_v2"] == "True" else ""
    return ""


def by_words(base: str) -> str:
    """The family of a base model that people named.

    >>> by_words("SD 1.5"), by_words("Pony"), by_words("SDXL 1.0"), by_words("Other")
    ('SD 1.x', 'SDXL', 'SDXL', '')
    """
    return next((family for pattern, family in _BY_WORDS if pattern.search(base)), "")


def adapter(metadata: Mapping[str, str], shapes: Shapes) -> tuple[str, int]:
    """(family, width of the text that its cross-attention sees) of a LoRA or one of its relatives; "" and 0 where unknown."""
    written, width = by_metadata(metadata), 0
    for name in shapes:
        if "attn2" in name:
            part, stem, what = split(name)
            if part == "unet" and stem.endswith(("attn2_to_k", "attn2_to_v")):
                width = _inputs(name, what, shapes[name], shapes)
                if width:
                    break
    return written or BY_WIDTH.get(width, "") or _by_names(shapes), width


def _by_names(shapes: Shapes) -> str:
    """Where neither its trainer nor its cross-attention tells: by parts that only one family has."""
    for name in shapes:
        if found := next((family for marks, family in _BY_NAMES if any(mark in name for mark in marks)), ""):
            return found
        if split(name)[0] == "text_2":
            return SDXL
    return ""


def _inputs(name: str, what: str, shape: tuple[int, ...], shapes: Shapes) -> int:
    """How many inputs the layer has that this tensor changes, 0 where it does not tell."""
    if what in ("down", "hada_w1_b", "hada_w2_b", "diff", "set_weight", "a2") and len(shape) >= 2:
        return shape[1]
    if what in ("lokr_w1", "lokr_w1_b") and len(shape) >= 2:
        for other in ("lokr_w2", "lokr_w2_b"):
            second = shapes.get(name.removesuffix(what) + other, ())
            if len(second) >= 2:
                return shape[1] * prod(second[1:])
    return 0


def embedding(shapes: Shapes) -> tuple[str, int, int]:
    """(family, width, vectors) of a textual inversion; SDXL's have one for each of two encoders."""
    if "clip_g" in shapes:
        shape = shapes["clip_g"]
        return SDXL, 2048, shape[0] if len(shape) == 2 else 1
    shape = shapes.get("emb_params") or shapes.get("clip_l") or (next(iter(shapes.values())) if len(shapes) == 1 else ())
    if len(shape) not in (1, 2):
        return "", 0, 0
    return BY_WIDTH.get(shape[-1], ""), shape[-1], shape[0] if len(shape) == 2 else 1


def checkpoint_width(shapes: Shapes) -> int:
    """How wide the text is that a U-Net's cross-attention sees; 0 for a model of another kind."""
    ends = ("attn2.to_k.weight", "attn2.to_v.weight")
    return next((shape[-1] for name, shape in shapes.items() if name.endswith(ends) and len(shape) >= 2), 0)


def foreign(shapes: Shapes) -> str:
    """The kind of model that a checkpoint is which this version cannot run, "" where it is not known."""
    names = "\n" + "\n".join(keys.canonical(name) for name in shapes) + "\n"
    found = next((each.what for each in OTHER_MODELS if any(mark in names for mark in each.marks)), "")
    kind = re.fullmatch(r"an? (.+) checkpoint", found)
    return kind[1] if kind else ""


def misfit(kind: str, family: str, width: int, checkpoint: str, checkpoint_family: str, checkpoint_width: int) -> str:
    """Why a model of a kind does not fit a checkpoint: a sentence, "" when it fits or nothing is known."""
    if kind in ("checkpoint", "upscaler"):
        return ""
    if family and checkpoint_family and family != checkpoint_family:
        return f"It is made for {family}; the checkpoint {checkpoint!r} is {checkpoint_family}."
    if kind in ("lora", "embedding") and width and checkpoint_width and width != checkpoint_width:
        return f"It is made for text {width} numbers wide; the checkpoint {checkpoint!r} takes {checkpoint_width}."
    return ""
