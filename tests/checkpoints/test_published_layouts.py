"""The published models at full size, without their numbers: detection and the strict check of each, as folder and single file.

Names and shapes come from diffusers and transformers, built on the meta device by the published configurations.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from modules.checkpoints import keys, sizes
from modules.checkpoints.completeness import part_shapes
from modules.checkpoints.diffusers_folder import Entries, joint, metadata_of
from modules.checkpoints.families import UNetFamily, recognise
from modules.checkpoints.header import Header, TensorEntry
from modules.errors import CheckpointError
from tests.sdxl import open_clip_names

ATTENDED = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
CLIP_L = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "quick_gelu",
}
CLIP_H = {
    "hidden_size": 1024,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "hidden_act": "gelu",
}
BIG_G = {
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "intermediate_size": 5120,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
SD = {
    "down_block_types": (ATTENDED[0],) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + (ATTENDED[1],) * 3,
    "block_out_channels": (320, 640, 1280, 1280),
}
XL = {
    "down_block_types": ("DownBlock2D", ATTENDED[0], ATTENDED[0]),
    "up_block_types": (ATTENDED[1], ATTENDED[1], "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
LINEAR = {"use_linear_projection": True, "attention_head_dim": (5, 10, 20, 20), "cross_attention_dim": 1024}
NO_MIDDLE = {"mid_block_type": "UNetMidBlock2D"}


@dataclass(frozen=True)
class Published:
    """`unet`, `first` and `second` are configurations; `numbers` are parameters of the U-Net, `millions` those where only these
    are published; 0 for neither."""

    family: str
    unet: Mapping[str, Any]
    first: Mapping[str, Any] | None = field(default_factory=lambda: CLIP_L)
    second: Mapping[str, Any] | None = None
    numbers: int = 0
    millions: int = 0
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    vae: tuple[int, ...] = (128, 256, 512, 512)


REFINER = {
    **XL,
    "down_block_types": ("DownBlock2D", ATTENDED[0], ATTENDED[0], "DownBlock2D"),
    "up_block_types": ("UpBlock2D", ATTENDED[1], ATTENDED[1], "UpBlock2D"),
    "block_out_channels": (384, 768, 1536, 1536),
    "attention_head_dim": (6, 12, 24, 24),
    "cross_attention_dim": 1280,
    "transformer_layers_per_block": 4,
    "projection_class_embeddings_input_dim": 2560,
}
SSD_1B = {**XL, **NO_MIDDLE, "transformer_layers_per_block": (1, 2, 4)}
SSD_1B["reverse_transformer_layers_per_block"] = ((4, 4, 10), (2, 1, 1), 1)
VEGA = {**XL, **NO_MIDDLE, "transformer_layers_per_block": (1, 1, 2)}
VEGA["reverse_transformer_layers_per_block"] = ((2, 2, 2), (1, 1, 1), 1)
KOALA_700M = {**XL, "layers_per_block": 1, "transformer_layers_per_block": (1, 2, 5), "mid_block_type": None}
KOALA_1B = {**XL, "layers_per_block": 1, "transformer_layers_per_block": (1, 2, 6)}

X4 = {
    "down_block_types": ("DownBlock2D",) + (ATTENDED[0],) * 3,
    "up_block_types": (ATTENDED[1],) * 3 + ("UpBlock2D",),
    "block_out_channels": (256, 512, 512, 1024),
    "in_channels": 7,
    "cross_attention_dim": 1024,
    "attention_head_dim": 8,
    "num_class_embeds": 1000,
    "only_cross_attention": (True, True, True, False),
    "use_linear_projection": True,
}
V = {"prediction_type": "v_prediction"}

PUBLISHED = {
    "SD 1.5": Published("sd1", {**SD, "cross_attention_dim": 768}, numbers=859_520_964),
    "SD 1.5 inpaint": Published("sd1-inpaint", {**SD, "cross_attention_dim": 768, "in_channels": 9}, numbers=859_535_364),
    "SD 2.1 v": Published("sd2", {**SD, **LINEAR}, CLIP_H, numbers=865_910_724, scheduler=V),
    "SDXL base": Published("sdxl", XL, CLIP_L, BIG_G, 2_567_463_684),
    "SD 1.5 edit": Published("sd1-edit", {**SD, "cross_attention_dim": 768, "in_channels": 8}),
    "SDXL edit": Published("sdxl-edit", {**XL, "in_channels": 8}, CLIP_L, BIG_G),
    "SDXL inpaint": Published("sdxl-inpaint", {**XL, "in_channels": 9}, CLIP_L, BIG_G),
    "SDXL refiner": Published("sdxl-refiner", REFINER, None, BIG_G),
    "SSD-1B": Published("sdxl", SSD_1B, CLIP_L, BIG_G),
    "Segmind Vega": Published("sdxl", VEGA, CLIP_L, BIG_G, millions=745),
    "KOALA-700M": Published("sdxl", KOALA_700M, CLIP_L, BIG_G, millions=782),
    "KOALA-1B": Published("sdxl", KOALA_1B, CLIP_L, BIG_G, millions=1161),
    "x4 upscaler": Published("x4-upscaler", X4, CLIP_H, numbers=473_398_020, scheduler=V, vae=(128, 256, 512)),
}
VAE_NUMBERS = {4: 83_653_863, 3: 55_325_927}
"""Parameters of an autoencoder by its levels."""


def unet_state(model: Published) -> dict[str, Tensor]:
    with torch.device("meta"):
        return UNet2DConditionModel(**model.unet).state_dict()


@lru_cache(maxsize=2)
def vae_state(widths: tuple[int, ...]) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            block_out_channels=widths,
            layers_per_block=2,
            latent_channels=4,
        )
    return network.state_dict()


def text_state(config: Mapping[str, Any], **changes: Any) -> dict[str, Tensor]:
    kind = CLIPTextModelWithProjection if "projection_dim" in config else CLIPTextModel
    with torch.device("meta"):
        return kind(CLIPTextConfig(**{**config, **changes})).state_dict()


def entries(state: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> Entries:
    return Entries({name: TensorEntry("F16", tuple(tensor.shape), 0, 0) for name, tensor in state.items()}, config or {})


def folder(model: Published, unet: Mapping[str, Tensor]) -> Header:
    networks = {"unet": entries(unet), "vae": entries(vae_state(model.vae))}
    if model.first:
        networks["text_encoder"] = entries(text_state(model.first), model.first)
    if model.second:
        networks["text_encoder_2"] = entries(text_state(model.second), model.second)
    return Header(metadata_of(networks, model.scheduler), joint(networks, model.scheduler), 0)


def single(model: Published, of: Header) -> Header:
    """The single file: OpenCLIP's encoders under its names, with the layer that transformers leaves out."""
    parts = {name: entry for name, entry in of.tensors.items() if name.startswith((keys.UNET, keys.VAE))}
    xl = "conditioner.embedders."
    if model.first is CLIP_L:
        prefix = f"{xl}0.transformer.text_model." if model.second else keys.TEXT + "text_model."
        parts |= {
            prefix + name.removeprefix("text_model."): entry for name, entry in entries(text_state(CLIP_L)).tensors.items()
        }
    elif model.first:
        parts |= open_clip("cond_stage_model.model.", text_state(model.first, num_hidden_layers=24))
    if model.second:
        parts |= open_clip(f"{xl}{1 if model.first else 0}.model.", text_state(model.second))
    return Header({}, parts, 0)


def open_clip(prefix: str, state: Mapping[str, Tensor]) -> dict[str, TensorEntry]:
    bare = {name.removeprefix("text_model."): tensor for name, tensor in state.items() if "position_ids" not in name}
    return {prefix + name: entry for name, entry in entries(open_clip_names(bare)).tensors.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_are_known_and_whole(name: str) -> None:
    """As folder and single file; every tensor of diffusers' U-Net and autoencoder has a place, and no other is wanted."""
    model = PUBLISHED[name]
    unet = unet_state(model)
    if model.numbers:
        assert sum(prod(tensor.shape) for tensor in unet.values()) == model.numbers
    if model.millions:
        assert sum(prod(tensor.shape) for tensor in unet.values()) // 10**6 == model.millions
    for header in (whole := folder(model, unet), single(model, whole)):
        family = recognise(header.shapes)
        assert isinstance(family, UNetFamily)
        assert family.name == model.family
        family.check(header)
        layout = keys.layout(header.tensors)
        assert layout.unexpected == []
        shapes = part_shapes(header, layout.unet)
        assert shapes.keys() == dict(sizes.unet_tensors(sizes.unet_sizes(shapes))).keys()
        assert sum(map(prod, shapes.values())) == sum(prod(tensor.shape) for tensor in unet.values())
        assert sum(map(prod, part_shapes(header, layout.vae).values())) == VAE_NUMBERS[len(model.vae)]
    missing = {tensor: entry for tensor, entry in whole.tensors.items() if not tensor.endswith("out.2.bias")}
    with pytest.raises(CheckpointError, match="lacks the tensor"):
        recognise(whole.shapes).check(Header({}, missing, 0))


SKELETON = Path(__file__).parents[1] / "cases" / "skeletons" / "x4-upscaler.txt.gz"
"""Names, formats and shapes of x4-upscaler-ema.safetensors, a tensor a line: those that ldm's classes have by
configs/stable-diffusion/x4-upscaling.yaml of Stability-AI/stablediffusion, with the buffers of its noise schedules."""


def test_the_header_of_the_published_upscaler_is_known_and_whole() -> None:
    lines = gzip.decompress(SKELETON.read_bytes()).decode().splitlines()
    tensors = {}
    for name, dtype, size in map(str.split, lines):
        tensors[name] = TensorEntry(dtype, tuple(map(int, size.split("x"))) if size != "()" else (), 0, 0)
    header = Header({}, tensors, 0)
    assert recognise(header.shapes).name == "x4-upscaler"
    recognise(header.shapes).check(header)
    layout = keys.layout(tensors)
    assert layout.unexpected == []
    assert header.shapes["model.diffusion_model.input_blocks.0.0.weight"] == (256, 7, 3, 3)
    assert header.shapes["model.diffusion_model.label_emb.weight"] == (1000, 1024)
    model = PUBLISHED["x4 upscaler"]
    theirs = folder(model, unet_state(model)).shapes  # by diffusers' classes
    for prefix, part in ((keys.UNET, layout.unet), (keys.VAE, layout.vae)):
        mine = part_shapes(header, part)
        assert mine.keys() == {name.removeprefix(prefix) for name in theirs if name.startswith(prefix)}
        assert all(sizes.same_numbers(shape, theirs[prefix + name]) for name, shape in mine.items())
    assert sizes.unet_sizes(part_shapes(header, layout.unet)).cross_only == (False, True, True, False)


@pytest.mark.parametrize(
    ("scheduler", "family"),
    [
        ({"_class_name": "EDMDPMSolverMultistepScheduler", "prediction_type": "epsilon"}, "playground-2.5"),
        ({"_class_name": "EDMEulerScheduler", "prediction_type": "v_prediction"}, "cosxl"),
    ],
)
def test_continuous_noise_levels_are_told_by_the_scheduler(scheduler: dict[str, Any], family: str) -> None:
    model = Published(family, XL, CLIP_L, BIG_G, scheduler=scheduler)
    header = folder(model, unet_state(model))
    assert recognise(header.shapes).name == family
    recognise(header.shapes).check(header)
    assert keys.layout(header.tensors).unexpected == []
