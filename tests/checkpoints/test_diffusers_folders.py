"""Checkpoints in diffusers' layout: the single file's picture to the bit, and one sentence for what is torn."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionUpscalePipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from safetensors.torch import load_file, save_file

from modules.api.a1111.models import title
from modules.checkpoints import diffusers_folder, sources
from modules.checkpoints.files import find, scan
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.errors import CheckpointError
from modules.model_library.described import describe, stamp
from modules.model_library.facts import header_metadata
from modules.model_library.survey import models_in, survey
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.request import Img2Img, Txt2Img
from tests import sd2, sdxl, x4
from tests.diffusion import reference
from tests.tiny import TINY_TEXT, TINY_UNET, TINY_VAE, random_state, write

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' own, about numpy 2

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
Saved = Callable[..., Path]


def sd1_pipeline(state: Any, **scheduler: Any) -> Any:
    return StableDiffusionPipeline(
        vae=reference.vae(TINY_VAE, state),
        text_encoder=reference.text(TINY_TEXT, state),
        tokenizer=reference.tokenizer(),
        unet=reference.unet(TINY_UNET, state),
        scheduler=EulerDiscreteScheduler(**BETAS, **scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd2_pipeline(state: Any, **scheduler: Any) -> Any:
    return StableDiffusionPipeline(
        vae=reference.vae(sd2.VAE, state),
        text_encoder=reference.penultimate_open_clip(sd2.TEXT, state, sd2.OPEN_CLIP),
        tokenizer=reference.tokenizer(pad="!"),
        unet=reference.unet(sd2.UNET, state),
        scheduler=EulerDiscreteScheduler(**BETAS, **scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl_pipeline(state: Any, unet: Any = sdxl.UNET, **scheduler: Any) -> Any:
    return StableDiffusionXLPipeline(
        vae=reference.vae(sdxl.VAE, state, scale=0.13025),
        text_encoder=reference.text(sdxl.TEXT, state),
        text_encoder_2=reference.open_clip(sdxl.TEXT_2, state, sdxl.OPEN_CLIP),
        tokenizer=reference.tokenizer(),
        tokenizer_2=reference.tokenizer(pad="!"),
        unet=reference.unet(unet, state),
        scheduler=EulerDiscreteScheduler(**BETAS, **scheduler),
        add_watermarker=False,
    )


def x4_pipeline(state: Any, **scheduler: Any) -> Any:
    betas = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear"}
    return StableDiffusionUpscalePipeline(
        vae=reference.vae(x4.VAE, state, scale=0.08333),
        text_encoder=reference.penultimate_open_clip(sd2.TEXT, state, sd2.OPEN_CLIP),
        tokenizer=reference.tokenizer(pad="!"),
        unet=reference.unet(x4.UNET, state),
        low_res_scheduler=DDPMScheduler(**betas),
        scheduler=DDIMScheduler(**betas, prediction_type="v_prediction"),
    )


def refiner_pipeline(state: Any) -> Any:
    return StableDiffusionXLPipeline(
        vae=reference.vae(sdxl.VAE, state, scale=0.13025),
        text_encoder=None,
        text_encoder_2=reference.open_clip(sdxl.REFINER_TEXT, state, sdxl.REFINER_OPEN_CLIP),
        tokenizer=None,
        tokenizer_2=reference.tokenizer(pad="!"),
        unet=reference.unet(sdxl.REFINER_UNET, state),
        scheduler=EulerDiscreteScheduler(**BETAS),
        add_watermarker=False,
    )


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of SD 1.x that tests copy: all networks in shards."""
    folder = tmp_path_factory.mktemp("made") / "tiny-v1.5"
    sd1_pipeline(random_state(TINY_UNET, TINY_VAE, TINY_TEXT)).save_pretrained(folder, max_shard_size="1MB")
    return folder


@pytest.fixture
def models(tmp_path: Path, tiny_folder: Path) -> Path:
    folder = tmp_path / "models" / "tiny-v1.5"
    for file in (each for each in tiny_folder.rglob("*") if each.is_file()):
        target = folder / file.relative_to(tiny_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return tmp_path / "models"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ModelManager]:
    (tmp_path / "models").mkdir(exist_ok=True)
    with torch.inference_mode():
        yield ModelManager([tmp_path / "models"], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json", keep=2)


def halved(state: Any) -> Any:
    """Stored in half precision: weights that are used where the file is mapped lie at odd places, and a CPU's kernels round by
    where numbers lie."""
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def painted(manager: ModelManager, checkpoint: str, **fields: Any) -> np.ndarray:
    basics = {"prompt": "a red apple", "negative_prompt": "blurry", "seed": 5, "steps": 2, "width": 64, "height": 64}
    request = Txt2Img(**{**basics, "sampler": "Euler", "schedule": "Uniform", "checkpoint": checkpoint, **fields})
    pixels = run_reference(generate(stages_of(request)), manager).pixels.numpy()
    assert pixels.std() > 10, "a grey picture would prove nothing"
    return pixels


def distilled() -> tuple[Any, ...]:
    from tests.diffusion.test_sdxl_kin import DISTILLED

    return tuple(DISTILLED.items())


def test_sd_1_paints_as_its_single_file(models: Path, manager: ModelManager) -> None:
    state = halved(random_state(TINY_UNET, TINY_VAE, TINY_TEXT))
    write(models / "single.safetensors", state)
    shutil.rmtree(models / "tiny-v1.5")
    sd1_pipeline(state).save_pretrained(models / "tiny-v1.5", max_shard_size="1MB")
    assert len(list((models / "tiny-v1.5" / "unet").glob("*.safetensors"))) > 2, "shards"
    assert np.array_equal(painted(manager, "tiny-v1.5"), painted(manager, "single"))
    assert np.array_equal(painted(manager, "tiny-v1.5", clip_skip=2), painted(manager, "single", clip_skip=2))


@pytest.mark.parametrize("v", [False, True], ids=["epsilon", "v"])
def test_sd_2_paints_as_its_single_file(v: bool, tmp_path: Path, manager: ModelManager) -> None:
    """The scheduler's configuration says what is predicted; the spread that tells it of single files is the other one's."""
    state = halved(sd2.sd2_state(3, v=not v))
    said = "v_prediction" if v else "epsilon"
    write(tmp_path / "models" / "single.safetensors", state, {"modelspec.prediction_type": said})
    (tmp_path / "models" / "single.yaml").write_text(f'model:\n  params:\n    parameterization: "{"v" if v else "eps"}"\n')
    sd2_pipeline(state, prediction_type=said).save_pretrained(tmp_path / "models" / "folder", max_shard_size="20MB")
    folder, single = scan([tmp_path / "models"])
    assert (folder.family, folder.defaults, folder.problem) == ("sd2", single.defaults, "")
    assert np.array_equal(painted(manager, "folder"), painted(manager, "single"))


@pytest.mark.parametrize("kind", ["base", "refiner", "SSD-1B", "KOALA"])
def test_sdxl_paints_as_its_single_file(kind: str, tmp_path: Path, manager: ModelManager) -> None:
    if kind == "refiner":
        state, made = halved(sdxl.refiner_state(3)), refiner_pipeline
    else:
        unet = dict(distilled()).get(kind, sdxl.UNET)
        state, made = halved(sdxl.sdxl_state(3, unet)), lambda state: sdxl_pipeline(state, unet)
    write(tmp_path / "models" / "single.safetensors", state)
    made(state).save_pretrained(tmp_path / "models" / "folder", max_shard_size="8MB")
    folder, single = scan([tmp_path / "models"])
    assert folder.problem == ""
    assert (folder.family, folder.problem, folder.defaults) == (single.family, "", single.defaults)
    assert np.array_equal(painted(manager, "folder"), painted(manager, "single"))


def test_the_upscaler_enlarges_as_its_single_file(tmp_path: Path, manager: ModelManager) -> None:
    state = halved(x4.x4_state(3))
    write(tmp_path / "models" / "single.safetensors", state)
    x4_pipeline(state).save_pretrained(tmp_path / "models" / "folder", max_shard_size="2MB")
    index = json.loads((tmp_path / "models" / "folder" / "model_index.json").read_text())
    assert index["low_res_scheduler"] == ["diffusers", "DDPMScheduler"]
    folder, single = scan([tmp_path / "models"])
    assert (folder.family, folder.problem, folder.defaults) == ("x4-upscaler", "", single.defaults)
    given = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 16, 3), dtype=np.uint8))
    fields = {"prompt": "a cat", "seed": 5, "steps": 2, "width": 64, "height": 96, "source": "0" * 64, "sampler": "DDIM"}
    pictures = []
    for name in ("folder", "single"):
        request = Img2Img(checkpoint=name, **fields)
        pictures.append(run_reference(generate(stages_of(request), {"init": given}), manager).pixels.numpy())
    assert pictures[0].std() > 10
    assert np.array_equal(*pictures)


def test_a_folder_is_one_checkpoint_by_its_own_name(models: Path, tmp_path: Path) -> None:
    (info,) = scan([models])
    assert (info.name, info.path, info.family, info.problem) == ("tiny-v1.5", models / "tiny-v1.5", "sd1", "")
    assert find([models], "TINY-V1.5").path == find([models], "tiny-v1.5 [0123456789]").path == info.path
    (info,) = scan([models / "tiny-v1.5"])
    assert info.name == "tiny-v1.5"
    weights = list(info.path.rglob("*.safetensors"))
    assert sources.size_of(info.path) == sum(file.stat().st_size for file in weights)


def test_the_list_of_models_and_other_programs_see_one_file(models: Path) -> None:
    """Its notes lie beside it under its whole name, whatever points are in it."""
    (models / "tiny-v1.5.json").write_text('{"notes": "mine"}')
    (models / "tiny-v1.json").write_text('{"notes": "of another"}')
    (found,) = models_in(survey([models]), [models])
    assert (found.kind, found.name, found.path, found.notes) == (
        "checkpoint",
        "tiny-v1.5",
        models / "tiny-v1.5",
        "tiny-v1.5.json",
    )
    said = describe(found)
    assert (said.problem, said.size, said.width) == ("", sources.size_of(found.path), 32)
    assert header_metadata(found)["modelspec.prediction_type"] == "epsilon"
    assert title(scan([models])[0], "6ce0161689b3853a") == "tiny-v1.5 [6ce0161689]"
    before = stamp(found)
    os.utime(next((models / "tiny-v1.5" / "unet").glob("*.safetensors")), ns=(1, 1))
    assert stamp(found) != before


def test_its_hash_is_of_sha256sums_lines_and_finds_it(models: Path, tmp_path: Path, manager: ModelManager) -> None:
    folder = models / "tiny-v1.5"
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.safetensors"))
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert manager.load("tiny-v1.5").hash.value() == expected
    assert find([models], expected[:10], tmp_path / "hashes.json").path == folder
    shard = folder / names[0]
    save_file({name: tensor * 2 for name, tensor in load_file(shard).items()}, shard)
    assert manager.load("tiny-v1.5").hash.value() != expected


def test_a_replaced_shard_is_another_model_and_the_old_one_goes_on(models: Path, manager: ModelManager) -> None:
    old = manager.load("tiny-v1.5")
    assert manager.load("tiny-v1.5") is old
    before = painted(manager, "tiny-v1.5")
    shard = next((models / "tiny-v1.5" / "unet").glob("*00001-of*.safetensors"))
    save_file({name: tensor * 1.5 for name, tensor in load_file(shard).items()}, models / "new.part")
    (models / "new.part").replace(shard)
    assert manager.load("tiny-v1.5") is not old
    assert not np.array_equal(painted(manager, "tiny-v1.5"), before)
    lease = manager.lease(old)
    assert {component.leases for component in old.components} == {1}
    lease.release()


def test_zero_terminal_snr_and_v_are_read_of_the_scheduler(models: Path, manager: ModelManager) -> None:
    config = models / "tiny-v1.5" / "scheduler" / "scheduler_config.json"
    plain = manager.load("tiny-v1.5").noise
    said = json.loads(config.read_text())
    config.write_text(json.dumps({**said, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}))
    assert manager.load("tiny-v1.5").noise == plain.read_as("v", True, False)
    config.write_text(json.dumps({**said, "prediction_type": "sample"}))
    assert scan([models])[0].problem == (
        "tiny-v1.5 has a scheduler_config.json with prediction_type 'sample'; epsilon and v_prediction are known"
    )


@pytest.mark.parametrize(
    "index", ["model.safetensors.index.fp16.json", "model.safetensors.fp16.index.json"], ids=["dotted last", "legacy"]
)
def test_an_fp16_variant_is_read_where_full_precision_is_not_there(index: str, models: Path, manager: ModelManager) -> None:
    part = models / "tiny-v1.5" / "text_encoder"
    full = painted(manager, "tiny-v1.5")
    mapped = json.loads((part / "model.safetensors.index.json").read_text())
    halves = {}
    for name, file in mapped["weight_map"].items():
        halves[name] = file.replace("model-", "model.fp16-") if "index.fp16" in index else file.replace(".safe", ".fp16.safe")
    for file in set(mapped["weight_map"].values()):
        tensors = load_file(part / file)
        half = halves[next(iter(tensors))]
        save_file({name: tensor.half() for name, tensor in tensors.items()}, part / half)
    (part / index).write_text(json.dumps({**mapped, "weight_map": halves}))
    assert np.array_equal(painted(manager, "tiny-v1.5"), full), "full precision goes before"
    (part / "model.safetensors.index.json").unlink()
    assert not np.array_equal(painted(manager, "tiny-v1.5"), full)
    assert {file.name for file in diffusers_folder.weight_files(models / "tiny-v1.5")["text_encoder"]} == set(halves.values())


def test_text_encoders_with_and_without_their_first_level(models: Path, manager: ModelManager) -> None:
    """transformers before 5.6 writes `text_model.` in front of every name."""
    part = models / "tiny-v1.5" / "text_encoder"
    before = painted(manager, "tiny-v1.5")
    tensors = {name: tensor for file in part.glob("*.safetensors") for name, tensor in load_file(file).items()}
    bare = any(name.startswith("text_model.") for name in tensors)
    other = {name.removeprefix("text_model.") if bare else f"text_model.{name}": tensor for name, tensor in tensors.items()}
    save_file(other, part / "model.safetensors")
    assert np.array_equal(painted(manager, "tiny-v1.5"), before)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def no_pickle(folder: Path) -> None:
    for file in (folder / "vae").glob("*.safetensors*"):
        file.unlink()
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"PK\x03\x04")


def without(folder: Path, part: str) -> None:
    for file in (folder / part).iterdir():
        file.unlink()


def said(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


FIRST = "unet/diffusion_pytorch_model-00001-of-"
TORN: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated shard": (
        lambda f: cut(next(f.glob(FIRST + "*"))),
        r"F/unet/diffusion_pytorch_model-00001-of-\d+.safetensors ends",
    ),
    "missing shard": (lambda f: next(f.glob(FIRST + "*")).unlink(), r"F lacks the shard unet/.*-00001-of-.* of its U-Net"),
    "no VAE": (lambda f: without(f, "vae"), r"F lacks its VAE: there is no vae/diffusion_pytorch_model\.safetensors; download"),
    "no VAE in the index": (lambda f: said(f, "model_index.json", vae=[None, None]), r"F has no VAE by its model_index\.json"),
    "no text encoder": (lambda f: said(f, "model_index.json", text_encoder=[None, None]), r"F has no text encoder by"),
    "pickles": (
        no_pickle,
        r"F/vae has its weights only as a pickle.*webui\.py models convert F/vae/diffusion_pytorch_model\.bin",
    ),
    "no index": (lambda f: next(f.glob("unet/*.index.json")).unlink(), r"F/unet has shards such as .* without their index"),
    "index without a map": (
        lambda f: next(f.glob("unet/*.index.json")).write_text('{"weight_map": [1]}'),
        r"F/unet/.*index\.json has no weight_map",
    ),
    "shard elsewhere": (
        lambda f: said(f, "unet/diffusion_pytorch_model.safetensors.index.json", weight_map={"a": "../vae/x.safetensors"}),
        r"F lacks the shard unet/\.\./vae/x\.safetensors",
    ),
    "index no JSON": (
        lambda f: (f / "model_index.json").write_text("[" * 100_000),
        r"F/model_index\.json is not a JSON object",
    ),
    "another scale": (
        lambda f: said(f, "vae/config.json", scaling_factor=0.13025),
        r"F has a VAE with scaling_factor 0\.13025",
    ),
    "another kind": (
        lambda f: said(f, "model_index.json", prior=["diffusers", "PriorTransformer"]),
        r"F is a diffusers folder of a StableDiffusionPipeline, with parts that this version does not know \(prior\)",
    ),
    "SD 2.x depth": (
        lambda f: said(f, "model_index.json", depth_estimator=["transformers", "DPTForDepthEstimation"]),
        r"F is an SD 2\.x depth checkpoint in diffusers' layout; it paints along a depth map",
    ),
    "unCLIP": (
        lambda f: said(f, "model_index.json", image_normalizer=["stable_diffusion", "StableUnCLIPImageNormalizer"]),
        r"F is an unCLIP checkpoint in diffusers' layout; it varies a picture by its CLIP embedding",
    ),
    "unknown tensor": (
        lambda f: _with_tensor(f, "time_embedding.cond_proj.weight"),
        r"F has a U-Net with tensors that this version does not know \('time_embedding\.cond_proj\.weight'\)",
    ),
    "lacking tensor": (lambda f: _without_tensor(f, "conv_out.bias"), r"F lacks the tensor 'out\.2\.bias' of its U-Net"),
    "twice": (lambda f: _twice(f), r"F has the tensor '.*' in two shards of its U-Net"),
}


def _shard(folder: Path, name: str) -> Path:
    index = json.loads((folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").read_text())
    return folder / "unet" / index["weight_map"][name]


def _with_tensor(folder: Path, name: str) -> None:
    path = _shard(folder, "conv_out.bias")
    save_file({**load_file(path), name: torch.zeros(4)}, path)


def _without_tensor(folder: Path, name: str) -> None:
    path = _shard(folder, name)
    save_file({other: tensor for other, tensor in load_file(path).items() if other != name}, path)


def _twice(folder: Path) -> None:
    one, *_, other = sorted((folder / "unet").glob("*.safetensors"))
    save_file({**load_file(other), **load_file(one)}, other)


@pytest.mark.parametrize("kind", TORN)
def test_what_is_torn_is_refused_and_what_is_loaded_stays(kind: str, models: Path, manager: ModelManager) -> None:
    write(models / "good.safetensors", random_state(TINY_UNET, TINY_VAE, TINY_TEXT))
    good = manager.load("good")
    tear, message = TORN[kind]
    tear(models / "tiny-v1.5")
    with pytest.raises(CheckpointError, match="^" + message.replace("F", r"tiny-v1\.5")) as refused:
        manager.load("tiny-v1.5")
    assert "\n" not in str(refused.value)
    problem = next(info.problem for info in scan([models]) if info.name == "tiny-v1.5")
    assert problem == str(refused.value)
    assert manager.loaded == [good]


def test_a_file_that_is_replaced_while_the_folder_is_read_is_refused(
    models: Path, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard, opened = next((models / "tiny-v1.5").glob(FIRST + "*")), sources.open_model

    def late(path: Path) -> Any:
        os.utime(shard, ns=(1, 1))
        return opened(path)

    assert not scan([models])[0].problem
    monkeypatch.setattr(sources, "open_model", late)
    with pytest.raises(CheckpointError, match=r"^tiny-v1\.5 changed while it was read"):
        manager.load("tiny-v1.5")
    assert manager.loaded == []
