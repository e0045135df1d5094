"""Stable Diffusion 2.x against diffusers' pipeline, from one random file; and how its files tell what they predict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from torch import Tensor

from modules.checkpoints.files import scan
from modules.checkpoints.header import read_header
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.small_tensors import read_numbers
from modules.diffusion.attention import sdpa
from modules.diffusion.noise import Noise
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.request import Txt2Img
from tests.diffusion import reference
from tests.engine.conftest import Bench
from tests.sd2 import OPEN_CLIP, TEXT, UNET, V_SPREAD, VAE, sd2_state
from tests.tiny import write

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' own, about numpy 2

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd2")
    write(folder / "base.safetensors", sd2_state(11))
    write(folder / "768-v.safetensors", {name: tensor.half() for name, tensor in sd2_state(11, v=True).items()})
    write(folder / "v32.safetensors", sd2_state(11, v=True))
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


def painted(manager: ModelManager, **fields: Any) -> np.ndarray:
    basics = {"cfg_scale": 6.0, "seed": 5, "steps": 10, "width": 64, "height": 96, "sampler": "Euler", "schedule": "Uniform"}
    request = Txt2Img(**{**basics, **fields})
    return run_reference(generate(stages_of(request)), manager).pixels.numpy().astype(int)


def theirs(state: dict[str, Tensor], prediction: str) -> np.ndarray:
    pipeline = StableDiffusionPipeline(
        vae=reference.vae(VAE, state),
        text_encoder=reference.penultimate_open_clip(TEXT, state, OPEN_CLIP),
        tokenizer=reference.tokenizer(pad="!"),
        unet=reference.unet(UNET, state),
        scheduler=EulerDiscreteScheduler(**BETAS, steps_offset=1, prediction_type=prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    painted = pipeline(
        prompt="a red apple, oil painting",
        negative_prompt="blurry",
        guidance_scale=6.0,
        num_inference_steps=10,
        width=64,
        height=96,
        latents=Noise(5, (4, 12, 8))()[None],
        output_type="np",
    ).images[0]
    return np.asarray((painted * 255).round()).astype(int)


@pytest.mark.parametrize(("name", "prediction"), [("base", "epsilon"), ("v32", "v_prediction")])
def test_sd_2_paints_the_same_picture_as_diffusers(manager: ModelManager, name: str, prediction: str) -> None:
    """The encoder's last layer but one, heads 64 wide, linear projections, and what the network predicts: at most 1/255."""
    ours = painted(manager, checkpoint=name, prompt="a red apple, oil painting", negative_prompt="blurry")
    expected = theirs(sd2_state(11, v=name == "v32"), prediction)
    assert np.abs(ours - expected).max() <= 1
    assert expected.std() > 20, "a grey picture would prove nothing"
    assert np.array_equal(ours, painted(manager, checkpoint=name, prompt="a red apple, oil painting", negative_prompt="blurry",
                                        clip_skip=3)), "clip skip changes nothing"  # fmt: skip


def test_files_say_what_they_predict_and_at_which_size(folder: Path, tmp_path: Path) -> None:
    listed = {info.name: info for info in scan([folder])}
    sizes = {name: (info.family, info.problem, info.defaults.width, info.defaults.height) for name, info in listed.items()}
    assert sizes == {"base": ("sd2", "", 512, 512), "768-v": ("sd2", "", 768, 768), "v32": ("sd2", "", 768, 768)}


def test_a_yaml_beside_the_file_goes_before_its_weights(folder: Path, tmp_path: Path) -> None:
    state = sd2_state(11, v=True)
    write(tmp_path / "said.safetensors", state)
    assert scan([tmp_path])[0].defaults.width == 768
    (tmp_path / "said.yaml").write_text("model:\n  params:\n    parameterization: eps\n")
    assert scan([tmp_path])[0].defaults.width == 512
    with torch.inference_mode():
        manager = ModelManager([tmp_path], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")
        assert manager.load("said").noise.facts == {}
    (tmp_path / "said.yaml").unlink()
    assert scan([tmp_path])[0].defaults.width == 768


def test_several_users_share_forwards(manager: ModelManager) -> None:
    bench = Bench(manager)
    wanted = {"a": {"prompt": "a cat", "steps": 3}, "b": {"prompt": "a red apple", "negative_prompt": "blue", "steps": 4}}
    for task, fields in wanted.items():
        bench.submit(task, user=task, checkpoint="base", **fields)
    bench.run()
    for task, fields in wanted.items():
        assert np.abs(bench.pixels(task) - bench.alone(checkpoint="base", **fields)).max() <= 1
    assert bench.engine.runner.forwards < 7, "three of the seven steps were shared"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_numbers_of_a_small_tensor_are_read_without_torch(dtype: torch.dtype, tmp_path: Path) -> None:
    values = torch.tensor([0.5, -1.25, 3e-3, 1000.0]).to(dtype)
    path = write(tmp_path / "a.safetensors", {"x": torch.ones(3), "model_ema.decay": torch.ones(1), V_SPREAD: values})
    assert read_numbers(read_header(path), path, V_SPREAD) == tuple(values.tolist())


@pytest.mark.parametrize(
    "values", [torch.full((2,), torch.nan), torch.ones(2, dtype=torch.int64), torch.ones(30_000)], ids=["nan", "int", "large"]
)
def test_other_tensors_tell_nothing(values: Tensor, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {V_SPREAD: values})
    header = read_header(path)
    assert read_numbers(header, path, V_SPREAD) == ()
    assert read_numbers(header, path, "another") == ()
    path.write_bytes(path.read_bytes()[:-1])
    assert read_numbers(header, path, V_SPREAD) == ()
