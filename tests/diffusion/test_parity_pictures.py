"""Pictures from pictures against diffusers' pipelines on the same random weights: img2img, inpainting with 4 and with 9
channels, editing with 8.

Their autoencoder draws its latents at random; here both sides take the mean.  Strengths differ by name only: theirs of 0.5
begins at step 5 of 10, where A1111's count begins for 0.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
)
from PIL import Image

from modules.checkpoints.families import FAMILIES
from modules.checkpoints.handle import ModelHandle
from modules.diffusion.noise import Noise
from modules.diffusion.samplers import SAMPLERS
from modules.pipelines.generate import _Around, _denoised, _part, _Progress, generate
from modules.pipelines.init import Init, concat_init, init_of_region
from modules.pipelines.ops import Program, decode
from modules.pipelines.prompting import prompted
from modules.pipelines.reference import run_reference
from modules.pipelines.region import region_of
from modules.pipelines.stages import stages_of
from modules.pipelines.wrappers import Run
from modules.request import Img2Img, parse_request
from tests.diffusion import reference
from tests.diffusion.test_parity import BETAS, SIZES, Model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # diffusers' own

WORDS = {"prompt": "a red apple on a table", "negative_prompt": "blurry, text"}
STEPS = 10


@dataclass
class Wider(Model):
    """The narrow model with a U-Net of more input channels, as families of that width are."""

    channels: int = 4

    @cached_property
    def ours(self) -> ModelHandle:
        family = next(family for family in FAMILIES if family.in_channels == self.channels)
        return replace(super().ours, family=family)


def of_width(channels: int) -> Wider:
    narrow = SIZES["narrow"]
    unet = replace(narrow.unet_config, in_channels=channels)
    return Wider(unet, narrow.vae_config, narrow.text_config, channels=channels)


@pytest.fixture(autouse=True)
def quietly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without gradients, on one thread; and their autoencoder gives the mean."""
    for pipeline in (StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionInstructPix2PixPipeline):
        monkeypatch.setitem(
            pipeline.__call__.__wrapped__.__globals__,
            "retrieve_latents",
            lambda encoded, generator=None, sample_mode="": encoded.latent_dist.mode(),
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


def theirs(model: Model, kind: Any, **call: Any) -> np.ndarray:
    pipeline = kind(
        vae=reference.vae(model.vae_config, model.state),
        text_encoder=reference.text(model.text_config, model.state),
        tokenizer=reference.tokenizer(),
        unet=reference.unet(model.unet_config, model.state),
        scheduler=EulerDiscreteScheduler(**BETAS, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    painted = pipeline(**WORDS, guidance_scale=5.0, num_inference_steps=STEPS, output_type="np", **call).images[0]
    return (painted * 255).round().astype(int)


def request(**fields: Any) -> Img2Img:
    basics = {"seed": 5, "steps": STEPS, "cfg_scale": 5.0, "width": 96, "height": 64, "sampler": "Euler", "schedule": "Uniform"}
    made = parse_request({**WORDS, **basics, "checkpoint": "random", "source": "0" * 64, **fields})
    assert isinstance(made, Img2Img)
    return made


def source() -> Image.Image:
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.integers(0, 255, (8, 12, 3), dtype=np.uint8)).resize((96, 64), Image.Resampling.BICUBIC)


def mask() -> Image.Image:
    """Its edges lie where latent positions meet, so that nobody's resampling shows."""
    drawn = np.zeros((64, 96), np.uint8)
    drawn[16:48, 24:72] = 255
    return Image.fromarray(drawn)


def close(ours: np.ndarray, expected: np.ndarray) -> bool:
    assert ours.shape == expected.shape
    assert expected.std() > 20, "a grey picture would prove nothing"
    return bool(np.abs(ours.astype(int) - expected.astype(int)).max() <= 1)


def test_img2img_is_theirs() -> None:
    model = of_width(4)
    ours = run_reference(generate(stages_of(request(denoising_strength=0.4)), {"init": source()}), model)  # type: ignore[arg-type]
    expected = theirs(
        model,
        StableDiffusionImg2ImgPipeline,
        image=source(),
        strength=0.5,
        generator=torch.Generator().manual_seed(5),
    )
    assert close(ours.pixels.numpy(), expected)


def test_inpainting_with_four_channels_is_theirs_within_the_mask() -> None:
    """They blend the noised source into x after each step, we the source into the denoised x: one and the same for an ODE."""
    model = of_width(4)
    fields = {"mask": "1" * 64, "denoising_strength": 0.4, "mask_blur_x": 0, "mask_blur_y": 0}
    ours = run_reference(generate(stages_of(request(**fields)), {"init": source(), "mask": mask()}), model).pixels.numpy()  # type: ignore[arg-type]
    expected = theirs(
        model,
        StableDiffusionInpaintPipeline,
        image=source(),
        mask_image=mask(),
        strength=0.5,
        height=64,
        width=96,
        generator=torch.Generator().manual_seed(5),
    )
    inside = np.asarray(mask()) > 0
    assert close(ours[inside], expected[inside])
    assert (ours[~inside] == np.asarray(source())[~inside]).all()
    assert (expected[~inside] != np.asarray(source())[~inside]).any(), "theirs goes through the autoencoder everywhere"


def from_noise(model: Wider, asked: Img2Img) -> Program[Any]:
    """The parts of our pipeline with a start of noise alone and no blend: what their pipelines do at full strength."""
    handle, (stage,) = model.ours, stages_of(asked)
    region = region_of(asked, source(), mask() if asked.mask else None, (64, 64), 8)
    words = yield from prompted(handle, asked, SAMPLERS["Euler"])
    init = yield from init_of_region(handle, asked, region)
    words = yield from concat_init(handle, asked, region, init, words)
    nothing = Init(torch.zeros_like(init.latent), init.shown)
    part = yield from _part(stage, handle, "Uniform", SAMPLERS["Euler"])
    run = Run(stage, handle, SAMPLERS["Euler"], part.sigmas)
    around = _Around(lambda guidance: words.guided(handle, guidance()), run, frozenset())
    latent = yield from _denoised(around, nothing, part, _Progress(handle, 0, 1, 0, 0))
    pixels = yield from decode(handle, latent)
    return SimpleNamespace(pixels=pixels)


def test_the_nine_channels_of_an_inpainting_model_are_theirs() -> None:
    model = of_width(9)
    asked = request(mask="1" * 64, denoising_strength=1.0, mask_blur_x=0, mask_blur_y=0)
    ours = run_reference(from_noise(model, asked), model).pixels.numpy()  # type: ignore[arg-type]
    call = {"image": source(), "mask_image": mask(), "strength": 1.0, "height": 64, "width": 96}
    noise = Noise(5, (4, 8, 12))()[None]
    expected = theirs(model, StableDiffusionInpaintPipeline, latents=noise, **call)
    assert close(ours, expected)
    elsewhere = theirs(
        model,
        StableDiffusionInpaintPipeline,
        latents=noise,
        **{**call, "mask_image": mask().rotate(180).crop((24, 0, 120, 64))},
    )
    assert np.abs(elsewhere - expected).max() > 10, "the mask matters to this network"


@pytest.mark.parametrize("image_scale", [1.0, 1.5, 3.0])
def test_an_editing_model_is_guided_by_picture_and_words_as_theirs(image_scale: float) -> None:
    model = of_width(8)
    asked = request(denoising_strength=1.0, image_cfg_scale=image_scale)
    ours = run_reference(from_noise(model, asked), model).pixels.numpy()  # type: ignore[arg-type]
    expected = theirs(
        model,
        StableDiffusionInstructPix2PixPipeline,
        image=source(),
        image_guidance_scale=image_scale,
        latents=Noise(5, (4, 8, 12))()[None],
    )
    assert close(ours, expected)
