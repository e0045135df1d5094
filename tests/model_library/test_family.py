"""The family of an adapter, by what its trainer wrote or by its tensors' names and shapes."""

from __future__ import annotations

import pytest

from modules.model_library.family import adapter, by_metadata, embedding, misfit

SD = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
SDXL = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"

Shapes = dict[str, tuple[int, ...]]


@pytest.mark.parametrize(
    ("metadata", "family"),
    [
        ({"ss_base_model_version": "sd_v1"}, "SD 1.x"),
        ({"ss_base_model_version": "sd_v2_v"}, "SD 2.x"),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "SDXL"),
        ({"ss_base_model_version": "sd3"}, "SD 3"),
        ({"ss_base_model_version": "flux1"}, "Flux"),
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, "SD 1.x"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "SD 2.x"),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "SDXL"),
        ({"ss_network_dim": "8", "ss_v2": "True"}, "SD 2.x"),
        ({"ss_network_dim": "8", "ss_v2": "False"}, ""),
        ({"ss_base_model_version": "something new"}, ""),
        ({}, ""),
    ],
)
def test_what_the_trainer_wrote(metadata: dict[str, str], family: str) -> None:
    assert by_metadata(metadata) == family


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({f"{SD}.lora_down.weight": (4, 768), f"{SD}.lora_up.weight": (320, 4)}, ("SD 1.x", 768)),
        ({f"{SD}.lora_down.weight": (4, 1024)}, ("SD 2.x", 1024)),
        ({f"{SDXL}.lora_down.weight": (4, 2048)}, ("SDXL", 2048)),
        ({f"{SD}.lora_down.weight": (4, 32)}, ("", 32)),
        ({"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": (4, 768)}, ("SD 1.x", 768)),
        ({"base_model.model.unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v.lora_A.weight": (4, 2048)},
         ("SDXL", 2048)),
        ({f"{SD}.hada_w1_a": (320, 4), f"{SD}.hada_w1_b": (4, 768)}, ("SD 1.x", 768)),
        ({f"{SD}.lokr_w1": (8, 8), f"{SD}.lokr_w2": (40, 96)}, ("SD 1.x", 768)),
        ({f"{SD}.lokr_w1": (8, 8), f"{SD}.lokr_w2_a": (40, 4), f"{SD}.lokr_w2_b": (4, 256)}, ("SDXL", 2048)),
        ({f"{SD}.diff": (320, 768)}, ("SD 1.x", 768)),
        ({"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (4, 1280)}, ("SDXL", 0)),
        ({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": (4, 3072)}, ("Flux", 0)),
        ({"lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight": (4, 1536)}, ("SD 3", 0)),
        ({"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (4, 768)}, ("", 0)),
        ({"nonsense": (1,)}, ("", 0)),
    ],
)  # fmt: skip
def test_names_and_shapes(shapes: Shapes, expected: tuple[str, int]) -> None:
    assert adapter({}, shapes) == expected


def test_metadata_goes_before_names() -> None:
    assert adapter({"ss_base_model_version": "sd_v1"}, {f"{SD}.lora_down.weight": (4, 32)}) == ("SD 1.x", 32)


def test_embeddings() -> None:
    assert embedding({"emb_params": (3, 768)}) == ("SD 1.x", 768, 3)
    assert embedding({"clip_l": (2, 768), "clip_g": (2, 1280)}) == ("SDXL", 2048, 2)
    assert embedding({"<cat>": (1024,)}) == ("SD 2.x", 1024, 1)
    assert embedding({"a": (1, 2, 3)}) == embedding({"a": (1,), "b": (1,)}) == ("", 0, 0)


def test_what_fits() -> None:
    assert misfit("lora", "SDXL", 2048, "c", "SD 1.x", 768) == "It is made for SDXL; the checkpoint 'c' is SD 1.x."
    assert misfit("lora", "SD 1.x", 768, "c", "SD 1.x", 384).startswith("It is made for text 768 numbers wide")
    assert misfit("lora", "", 0, "c", "SD 1.x", 768) == misfit("lora", "SDXL", 2048, "c", "", 0) == ""
    assert misfit("vae", "SD 1.x", 0, "c", "SDXL", 2048) != ""
    assert misfit("checkpoint", "SDXL", 2048, "c", "SD 1.x", 768) == ""
    assert misfit("upscaler", "SDXL", 0, "c", "SD 1.x", 768) == ""
