"""A CUDA device that is never waited for: the same pictures, and no synchronisation between a picture's first step and its end.

Needs torch, pytest, numpy, pillow, safetensors, pydantic, pluggy and transformers, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.engine import reports
from modules.engine.engine import Engine
from modules.engine.streams import CudaStreams, Immediate
from modules.pipelines.ops import Decode
from tests.engine.conftest import Bench
from tests.tiny import tiny_checkpoint

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture(scope="module")
def on_cuda(tmp_path_factory: pytest.TempPathFactory) -> ModelManager:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    device = torch.device("cuda", 0)
    return ModelManager([folder], device, torch.float32, sdpa, cache=Path(folder) / "hashes.json")


class Waiting(Bench):
    """An engine that waits for the device in every step, as on a CPU."""

    def __post_init__(self) -> None:
        self.engine = Engine(self.manager, self.said.append, self.exact, streams=Immediate())


@pytest.fixture(autouse=True)
def exact_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32, not TF32: what differs between one row and many is seen in pixels."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def strict() -> Iterator[None]:
    """Whatever synchronises raises, once `torch.cuda.set_sync_debug_mode("error")` was called."""
    yield
    torch.cuda.set_sync_debug_mode("default")


MASK = Image.fromarray(np.where(np.arange(64)[None] < 32, 255, 0).repeat(64, 0).astype(np.uint8))
SOURCE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8))

WAYS: list[dict[str, Any]] = [
    {"sampler": "Euler"},
    {"sampler": "Euler a"},
    {"sampler": "Euler a", "rng": "GPU"},
    {"sampler": "DPM++ 2M SDE", "rng": "GPU"},
    {"sampler": "DPM++ 2M SDE"},
    {"sampler": "Heun", "rng": "NV", "s_churn": 3.0},
    {"sampler": "UniPC"},
    {"sampler": "Euler CFG++"},
    {"pag_scale": 2.0, "sag_scale": 0.5},
    {"cfg_rescale": 0.7, "apg": True},
    {"mimic_scale": 3.0},
    {"cfg_zero": True},
    {"prompt": "a (cat:1.3) AND [dog:fog:0.5] :0.5"},
    {"source": SOURCE, "mask": MASK, "denoising_strength": 0.8},
    {"source": SOURCE, "mask": MASK, "denoising_strength": 0.8, "differential": True},
    {"source": SOURCE, "mask": MASK, "denoising_strength": 0.8, "soft_inpainting": True},
]


@pytest.mark.parametrize(
    "way",
    WAYS,
    ids=lambda way: " ".join(f"{name}={value}" for name, value in way.items() if not isinstance(value, Image.Image)),
)
def test_nothing_waits_for_the_device_within_a_picture(
    on_cuda: ModelManager, way: dict[str, Any], strict: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second step to the finished pixels, with previews at each step, and with the same picture as with waiting."""
    monkeypatch.setattr(reports, "PREVIEW_SECONDS", 0.0)
    waiting, bench = Waiting(on_cuda), Bench(on_cuda)
    assert isinstance(bench.engine.streams, CudaStreams)
    fields = {"steps": 8, "cfg_scale": 5.0, **way}
    waiting.submit("a", **fields)
    waiting.run()
    assert not waiting.of("failed"), waiting.of("failed")

    bench.engine.reports.watched = {"warm", "a"}
    bench.submit("warm", **fields)  # the first of a shape chooses kernels
    bench.run()
    bench.submit("a", **fields)
    bench.run(until=lambda: "a" in bench.of("progress"))
    torch.cuda.set_sync_debug_mode("error")
    last = way.get("soft_inpainting", False)  # it measures on a host thread how far the latent went
    bench.run(until=lambda: last and isinstance(bench.engine.tasks["a"].op, Decode))
    torch.cuda.set_sync_debug_mode("default")
    bench.run()
    assert not bench.of("failed"), bench.of("failed")
    assert "a" in bench.of("preview")
    assert np.abs(bench.pixels("a") - waiting.pixels("a")).max() <= 1


def test_many_at_once_are_what_they_are_alone(on_cuda: ModelManager) -> None:
    """Decodes run beside the steps of others, whose memory they must not share."""
    bench, waiting = Bench(on_cuda), Waiting(on_cuda)
    for number in range(24):
        fields: dict[str, Any] = {"seed": number, "steps": 3 + number % 5, "sampler": ("Euler", "Euler a")[number % 2]}
        bench.submit(str(number), user=str(number % 3), **fields)
        waiting.submit(str(number), **fields)
        waiting.run()
    bench.run()
    for number in range(24):
        assert np.abs(bench.pixels(str(number)) - waiting.pixels(str(number))).max() <= 1, number


def test_nan_is_found_late_and_named_by_its_step(on_cuda: ModelManager, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    bench = Bench(on_cuda)
    forward, runner = bench.engine.runner._forward, bench.engine.runner

    def broken(model: Any, rows: Any) -> Any:
        answers = forward(model, rows)
        return [replace(each, x0=each.x0 * float("nan")) for each in answers] if runner.forwards == 3 else answers

    monkeypatch.setattr(runner, "_forward", broken)
    bench.submit("a", steps=6)
    bench.run()
    assert "step 4 of 6" in bench.of("failed")["a"].data["error"]


def test_calls_are_billed_by_the_device_s_own_time(on_cuda: ModelManager) -> None:
    bench = Bench(on_cuda)
    bench.submit("a", steps=6, width=256, height=256)
    bench.run()
    costs = {tuple(cost[:5]): cost[5] for m in bench.said if m.kind == "costs" for cost in m.data["costs"]}
    assert costs[("predict", "tiny", 256, 256, 2)] > 0
    assert costs[("decode", "tiny", 256, 256, 1)] > 0
    assert not bench.engine.flight
