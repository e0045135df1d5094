"""Autoencoders in files of their own: found, listed, refused, and in the picture and its text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL as TheirAutoencoder
from safetensors.torch import load_file
from torch import Tensor

from modules.checkpoints import keys
from modules.checkpoints.files import scan
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.vaes import find_vae, scan_vaes
from modules.diffusion.attention import sdpa
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from modules.errors import CheckpointError, UnknownName
from modules.pipelines.generate import Painted, generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.request import Txt2Img
from tests.engine.conftest import Bench
from tests.tiny import TINY_VAE, randomised, tiny_checkpoint, write

State = Mapping[str, Tensor]


def vae_state(seed: int = 5, config: VAEConfig = TINY_VAE) -> dict[str, Tensor]:
    return dict(randomised(AutoencoderKL(config), seed).state_dict())


def diffusers_state(state: State, config: VAEConfig = TINY_VAE) -> dict[str, Tensor]:
    """By their own model's names: weights go by shape and place, outputs are compared by the test that uses it."""
    levels = len(config.channels)
    network = TheirAutoencoder(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.channels,
        layers_per_block=config.res_blocks,
        latent_channels=config.latent_channels,
        norm_num_groups=32,
    )
    drawn = {name: state_like(tensor, number) for number, (name, tensor) in enumerate(network.state_dict().items())}
    network.load_state_dict(drawn)
    return dict(network.state_dict())


def state_like(tensor: Tensor, number: int) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    values = torch.randn(tensor.shape, generator=generator)
    return values * 0.1 + 1 if tensor.ndim == 1 else values * (tensor.numel() / tensor.shape[0]) ** -0.5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models" / "vae").mkdir(parents=True)
    tiny_checkpoint(tmp_path / "models" / "tiny.safetensors")
    return tmp_path / "models"


@pytest.fixture
def manager(folder: Path, tmp_path: Path) -> Iterator[ModelManager]:
    with torch.inference_mode():
        yield ModelManager([folder], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")


def painted(manager: ModelManager, **fields: Any) -> Painted:
    basics = {"prompt": "a cat", "seed": 5, "steps": 2, "width": 64, "height": 64, "checkpoint": "tiny", "sampler": "Euler"}
    return run_reference(generate(stages_of(Txt2Img(**{**basics, **fields}))), manager)


def with_prefix(prefix: str, state: State) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("prefix", ["", "first_stage_model.", "vae.", "state_dict."], ids=["bare", "ldm", "vae", "wrapped"])
def test_a_picture_is_decoded_by_the_chosen_file(prefix: str, folder: Path, manager: ModelManager) -> None:
    """As a checkpoint with this autoencoder in it paints, to the bit; its name and hash stand in the text."""
    plain = painted(manager)
    state = vae_state()
    path = write(folder / "vae" / "nice.safetensors", with_prefix(prefix, state))
    checkpoint = {
        name: tensor for name, tensor in _tensors(folder / "tiny.safetensors").items() if not name.startswith(keys.VAE)
    }
    write(folder / "merged.safetensors", {**checkpoint, **with_prefix(keys.VAE, state)})
    other = painted(manager, vae="nice.safetensors")
    assert np.array_equal(other.pixels.numpy(), painted(manager, checkpoint="merged").pixels.numpy())
    assert not np.array_equal(other.pixels.numpy(), plain.pixels.numpy())
    assert other.extras == {"VAE": "nice.safetensors", "VAE hash": hashlib.sha256(path.read_bytes()).hexdigest()[:10]}
    assert plain.extras == {}


def test_diffusers_names_are_read(folder: Path, manager: ModelManager) -> None:
    state = diffusers_state(vae_state())
    write(folder / "vae" / "theirs.safetensors", state)
    handle = manager.load("tiny", "theirs")
    network = TheirAutoencoder(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=TINY_VAE.channels,
        layers_per_block=TINY_VAE.res_blocks,
        latent_channels=4,
        norm_num_groups=32,
    )
    network.load_state_dict(state)
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    theirs = network.eval().decode(latent / 0.18215).sample
    assert torch.allclose(handle.latent.decode(latent), theirs, atol=1e-4)
    assert theirs.std() > 0.1


def test_a_file_beside_the_checkpoint_goes_before_its_own_unless_none_is_asked_for(folder: Path, manager: ModelManager) -> None:
    plain = painted(manager)
    write(folder / "tiny.vae.safetensors", vae_state())
    assert [info.name for info in scan([folder])] == ["tiny"], "it is no checkpoint"
    assert [info.name for info in scan_vaes([folder])] == ["tiny.vae.safetensors"]
    beside = painted(manager)
    assert beside.extras["VAE"] == "tiny.vae.safetensors"
    assert not np.array_equal(beside.pixels.numpy(), plain.pixels.numpy())
    assert np.array_equal(painted(manager, vae="None").pixels.numpy(), plain.pixels.numpy())


def test_pictures_with_different_autoencoders_share_evaluations_of_the_network(folder: Path, manager: ModelManager) -> None:
    write(folder / "vae" / "nice.safetensors", vae_state())
    for vae in ("Automatic", "nice"):
        manager.load("tiny", vae)
    bench = Bench(manager)
    wanted = {"a": {"prompt": "a cat"}, "b": {"prompt": "a dog", "vae": "nice.safetensors"}}
    for task, fields in wanted.items():
        bench.submit(task, user=task, checkpoint="tiny", steps=3, **fields)
    bench.run()
    assert bench.engine.runner.forwards < 6, "some of their three steps each were shared"
    for task, fields in wanted.items():
        assert np.abs(bench.pixels(task) - bench.alone(checkpoint="tiny", steps=3, **fields)).max() <= 1


def test_a_replaced_file_is_another_autoencoder_and_a_kept_one_is_the_same(folder: Path, manager: ModelManager) -> None:
    path = write(folder / "vae" / "nice.safetensors", vae_state())
    first = manager.load("tiny", "nice")
    assert manager.load("tiny", "NICE.safetensors") is first
    assert manager.holds(first)
    assert first.network is manager.load("tiny")
    write(path.with_name("new.tmp"), vae_state(6))
    path.with_name("new.tmp").replace(path)
    assert manager.load("tiny", "nice") is not first
    components = {id(component.network) for component in manager.cache.components}
    assert {id(first.network.denoiser.unet)} <= components, "the U-Net was not loaded again"
    assert len([one for one in manager.cache.components if "unet" in one.key]) == 1


def _tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path)


# ---- refusals


def test_what_cannot_be_used_says_why_and_what_is_loaded_stays(folder: Path, manager: ModelManager) -> None:
    good = manager.load("tiny")
    vae = folder / "vae"
    write(vae / "torn.safetensors", {name: each for name, each in vae_state().items() if name != "decoder.conv_out.bias"})
    write(vae / "wide.safetensors", vae_state(config=VAEConfig(channels=(32, 32, 32, 32), res_blocks=1, latent_channels=16)))
    write(vae / "short.safetensors", vae_state(config=VAEConfig(channels=(32, 32), res_blocks=1)))
    (vae / "text.safetensors").write_text("<html>not found</html>")
    said = {info.name: info.problem for info in scan_vaes([folder])}
    assert "lacks the tensor 'decoder.conv_out.bias' of its VAE" in said["torn.safetensors"]
    assert said["text.safetensors"].startswith("text.safetensors ")
    assert (said["wide.safetensors"], said["short.safetensors"]) == ("", "")
    for name, message in {
        "torn": "torn.safetensors lacks",
        "wide": "wide.safetensors does not fit: it has 16 latent channels and 4 levels, this checkpoint's latents have 4",
        "short": "short.safetensors does not fit: it has 4 latent channels and 2 levels",
        "text": "text.safetensors",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            manager.load("tiny", name)
    with pytest.raises(UnknownName, match=r"VAE 'gone' is not here.*Automatic, None, short\.safetensors, wide\.safetensors"):
        find_vae([folder], "gone")
    assert manager.load("tiny") is good
