"""A checkpoint in diffusers' layout under the names of its single file, so that tools read it and write what it becomes.

`checkpoints.diffusers_folder` reads such a folder under names that we load by; here are those of the published single files:
OpenCLIP's own with queries, keys and values in one matrix, CompVis' and SDXL's prefixes, and 1x1 convolutions in the attention
of autoencoders.  Source: diffusers' `convert_diffusers_to_original_stable_diffusion.py` and `..._sdxl.py`.  No torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import NamedTuple

from modules.checkpoints import keys
from modules.checkpoints.header import DTYPE_BITS, Header, TensorEntry

_OPEN_CLIP = (
    ("embeddings.token_embedding.", "token_embedding."),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("final_layer_norm.", "ln_final."),
    ("encoder.layers.", "transformer.resblocks."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
    (".self_attn.out_proj.", ".attn.out_proj."),
)
_ATTENTION = re.compile(r"(.*)\.self_attn\.q_proj\.(weight|bias)")
_FUSED = re.compile(r".*\.self_attn\.[kv]_proj\.")
_VAE_ATTENTION = re.compile(re.escape(keys.VAE) + r".*\.attn_1\.(?:q|k|v|proj_out)\.weight")


class Original(NamedTuple):
    """A tensor of the single file: what `parts` of the folder's hold, one below the other, `transposed` where that is."""

    parts: tuple[str, ...]
    transposed: bool = False


def original_header(header: Header) -> tuple[Header, Mapping[str, Original]]:
    """The header of the single file that the folder with this one is, and what each of its tensors is made of.  Its tensors
    have formats and shapes, and no places."""
    found = dict(sorted(_originals(header.tensors).items()))
    return replace(header, tensors={name: _entry(header, name, made) for name, made in found.items()}), found


def _originals(tensors: Mapping[str, TensorEntry]) -> dict[str, Original]:
    two_texts = any(name.startswith(keys.TEXT_2) for name in tensors)
    open_clip = keys.OPEN_CLIP_END in tensors
    refiner = open_clip and keys.UNET + "label_emb.0.0.weight" in tensors
    first = "conditioner.embedders.0." if two_texts or refiner else "cond_stage_model."
    found: dict[str, Original] = {}
    for name in tensors:
        if name.startswith(keys.TEXT_2):
            found |= _open_clip(keys.TEXT_2, keys.TEXT_2, name)
        elif name.startswith(keys.TEXT) and open_clip:
            found |= _open_clip(first + "model.", keys.TEXT, name)
        elif name.startswith(keys.TEXT):
            found[f"{first}transformer.text_model.{name.removeprefix(keys.TEXT)}"] = Original((name,))
        else:
            found[name] = Original((name,))
    return found


def _open_clip(prefix: str, stored: str, name: str) -> dict[str, Original]:
    """The tensor of OpenCLIP's that begins with this one, whose name begins with `stored`; none for keys and values."""
    own = name.removeprefix(stored)
    if own == "text_projection.weight":
        return {prefix + "text_projection": Original((name,), transposed=True)}
    if _FUSED.match(own):
        return {}
    parts: tuple[str, ...] = (name,)
    if fused := _ATTENTION.fullmatch(own):
        own = f"{fused[1]}.attn.in_proj_{fused[2]}"
        parts = tuple([f"{stored}{fused[1]}.self_attn.{each}_proj.{fused[2]}" for each in "qkv"])
    for ours, theirs in _OPEN_CLIP:
        own = own.replace(ours, theirs)
    return {prefix + own: Original(parts)}


def _entry(header: Header, name: str, made: Original) -> TensorEntry:
    entries = [header.tensors[part] for part in made.parts]
    widest = max(entries, key=lambda entry: DTYPE_BITS[entry.dtype])
    shape = entries[0].shape
    if len(entries) > 1:
        shape = (sum(entry.shape[0] for entry in entries), *shape[1:])
    if made.transposed:
        shape = shape[::-1]
    if len(shape) == 2 and _VAE_ATTENTION.fullmatch(name):
        shape = (*shape, 1, 1)
    return TensorEntry(widest.dtype, shape, 0, prod(shape) * DTYPE_BITS[widest.dtype] // 8)
