"""CUDA graphs as an accelerator, with a recorder that runs the recorded call again: what is recorded, replayed and dropped."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from modules.diffusion.adapters import Adapter, LowRank
from modules.diffusion.deltas import Full
from modules.diffusion.forward import AttentionMass, ForwardContext, Linear, adaptable_norms, context_for
from modules.diffusion.graphs import BUCKETS, REPEATS_BESIDE, GraphedUNet, Recording, bucket
from modules.diffusion.unet import UNet, UNetConfig
from tests.tiny import randomised

CPU = torch.device("cpu")
CONFIG = UNetConfig(channels=(32, 64), res_blocks=1, transformer_depth=(1, 1), context_dim=16, heads=4, vector_width=24)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@dataclass
class Again:
    """A `Recorder` without a device: a replay runs the call again and writes into the same memory."""

    times: list[float] = field(default_factory=list)
    """What `seconds` says, in turn: launched, replayed; then 2 and 1."""
    recorded: int = 0
    room: bool = True
    error: Exception | None = None

    def record(self, call: Callable[[], Tensor]) -> Recording:
        if self.error is not None:
            raise self.error
        self.recorded += 1
        output = torch.zeros_like(call())

        def replay() -> None:
            output.copy_(call())

        return Recording(replay, output)

    def seconds(self, call: Callable[[], object]) -> float:
        call()
        self.times = self.times or [2.0, 1.0]
        return self.times.pop(0)

    def has_room(self) -> bool:
        return self.room


@dataclass
class Case:
    unet: UNet
    recorder: Again
    graphed: GraphedUNet
    launched: list[int]
    """Rows of the forwards that the network itself did, those while recording included."""

    def replayed(self, rows: int, seed: int, ctx: ForwardContext | None = None, tokens: int = 77) -> bool:
        """Run a forward both ways, hold the answers to each other, and say whether it was a replay."""
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        x, timesteps, context, vector = draw(rows, 4, 6, 10), draw(rows).abs() * 500, draw(rows, tokens, 16), draw(rows, 24)
        before = self.graphed.replays
        answer = self.graphed(x, timesteps, context, ctx, vector)
        torch.testing.assert_close(answer, self.unet(x, timesteps, context, ctx, vector), rtol=1e-5, atol=1e-5)
        return self.graphed.replays > before


@pytest.fixture
def case() -> Case:
    unet = randomised(UNet(CONFIG), seed=5).requires_grad_(False).eval()
    launched: list[int] = []
    unet.register_forward_pre_hook(lambda _, inputs: launched.append(len(inputs[0])))
    recorder = Again()
    return Case(unet, recorder, GraphedUNet(unet, recorder), launched)


def lora(unet: UNet, seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)

    def low_rank(layer: Linear) -> LowRank:
        down, up = (
            torch.randn(3, layer.in_features, generator=generator),
            torch.randn(layer.out_features, 3, generator=generator),
        )
        return LowRank(down, up, 0.01)

    return Adapter(str(seed), {n: low_rank(layer) for n, layer in unet.named_modules() if isinstance(layer, Linear)})


def test_a_shape_that_comes_again_is_recorded_and_replayed_with_new_inputs(case: Case) -> None:
    assert [case.replayed(2, seed) for seed in range(5)] == [False, True, True, True, True]
    assert case.recorder.recorded == 1


def test_an_answer_is_not_written_over_by_the_next_replay(case: Case) -> None:
    inputs = torch.ones(2, 4, 6, 10), torch.ones(2), torch.ones(2, 77, 16), None, torch.ones(2, 24)
    for _ in range(2):
        case.graphed(*inputs)
    first = case.graphed(*inputs)
    kept = first.clone()
    case.replayed(2, 9)
    assert torch.equal(first, kept)


@pytest.mark.parametrize("rows", [1, 5, 7, 9])
def test_rows_between_two_buckets_are_padded(case: Case, rows: int) -> None:
    assert [case.replayed(rows, seed) for seed in range(3)] == [False, True, True]
    if bucket(rows) != rows:
        assert [case.replayed(bucket(rows), 8), case.recorder.recorded] == [True, 1]


def test_a_context_that_comes_again_is_copied_once_and_another_one_is_taken(case: Case) -> None:
    x, timesteps, vector = torch.ones(2, 4, 6, 10), torch.ones(2), torch.ones(2, 24)
    contexts = torch.randn(2, 77, 16, generator=torch.Generator().manual_seed(1)), torch.zeros(2, 77, 16)
    for context in (*contexts, *contexts, contexts[1]):
        expected = case.unet(x, timesteps, context, None, vector)
        torch.testing.assert_close(case.graphed(x, timesteps, context, None, vector), expected)


def test_a_larger_recording_answers_until_a_shape_has_come_often(case: Case) -> None:
    for seed in range(3):
        case.replayed(8, seed)
    assert all(case.replayed(5, seed) for seed in range(REPEATS_BESIDE - 1))
    assert case.recorder.recorded == 1
    assert case.replayed(5, 99)
    assert case.recorder.recorded == 2


def test_a_recording_with_too_many_idle_rows_does_not_answer(case: Case) -> None:
    for seed in range(3):
        case.replayed(8, seed)
    assert not case.replayed(3, 0)


def test_adapters_on_some_rows_are_strengths_of_a_recording(case: Case) -> None:
    one, other = lora(case.unet, 1), lora(case.unet, 2)

    def ctx(*rows: list[tuple[Adapter, float]]) -> ForwardContext | None:
        return context_for(rows, [()] * len(rows), None, CPU)

    assert [case.replayed(2, seed, ctx([(one, 1.0)], [(one, 1.0)])) for seed in range(3)] == [False, True, True]
    assert case.replayed(2, 3, ctx([(one, 0.5)], []))  # the same recording: only the strengths differ
    assert case.replayed(2, 3, ctx([], [(one, -2.0)]))
    assert case.recorder.recorded == 1
    assert not case.replayed(2, 4, ctx([(one, 1.0)], [(other, 1.0)]))
    assert case.replayed(2, 5, ctx([(one, 0.3)], [(other, 1.0), (one, 1.0)]))
    assert not case.replayed(2, 6)  # without adapters it is another recording


def test_changed_norms_on_some_rows_are_a_recording_of_their_own(case: Case) -> None:
    drawn = torch.Generator().manual_seed(1)
    norms = adaptable_norms(case.unet).items()
    adapter = Adapter("norms", {name: Full(torch.randn(len(norm.weight), generator=drawn)) for name, norm in norms})
    for seed, rows in enumerate(([[], []], [[], []], [[], []], [[(adapter, 1.0)], []])):
        assert case.replayed(2, seed, context_for(rows, [(), ()], None, CPU)) == (seed in (1, 2))
    for seed, rows in enumerate(([[(adapter, 1.0)], []], [[], [(adapter, 0.5)]], [[(adapter, 2.0)]] * 2), start=4):
        assert case.replayed(2, seed, context_for(rows, [(), ()], None, CPU))


def test_an_adapter_that_was_only_counted_is_not_kept(case: Case) -> None:
    adapter = lora(case.unet, 1)
    gone = weakref.ref(adapter)
    assert not case.replayed(2, 0, context_for([[(adapter, 1.0)]] * 2, [(), ()], None, CPU))
    del adapter
    gc.collect()
    assert gone() is None
    assert not case.replayed(2, 1, context_for([[(lora(case.unet, 1), 1.0)]] * 2, [(), ()], None, CPU)), "another one"


def test_taps_and_residuals_are_left_to_the_network(case: Case) -> None:
    for _ in range(4):
        assert not case.replayed(1, 0, context_for([()], [(AttentionMass(),)], None, CPU))
    assert case.recorder.recorded == 0


def test_a_recording_that_is_no_faster_is_dropped_and_not_tried_again(case: Case) -> None:
    case.recorder.times = [1.0, 1.01]
    assert [case.replayed(2, seed) for seed in range(6)] == [False] * 6
    assert case.recorder.recorded == 1


def test_what_cannot_be_recorded_is_left_to_the_network_and_said_once(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    case.recorder.error = RuntimeError("operation not permitted when stream is capturing")
    assert [case.replayed(2, seed) for seed in range(6)] == [False] * 6
    assert caplog.text.count("operation not permitted") == 1


def test_no_memory_for_a_recording_is_no_error_but_a_failed_device_is(case: Case) -> None:
    case.recorder.error = torch.OutOfMemoryError("CUDA out of memory")
    assert [case.replayed(2, seed) for seed in range(3)] == [False] * 3
    case.recorder.error = RuntimeError("CUDA error: an illegal memory access was encountered")
    case.replayed(4, 0)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        case.replayed(4, 1)


def test_nothing_is_recorded_where_memory_is_short(case: Case) -> None:
    case.recorder.room = False
    assert [case.replayed(2, seed) for seed in range(4)] == [False] * 4
    case.recorder.room = True
    assert [case.replayed(3, seed) for seed in range(3)] == [False, True, True]
    assert case.recorder.recorded == 1


def test_the_least_recently_replayed_recording_goes_first(case: Case) -> None:
    case.graphed.most = 2
    for tokens in (77, 154, 77, 154, 77, 231, 231):
        case.replayed(2, tokens, tokens=tokens)
    assert [case.replayed(2, 1, tokens=tokens) for tokens in (77, 231, 154)] == [True, True, False]


def test_more_rows_than_any_recording_has_go_to_the_network() -> None:
    class Rows:
        def __call__(self, x: Tensor, *_: object) -> Tensor:
            return x

    graphed = GraphedUNet(Rows(), Again())  # type: ignore[arg-type]
    x = torch.ones(BUCKETS[-1] + 1, 4, 2, 2)
    for _ in range(3):
        assert graphed(x, x[:, 0, 0, 0], x[:, :, 0]) is x
