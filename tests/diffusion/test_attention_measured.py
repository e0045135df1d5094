"""The choice of attention by measurement: played candidates and a played clock say which is taken, kept and tried again."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import pytest
import torch
from torch import Tensor

from modules.diffusion.attention import sdpa
from modules.diffusion.attention.backends import TOLERANCES, difference, only, plain
from modules.diffusion.attention.measured import CANDIDATES, SLICE_BYTES, Measured, Ranking, Shape


class Played:
    """A back end that takes `ms`, is off by `wrong`, or raises `error`; counts its calls."""

    def __init__(self, ms: float = 1.0, error: Exception | None = None, wrong: float = 0.0) -> None:
        self.ms, self.error, self.wrong = ms, error, wrong
        self.calls = 0

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return sdpa(q, k, v) + self.wrong


class PlayedClock:
    """Says the milliseconds of the played back ends, and counts what was asked of it."""

    def __init__(self) -> None:
        self.capture, self.timed = False, 0
        self.broken: Exception | None = None

    def capturing(self) -> bool:
        return self.capture

    def settle(self) -> None:
        assert not self.capture, "nothing may wait for the device during a capture"
        if self.broken is not None:
            raise self.broken

    def milliseconds(self, call: Callable[[], object], runs: int) -> float:
        assert not self.capture
        assert runs >= 1
        self.timed += 1
        call()
        return cast(Played, cast("partial[Tensor]", call).func).ms


class Kept:
    """A store in memory."""

    def __init__(self, rankings: Mapping[Shape, Ranking] | None = None) -> None:
        self.rankings = dict(rankings or {})

    def load(self) -> Mapping[Shape, Ranking]:
        return dict(self.rankings)

    def add(self, shape: Shape, ranking: Ranking) -> None:
        self.rankings[shape] = ranking


def qkv(batch: int = 2, queries: int = 40, keys: int = 40, heads: int = 2, width: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(batch, n, heads, width, generator=generator) for n in (queries, keys, keys))
    return q, k, v


def taken(attend: Measured, **sizes: int) -> str:
    """The candidate that is at the head for a shape after a call with it, whose answer is held to the formula."""
    q, k, v = qkv(**sizes)
    assert difference(attend(q, k, v), plain(q, k, v)) < TOLERANCES[torch.float32]
    return attend.taken(Shape.of(q, k))


def test_the_fastest_is_taken_remembered_and_not_measured_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    slow, fast, other = Played(2.0), Played(1.0), Played(1.5)
    clock, store = PlayedClock(), Kept()
    attend = Measured({"slow": slow, "fast": fast, "other": other}, clock, store)
    assert taken(attend) == "fast"
    asked, calls = clock.timed, slow.calls
    assert taken(attend) == "fast"
    assert (clock.timed, slow.calls) == (asked, calls)
    shape = Shape(2, 40, 40, 2, 16, "float32")
    assert store.rankings == {shape: (("fast", 1.0), ("other", 1.5), ("slow", 2.0))}
    assert attend.ranking(shape) == store.rankings[shape]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == ("attention: 2 heads of width 16 in float32 use fast, 1.000 ms at 2 x 40 x 40 (other 1.500; slow 2.000)")

    again = Measured({"slow": slow, "fast": fast}, untouched := PlayedClock(), store)
    assert taken(again) == "fast"
    assert untouched.timed == 0, "what an earlier run measured is taken"


@pytest.mark.parametrize(("ms", "winner"), [(0.98, "first"), (0.96, "second")])
def test_of_two_that_are_as_fast_the_earlier_is_taken(ms: float, winner: str) -> None:
    assert taken(Measured({"first": Played(1.0), "second": Played(ms)}, PlayedClock())) == winner


def test_what_refuses_is_out_with_the_reason_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    picky = Played(0.1, NotImplementedError("no kernel for width 16\nand a page of reasons"))
    attend = Measured({"picky": picky, "other": Played()}, PlayedClock())
    for queries in (40, 400):  # two shapes of one kind
        assert taken(attend, queries=queries) == "other"
    assert [record.getMessage().partition("(")[2] for record in caplog.records] == ["picky: no kernel for width 16)"]


def test_a_kernel_that_sdpa_refuses_says_why_it_does_not_run(caplog: pytest.LogCaptureFixture) -> None:
    """torch raises that no kernel is there, and warns of the reason."""
    caplog.set_level(logging.INFO)

    def refused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        warnings.warn("Flash attention requires width < 256. (Triggered internally at sdp_utils.cpp:1.)", stacklevel=2)
        raise RuntimeError("No available kernel. Aborting execution.")

    assert taken(Measured({"flash": refused, "other": Played()}, PlayedClock())) == "other"
    assert "flash: Flash attention requires width < 256)" in caplog.text


def test_a_wrong_answer_is_never_taken(caplog: pytest.LogCaptureFixture) -> None:
    attend = Measured(
        {"wrong": Played(0.1, wrong=0.01), "nan": Played(0.1, wrong=float("nan")), "right": Played()}, PlayedClock()
    )
    assert taken(attend) == "right"
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "attention: wrong is wrong by 0.0081 (at most 0.0001) for 2 heads of width 16 in float32; it is not used",
        "attention: nan is wrong by inf (at most 0.0001) for 2 heads of width 16 in float32; it is not used",
    ]


def test_what_runs_out_of_memory_is_out_in_this_process_only() -> None:
    store = Kept()
    hungry = Played(0.1, torch.OutOfMemoryError("CUDA out of memory"))
    attend = Measured({"hungry": hungry, "other": Played()}, PlayedClock(), store)
    assert taken(attend) == "other"
    assert store.rankings == {}
    calls = hungry.calls
    assert taken(attend) == "other"
    assert hungry.calls == calls


def test_where_all_run_out_of_memory_the_call_s_own_error_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory")
    from modules.diffusion.attention import measured

    monkeypatch.setitem(measured.WAY_OUT, "sdpa", Played(error=error))
    attend = Measured({"hungry": Played(error=error)}, PlayedClock())
    with pytest.raises(torch.OutOfMemoryError):
        attend(*qkv())


def test_a_device_that_fails_while_it_is_measured_is_raised() -> None:
    clock = PlayedClock()
    clock.broken = RuntimeError("CUDA error: an illegal memory access was encountered")
    attend = Measured({"bad": Played(), "other": Played()}, clock)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        attend(*qkv())
    clock.broken = None
    assert taken(attend) == "bad", "nothing is remembered of it"


def test_a_library_that_fails_on_a_device_that_still_answers_is_out() -> None:
    """cuDNN says INTERNAL_ERROR of some shapes for which it only has no plan."""
    cudnn = Played(0.1, RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"))
    assert taken(Measured({"cudnn": cudnn, "other": Played()}, PlayedClock())) == "other"


def test_what_refuses_after_its_trial_falls_back(caplog: pytest.LogCaptureFixture) -> None:
    """The tensors of a call may lie otherwise than those of the trial."""
    fickle, other = Played(0.5), Played(1.0)
    attend = Measured({"fickle": fickle, "other": other}, PlayedClock())
    assert taken(attend) == "fickle"
    fickle.error, before = ValueError("last stride must be 1"), other.calls
    for _ in range(2):
        taken(attend)
    assert other.calls == before + 2
    assert [record.getMessage() for record in caplog.records] == [
        "attention: fickle does not run for 2 heads of width 16 in float32 (last stride must be 1); they use other"
    ]


def test_without_any_candidate_torch_chooses() -> None:
    refusing = Played(error=ValueError("never"))
    attend = Measured({"none": refusing}, PlayedClock())
    assert taken(attend) == "sdpa"
    calls = refusing.calls
    assert taken(attend) == "sdpa"
    assert refusing.calls == calls


# ---- near shapes, and captures


def test_near_a_measured_shape_only_what_did_well_there_is_tried() -> None:
    fast, close, slow = Played(1.0), Played(1.4), Played(5.0)
    attend = Measured({"slow": slow, "fast": fast, "close": close}, PlayedClock())
    taken(attend)
    calls, close.ms = slow.calls, 0.5
    assert taken(attend, batch=4) == "close"
    assert slow.calls == calls
    taken(attend, batch=32)
    assert slow.calls > calls, "32 rows are far from 4"


def test_a_clear_choice_holds_for_near_shapes_without_a_measurement() -> None:
    clock, store = PlayedClock(), Kept()
    attend = Measured({"slow": Played(5.0), "fast": Played(1.0)}, clock, store)
    taken(attend)
    asked = clock.timed
    assert taken(attend, queries=80, keys=80) == "fast"
    assert clock.timed == asked
    assert len(store.rankings) == 1, "only what was measured is kept"
    assert taken(attend, queries=80, keys=80, width=8) == "fast"
    assert clock.timed > asked, "another width is another kernel"


def test_nothing_is_measured_during_a_capture() -> None:
    clock, store = PlayedClock(), Kept()
    slow, fast = Played(5.0), Played(1.0)
    attend = Measured({"slow": slow, "fast": fast}, clock, store)
    clock.capture = True
    attend(*qkv())
    assert (clock.timed, slow.calls, fast.calls) == (0, 0, 0), "nothing is known: torch's own choice"
    clock.capture = False
    assert taken(attend) == "fast"
    asked, calls = clock.timed, fast.calls
    clock.capture = True
    attend(*qkv())
    attend(*qkv(batch=64))
    assert (clock.timed, fast.calls) == (asked, calls + 2), "what is known of the shape, else of the nearest"
    clock.capture = False
    taken(attend, batch=64)
    assert clock.timed > asked, "a capture is no measurement"


def test_a_capture_in_another_thread_puts_the_measurement_off() -> None:
    """What CUDA refuses meanwhile says nothing of a candidate."""
    clock, store = PlayedClock(), Kept()
    attend = Measured({"first": Played(1.0), "second": Played(2.0)}, clock, store)
    clock.broken = RuntimeError("CUDA error: operation not permitted when stream is capturing")
    q, k, v = qkv()
    torch.testing.assert_close(attend(q, k, v), sdpa(q, k, v))
    assert (store.rankings, attend._attends) == ({}, {})
    clock.broken = None
    assert taken(attend) == "first"


def test_a_slow_candidate_is_timed_once() -> None:
    slow, fast = Played(9.0), Played(1.0)
    taken(Measured({"fast": fast, "slow": slow}, PlayedClock()))
    assert slow.calls == 2, "its trial and one timed call"
    assert fast.calls > 3


def test_a_call_that_fills_the_time_that_is_given_is_not_repeated() -> None:
    slow = Played(500.0)
    taken(Measured({"slow": slow, "other": Played(600.0)}, PlayedClock()))
    assert slow.calls == 3, "its trial, one timed call, and the call itself"


def test_the_formula_with_all_scores_is_not_tried_where_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Played(0.1)
    attend = Measured({"math": whole, "other": Played()}, PlayedClock())
    monkeypatch.setattr("modules.diffusion.attention.measured.SLICE_BYTES", 2 * 2 * 40 * 40 * 4 - 1)
    assert taken(attend) == "other"
    assert whole.calls == 0
    monkeypatch.setattr("modules.diffusion.attention.measured.SLICE_BYTES", SLICE_BYTES)
    assert taken(attend, queries=4, keys=4) == "math"


def test_measuring_leaves_the_random_numbers_of_pictures_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    taken(Measured({"one": Played(), "two": Played()}, PlayedClock()))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_compiled_network_gets_one_operation() -> None:
    """A graph that is traced must not hold a measurement."""
    played = Played()
    attend = Measured({"one": played, "two": Played()}, PlayedClock())
    q, k, v = qkv()
    graph: list[str] = []

    def backend(module: torch.fx.GraphModule, inputs: object) -> object:
        graph.extend(str(node.target) for node in module.graph.nodes if node.op == "call_function")
        return module.forward

    out = torch.compile(lambda *parts: attend(*parts), backend=backend, fullgraph=True)(q, k, v)  # type: ignore[arg-type]
    torch.testing.assert_close(out, sdpa(q, k, v))
    assert sum("scaled_dot_product_attention" in name for name in graph) == 1
    assert played.calls == 0


# ---- SDPA's kernels one by one


def test_a_kernel_that_is_not_here_is_a_refusal_and_the_others_stay_switched_on() -> None:
    def switches() -> list[bool]:
        return [getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in ("cudnn", "flash", "mem_efficient", "math")]

    before = switches()
    q, k, v = qkv()
    with pytest.raises(RuntimeError):
        CANDIDATES["cudnn"](q, k, v)
    assert switches() == before
    torch.testing.assert_close(CANDIDATES["math"](q, k, v), sdpa(q, k, v))
    assert switches() == before


def test_a_kernel_gets_heads_whose_numbers_lie_side_by_side() -> None:
    """The autoencoder's are columns of a feature map; SDPA's fused kernels refuse those."""
    q, k, v = (part.transpose(1, 3).contiguous().transpose(1, 3) for part in qkv())
    assert q.stride(-1) != 1
    torch.testing.assert_close(only("math")(q, k, v), sdpa(q, k, v))


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_the_formula_is_more_exact_than_what_is_held_to_it(dtype: torch.dtype) -> None:
    q, k, v = (part.to(dtype) for part in qkv())
    assert plain(q, k, v).dtype == (torch.float64 if dtype == torch.float32 else torch.float32)
    assert 0 <= difference(sdpa(q, k, v), plain(q, k, v)) < TOLERANCES[dtype]
    assert difference(sdpa(q, k, v) + 0.1, plain(q, k, v)) > TOLERANCES[dtype]
