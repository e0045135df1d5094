"""The names under which a file keeps its tensors, brought to ours.

CompVis' single-file layout and the variants of it that are in the wild end here: behind this file a U-Net and an autoencoder
have ldm's names, a text encoder has transformers' names from `embeddings.` on.  It knows names only, no shapes, no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer."

PARTS = {"unet": UNET, "vae": VAE, "text": TEXT}

_WRAPPERS = re.compile(r"(?:(?:model_)?state_dict\.|module\.)+")
"""What pickles of a trainer's whole state and of parallel training leave in front of every name when they are converted."""
_PREFIXES = (
    (re.compile(r"(?:model\.)?model\.diffusion_model\.|(?:diffusion_model\.)+"), UNET),
    (re.compile(r"(?:cond_stage_model\.|text_encoders\.)clip_l\.transformer\."), TEXT),
    (re.compile(r"vae\.(?=(?:encoder|decoder|quant_conv|post_quant_conv)\.)"), VAE),
)
"""Other programs' prefixes of the three parts."""


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


RENAMES: dict[str, tuple[tuple[re.Pattern[str], str], ...]] = {
    "unet": (),
    "vae": (  # autoencoders that went through diffusers and came back half converted
        (re.compile(r"\.attn_1\.(?:to_)?(q|k|v)(?:uery|ey|alue)?\."), r".attn_1.\1."),
        (re.compile(r"\.attn_1\.(?:to_out\.0|proj_attn)\."), r".attn_1.proj_out."),
        (re.compile(r"\.attn_1\.group_norm\."), r".attn_1.norm."),
    ),
    "text": (
        (re.compile(r"^text_model\."), ""),
    ),  # transformers before 4.x of 2022, and merges made with it, lack "text_model."
}

IGNORED = re.compile(
    r"model_ema[._]|first_stage_model\.(?:model_ema|loss)\.|ddim_|"  # averaged copies and losses of training
    r"cond_stage_model\.(?:transformer\.(?:vision_model|visual_projection|text_projection|logit_scale)|logit_scale|text_projection)|"
    r"embedding_manager\.|optimizer|callbacks|state_dict$|"  # textual-inversion training
    r"(?:model\.)?(?:alphas?|betas|sqrt|log_one|posterior|lvlb)[a-z_]*|logvar|"  # constants
    r"scale_factor|global_step|v_pred|ztsnr"
    r"|cond_stage_model\.transformer\.(?:text_model\.)?embeddings\.position_ids"  # 0..76, as integers or (merged) as floats
)
"""Names that real files carry and that no network of ours needs."""


@dataclass
class Layout:
    """Where the tensors of each part are: our name -> the file's name.  `unexpected` fits nowhere."""

    unet: dict[str, str] = field(default_factory=dict)
    vae: dict[str, str] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)


def layout(names: Iterable[str]) -> Layout:
    """Sort a file's tensor names by part.

    >>> layout(["model.diffusion_model.out.2.bias", "model_ema.decay", "huh"]).unexpected
    ['huh']
    """
    found = Layout()
    # A merge may carry the text encoder under both of its spellings; the full one, last in this order, wins.  So does a name
    # as it is over one that something was put in front of
    for own, name in sorted(((canonical(name), name) for name in names), key=lambda pair: (pair[0], pair[0] == pair[1])):
        if IGNORED.match(own):
            continue
        for part, prefix in PARTS.items():
            if own.startswith(prefix):
                getattr(found, part)[_renamed(part, own.removeprefix(prefix))] = name
                break
        else:
            found.unexpected.append(name)
    return found


def _renamed(part: str, name: str) -> str:
    for pattern, replacement in RENAMES[part]:
        name = pattern.sub(replacement, name)
    return name
