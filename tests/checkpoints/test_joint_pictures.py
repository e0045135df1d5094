"""SD 3 and Flux beside diffusers: a folder that it saves is loaded here, and paints the same picture to 1/255."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5EncoderModel,
)
from transformers import T5Config as TheirT5Config

from modules.checkpoints.files import scan
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.joint import patches
from modules.diffusion.noise import Noise
from modules.pipelines.generate import generate
from modules.pipelines.inpainting import mask_channels
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.request import Txt2Img
from tests import joint
from tests.diffusion import reference

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

STEPS, SIDE, SEED = 5, 64, 7
WORDS = "a red cat on the mat"


def randomised(network: nn.Module, seed: int) -> Any:
    """The network with random weights at which signals keep their size."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            norm = tensor.dim() == 1 and ("norm" in name and name.endswith("weight"))
            if tensor.is_floating_point():
                size = 0.1 if tensor.dim() == 1 else (tensor.numel() / tensor.shape[0]) ** -0.5
                drawn = torch.randn(tensor.shape, generator=generator) * size
                tensor.copy_(drawn * (3 if "embedding" in name else 1) + (1 if norm else 0))
    return network.requires_grad_(False).eval()


def vae(scale: float, shift: float) -> AutoencoderKL:
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 32, 64),
        layers_per_block=1,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=scale,
        shift_factor=shift,
    )
    return randomised(network, 1)  # type: ignore[no-any-return]


def clip(width: int, seed: int, projection: int = 0, **options: Any) -> Any:
    config = CLIPTextConfig(
        hidden_size=width,
        num_hidden_layers=3,
        num_attention_heads=1,
        intermediate_size=64,
        eos_token_id=49_407,
        pad_token_id=1,
        **({"projection_dim": projection} if projection else {}),
        **options,
    )
    return randomised((CLIPTextModelWithProjection if projection else CLIPTextModel)(config), seed)


def t5() -> Any:
    shape = {"d_model": 112, "d_kv": 32, "d_ff": 80, "num_layers": 2, "num_heads": 2}
    network = T5EncoderModel(TheirT5Config(vocab_size=64, feed_forward_proj="gated-gelu", **shape))
    return randomised(network, 4)


def t5_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    backend = Tokenizer.from_file(str(joint.tokenizer(folder / "words.json")))
    backend.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=77
    )


def sd3_pipeline(folder: Path, with_t5: bool = True, newer: bool = True) -> StableDiffusion3Pipeline:
    """Of SD 3.5 medium where it is `newer`, else of SD 3."""
    transformer = SD3Transformer2DModel(
        sample_size=8,
        num_layers=3,
        attention_head_dim=32 if newer else 64,  # SD 3's heads are 64 wide, which shapes tell only where queries are normalised
        num_attention_heads=2 if newer else 1,
        joint_attention_dim=112,
        caption_projection_dim=64,
        pooled_projection_dim=80,
        out_channels=16,
        pos_embed_max_size=12,
        dual_attention_layers=(0,) if newer else (),
        qk_norm="rms_norm" if newer else None,
    )
    first = clip(32, 2, projection=32)
    with torch.no_grad():
        first.text_projection.weight.copy_(torch.eye(32))  # published files have no other; it is not read here
    return StableDiffusion3Pipeline(
        transformer=randomised(transformer, 5),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(1.5305, 0.0609),
        text_encoder=first,
        tokenizer=reference.tokenizer(),
        text_encoder_2=clip(64, 3, projection=48, hidden_act="gelu"),
        tokenizer_2=reference.tokenizer(pad="!"),
        text_encoder_3=t5() if with_t5 else None,
        tokenizer_3=t5_tokenizer(folder) if with_t5 else None,
    )


def flux_transformer(channels: int = 64, guided: bool = True) -> FluxTransformer2DModel:
    return randomised(  # type: ignore[no-any-return]
        FluxTransformer2DModel(
            in_channels=channels,
            out_channels=64,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=32,
            num_attention_heads=2,
            joint_attention_dim=112,
            pooled_projection_dim=32,
            guidance_embeds=guided,
            axes_dims_rope=(4, 14, 14),
        ),
        6,
    )


def flux_pipeline(folder: Path, kind: Any = FluxPipeline, channels: int = 64, guided: bool = True) -> Any:
    dynamic = {"use_dynamic_shifting": guided, "shift": 3.0 if guided else 1.0}
    return kind(
        transformer=flux_transformer(channels, guided),
        scheduler=FlowMatchEulerDiscreteScheduler(**dynamic),
        vae=vae(0.3611, 0.1159),
        text_encoder=clip(32, 2),
        tokenizer=reference.tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(folder),
    )


def latents(height: int = SIDE, width: int = SIDE) -> torch.Tensor:
    return Noise(SEED, (16, height // 8, width // 8))()[None]


@pytest.fixture
def painted(tmp_path: Path) -> Callable[..., tuple[np.ndarray, str]]:
    """Saves a pipeline and paints with it here; the picture and what it was detected as."""

    def paint(pipeline: Any, pictures: dict[str, Image.Image] | None = None, **fields: Any) -> tuple[np.ndarray, str]:
        pipeline.save_pretrained(tmp_path / "models" / "saved")
        manager = ModelManager([tmp_path / "models"], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")
        (info,) = scan([tmp_path / "models"])
        assert info.problem == ""
        basics = {"prompt": WORDS, "seed": SEED, "steps": STEPS, "width": SIDE, "height": SIDE}
        request = Txt2Img(**{**basics, "checkpoint": "saved", "sampler": "Euler", "schedule": "Simple", **fields})
        pixels = run_reference(generate(stages_of(request)), manager).pixels
        return pixels.numpy().astype(int), info.family

    return paint


@pytest.mark.parametrize(("newer", "expected"), [(True, "sd3.5"), (False, "sd3")])
def test_sd3_paints_what_diffusers_paints(
    tmp_path: Path, painted: Callable[..., tuple[np.ndarray, str]], newer: bool, expected: str
) -> None:
    pipeline = sd3_pipeline(tmp_path, newer=newer)
    ours, family = painted(pipeline, negative_prompt="blue", cfg_scale=3.0)
    theirs = pipeline(
        WORDS,
        negative_prompt="blue",
        guidance_scale=3.0,
        num_inference_steps=STEPS,
        sigmas=[1 - step / STEPS for step in range(STEPS)],
        latents=latents(),
        height=SIDE,
        width=SIDE,
        max_sequence_length=77,
        output_type="np",
    ).images[0]
    assert family == expected
    assert ours.std() > 20
    assert np.abs(ours - np.round(theirs * 255)).max() <= 1


def test_sd3_without_t5_attends_to_zeros_in_its_place(tmp_path: Path, painted: Callable[..., tuple[np.ndarray, str]]) -> None:
    pipeline = sd3_pipeline(tmp_path, with_t5=False)
    ours, _ = painted(pipeline, cfg_scale=1.0)
    theirs = pipeline(
        WORDS,
        guidance_scale=1.0,
        num_inference_steps=STEPS,
        sigmas=[1 - step / STEPS for step in range(STEPS)],
        latents=latents(),
        height=SIDE,
        width=SIDE,
        max_sequence_length=77,
        output_type="np",
    ).images[0]
    assert np.abs(ours - np.round(theirs * 255)).max() <= 1


@pytest.mark.parametrize("guided", [True, False], ids=["dev", "schnell"])
def test_flux_paints_what_diffusers_paints(
    guided: bool, tmp_path: Path, painted: Callable[..., tuple[np.ndarray, str]]
) -> None:
    """At a size that is not square, whose shift is its own."""
    pipeline = flux_pipeline(tmp_path, guided=guided)
    ours, family = painted(pipeline, cfg_scale=1.0, distilled_cfg_scale=2.5, width=96)
    theirs = pipeline(
        WORDS,
        guidance_scale=2.5,
        num_inference_steps=STEPS,
        latents=pipeline._pack_latents(latents(64, 96), 1, 16, 8, 12),
        height=64,
        width=96,
        max_sequence_length=512 if guided else 256,
        output_type="np",
    ).images[0]
    assert family == ("flux" if guided else "flux-schnell")
    assert ours.std() > 20
    assert np.abs(ours - np.round(theirs * 255)).max() <= 1


def test_fill_s_concat_conditioning_is_packed_as_by_diffusers(tmp_path: Path) -> None:
    """The latent of the masked picture first, then every pixel of the mask."""
    pipeline = flux_pipeline(tmp_path, FluxFillPipeline, channels=384)
    generator = torch.Generator().manual_seed(3)
    mask = (torch.rand(1, 1, 64, 96, generator=generator) > 0.5).float()
    masked = torch.rand(1, 3, 64, 96, generator=generator) * 2 - 1
    their_mask, their_latent = pipeline.prepare_mask_latents(
        mask, masked, 1, 16, 1, 64, 96, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(1)
    )
    latent = pipeline._unpack_latents(their_latent, 64, 96, 8)[0]  # a draw, so theirs is taken
    channels = mask_channels(mask[0], latent, further=80)
    assert channels.shape == (80, 8, 12)
    wanted = torch.cat([their_latent, their_mask], dim=-1)
    assert torch.equal(patches(channels[None]), wanted)
