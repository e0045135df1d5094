"""The names under which a file keeps its tensors, brought to ours.

CompVis' single-file layout and the variants of it that are in the wild end here: behind this file a U-Net and an autoencoder
have ldm's names, text encoders have transformers' names from `embeddings.` on.  Where a file keeps several of our tensors in
one (OpenCLIP's fused attention), a name comes with the slice to take.  No torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer."
TEXT_2 = "conditioner.embedders.1.model."

TEXT_3 = "text_encoders.t5xxl.transformer."

PARTS = {"unet": UNET, "vae": VAE, "text": TEXT, "text_2": TEXT_2, "text_3": TEXT_3}

_WRAPPERS = re.compile(r"(?:(?:model_)?state_dict\.|module\.)+")
"""What pickles of a trainer's whole state and of parallel training leave in front of every name when they are converted."""
_PREFIXES = (
    (re.compile(r"(?:model\.)?model\.diffusion_model\.|(?:diffusion_model\.)+"), UNET),
    (re.compile(r"(?:(?:cond_stage_model\.|text_encoders\.)clip_l|conditioner\.embedders\.0)\.transformer\."), TEXT),
    (re.compile(r"(?:cond_stage_model|conditioner\.embedders\.0)\.model\."), TEXT),
    (re.compile(r"text_encoders\.clip_g\.transformer\.(?:text_model\.)?"), TEXT_2),
    (
        re.compile(
            r"(?=(?:double_blocks|single_blocks|joint_blocks|img_in|txt_in|time_in|vector_in|guidance_in|final_layer)\.)"
        ),
        UNET,
    ),
    (re.compile(r"(?=(?:(?:x|y|t|context)_embedder\.|pos_embed$))"), UNET),
    (re.compile(r"vae\.(?=(?:encoder|decoder|quant_conv|post_quant_conv)\.)"), VAE),
)
"""Other prefixes of the parts: other programs', those of the first text encoders of SDXL, its refiner and SD 2.x, and the
transformers of SD 3 and Flux, which files of them alone have without any."""


def canonical(name: str) -> str:
    """A tensor's name with CompVis' prefix, whatever was put in front of it.

    >>> canonical("state_dict.diffusion_model.out.2.bias")
    'model.diffusion_model.out.2.bias'
    """
    if wrapped := _WRAPPERS.match(name):
        name = name[wrapped.end() :]
    for pattern, prefix in _PREFIXES:
        if found := pattern.match(name):
            return prefix + name[found.end() :]
    return name


SCALING_FACTOR = "diffusers.scaling_factor"
"""The metadata in which a folder's header has what its VAE's configuration says."""

OPEN_CLIP_END = TEXT + "ln_final.weight"
"""A tensor that a first text encoder has under OpenCLIP's names and not under transformers'."""

_OPEN_CLIP = (
    (re.compile(r"^token_embedding\."), "embeddings.token_embedding."),
    (re.compile(r"^positional_embedding$"), "embeddings.position_embedding.weight"),
    (re.compile(r"^ln_final\."), "final_layer_norm."),
    (re.compile(r"^transformer\.resblocks\."), "encoder.layers."),
    (re.compile(r"\.ln_([12])\."), r".layer_norm\1."),
    (re.compile(r"\.mlp\.c_fc\."), ".mlp.fc1."),
    (re.compile(r"\.mlp\.c_proj\."), ".mlp.fc2."),
    (re.compile(r"\.attn\.out_proj\."), ".self_attn.out_proj."),
    (re.compile(r"\.attn\.in_proj_"), ".self_attn.in_proj_"),
)
"""From OpenCLIP's names of a text encoder to transformers'; names that are transformers' already have none of these parts."""

RENAMES: dict[str, tuple[tuple[re.Pattern[str], str], ...]] = {
    "unet": (),
    "vae": (  # autoencoders that went through diffusers and came back half converted
        (re.compile(r"\.attn_1\.(?:to_)?(q|k|v)(?:uery|ey|alue)?\."), r".attn_1.\1."),
        (re.compile(r"\.attn_1\.(?:to_out\.0|proj_attn)\."), r".attn_1.proj_out."),
        (re.compile(r"\.attn_1\.group_norm\."), r".attn_1.norm."),
    ),
    # transformers before 4.x of 2022, and merges made with it, lack "text_model."
    "text": ((re.compile(r"^text_model\."), ""), *_OPEN_CLIP),
    "text_2": _OPEN_CLIP,
    "text_3": ((re.compile(r"^encoder\.embed_tokens\."), "shared."),),
}

_FUSED = re.compile(r"(.*\.self_attn)\.in_proj_(weight|bias)")
"""OpenCLIP's queries, keys and values in one matrix, in this order."""

IGNORED = re.compile(
    r"model_ema[._]|first_stage_model\.(?:model_ema|loss)\.|ddim_|"  # averaged copies and losses of training
    r"cond_stage_model\.(?:encoder|decoder|quantize|quant_conv|post_quant_conv|loss)\.|"  # the first stage, a second time
    r"cond_stage_model\.(?:transformer\.(?:vision_model|visual|logit_scale|attn_mask)|logit_scale|text_projection)|"
    r"conditioner\.embedders\.(?:0\.(?:logit_scale|text_projection)|1\.model\.(?:logit_scale|attn_mask|visual\.))|"
    r"text_encoders\.[a-z0-9_]{1,20}\.(?:transformer\.)?logit_scale$|"
    r"denoiser\.|edm_(?:mean|std|vpred)|"
    r"embedding_manager\.|optimizer|callbacks|state_dict$|"  # textual-inversion training
    r"(?:model\.)?(?:alphas?|betas|sqrt|log_one|posterior|lvlb)[a-z_]*|logvar|"  # constants
    r"scale_factor|global_step|v_pred|ztsnr|low_scale_model\."
    r"|cond_stage_model\.transformer\.(?:text_model\.)?embeddings\.position_ids"  # 0..76, as integers or (merged) as floats
)
"""Names that real files carry and that no network of ours needs."""


_SCALES = re.compile(r"(?:^|\.)(?:scaled_fp8|scale_weight|scale_input)$")
"""What goes with weights that are stored in 8 bits and multiplied by a number (ComfyUI's `ops.py`): no tensors of a network."""


def scale_of(name: str) -> str:
    """The name of the number by which a stored weight is multiplied, where there is one.

    >>> scale_of("model.diffusion_model.out.2.weight")
    'model.diffusion_model.out.2.scale_weight'
    """
    return name.removesuffix("weight") + "scale_weight" if name.endswith(".weight") else ""


def is_scaled(names: Iterable[str]) -> bool:
    """Whether weights of a file with these tensors have scales."""
    return any(_SCALES.search(name) for name in names)


class Slice(NamedTuple):
    """A tensor of ours inside one of a file: the rows of `number` among `parts` equal ones, or the whole matrix transposed."""

    name: str
    number: int = 0
    parts: int = 1
    transposed: bool = False


Place = str | Slice
"""Where a tensor of ours is in a file: under a name, or in a slice of what is there."""


def stored_name(place: Place) -> str:
    return place if isinstance(place, str) else place.name


def shape_at(place: Place, stored: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of our tensor at `place`, where the file's has the shape `stored`."""
    if isinstance(place, str) or not stored:
        return stored
    shape = (stored[0] // place.parts, *stored[1:])
    return shape[::-1] if place.transposed else shape


@dataclass
class Layout:
    """Where the tensors of each part are: our name -> the place in the file.  `unexpected` fits nowhere."""

    unet: dict[str, Place] = field(default_factory=dict)
    vae: dict[str, Place] = field(default_factory=dict)
    text: dict[str, Place] = field(default_factory=dict)
    text_2: dict[str, Place] = field(default_factory=dict)
    text_3: dict[str, Place] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)

    def part(self, name: str) -> dict[str, Place]:
        found: dict[str, Place] = getattr(self, name)
        return found


def layout(names: Iterable[str]) -> Layout:
    """Sort a file's tensor names by part.

    >>> layout(["model.diffusion_model.out.2.bias", "model_ema.decay", "huh"]).unexpected
    ['huh']
    """
    found = Layout()
    # A merge may carry the text encoder under both of its spellings; the full one, last in this order, wins.  So does a name
    # as it is over one that something was put in front of
    for own, name in sorted(((canonical(name), name) for name in names), key=lambda pair: (pair[0], pair[0] == pair[1])):
        if IGNORED.match(own) or _SCALES.search(own):
            continue
        for part, prefix in PARTS.items():
            if own.startswith(prefix):
                found.part(part).update(_placed(part, own.removeprefix(prefix), name))
                break
        else:
            found.unexpected.append(name)
    return found


_DIFFUSERS_VAE = (
    (re.compile(r"^encoder\.down_blocks\.(\d+)\.resnets\."), r"encoder.down.\1.block."),
    (re.compile(r"^encoder\.down_blocks\.(\d+)\.downsamplers\.0\."), r"encoder.down.\1.downsample."),
    (re.compile(r"^decoder\.up_blocks\.(\d+)\.resnets\."), r"decoder.up.\1.block."),
    (re.compile(r"^decoder\.up_blocks\.(\d+)\.upsamplers\.0\."), r"decoder.up.\1.upsample."),
    (re.compile(r"\.mid_block\.resnets\.0\."), ".mid.block_1."),
    (re.compile(r"\.mid_block\.resnets\.1\."), ".mid.block_2."),
    (re.compile(r"\.mid_block\.attentions\.0\."), ".mid.attn_1."),
    (re.compile(r"\.conv_norm_out\."), ".norm_out."),
    (re.compile(r"\.conv_shortcut\."), ".nin_shortcut."),
)
"""From diffusers' names of an autoencoder to ldm's, but for the numbers of `decoder.up`, which run the other way there."""

_UP = re.compile(r"^decoder\.up\.(\d+)\.")


def vae_layout(names: Iterable[str]) -> dict[str, Place]:
    """Where the tensors of an autoencoder are in a file of its own: ldm's names, bare or as in checkpoints, or diffusers'.

    >>> vae_layout(["decoder.up_blocks.0.resnets.1.conv1.bias", "decoder.up_blocks.3.resnets.0.conv1.bias"])
    {'decoder.up.3.block.1.conv1.bias': 'decoder.up_blocks.0.resnets.1.conv1.bias', \
'decoder.up.0.block.0.conv1.bias': 'decoder.up_blocks.3.resnets.0.conv1.bias'}
    """
    names = list(names)
    if whole := layout(names).vae:
        return whole
    bare = {name: _WRAPPERS.sub("", name) for name in names}
    bare = {
        name: own
        for name, own in bare.items()
        if own.startswith(("encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv."))
    }
    if not any("_blocks." in own for own in bare.values()):
        return {ours: place for name, own in bare.items() for ours, place in _placed("vae", own, name).items()}
    placed: dict[str, Place] = {}
    for name, own in bare.items():
        for pattern, replacement in _DIFFUSERS_VAE:
            own = pattern.sub(replacement, own)
        placed |= _placed("vae", own, name)
    last = max((int(found[1]) for own in placed if (found := _UP.match(own))), default=0)
    return {_UP.sub(lambda found: f"decoder.up.{last - int(found[1])}.", own): place for own, place in placed.items()}


_DIFFUSERS_UNET = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "class_embedding.linear_1": "label_emb.0.0",
    "class_embedding.linear_2": "label_emb.0.2",
    "class_embedding": "label_emb",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_DIFFUSERS_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_DIFFUSERS_BLOCK = re.compile(
    r"(?:(down|up)_blocks\.(\d{1,3})|(mid)_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d{1,3})\.(.+)"
)


def unet_layout(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Where the tensors of a U-Net are in a file of diffusers' (our name -> its name), and names that are none of them.

    >>> unet_layout(["mid_block.resnets.0.conv2.bias", "time_embedding.cond_proj.weight"])
    ({'middle_block.0.out_layers.3.bias': 'mid_block.resnets.0.conv2.bias'}, ['time_embedding.cond_proj.weight'])
    """
    names = list(names)
    found = {name: match for name in names if (match := _DIFFUSERS_BLOCK.fullmatch(name))}
    slots = 2 + max((int(each[5]) for each in found.values() if each[1] == "down" and each[4] == "resnets"), default=0)
    attended = {(each[1] or each[3], int(each[2] or 0), int(each[5])) for each in found.values() if each[4] == "attentions"}
    placed, unknown = {}, []
    for name in names:
        stem, _, kind = name.rpartition(".")
        ours = f"{_DIFFUSERS_UNET[stem]}.{kind}" if stem in _DIFFUSERS_UNET else ""
        ours = _block_tensor(found[name], slots, attended) if name in found else ours
        if ours:
            placed[ours] = name
        else:
            unknown.append(name)
    return placed, unknown


def _block_tensor(found: re.Match[str], slots: int, attended: set[tuple[str, int, int]]) -> str:
    """Our name of a tensor in a block of diffusers'; "" where there is none.  A level has `slots` blocks of ours."""
    side, block, what, number, rest = found[1] or found[3], int(found[2] or 0), found[4], int(found[5]), found[6]
    if side == "mid":
        own, resnet = "middle_block", 0 if not number else 2 if ("mid", 0, 0) in attended else 1
    else:
        index = slots * block + number
        own, resnet = f"input_blocks.{index + 1}" if side == "down" else f"output_blocks.{index}", 0
    if what == "attentions":
        return f"{own}.1.{rest}"
    if what == "resnets":
        layer, _, kind = rest.rpartition(".")
        return f"{own}.{resnet}.{_DIFFUSERS_RESNET[layer]}.{kind}" if layer in _DIFFUSERS_RESNET else ""
    last = slots * block + slots - 1
    if what == "downsamplers" and side == "down" and rest.startswith("conv."):
        return f"input_blocks.{last + 1}.0.op.{rest.removeprefix('conv.')}"
    if what == "upsamplers" and side == "up":
        return f"output_blocks.{last}.{2 if ('up', block, slots - 1) in attended else 1}.{rest}"
    return ""


def _placed(part: str, own: str, name: str) -> dict[str, Place]:
    """The tensors of ours that a file's tensor holds; `own` is its name without the part's prefix."""
    for pattern, replacement in RENAMES[part]:
        own = pattern.sub(replacement, own)
    if part not in ("text", "text_2"):
        return {own: name}
    if own == "text_projection":
        return {"text_projection.weight": Slice(name, transposed=True)}
    if fused := _FUSED.fullmatch(own):
        layer, kind = fused.groups()
        return {f"{layer}.{each}_proj.{kind}": Slice(name, number, 3) for number, each in enumerate("qkv")}
    return {own: name}
