"""Loading where the device is full: what an engine remembers of models that were let go of keeps none of their memory."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.vae import AutoencoderKL
from tests.engine.conftest import Bench
from tests.tiny import TINY_VAE, randomised, tiny_checkpoint, write


@pytest.mark.parametrize("vae", ["None", "other.safetensors"])
def test_a_checkpoint_is_loaded_into_the_memory_of_one_that_the_engine_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vae: str
) -> None:
    """Encoded prompts, row budgets and views with other autoencoders belong to a model that is gone."""
    for seed, name in enumerate("ab"):
        tiny_checkpoint(tmp_path / f"{name}.safetensors", seed)
    (tmp_path / "VAE").mkdir()
    write(tmp_path / "VAE" / "other.safetensors", dict(randomised(AutoencoderKL(TINY_VAE), 5).state_dict()))
    manager = ModelManager([tmp_path], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")
    bench = Bench(manager)
    bench.submit("first", checkpoint="a", steps=1, vae=vae)
    bench.run()
    (first,) = manager.loaded
    there = weakref.ref(first.components[0].network)
    del first
    build = manager._build

    def where_there_is_room(*about: Any) -> ModelHandle:
        if there() is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return build(*about)

    monkeypatch.setattr(manager, "_build", where_there_is_room)
    bench.submit("second", checkpoint="b", steps=1)
    bench.run()
    assert not bench.of("failed"), bench.of("failed")
    assert [model.info.name for model in manager.loaded] == ["b"]
