"""What was distilled or trained further from SDXL, against diffusers: refiner, SSD-1B's form, Playground 2.5, CosXL, edits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInstructPix2PixPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from torch import Tensor

from modules.checkpoints import keys
from modules.checkpoints.files import scan
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.noise import Noise
from modules.diffusion.prediction import ContinuousNoise
from modules.diffusion.unet import UNet
from modules.errors import CheckpointError
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.request import Img2Img, Txt2Img
from tests.diffusion import reference
from tests.sdxl import (
    OPEN_CLIP,
    REFINER_OPEN_CLIP,
    REFINER_TEXT,
    REFINER_UNET,
    TEXT,
    TEXT_2,
    UNET,
    VAE,
    refiner_state,
    sdxl_state,
)
from tests.tiny import randomised, write

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' own, about numpy 2

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PROMPT, NEGATIVE = "a red apple on a table, oil painting", "blurry, text"

DISTILLED = {
    "SSD-1B": replace(UNET, middle_depth=0, middle_res_blocks=1, output_depth=(1, 2, 3, 2, 1, 1, 0, 0, 0)),
    "KOALA": replace(UNET, res_blocks=1, middle_depth=0, middle_res_blocks=0),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several spend their time waiting for each other in networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def manager(folder: Path) -> Iterator[ModelManager]:
    with torch.inference_mode():
        yield ModelManager([folder], torch.device("cpu"), torch.float32, sdpa, folder / "hashes.json")


def painted(manager: ModelManager, kind: type[Txt2Img] = Txt2Img, pictures: Any = None, **fields: Any) -> np.ndarray:
    basics = {"cfg_scale": 7.0, "seed": 5, "steps": 10, "width": 64, "height": 64, "checkpoint": "xl"}
    request = kind(
        **{**basics, "sampler": "Euler", "schedule": "Uniform", "prompt": PROMPT, "negative_prompt": NEGATIVE, **fields}
    )
    return run_reference(generate(stages_of(request), pictures or {}), manager).pixels.numpy().astype(int)


def pipeline(kind: Any, state: dict[str, Tensor], scheduler: Any, unet: Any = UNET, vae: Any = None, **made: Any) -> Any:
    if "text_encoder_2" not in made:
        made["text_encoder"] = reference.text(TEXT, state)
        made["text_encoder_2"] = reference.open_clip(TEXT_2, state, OPEN_CLIP)
        made["tokenizer"] = reference.tokenizer()
    built = kind(
        vae=vae or reference.vae(VAE, state, scale=0.13025),
        tokenizer_2=reference.tokenizer(pad="!"),
        unet=reference.unet(unet, state),
        scheduler=scheduler,
        add_watermarker=False,
        **made,
    )
    built.set_progress_bar_config(disable=True)
    return built


def pixels(answer: Any) -> np.ndarray:
    assert answer.images[0].std() > 0.08, "a grey picture would prove nothing"
    return np.asarray((answer.images[0] * 255).round()).astype(int)


CALL: dict[str, Any] = {
    "prompt": PROMPT,
    "negative_prompt": NEGATIVE,
    "guidance_scale": 7.0,
    "num_inference_steps": 10,
    "output_type": "np",
}


@pytest.mark.parametrize("name", DISTILLED)
def test_distilled_networks_paint_the_same_picture(name: str, folder: Path, manager: ModelManager) -> None:
    config = DISTILLED[name]
    state = sdxl_state(seed=11, unet=config)
    write(folder / "xl.safetensors", state)
    assert scan([folder])[0].problem == ""
    ours = painted(manager)
    theirs = pipeline(StableDiffusionXLPipeline, state, EulerDiscreteScheduler(**BETAS, steps_offset=1), unet=config)
    assert np.abs(ours - pixels(theirs(latents=Noise(5, (4, 8, 8))()[None], width=64, height=64, **CALL))).max() <= 1


def test_the_refiner_goes_on_with_a_picture_as_diffusers_does(folder: Path, manager: ModelManager) -> None:
    """OpenCLIP alone, and an aesthetic score of 6 beside the prompt and 2.5 beside the negative one."""
    state = refiner_state(seed=11)
    write(folder / "xl.safetensors", state)
    given = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    ours = painted(manager, Img2Img, {"init": given}, source="0" * 64, denoising_strength=1.0)
    refiner = pipeline(
        StableDiffusionXLImg2ImgPipeline, state, EulerDiscreteScheduler(**BETAS, steps_offset=1), unet=REFINER_UNET,
        text_encoder=None, tokenizer=None, text_encoder_2=reference.open_clip(REFINER_TEXT, state, REFINER_OPEN_CLIP),
        requires_aesthetics_score=True,
    )  # fmt: skip
    scheduler = refiner.scheduler
    scheduler.set_timesteps(10)
    encoded = refiner.vae.encode(refiner.image_processor.preprocess(given)).latent_dist.mode() * 0.13025
    begun = encoded + Noise(5, (4, 8, 8))()[None] * scheduler.sigmas[0]
    theirs = refiner(image=given, strength=1.0, latents=begun, original_size=(64, 64), target_size=(64, 64), **CALL)
    assert np.abs(ours - pixels(theirs)).max() <= 1


@pytest.mark.parametrize(("at", "by_steps"), [(0.8, False), (0.3, False), (0.5, True)])
def test_the_refiner_takes_over_in_the_loop_as_diffusers_does(
    at: float, by_steps: bool, folder: Path, manager: ModelManager
) -> None:
    """Its two pipelines one after the other: the base ends at this share, and the refiner starts there from its latents."""
    base, refining = sdxl_state(seed=11), refiner_state(seed=12)
    refining |= {name: tensor for name, tensor in base.items() if name.startswith(keys.VAE)}
    write(folder / "xl.safetensors", base)
    write(folder / "refiner.safetensors", refining)
    ours = painted(manager, refiner="refiner", refiner_switch_at=at, refiner_by_steps=by_steps)
    begun = pipeline(StableDiffusionXLPipeline, base, EulerDiscreteScheduler(**BETAS, steps_offset=1))
    refiner = pipeline(
        StableDiffusionXLImg2ImgPipeline, refining, EulerDiscreteScheduler(**BETAS, steps_offset=1), unet=REFINER_UNET,
        text_encoder=None, tokenizer=None, text_encoder_2=reference.open_clip(REFINER_TEXT, refining, REFINER_OPEN_CLIP),
        requires_aesthetics_score=True,
    )  # fmt: skip
    start = Noise(5, (4, 8, 8))()[None]
    latents = begun(latents=start, width=64, height=64, denoising_end=at, **{**CALL, "output_type": "latent"}).images
    size = {"original_size": (64, 64), "target_size": (64, 64)}
    theirs = pixels(refiner(image=latents, denoising_start=at, **size, **CALL))
    assert np.abs(ours - theirs).max() <= 1
    difference = np.abs(painted(manager) - theirs).max()
    assert difference > 2, "the refiner makes a difference"


@pytest.mark.parametrize("kind", ["playground", "cosxl"])
def test_continuous_noise_levels_paint_the_same_picture(kind: str, folder: Path, manager: ModelManager) -> None:
    """diffusers' EDM scheduler has the levels of Karras et al. and starts at sqrt(sigma^2 + 1), we at sigma."""
    state = sdxl_state(seed=11)
    if kind == "playground":
        marks = {"edm_mean": torch.zeros(1, 4, 1, 1), "edm_std": torch.ones(1, 4, 1, 1)}
        scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
        vae = reference.vae(VAE, state, scale=0.5)
        vae.register_to_config(latents_mean=[-1.6574, 1.886, -1.383, 2.5155], latents_std=[8.4927, 5.9022, 6.5498, 5.2299])
    else:
        marks = {"edm_vpred.sigma_max": torch.tensor(100.0)}
        scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=100.0, sigma_data=1.0, prediction_type="v_prediction")
        vae = reference.vae(VAE, state, scale=0.13025)
    write(folder / "xl.safetensors", {**state, **marks})
    ours = painted(manager, schedule="Karras")
    top = float(scheduler.config.sigma_max)
    latents = Noise(5, (4, 8, 8))()[None] * top / (top**2 + 1) ** 0.5
    theirs = pipeline(StableDiffusionXLPipeline, state, scheduler, vae=vae)
    assert np.abs(ours - pixels(theirs(latents=latents, width=64, height=64, **CALL))).max() <= 1


@pytest.mark.parametrize("scaled", [False, True], ids=["InstructPix2Pix", "CosXL"])
def test_a_picture_is_edited_as_diffusers_does(scaled: bool, folder: Path, manager: ModelManager) -> None:
    """Eight channels: the picture's latent as the autoencoder gives it (CosXL: scaled), and a guidance of its own."""
    config = replace(UNET, in_channels=8)
    state = sdxl_state(seed=11, unet=config)
    marks = {"edm_vpred.sigma_max": torch.tensor(120.0)} if scaled else {}
    write(folder / "xl.safetensors", {**state, **marks})
    assert scan([folder])[0].family == ("cosxl-edit" if scaled else "sdxl-edit")
    given = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    fields = {"source": "0" * 64, "denoising_strength": 1.0, "image_cfg_scale": 1.5}
    ours = painted(manager, Img2Img, {"init": given}, schedule="Karras" if scaled else "Uniform", **fields)
    if scaled:
        scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=120.0, sigma_data=1.0, prediction_type="v_prediction")
    else:
        scheduler = EulerDiscreteScheduler(**BETAS, steps_offset=1)
    editing = pipeline(StableDiffusionXLInstructPix2PixPipeline, state, scheduler, unet=config, is_cosxl_edit=scaled)
    scheduler.set_timesteps(10)
    encoded = editing.vae.encode(editing.image_processor.preprocess(given)).latent_dist.mode() * 0.13025
    # Ours begins with the noised picture, as img2img does; theirs scales what it is given
    begun = (encoded + Noise(5, (4, 8, 8))()[None] * scheduler.sigmas[0]) / scheduler.init_noise_sigma
    theirs = editing(image=given, image_guidance_scale=1.5, latents=begun, width=64, height=64, **CALL)
    assert np.abs(ours - pixels(theirs)).max() <= 1


# ---- noise levels


@pytest.mark.parametrize("v", [False, True])
def test_the_true_output_gives_the_clean_latent(v: bool) -> None:
    """Output F with denoised = c_skip x + c_out F, Karras et al. (2022), table 1; v of CosXL is minus that with data 1."""
    noise = ContinuousNoise(0.002, 80.0, 1.0 if v else 0.5, v)
    generator = torch.Generator().manual_seed(0)
    clean, drawn = torch.randn(2, 3, 4, 8, 6, generator=generator, dtype=torch.float64)
    sigma = torch.tensor([0.01, 1.0, 70.0], dtype=torch.float64)
    level = sigma[:, None, None, None]
    x, data = clean + level * drawn, noise.data
    c_skip, c_out = data**2 / (level**2 + data**2), level * data / (level**2 + data**2).sqrt()
    output = (clean - c_skip * x) / c_out * (-1 if v else 1)
    assert torch.allclose(noise.denoised(output, x, sigma), clean)
    assert noise.model_timestep(4.0) == pytest.approx(0.25 * np.log(4.0))
    assert (noise.trained.sigma_min, noise.trained.sigma_max) == (pytest.approx(0.002), pytest.approx(80.0))
    scaled = noise.scale_input(data * clean + level * drawn, sigma)
    assert torch.allclose(scaled.std(dim=(1, 2, 3)), torch.ones(3, dtype=torch.float64), atol=0.1)
    assert noise.read_as("v", True, False) is noise


@pytest.mark.parametrize("level", [0.0, 0.001, 1e9])
def test_impossible_noise_levels_are_refused(level: float, folder: Path, manager: ModelManager) -> None:
    write(folder / "xl.safetensors", {**sdxl_state(), "edm_vpred.sigma_max": torch.tensor(level)})
    with pytest.raises(CheckpointError, match="which cannot be; use another file"):
        manager.load("xl")


def test_weights_of_distilled_networks_are_named_as_diffusers_names_them() -> None:
    """Their converter takes ours: a name too many or too few is an error in `reference.unet`."""
    for config in DISTILLED.values():
        state = {f"model.diffusion_model.{name}": each for name, each in randomised(UNet(config)).state_dict().items()}
        linear = {name: each[:, :, 0, 0] if "proj_in.weight" in name or "proj_out.weight" in name else each
                  for name, each in state.items()}  # fmt: skip
        assert reference.unet(config, linear).config.cross_attention_dim == config.context_dim
