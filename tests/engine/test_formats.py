"""The number format of a CPU: measured, bounded in time, said, and left at float32 where nothing is gained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from modules.checkpoints import builder
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.engine import formats, setup
from modules.engine.formats import EMULATED, FASTER, bfloat16_speed, seconds
from modules.engine.setup import choose
from tests.engine.conftest import Bench

CPU = torch.device("cpu")


class Clock:
    """Answers with these (float32, bfloat16) seconds in turn, and runs the calls as a real timer would."""

    def __init__(self, *answers: tuple[float, float]) -> None:
        self.answers = list(answers)

    def __call__(self, calls: Sequence[Callable[[], object]]) -> list[float]:
        results = [call() for call in calls]
        assert [result.dtype for result in results] == [torch.float32, torch.bfloat16]  # type: ignore[attr-defined]
        return list(self.answers.pop(0))


def test_the_lesser_of_products_and_convolutions_counts() -> None:
    assert bfloat16_speed(Clock((1.0, 2.0), (2.0, 1.0), (3.0, 2.0))) == 1.5
    assert bfloat16_speed(Clock((1.0, 2.0), (1.2, 1.0), (3.0, 2.0))) == 1.2


def test_nothing_large_is_tried_where_a_tiny_product_is_emulated() -> None:
    clock = Clock((1.0, EMULATED * 1.01), (1.0, 0.1), (1.0, 0.1))
    assert bfloat16_speed(clock) < 1 / EMULATED
    assert len(clock.answers) == 2


def test_calls_are_timed_in_turn() -> None:
    turns: list[str] = []
    assert all(each >= 0 for each in seconds([lambda: turns.append("a"), lambda: turns.append("b")]))
    assert turns == ["a", "b"] * (len(turns) // 2)
    assert len(turns) > 2


def test_the_measurement_is_one_thread_s_and_leaves_torch_s_number_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(formats, "bfloat16_speed", lambda: seen.append(torch.get_num_threads()) or 1.0)
    torch.set_num_threads(2)
    try:
        assert formats.measured_bfloat16_speed.__wrapped__() == 1.0
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("speed", "taken"), [(0.2, torch.float32), (FASTER - 0.01, torch.float32), (2.0, torch.bfloat16)])
def test_auto_on_a_cpu_takes_bfloat16_where_it_measured_clearly_faster(
    speed: float, taken: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "measured_bfloat16_speed", lambda: speed)
    choices = choose("cpu", "auto", "sdpa", "none")
    assert (choices.dtype, choices.small_dtype) == (taken, torch.float32)
    assert f"measured {speed:.1f} times as fast" in choices.dtype_reason
    assert ("--dtype float32" in choices.dtype_reason) == (taken == torch.bfloat16)


def test_a_number_format_that_was_asked_for_is_every_model_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(setup, "measured_bfloat16_speed")  # nothing is measured
    for asked in ("float32", "bfloat16"):
        choices = choose("cpu", asked, "sdpa", "none")
        assert (choices.dtype_name, choices.small_dtype) == (asked, None)


def test_small_models_compute_in_the_format_for_them(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(small: torch.dtype | None) -> torch.dtype:
        arguments = ([tiny_models], CPU, torch.bfloat16, sdpa, tmp_path / "hashes.json")
        model = ModelManager(*arguments, small_dtype=small).load("tiny")
        assert {parameter.dtype for parameter in model.denoiser.unet.parameters()} == {model.dtype}
        return model.dtype

    assert (loaded(torch.float32), loaded(None)) == (torch.float32, torch.bfloat16)
    monkeypatch.setattr(builder, "SMALL", 1000)
    assert loaded(torch.float32) == torch.bfloat16


@pytest.mark.parametrize(("dtype", "said"), [(torch.float32, None), (torch.bfloat16, "bfloat16")])
def test_a_picture_s_record_says_the_number_format_where_its_rounding_is_seen(
    dtype: torch.dtype, said: str | None, tiny_models: Path, tmp_path: Path
) -> None:
    bench = Bench(ModelManager([tiny_models], CPU, dtype, sdpa, tmp_path / "hashes.json"))
    bench.submit("a")
    bench.run()
    assert bench.of("done")["a"].data["facts"].get("dtype") == said
