"""Packed weights on a CPU: measured, said, and left where they bring nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from modules.diffusion import packed
from modules.diffusion.packed import PackedConv2d, PackedLinear
from modules.diffusion.unet import UNet
from modules.engine import packing, setup
from modules.engine.packing import FASTER, POSSIBLE, by_packing, packing_speed
from modules.engine.setup import build_engine, choose
from modules.errors import SettingsError
from tests.engine.test_setup import configuration
from tests.tiny import TINY_UNET


def clock(before: float, after: float) -> Callable[[Sequence[Callable[[], object]]], list[float]]:
    """Answers with these seconds of the plain and the packed convolution, and runs both as a real timer would."""

    def timer(calls: Sequence[Callable[[], object]]) -> list[float]:
        for call in calls:
            call()
        return [before, after]

    return timer


needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")


@needs_onednn
def test_the_speed_is_that_of_the_same_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_one_layout", lambda *of: True)
    assert packing_speed(torch.float32, clock(3.0, 2.0)) == (1.5, 1.5)
    monkeypatch.setattr(packed, "_one_layout", lambda *of: False)
    assert packing_speed(torch.float32, clock(3.0, 2.0)) == (0.0, 1.5), "it was not packed"


@pytest.mark.parametrize("error", [RuntimeError("mkldnn: no such instructions"), AttributeError("no _reorder_linear_weight")])
def test_where_packing_fails_or_computes_something_else_it_is_worth_nothing(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*of: object) -> bool:
        raise error

    monkeypatch.setattr(packed, "_one_layout", fail)
    assert packing_speed(torch.float32, clock(3.0, 2.0))[0] == 0.0
    for kind in (PackedConv2d, PackedLinear):
        monkeypatch.setattr(kind, "forward", lambda self, x, *more: x * 2)
    assert packing_speed(torch.float32, clock(3.0, 2.0)) == (0.0, 0.0)


def test_a_cpu_s_choice_follows_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "measured_packing_speed", lambda dtype: (1.44, 1.0))
    choice = choose("cpu", "float32", "sdpa").accelerator
    assert (choice.name, choice.reason) == ("packed", "weights in oneDNN's layouts, a convolution measured 1.4 times as fast")
    monkeypatch.setattr(setup, "measured_packing_speed", lambda dtype: (1.0, 2.0))
    choice = choose("cpu", "float32", "sdpa").accelerator
    assert choice.name == "none"
    assert choice.reason.endswith("on this CPU: a convolution measured 1.0 times as fast")
    choice = choose("cpu", "float32", "sdpa", "packed").accelerator
    assert (choice.name, choice.reason[:9]) == ("packed", "asked for"), "a busy machine refuses nobody"
    monkeypatch.setattr(setup, "measured_packing_speed", lambda dtype: (0.0, 0.0))
    choice = choose("cpu", "float32", "sdpa").accelerator
    assert (choice.name, "oneDNN does not run here" in choice.reason) == ("none", True)
    with pytest.raises(SettingsError, match=r"^accelerator packed was asked for, but oneDNN does not run here"):
        choose("cpu", "float32", "sdpa", "packed")
    with pytest.raises(SettingsError, match=r"^accelerator packed was asked for, but its layouts are a CPU's, not cuda's"):
        setup.choose_accelerator("packed", torch.device("cuda", 0))


@pytest.mark.parametrize(
    ("speeds", "faster", "kinds"),
    [
        ((FASTER, 1.0), FASTER, {PackedConv2d, PackedLinear}),
        ((FASTER, 0.99), FASTER, {PackedConv2d}),
        ((FASTER - 0.01, 2.0), FASTER, set()),
        ((FASTER - 0.01, 2.0), POSSIBLE, {PackedConv2d, PackedLinear}),
        ((0.0, 2.0), POSSIBLE, set()),
    ],
)
def test_what_gains_in_a_network_s_number_format_is_packed(
    speeds: tuple[float, float], faster: float, kinds: set[type], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "LARGE", 0)
    monkeypatch.setattr(packed, "LARGE_MATRIX", 0)
    unet = UNet(TINY_UNET).to(torch.bfloat16)
    by_packing({torch.bfloat16: speeds}.__getitem__, faster)(unet)
    assert {type(layer) for layer in unet.modules()} & {PackedConv2d, PackedLinear} == kinds


def test_exact_engines_pack_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packed network computes the same from its first call on."""
    monkeypatch.setattr(setup, "measured_packing_speed", lambda dtype: (2.0, 2.0))
    for asked in ("auto", "packed"):
        engine, choices = build_engine(configuration(tmp_path, exact=True, accelerator=asked), lambda message: None)
        assert choices.accelerator.name == "packed"
        assert engine.manager.builder._accelerate is choices.accelerator.accelerate


def test_it_is_measured_once_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(packing, "packing_speed", lambda dtype: seen.append(torch.get_num_threads()) or (1.0, 1.0))
    torch.set_num_threads(2)
    try:
        assert packing.measured_packing_speed.__wrapped__(torch.float32) == (1.0, 1.0)
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)
