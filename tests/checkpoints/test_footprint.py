"""What is said of memory before anything is loaded is what the networks take: their weights, and their tensors alive at once.

The networks run on the meta device, where tensors have sizes and no memory; what is alive is counted as it comes and goes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modules.checkpoints import footprint
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.sizes import UNetSizes, VAESizes
from modules.diffusion import tiles
from modules.diffusion.attention import sdpa
from modules.diffusion.taesd import TinyDecoder, TinyEncoder
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from tests.sdxl import REFINER_UNET, sdxl_checkpoint
from tests.sdxl import UNET as NARROW_SDXL
from tests.sdxl import VAE as NARROW_SDXL_VAE
from tests.tiny import TINY_UNET, TINY_VAE, tiny_checkpoint

SDXL = UNetConfig(
    channels=(320, 640, 1280),
    transformer_depth=(0, 2, 10),
    middle_depth=10,
    context_dim=2048,
    heads=0,
    head_width=64,
    vector_width=2816,
)
SSD_1B = UNetConfig(
    channels=(320, 640, 1280),
    transformer_depth=(0, 2, 4),
    middle_depth=0,
    middle_res_blocks=1,
    output_depth=(4, 4, 10, 2, 1, 1, 0, 0, 0),
    context_dim=2048,
    heads=0,
    head_width=64,
    vector_width=2816,
)
REFINER = UNetConfig(
    channels=(384, 768, 1536, 1536),
    transformer_depth=(0, 4, 4, 0),
    middle_depth=4,
    context_dim=1280,
    heads=0,
    head_width=64,
    vector_width=2560,
)


class Alive(TorchDispatchMode):
    """Counts the numbers of the tensors that are made within, and the most of them that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.most = 0, 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (key := (storage := tensor.untyped_storage())._cdata) not in self._known:
                self._known[key] = storage.nbytes() // tensor.element_size()
                self.now += self._known[key]
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._gone, key)
        return out

    def _gone(self, key: int) -> None:
        self.now -= self._known.pop(key)


def flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention that makes no score matrix."""
    return torch.empty_like(q)


@torch.inference_mode()
def measured(make: Callable[[], Callable[[], object]]) -> int:
    with torch.device("meta"):
        run = make()
        with Alive() as alive:
            run()
    return alive.most


@pytest.mark.parametrize(
    "config",
    [UNetConfig(), UNetConfig(in_channels=9), SDXL, SSD_1B, REFINER, TINY_UNET, NARROW_SDXL, REFINER_UNET],
    ids=["SD 1.x", "inpaint", "SDXL", "SSD-1B", "refiner", "tiny", "narrow SDXL", "narrow refiner"],
)
@pytest.mark.parametrize(("rows", "height", "width"), [(1, 64, 64), (2, 48, 96)])
def test_a_forward_takes_what_is_said(config: UNetConfig, rows: int, height: int, width: int) -> None:
    def make() -> Callable[[], object]:
        network = UNet(config, flash)
        vector = torch.empty(rows, config.vector_width) if config.vector_width else None
        x, context = torch.empty(rows, config.in_channels, height, width), torch.empty(rows, 77, config.context_dim)
        return lambda: network(x, torch.empty(rows), context, None, vector)

    sizes = UNetSizes(
        *(config.in_channels, config.out_channels, config.channels, config.res_blocks, config.transformer_depth),
        *(config.middle_depth, config.context_dim, config.vector_width, config.output_depth, config.middle_res_blocks),
    )
    said = footprint.row_peak(sizes) * rows * height * width
    assert said == pytest.approx(measured(make), rel=0.03)


@pytest.mark.parametrize("config", [VAEConfig(), TINY_VAE, NARROW_SDXL_VAE], ids=["SD", "tiny", "narrow SDXL"])
def test_an_autoencoder_takes_what_is_said(config: VAEConfig) -> None:
    sizes = VAESizes(config.channels, config.res_blocks, config.latent_channels, config.image_channels)
    network: list[Any] = []

    def decoding() -> Callable[[], object]:
        network.append(AutoencoderKL(config, flash))
        latent = torch.empty(1, 4, 32, 48)
        return lambda: network[0].decode(latent)

    def encoding() -> Callable[[], object]:
        image = torch.empty(1, 3, 256, 384)
        return lambda: network[0].encode(image)

    assert footprint.decoder_peak(sizes) * 32 * 48 == pytest.approx(measured(decoding), rel=0.03)
    assert footprint.encoder_peak(sizes) * 32 * 48 == pytest.approx(measured(encoding), rel=0.03)

    def in_tiles() -> Callable[[], object]:  # of half the area, as thousands of operations are counted here
        latent = torch.empty(1, 4, 24, 32)
        return lambda: tiles.decode(network[0], latent, tiles.Tiling(16))

    counted = measured(in_tiles) - sum(each.numel() for each in network[0].decoder.up.parameters())  # seen too
    assert footprint.decoder_maps(sizes) * 24 * 32 == pytest.approx(counted, rel=0.1)


def test_taesd_takes_what_is_said() -> None:
    def made(network: Any, *shape: int) -> Callable[[], Callable[[], object]]:
        def make() -> Callable[[], object]:
            with_weights, x = network(4), torch.empty(shape)
            return lambda: with_weights(x)

        return make

    assert measured(made(TinyDecoder, 1, 4, 32, 48)) == pytest.approx(footprint.TAESD_DECODE * 32 * 48, rel=0.03)
    assert measured(made(TinyEncoder, 1, 3, 256, 384)) == pytest.approx(footprint.TAESD_ENCODE * 32 * 48, rel=0.03)


def test_weights_are_those_that_are_loaded(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    sdxl_checkpoint(tmp_path / "xl.safetensors")
    manager = ModelManager([tmp_path], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")
    for name in ("tiny", "xl"):
        found = footprint.footprint_of(tmp_path / f"{name}.safetensors")
        assert found is not None
        sizes = {part.key[-1]: part.size for part in manager.load(name).components}  # type: ignore[index]
        assert (sizes.pop("unet"), sizes.pop("vae")) == (4 * found.denoiser, 4 * found.vae)
        assert 4 * found.text == pytest.approx(sum(sizes.values()), rel=0.001), "but for ids of positions"
        assert found.factor == 8


def test_what_is_no_checkpoint_has_no_footprint(tmp_path: Path) -> None:
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    assert footprint.footprint_of(tmp_path / "torn.safetensors") is None
    assert footprint.footprint_of(tmp_path / "gone.safetensors") is None
