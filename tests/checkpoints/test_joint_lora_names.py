"""The spellings of adapter files for SD 3 and Flux, against the layers of diffusers' networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.checkpoints import lora_names
from modules.diffusion.adapters import LowRank
from modules.diffusion.deltas import Hadamard, Parted
from modules.diffusion.forward import adaptable_layers
from tests.diffusion.test_joint_networks import FLUX, SD3, flux, sd3

SWAPPED = ("norm_out_linear", "transformer_blocks_2_norm1_context_linear")
"""Layers whose halves change places, of which no adapter is read under diffusers' names."""


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_every_layer_of_diffusers_is_found_with_its_rows(kind: str) -> None:
    theirs, ours = sd3(replace(SD3, normalised=True, dual=1)) if kind == "sd3" else flux(FLUX)
    layers = adaptable_layers(ours)
    rows = {place: len(layer.weight) for place, layer in layers.items()}
    stems, pieces = lora_names.transformer_aliases(rows, kind, SD3.width if kind == "sd3" else FLUX.width)
    missing = []
    for name, layer in theirs.named_modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            continue
        _, stem, what = lora_names.split(f"transformer.{name}.lora_A.weight")
        assert what == "down"
        if stem in stems:
            found: Tensor = layers[stems[stem]].weight
        elif stem in pieces:
            place, first, count = pieces[stem]
            found = layers[place].weight[first : first + count]
        else:
            missing.append(stem)
            continue
        assert torch.equal(found.reshape(layer.weight.shape), layer.weight), name
    assert missing == [stem for stem in missing if stem in SWAPPED]
    assert set(layers) <= set(stems.values()) | {place for place, _, _ in pieces.values()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight", ("unet", "joint_blocks_0_x_block_attn_qkv", "down")),
        ("lora_unet_single_blocks_7_linear1.alpha", ("unet", "single_blocks_7_linear1", "alpha")),
        ("lora_transformer_transformer_blocks_0_attn_to_q.lora_up.weight", ("unet", "transformer_blocks_0_attn_to_q", "up")),
        ("lycoris_transformer_blocks_0_attn_to_q.lokr_w1", ("unet", "transformer_blocks_0_attn_to_q", "lokr_w1")),
        ("lycoris_single_transformer_blocks_0_proj_mlp.lokr_w1", ("unet", "single_transformer_blocks_0_proj_mlp", "lokr_w1")),
        ("transformer.single_transformer_blocks.3.proj_out.lora_B.weight",
         ("unet", "single_transformer_blocks_3_proj_out", "up")),
        ("diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight", ("unet", "double_blocks_0_img_attn_qkv", "down")),
        ("double_blocks.0.processor.qkv_lora1.down.weight", ("unet", "double_blocks_0_img_attn_qkv", "down")),
        ("double_blocks.11.processor.proj_lora2.up.weight", ("unet", "double_blocks_11_txt_attn_proj", "up")),
        ("img_in.lora_A.weight", ("unet", "img_in", "down")),
        ("lora_te3_encoder_block_0_layer_0_SelfAttention_q.alpha",
         ("text_3", "encoder_block_0_layer_0_SelfAttention_q", "alpha")),
        ("text_encoder_3.encoder.block.1.layer.1.DenseReluDense.wo.lora_A.weight",
         ("text_3", "encoder_block_1_layer_1_DenseReluDense_wo", "down")),
    ],
)  # fmt: skip
def test_part_layer_and_meaning_of_a_name(name: str, expected: tuple[str, str, str]) -> None:
    assert lora_names.split(name) == expected


def test_changes_of_parts_of_a_layer_are_what_they_add_to_its_weight() -> None:
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    layer: Any = nn.Linear(6, 12)
    low = LowRank(drawn(2, 6), drawn(4, 2), 0.5)
    dense = Hadamard(drawn(4, 2), drawn(2, 6), drawn(4, 2), drawn(2, 6), 0.3)
    both = Parted((low, dense), ((0, 4), (8, 4)))
    x = drawn(3, 5, 6)
    added = both.weight(layer.weight)
    assert torch.equal(added[4:8], torch.zeros(4, 6))
    torch.testing.assert_close(both.change(x, layer), F.linear(x, added))
    assert isinstance(both.to(torch.float64).deltas[0], LowRank)
    assert both.to(torch.float64).change(x.double(), layer.double()).dtype == torch.float64
