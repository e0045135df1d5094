"""What is loaded is components: how large they are, who leases them, and when they go."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from modules.checkpoints.cache import ComponentCache
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.errors import CheckpointError
from tests.engine.conftest import Bench
from tests.tiny import TINY_TEXT, TINY_UNET, TINY_VAE, random_state, tiny_checkpoint, write


def keys(cache: ComponentCache) -> set[object]:
    return {component.key for component in cache.components}


@pytest.fixture
def manager(tmp_path: Path) -> ModelManager:
    for seed, name in enumerate(("a", "b")):
        tiny_checkpoint(tmp_path / "models" / f"{name}.safetensors", seed)
    return ModelManager([tmp_path / "models"], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()


def test_a_component_is_made_once_and_counted_in_bytes() -> None:
    cache, made = ComponentCache(), []
    for _ in range(2):
        one = cache.get("one", lambda: made.append(1) or nn.Linear(10, 10).half())  # type: ignore[func-returns-value]
    assert (len(made), one.size, cache.size) == (1, 220, 220)
    cache.get("two", lambda: nn.BatchNorm1d(3))
    assert cache.size == 220 + 4 * (3 + 3 + 3 + 3) + 8, "buffers are memory too"


def test_what_is_leased_stays_until_its_last_lease_ends() -> None:
    cache = ComponentCache()
    one, two = (cache.get(key, lambda: nn.Linear(1, 1)) for key in ("one", "two"))
    first, second = cache.lease([one, two]), cache.lease([one])
    cache.keep_only(["two"])
    assert keys(cache) == {"one", "two"}
    first.release()
    first.release()
    assert (one.leases, two.leases, keys(cache)) == (1, 0, {"one", "two"}), "giving back twice is nothing"
    second.release()
    assert keys(cache) == {"two"}


def test_a_leased_component_that_had_gone_is_counted_again() -> None:
    cache = ComponentCache()
    one = cache.get("one", lambda: nn.Linear(1, 1))
    cache.keep_only([])
    assert cache.size == 0
    leases = cache.lease([one])
    assert keys(cache) == {"one"}
    leases.release()
    assert cache.size == 0


def test_a_model_in_use_stays_beside_the_next_one(manager: ModelManager) -> None:
    a = manager.load("a")
    leases, alone = manager.lease(a), manager.cache.size
    assert alone == sum(
        t.numel() * t.element_size()
        for each in (a.denoiser.unet, a.latent.vae, a.prompts.encoders)
        for t in each.state_dict().values()
    )
    manager.load("b")
    assert manager.cache.size == 2 * alone
    assert manager.holds(a), "whoever asks for it gets the same one, and shares its forwards"
    assert manager.load("a") is a
    manager.load("b")
    leases.release()
    assert not manager.holds(a)
    assert manager.cache.size == alone, "one checkpoint is kept, as ever"
    manager.let_go()
    assert manager.cache.size == 0


def test_another_configuration_beside_a_file_loads_no_weights_anew(manager: ModelManager, tmp_path: Path) -> None:
    before = manager.load("a")
    (tmp_path / "models" / "a.yaml").write_text("parameterization: v\n")
    after = manager.load("a")
    assert (before.noise.prediction.name, after.noise.prediction.name) == ("eps", "v")
    assert after.denoiser.unet is before.denoiser.unet
    assert after.prompts.encoders.first is before.prompts.encoders.first


def test_a_file_that_cannot_be_loaded_leaves_nothing_behind(manager: ModelManager, tmp_path: Path) -> None:
    kept = manager.load("a")
    state = random_state(TINY_UNET, TINY_VAE, TINY_TEXT)
    write(tmp_path / "models" / "c.safetensors", state)
    manager.cache.get, real = lambda key, make: _torn(key, make, real), manager.cache.get  # type: ignore[method-assign]
    with pytest.raises(CheckpointError, match="torn"):
        manager.load("c")
    assert manager.cache.components == kept.components


def _torn(key: tuple[object, ...], make: object, real: object) -> object:
    if key[-1] == "text":
        raise CheckpointError("is torn")
    return real(key, make)  # type: ignore[operator]


def test_a_task_holds_leases_from_its_model_to_its_end(manager: ModelManager) -> None:
    bench = Bench(manager)
    for task in ("done", "cancelled"):
        bench.submit(task, checkpoint="a")
    bench.submit("failed", checkpoint="a", sampler="Euler", prompt="x " * 30_000)

    def held() -> list[int]:
        return [component.leases for component in manager.cache.components]

    bench.run(until=lambda: held() == [2, 2, 2])
    assert held() == [2, 2, 2], "one that fails gives back at once"
    bench.engine._drop(bench.engine.tasks["cancelled"])
    assert held() == [1, 1, 1]
    bench.run()
    assert (held(), bench.of("done").keys(), bench.of("failed").keys()) == ([0, 0, 0], {"done"}, {"failed"})


def test_models_stay_within_a_budget_of_bytes_and_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    for seed, name in enumerate("abcd"):
        tiny_checkpoint(tmp_path / "models" / f"{name}.safetensors", seed)

    def made(budget: int | None) -> ModelManager:
        return ModelManager([tmp_path / "models"], torch.device("cpu"), torch.float32, sdpa, tmp_path / "h.json", budget=budget)

    plain = made(None)
    plain.load("a")
    one = plain.cache.size
    manager = made(2 * one + one // 2)

    def loaded() -> str:
        return "".join(name for name in "abcd" if manager.is_loaded(name))

    a = manager.load("a")
    manager.load("b")
    assert loaded() == "ab", "as many as fit"
    assert manager.load("a") is a
    manager.load("c")
    assert (loaded(), manager.cache.size) == ("ac", 2 * one), "b was used longest ago"
    leases = manager.lease(manager.load("a"))
    manager.load("c")
    manager.load("d")
    assert loaded() == "ad", "a is older than c, but in use"
    leases = [leases, manager.lease(manager.load("d"))]
    manager.load("c")
    assert (loaded(), manager.cache.size) == ("acd", 3 * one), "what is in use stays, and so does what was loaded last"
    leases[1].release()
    assert (loaded(), manager.cache.size) == ("ac", 2 * one), "the end of a lease makes room"
    leases[0].release()
    assert loaded() == "ac"


def test_a_model_larger_than_the_budget_is_loaded_and_all_can_be_let_go_of(manager: ModelManager) -> None:
    small = ModelManager(manager.folders, torch.device("cpu"), torch.float32, sdpa, manager.builder.inversions._cache, budget=1)
    a = small.load("a")
    assert small.load("a") is a
    leases = [small.lease(small.load(name)) for name in "ab"]
    assert small.holds(a), "in use"
    small.let_go()
    leases[0].release()
    assert small.cache.size > 0
    leases[1].release()
    assert small.cache.size == 0
