"""The tensors of SD 3's and Flux's transformers under the names of diffusers, brought to those of their single files.

diffusers keeps queries, keys and values apart, single files together; and of the last modulation diffusers has the scale first,
single files the shift.  So a tensor of ours may be made of several, or of halves of one (`header.rows_of`).  No torch.
Source: diffusers' `scripts/convert_sd3_to_diffusers.py` and `convert_flux_to_diffusers.py`, read backwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from modules.checkpoints import keys
from modules.checkpoints.header import TensorEntry, part_of_rows, rows_of

Entries = Mapping[str, TensorEntry]

SD3_MARK = "transformer_blocks.0.attn.add_q_proj.weight"
FLUX_MARK = "single_transformer_blocks.0.proj_mlp.weight"
"""Tensors by which the transformers are known under diffusers' names; Flux's has both."""

PREFIXES = ("", "transformer.", keys.UNET)
"""What files with diffusers' names have in front of them."""

SHIFT_FIRST = "shift first"
"""Marks a tensor whose halves change places."""

SD3_LAYERS = {
    "pos_embed.proj": ("x_embedder.proj",),
    "time_text_embed.timestep_embedder.linear_1": ("t_embedder.mlp.0",),
    "time_text_embed.timestep_embedder.linear_2": ("t_embedder.mlp.2",),
    "time_text_embed.text_embedder.linear_1": ("y_embedder.mlp.0",),
    "time_text_embed.text_embedder.linear_2": ("y_embedder.mlp.2",),
    "context_embedder": ("context_embedder",),
    "norm_out.linear": ("final_layer.adaLN_modulation.1", SHIFT_FIRST),
    "proj_out": ("final_layer.linear",),
}
FLUX_LAYERS = {
    "x_embedder": ("img_in",),
    "context_embedder": ("txt_in",),
    **{
        f"time_text_embed.{theirs}_embedder.linear_{number}": (f"{ours}_in.{side}_layer",)
        for theirs, ours in (("timestep", "time"), ("text", "vector"), ("guidance", "guidance"))
        for number, side in ((1, "in"), (2, "out"))
    },
    "norm_out.linear": ("final_layer.adaLN_modulation.1", SHIFT_FIRST),
    "proj_out": ("final_layer.linear",),
}
"""Layers outside of blocks, by diffusers' names."""

_SD3_BLOCK = {
    **{f"attn.to_{each}": ("x_block.attn.qkv", number) for number, each in enumerate("qkv")},
    **{f"attn.add_{each}_proj": ("context_block.attn.qkv", number) for number, each in enumerate("qkv")},
    **{f"attn2.to_{each}": ("x_block.attn2.qkv", number) for number, each in enumerate("qkv")},
    "attn.to_out.0": ("x_block.attn.proj", 0),
    "attn.to_add_out": ("context_block.attn.proj", 0),
    "attn2.to_out.0": ("x_block.attn2.proj", 0),
    **{f"attn.norm_{each}": (f"x_block.attn.ln_{each}", 0) for each in "qk"},
    **{f"attn2.norm_{each}": (f"x_block.attn2.ln_{each}", 0) for each in "qk"},
    **{f"attn.norm_added_{each}": (f"context_block.attn.ln_{each}", 0) for each in "qk"},
    "norm1.linear": ("x_block.adaLN_modulation.1", 0),
    "norm1_context.linear": ("context_block.adaLN_modulation.1", 0),
    "ff.net.0.proj": ("x_block.mlp.fc1", 0),
    "ff.net.2": ("x_block.mlp.fc2", 0),
    "ff_context.net.0.proj": ("context_block.mlp.fc1", 0),
    "ff_context.net.2": ("context_block.mlp.fc2", 0),
}
_FLUX_DOUBLE = {
    **{f"attn.to_{each}": ("img_attn.qkv", number) for number, each in enumerate("qkv")},
    **{f"attn.add_{each}_proj": ("txt_attn.qkv", number) for number, each in enumerate("qkv")},
    "attn.to_out.0": ("img_attn.proj", 0),
    "attn.to_add_out": ("txt_attn.proj", 0),
    "attn.norm_q": ("img_attn.norm.query_norm", 0),
    "attn.norm_k": ("img_attn.norm.key_norm", 0),
    "attn.norm_added_q": ("txt_attn.norm.query_norm", 0),
    "attn.norm_added_k": ("txt_attn.norm.key_norm", 0),
    "norm1.linear": ("img_mod.lin", 0),
    "norm1_context.linear": ("txt_mod.lin", 0),
    "ff.net.0.proj": ("img_mlp.0", 0),
    "ff.net.2": ("img_mlp.2", 0),
    "ff_context.net.0.proj": ("txt_mlp.0", 0),
    "ff_context.net.2": ("txt_mlp.2", 0),
}
_FLUX_SINGLE = {
    **{f"attn.to_{each}": ("linear1", number) for number, each in enumerate("qkv")},
    "proj_mlp": ("linear1", 3),
    "proj_out": ("linear2", 0),
    "attn.norm_q": ("norm.query_norm", 0),
    "attn.norm_k": ("norm.key_norm", 0),
    "norm.linear": ("modulation.lin", 0),
}
"""Layers of a block by diffusers' names: ours, and which piece of it one is."""

BLOCKS = {
    "sd3": (("transformer_blocks", "joint_blocks", _SD3_BLOCK),),
    "flux": (
        ("single_transformer_blocks", "single_blocks", _FLUX_SINGLE),
        ("transformer_blocks", "double_blocks", _FLUX_DOUBLE),
    ),
}
LAYERS = {"sd3": SD3_LAYERS, "flux": FLUX_LAYERS}

_BLOCK = re.compile(r"((?:single_)?transformer_blocks)\.(\d{1,3})\.(.+)")


def kind_of(names: Iterable[str]) -> tuple[str, str]:
    """Which transformer has these names of diffusers, "sd3" or "flux", and what is in front of them; "" for neither."""
    there = set(names)
    for prefix in PREFIXES:
        if prefix + SD3_MARK in there:
            return ("flux" if prefix + FLUX_MARK in there else "sd3"), prefix
    return "", ""


def single_file(tensors: Entries) -> dict[str, TensorEntry]:
    """The tensors of a file, those of a transformer with diffusers' names under `keys.UNET` and the names of single files;
    others as they are.

    Raises:
        CheckpointError: tensors that belong together do not fit; the message is the rest of a sentence.
    """
    kind, prefix = kind_of(tensors)
    if not kind:
        return dict(tensors)
    last = max(int(found[2]) for name in tensors if (found := _BLOCK.match(name.removeprefix(prefix))))
    pieces: dict[str, dict[int, TensorEntry]] = {}
    others: dict[str, TensorEntry] = {}
    for name, entry in tensors.items():
        stem, _, what = name.removeprefix(prefix).rpartition(".")
        placed = place_of(kind, stem)
        if name.removeprefix(prefix) == "pos_embed.pos_embed":
            pieces["pos_embed"] = {0: entry}
        elif not name.startswith(prefix) or placed is None:
            others[name] = entry
        else:
            ours, number = placed
            swapped = number < 0 or (kind == "sd3" and stem == f"transformer_blocks.{last}.norm1_context.linear")
            what = "scale" if kind == "flux" and ours.endswith("_norm") else what
            whole = rows_of([part_of_rows(entry, 1, 2), part_of_rows(entry, 0, 2)]) if swapped else entry
            pieces.setdefault(f"{ours}.{what}", {})[max(0, number)] = whole
    return others | {keys.UNET + ours: _whole(list(dict(sorted(each.items())).values())) for ours, each in pieces.items()}


def _whole(pieces: Sequence[TensorEntry]) -> TensorEntry:
    return pieces[0] if len(pieces) == 1 else rows_of(pieces)


def place_of(kind: str, stem: str) -> tuple[str, int] | None:
    """Where a layer of diffusers is: our layer, and which piece of it, -1 for one whose halves change places."""
    if (outside := LAYERS[kind].get(stem)) is not None:
        return outside[0], -1 if outside[-1] == SHIFT_FIRST else 0
    if found := _BLOCK.fullmatch(stem):
        for theirs, ours, layers in BLOCKS[kind]:
            if found[1] == theirs and found[3] in layers:
                layer, number = layers[found[3]]
                return f"{ours}.{found[2]}.{layer}", number
    return None
