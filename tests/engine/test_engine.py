"""Many pipelines in one engine: the same pictures as alone, in fewer network evaluations, and nobody pays for another."""

from __future__ import annotations

import gc
import itertools
import shutil
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modules.checkpoints import hashes
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.forward import AttentionMass, IdentityAttention
from modules.diffusion.philox import Philox
from modules.diffusion.rows import Row
from modules.diffusion.samplers import SAMPLERS
from modules.engine.messages import Message
from modules.engine.streams import Passed
from modules.errors import NotFinite
from modules.pipelines.ops import Encode, Host, Predict, Report
from modules.pipelines.prompting import AT_ONCE
from modules.prompts.chunks import chunk
from tests.engine.conftest import Bench
from tests.tiny import TINY_METADATA, TINY_UNET, make_checkpoint


@pytest.mark.parametrize("sampler", ["Euler", "Heun", "DPM++ 2M SDE", "DDIM CFG++"])
def test_mixed_requests_give_the_same_pictures_as_alone(bench: Bench, sampler: str) -> None:
    """Different steps, guidance, prompt lengths, seeds and samplers share forwards; no pixel moves by more than 1/255."""
    requests: dict[str, dict[str, Any]] = {
        "plain": {"sampler": sampler, "seed": 1},
        "more steps": {"sampler": sampler, "seed": 2, "steps": 5, "cfg_scale": 2.5},
        "unguided": {"sampler": sampler, "seed": 3, "cfg_scale": 1.0, "prompt": ""},
        "long prompt": {"sampler": sampler, "seed": 4, "prompt": "a very long tale of a cat, " * 20},
        "karras": {"sampler": sampler, "seed": 5, "schedule": "Karras"},
        "another sampler": {"sampler": "Heun", "seed": 6, "steps": 4},
        "another size": {"sampler": sampler, "seed": 7, "width": 96},
    }
    for name, fields in requests.items():
        bench.submit(name, user=name, **fields)
    bench.run()

    for name, fields in requests.items():
        difference = np.abs(bench.pixels(name) - bench.alone(**fields)).max()
        assert difference <= 1, f"{name}: {difference}/255 from the same request alone"
    assert bench.engine.runner.rows > 2 * bench.engine.runner.forwards, "forwards were not shared"


def test_every_sampler_shares_forwards_with_every_other(bench: Bench) -> None:
    """All of them in one batch, each with other steps, guidance, prompt length and schedule, and each as alone."""
    ways: list[dict[str, Any]] = [
        {},
        {"steps": 5, "cfg_scale": 2.5},
        {"cfg_scale": 1.0, "prompt": ""},
        {"prompt": "a very long tale of a cat, " * 20},
        {"schedule": "Exponential", "steps": 2},
        {"pag_scale": 2.0, "negative_prompt": "[dog:fog:0.5]"},
    ]
    requests = {
        (name, way): {"sampler": name, "seed": 100 * seed + way, **ways[way]}
        for seed, name in enumerate(SAMPLERS)
        for way in {seed % len(ways), (seed + 2) % len(ways)}
    }
    for (name, way), fields in requests.items():
        bench.submit(f"{name} {way}", **fields)
    bench.run()
    for (name, way), fields in requests.items():
        difference = np.abs(bench.pixels(f"{name} {way}") - bench.alone(**fields)).max()
        assert difference <= 1, f"{name}, {ways[way]}: {difference}/255 from the same request alone"
    assert bench.engine.runner.rows > 8 * bench.engine.runner.forwards, "forwards were not shared"


def test_a_picture_of_a_batch_is_that_seed_alone(bench: Bench) -> None:
    for index in range(4):
        bench.submit(str(index), seed=100 + index)
    bench.run()
    for index in range(4):
        assert np.abs(bench.pixels(str(index)) - bench.alone(seed=100 + index)).max() <= 1
    assert np.abs(bench.pixels("0") - bench.pixels("1")).max() > 10, "different seeds give different pictures"


def test_exact_repeats_to_the_bit_with_other_pipelines_in_flight(manager: ModelManager) -> None:
    quiet, busy = Bench(manager, exact=True), Bench(manager, exact=True)
    quiet.submit("mine")
    quiet.run()
    for number in range(5):
        busy.submit(f"other {number}", user="other", seed=number + 50, steps=4)
    busy.submit("mine")
    busy.run()
    assert np.array_equal(quiet.pixels("mine"), busy.pixels("mine"))
    assert busy.engine.runner.rows == 2 * busy.engine.runner.forwards, "exact tasks share nothing"


def test_a_cancelled_task_leaves_at_the_next_evaluation(bench: Bench) -> None:
    bench.submit("stays", steps=6)
    bench.submit("goes", steps=6, seed=2)
    bench.run(until=lambda: len([m for m in bench.said if m.kind == "progress"]) >= 4)
    seen: list[int] = []
    forward = bench.engine.runner._forward

    def counting(model: Any, rows: Any) -> Any:
        seen.append(len(rows))
        return forward(model, rows)

    bench.engine.runner._forward = counting  # type: ignore[method-assign]
    bench.engine._handle(Message("cancel", {"task": "goes"}))
    bench.run()
    assert set(seen) == {2}, "not one more row was computed for the cancelled task"
    assert set(bench.of("done")) == {"stays"}
    assert set(bench.of("cancelled")) == {"goes"}
    bench.engine._handle(Message("cancel", {"task": "goes"}))
    assert len(bench.of("cancelled")) == 1, "cancelling twice is harmless"


def test_a_task_that_is_to_finish_decodes_what_it_has_with_the_step_that_runs(bench: Bench) -> None:
    """A1111's interrupt and skip: the unfinished picture is returned.  Others go on."""
    reports: dict[str, list[Report]] = {}
    told = bench.engine._report
    bench.engine._report = lambda task, report: (reports.setdefault(task.id, []).append(report), told(task, report))[1]  # type: ignore[method-assign,func-returns-value]
    bench.submit("stays", steps=6)
    bench.submit("ends", steps=6, seed=2)
    bench.run(until=lambda: len(reports.get("ends", [])) == 2)
    bench.engine._handle(Message("finish", {"task": "ends"}))
    bench.engine._handle(Message("finish", {"task": "is over"}))
    bench.run()
    assert [report.step for report in reports["ends"]] == [1, 2, 3]
    assert len(reports["stays"]) == 6
    model, last = bench.manager.load("tiny"), reports["ends"][-1].denoised
    image = model.latent.vae.decode(last[None] / model.latent.format.scale)[0].clamp(-1, 1)
    expected = ((image + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert np.abs(bench.pixels("ends") - expected).max() <= 1
    done = bench.of("done")
    assert done["ends"].data["facts"] == {"notes": "interrupted after step 3 of 6"}
    assert done["stays"].data["facts"] == {}


def test_a_task_that_is_to_finish_before_it_began_makes_one_step(bench: Bench) -> None:
    bench.submit("early", steps=6)
    bench.engine._handle(Message("finish", {"task": "early"}))
    bench.run()
    assert bench.of("done")["early"].data["facts"] == {"notes": "interrupted after step 1 of 6"}


def test_a_pipeline_that_raises_fails_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The poisoned row breaks every batch that it is in; only its own task gets the error."""
    forward = bench.engine.runner._forward

    def poisoned(model: Any, rows: Any) -> Any:
        if any(abs(float(row.x[0, 0, 0]) - marker) < 1e-6 for row in rows):
            raise RuntimeError("this row is poison")
        return forward(model, rows)

    for name, seed in {"good": 1, "bad": 2, "fine": 3}.items():
        bench.submit(name, seed=seed)
    bench.run(until=lambda: isinstance(bench.engine.tasks["bad"].op, Predict))
    work = bench.engine.tasks["bad"].op
    assert isinstance(work, Predict)
    marker = float(work.rows[0].x[0, 0, 0])
    monkeypatch.setattr(bench.engine.runner, "_forward", poisoned)
    bench.run()
    assert set(bench.of("failed")) == {"bad"}
    assert "this row is poison" in bench.of("failed")["bad"].data["error"]
    for name, seed in {"good": 1, "fine": 3}.items():
        assert np.abs(bench.pixels(name) - bench.alone(seed=seed)).max() <= 1


def test_out_of_memory_halves_the_batch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = bench.engine.runner._forward

    def small_device(model: Any, rows: Any) -> Any:
        if len(rows) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(model, rows)

    monkeypatch.setattr(bench.engine.runner, "_forward", small_device)
    for index in range(5):
        bench.submit(str(index), seed=index)
    bench.run()
    assert len(bench.of("done")) == 5
    assert np.abs(bench.pixels("4") - bench.alone(seed=4)).max() <= 1


def test_the_failed_batch_s_tensors_are_gone_before_its_halves_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory ran out, the retries need what the failed forward held; it was alive in the exception's frames."""
    forward = bench.engine.runner._forward
    held: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []

    def small_device(model: Any, rows: Any) -> Any:
        alive.append(any(reference() is not None for reference in held))
        activations = torch.zeros(64)
        if len(rows) > 2:
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(model, rows)

    monkeypatch.setattr(bench.engine.runner, "_forward", small_device)
    for index in range(4):
        bench.submit(str(index), seed=index)
    bench.run()
    assert held
    assert not any(alive)
    assert len(bench.of("done")) == 4


def test_a_picture_too_large_for_the_device_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(model: Any, rows: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(bench.engine.runner, "_forward", full)
    bench.submit("large")
    bench.run()
    assert "not enough memory" in bench.of("failed")["large"].data["error"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"checkpoint": "absent"}, "absent"),
        ({"sampler": "Oiler"}, "Euler"),
        ({"schedule": "Carras"}, "Karras"),
        ({"steps": 0}, "steps"),
    ],
)
def test_bad_requests_are_answered_and_harm_nobody(bench: Bench, fields: dict[str, Any], expected: str) -> None:
    bench.submit("bad", **fields)
    bench.submit("good")
    bench.run()
    assert expected in bench.of("failed")["bad"].data["error"]
    assert "good" in bench.of("done")


def test_not_finite_is_reported_with_its_step(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = bench.engine.runner._forward

    def broken(model: Any, rows: Any) -> Any:
        return [replace(answer, x0=answer.x0 * float("nan")) for answer in forward(model, rows)]

    monkeypatch.setattr(bench.engine.runner, "_forward", broken)
    bench.submit("nan")
    bench.run()
    assert "step 1" in bench.of("failed")["nan"].data["error"]


def test_progress_counts_steps_for_every_sampler(bench: Bench) -> None:
    for name in SAMPLERS:
        bench.submit(name, sampler=name, steps=4)
    bench.run()
    for name, sampler in SAMPLERS.items():
        steps = [(m.data["step"], m.data["steps"]) for m in bench.said if m.kind == "progress" and m.data["task"] == name]
        total = 3 if name in ("DDIM", "DDIM CFG++", "PLMS") else 4  # A1111's walk between their 4 levels
        if sampler.adaptive:
            assert steps == sorted(set(steps))
            assert steps[-1] == (total, total)
        else:
            assert steps == [(step, total) for step in range(1, total + 1)], name


def test_options_share_forwards_and_change_the_picture(bench: Bench) -> None:
    """Noise, solver and guidance: each option gives another picture than without, and the same one in a batch as alone."""
    requests: dict[str, dict[str, Any]] = {
        "plain": {},
        "GPU's numbers": {"rng": "NV"},
        "variation": {"variation_seed": 5, "variation_strength": 0.4},
        "resized": {"seed_resize_width": 96, "seed_resize_height": 64},
        "churn": {"sampler": "Euler", "s_churn": 3.0},
        "eta": {"sampler": "Euler a", "eta": 0.4},
        "delta": {"sampler": "Euler a", "ensd": 31337},
        "ends": {"sigma_min": 0.2, "sigma_max": 9.0},
        "rho": {"schedule": "Karras", "rho": 3.0},
        "penultimate": {"discard_penultimate": True},
        "terminal": {"zero_snr": True},
        "unit": {"sgm_noise_multiplier": True, "sigma_max": 1.5},
        "early": {"skip_early_cfg": 0.3},
        "ngms": {"ngms": 8.0},
        "ngms always": {"ngms": 8.0, "ngms_all_steps": True},
        "rescale": {"cfg_rescale": 0.7},
        "thresholding": {"mimic_scale": 2.0, "threshold_percentile": 0.9},
        "projection": {"apg": True, "apg_momentum": -0.5, "apg_norm": 5.0},
        "perturbed attention": {"pag_scale": 3.0},
        "perturbed, unguided": {"pag_scale": 3.0, "cfg_scale": 1.0},
        "perturbed, early": {"pag_scale": 3.0, "skip_early_cfg": 0.4},
        "self-attention": {"sag_scale": 2.0},
        "blurred less": {"sag_scale": 2.0, "sag_blur": 0.5},
        "zero star": {"cfg_zero": True, "cfg_scale": 40.0},
        "still at first": {"cfg_zero_steps": 1},
    }
    for name, fields in requests.items():
        bench.submit(name, **fields)
    bench.run()
    assert bench.engine.runner.rows > 3 * bench.engine.runner.forwards
    seen = [bench.pixels("plain"), bench.alone(sampler="Euler"), bench.alone(sampler="Euler a")]
    seen += [bench.alone(sigma_max=1.5), bench.alone(cfg_scale=1.0), bench.alone(cfg_scale=40.0)]
    for name, fields in requests.items():
        assert np.abs(bench.pixels(name) - bench.alone(**fields)).max() <= 1, name
        if name != "plain":
            assert all(np.abs(bench.pixels(name) - other).max() > 1 for other in seen), name


@pytest.mark.parametrize("source", [False, True])
def test_zero_terminal_snr_of_a_file_is_switched_off_by_a_request(
    bench: Bench, tiny_models: Path, tmp_path: Path, source: bool
) -> None:
    """The picture is that of the same networks without the file's word, from words and from a picture."""
    fields: dict[str, Any] = {"source": Image.new("RGB", (64, 64), "red"), "denoising_strength": 0.9} if source else {}
    plain = bench.alone(**fields)
    (tmp_path / "models").mkdir()
    shutil.copy(tiny_models / "tiny.safetensors", tmp_path / "models" / "tiny.safetensors")
    (tmp_path / "models" / "tiny.yaml").write_text("zero_terminal_snr: true\n")
    bench.manager = ModelManager([tmp_path / "models"], torch.device("cpu"), torch.float32, sdpa, cache=tmp_path / "other.json")
    assert np.abs(bench.alone(**fields) - plain).max() > 1
    assert np.array_equal(bench.alone(**fields, ignore_zero_snr=True), plain)


def test_rows_with_taps_share_forwards_with_rows_without(bench: Bench) -> None:
    """Perturbed and watched rows, and what self-attention guidance asks again, go along with whatever is there."""
    steps = 16  # so many that they meet, however long the last one's words take on a busy machine
    seen: list[tuple[Row, ...]] = []
    forward = bench.engine.runner._forward

    def noting(model: Any, rows: Any) -> Any:
        seen.append(tuple(rows))
        return forward(model, rows)

    bench.engine.runner._forward = noting  # type: ignore[method-assign]
    bench.submit("plain", steps=steps)
    bench.submit("perturbed", steps=steps, pag_scale=2.0, seed=2)
    bench.submit("watched", steps=steps, sag_scale=1.0, seed=3)
    bench.run()
    kinds = [
        (sum(IdentityAttention() in row.taps for row in rows), sum(AttentionMass() in row.taps for row in rows), len(rows))
        for rows in seen
    ]
    assert (1, 1, 7) in kinds, "2 + 3 + 2 rows in one forward"
    assert (1, 0, 6) in kinds, "2 + 3 and the one that is asked again"
    assert sum(rows for _, _, rows in kinds) == steps * (2 + 3 + 3)


def test_a_network_without_middle_attention_says_so(bench: Bench, tiny_models: Path) -> None:
    make_checkpoint(tiny_models / "hollow.safetensors", unet=replace(TINY_UNET, middle_depth=0), metadata=TINY_METADATA)
    bench.submit("hollow", checkpoint="hollow", pag_scale=2.0)
    bench.run()
    assert "no attention in the middle" in bench.of("failed")["hollow"].data["error"]


def test_previews_are_made_only_for_those_who_look(bench: Bench) -> None:
    bench.engine._handle(Message("watch", {"tasks": ["seen"]}))
    bench.submit("seen", steps=6)
    bench.submit("unseen", steps=6, seed=2)
    bench.run()
    previews = [m for m in bench.said if m.kind == "preview"]
    assert previews
    assert {m.data["task"] for m in previews} == {"seen"}
    first = previews[0]
    assert len(first.blob) == first.data["width"] * first.data["height"] * 3
    assert len(set(first.blob)) > 4, "a preview shows something"


def test_a_checkpoint_that_cannot_be_loaded_is_not_loading_for_ever(bench: Bench) -> None:
    (path := bench.manager.folders[0] / "torn.safetensors").write_bytes(b"no model")
    try:
        bench.submit("bad", checkpoint="torn")
        bench.run()
    finally:
        path.unlink()
    kinds = [message.kind for message in bench.said if message.kind in ("loading", "loaded", "load-failed")]
    assert kinds == ["loading", "load-failed"]
    assert set(bench.of("failed")) == {"bad"}


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), NotFinite("NaN")])
def test_a_preview_that_fails_costs_the_preview_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def failing(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(bench.engine.runner, "preview", failing)
    bench.engine._handle(Message("watch", {"tasks": ["seen"]}))
    bench.submit("seen", steps=6)
    bench.run()
    assert set(bench.of("done")) == {"seen"}
    assert [record.getMessage() for record in caplog.records] == [f"no previews of seen: {error}"], "tried and said once"


def test_what_a_preview_costs_is_known_by_its_size(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small picture's quick decode says nothing of a large one's; a large one's says enough of a small one's."""
    model, runner = bench.manager.load("tiny"), bench.engine.runner
    decoded: list[tuple[int, ...]] = []
    pixels = runner._pixels

    def noting(model: Any, latents: Any) -> Any:
        decoded.append(tuple(latents.shape[-2:]))
        return pixels(model, latents)

    monkeypatch.setattr(runner, "_pixels", noting)
    runner._decode_seconds[model, torch.Size((4, 8, 8))] = 0.001
    runner.preview(model, torch.zeros(4, 64, 64))
    assert decoded == [], "a linear map"
    runner.preview(model, torch.zeros(4, 8, 8))
    runner._decode_seconds[model, torch.Size((4, 16, 16))] = 0.001
    runner.preview(model, torch.zeros(4, 16, 8))
    assert decoded == [(8, 8), (16, 8)]


def test_many_sides_of_and_are_evaluated_a_few_at_a_time(bench: Bench) -> None:
    """One call of the device must not last as long as one prompt has sides; the picture is the same."""
    seen: list[int] = []
    forward = bench.engine.runner._forward

    def counting(model: Any, rows: Any) -> Any:
        seen.append(len(rows))
        return forward(model, rows)

    bench.engine.runner._forward = counting  # type: ignore[method-assign]
    prompt = " AND ".join(f"word{number} :0.1" for number in range(20))
    bench.submit("many", prompt=prompt, steps=2)
    bench.run()
    assert seen == [8, 8, 5] * 2
    assert np.abs(bench.pixels("many") - bench.alone(prompt=prompt, steps=2)).max() <= 1


def test_nothing_grows(bench: Bench) -> None:
    """After equal rounds every container is as large as before, and finished pipelines are garbage."""

    def one_round() -> list[int]:
        for index in range(3):
            bench.submit(f"{index}", seed=index)
        finished = [weakref.ref(task) for task in bench.engine.tasks.values()]
        bench.run()
        gc.collect()
        assert [ref() for ref in finished] == [None, None, None]
        engine = bench.engine
        containers: list[Any] = [engine.tasks, engine._parked, engine._load_since, engine.reports.previewed, engine.flight]
        containers += [engine.reports.watched, engine.runner._windows, engine.runner._decode_seconds]
        return [len(container) for container in containers]

    first = one_round()
    assert one_round() == first
    assert not torch.is_inference_mode_enabled()


def test_unloading_frees_the_model_and_the_next_picture_loads_it_again(bench: Bench) -> None:
    bench.submit("before")
    bench.submit("meanwhile", seed=2)
    bench.run(until=lambda: "before" in bench.of("done") or bool(bench.of("progress")))
    model = weakref.ref(bench.manager.load("tiny"))
    bench.engine._handle(Message("unload"))
    assert not bench.manager.is_loaded("tiny")
    bench.run()
    assert set(bench.of("done")) == {"before", "meanwhile"}, "what was under way kept its model"
    gc.collect()
    assert model() is None
    bench.submit("after")
    bench.run()
    assert np.abs(bench.pixels("after") - bench.pixels("before")).max() <= 1


LONG = " BREAK ".join(f"cat number {number}" for number in range(200))
"""As many different windows: thirteen calls of the text encoder."""


def noted_encodes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """The windows of each call of the text encoder, in order.

    Every call of the device costs the same by its clock, and no call is launched before what host threads do has ended: neither
    depends on how fast this machine is.
    """
    calls: list[list[Any]] = []
    run = bench.engine.runner.run

    def noting(works: Any) -> Any:
        if encodes := [work for work in works if isinstance(work, Encode)]:
            calls.append([window for work in encodes for window in work.chunks])
        return run(works)

    seconds = itertools.count()
    monkeypatch.setattr(bench.engine.runner, "run", noting)
    monkeypatch.setattr(bench.engine.streams, "mark", lambda: Passed(float(next(seconds))))
    monkeypatch.setattr("modules.engine.engine.QUICK_SECONDS", 60.0)
    return calls


def test_a_prompt_of_hundreds_of_windows_does_not_hold_up_another_user(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = noted_encodes(bench, monkeypatch)
    bench.submit("long", "a", prompt=LONG)
    bench.run(until=lambda: len(calls) == 2)
    bench.submit("short", "b", prompt="a dog", steps=1)
    bench.run(until=lambda: "short" in bench.of("done"))
    assert len(calls) < 13, "the short one is finished while the long one is still being encoded"
    bench.run()
    assert "long" in bench.of("done")
    assert max(map(len, calls)) <= 2 * AT_ONCE
    assert sum(map(len, calls)) >= 200


def test_a_job_is_cancelled_between_two_calls_of_its_text_encoder(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = noted_encodes(bench, monkeypatch)
    bench.submit("long", "a", prompt=LONG)
    bench.run(until=lambda: len(calls) == 2)
    bench.engine._handle(Message("cancel", {"task": "long"}))
    bench.run()
    assert len(calls) == 2
    assert not bench.engine.tasks
    assert "long" not in bench.of("done")


@pytest.mark.parametrize("sampler", [*(name for name, sampler in SAMPLERS.items() if sampler.brownian), "Euler a", "DDIM"])
def test_noise_that_takes_long_is_drawn_on_host_threads(bench: Bench, sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Brownian increment takes up to twenty draws, and a draw of a GPU's numbers ten times torch's own; all others wait."""
    threads: list[bool] = []
    draw = Philox.randn

    def noted(self: Philox, shape: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return draw(self, shape)

    monkeypatch.setattr(Philox, "randn", noted)
    fields = {"sampler": sampler, "rng": "NV", "steps": 5}
    bench.submit("one", **fields)
    bench.submit("two", user="v", **{**fields, "seed": 2})
    bench.run()
    assert threads
    assert not any(threads)
    monkeypatch.undo()
    assert np.abs(bench.pixels("one") - bench.alone(**fields)).max() <= 1


def test_prompts_are_tokenised_on_host_threads(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of 30,000 characters takes a tenth of a second."""
    threads: list[bool] = []

    def noted(*given: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return chunk(*given)

    monkeypatch.setattr("modules.diffusion.clip_prompts.chunk", noted)
    bench.submit("one", prompt="a [cat:dog:2]")
    bench.run()
    assert threads
    assert not any(threads)
    assert bench.of("done")


def test_pictures_that_wait_for_their_checkpoint_s_hash_hold_up_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record names the hash, and of a large file it is known long after the first pictures are painted."""
    known, read = threading.Event(), hashes.file_sha256

    def slowly(path: Path, cache: Path) -> str:
        known.wait(60)
        return read(path, cache)

    monkeypatch.setattr(hashes, "file_sha256", slowly)
    monkeypatch.setattr(hashes, "AT_ONCE", 0)

    def wait(*tasks: str) -> bool:
        ops = [bench.engine.tasks[task].op for task in tasks]
        return all(isinstance(op, Host) and op.waits for op in ops)

    for task in ("a", "b", "c"):
        bench.submit(task, steps=1)
    bench.run(until=lambda: wait("a", "b", "c"))
    bench.submit("d", steps=1)
    bench.run(until=lambda: wait("d"))
    assert not bench.of("done")
    known.set()
    bench.run()
    digits = {message.data["model_hash"] for message in bench.of("done").values()}
    assert len(bench.of("done")) == 4
    assert [len(each) for each in digits] == [10]
