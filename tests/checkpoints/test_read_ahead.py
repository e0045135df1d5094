"""What is needed next is read while another checkpoint works: once, whole, within the memory that is free, and only as long as
it is needed.  Reads are counted; nothing is timed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from modules.checkpoints import host_memory, read_ahead
from modules.checkpoints.builder import Builder
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.read_ahead import Needed, ReadAhead
from modules.diffusion.attention import sdpa
from modules.errors import CheckpointError
from tests.checkpoints.test_vaes import vae_state
from tests.tiny import tiny_checkpoint, write

PATIENCE = 60.0
PLENTY = 10**12


class Reads:
    """Reads as usual, and keeps how many bytes of which file; with `hold` only as often as a test says."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {}
        self.begun = threading.Event()
        self.may = threading.Semaphore(10**6)

    def hold(self) -> None:
        self.may = threading.Semaphore(0)

    def __call__(self, file: BinaryIO, into: bytearray) -> int:
        self.begun.set()
        assert self.may.acquire(timeout=PATIENCE), "the test let it wait"
        count: int = file.readinto(into)  # type: ignore[attr-defined]
        name = Path(file.name).name
        self.bytes[name] = self.bytes.get(name, 0) + count
        return count


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "BLOCK", 2**20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate("ab"):
        tiny_checkpoint(folder / f"{name}.safetensors", seed)
    write(folder / "b.vae.safetensors", vae_state(7))
    (folder / "torn.safetensors").write_bytes((folder / "a.safetensors").read_bytes()[:-1000])
    return folder


@pytest.fixture
def reads() -> Reads:
    return Reads()


@pytest.fixture
def make(folder: Path, tmp_path: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModelManager]]:
    made: list[ModelManager] = []
    monkeypatch.setattr(host_memory, "available", lambda: PLENTY)

    def make(budget: int | None = None) -> ModelManager:
        manager = ModelManager([folder], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json", budget=budget)
        manager.ahead = ReadAhead(lambda: PLENTY, reads)
        made.append(manager)
        return manager

    yield make
    for manager in made:
        reads.may = threading.Semaphore(10**6)
        manager.prepare(())
        assert manager.ahead.wait(PATIENCE)


def size(path: Path) -> int:
    return path.stat().st_size


def test_the_whole_file_is_read_once_with_the_vae_beside_it(
    make: Callable[..., ModelManager], reads: Reads, folder: Path
) -> None:
    manager = make()
    manager.load("a")
    manager.prepare(["b"])
    assert manager.ahead.wait(PATIENCE)
    assert reads.bytes == {name: size(folder / name) for name in ("b.safetensors", "b.vae.safetensors")}
    assert [handle.info.name for handle in manager.loaded] == ["a"], "nothing of it is a model yet"
    manager.load("b")
    manager.prepare(["b", "torn", "a"])
    assert manager.ahead.wait(PATIENCE)
    assert reads.bytes["b.safetensors"] == size(folder / "b.safetensors"), "what is loaded is not read again"
    assert reads.bytes["a.safetensors"] == size(folder / "a.safetensors"), "but the first that is neither loaded nor torn"


def test_reading_ends_when_something_else_is_needed_or_nothing_is(
    make: Callable[..., ModelManager], reads: Reads, folder: Path
) -> None:
    manager = make()
    reads.hold()
    manager.prepare(["a"])
    assert reads.begun.wait(PATIENCE)
    manager.prepare(["b"])
    reads.may.release(10**6)
    assert manager.ahead.wait(PATIENCE)
    assert reads.bytes["a.safetensors"] == 2**20, "the block that was being read"
    assert reads.bytes["b.safetensors"] == size(folder / "b.safetensors")
    reads.begun.clear()
    reads.bytes.clear()
    reads.hold()
    manager.prepare(["a"])
    assert reads.begun.wait(PATIENCE)
    manager.prepare(())
    reads.may.release(10**6)
    assert manager.ahead.wait(PATIENCE)
    assert reads.bytes == {"a.safetensors": 2**20}


@pytest.mark.parametrize("free", [None, 1000])
def test_nothing_is_read_where_memory_is_short_or_not_known(reads: Reads, folder: Path, free: int | None) -> None:
    ahead = ReadAhead(lambda: free, reads)
    ahead.want(Needed(folder / "a.safetensors"))
    assert ahead.wait(PATIENCE)
    assert not reads.bytes


@pytest.mark.parametrize("name", ["torn", "nothing of the kind"])
def test_what_cannot_be_read_is_said_only_to_who_asks_for_it(
    make: Callable[..., ModelManager], reads: Reads, name: str
) -> None:
    manager = make(budget=10**9)
    manager.load("a")
    manager.prepare([name])
    assert manager.ahead.wait(PATIENCE)
    assert not reads.bytes
    with pytest.raises(Exception, match=name) as raised:
        manager.load(name)
    assert isinstance(raised.value, CheckpointError) or "no checkpoint" in str(raised.value) or name in str(raised.value)
    assert manager.is_loaded("a")


def test_a_disk_that_fails_while_it_is_read_ahead_is_nobody_s_trouble_yet(folder: Path) -> None:
    failed: list[str] = []

    def broken(file: BinaryIO, into: bytearray) -> int:
        failed.append(file.name)
        raise OSError(5, "Input/output error")

    ahead = ReadAhead(lambda: PLENTY, broken)
    for _ in range(2):
        ahead.want(Needed(folder / "a.safetensors"))
        assert ahead.wait(PATIENCE)
    assert len(failed) == 2, "and it goes on with the next"


def test_within_a_budget_it_is_loaded_beside_and_nothing_goes_for_it(
    make: Callable[..., ModelManager], reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    build = Builder.build

    def counted(self: Builder, info: object, *args: object) -> object:
        built.append(info.name)  # type: ignore[attr-defined]
        return build(self, info, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Builder, "build", counted)
    one = make()
    one.load("a")
    size = one.cache.size
    manager = make(budget=3 * size)
    a = manager.load("a")
    manager.prepare(["b"])
    assert manager.is_loaded("b")
    assert manager.load("b", vae="None").info.name == "b"
    assert built == ["a", "a", "b"], "once each"
    assert not reads.bytes, "whoever loads it reads it"
    assert manager.holds(a)
    small = make(budget=size * 3 // 2)
    small.load("a")
    small.prepare(["b"])
    assert small.ahead.wait(PATIENCE)
    assert not small.is_loaded("b")
    assert reads.bytes, "it is read, where there is no place to load it"
    monkeypatch.setattr(host_memory, "available", lambda: 1000)
    full = make(budget=3 * size)
    full.load("a")
    full.prepare(["b"])
    assert not full.is_loaded("b")


def test_a_container_s_limit_counts_where_it_is_less(tmp_path: Path) -> None:
    assert host_memory.available(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:       64000 kB\nMemAvailable:   32000 kB\n")
    assert host_memory.available(tmp_path) == 32_000 * 1024
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("9000000\n")
    (group / "memory.max").write_text("max\n")
    assert host_memory.available(tmp_path) == 32_000 * 1024
    (group / "memory.max").write_text("10000000\n")
    assert host_memory.available(tmp_path) == 1_000_000
    (group / "memory.stat").write_text("anon 6000000\ninactive_file 2000000\nactive_file 1000000\n")
    assert host_memory.available(tmp_path) == 4_000_000, "cached files go when they have to"
