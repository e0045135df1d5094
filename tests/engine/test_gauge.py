"""What calls take of memory is measured once each, where an allocator counts, and told with the costs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from modules.checkpoints.manager import ModelManager
from modules.diffusion import placement
from modules.diffusion.attention import sdpa
from modules.engine.costs import MEMORY_OF, Call
from modules.engine.gauge import Gauge, counter_of
from modules.engine.setup import choose, hello, room_of
from modules.jobs.memory import Room
from tests.engine.conftest import Bench


class Counted:
    """An allocator by which each call takes a byte more than the one before, beside a thousand that were there."""

    def __init__(self) -> None:
        self.calls = 0

    def begin(self) -> int:
        self.calls += 1
        return 1000

    def peak(self) -> int:
        return 1000 + self.calls


def told(bench: Bench) -> dict[Call, float]:
    """The bytes among all costs that were said."""
    costs = [cost for message in bench.said if message.kind == "costs" for cost in message.data["costs"]]
    return {Call(*call): value for *call, value in costs if call[0].startswith(MEMORY_OF)}


def test_the_first_call_of_each_kind_is_measured_and_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = bench.engine.runner.gauge.counter = Counted()
    bench.submit("a", steps=3)
    bench.run()
    first = {Call(MEMORY_OF + "predict", "tiny", 64, 64, 2): 1, Call(MEMORY_OF + "decode", "tiny", 64, 64, 1): 2}
    assert told(bench) == first
    bench.submit("b", steps=3, seed=2)
    bench.run()
    assert counted.calls == 2, "each step after the first, and the second picture, as they were"
    bench.submit("c", steps=1, width=128)
    bench.run()
    assert told(bench).keys() - first.keys() == {
        Call(MEMORY_OF + work, "tiny", 128, 64, rows) for work, rows in (("predict", 2), ("decode", 1))
    }


def test_what_runs_with_less_memory_than_usual_is_no_measure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "SMALL", 1)
    bench.engine.runner.gauge.counter = Counted()
    for component in bench.manager.load("tiny").components:
        assert component.placement is not None
        component.placement.stream()
    bench.submit("a", steps=2)
    bench.run()
    assert not bench.of("failed")
    assert not told(bench)


def test_a_call_that_fails_is_measured_when_it_goes_well(tiny_models: Path, tmp_path: Path) -> None:
    manager = ModelManager([tiny_models], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")
    gauge, model = Gauge(Counted()), manager.load("tiny")

    def full() -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        gauge.measured("predict", model, (8, 8), 2, full)
    assert not gauge.take_fresh()
    assert gauge.measured("predict", model, (8, 8), 2, lambda: "answer") == "answer"
    assert gauge.take_fresh() == {Call(MEMORY_OF + "predict", "tiny", 64, 64, 2): 2}
    assert not gauge.take_fresh()


def test_a_processor_counts_nothing() -> None:
    assert counter_of(torch.device("cpu")) is None


def test_an_engine_says_what_memory_it_has_and_how_weights_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modules.engine.setup.available", lambda: 8 * 10**9)
    choices = choose("cpu", "bfloat16", "sdpa", storage="fp8")
    assert Room.of(room_of(choices)) == Room(8 * 10**9, 2, 2, 4, False, "fp8", "cpu")
    said = hello(choices, workers=2)
    assert said.data["room"]["memory"] == 4 * 10**9, "each of two has a part"
    assert said.data["weights"].startswith("float8_e4m3fn (asked for")
    assert "asked for" in choose("cpu", "float32", "sdpa", storage="full").weights
    assert choose("cpu", "float32", "sdpa").weights.startswith("full (as they are computed with")
    monkeypatch.setattr("modules.engine.setup.available", lambda: None)
    assert not Room.of(room_of(choices)).memory
