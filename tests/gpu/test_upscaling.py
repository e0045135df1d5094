"""Pictures enlarged by networks on the device, in its number format and in several tiles: those of a CPU in float32, nearly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modules.checkpoints import upscaler_networks
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.upscaler_config import CompactConfig, RRDBConfig
from modules.diffusion.upscalers import Compact, RRDBNet
from tests.engine.conftest import Bench
from tests.tiny_upscalers import TINY_COMPACT, TINY_RRDB, tiny_upscaler

CPU = torch.device("cpu")
CONFIGS: dict[str, RRDBConfig | CompactConfig] = {
    "compact": TINY_COMPACT,
    "rrdb": TINY_RRDB,
    "folded": RRDBConfig(features=8, blocks=2, growth=4, doublings=2, unshuffle=2),
}


class UpscalingBench(Bench):
    def request(self, **fields: Any) -> dict[str, Any]:
        return fields


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, config in CONFIGS.items():
        tiny_upscaler(folder / "ESRGAN" / f"{name}.safetensors", config)
    return folder


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upscaler_networks, "SIDES", dict.fromkeys(("cpu", "cuda"), (96, 96)))


def enlarged(models: Path, cache: Path, upscaler: str, device: torch.device) -> tuple[np.ndarray, dict[str, str]]:
    """The pixels, and what the record says."""
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    bench = UpscalingBench(ModelManager([models], device, dtype, sdpa, cache=cache / "hashes.json"))
    values = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    bench.submit("a", source=Image.fromarray(values).resize((200, 160), Image.Resampling.BICUBIC), upscaler_1=upscaler)
    bench.run()
    assert not bench.of("failed"), bench.of("failed")["a"].data["error"]
    return bench.pixels("a"), bench.of("done")["a"].data["facts"]


@pytest.mark.parametrize("upscaler", CONFIGS)
def test_a_picture_is_that_of_a_cpu(models: Path, tmp_path: Path, device: torch.device, upscaler: str) -> None:
    made, facts = enlarged(models, tmp_path, upscaler, device)
    expected, _ = enlarged(models, tmp_path, upscaler, CPU)
    assert made.shape == (320, 400, 3)
    assert np.abs(made - expected).max() <= 3
    assert facts.get("dtype") == ("float16" if device.type == "cuda" else None)


def test_where_memory_is_short_its_tiles_become_smaller(
    models: Path, tmp_path: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces are put together in main memory, and go the way of what comes from the device."""
    expected, _ = enlarged(models, tmp_path, "compact", CPU)
    for network in (Compact, RRDBNet):
        forward = network.forward

        def short(self: Any, x: torch.Tensor, forward: Any = forward) -> torch.Tensor:
            if max(x.shape[2:]) > 64:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(self, x)  # type: ignore[no-any-return]

        monkeypatch.setattr(network, "forward", short)
    made, facts = enlarged(models, tmp_path, "compact", device)
    assert np.abs(made - expected).max() <= 3
    assert facts["notes"] == "memory ran short: enlarged in tiles of 64x64 pixels"
