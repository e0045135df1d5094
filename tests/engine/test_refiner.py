"""The refiner: another checkpoint goes on with the denoising loop, in the engine, shared with others, and to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modules.checkpoints.families import FAMILIES
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.refiners import refiner_problem
from modules.diffusion.attention import sdpa
from modules.diffusion.samplers import find_sampler
from modules.diffusion.schedules import TrainedSigmas, sigmas_for
from modules.engine import engine as engine_module
from modules.engine.messages import Message
from modules.errors import RequestError
from modules.pipelines.generate import generate
from modules.pipelines.ops import Load, Predict
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import refined_steps, stages_of
from modules.request import parse_request
from tests.engine.conftest import Bench
from tests.sdxl import sdxl_checkpoint
from tests.tiny import tiny_checkpoint

TWICE = {"width": 128, "height": 128, "steps": 2, "denoising_strength": 0.6}
PAIR = {"refiner": "other", "refiner_switch_at": 0.5}


@pytest.fixture(scope="session")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    tiny_checkpoint(folder / "other.safetensors", seed=1)
    sdxl_checkpoint(folder / "xl.safetensors")
    return folder


@pytest.fixture
def manager(two_models: Path, tmp_path: Path) -> ModelManager:
    """It keeps one model beside those in use."""
    return ModelManager([two_models], torch.device("cpu"), torch.float32, sdpa, cache=tmp_path / "hashes.json")


def evaluated(bench: Bench, **fields: Any) -> list[tuple[str, float, float, int]]:
    """(checkpoint, sigma, a number that stands for the prompt, width) of each evaluation."""
    seen = []

    def watched(pipeline: Any) -> Any:
        answer = None
        while True:
            try:
                op = pipeline.send(answer)
            except StopIteration as end:
                return end.value
            if isinstance(op, Predict):
                row = op.rows[0]
                text = float(row.conditioning.context.sum())
                seen.append((op.model.info.name, row.sigma, text, row.x.shape[-1]))
            answer = yield op

    run_reference(watched(generate(stages_of(parse_request(bench.request(**fields))))), bench.manager)
    return seen


def nearest(sigma: float) -> int:
    """A1111's timestep of a noise level: the trained one with the smallest distance."""
    trained = torch.tensor(TrainedSigmas.scaled_linear().sigmas, dtype=torch.float64)
    return int((trained - sigma).abs().argmin())


SAMPLERS = ["Euler", "Heun", "DPM2 a", "DPM++ 2M", "DPM++ SDE", "DDIM", "PLMS", "UniPC", "DPM adaptive", "Restart", "LCM"]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("at", [0.3, 0.8])
def test_it_takes_over_at_the_noise_level_of_an_evaluation_and_stays(bench: Bench, sampler: str, at: float) -> None:
    seen = evaluated(bench, steps=6, sampler=sampler, refiner="other", refiner_switch_at=at)
    over = [(999 - nearest(sigma)) / 1000 >= at for _, sigma, _, _ in seen]
    first = over.index(True) if True in over else len(over)
    assert [name for name, *_ in seen] == ["tiny"] * first + ["other"] * (len(seen) - first)
    assert first > 0, "the first levels are the checkpoint's"
    if at == 0.3:
        assert first < len(seen)


def test_by_steps_it_takes_over_when_that_share_of_the_evaluations_is_done(bench: Bench) -> None:
    for sampler, before in (("Euler", 5), ("Heun", 10)):
        fields = {"sampler": sampler, "steps": 10, "schedule": "Karras", "refiner_by_steps": True}
        seen = evaluated(bench, **fields, refiner="other", refiner_switch_at=0.5)
        assert [name for name, *_ in seen].index("other") == before, sampler


def test_a_share_of_1_is_never_and_nothing_is_loaded(bench: Bench) -> None:
    for fields in ({"refiner": "other", "refiner_switch_at": 1.0}, {"refiner": "tiny"}):
        seen = evaluated(bench, steps=4, **fields)
        assert {name for name, *_ in seen} == {"tiny"}
    assert not bench.manager.is_loaded("other")


def test_one_that_is_never_reached_is_noted(bench: Bench) -> None:
    bench.submit("a", steps=2, sampler="Euler", schedule="Uniform", refiner="other", refiner_switch_at=0.9999)
    bench.submit("b", steps=4, sampler="Euler", schedule="Uniform", refiner="other", refiner_switch_at=0.5)
    bench.run()
    done = bench.of("done")
    assert "the refiner other was never asked" in done["a"].data["facts"]["notes"]
    assert "notes" not in done["b"].data["facts"]
    digest = bench.manager.load("other").hash.value()[:10]
    assert done["b"].data["extras"]["Refiner"] == f"other [{digest}]"
    assert done["b"].data["model_name"] == "tiny"


def test_each_reads_the_prompts_with_its_own_encoders_and_editing_goes_on_counting(bench: Bench) -> None:
    edited = {"prompt": "[cat:dog:0.75]", "steps": 8, "sampler": "Euler", "schedule": "Uniform", "cfg_scale": 1.0}
    seen = evaluated(bench, **edited, refiner="other", refiner_switch_at=0.5)
    texts = [text for _, _, text, _ in seen]
    assert [name for name, *_ in seen] == ["tiny"] * 4 + ["other"] * 4
    assert [texts.index(text) for text in texts] == [0, 0, 0, 0, 4, 4, 4, 7], "the word changes behind evaluation 6"
    alone = evaluated(bench, **edited, checkpoint="other")
    assert texts[4:] == [text for _, _, text, _ in alone][4:]


@pytest.mark.parametrize(
    ("which", "expected"),
    [("second pass", (False, True)), ("first pass", (True, False)), ("both passes", (True, True))],
)
def test_with_a_second_pass_it_ends_the_one_that_is_chosen(bench: Bench, which: str, expected: tuple[bool, bool]) -> None:
    hires = {**TWICE, "steps": 4, "denoising_strength": 1.0}
    seen = evaluated(bench, steps=4, hires=hires, refiner_pass=which, **PAIR)
    assert tuple(any(name == "other" and width == size for name, _, _, width in seen) for size in (8, 16)) == expected
    assert seen[0][0] == "tiny"
    assert next(name for name, _, _, width in seen if width == 16) == "tiny", "each pass begins with the checkpoint"


def test_refined_pictures_are_the_reference_runner_s_and_share_forwards_on_both_sides(bench: Bench) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    requests: dict[str, dict[str, Any]] = {
        "one": {"steps": 5},
        "two": {"steps": 5, "seed": 2},
        "second order": {"steps": 4, "seed": 3, "sampler": "Heun"},
        "edited": {"steps": 6, "seed": 4, "prompt": "a [cat:dog:0.5]", "sampler": "Euler a"},
        "hires": {"seed": 5, "steps": 3, "hires": TWICE, "refiner_pass": "both passes"},
        "img2img": {"seed": 6, "source": picture, "denoising_strength": 0.8, "steps": 5},
        "inpainted": {"seed": 7, "source": picture, "mask": mask, "steps": 5, "sampler": "DDIM"},
        "guided": {"seed": 8, "skip_early_cfg": 0.3, "apg": True, "steps": 5},
        "distilled": {"seed": 9, "sampler": "LCM", "steps": 5},
    }
    for name, fields in requests.items():
        bench.submit(name, user=name, **fields, **PAIR)
    bench.run()
    assert not bench.of("failed"), [message.data["error"] for message in bench.of("failed").values()]
    runner = bench.engine.runner
    rows, forwards = runner.rows, runner.forwards
    assert rows > 4 * forwards, "forwards were not shared"
    for name, fields in requests.items():
        assert np.abs(bench.pixels(name) - bench.alone(**fields, **PAIR)).max() <= 1, name
    assert np.abs(bench.alone(**requests["one"], **PAIR) - bench.alone(**requests["one"])).max() > 10


def test_a_pair_stays_loaded_while_it_is_used_and_comes_in_once(bench: Bench) -> None:
    """The manager keeps one model; whoever shares the pair shares its forwards."""
    bench.submit("one", user="u", steps=6, **PAIR)
    bench.run(until=lambda: bool(bench.of("progress")))
    bench.submit("two", user="v", steps=6, **PAIR)
    bench.run()
    assert set(bench.of("done")) == {"one", "two"}
    assert [message.data["checkpoint"] for message in bench.said if message.kind == "loading"] == ["other", "tiny"]
    assert [handle.info.name for handle in bench.manager.loaded] == ["tiny"], "what is not used any more goes"


def test_crosswise_pairs_are_all_painted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoint and refiner exchanged, each alone, and a third one: nobody waits for a model that waits for his."""
    monkeypatch.setattr(engine_module, "LOAD_TURN_SECONDS", 0.0)
    crosswise = {"checkpoint": "other", "refiner": "tiny", "refiner_switch_at": 0.5}
    requests: dict[str, dict[str, Any]] = {
        "there": {**PAIR, "steps": 3},
        "back": {**crosswise, "steps": 3},
        "alone": {"steps": 2},
        "other alone": {"checkpoint": "other", "steps": 2},
        "another": {"checkpoint": "xl", "steps": 2},
        "there again": {**PAIR, "steps": 3, "seed": 2},
    }
    for name, fields in requests.items():
        bench.submit(name, user=name, **fields)
    bench.run()
    assert set(bench.of("done")) == set(requests)


def test_who_waits_for_a_pair_holds_no_half_of_it(bench: Bench) -> None:
    """One checkpoint of it is in use by others: it is let in to both when they are done, and to none before."""
    bench.submit("first", user="u", steps=4)
    bench.run(until=lambda: bool(bench.of("progress")))
    bench.submit("pair", user="v", steps=2, **PAIR)
    bench.run(until=lambda: bool(bench.of("done")))
    assert not bench.manager.is_loaded("other")
    assert isinstance(bench.engine.tasks["pair"].op, Load)
    assert not bench.engine.tasks["pair"].leases
    bench.run()
    assert set(bench.of("done")) == {"first", "pair"}


@pytest.mark.parametrize("step", [1, 4])
def test_it_is_cancelled_and_interrupted_in_either_half(bench: Bench, step: int) -> None:
    fields = {"steps": 6, "sampler": "Euler", "schedule": "Uniform", **PAIR}

    def steps_of(task: str) -> int:
        return max((m.data["step"] for m in bench.said if m.kind == "progress" and m.data["task"] == task), default=0)

    bench.submit("goes", **fields)
    bench.run(until=lambda: steps_of("goes") == step)
    bench.engine._handle(Message("cancel", {"task": "goes"}))
    bench.submit("ends", **fields)
    bench.run(until=lambda: steps_of("ends") == step)
    bench.engine._handle(Message("finish", {"task": "ends"}))
    bench.run()
    assert set(bench.of("cancelled")) == {"goes"}
    assert f"interrupted after step {step + 1} of 6" in bench.of("done")["ends"].data["facts"]["notes"]
    assert all(component.leases == 0 for component in bench.manager.cache.components)


def test_previews_of_the_second_half_are_shown(bench: Bench) -> None:
    bench.engine._handle(Message("watch", {"tasks": ["a"]}))
    bench.submit("a", steps=4, **PAIR)
    bench.run()
    assert [m.data["step"] for m in bench.said if m.kind == "progress"] == [1, 2, 3, 4]
    assert any(m.kind == "preview" for m in bench.said)


def test_one_with_other_latents_is_refused_in_a_sentence(bench: Bench) -> None:
    bench.submit("a", refiner="xl")
    bench.run()
    error = bench.of("failed")["a"].data["error"]
    assert error.startswith("refiner: 'xl' (")
    assert "latents" in error
    assert "choose a refiner of the same kind" in error
    with pytest.raises(RequestError, match="other pictures"):
        bench.alone(refiner="xl")


@pytest.mark.parametrize(
    ("first", "second", "fits"),
    [
        ("sd1", "sd2", True),
        ("sdxl", "sdxl-refiner", True),
        ("sd1-inpaint", "sd1", True),
        ("sd1-inpaint", "sd1-inpaint", True),
        ("sd1", "sd1-inpaint", False),
        ("sdxl", "sdxl-edit", False),
        ("sd1", "sdxl-refiner", False),
        ("sdxl", "playground-2.5", False),
    ],
)
def test_which_kinds_can_go_on_with_which(first: str, second: str, fits: bool) -> None:
    families = {family.name: family for family in FAMILIES}
    problem = refiner_problem("a", families[first], "b", families[second])
    assert (problem == "") == fits
    assert fits or "choose" in problem


@pytest.mark.parametrize("fields", [{"schedule": "Uniform"}, {"schedule": "Karras"}, {"refiner_by_steps": True}])
def test_the_steps_of_a_refiner_are_counted_beforehand(bench: Bench, fields: dict[str, Any]) -> None:
    asked = {"steps": 10, "sampler": "Euler", **fields, **PAIR}
    (stage,) = stages_of(parse_request(bench.request(**asked)))
    assert refined_steps(stage) == [name for name, *_ in evaluated(bench, **asked)].count("other")


def test_the_share_that_is_behind_is_a1111_s() -> None:
    trained = TrainedSigmas.scaled_linear()
    sampler, _ = find_sampler("Euler")
    for sigma in [*sigmas_for("Karras", sampler, trained, 30)[:-1], 20.0, 0.001]:
        assert trained.behind(sigma) == (999 - nearest(sigma)) / 1000
    assert [trained.behind(trained.sigmas[t]) for t in (999, 500, 199, 0)] == [0.0, 0.499, 0.8, 0.999]
