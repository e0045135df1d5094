"""The networks of latent diffusion by other hands: diffusers' `UNet2DModel`, `VQModel` and `LDMBertModel`, with their weights
out of an ldm state dict.  diffusers converts only some of these files, so the names are mapped here, by its modules' places."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, UNet2DModel, VQModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from torch import Tensor
from transformers import BertTokenizer

from modules.checkpoints import keys
from modules.diffusion.bert import BERTConfig
from modules.diffusion.unet import UNetConfig
from modules.diffusion.vae import VAEConfig
from modules.prompts import wordpiece

State = Mapping[str, Tensor]

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_STEM = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip


def unet(config: UNetConfig, state: State) -> UNet2DModel:
    """`attention_head_dim` is one number for all levels of `UNet2DModel`, so those that attend have to be equally wide."""
    attends, blocks = [depth > 0 for depth in config.transformer_depth], config.resampling_blocks
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if blocks else ("DownBlock2D", "UpBlock2D")
    resample = "resnet" if blocks else "conv"
    with torch.device("meta"):
        network = UNet2DModel(
            sample_size=16,
            in_channels=config.in_channels,
            out_channels=config.out_channels,
            block_out_channels=config.channels,
            layers_per_block=config.res_blocks,
            down_block_types=tuple("AttnDownBlock2D" if has else plain[0] for has in attends),
            up_block_types=tuple("AttnUpBlock2D" if has else plain[1] for has in reversed(attends)),
            attention_head_dim=config.head_width or config.channels[-1] // config.heads,
            downsample_type=resample,
            upsample_type=resample,
            attn_norm_num_groups=32,  # else the middle has none with "scale_shift"
            resnet_time_scale_shift="scale_shift" if config.scale_shift else "default",
        )
    width = network.config.attention_head_dim
    return _filled(network, {name: _unet_tensor(name, config, width, attends, state) for name in network.state_dict()})


def _unet_tensor(name: str, config: UNetConfig, head_width: int, attends: list[bool], state: State) -> Tensor:
    stem, _, kind = name.rpartition(".")
    if stem in _STEM:
        return state[f"{keys.UNET}{_STEM[stem]}.{kind}"]
    found = re.fullmatch(r"(?:(down|up)_blocks\.(\d)|mid_block)\.(\w+?)s\.(\d)\.(.+)", stem)
    assert found, name
    side, level, what, number, layer = found[1], int(found[2] or 0), found[3], int(found[4]), found[5]
    slots = config.res_blocks + 1
    if side is None:
        place = "middle_block.1" if what == "attention" else f"middle_block.{2 * number}"
    elif what == "downsampler":
        place = f"input_blocks.{slots * (level + 1)}.0"
    elif what == "upsampler":
        place = f"output_blocks.{slots * level + slots - 1}.{2 if attends[::-1][level] else 1}"
    else:
        block = f"input_blocks.{1 + slots * level + number}" if side == "down" else f"output_blocks.{slots * level + number}"
        place = f"{block}.{1 if what == 'attention' else 0}"
    if what == "attention":
        return _attention_tensor(f"{keys.UNET}{place}", layer, kind, head_width, state)
    layer = {"conv": "op" if side == "down" else "conv"}.get(layer) or _RESNET[layer]
    return state[f"{keys.UNET}{place}.{layer}.{kind}"]


def _attention_tensor(place: str, layer: str, kind: str, head_width: int, state: State) -> Tensor:
    if layer in ("group_norm", "to_out.0"):
        tensor = state[f"{place}.{'norm' if layer == 'group_norm' else 'proj_out'}.{kind}"]
        return tensor.squeeze(-1) if tensor.dim() == 3 else tensor
    fused = state[f"{place}.qkv.{kind}"]  # ldm's order: of each head its queries, keys and values
    each = fused.reshape(-1, 3, head_width, *fused.shape[1:2])[:, ("to_q", "to_k", "to_v").index(layer)]
    return each.reshape(-1, *fused.shape[1:2]).contiguous()


def vq(config: VAEConfig, state: State, scale: float = 1.0) -> VQModel:
    attends = [config.attends(level) for level in range(len(config.channels))]
    with torch.device("meta"):
        network = VQModel(
            in_channels=config.image_channels,
            out_channels=config.image_channels,
            down_block_types=tuple("AttnDownEncoderBlock2D" if has else "DownEncoderBlock2D" for has in attends),
            up_block_types=tuple("AttnUpDecoderBlock2D" if has else "UpDecoderBlock2D" for has in reversed(attends)),
            block_out_channels=config.channels,
            layers_per_block=config.res_blocks,
            latent_channels=config.latent_channels,
            num_vq_embeddings=config.codebook,
            scaling_factor=scale,
            mid_block_add_attention=config.middle_attention,
        )
    last = len(config.channels) - 1
    return _filled(
        network, {name: _vq_tensor(name, last, tensor.shape, state) for name, tensor in network.state_dict().items()}
    )


_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def _vq_tensor(name: str, last: int, shape: torch.Size, state: State) -> Tensor:
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.attentions", r"down.\1.attn", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    for theirs, ours in (("resnets", "block"), ("attentions", "attn"), (r"upsamplers\.0", "upsample")):
        name = re.sub(rf"up_blocks\.(\d)\.{theirs}", lambda found, ours=ours: f"up.{last - int(found[1])}.{ours}", name)
    name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
    name = name.replace("mid_block.attentions.0", "mid.attn_1")
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    for theirs, ours in _ATTENTION.items():
        if "attn" in name:
            name = name.replace(f".{theirs}.", f".{ours}.")
    return state[keys.VAE + name].reshape(shape)


def bert(config: BERTConfig, state: State) -> LDMBertModel:
    network = LDMBertModel(
        LDMBertConfig(
            vocab_size=config.vocabulary,
            max_position_embeddings=config.positions,
            encoder_layers=config.layers,
            encoder_ffn_dim=config.hidden,
            encoder_attention_heads=config.heads,
            head_dim=config.inner // config.heads,
            d_model=config.width,
        )
    )
    own = {
        "model.embed_tokens": "token_emb",
        "model.embed_positions": "pos_emb.emb",
        "model.layer_norm": "norm",
        "to_logits": "to_logits",
    }
    for number in range(config.layers):
        attention, feed = (f"attn_layers.layers.{2 * number + each}" for each in (0, 1))
        layer = f"model.layers.{number}"
        own |= {f"{layer}.self_attn.{each}_proj": f"{attention}.1.to_{each}" for each in ("q", "k", "v", "out")}
        own |= {f"{layer}.self_attn_layer_norm": f"{attention}.0", f"{layer}.final_layer_norm": f"{feed}.0"}
        own |= {f"{layer}.fc1": f"{feed}.1.net.0.0", f"{layer}.fc2": f"{feed}.1.net.2"}
    filled = {}
    for name in network.state_dict():
        stem, _, kind = name.rpartition(".")
        filled[name] = state[f"{keys.TEXT}{own[stem]}.{kind}"]
    return _filled(network, filled)


def tokenizer() -> BertTokenizer:
    """transformers' BERT tokenizer over the vocabulary that ships with us."""
    words = gzip.decompress(wordpiece._FILE.read_bytes()).decode().splitlines()
    return BertTokenizer(vocab={word: number for number, word in enumerate(words)}, do_lower_case=True, model_max_length=77)


class VarianceKeepingEuler(EulerDiscreteScheduler):  # type: ignore[misc]
    """Euler's steps for pipelines of latent diffusion, which feed latents to the network as they are (DDIM's form)."""

    @property
    def init_noise_sigma(self) -> float:
        return float(self.sigmas[0] / (self.sigmas[0] ** 2 + 1) ** 0.5)

    def scale_model_input(self, sample: Tensor, timestep: Any) -> Tensor:
        return sample

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, **_: Any) -> Any:
        number = int((self.timesteps == timestep).nonzero()[0])
        now, following = self.sigmas[number], self.sigmas[number + 1]
        x = sample * (now**2 + 1) ** 0.5 + model_output * (following - now)
        return SimpleNamespace(prev_sample=x / (following**2 + 1) ** 0.5)


def _filled(network: Any, state: State) -> Any:
    network.load_state_dict(dict(state), assign=True)
    return network.requires_grad_(False).eval()
