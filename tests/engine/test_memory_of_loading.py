"""Loading where the device is full: what an engine remembers of models that were let go of keeps none of their memory."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.vae import AutoencoderKL
from modules.engine.forgetting import Forgetting
from tests.engine.conftest import Bench
from tests.tiny import TINY_VAE, randomised, tiny_checkpoint, write


def test_a_thread_waits_until_the_loop_has_forgotten_and_for_no_loop_that_has_ended() -> None:
    woken, forgotten = threading.Event(), []
    forgetting = Forgetting(lambda: forgotten.append(threading.get_ident()), woken.set)
    forgetting.ask()
    assert forgotten == [], "no loop runs, which would remember something"
    forgetting.answer()
    forgetting.ask()
    here = threading.get_ident()
    assert forgotten == [here], "on the loop's own thread at once"
    with ThreadPoolExecutor(max_workers=1) as threads:
        asked = threads.submit(forgetting.ask)
        assert woken.wait(60), "the loop is woken"
        assert not asked.done()
        forgetting.answer()
        asked.result(timeout=60)
        assert forgotten == [here, here]
        forgetting.end()
        threads.submit(forgetting.ask).result(timeout=10)
    assert forgotten == [here, here]


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
    build = manager.builder.build

    def where_there_is_room(*about: Any) -> ModelHandle:
        if there() is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return build(*about)

    monkeypatch.setattr(manager.builder, "build", where_there_is_room)
    bench.submit("second", checkpoint="b", steps=1)
    bench.run()
    assert not bench.of("failed"), bench.of("failed")
    assert [model.info.name for model in manager.loaded] == ["b"]
