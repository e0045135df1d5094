"""Weights in 8 bits: plain, and multiplied by a scale for each layer, as ComfyUI writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from modules.checkpoints import keys
from modules.checkpoints.files import scan
from modules.checkpoints.header import read_header
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.errors import CheckpointError
from modules.model_tools.layers import Model
from tests.sdxl import sdxl_state
from tests.tiny import TINY_TEXT, TINY_UNET, TINY_VAE, random_state, write

State = dict[str, Tensor]
LAYER = keys.UNET + "time_embed.0"
FORMATS = [torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def manager(folder: Path) -> Iterator[ModelManager]:
    with torch.inference_mode():
        yield ModelManager([folder], torch.device("cpu"), torch.float32, sdpa, folder / "hashes.json")


def scaled(state: State, stored: torch.dtype = torch.float8_e4m3fn) -> tuple[State, State]:
    """A file with scaled weights, and the same with what they mean in float32."""
    file: State = {
        keys.UNET + "scaled_fp8": torch.empty(2, dtype=stored),
        keys.TEXT + "scaled_fp8": torch.empty(0, dtype=stored),
    }
    meant: State = {}
    for number, (name, tensor) in enumerate(state.items()):
        linear = name.endswith(".weight") and tensor.dim() == 2 and "embedding" not in name and not name.startswith(keys.VAE)
        file[name] = meant[name] = tensor
        if linear:
            scale = torch.tensor(0.01 + 0.001 * (number % 7))
            file[name] = (tensor / scale).clamp(-400, 400).to(stored)
            file[name.removesuffix("weight") + "scale_weight"] = scale if number % 2 else scale[None]
            file[name.removesuffix("weight") + "scale_input"] = torch.tensor(1.0)
            meant[name] = file[name].float() * scale
    return file, meant


def weights(manager: ModelManager, name: str) -> list[State]:
    model = manager.load(name)
    networks = [model.denoiser.unet, model.latent.vae, *(encoder.networks for encoder in model.prompts.encoders.encoders)]
    return [network.state_dict() for network in networks]


@pytest.mark.parametrize("stored", FORMATS, ids=str)
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_scaled_weights_are_multiplied_once(stored: torch.dtype, kind: str, folder: Path, manager: ModelManager) -> None:
    """Of the U-Net and the text encoders; nothing else in such a file is taken for a tensor of a network."""
    file, meant = scaled(random_state(TINY_UNET, TINY_VAE, TINY_TEXT) if kind == "sd1" else sdxl_state(2), stored)
    write(folder / "scaled.safetensors", file)
    write(folder / "meant.safetensors", meant)
    assert [info.problem for info in scan([folder])] == ["", ""]
    assert {info.family for info in scan([folder])} == {kind}
    for ours, expected in zip(weights(manager, "scaled"), weights(manager, "meant"), strict=True):
        assert ours.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.items())
    assert keys.layout(file).unexpected == []


@pytest.mark.parametrize("stored", FORMATS, ids=str)
def test_plain_8_bit_weights_mean_what_they_say(stored: torch.dtype, folder: Path, manager: ModelManager) -> None:
    plain = {
        name: tensor.to(stored) if tensor.is_floating_point() else tensor
        for name, tensor in random_state(TINY_UNET, TINY_VAE, TINY_TEXT).items()
    }
    write(folder / "plain.safetensors", plain)
    write(folder / "meant.safetensors", {name: tensor.float() for name, tensor in plain.items()})
    for ours, expected in zip(weights(manager, "plain"), weights(manager, "meant"), strict=True):
        assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.items())


WRONG = {
    "NaN": (torch.tensor(float("nan")), "of nan, which no weight can have"),
    "infinite": (torch.tensor(float("inf")), "of inf, which no weight can have"),
    "zero": (torch.tensor(0.0), "of 0, which no weight can have"),
    "negative": (torch.tensor(-1.0), "of -1, which no weight can have"),
    "vector": (torch.ones(3), "of size 3 in F32, expected one number"),
    "integer": (torch.tensor(1), "of size 1 in I64, expected one number"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_scale_is_refused_and_what_is_loaded_stays(kind: str, folder: Path, manager: ModelManager) -> None:
    write(folder / "good.safetensors", random_state(TINY_UNET, TINY_VAE, TINY_TEXT))
    good = manager.load("good")
    scale, message = WRONG[kind]
    file, _ = scaled(random_state(TINY_UNET, TINY_VAE, TINY_TEXT))
    write(folder / "bad.safetensors", {**file, LAYER + ".scale_weight": scale})
    with pytest.raises(CheckpointError, match=f"^bad.safetensors has the scale '{LAYER}.scale_weight' {message}"):
        manager.load("bad")
    assert manager.loaded == [good]


def test_tools_refuse_them(folder: Path) -> None:
    """Merging them would add numbers of different scales."""
    path = write(folder / "scaled.safetensors", scaled(random_state(TINY_UNET, TINY_VAE, TINY_TEXT))[0])
    with pytest.raises(CheckpointError, match=r"^scaled\.safetensors has scaled 8-bit weights, which these tools do not read"):
        Model(path, read_header(path))
