"""Stable Diffusion XL against diffusers' pipeline, from one random file; and what its family adds to the engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from PIL import Image

from modules.catalogue.requests import _of_family
from modules.checkpoints.families import FAMILIES
from modules.checkpoints.files import scan
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.clip_prompts import CLIPPrompts, CLIPTexts
from modules.diffusion.conditioning import number_features
from modules.diffusion.emphasis import contexts
from modules.diffusion.noise import Noise
from modules.diffusion.text import EncodedWindow
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.prompts.chunks import EMPTY, chunk
from modules.prompts.tokenizer import Tokenizer
from modules.request import Img2Img, Txt2Img
from tests.diffusion import reference
from tests.engine.conftest import Bench
from tests.sdxl import OPEN_CLIP, TEXT, TEXT_2, UNET, VAE, sdxl_checkpoint, sdxl_state
from tests.tiny import write

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' own, about numpy 2

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdxl")
    sdxl_checkpoint(folder / "xl.safetensors", seed=11)
    return folder


@pytest.fixture
def manager(folder: Path, tmp_path: Path) -> Iterator[ModelManager]:
    with torch.inference_mode():
        yield ModelManager([folder], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")


def request(**fields: Any) -> Txt2Img:
    basics = {"cfg_scale": 7.0, "seed": 5, "steps": 10, "width": 64, "height": 64, "checkpoint": "xl"}
    return Txt2Img(**{**basics, "sampler": "Euler", "schedule": "Uniform", **fields})


def painted(manager: ModelManager, **fields: Any) -> np.ndarray:
    return run_reference(generate(stages_of(request(**fields))), manager).pixels.numpy().astype(int)


def _pipeline(state: dict[str, torch.Tensor]) -> StableDiffusionXLPipeline:
    pipeline = StableDiffusionXLPipeline(
        vae=reference.vae(VAE, state, scale=0.13025),
        text_encoder=reference.text(TEXT, state),
        text_encoder_2=reference.open_clip(TEXT_2, state, OPEN_CLIP),
        tokenizer=reference.tokenizer(),
        tokenizer_2=reference.tokenizer(pad="!"),
        unet=reference.unet(UNET, state),
        scheduler=EulerDiscreteScheduler(**BETAS, steps_offset=1),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(
    ("negative", "size"), [("blurry, text", (64, 64)), ("", (96, 64))], ids=["square", "wide, without a negative prompt"]
)
def test_sdxl_paints_the_same_picture_as_diffusers(manager: ModelManager, negative: str, size: tuple[int, int]) -> None:
    """Both encoders, pooled text, sizes, sliced OpenCLIP weights and the latent's scale: at most 1/255 on every pixel."""
    state, (width, height) = sdxl_state(seed=11), size
    prompt = "a red apple on a table, oil painting"
    ours = painted(manager, prompt=prompt, negative_prompt=negative, width=width, height=height)
    theirs = _pipeline(state)(
        prompt=prompt,
        negative_prompt=negative or None,
        guidance_scale=7.0,
        num_inference_steps=10,
        width=width,
        height=height,
        latents=Noise(5, (4, height // 8, width // 8))()[None],
        output_type="np",
    ).images[0]
    theirs = (theirs * 255).round().astype(int)
    assert ours.shape == theirs.shape == (height, width, 3)
    assert np.abs(ours - theirs).max() <= 1
    assert theirs.std() > 20, "a grey picture would prove nothing"


def test_original_size_and_crop_are_what_diffusers_makes_of_them(manager: ModelManager) -> None:
    """At most 1/255 on every pixel; and each of them makes a difference."""
    state, (width, height) = sdxl_state(seed=11), (96, 64)
    told = {"original_width": 512, "original_height": 384, "crop_left": 32, "crop_top": 96}
    asked = {"prompt": "a red apple", "negative_prompt": "blurry", "steps": 4, "width": width, "height": height}
    ours = painted(manager, **asked, **told)
    theirs = _pipeline(state)(
        prompt="a red apple",
        negative_prompt="blurry",
        guidance_scale=7.0,
        num_inference_steps=4,
        width=width,
        height=height,
        original_size=(384, 512),
        crops_coords_top_left=(96, 32),
        target_size=(height, width),
        latents=Noise(5, (4, height // 8, width // 8))()[None],
        output_type="np",
    ).images[0]
    assert np.abs(ours - (theirs * 255).round().astype(int)).max() <= 1
    for name in told:
        assert np.abs(ours - painted(manager, **asked, **{**told, name: 0})).max() > 1, name


def test_rows_with_different_sizes_and_crops_share_forwards(manager: ModelManager) -> None:
    bench = Bench(manager)
    wanted: dict[str, dict[str, Any]] = {"a": {"crop_top": 64, "original_width": 1024}, "b": {}}
    manager.load("xl")
    for task, fields in wanted.items():
        bench.submit(task, user=task, checkpoint="xl", steps=3, **fields)
    bench.run()
    assert bench.engine.runner.forwards < 6, "some of their three steps each were shared"
    for task, fields in wanted.items():
        assert np.abs(bench.pixels(task) - bench.alone(checkpoint="xl", steps=3, **fields)).max() <= 1


def test_numbers_are_a_refiner_s_scores_and_the_picture_s_own_size_where_nothing_is_said() -> None:
    def told(names: tuple[str, ...], score: float, **fields: Any) -> list[float]:
        texts = CLIPTexts(CLIPPrompts(None, numbers=names), request(width=96, **fields), {}, (), {}, {})  # type: ignore[arg-type]
        found = texts._numbers(score)
        assert tuple(name for name, _ in found) == names
        return [value for _, value in found]

    sizes = ("height", "width", "top", "left", "target height", "target width")
    assert told(sizes, 6.0) == [64, 96, 0, 0, 64, 96]
    assert told(sizes, 6.0, original_height=700, crop_left=8) == [700, 96, 0, 8, 64, 96]
    assert told(("height", "width", "top", "left", "score"), 2.5, crop_top=3) == [64, 96, 3, 0, 2.5]


def test_other_families_forget_what_only_sdxl_is_told(folder: Path, tmp_path: Path) -> None:
    sdxl, sd1 = (FAMILIES.find(name) for name in ("sdxl", "sd1"))
    asked = request(crop_top=8, original_width=512, aesthetic_score=7.0)
    assert _of_family(asked, sdxl) == asked
    assert _of_family(asked, sd1) == request()


def test_prompts_of_several_users_share_forwards(manager: ModelManager) -> None:
    """Each row brings its own vector; together they are what each is alone."""
    bench = Bench(manager)
    wanted = {"a": {"prompt": "a cat", "steps": 3}, "b": {"prompt": "a red apple", "negative_prompt": "blue", "steps": 4}}
    for task, fields in wanted.items():
        bench.submit(task, user=task, checkpoint="xl", **fields)
    bench.run()
    for task, fields in wanted.items():
        assert np.abs(bench.pixels(task) - bench.alone(checkpoint="xl", **fields)).max() <= 1
    assert bench.engine.runner.forwards < 7, "three of the seven steps were shared"


def test_a_picture_from_a_picture_and_a_preview(manager: ModelManager) -> None:
    given = Image.new("RGB", (64, 64), (200, 60, 30))
    fields = request(prompt="a cat").model_dump()
    wanted = Img2Img(**{**fields, "source": "0" * 64, "denoising_strength": 0.0})
    same = run_reference(generate(stages_of(wanted), {"init": given}), manager).pixels.numpy().astype(int)
    model = manager.load("xl")
    assert np.abs(same - _through(model, given)).max() <= 1, "through the family's own latent space"
    assert model.latent.linear_preview(torch.zeros(4, 8, 8)).shape == (8, 8, 3)


def _through(model: Any, picture: Any) -> np.ndarray:
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    mean, _ = model.latent.vae.encode(pixels)
    out = model.latent.vae.decode(mean)[0].clamp(-1, 1)
    return ((out + 1) * 127.5).round().permute(1, 2, 0).numpy().astype(int)


def test_an_empty_negative_prompt_is_no_text_and_clip_skip_changes_nothing(manager: ModelManager) -> None:
    plain = painted(manager, prompt="a cat", steps=3)
    assert np.array_equal(plain, painted(manager, prompt="a cat", steps=3, clip_skip=4))
    assert np.abs(plain - painted(manager, prompt="a cat", steps=3, negative_prompt=" ,")).max() > 5


def test_sizes_are_height_and_width_of_the_original_the_crop_and_the_target() -> None:
    features = number_features([64, 96, 0, 0, 64, 96], torch.device("cpu")).view(6, 256)
    angles = np.exp(-np.log(10_000) * np.arange(128) / 128)[None] * np.array([64, 96, 0, 0, 64, 96])[:, None]
    assert np.allclose(features.numpy(), np.concatenate([np.cos(angles), np.sin(angles)], axis=1), atol=1e-5)


def test_weights_keep_the_mean_of_each_encoder_by_itself() -> None:
    """A1111 brings every encoder's columns back to their own mean; the pooled text stays that of the first window."""
    words = chunk("a (red:1.5) apple " + "and more " * 60, Tokenizer(), "Original").windows
    generator = torch.Generator().manual_seed(1)
    encoded = {
        part: EncodedWindow(torch.rand(77, 10, generator=generator) + 1, torch.rand(3, generator=generator))
        for part in dict.fromkeys([EMPTY, *(window.bare for window in words)])
    }
    (joined,) = contexts([words], encoded, "Original", (4, 6))
    assert joined.context.shape == (77 * len(words), 10)
    assert len(words) == 2
    assert joined.vector is encoded[words[0].bare].pooled
    plain = encoded[words[0].bare].context
    for columns in (slice(0, 4), slice(4, 10)):
        mine = joined.context[:77, columns]
        assert torch.allclose(mine.mean(), plain[:, columns].mean())
        weighted = plain[:, columns] * torch.tensor(words[0].multipliers)[:, None]
        assert torch.allclose(mine, weighted * (plain[:, columns].mean() / weighted.mean()), rtol=1e-5)


def test_files_say_what_they_are_and_what_they_lack(folder: Path, tmp_path: Path) -> None:
    (info,) = scan([folder])
    assert (info.family, info.problem, info.defaults.cfg_scale) == ("sdxl", "", 6.0)
    state = sdxl_state()
    write(tmp_path / "half.safetensors", {name: t for name, t in state.items() if not name.startswith(OPEN_CLIP)})
    write(tmp_path / "torn.safetensors", {name: t for name, t in state.items() if "resblocks.1.attn.in_proj_bias" not in name})
    write(tmp_path / "wide.safetensors", {**state, "model.diffusion_model.label_emb.0.0.weight": torch.zeros(256, 1792)})
    said = {info.name: info.problem for info in scan([tmp_path])}
    assert "has no OpenCLIP text encoder" in said["half"]
    assert "of its OpenCLIP text encoder; the file is incomplete" in said["torn"]
    assert "gives 1664 numbers of pooled text and sizes to a U-Net that expects 1792" in said["wide"]
