"""The engine ahead of a device that is asynchronous: what it launches, and what follows when the device has come to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modules.checkpoints.manager import ModelManager
from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.schedules import sigmas_for
from modules.engine import reports
from modules.engine.costs import Call
from modules.engine.engine import Engine
from modules.engine.flight import Flight, Launched
from modules.engine.messages import Message
from modules.engine.streams import AHEAD, Immediate
from modules.errors import NotFinite
from modules.pipelines.ops import Decode, Predict
from tests.engine.conftest import Bench
from tests.engine.fake_streams import FakeStreams


class AsyncBench(Bench):
    """A bench whose device does nothing until the test says so."""

    def __post_init__(self) -> None:
        self.device = FakeStreams()
        self.engine = Engine(self.manager, self.said.append, self.exact, streams=self.device)

    def tick(self, until: Callable[[], bool]) -> None:
        """Tick while the device stands still; host threads go on."""
        with torch.inference_mode():
            while not until():
                self.engine.tick()

    def idle(self) -> None:
        """Tick until nothing is on a host thread or could be launched."""
        quiet = 0
        with torch.inference_mode():
            while quiet < 3:
                self.engine.tick()
                waits = self.engine._parked or self.engine._load_since or self.engine._launchable()
                quiet = 0 if waits else quiet + 1

    def calls(self) -> int:
        return sum(launched.call for launched in self.engine.flight._launched)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Tick and let the device do all of it, until no pipeline is left."""
        with torch.inference_mode():
            while self.engine.tasks and not until():
                self.engine.tick()
                self.device.finish()
        with torch.inference_mode():
            self.engine.tick()

    def reach(self, kind: type, task: str = "a") -> None:
        """Until that task waits for an op of this kind and has launched it."""

        def there() -> bool:
            self.device.finish()
            return isinstance(self.engine.tasks[task].op, kind) and self.engine.tasks[task].launched

        self.tick(there)


@pytest.fixture
def ahead(manager: ModelManager) -> AsyncBench:
    return AsyncBench(manager)


@pytest.mark.parametrize("sampler", ["Euler", "Heun", "Euler a", "DPM++ 2M SDE"])
def test_pictures_are_those_of_a_device_that_is_immediate(ahead: AsyncBench, bench: Bench, sampler: str) -> None:
    for each in (ahead, bench):
        each.submit("a", sampler=sampler, steps=4)
        each.submit("b", user="v", sampler="Heun", seed=2, width=96)
        each.run()
    for task in ("a", "b"):
        assert np.array_equal(ahead.pixels(task), bench.pixels(task))
    assert ahead.device.waited == 0, "the engine's thread never waits for the device"
    assert ahead.engine.runner.forwards == bench.engine.runner.forwards
    for task in ("a", "b"):
        said, expected = (
            [(m.kind, m.data.get("step")) for m in each.said if m.data.get("task") == task] for each in (ahead, bench)
        )
        assert said == expected


def test_no_more_calls_are_launched_than_may_be_in_flight(ahead: AsyncBench) -> None:
    ahead.submit("a", steps=6)
    ahead.idle()
    runner = ahead.engine.runner
    assert ahead.calls() == AHEAD == 2
    assert runner.forwards == 1, "the text encoder's call and one forward"
    for launched in (2, 3, 4):
        before = ahead.calls()
        while ahead.calls() == before:
            ahead.device.advance()
            with torch.inference_mode():
                ahead.engine.flight.settle()
        ahead.idle()
        assert (runner.forwards, ahead.calls()) == (launched, AHEAD), "one ends, one is launched"


def test_progress_is_told_when_the_device_has_come_to_it(ahead: AsyncBench) -> None:
    ahead.submit("a", steps=6)
    ahead.idle()
    assert ahead.engine.runner.forwards == 1
    assert not ahead.of("progress")
    ahead.device.finish()
    ahead.idle()
    assert ahead.of("progress")["a"].data["step"] == 1
    assert ahead.engine.runner.forwards == 3, "two more are launched by then"


def test_not_finite_is_found_late_with_its_step_and_costs_that_picture_only(
    ahead: AsyncBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of one picture give NaN in its second forward, which another picture shares."""
    forward, shared = ahead.engine.runner._forward, []
    trained = ahead.manager.load("tiny").noise.trained
    poison = sigmas_for("Exponential", SAMPLERS["Euler"], trained, 5)[1]

    def broken(model: Any, rows: Any) -> Any:
        bad = [row.sigma == poison for row in rows]
        if any(bad):
            shared.append(not all(bad))
        answers = zip(forward(model, rows), bad, strict=True)
        return [replace(answer, x0=answer.x0 * float("nan")) if is_bad else answer for answer, is_bad in answers]

    monkeypatch.setattr(ahead.engine.runner, "_forward", broken)
    ahead.submit("good", seed=1, steps=5)
    ahead.submit("bad", seed=2, steps=5, sampler="Euler", schedule="Exponential")
    ahead.idle()
    ahead.run()
    assert shared == [True]
    assert set(ahead.of("failed")) == {"bad"}
    assert "step 2 of 5: the network returned NaN" in ahead.of("failed")["bad"].data["error"]
    assert [m.data["step"] for m in ahead.said if m.kind == "progress" and m.data["task"] == "bad"] == [1]
    assert np.abs(ahead.pixels("good") - ahead.alone(seed=1, steps=5)).max() <= 1


def test_not_finite_of_the_last_step_is_found_before_the_pixels_are_handed_out(
    ahead: AsyncBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder, which was launched by then, gives NaN too; the picture fails for the step."""
    forward = ahead.engine.runner._forward

    def broken(model: Any, rows: Any) -> Any:
        answers = forward(model, rows)
        last = ahead.engine.runner.forwards == 2
        return [replace(answer, x0=answer.x0 * float("inf")) for answer in answers] if last else answers

    monkeypatch.setattr(ahead.engine.runner, "_forward", broken)
    ahead.submit("a", steps=3)
    ahead.tick(
        lambda: (ahead.device.advance(len(ahead.device.marks[False])), isinstance(ahead.engine.tasks["a"].op, Decode))[1]
    )
    assert ahead.engine.tasks["a"].op is not None
    ahead.run()
    assert "step 3 of 3" in ahead.of("failed")["a"].data["error"]
    assert not ahead.of("done")


def test_a_decoder_that_gives_nan_costs_its_picture_only(ahead: AsyncBench, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, model = ahead.engine.runner, ahead.manager.load("tiny")
    pixels = runner._pixels

    def broken(model: Any, latents: Any) -> Any:
        made, largest = pixels(model, latents)
        largest[0] = float("nan")
        return made, largest

    monkeypatch.setattr(runner, "_pixels", broken)
    with torch.inference_mode():
        bad, good = runner.run([Decode(model, torch.zeros(4, 8, 8)), Decode(model, torch.ones(4, 8, 8))])
    ahead.device.finish()
    with pytest.raises(NotFinite, match="the autoencoder of 'tiny' gave NaN"):
        bad.result()
    assert good.result().shape == (64, 64, 3)

    ahead.submit("a", steps=2)
    ahead.run()
    assert "the autoencoder of 'tiny' gave NaN" in ahead.of("failed")["a"].data["error"]


def test_an_encoder_that_gives_nan_is_found(ahead: AsyncBench, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (ahead, bench):
        monkeypatch.setattr(
            each.engine.runner, "_encode_images", lambda ops: [torch.full((4, 8, 8), float("nan")) for _ in ops]
        )
        each.submit("a", source=Image.new("RGB", (64, 64)), denoising_strength=0.5)
        each.run()
        assert "the autoencoder of 'tiny' gave NaN" in each.of("failed")["a"].data["error"]


def test_others_go_on_while_a_picture_is_decoded(ahead: AsyncBench) -> None:
    ahead.submit("a", steps=2)
    ahead.submit("b", user="v", seed=2, steps=6)
    ahead.tick(lambda: (ahead.device.advance(len(ahead.device.marks[False])), ahead.engine.tasks["a"].launched)[1])
    forwards = ahead.engine.runner.forwards
    assert isinstance(ahead.engine.tasks["a"].op, Decode)
    ahead.tick(lambda: (ahead.device.advance(len(ahead.device.marks[False])), ahead.engine.runner.forwards > forwards)[1])
    assert not ahead.of("done"), "its pixels are not here yet"
    ahead.device.advance(len(ahead.device.marks[True]), beside=True)
    ahead.idle()
    assert set(ahead.of("done")) == {"a"}
    assert np.abs(ahead.pixels("a") - ahead.alone(steps=2)).max() <= 1, "they are read when they are here"
    ahead.run()
    assert set(ahead.of("done")) == {"a", "b"}


def test_a_second_decode_waits_while_two_are_in_flight() -> None:
    device, flight = FakeStreams(), Flight()
    for _ in range(AHEAD):
        with device.beside():
            flight.add(Launched(device.mark(), lambda: None, beside=True, call=True))
    assert flight.full(beside=True)
    assert not flight.full()


def test_what_was_launched_first_is_settled_first() -> None:
    """A call of the second stream is never settled before what it waits for, whatever the marks say meanwhile."""
    device, flight = FakeStreams(), Flight()
    settled: list[str] = []
    first = device.mark()
    flight.add(Launched(first, lambda: settled.append("call")))
    with device.beside():
        second = device.mark()
    flight.add(Launched(second, lambda: settled.append("decode"), beside=True))
    third = device.mark()
    flight.add(Launched(third, lambda: settled.append("next call")))
    second.at = 1.0  # seen as done just after the first was seen as not done
    flight.settle()
    assert settled == []
    first.at = 1.0
    second.at = None
    flight.settle()
    assert settled == ["call"]
    third.at = 2.0
    flight.settle()
    assert settled == ["call", "next call"], "later calls do not wait for a decode"
    second.at = 3.0
    flight.settle()
    assert settled == ["call", "next call", "decode"]
    assert flight.busy_since is None


@pytest.mark.parametrize("waits_for", [Predict, Decode])
def test_a_task_is_cancelled_with_its_call_in_flight(ahead: AsyncBench, waits_for: type) -> None:
    ahead.engine._handle(Message("watch", {"tasks": ["a"]}))
    ahead.submit("a", steps=2)
    if waits_for is Predict:
        ahead.idle()
    else:
        ahead.reach(Decode)
    assert len(ahead.engine.flight)
    ahead.engine._handle(Message("cancel", {"task": "a"}))
    said = len(ahead.said)
    ahead.device.finish()
    ahead.idle()
    assert set(ahead.of("cancelled")) == {"a"}
    assert {message.kind for message in ahead.said[said:]} <= {"costs"}, "nothing is said of it any more"
    assert not ahead.engine.flight
    assert not ahead.engine.shares.used, "nobody is left, and nobody in debt"
    ahead.submit("a", steps=2)
    ahead.run()
    assert set(ahead.of("done")) == {"a"}


def test_stopping_waits_for_what_is_in_flight_and_says_nothing_of_it(ahead: AsyncBench) -> None:
    ahead.submit("a", steps=6)
    ahead.idle()
    ahead.engine.inbox.put(Message("stop"))
    thread = threading.Thread(target=ahead.engine.run, daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert ahead.device.waited > 0
    assert not ahead.engine.flight
    assert not ahead.of("progress")


def test_calls_cost_what_the_device_took_for_them(ahead: AsyncBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users pay what a call is likely to take when it is launched, and the rest, or get it back, when it is done."""
    charged: list[tuple[dict[str, int], float]] = []
    charge = ahead.engine.shares.charge

    def noted(rows: Mapping[str, int], seconds: float) -> None:
        charged.append((dict(rows), seconds))
        charge(rows, seconds)

    monkeypatch.setattr(ahead.engine.shares, "charge", noted)
    ahead.engine.costs.put([(Call("predict", "tiny", 64, 64, 2), 3.0)])
    ahead.submit("a", steps=2)
    ahead.idle()
    assert charged == [({"u": 2}, 3.0)], "the forward is in flight; of the text encoder's nothing is known"
    ahead.device.advance(2, seconds=0.25)  # the text encoder's call: from its first mark to its second
    ahead.idle()
    assert charged[1:] == [({"u": 2}, 0.25), ({"u": 2}, 3.0)], "two windows, and the second forward"
    while len(charged) < 4:
        ahead.device.advance(1, seconds=5.0)
        ahead.engine.flight.settle()
    marks = round((charged[3][1] + 3.0) / 5.0)
    assert charged[3] == ({"u": 2}, 5.0 * marks - 3.0), "what the device took from mark to mark, less what was charged before"
    assert marks >= 1
    ahead.run()
    learned = ahead.engine.costs.seconds(Call("predict", "tiny", 64, 64, 2))
    assert learned is not None
    assert learned != 3.0


def test_memory_that_runs_out_when_pictures_are_decoded_halves_the_call(
    ahead: AsyncBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, model, sizes = ahead.engine.runner, ahead.manager.load("tiny"), []
    pixels = runner._pixels

    def small_device(model: Any, latents: Any) -> Any:
        sizes.append(len(latents))
        if len(latents) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pixels(model, latents)

    monkeypatch.setattr(runner, "_pixels", small_device)
    latents = [torch.zeros(4, 8, 8), torch.ones(4, 8, 8)]
    with torch.inference_mode():
        answers = runner.run([Decode(model, latent) for latent in latents])
    ahead.device.finish()
    assert sizes == [2, 1, 1]
    for answer, latent in zip(answers, latents, strict=True):
        assert torch.equal(answer.result(), pixels(model, latent[None])[0][0])


def test_a_picture_that_cannot_be_decoded_at_launch_fails(ahead: AsyncBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(model: Any, latents: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ahead.engine.runner, "_pixels", full)
    ahead.submit("a", steps=2)
    ahead.run()
    assert "not enough memory" in ahead.of("failed")["a"].data["error"]


def test_a_preview_comes_when_its_copy_is_there(ahead: AsyncBench, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead.engine._handle(Message("watch", {"tasks": ["a"]}))
    ahead.submit("a", steps=6)
    ahead.idle()
    assert ahead.engine.runner.forwards == 1
    ahead.device.advance(len(ahead.device.marks[False]))
    ahead.idle()
    assert ahead.of("progress")["a"].data["step"] == 1
    assert not ahead.of("preview")
    ahead.device.finish()
    ahead.idle()
    preview = ahead.of("preview")["a"]
    assert len(preview.blob) == 8 * 8 * 3, "a linear map: nothing was decoded yet"
    assert len(set(preview.blob)) > 4, "of the picture, and not of what was in the memory before"


def test_a_preview_that_fails_late_costs_the_preview_only(
    ahead: AsyncBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reports, "PREVIEW_SECONDS", 0.0)
    model = ahead.manager.load("tiny")

    def failing(*_: Any) -> Any:
        raise RuntimeError("no map")

    monkeypatch.setattr(type(model.latent), "linear_preview", failing)
    ahead.engine._handle(Message("watch", {"tasks": ["a"]}))
    ahead.submit("a", steps=6)
    ahead.run()
    assert set(ahead.of("done")) == {"a"}
    assert caplog.records
    assert all(record.getMessage() == "no previews of a: no map" for record in caplog.records)
    assert not ahead.of("preview")


def test_the_watchdog_sees_since_when_the_device_works(ahead: AsyncBench, bench: Bench) -> None:
    ahead.submit("a", steps=6)
    ahead.idle()
    since = ahead.engine.busy_since
    assert since is not None
    assert ahead.engine.busy_since == since, "it stands still while the device does"
    ahead.device.advance(3)
    ahead.engine.flight.settle()
    later = ahead.engine.busy_since
    assert later is not None
    assert later > since, "it did something"
    ahead.run()
    assert ahead.engine.busy_since is None
    assert isinstance(bench.engine.streams, Immediate)
    bench.submit("a")
    bench.run()
    assert bench.engine.busy_since is None


def test_the_loop_looks_after_the_device_when_there_is_nothing_else_to_do(ahead: AsyncBench) -> None:
    """In a thread, as in the engine's process: what is done is handed out without a message that would wake the loop."""
    done = threading.Event()
    ahead.engine.emit = lambda message: done.set() if message.kind == "done" else None
    thread = threading.Thread(target=ahead.engine.run, daemon=True)
    ahead.submit("a", steps=3)
    thread.start()
    try:
        while not done.wait(0.002):
            ahead.device.finish()
    finally:
        ahead.engine.inbox.put(Message("stop"))
        thread.join(timeout=60)
    assert not thread.is_alive()


def test_a_loaded_model_is_measured_between_pictures_and_not_when_it_is_gone(
    ahead: AsyncBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def timed(model: Any, rows: list[Any]) -> float:
        assert not ahead.engine.tasks, "nobody waits"
        measured.append(len(rows))
        return 0.01

    monkeypatch.setattr(ahead.engine.runner, "_timed", timed)
    ahead.engine.probes = True
    ahead.submit("a", steps=3)
    ahead.run()
    assert not measured
    assert ahead.engine.measuring
    with torch.inference_mode():
        ahead.engine._receive()
        ahead.engine.tick()
        assert measured
        ahead.engine.inbox.put(Message("unload"))
        ahead.engine._receive()
    before = len(measured)
    ahead.idle()
    assert (len(measured), ahead.engine.measuring) == (before, False)
