"""Names and shapes tell what a file is: the published SD 1.5 layout, narrower ones, and other models by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from modules.checkpoints import keys, shapes, sizes
from modules.checkpoints.families import FAMILIES, Family, UNetFamily, recognise
from modules.checkpoints.families.foreign import OTHER_MODELS, Foreign
from modules.checkpoints.families.sd1 import SD1
from modules.checkpoints.families.sd2 import SD2
from modules.checkpoints.families.sdxl import SDXL
from modules.checkpoints.families.transformer import TransformerFamily
from modules.checkpoints.families.x4 import X4
from modules.checkpoints.header import Header, TensorEntry
from modules.diffusion.clip import TextConfig
from modules.diffusion.text import TextEncoder
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from modules.errors import CheckpointError
from tests.sd2 import sd2_state
from tests.sdxl import UNET as XL_UNET
from tests.sdxl import refiner_state, sdxl_state
from tests.tiny import TINY_TEXT, TINY_UNET, TINY_VAE
from tests.x4 import UNET as X4_UNET
from tests.x4 import x4_state

BASE = SD1[0]


UNET, VAE, TEXT = UNetConfig(), VAEConfig(), TextConfig()


def sd1_shapes(unet: UNetConfig = UNET, vae: VAEConfig = VAE, text: TextConfig = TEXT) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint, without its numbers."""
    with torch.device("meta"):
        parts: dict[str, nn.Module] = {
            keys.UNET: UNet(unet),
            keys.VAE: AutoencoderKL(vae),
            keys.TEXT + "text_model.": TextEncoder(text).network,
        }
    return {prefix + name: tuple(t.shape) for prefix, part in parts.items() for name, t in part.state_dict().items()}


def derived(of: dict[str, tuple[int, ...]]) -> tuple[UNetConfig, VAEConfig, TextConfig]:
    layout = keys.layout(of)
    unet, vae, text = ({name: of[key] for name, key in part.items()} for part in (layout.unet, layout.vae, layout.text))
    family = recognise(of)
    unet_config = shapes.unet_config(unet, family.heads, family.head_width)
    return unet_config, shapes.vae_config(vae), shapes.text_config(text, BASE.text[0])


@pytest.mark.parametrize(
    ("unet", "vae", "text"),
    [
        (UNET, VAE, TEXT),
        (TINY_UNET, TINY_VAE, TINY_TEXT),
        (
            UNetConfig(9, 4, (32, 64, 64), 2, (0, 2, 1), middle_depth=0, context_dim=48),
            VAEConfig((32, 64), 1, 4, 3),
            TextConfig(width=48, layers=3, heads=1, hidden=96),
        ),
        (X4_UNET, VAEConfig((32, 64, 64)), TextConfig(width=128, layers=1, heads=2, hidden=96)),
    ],
    ids=["SD 1.5", "tiny", "uneven", "x4"],
)
def test_the_tensors_that_are_wanted_are_those_of_the_networks(unet: UNetConfig, vae: VAEConfig, text: TextConfig) -> None:
    """The list of models knows without torch what the networks will ask for, in the order in which they ask."""
    of = sd1_shapes(unet, vae, text)
    parts = keys.layout(of)
    unet_sizes, vae_sizes, text_sizes = (
        derive({name: of[stored] for name, stored in part.items()})
        for derive, part in ((sizes.unet_sizes, parts.unet), (sizes.vae_sizes, parts.vae), (sizes.text_sizes, parts.text))
    )
    wanted = [
        *((keys.UNET + name, shape) for name, shape in sizes.unet_tensors(unet_sizes)),  # type: ignore[arg-type]
        *((keys.VAE + name, shape) for name, shape in sizes.vae_tensors(vae_sizes)),  # type: ignore[arg-type]
        *((keys.TEXT + "text_model." + name, shape) for name, shape in sizes.text_tensors(text_sizes)),  # type: ignore[arg-type]
    ]
    assert wanted == list(of.items())


def test_no_tensor_may_be_missing() -> None:
    """Whichever it is: the header alone tells, and names its part."""
    of = {name: TensorEntry("F16", shape, 0, 0) for name, shape in sd1_shapes(TINY_UNET, TINY_VAE, TINY_TEXT).items()}
    BASE.check(Header({}, of, 0))
    for name in of:
        without = {other: entry for other, entry in of.items() if other != name}
        with pytest.raises(CheckpointError, match=r"lacks|without"):
            BASE.check(Header({}, without, 0))


def test_the_layout_of_sd_1_5_has_the_published_number_of_tensors() -> None:
    """686 + 248 + 196 (197 with position_ids) tensors, 859,520,964 + 83,653,863 + 123,060,480 parameters."""
    layout = keys.layout(of := sd1_shapes())
    assert [len(layout.unet), len(layout.vae), len(layout.text)] == [686, 248, 196]
    sizes = [sum(torch.Size(of[key]).numel() for key in part.values()) for part in (layout.unet, layout.vae, layout.text)]
    assert sizes == [859_520_964, 83_653_863, 123_060_480]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", (320, 4, 3, 3)),
        ("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", (320, 768)),
        ("model.diffusion_model.input_blocks.8.1.transformer_blocks.0.ff.net.0.proj.weight", (10240, 1280)),
        ("model.diffusion_model.input_blocks.4.0.skip_connection.weight", (640, 320, 1, 1)),
        ("model.diffusion_model.middle_block.1.proj_in.weight", (1280, 1280, 1, 1)),
        ("model.diffusion_model.output_blocks.5.2.conv.weight", (1280, 1280, 3, 3)),
        ("model.diffusion_model.output_blocks.2.1.conv.weight", (1280, 1280, 3, 3)),
        ("model.diffusion_model.out.2.bias", (4,)),
        ("first_stage_model.encoder.mid.attn_1.q.weight", (512, 512, 1, 1)),
        ("first_stage_model.decoder.up.0.block.0.nin_shortcut.weight", (128, 256, 1, 1)),
        ("first_stage_model.decoder.up.3.upsample.conv.weight", (512, 512, 3, 3)),
        ("first_stage_model.quant_conv.weight", (8, 8, 1, 1)),
        ("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", (49408, 768)),
        ("cond_stage_model.transformer.text_model.encoder.layers.11.mlp.fc2.weight", (768, 3072)),
        ("cond_stage_model.transformer.text_model.final_layer_norm.bias", (768,)),
    ],
)
def test_tensors_have_the_names_and_shapes_of_the_published_file(name: str, shape: tuple[int, ...]) -> None:
    assert sd1_shapes()[name] == shape


@pytest.mark.parametrize(
    "configs",
    [
        (UNetConfig(), VAEConfig(), TextConfig()),
        (UNetConfig(in_channels=9), VAEConfig(), TextConfig()),
        (UNetConfig(channels=(64, 96, 160), res_blocks=1, transformer_depth=(0, 0, 1), context_dim=64),
         VAEConfig(channels=(64,) * 4, res_blocks=1), TextConfig(width=64, layers=2, heads=1, hidden=256)),
        (UNetConfig(channels=(32,), res_blocks=3, transformer_depth=(2,), middle_depth=0, context_dim=128),
         VAEConfig(channels=(32, 64), res_blocks=1, latent_channels=16), TextConfig(width=128, layers=1, heads=2, hidden=64)),
    ],
)  # fmt: skip
def test_shapes_give_back_the_configuration(configs: tuple[UNetConfig, VAEConfig, TextConfig]) -> None:
    assert derived(sd1_shapes(*configs)) == configs


@pytest.mark.parametrize("family", SD1, ids=lambda family: family.name)
def test_families_differ_in_their_input_channels(family: Family) -> None:
    assert recognise(sd1_shapes(UNetConfig(in_channels=family.in_channels))) == family
    assert (family.latent.channels, family.latent.scale, family.latent.factor) == (4, 0.18215, 8)


STEM = keys.UNET + "input_blocks.0.0.weight"


@pytest.mark.parametrize("family", SDXL, ids=lambda family: family.name)
def test_marks_and_the_input_channels_tell_the_member_of_a_kind(family: Family) -> None:
    assert isinstance(family, UNetFamily)
    state = refiner_state() if family.name == "sdxl-refiner" else sdxl_state()
    of = {name: tuple(tensor.shape) for name, tensor in state.items()}
    marks = {mark: () for mark in family.marks if mark.startswith("edm_")}
    assert recognise({**of, **marks, STEM: (64, family.in_channels, 3, 3)}) == family
    assert (family.latent.channels, family.latent.factor) == (4, 8)


def test_other_numbers_of_input_channels_are_named_with_what_is_known() -> None:
    of = {name: tuple(tensor.shape) for name, tensor in sdxl_state().items()}
    known = r"5 input channels; this version knows 4 \(sdxl\), 9 \(sdxl-inpaint\), 8 \(sdxl-edit\)"
    with pytest.raises(CheckpointError, match=known):
        recognise({**of, STEM: (64, 5, 3, 3)})


@pytest.mark.parametrize("family", SD2, ids=lambda family: family.name)
def test_sd_2_is_told_by_its_text_encoder(family: Family) -> None:
    assert isinstance(family, UNetFamily)
    for prefix in ("cond_stage_model.model.", "conditioner.embedders.0.model."):  # the latter in SD Turbo's file
        of = {name: tuple(tensor.shape) for name, tensor in sd2_state(prefix=prefix).items()}
        assert recognise({**of, STEM: (64, family.in_channels, 3, 3)}) == family


# ---- blocks that distillation took away


def xl_shapes(**changes: Any) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = UNet(replace(XL_UNET, **changes))
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    "changes",
    [
        {
            "transformer_depth": (0, 2, 4),
            "middle_depth": 0,
            "middle_res_blocks": 1,
            "output_depth": (4, 4, 10, 2, 1, 1, 0, 0, 0),
        },
        {
            "transformer_depth": (0, 1, 2),
            "middle_depth": 0,
            "middle_res_blocks": 1,
            "output_depth": (2, 2, 2, 1, 1, 1, 0, 0, 0),
        },
        {"res_blocks": 1, "transformer_depth": (0, 2, 5), "middle_depth": 0, "middle_res_blocks": 0},
        {"res_blocks": 1, "transformer_depth": (0, 2, 6), "middle_depth": 6},
    ],
    ids=["SSD-1B", "Segmind Vega", "KOALA-700M", "KOALA-1B"],
)
def test_the_depth_of_distilled_networks_is_derived(changes: dict[str, Any]) -> None:
    of = xl_shapes(**changes)
    found = sizes.unet_sizes(of)
    wanted = replace(XL_UNET, **changes)
    assert found.depths_up == wanted.depths_up
    for name in ("transformer_depth", "middle_depth", "middle_res_blocks", "res_blocks"):
        assert getattr(found, name) == getattr(wanted, name)
    assert list(sizes.unet_tensors(found)) == list(of.items())


def test_a_block_that_lost_its_attention_is_missed_and_not_taken_for_a_distilled_one() -> None:
    of = {name: shape for name, shape in xl_shapes().items() if not name.startswith("output_blocks.4.1.")}
    lost = {name for name, _ in sizes.unet_tensors(sizes.unet_sizes(of))} - set(of)
    assert {name.split(".transformer")[0].split(".norm")[0] for name in lost} >= {"output_blocks.4.1"}


@pytest.mark.parametrize("model", OTHER_MODELS, ids=lambda model: model.what)
def test_every_mark_of_another_model_is_seen_alone_and_beside_an_ldm_unet(model: Foreign) -> None:
    for mark in model.marks:
        name = mark.strip("\n") if mark.endswith("\n") else mark.strip("\n") + "0.weight"
        for names in ([name], [name, "model.diffusion_model.input_blocks.0.0.weight"]):
            with pytest.raises(CheckpointError, match=r"^is ") as caught:
                recognise(dict.fromkeys(names, (320, 4, 3, 3)))
            assert model.what in str(caught.value) or "refiner" in str(caught.value)


# ---- names


def test_variants_of_names_in_real_files_come_to_the_same() -> None:
    plain = keys.layout(
        ["first_stage_model.encoder.mid.attn_1.q.weight", "cond_stage_model.transformer.text_model.final_layer_norm.bias"]
    )
    for attention in ("to_q", "query"):
        variant = keys.layout(
            [
                f"first_stage_model.encoder.mid.attn_1.{attention}.weight",
                "cond_stage_model.transformer.final_layer_norm.bias",
            ]
        )
        assert (variant.vae.keys(), variant.text.keys()) == (plain.vae.keys(), plain.text.keys())
    names = [f"first_stage_model.decoder.mid.attn_1.{n}.bias" for n in ("group_norm", "to_out.0", "to_k", "to_v")]
    assert set(keys.layout(names).vae) == {f"decoder.mid.attn_1.{n}.bias" for n in ("norm", "proj_out", "k", "v")}


def test_what_training_leaves_behind_is_ignored_in_silence() -> None:
    names = [
        *("alphas_cumprod", "alphas_cumprod_prev", "betas", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"),
        *("log_one_minus_alphas_cumprod", "posterior_variance", "posterior_mean_coef1", "logvar", "scale_factor"),
        *("model_ema.decay", "model_ema.num_updates", "model_ema.diffusion_modelinput_blocks00weight", "global_step"),
        *("first_stage_model.loss.logvar", "first_stage_model.loss.perceptual_loss.lin0.model.1.weight"),
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
        "cond_stage_model.transformer.embeddings.position_ids",
    ]
    layout = keys.layout(names)
    assert (layout.unet, layout.vae, layout.text, layout.unexpected) == ({}, {}, {}, [])


def test_only_unknown_tensors_are_unexpected() -> None:
    of = [*sd1_shapes(), "control.weight", "model.diffusion_models.x"]
    assert keys.layout(of).unexpected == ["control.weight", "model.diffusion_models.x"]


def test_a_text_encoder_under_both_spellings_is_taken_from_the_full_one() -> None:
    short, full = "cond_stage_model.transformer.", "cond_stage_model.transformer.text_model."
    for names in ([short + "final_layer_norm.bias", full + "final_layer_norm.bias"],) * 2:
        assert keys.layout(names).text == {"final_layer_norm.bias": full + "final_layer_norm.bias"}
        names.reverse()


def test_families_are_a_table_with_unique_names() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert replace(BASE, name="other").heads == 8


def test_sdxl_has_the_published_number_of_parameters() -> None:
    """2,567,463,684 in the U-Net, 123,060,480 and 694,659,840 in the text encoders, as published with sd_xl_base_1.0."""
    with torch.device("meta"):
        unet = UNet(
            UNetConfig(
                channels=(320, 640, 1280), transformer_depth=(0, 2, 10), middle_depth=10, context_dim=2048,
                heads=0, head_width=64, vector_width=2816,
            )
        )  # fmt: skip
        texts = [
            TextEncoder(config).networks
            for config in (
                TextConfig(layer=2, normalised=False),
                TextConfig(width=1280, layers=32, heads=20, hidden=5120, projection=1280, activation="gelu", layer=2, pad=0),
            )
        ]
    counts = [sum(tensor.numel() for tensor in network.state_dict().values()) for network in (unet, *texts)]
    assert counts == [2_567_463_684, 123_060_480, 694_659_840]
    shapes_of = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    assert list(sizes.unet_tensors(sizes.unet_sizes(shapes_of))) == list(shapes_of.items())
    shapes_of = {name: tuple(tensor.shape) for name, tensor in texts[1].state_dict().items()}
    assert list(sizes.text_tensors(sizes.text_sizes(shapes_of))) == list(shapes_of.items())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({STEM: (64, 5, 3, 3)}, "is an SD 2.x depth checkpoint; it paints along a depth map"),
        (
            {keys.UNET + "label_emb.0.0.weight": (256, 1536)},
            "is an unCLIP checkpoint; it varies a picture by its CLIP embedding",
        ),
        (
            {keys.UNET + "label_emb.0.0.weight": (256, 2048)},
            "is an unCLIP checkpoint; it varies a picture by its CLIP embedding",
        ),
    ],
)
def test_relatives_of_sd_2_are_named_without_their_own_encoder_too(changed: dict[str, Any], said: str) -> None:
    of = {name: tuple(tensor.shape) for name, tensor in sd2_state().items()}
    with pytest.raises(CheckpointError, match=said):
        recognise({**of, **changed})


def test_the_upscaler_is_told_by_its_classes() -> None:
    of = {name: tuple(tensor.shape) for name, tensor in x4_state().items()}
    assert recognise(of) == X4[0]
    found = sizes.unet_sizes({name.removeprefix(keys.UNET): shape for name, shape in of.items() if name.startswith(keys.UNET)})
    assert (found.classes, found.cross_only) == (1000, (False, True, True, False))
    with pytest.raises(CheckpointError, match=r"4 input channels; this version knows 7 \(x4-upscaler\)"):
        recognise({**of, STEM: (32, 4, 3, 3)})


def test_further_input_channels_say_what_concat_conditioning_a_family_takes() -> None:
    assert {family.name: family.concat for family in FAMILIES if isinstance(family, UNetFamily | TransformerFamily)} == {
        "sd1": "",
        "sd1-inpaint": "mask",
        "sd1-edit": "picture",
        "sd2": "",
        "sd2-inpaint": "mask",
        "sdxl": "",
        "sdxl-inpaint": "mask",
        "sdxl-edit": "picture",
        "sdxl-refiner": "",
        "cosxl": "",
        "cosxl-edit": "picture",
        "playground-2.5": "",
        "x4-upscaler": "low-res",
        "sd3": "",
        "sd3.5": "",
        "flux": "",
        "flux-schnell": "",
        "flux-fill": "mask",
    }
