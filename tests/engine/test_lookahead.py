"""Which checkpoint is prepared while others work, seen from the engine; and when that ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.engine.lookahead import LookAhead, needed_next
from modules.engine.messages import Upcoming
from modules.engine.task import Task
from modules.pipelines.ops import Load
from tests.engine.conftest import Bench
from tests.tiny import tiny_checkpoint


def task(name: str, *also: str, loads: str = "") -> Task:
    op: Any = Load(loads) if loads else None
    return Task(name, "u", iter(()), op, checkpoints=frozenset({name, *also}))  # type: ignore[arg-type]


def test_what_has_waited_longest_is_prepared_and_nothing_that_is_being_loaded() -> None:
    tasks = {"1": task("a", loads="a"), "2": task("b", loads="b"), "3": task("c", "r", loads="c")}
    assert needed_next(tasks, {"2": 5.0, "3": 4.0}, ("b", "d")) == ("c", "r", "b", "d")
    assert needed_next({"1": tasks["1"], "2": tasks["2"]}, {"2": 5.0}, ()) == ("b",)
    assert needed_next({"1": tasks["1"]}, {}, ("a", "d")) == ("d",), "a is being loaded"
    assert needed_next({"1": tasks["1"]}, {}, ()) == ()
    assert needed_next({}, {}, ()) == ()


def test_what_fails_is_said_and_what_ends_late_prepares_nothing(caplog: pytest.LogCaptureFixture) -> None:
    begun, go_on, prepared = threading.Event(), threading.Event(), []

    def prepare(names: Sequence[str]) -> None:
        prepared.append(tuple(names))
        if names == ("a",):
            begun.set()
            assert go_on.wait(60), "the test goes on"
            raise RuntimeError("broken")

    ahead = LookAhead(prepare)
    ahead.hear(["a"])
    ahead.look({}, {})
    assert begun.wait(60), "it was begun"
    ahead.close()
    go_on.set()
    ahead._thread.shutdown(wait=True)
    assert prepared == [("a",), (), ()], "whatever the late one asked for, nothing is wanted in the end"
    assert "while a was prepared" in caplog.text


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    for seed, name in enumerate("abc"):
        tiny_checkpoint(tmp_path / f"{name}.safetensors", seed)
    return Bench(ModelManager([tmp_path], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json"))


def settled(bench: Bench) -> None:
    bench.engine._ahead._thread.submit(lambda: None).result(timeout=60)


def test_the_engine_prepares_what_waits_while_it_works_and_then_what_it_was_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[tuple[str, ...]] = []
    bench.engine._ahead._prepare = prepared.append  # type: ignore[assignment]
    for name in ("a0", "a1", "b"):
        bench.submit(name, checkpoint=name[0], steps=2)
    bench.engine._handle(Upcoming(["a", "c"]).message())
    bench.run(until=lambda: bool(bench.engine.tasks["a0"].models))
    settled(bench)
    assert prepared == [("b", "c")], "while a is in use, and asked once"
    bench.run(until=lambda: bool(bench.engine.tasks["b"].models))
    bench.engine.tick()
    settled(bench)
    assert prepared[-1] == ("a", "c"), "b is there, and jobs need these"
    bench.run()
    bench.engine._handle(Upcoming([]).message())
    bench.engine.tick()
    settled(bench)
    assert prepared[-1] == ()


def test_a_picture_that_is_cancelled_needs_nothing_any_more(bench: Bench) -> None:
    prepared: list[tuple[str, ...]] = []
    bench.engine._ahead._prepare = prepared.append  # type: ignore[assignment]
    bench.submit("a", checkpoint="a", steps=4)
    bench.submit("b", checkpoint="b")
    bench.run(until=lambda: bool(bench.engine.tasks["a"].models))
    bench.engine._drop(bench.engine.tasks["b"])
    bench.run()
    settled(bench)
    assert prepared == [("b",), ()]
