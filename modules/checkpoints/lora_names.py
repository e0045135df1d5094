"""The names under which adapter files keep their changes, brought to the layers of our networks.

A tensor's name is a stem, which names a layer in one of several spellings, and an ending, which says what it is of that layer's
change.  Spellings: kohya's (`lora_unet_down_blocks_0_...`, `lora_te1_text_model_...`), diffusers' old and new ones and peft's
(`unet.down_blocks.0....lora_A.weight`), ldm's (`diffusion_model.input_blocks.1....`), LyCORIS' (`lycoris_...`).  No torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from modules.checkpoints.transformer_names import BLOCKS, LAYERS
from modules.hooks import HOOKS, Listing

ENDINGS: Mapping[str, str] = {
    **{f".lora_{side}.weight": side for side in ("down", "up", "mid")},
    **{f".lora.{side}.weight": side for side in ("down", "up")},
    **{f"_lora.{side}.weight": side for side in ("down", "up")},
    **{f".lora_linear_layer.{side}.weight": side for side in ("down", "up")},
    **{f".lora_{letter}{name}.weight": side for letter, side in (("A", "down"), ("B", "up")) for name in ("", ".default")},
    **{f".{name}": name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")},
    **{f".lokr_{name}": f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    **{f".{name}.weight": name for name in ("a1", "a2", "b1", "b2")},
    **{f".{name}": name for name in ("alpha", "dora_scale", "diff", "diff_b", "oft_blocks", "oft_diag", "rescale", "scalar")},
    **{f".{name}": name for name in ("w_norm", "b_norm", "set_weight", "on_input")},
    ".lora_magnitude_vector": "dora_scale",
    ".lora_magnitude_vector.weight": "dora_scale",
    ".lora_magnitude_vector.default.weight": "dora_scale",
    ".weight": "weight",
}
"""What a name may end in, and what that tensor is of the layer's change."""


@dataclass(frozen=True)
class AdapterKind:
    """How files say what they change of a layer, one of several ways.

    `needs` are what tensors of a layer it is known by, as `ENDINGS` and its own `endings` call them; of several kinds that are
    known so the first counts.  `read(tensors, weight)` makes the change, a `diffusion.adapters.Delta`, of a layer's tensors by
    what they are, and of its weight; what does not go together is a ValueError.  On a host thread, with torch.
    Without `by_values` it looks at the weight's shape alone and gets one on the meta device, which has no numbers.
    """

    name: str
    needs: frozenset[str]
    read: Callable[[Mapping[str, Any], Any], Any]
    endings: Mapping[str, str] = field(default_factory=dict)
    by_values: bool = True


HOOK = "adapters"
ADAPTERS: Listing[AdapterKind] = Listing(HOOKS, HOOK, "kind of adapter", lambda kind: (kind.name,))
"""Every kind in the order in which it is tried, extensions' last; the built-in ones come with `checkpoints.loras`."""


@lru_cache(maxsize=4)
def _endings(revision: int) -> Mapping[str, str]:
    """All endings, the longest first: those of kinds that are there are known by the registry's `revision`."""
    own = {ending: what for kind in ADAPTERS for ending, what in kind.endings.items()}
    every = {**own, **ENDINGS}
    return {ending: every[ending] for ending in sorted(every, key=len, reverse=True)}


_PREFIXES = (
    ("unet", re.compile(r"(?:lora|oft)_transformer_|lycoris_transformer_(?=(?:single_)?transformer_blocks_)|transformer\.")),
    ("text_3", re.compile(r"(?:lora|oft|lycoris)_te3_|text_encoder_3\.|text_encoders\.t5xxl\.(?:transformer\.)?")),
    ("unet", re.compile(r"(?:lora|oft|lycoris)_unet_|(?:model\.)?diffusion_model\.|unet\.")),
    ("text_2", re.compile(r"(?:lora|oft|lycoris)_te2_|text_encoder_2\.|text_encoders\.clip_g\.(?:transformer\.)?")),
    ("text", re.compile(r"(?:lora|oft|lycoris)_te1?_|text_encoder\.|text_encoders\.clip_l\.(?:transformer\.)?")),
    ("text", re.compile(r"lycoris_(?=text_model_)")),
    ("unet", re.compile(r"lycoris_")),
)


_XLABS = re.compile(r"(double_blocks\.\d+)\.processor\.(qkv|proj)_lora([12])\.(down|up)\.weight")
"""XLabs' names of Flux's attentions: 1 is the image's, 2 the text's."""


def split(name: str) -> tuple[str, str, str]:
    """(part, stem, what) of a tensor: `part` is one of `keys.PARTS`, "unet" for every denoiser, `stem` has underscores only.

    All are "" for a name that no adapter has.

    >>> split("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight")
    ('text', 'encoder_layers_0_mlp_fc1', 'down')
    >>> split("unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight")[1]
    'mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0'
    """
    if xlabs := _XLABS.fullmatch(name.removeprefix("diffusion_model.")):
        side = "img" if xlabs[3] == "1" else "txt"
        return "unet", f"{xlabs[1].replace('.', '_')}_{side}_attn_{xlabs[2]}", xlabs[4]
    endings = _endings(HOOKS.revision)
    ending = next((one for one in endings if name.endswith(one)), None)
    if ending is None:
        return "", "", ""
    stem, part = name.removesuffix(ending).removeprefix("base_model.model."), "unet"
    for kind, prefix in _PREFIXES:
        if found := prefix.match(stem):
            part, stem = kind, stem[found.end() :]
            break
    if ending.startswith("_lora."):  # diffusers of 2023: the processor of an attention held its changes
        stem = re.sub(r"to_out$", "to_out.0", stem.replace(".processor.", "."))
    stem = stem.replace(".", "_")
    if part != "unet":
        stem = stem.removeprefix("text_model_")
    return part, stem, endings[ending]


def text_aliases(places: Iterable[str]) -> dict[str, str]:
    """The layers of a text encoder (`encoder.layers.0.mlp.fc1`) by stem."""
    return {place.replace(".", "_"): place for place in places}


def transformer_aliases(
    rows: Mapping[str, int], kind: str, width: int
) -> tuple[dict[str, str], dict[str, tuple[str, int, int]]]:
    """The layers of a transformer by stem, in the spelling of single files and in diffusers'; and by stem the parts of layers
    that diffusers has by themselves, each with its first row and its number of rows.

    Args:
        rows: outputs of each layer, by its name in single files.
        kind: "sd3" or "flux".
        width: of the transformer: queries, keys and values have so many rows each.
    """
    stems = {place.replace(".", "_"): place for place in rows}
    pieces: dict[str, tuple[str, int, int]] = {}
    for theirs, layer in LAYERS[kind].items():
        if layer[0] in rows and len(layer) == 1:
            stems[theirs.replace(".", "_")] = layer[0]
    for theirs, ours, layers in BLOCKS[kind]:
        for name, (layer_name, number) in layers.items():
            for block in range(MAX_BLOCKS):
                place = f"{ours}.{block}.{layer_name}"
                if place not in rows:
                    continue
                stem = f"{theirs}.{block}.{name}".replace(".", "_")
                if layer_name.endswith(("qkv", "linear1")):
                    first = number * width
                    pieces[stem] = (place, first, rows[place] - first if number == 3 else width)
                elif rows[place] != 2 * width or not name.startswith("norm1_context"):  # whose halves change places
                    stems[stem] = place
    return stems, pieces


MAX_BLOCKS = 100
"""Of a transformer."""


def unet_aliases(places: Iterable[str], levels: int, res_blocks: int) -> dict[str, str]:
    """The layers of a U-Net with ldm's names, by stem in ldm's and in diffusers' spelling.

    Args:
        places: names of layers, `input_blocks.1.1.transformer_blocks.0.attn1.to_q`.
        levels: resolutions of the network.
        res_blocks: residual blocks of each on the way down.
    """
    aliases: dict[str, str] = {}
    for place in places:
        aliases[diffusers_name(place, levels, res_blocks).replace(".", "_")] = place
        aliases[place.replace(".", "_")] = place
    return aliases


_OUTSIDE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_IN_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_BLOCK = re.compile(r"(input|output|middle)_blocks?\.(\d+)(?:\.(\d+))?\.(.+)")


def diffusers_name(place: str, levels: int, res_blocks: int) -> str:
    """What diffusers calls a layer of a U-Net that ldm calls `place`.

    >>> diffusers_name("input_blocks.3.0.op", 4, 2)
    'down_blocks.0.downsamplers.0.conv'
    >>> diffusers_name("output_blocks.5.2.conv", 4, 2), diffusers_name("output_blocks.5.1.proj_in", 4, 2)
    ('up_blocks.1.upsamplers.0.conv', 'up_blocks.1.attentions.2.proj_in')
    """
    if place in _OUTSIDE:
        return _OUTSIDE[place]
    found = _BLOCK.fullmatch(place)
    if not found:
        return place
    side, number, child, layer = found[1], int(found[2]), found[3], found[4]
    if side == "middle":
        layer = layer if child is None else f"{child}.{layer}"  # its children are numbered once
        return (
            f"mid_block.attentions.0.{layer}"
            if number == 1
            else f"mid_block.resnets.{number // 2}.{_IN_RESNET.get(layer, layer)}"
        )
    if side == "input":
        level, index = divmod(number - 1, res_blocks + 1)
        block = f"down_blocks.{level}"
    else:
        level, index = divmod(number, res_blocks + 1)
        block = f"up_blocks.{level}"
    if layer == "op":
        return f"{block}.downsamplers.0.conv"
    if layer == "conv":
        return f"{block}.upsamplers.0.conv"
    if child == "0":
        return f"{block}.resnets.{index}.{_IN_RESNET.get(layer, layer)}"
    return f"{block}.attentions.{index}.{layer}"
