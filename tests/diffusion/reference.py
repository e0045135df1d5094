"""The same networks by other hands: diffusers' U-Net and autoencoder, transformers' text encoder and tokenizer.

Weights come from an ldm state dict through diffusers' own single-file converters, so neither the mathematics nor the mapping of
names is ours.  Sizes of narrow networks are given by their configurations.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.initialization import no_init_weights

from modules.diffusion.clip import TextConfig
from modules.diffusion.unet import UNetConfig
from modules.diffusion.vae import VAEConfig
from modules.prompts import tokenizer as ours

State = Mapping[str, Tensor]
"""Tensors by their names in a single-file checkpoint."""


SDXL_UNET = {"addition_embed_type": "text_time", "addition_time_embed_dim": 256}


def unet(config: UNetConfig, state: State) -> UNet2DConditionModel:
    attention = [depth > 0 for depth in config.transformer_depth]
    heads: Any = tuple(config.heads_at(width) for width in config.channels) if config.head_width else config.heads
    with torch.device("meta"):
        network = UNet2DConditionModel(
            sample_size=64,
            in_channels=config.in_channels,
            out_channels=config.out_channels,
            block_out_channels=config.channels,
            layers_per_block=config.res_blocks,
            down_block_types=tuple("CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attention),
            up_block_types=tuple("CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attention)),
            cross_attention_dim=config.context_dim,
            attention_head_dim=heads,  # diffusers' name for the number of heads
            transformer_layers_per_block=tuple(depth or 1 for depth in config.transformer_depth),
            **(_distilled(config) if config.output_depth or config.middle_res_blocks < 2 else {}),
            use_linear_projection=bool(config.head_width or config.classes),
            **({"num_class_embeds": config.classes} if config.classes else {}),
            **({"only_cross_attention": config.cross_only} if config.cross_only else {}),
            **(SDXL_UNET if config.vector_width else {}),
            **({"projection_class_embeddings_input_dim": config.vector_width} if config.vector_width else {}),
        )
    return _filled(network, convert_ldm_unet_checkpoint(dict(state), network.config))


def _distilled(config: UNetConfig) -> dict[str, Any]:
    """Depths of each block on the way up, and what is left of the middle."""
    number = config.res_blocks + 1
    ups = [list(config.depths_up[start : start + number]) for start in range(0, len(config.depths_up), number)]
    middle = {1: "UNetMidBlock2D", 0: None}.get(config.middle_res_blocks, "UNetMidBlock2DCrossAttn")
    return {"reverse_transformer_layers_per_block": [[depth or 1 for depth in up] for up in ups], "mid_block_type": middle}


def vae(config: VAEConfig, state: State, scale: float = 0.18215) -> AutoencoderKL:
    levels = len(config.channels)
    with torch.device("meta"):
        network = AutoencoderKL(
            in_channels=config.image_channels,
            out_channels=config.image_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=config.channels,
            layers_per_block=config.res_blocks,
            latent_channels=config.latent_channels,
            norm_num_groups=32,
            scaling_factor=scale,
        )
    return _filled(network, convert_ldm_vae_checkpoint(dict(state), network.config))


def text(config: TextConfig, state: State) -> CLIPTextModel:
    network = _unfilled(
        CLIPTextModel,
        CLIPTextConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            hidden_act="quick_gelu",
        ),
    )
    converted = convert_ldm_clip_checkpoint(dict(state))
    converted = {name.removeprefix("text_model."): tensor for name, tensor in converted.items() if "position_ids" not in name}
    return _filled(network, converted)


def open_clip(config: TextConfig, state: State, prefix: str) -> CLIPTextModelWithProjection:
    """From OpenCLIP's names, with the projection of the pooled text."""
    network = _unfilled(
        CLIPTextModelWithProjection,
        CLIPTextConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            projection_dim=config.projection,
            hidden_act=config.activation,
            eos_token_id=ours.EOS,
        ),
    )
    converted = convert_open_clip_checkpoint(network, dict(state), prefix)
    names = set(network.state_dict())
    fitting = {name if name in names else name.removeprefix("text_model."): tensor for name, tensor in converted.items()}
    return _filled(network, fitting)


def penultimate_open_clip(config: TextConfig, state: State, prefix: str) -> CLIPTextModel:
    """As diffusers keeps SD 2.x's encoder: without its last layer, which is not read."""
    network = _unfilled(
        CLIPTextModel,
        CLIPTextConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.layers - 1,
            num_attention_heads=config.heads,
            hidden_act=config.activation,
            eos_token_id=ours.EOS,
        ),
    )
    read = {name: tensor for name, tensor in state.items() if f"resblocks.{config.layers - 1}." not in name}
    converted = convert_open_clip_checkpoint(network, read, prefix)
    names = set(network.state_dict())
    fitting = {name if name in names else name.removeprefix("text_model."): tensor for name, tensor in converted.items()}
    return _filled(network, {name: tensor for name, tensor in fitting.items() if name in names})


def tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """transformers' own CLIP tokenizer over the vocabulary that ships with us, read here by the file format's rules alone."""
    lines = gzip.decompress(ours._FILE.read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    letters = _letters()
    words = [*letters, *[c + "</w>" for c in letters], *["".join(pair) for pair in merges], "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=merges, model_max_length=77, pad_token=pad
    )


def _letters() -> list[str]:
    printable = [b for b in range(256) if chr(b).isprintable() and not chr(b).isspace() and b != 173]
    rest = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]


def _unfilled(kind: Any, config: CLIPTextConfig) -> Any:
    """A network of transformers' without first values, which for 120 million parameters take a second to draw."""
    with no_init_weights():
        return kind(config)


def _filled(network: Any, state: State) -> Any:
    """`network` with exactly these weights; a name too many or too few is an error."""
    network.load_state_dict(dict(state), assign=True)
    return network.requires_grad_(False).eval()


def error(got: Tensor, expected: Tensor) -> float:
    """The relative error ||got - expected|| / ||expected||."""
    assert got.shape == expected.shape
    return float((got.double() - expected.double()).norm() / expected.double().norm())
