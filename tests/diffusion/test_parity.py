"""The networks against other hands: diffusers and transformers, from the same file, in fp32.

Narrow networks take milliseconds; those of Stable Diffusion 1.5's full width (a billion parameters) are marked `full_width`.
Weights are random and seeded, and reach the references through diffusers' own converters (`reference.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPAGPipeline,
    StableDiffusionPipeline,
    StableDiffusionSAGPipeline,
)
from torch import Tensor

from modules.checkpoints import keys
from modules.checkpoints.families import FAMILIES, SD1_LATENT
from modules.checkpoints.files import CheckpointInfo, Defaults
from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.hashes import FileHash
from modules.checkpoints.latent_space import KLLatentSpace
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.weights import Filler
from modules.diffusion.attention import sdpa
from modules.diffusion.clip import TextConfig
from modules.diffusion.clip_prompts import CLIPPrompts
from modules.diffusion.noise import Noise
from modules.diffusion.prediction import DiscreteNoise
from modules.diffusion.text import TextEncoder, TextEncoders
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.unet_denoiser import UNetDenoiser
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.prompts.chunks import chunk
from modules.request import Txt2Img
from tests.diffusion import reference
from tests.tiny import random_state, write

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' own, about numpy 2

CLOSE = 1e-5
"""Relative error in fp32; what is left is the order of additions."""


class InMemory(dict[str, Tensor]):
    """Tensors in the place of a file's `Weights`: none of them has a scale."""

    def unscaled(self, name: str) -> Tensor:
        return self[name]


@dataclass
class Model:
    """A checkpoint in memory: our networks and, made when asked for, theirs on the same weights."""

    unet_config: UNetConfig
    vae_config: VAEConfig
    text_config: TextConfig
    steps: int = 10
    """Of a whole picture; 2 and 10 both put every timestep on a whole number, where diffusers' rounding does not tell."""

    @cached_property
    def state(self) -> dict[str, Tensor]:
        return random_state(self.unet_config, self.vae_config, self.text_config, seed=11)

    @cached_property
    def ours(self) -> ModelHandle:
        """Built as the manager builds it, on the very tensors of `state`."""
        with torch.device("meta"):
            unet, vae, text = UNet(self.unet_config), AutoencoderKL(self.vae_config), TextEncoder(self.text_config)
        layout = keys.layout(self.state)
        fill = Filler(InMemory(self.state), torch.device("cpu"), "random")  # type: ignore[arg-type]
        fill(unet, layout.unet, torch.float32, "U-Net")
        fill(vae, layout.vae, torch.float32, "VAE")
        fill(text.networks, layout.text, torch.float32, "text encoder")
        info = CheckpointInfo("random", Path("random"), "random", "sd1", Defaults())
        cpu, fp32 = torch.device("cpu"), torch.float32
        return ModelHandle(
            info,
            FileHash("0" * 64),
            FAMILIES[0],
            UNetDenoiser(unet, fp32),
            CLIPPrompts(TextEncoders([text])),
            KLLatentSpace(vae, SD1_LATENT, fp32, cpu),
            DiscreteNoise(),
            cpu,
        )

    def load(self, name: str, vae: str = "Automatic", taesd: tuple[str, ...] = ()) -> ModelHandle:
        """As `ModelManager.load`."""
        return self.ours

    def random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(3))


SIZES = {
    "narrow": Model(
        UNetConfig(channels=(32, 64, 96), transformer_depth=(1, 1, 0), context_dim=128),
        VAEConfig(channels=(32, 64, 64, 96)),
        TextConfig(width=128, layers=3, heads=2, hidden=256),
    ),
    "uneven": Model(  # one block per level, attention at the lowest only
        UNetConfig(channels=(32, 64, 96), res_blocks=1, transformer_depth=(0, 0, 1), context_dim=64),
        VAEConfig(channels=(64, 64, 64, 64), res_blocks=1),
        TextConfig(width=64, layers=2, heads=1, hidden=256),
    ),
    "full width": Model(UNetConfig(), VAEConfig(), TextConfig(), steps=2),
}


@pytest.fixture(scope="module", params=["narrow", "uneven", pytest.param("full width", marks=[pytest.mark.full_width])])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    built = SIZES[request.param]
    yield built
    vars(built).pop("state", None)  # gigabytes
    vars(built).pop("ours", None)


@pytest.fixture(scope="module", params=["narrow", "uneven"])
def small(request: pytest.FixtureRequest) -> Model:
    """For what does not depend on widths: who looks at whom in attention."""
    return SIZES[request.param]


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """Without gradients, and on one thread: several spend their time waiting for each other in networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("size", [(8, 8), (9, 14)], ids=["even", "odd"])
def test_unet(model: Model, size: tuple[int, int]) -> None:
    """Two rows at different timesteps, one fractional, under contexts of two windows; also at sizes that do not halve."""
    x, context = model.random(2, 4, *size), model.random(2, 154, model.unet_config.context_dim)
    timesteps = torch.tensor([981.0, 3.25])
    theirs = reference.unet(model.unet_config, model.state)(x, timesteps, context).sample
    ours = model.ours.denoiser.unet(x, timesteps, context)
    assert reference.error(ours, theirs) < CLOSE
    assert float(theirs.std()) > 0.1, "a comparison of zeros would prove nothing"


def test_vae_decode(model: Model) -> None:
    z = model.random(2, 4, 8, 6)
    theirs = reference.vae(model.vae_config, model.state).decode(z).sample
    assert reference.error(model.ours.latent.vae.decode(z), theirs) < CLOSE
    assert float(theirs.std()) > 0.1


def test_vae_encode(model: Model) -> None:
    x = model.random(2, 3, 64, 48).clamp(-1, 1)
    theirs = reference.vae(model.vae_config, model.state).encode(x).latent_dist
    mean, logvar = model.ours.latent.vae.encode(x)
    assert reference.error(mean, theirs.mean) < CLOSE
    assert reference.error(logvar, theirs.logvar) < CLOSE
    assert float(theirs.mean.std()) > 0.1


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_text_encoder(model: Model, clip_skip: int) -> None:
    """From words to context, through transformers' own tokenizer on the other side."""
    texts = ["", "a photo of an astronaut riding a horse on mars, 4k!"]
    ids = reference.tokenizer()(texts, padding="max_length", return_tensors="pt").input_ids
    network = reference.text(model.text_config, model.state)
    hidden = network(ids, output_hidden_states=True).hidden_states[-clip_skip]
    theirs = network.final_layer_norm(hidden)
    text = model.ours.prompts.encoders
    windows = [chunk(each, text.tokenizer).windows[0] for each in texts]
    for ours, expected in zip(text.encode_chunks(windows, clip_skip), theirs, strict=True):
        assert reference.error(ours.context, expected) < CLOSE


BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def painted_by(model: Model, kind: Any, scheduler: Any, made: Mapping[str, Any] = MappingProxyType({}), **call: Any) -> Any:
    """Pixels, uint8 (H, W, 3), of a pipeline of diffusers' that is `made` with options and run with those of `call`."""
    pipeline = kind(
        vae=reference.vae(model.vae_config, model.state),
        text_encoder=reference.text(model.text_config, model.state),
        tokenizer=reference.tokenizer(),
        unet=reference.unet(model.unet_config, model.state),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **made,
    )
    pipeline.set_progress_bar_config(disable=True)
    height, width = (8 * side for side in call["latents"].shape[-2:])
    painted = pipeline(height=height, width=width, output_type="np", **call).images[0]
    return (painted * 255).round().astype(np.uint8)


def test_euler_steps_paint_the_same_picture(model: Model) -> None:
    """The whole pipeline, guidance and all, against diffusers' from the same noise: at most 1/255 on every pixel."""
    prompt, negative, scale, seed = "a red apple on a table, oil painting", "blurry, text", 7.5, 5
    request = Txt2Img(
        prompt=prompt, negative_prompt=negative, cfg_scale=scale, seed=seed, steps=model.steps, width=64, height=64,
        sampler="Euler", schedule="Uniform", checkpoint="random",
    )  # fmt: skip
    ours = run_reference(generate(stages_of(request)), model).pixels.numpy()  # type: ignore[arg-type]

    theirs = painted_by(
        model,
        StableDiffusionPipeline,
        EulerDiscreteScheduler(**BETAS, steps_offset=1),
        prompt=prompt,
        negative_prompt=negative,
        guidance_scale=scale,
        num_inference_steps=model.steps,
        latents=Noise(seed, (4, 8, 8))()[None],
    )
    assert ours.shape == theirs.shape == (64, 64, 3)
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    assert theirs.std() > 20, "a grey picture would prove nothing"
    assert len(np.unique(theirs)) > 100


def test_v_prediction_with_zero_terminal_snr_paints_the_same_picture(small: Model) -> None:
    """diffusers puts the last cumulative alpha at 2^-24 and A1111 at 4.9e-8: sigma 4096 and 4519, both all noise."""
    request = Txt2Img(
        prompt="a boat", cfg_scale=5.0, seed=2, steps=10, width=64, height=64, sampler="Euler", schedule="Uniform",
        checkpoint="random", prediction="v", zero_snr=True,
    )  # fmt: skip
    painted = run_reference(generate(stages_of(request)), small)  # type: ignore[arg-type]
    assert painted.facts == {"prediction": "v", "zero terminal SNR": "true"}, "the record says how the output was read"
    ours = painted.pixels.numpy()
    theirs = painted_by(
        small,
        StableDiffusionPipeline,
        EulerDiscreteScheduler(
            **BETAS, steps_offset=1, prediction_type="v_prediction", rescale_betas_zero_snr=True, final_sigmas_type="zero"
        ),
        prompt="a boat",
        negative_prompt="",
        guidance_scale=5.0,
        num_inference_steps=10,
        latents=Noise(2, (4, 8, 8))()[None],
    )
    plain = run_reference(generate(stages_of(request.model_copy(update={"prediction": "eps"}))), small).pixels.numpy()  # type: ignore[arg-type]
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    assert np.abs(plain.astype(int) - theirs.astype(int)).max() > 20


@pytest.mark.parametrize("cfg_scale", [1.0, 5.0])
def test_perturbed_attention_guidance_paints_the_same_picture(small: Model, cfg_scale: float) -> None:
    request = Txt2Img(
        prompt="a red apple", negative_prompt="blurry", cfg_scale=cfg_scale, seed=5, steps=10, width=128, height=96,
        sampler="Euler", schedule="Uniform", checkpoint="random", pag_scale=3.0,
    )  # fmt: skip
    ours = run_reference(generate(stages_of(request)), small).pixels.numpy()  # type: ignore[arg-type]
    theirs = painted_by(
        small,
        StableDiffusionPAGPipeline,
        EulerDiscreteScheduler(**BETAS, steps_offset=1),
        made={"pag_applied_layers": "mid"},
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        guidance_scale=cfg_scale,
        pag_scale=3.0,
        num_inference_steps=10,
        latents=Noise(5, (4, 12, 16))()[None],
    )
    without = run_reference(generate(stages_of(request.model_copy(update={"pag_scale": 0.0}))), small)  # type: ignore[arg-type]
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    assert np.abs(ours.astype(int) - without.pixels.numpy().astype(int)).max() > 10, "it makes a difference"


def test_self_attention_guidance_paints_the_same_picture(small: Model) -> None:
    """Theirs is DDIM over the levels 999, 899, ..., 99, which is Euler over those of the schedule Turbo."""
    request = Txt2Img(
        prompt="a red apple", negative_prompt="blurry", cfg_scale=5.0, seed=5, steps=10, width=128, height=96,
        sampler="Euler", schedule="Turbo", checkpoint="random", sag_scale=0.75, sag_blur=1.0, sgm_noise_multiplier=True,
    )  # fmt: skip
    ours = run_reference(generate(stages_of(request)), small).pixels.numpy()  # type: ignore[arg-type]
    theirs = painted_by(
        small,
        StableDiffusionSAGPipeline,
        DDIMScheduler(**BETAS, timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False),
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        guidance_scale=5.0,
        sag_scale=0.75,
        num_inference_steps=10,
        latents=Noise(5, (4, 12, 16))()[None],
    )
    without = run_reference(generate(stages_of(request.model_copy(update={"sag_scale": 0.0}))), small)  # type: ignore[arg-type]
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    assert np.abs(ours.astype(int) - without.pixels.numpy().astype(int)).max() > 10, "it makes a difference"


def test_a_file_gives_the_same_networks_as_its_tensors(tmp_path: Path) -> None:
    """What was compared above in memory is what the manager makes of the file."""
    model = SIZES["narrow"]
    write(tmp_path / "narrow.safetensors", model.state)
    manager = ModelManager([tmp_path], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")
    loaded = manager.load("narrow")
    assert (loaded.denoiser.unet.config, loaded.latent.vae.config, loaded.prompts.encoders.first.config) == (
        model.unet_config,
        model.vae_config,
        model.text_config,
    )
    x, context = model.random(1, 4, 8, 8), model.random(1, 77, model.unet_config.context_dim)
    ours, theirs = (network(x, torch.tensor([500.0]), context) for network in (loaded.denoiser.unet, model.ours.denoiser.unet))
    assert reference.error(ours, theirs) < CLOSE
