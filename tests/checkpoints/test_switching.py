"""Going to and fro between checkpoints: memory stays where it was, and users of two checkpoints both get their pictures."""

from __future__ import annotations

import gc
import os
import platform
import re
import weakref
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modules.checkpoints import host_memory
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.engine import engine as engines
from tests.checkpoints.test_vaes import vae_state
from tests.engine.conftest import Bench
from tests.sdxl import sdxl_checkpoint
from tests.tiny import make_checkpoint, tiny_checkpoint, write

NAMES = ("a", "b", "half", "xl")
SWITCHES = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four checkpoints: two that are used where they are mapped, one with a VAE beside it, one that is converted, one of SDXL;
    and a VAE to choose."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "vae").mkdir()
    for seed, name in enumerate("ab"):
        tiny_checkpoint(folder / f"{name}.safetensors", seed)
    write(folder / "b.vae.safetensors", vae_state(7))
    make_checkpoint(folder / "half.safetensors", dtype=torch.float16)
    sdxl_checkpoint(folder / "xl.safetensors")
    write(folder / "vae" / "nice.safetensors", vae_state(5))
    return folder


def made(folder: Path, cache: Path, **limits: int) -> ModelManager:
    return ModelManager([folder], torch.device("cpu"), torch.float32, sdpa, cache / "hashes.json", **limits)


def in_memory(manager: ModelManager, folder: Path) -> tuple[int, int, int, int]:
    """Loaded components, their bytes, the bytes of all tensors that are alive, and mapped files of `folder`."""
    gc.collect()
    alive = {
        storage.data_ptr(): storage.nbytes()
        for tensor in gc.get_objects()
        if issubclass(type(tensor), torch.Tensor) and tensor.device.type == "cpu"
        for storage in [tensor.untyped_storage()]
    }
    maps = Path("/proc/self/maps")
    mapped = len(re.findall(re.escape(str(folder)), maps.read_text())) if maps.exists() else 0
    return len(manager.cache.components), manager.cache.size, sum(alive.values()), mapped


@pytest.mark.parametrize("kept", ["one", "some", "all"])
def test_twenty_switches_between_four_checkpoints_leave_memory_where_it_was(kept: str, folder: Path, tmp_path: Path) -> None:
    """Each is used as an engine does: leased, with its own, the neighbouring or a chosen autoencoder."""
    some = (folder / "xl.safetensors").stat().st_size + (folder / "a.safetensors").stat().st_size * 3 // 2
    limits = {"one": {"keep": 1}, "some": {"budget": some}, "all": {"budget": 10**9}}[kept]
    manager, gone = made(folder, tmp_path, **limits), list[weakref.ref[object]]()

    def switch(name: str) -> None:
        handle = manager.load(name, "nice" if name == "a" else "Automatic")
        leases = manager.lease(handle)
        gone.append(weakref.ref(handle.latent.vae))  # type: ignore[attr-defined]
        handle.latent.decode(torch.zeros(1, 4, 2, 2))
        leases.release()

    with torch.inference_mode():
        for name in NAMES * 2:  # the first round loads, the second finds what stayed
            switch(name)
        first = in_memory(manager, folder)
        for name in islice(cycle(NAMES), SWITCHES):
            switch(name)
    assert in_memory(manager, folder) == first
    assert len({id(ref()) for ref in gone if ref() is not None}) <= first[0]
    if kept == "one":
        assert [handle.info.name for handle in manager.loaded] == ["xl"]
    elif kept == "some":
        assert 1 < len(manager.loaded) < len(NAMES), "as many as fit"
        assert manager.cache.size <= some
    else:
        assert len(manager.loaded) == len(NAMES)
    manager.let_go()
    assert in_memory(manager, folder)[:2] == (0, 0)


def test_what_a_checkpoint_that_went_held_is_given_back_to_the_system(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it is gone, and not each time that a checkpoint is asked for."""
    manager, gone = made(folder, tmp_path), list[weakref.ref[object]]()
    alive: list[bool] = []
    monkeypatch.setattr(host_memory, "give_back", lambda: alive.append(any(ref() is not None for ref in gone)))
    for name in ("half", "half", "xl"):
        handle = manager.load(name, "nice" if name == "half" else "Automatic")  # a view, which refers to its model and back
        if name == "half":
            gone.append(weakref.ref(handle.network))
        del handle
    assert alive == [False]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory in its heap")
def test_memory_that_the_c_library_keeps_is_given_back() -> None:
    """Blocks below the threshold of mapping, freed below one that stays."""
    blocks = [torch.ones(25_000) for _ in range(1500)]
    last = torch.ones(25_000)
    del blocks
    before = resident()
    host_memory.give_back()
    assert before - resident() > 50_000 * 1024
    assert float(last[0]) == 1


def resident() -> int:
    """Bytes of main memory that this process takes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_twenty_autoencoders_one_after_the_other_do_not_pile_up(folder: Path, tmp_path: Path) -> None:
    """A checkpoint that stays keeps the last of its autoencoders, and not all that it ever had."""
    models = tmp_path / "models"
    (models / "vae").mkdir(parents=True)
    (models / "a.safetensors").symlink_to(folder / "a.safetensors")
    for seed in range(5):
        write(models / "vae" / f"{seed}.safetensors", vae_state(seed))
    manager = made(models, tmp_path)
    plain = manager.load("a")
    most = manager.cache.size
    for number in range(SWITCHES):
        one = manager.load("a", f"{number % 5}")
        assert one.network is plain
        assert manager.load("a", f"{number % 5}") is one
        most = max(most, manager.cache.size)
    space: Any = plain.latent
    vae = next(component.size for component in plain.components if component.network is space.vae)
    assert most <= sum(component.size for component in plain.components) + 2 * vae


def test_two_users_on_two_checkpoints_both_make_progress(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One checkpoint is kept, and each user always has pictures waiting; patience is counted by a clock of the test."""
    manager = made(folder, tmp_path)
    bench, clock = Bench(manager), [0.0]
    monkeypatch.setattr(engines.time, "monotonic", ticking(clock))
    order: list[str] = []
    waiting = {"a": list(range(6)), "b": list(range(6))}

    def next_of(user: str) -> None:
        if waiting[user]:
            bench.submit(f"{user}{waiting[user].pop(0)}", user=user, checkpoint=user, steps=2)

    for user in ("a", "a", "b", "b"):
        next_of(user)
    with torch.inference_mode():
        while bench.engine.tasks:
            before = set(bench.of("done"))
            bench.engine.tick()
            for task in sorted(set(bench.of("done")) - before):
                order.append(task[0])
                next_of(task[0])
    assert not bench.of("failed")
    assert (order.count("a"), order.count("b")) == (6, 6)
    assert "b" in order[: len(order) - 6], "b was served before a had all of its pictures"
    assert np.abs(bench.pixels("b5") - bench.alone(checkpoint="b", steps=2)).max() <= 1
    assert len(manager.loaded) == 1


def ticking(clock: list[float]) -> Callable[[], float]:
    """A clock that goes on by a tenth of a second each time that it is looked at."""

    def now() -> float:
        clock[0] += 0.1
        return clock[0]

    return now
