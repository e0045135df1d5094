"""Eager until ready, then fast; anything wrong leaves the network as it was, said once."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from modules.diffusion import takeover as module
from modules.diffusion.accelerators import UNetForward
from modules.diffusion.forward import ForwardContext
from modules.diffusion.takeover import Inputs, Takeover, check, example, twin_of
from modules.diffusion.unet import UNet, UNetConfig
from tests.tiny import TINY_UNET, randomised


@pytest.fixture
def unet() -> UNet:
    return randomised(UNet(TINY_UNET)).eval().requires_grad_(False)  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is not the network takes half its time."""

    def seconds(unet: UNet, fast: UNetForward, inputs: Inputs) -> tuple[str, float]:
        calls = iter(range(1000))
        return check(unet, fast, inputs, lambda call: (call(), 1.0 if next(calls) % 2 else 2.0))

    monkeypatch.setattr(module, "check", seconds)


class Fast:
    """A forward that computes what the network does, times `factor`, and counts."""

    def __init__(self, unet: UNet, factor: float = 1.0) -> None:
        self.unet, self.factor, self.calls = unet, factor, 0
        self.error: Exception | None = None

    def __call__(self, x: Tensor, timesteps: Tensor, context: Tensor, ctx: Any = None, vector: Tensor | None = None) -> Tensor:
        self.calls += 1
        if self.error:
            raise self.error
        return self.unet(x, timesteps, context, ctx, vector) * self.factor


def taking_over(unet: UNet, prepare: Callable[[UNet, Inputs], UNetForward]) -> Takeover:
    return Takeover(unet, "fake", prepare, example(unet), "tiny.safetensors")


def test_the_network_answers_until_the_faster_forward_is_ready(unet: UNet, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fast, go = Fast(unet), threading.Event()

    def prepare(network: UNet, inputs: Inputs) -> UNetForward:
        assert go.wait(60)
        return fast

    x, timesteps, context, _ = example(unet)
    expected = unet(x, timesteps, context)
    both = taking_over(unet, prepare)
    thread = both.begin()
    assert torch.equal(both(x, timesteps, context), expected)
    assert (fast.calls, both.ready) == (0, False)
    go.set()
    thread.join()
    checked = fast.calls
    assert torch.equal(both(x, timesteps, context), expected)
    assert (fast.calls, both.ready) == (checked + 1, True)
    assert "fake evaluates tiny.safetensors, 2.0 times as fast" in caplog.text


def test_rows_that_ask_layers_for_something_are_the_network_s_own(unet: UNet) -> None:
    fast = Fast(unet)
    both = taking_over(unet, lambda network, inputs: fast)
    both.prepare()
    checked = fast.calls
    x, timesteps, context, _ = example(unet)
    both(x, timesteps, context, ForwardContext())
    assert fast.calls == checked


def failing(network: UNet, inputs: Inputs) -> UNetForward:
    raise ValueError("\n no kernel for this\nand more")


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (failing, "no kernel for this"),
        (lambda network, inputs: Fast(network, 1.01), "its output differs from the network's by 0.01 of it"),
        (lambda network, inputs: Fast(network, float("nan")), "its output differs from the network's by nan of it"),
    ],
    ids=["fails", "wrong", "nan"],
)
def test_what_goes_wrong_is_said_once_and_the_network_goes_on(
    prepare: Callable[[UNet, Inputs], UNetForward], said: str, unet: UNet, caplog: pytest.LogCaptureFixture
) -> None:
    both = taking_over(unet, prepare)
    both.begin().join()
    x, timesteps, context, _ = example(unet)
    for _ in range(2):
        assert torch.equal(both(x, timesteps, context), unet(x, timesteps, context))
    assert [record.getMessage() for record in caplog.records] == [
        f"accelerator fake is not used for tiny.safetensors: {said}; torch's kernels go on"
    ]


def test_what_is_no_faster_is_left(unet: UNet) -> None:
    times: Iterator[float] = iter([2.0, 9.0, 2.0, 4.0, 3.0, 8.0])  # the network and the other in turn
    problem, gain = check(unet, Fast(unet), example(unet), lambda call: (call(), next(times)))
    assert (problem, gain) == ("it is no faster (0.50 times as fast as torch's kernels)", 0.5)


def test_a_forward_that_fails_later_is_left_and_its_rows_are_answered(unet: UNet, caplog: pytest.LogCaptureFixture) -> None:
    fast = Fast(unet)
    both = taking_over(unet, lambda network, inputs: fast)
    both.prepare()
    fast.error = RuntimeError("this size is not supported")
    x, timesteps, context, _ = example(unet)
    assert torch.equal(both(x, timesteps, context), unet(x, timesteps, context))
    assert not both.ready
    assert caplog.text.count("this size is not supported") == 1


def test_out_of_memory_is_the_runner_s_to_mend(unet: UNet) -> None:
    fast = Fast(unet)
    both = taking_over(unet, lambda network, inputs: fast)
    both.prepare()
    fast.error = torch.OutOfMemoryError("CUDA out of memory")
    x, timesteps, context, _ = example(unet)
    with pytest.raises(torch.OutOfMemoryError):
        both(x, timesteps, context)
    assert both.ready


def test_nothing_is_prepared_for_a_network_that_is_let_go_before_its_turn(unet: UNet) -> None:
    prepared: list[UNet] = []
    with module._preparing:
        both: Takeover | None = taking_over(unet, lambda network, inputs: prepared.append(network) or Fast(network))
        assert both is not None
        gone, thread = weakref.ref(both), both.begin()
        both = None
        gc.collect()
        assert gone() is None
    thread.join()
    assert prepared == []


@pytest.mark.parametrize("vector_width", [0, 48])
def test_a_twin_computes_the_same_on_the_same_weights(vector_width: int) -> None:
    config = UNetConfig(**{**vars(TINY_UNET), "vector_width": vector_width})
    unet = randomised(UNet(config)).eval()
    x, timesteps, context, vector = example(unet)  # type: ignore[arg-type]
    twin = twin_of(unet)  # type: ignore[arg-type]
    assert torch.equal(twin(x, timesteps, context, None, vector), unet(x, timesteps, context, None, vector))
    assert {p.data_ptr() for p in twin.parameters()} == {p.data_ptr() for p in unet.parameters()}
    assert (vector is None) == (vector_width == 0)
