"""Which kind of model a file holds, told by the names and shapes of its tensors.

Two tables: the families that this version paints with, and the models that it knows by sight and refuses by name.  This file
builds no networks and needs no torch: the web process lists models with it (`shapes.py` derives the networks' sizes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modules.checkpoints import keys
from modules.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Defaults:
    """What a model is best run with.  `width` and `height` are its native size in pixels."""

    width: int = 512
    height: int = 512
    steps: int = 20
    cfg_scale: float = 7.0
    sampler: str = "DPM++ 2M"
    schedule: str = "Karras"


@dataclass(frozen=True)
class LatentFormat:
    """The latent space of a family: how its denoiser sees a picture.

    The denoiser works on (z - `shift`) * `scale` of the autoencoder's latent z, which has `channels` channels and one position
    per `factor` x `factor` pixels.
    """

    channels: int
    scale: float
    factor: int
    shift: float = 0.0

    def scaled(self, z: Tensor) -> Tensor:
        """The autoencoder's latent as the denoiser sees it."""
        return (z - self.shift) * self.scale if self.shift else z * self.scale

    def raw(self, latent: Tensor) -> Tensor:
        """The denoiser's latent as the autoencoder gives and takes it."""
        return latent / self.scale + self.shift if self.shift else latent / self.scale


SD1_LATENT = LatentFormat(channels=4, scale=0.18215, factor=8)
"""As in ldm's `v1-inference.yaml`."""


@dataclass(frozen=True)
class Family:
    """Models that are run in the same way.

    `heads` is the number of attention heads of the U-Net: shapes tell only width = heads x head size.  SD 1.x has 8 everywhere.
    `prediction` is what the network was trained to output (`modules.diffusion.prediction`), unless the file says otherwise.
    """

    name: str
    title: str
    in_channels: int
    latent: LatentFormat = SD1_LATENT
    prediction: Literal["eps", "v"] = "eps"
    heads: int = 8
    defaults: Defaults = Defaults()


EDITING = "sd1-edit"
"""The family that changes a given picture as the words say, and paints nothing without one."""

FAMILIES = (
    Family("sd1", "Stable Diffusion 1.x", in_channels=4),
    Family("sd1-inpaint", "Stable Diffusion 1.x inpainting", in_channels=9),
    Family(EDITING, "Stable Diffusion 1.x editing (InstructPix2Pix)", in_channels=8),
)
"""First match wins."""


@dataclass(frozen=True)
class Foreign:
    """A kind of file that is known by any of `marks` (parts of tensor names) and not painted with."""

    what: str
    marks: tuple[str, ...]
    advice: str


_OTHER_MODEL = "this version paints with SD 1.x; choose another file"

COMPANIONS = (
    Foreign(
        "a LoRA",
        (
            ".lora_down.weight\n",
            ".lora_up.weight\n",
            ".lora_A.",
            ".lora_B.",
            ".lora.down.",
            ".hada_w1_a\n",
            ".lokr_w1",
            ".oft_blocks\n",
            "\nlora_",
        ),
        "put it in the Lora folder of your models",
    ),
    Foreign(
        "a ControlNet",
        ("\ncontrol_model.", "\ninput_hint_block.", "\ncontrolnet_cond_embedding.", "\nzero_convs.", "\nlora_controlnet\n"),
        "put it in the ControlNet folder of your models",
    ),
    Foreign("an IP-Adapter", ("\nip_adapter.", "\nimage_proj."), "put it in the ControlNet folder of your models"),
    Foreign(
        "a textual-inversion embedding",
        ("\nemb_params\n", "\nstring_to_param", "\n<"),
        "put it in the embeddings folder of your models",
    ),
    Foreign("a motion module (AnimateDiff)", (".motion_modules.",), "it is not a checkpoint"),
    Foreign(
        "an upscaler",
        ("\nmodel.0.weight\n", "\nconv_first.weight\n", "\nbody.0.rdb1."),
        "put it in the ESRGAN folder of your models",
    ),
    Foreign("a small preview decoder (TAESD)", ("\ntaesd_decoder.", "\n1.conv.0.weight\n"), "it is not a checkpoint"),
)
"""Files that go with a checkpoint and are none."""

OTHER_MODELS = (
    Foreign("a Stable Video Diffusion checkpoint", (".time_stack.",), _OTHER_MODEL),
    Foreign("an SDXL refiner", ("\nconditioner.embedders.0.model.",), _OTHER_MODEL),
    Foreign("an SDXL checkpoint", ("\nconditioner.embedders.", "\nmodel.diffusion_model.label_emb."), _OTHER_MODEL),
    Foreign("an SD 2.x checkpoint", ("\ncond_stage_model.model.",), _OTHER_MODEL),
    Foreign("an SD 3 checkpoint", ("joint_blocks.0.",), _OTHER_MODEL),
    Foreign("a Chroma checkpoint", ("distilled_guidance_layer.",), _OTHER_MODEL),
    Foreign("a Flux checkpoint", ("double_blocks.0.img_attn.",), _OTHER_MODEL),
    Foreign("a Stable Cascade checkpoint", ("clip_txt_mapper.", "clip_mapper."), _OTHER_MODEL),
    Foreign("an AuraFlow checkpoint", ("double_layers.0.attn.w1q.",), _OTHER_MODEL),
    Foreign("a HunyuanDiT checkpoint", ("mlp_t5.0.",), _OTHER_MODEL),
    Foreign("a Hunyuan video checkpoint", ("txt_in.individual_token_refiner.",), _OTHER_MODEL),
    Foreign("a PixArt checkpoint", ("t_block.1.weight\n",), _OTHER_MODEL),
    Foreign("an LTX video checkpoint", ("adaln_single.emb.timestep_embedder.",), _OTHER_MODEL),
    Foreign("a Mochi checkpoint", ("t5_yproj.",), _OTHER_MODEL),
    Foreign("a Lumina 2 or Z-Image checkpoint", ("cap_embedder.1.",), _OTHER_MODEL),
    Foreign("a Qwen-Image checkpoint", ("txt_norm.weight\n", "transformer_blocks.0.img_mod."), _OTHER_MODEL),
    Foreign("a Wan checkpoint", ("head.modulation\n",), _OTHER_MODEL),
    Foreign("a HiDream checkpoint", ("caption_projection.0.linear.",), _OTHER_MODEL),
    Foreign("a Cosmos checkpoint", ("blocks.block0.blocks.0.", "blocks.0.mlp.layer1."), _OTHER_MODEL),
    Foreign("a checkpoint with scaled 8-bit weights", ("scaled_fp8\n", ".scale_weight\n"), "download its fp16 version"),
    Foreign(
        "one part of a model in diffusers' layout",
        ("\ndown_blocks.0.", "\nunet.down_blocks.0.", "\nencoder.down_blocks.0."),
        "download the single-file version, or convert the folder with diffusers",
    ),
)
"""Models that this version cannot run; markers as ComfyUI's and InvokeAI's detection use them."""


def recognise(shapes: Shapes) -> Family:
    """The family of a file with these tensors.

    Raises:
        CheckpointError: it is none that this version paints with.  The message is the rest of a sentence that begins with the
            file's name: "is an SDXL checkpoint; ...".
    """
    shapes = {keys.canonical(name): shape for name, shape in shapes.items()}
    text = "\n" + "\n".join(shapes) + "\n"
    stem = shapes.get(keys.UNET + "input_blocks.0.0.weight")
    if stem is None or len(stem) != 4:
        raise CheckpointError(_what_else(text))
    for foreign in OTHER_MODELS:
        if any(mark in text for mark in foreign.marks):
            raise CheckpointError(f"is {foreign.what}; {foreign.advice}")
    if not any(name.startswith(keys.VAE) for name in shapes):
        raise CheckpointError("has no autoencoder (VAE): it is a U-Net alone; use a full checkpoint")
    if not any(name.startswith(keys.TEXT) for name in shapes):
        raise CheckpointError("has no CLIP text encoder: it is only a part of a model; use a full checkpoint")
    for family in FAMILIES:
        if family.in_channels == stem[1]:
            return family
    known = ", ".join(f"{family.in_channels} ({family.name})" for family in FAMILIES)
    raise CheckpointError(f"has a U-Net with {stem[1]} input channels; this version knows {known}; choose another file")


def _what_else(text: str) -> str:
    """What a file without an ldm U-Net is; `text` holds its tensor names, one per line."""
    for foreign in (*COMPANIONS, *OTHER_MODELS):
        if any(mark in text for mark in foreign.marks):
            return f"is {foreign.what}; {foreign.advice}"
    if "decoder.conv_in.weight\n" in text or "encoder.conv_in.weight\n" in text:
        return "is a VAE alone; put it in the VAE folder of your models"
    if "\ninput_blocks.0.0.weight\n" in text:
        return "is a U-Net alone, without text encoder and VAE; use a full checkpoint"
    if "encoder.layers.0." in text or "encoder.block.0." in text or "resblocks.0." in text:
        return "is a text encoder alone; use a full checkpoint"
    first = text.strip().split("\n")[0][:60]
    return f"is not a model that this version knows (it holds tensors such as {first!r}); choose an SD 1.x checkpoint"
