"""The spellings of adapter files, against the names that diffusers' own network has."""

from __future__ import annotations

import pytest
import torch

from modules.checkpoints import keys, lora_names
from modules.diffusion.forward import adaptable_layers, adaptable_norms
from modules.diffusion.unet import UNet, UNetConfig
from tests.diffusion import reference
from tests.sdxl import UNET as SDXL_UNET
from tests.sdxl import sdxl_state
from tests.tiny import TINY_UNET

SD1 = UNetConfig(channels=(32, 64, 64, 64), context_dim=32)


@pytest.mark.parametrize("config", [TINY_UNET, SD1, SDXL_UNET], ids=["tiny", "SD 1.x", "SDXL"])
def test_every_layer_has_the_name_that_diffusers_gives_it(config: UNetConfig) -> None:
    torch.manual_seed(0)
    ours = UNet(config)
    stored = sdxl_state(unet=config) if config.vector_width else {keys.UNET + n: t for n, t in ours.state_dict().items()}
    ours.load_state_dict({n: stored[keys.UNET + n].reshape(t.shape) for n, t in ours.state_dict().items()})
    theirs = reference.unet(config, stored)
    weights = theirs.state_dict()
    for place, layer in (adaptable_layers(ours) | adaptable_norms(ours)).items():
        name = lora_names.diffusers_name(place, len(config.channels), config.res_blocks)
        assert torch.equal(weights[f"{name}.weight"].reshape(layer.weight.shape), layer.weight), place


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lora_unet_mid_block_attentions_0_proj_in.lora_up.weight", ("unet", "mid_block_attentions_0_proj_in", "up")),
        ("lora_unet_input_blocks_4_1_proj_in.alpha", ("unet", "input_blocks_4_1_proj_in", "alpha")),
        (
            "lora_te2_text_model_encoder_layers_3_self_attn_q_proj.dora_scale",
            ("text_2", "encoder_layers_3_self_attn_q_proj", "dora_scale"),
        ),
        ("base_model.model.unet.conv_in.lora_A.default.weight", ("unet", "conv_in", "down")),
        (
            "text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_linear_layer.down.weight",
            ("text_2", "encoder_layers_0_mlp_fc1", "down"),
        ),
        (
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
            ("unet", "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", "down"),
        ),
        ("lycoris_mid_block_attentions_0_proj_in.hada_w1_a", ("unet", "mid_block_attentions_0_proj_in", "hada_w1_a")),
        ("lycoris_text_model_encoder_layers_0_mlp_fc1.lokr_w1", ("text", "encoder_layers_0_mlp_fc1", "lokr_w1")),
        ("oft_unet_out_2.oft_blocks", ("unet", "out_2", "oft_blocks")),
        ("unet.conv_in.lora_magnitude_vector", ("unet", "conv_in", "dora_scale")),
        ("logit_scale", ("", "", "")),
    ],
)
def test_part_layer_and_meaning_of_a_name(name: str, expected: tuple[str, str, str]) -> None:
    assert lora_names.split(name) == expected
