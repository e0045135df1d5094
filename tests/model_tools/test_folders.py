"""Folders in diffusers' layout as sources: the tools make of them what they make of the single file, in its layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from modules.checkpoints.files import scan
from modules.errors import CheckpointError, RequestError
from modules.model_tools.places import Places
from modules.model_tools.requests import parse
from tests import sd2, sdxl, x4
from tests.checkpoints.test_diffusers_folders import refiner_pipeline, sd1_pipeline, sd2_pipeline, sdxl_pipeline, x4_pipeline
from tests.model_tools.conftest import Do
from tests.tiny import TINY_TEXT, TINY_UNET, TINY_VAE, random_state, write

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' own, about numpy 2

KINDS: dict[str, tuple[Callable[[], dict[str, Tensor]], Callable[[Any], Any], str]] = {
    "sd1": (lambda: random_state(TINY_UNET, TINY_VAE, TINY_TEXT), sd1_pipeline, "sd1"),
    "sd2": (lambda: sd2.sd2_state(3), lambda state: sd2_pipeline(state, prediction_type="v_prediction"), "sd2"),
    "sdxl": (lambda: sdxl.sdxl_state(3), sdxl_pipeline, "sdxl"),
    "refiner": (lambda: sdxl.refiner_state(3), refiner_pipeline, "sdxl-refiner"),
    "x4": (lambda: x4.x4_state(3), x4_pipeline, "x4-upscaler"),
}
NOT_IN_FOLDERS = ("position_ids", "logit_scale", "denoiser.", "low_scale_model.", "betas")
"""Parts of names of tensors that diffusers leaves out, as no network needs them."""


def saved(models: Path, kind: str, name: str = "folder", change: float = 0.0) -> dict[str, Tensor]:
    """A folder with the networks of a random checkpoint; its state under the single file's names."""
    state, made, _ = KINDS[kind]
    tensors = {name: tensor + change if "to_q.weight" in name and change else tensor for name, tensor in state().items()}
    made(tensors).save_pretrained(models / name, max_shard_size="8MB")
    return tensors


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_converted_to_the_published_layout(kind: str, models: Path, do: Do) -> None:
    """Every tensor of the single file that diffusers keeps, under its name and in its shape, to the bit."""
    state = saved(models, kind)
    work = do(tool="convert", file="folder")
    found = load_file(models / "folder.safetensors")
    expected = {name: tensor for name, tensor in state.items() if not any(part in name for part in NOT_IN_FOLDERS)}
    if kind in ("sd2", "x4"):  # transformers' encoder lacks the last layer, which is not read, and the projection
        expected = {n: t for n, t in expected.items() if "resblocks.2." not in n and "text_projection" not in n}
        assert {n for n in found if "resblocks.2." in n} == {n for n in state if "resblocks.2." in n}
        found = {n: t for n, t in found.items() if "resblocks.2." not in n}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    info = next(info for info in scan([models]) if info.path == models / "folder.safetensors")
    assert (info.family, info.problem) == (KINDS[kind][2], "")
    with safe_open(models / "folder.safetensors", "pt") as file:
        said = file.metadata()
    assert said.get("modelspec.prediction_type") == ("v" if kind in ("sd2", "x4") else "epsilon")
    assert json.loads(said["atelier.recipe"])["sources"]["file"]["file"] == "folder"
    assert any("checkpoint with" in note for note in work.notes)


def test_folders_are_merged_and_made_loras_of_as_single_files_are(models: Path, do: Do) -> None:
    """A folder with a single file, in either order, and the difference of two folders."""
    one, two = saved(models, "sdxl", "one"), saved(models, "sdxl", "two", change=0.01)
    write(models / "single.safetensors", two)
    do(tool="merge", a="one", b="single", multiplier=0.25, output="mixed")
    do(tool="merge", a="single", b="one", multiplier=0.75, output="turned")
    mixed, turned = load_file(models / "mixed.safetensors"), load_file(models / "turned.safetensors")
    changed = [name for name in mixed if not torch.equal(one[name], two[name])]
    assert changed
    for name in changed:
        assert torch.allclose(mixed[name], one[name] + 0.25 * (two[name] - one[name]), atol=1e-6), name
        assert torch.allclose(turned[name], mixed[name], atol=1e-6), name
    with safe_open(models / "mixed.safetensors", "pt") as file:
        merged = json.loads(file.metadata()["sd_merge_models"])
    assert sorted(each["name"] for each in merged.values()) == ["one", "single.safetensors"]

    do(tool="extract", base="one", tuned="two", rank=8, output="by-folders")
    do(tool="extract", base="one", tuned="single", rank=8, output="by-file")
    loras = [load_file(models / "loras" / f"{name}.safetensors") for name in ("by-folders", "by-file")]
    assert loras[0].keys() == loras[1].keys() != set()
    assert all(torch.equal(loras[0][name], loras[1][name]) for name in loras[0])
    do(tool="bake", checkpoint="one", loras=[{"name": "by-folders"}], output="baked")
    baked = load_file(models / "baked.safetensors")
    for name in changed:
        assert torch.allclose(baked[name], two[name], atol=2e-3), name
    do(tool="merge-loras", loras=[{"name": "by-folders"}, {"name": "by-file"}], checkpoint="two", output="both")


def test_folders_that_cannot_be_used_are_refused_in_words(models: Path, tmp_path: Path, do: Do) -> None:
    saved(models, "sd1")
    (each,) = Places([models]).diffusers()
    assert (each.name, each.converted) == ("folder", False)
    do(tool="convert", file="folder")
    assert Places([models]).diffusers()[0].converted
    with pytest.raises(RequestError, match=r"there is a file folder\.safetensors already"):
        do(tool="convert", file="folder")
    with pytest.raises(RequestError, match=r"'nothing'"):
        do(tool="convert", file="nothing")
    for name in ("../models/folder", str(models / "folder")):
        with pytest.raises(RequestError, match="is not here"):
            do(tool="convert", file=name)
    order = Places([tmp_path], by_path=True).order(
        parse({"tool": "convert", "file": str(models / "folder"), "replace": True}), "run", tmp_path / "hashes.json"
    )
    assert order.target == models / "folder.safetensors"
    next((models / "folder" / "unet").glob("*.safetensors")).unlink()
    with pytest.raises(CheckpointError, match=r"^folder lacks"):
        do(tool="merge", a="folder", b="a", output="torn")
