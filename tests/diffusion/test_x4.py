"""SD x4 upscaler against diffusers' pipeline, from one random file."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler, StableDiffusionUpscalePipeline
from PIL import Image

from modules.api.a1111.options import Chosen
from modules.api.a1111.requests import PictureBody
from modules.api.a1111.translate import asked_of
from modules.app import App
from modules.catalogue import Catalogue
from modules.checkpoints.files import scan
from modules.checkpoints.manager import ModelManager
from modules.commands.starting import starting_fields
from modules.diffusion.attention import sdpa
from modules.diffusion.noise import Noise
from modules.errors import RequestError
from modules.images.infotext import GenerationInfo, parse, render, request_fields
from modules.jobs.estimates import steps_of
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.prompts.library import Library
from modules.queue.owners import OWNER
from modules.request import Img2Img, Txt2Img
from modules.settings import Settings
from tests.diffusion import reference
from tests.scripted import ScriptedLink
from tests.sd2 import OPEN_CLIP, TEXT
from tests.tiny import TINY_TEXT, TINY_UNET, TINY_VAE, random_state, write
from tests.x4 import UNET, VAE, x4_state

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' own, about numpy 2

BETAS = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear"}
PROMPT, NEGATIVE = "a red apple on a table", "blurry"
LARGE = (96, 128)
"""Width and height of what is painted; the picture is a quarter of it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("x4")
    write(folder / "x4.safetensors", x4_state(11))
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several spend their time waiting for each other in networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def manager(folder: Path, tmp_path: Path) -> Iterator[ModelManager]:
    with torch.inference_mode():
        yield ModelManager([folder], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")


def picture(width: int = LARGE[0] // 4, height: int = LARGE[1] // 4) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def enlarged_request(**fields: Any) -> Img2Img:
    basics: dict[str, Any] = {
        "cfg_scale": 6.0, "seed": 5, "steps": 10, "width": LARGE[0], "height": LARGE[1], "checkpoint": "x4", "source": "0" * 64,
        "sampler": "Euler", "schedule": "Uniform", "prompt": PROMPT, "negative_prompt": NEGATIVE,
    }  # fmt: skip
    return Img2Img(**{**basics, **fields})


def enlarged(manager: ModelManager, given: Image.Image | None = None, **fields: Any) -> Any:
    request = enlarged_request(**fields)
    return run_reference(generate(stages_of(request), {"init": given or picture()}), manager)


def pixels(painted: Any) -> np.ndarray:
    return painted.pixels.numpy().astype(int)


@pytest.mark.parametrize("level", [20, 200])
def test_a_picture_is_enlarged_as_diffusers_does(manager: ModelManager, level: int) -> None:
    """Class of the noise level, attention to the text alone, its own betas, an autoencoder of three levels: at most 1/255."""
    state = x4_state(11)
    pipeline = StableDiffusionUpscalePipeline(
        vae=reference.vae(VAE, state, scale=0.08333),
        text_encoder=reference.penultimate_open_clip(TEXT, state, OPEN_CLIP),
        tokenizer=reference.tokenizer(pad="!"),
        unet=reference.unet(UNET, state),
        low_res_scheduler=DDPMScheduler(**BETAS),
        scheduler=EulerDiscreteScheduler(**BETAS, steps_offset=1, prediction_type="v_prediction"),
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        image=picture(),
        guidance_scale=6.0,
        num_inference_steps=10,
        noise_level=level,
        generator=torch.Generator().manual_seed(5 - 10),
        latents=Noise(5, (4, LARGE[1] // 4, LARGE[0] // 4))()[None],
        output_type="np",
    ).images[0]
    assert theirs.std() > 0.08, "a grey picture would prove nothing"
    theirs = (theirs * 255).round().astype(int)
    ours = pixels(enlarged(manager, upscaler_noise_level=level))
    assert ours.shape == theirs.shape == (LARGE[1], LARGE[0], 3)
    assert np.abs(ours - theirs).max() <= 1
    other = pixels(enlarged(manager, upscaler_noise_level=220 - level))
    assert np.abs(other - theirs).max() > 2, "the level makes a difference"


def test_the_networks_answer_as_diffusers_do(manager: ModelManager) -> None:
    """Two rows of different noise levels and timesteps in one forward, at a size that does not halve; relative error 1e-5."""
    state, model = x4_state(11), manager.load("x4")
    drawn = torch.Generator().manual_seed(3)
    x, context = torch.randn(2, 7, 9, 14, generator=drawn), torch.randn(2, 77, TEXT.width, generator=drawn)
    timesteps, levels = torch.tensor([981.0, 3.0]), torch.tensor([20, 350])
    theirs = reference.unet(UNET, state)(x, timesteps, context, class_labels=levels).sample
    ours = model.denoiser.unet(x, timesteps, context, vector=levels[:, None].float())
    assert reference.error(ours, theirs) < 1e-5
    assert float(theirs.std()) > 0.1, "a comparison of zeros would prove nothing"
    vae, z = reference.vae(VAE, state, scale=0.08333), torch.randn(1, 4, 6, 10, generator=drawn)
    assert reference.error(model.latent.decode(z), vae.decode(z / 0.08333).sample) < 1e-5
    image = torch.randn(1, 3, 24, 40, generator=drawn)
    assert reference.error(model.latent.encode(image), vae.encode(image).latent_dist.mode() * 0.08333) < 1e-5
    assert model.latent.linear_preview(z[0]).shape == (6, 10, 3), "fitted to its decoder: a pixel for each position"


def test_only_the_size_that_is_asked_for_counts(manager: ModelManager) -> None:
    """A larger picture is brought to a quarter of it first; how much of the schedule img2img runs means nothing."""
    large = picture(60, 90)
    quarter = large.resize((LARGE[0] // 4, LARGE[1] // 4), Image.Resampling.LANCZOS)
    painted = enlarged(manager, large, denoising_strength=0.3, resize_mode="Just resize (latent upscale)")
    assert painted.extras["Init image hash"] != enlarged(manager, quarter).extras["Init image hash"]
    assert np.array_equal(pixels(painted), pixels(enlarged(manager, quarter)))
    cropped = enlarged(manager, large, resize_mode="Crop and resize", color_correction=True)
    assert cropped.pixels.shape == (LARGE[1], LARGE[0], 3)
    assert not np.array_equal(pixels(painted), pixels(cropped))


def test_its_level_goes_into_the_picture_s_text_and_comes_back(manager: ModelManager) -> None:
    request = enlarged_request(upscaler_noise_level=20)
    text = render(GenerationInfo(request, "x4", "0" * 10, "Uniform", "Atelier"))
    assert "Denoising strength: 0.75, " in text
    assert "Upscaler noise level: 20, " in text
    assert request_fields(parse(text))["upscaler_noise_level"] == 20


def test_what_it_cannot_do_is_refused(manager: ModelManager) -> None:
    request = Txt2Img(checkpoint="x4", seed=1, steps=1)
    with pytest.raises(RequestError, match=r"'x4' enlarges a given picture and cannot paint from words alone; give it"):
        run_reference(generate(stages_of(request)), manager)
    with pytest.raises(RequestError, match=r"'x4' enlarges a whole picture and can neither inpaint"):
        enlarged(manager, outpaint_left=8)


def test_a_request_for_it_says_only_what_counts(folder: Path, tmp_path: Path) -> None:
    """Refused or completed when it is submitted, and quoted for all of its steps."""
    write(tmp_path / "sd1.safetensors", random_state(TINY_UNET, TINY_VAE, TINY_TEXT))
    catalogue = Catalogue([folder, tmp_path], Library(tmp_path), lambda: None)
    asked: dict[str, Any] = {"source": "0" * 64, "seed": 1, "denoising_strength": 0.3, "noise_multiplier": 0.5}
    asked |= {"upscaler_noise_level": 100}
    request = catalogue.complete({**asked, "checkpoint": "x4"})
    assert isinstance(request, Img2Img)
    assert (request.denoising_strength, request.noise_multiplier, request.upscaler_noise_level) == (1.0, 1.0, 100)
    assert (request.sampler, request.cfg_scale, steps_of(request)) == ("DDIM", 9.0, 75)
    quoted, _ = catalogue.to_quote({**asked, "checkpoint": "x4", "steps": 30})
    assert steps_of(quoted) == 30
    other = catalogue.complete({**asked, "checkpoint": "sd1"})
    assert (other.denoising_strength, other.upscaler_noise_level) == (0.3, None), "it is no matter of other checkpoints"
    assert "upscaler_noise_level" not in other.model_dump(mode="json"), "and records are as before"
    with pytest.raises(RequestError, match="'x4' enlarges a given picture and cannot paint from words alone"):
        catalogue.complete({"checkpoint": "x4"})
    with pytest.raises(RequestError, match="'x4' enlarges a whole picture and can neither inpaint a part of it nor extend it"):
        catalogue.complete({**asked, "checkpoint": "x4", "mask": "1" * 64})


def test_without_a_size_the_picture_becomes_four_times_as_large(folder: Path, tmp_path: Path) -> None:
    """However it is asked for: by a request, by A1111's API, whose sides are 512 elsewhere, and by the command line."""
    app = App(
        Settings(data_dir=tmp_path / "data", models_dirs=(folder,), outputs_dir=tmp_path / "out"), ScriptedLink(), durable=False
    )
    try:
        small, wide = (app.keep_upload(png(picture(*size)), OWNER).id for size in ((130, 100), (1024, 512)))

        def size(**fields: Any) -> tuple[int, int]:
            found = app.prepared({"checkpoint": "x4", **fields}, OWNER)
            return found.width, found.height

        assert size(source=small) == (520, 400)
        assert size(source=small, width=64, height=96) == (64, 96), "what is said counts"
        assert size(source=wide) == (2048, 1024), "as far as sides may go"
        assert size(source=wide, tiled_diffusion=True) == (4096, 2048)
        body = PictureBody(init_images=["x"], prompt="a")
        fields = asked_of(app, body, Chosen({"sd_model_checkpoint": "x4"}), {}).fields
        assert size(**{**fields, "source": small}) == (520, 400)
        picture(130, 100).save(tmp_path / "small.png")
        said = argparse.Namespace(init=tmp_path / "small.png", mask=None, source=None)
        assert size(**starting_fields(app, said, {"checkpoint": "x4"}, OWNER)) == (520, 400)
    finally:
        app.close()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_lora_changes_the_layers_that_it_fits(manager: ModelManager, folder: Path, tmp_path: Path) -> None:
    """Also the first attention of a block that attends to the text, whose keys are as wide as that."""
    place = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_k"
    drawn = torch.Generator().manual_seed(1)
    (tmp_path / "loras").mkdir()
    for name, width in (("fits", TEXT.width), ("other", 64)):
        factors = {
            "lora_down.weight": torch.randn(2, width, generator=drawn),
            "lora_up.weight": torch.randn(64, 2, generator=drawn),
        }
        write(tmp_path / "loras" / f"{name}.safetensors", {f"{place}.{part}": each for part, each in factors.items()})
    with_loras = ModelManager([folder, tmp_path], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")
    plain = pixels(enlarged(with_loras, steps=2))
    assert np.abs(pixels(enlarged(with_loras, steps=2, prompt=PROMPT + "<lora:fits:1>")) - plain).max() > 2
    other = enlarged(with_loras, steps=2, prompt=PROMPT + "<lora:other:1>")
    assert np.abs(pixels(other) - plain).max() == 0
    assert "other" in other.facts["notes"], "what does not fit is left out, and that is said"


def test_it_is_listed_with_what_it_is_best_run_with(folder: Path) -> None:
    info = scan([folder])[0]
    assert (info.family, info.problem, info.defaults.steps, info.defaults.cfg_scale) == ("x4-upscaler", "", 75, 9.0)
