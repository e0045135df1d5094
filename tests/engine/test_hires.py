"""Two-stage requests in the engine: the same as by the reference runner, in forwards shared with others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modules.engine.messages import Message
from modules.pipelines.generate import generate
from modules.pipelines.init import upscaled
from modules.pipelines.ops import Encode, Predict
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.pixels.resize import upscale
from modules.request import parse_request
from tests.engine.conftest import Bench

TWICE = {"width": 128, "height": 128, "steps": 2, "denoising_strength": 0.6}


def close(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and int(np.abs(one - other).max()) <= 1


def test_two_stage_pictures_are_the_reference_runner_s_and_share_forwards(bench: Bench) -> None:
    requests: dict[str, dict[str, Any]] = {
        "latent": {"hires": TWICE},
        "nearest": {"seed": 2, "hires": {**TWICE, "upscaler": "Latent (nearest)"}, "sampler": "Euler a"},
        "bicubic": {"seed": 3, "hires": {**TWICE, "upscaler": "Latent (bicubic)"}, "variation_strength": 0.3},
        "pixels": {"seed": 4, "hires": {**TWICE, "upscaler": "Lanczos"}},
        "own": {
            "seed": 5,
            "hires": {**TWICE, "sampler": "Heun", "schedule": "Karras", "cfg_scale": 2.0, "prompt": "a dog", "steps": 0},
        },
        "cut": {"seed": 6, "hires": {**TWICE, "width": 96, "upscaler": "Nearest"}},
        "one stage": {"seed": 7, "width": 128, "height": 128, "steps": 4},
    }
    for name, fields in requests.items():
        bench.submit(name, user=name, **fields)
    bench.run()
    assert not bench.of("failed"), [message.data["error"] for message in bench.of("failed").values()]
    for name, fields in requests.items():
        assert close(bench.pixels(name), bench.alone(**fields)), name
    assert bench.pixels("cut").shape == (128, 96, 3)
    assert bench.engine.runner.rows > 4 * bench.engine.runner.forwards, "forwards were not shared"


@pytest.mark.parametrize("upscaler", ["Lanczos", "Nearest"])
def test_the_second_stage_is_img2img_of_the_first_one_s_picture(bench: Bench, upscaler: str) -> None:
    """At exactly its number of steps, and with fresh noise of the same seed."""
    hires = {**TWICE, "upscaler": upscaler, "steps": 4, "prompt": "a dog", "cfg_scale": 3.0}
    first = bench.alone(sampler="Euler a").astype(np.uint8)
    init = Image.fromarray(upscale(first, 128, 128, upscaler))
    again = {"steps": 4, "fix_steps": True, "denoising_strength": 0.6, "prompt": "a dog", "cfg_scale": 3.0}
    expected = bench.alone(sampler="Euler a", source=init, width=128, height=128, **again)
    assert close(bench.alone(sampler="Euler a", hires=hires), expected)


def test_progress_counts_the_steps_of_both_stages_and_never_goes_back(bench: Bench) -> None:
    bench.engine._handle(Message("watch", {"tasks": ["a"]}))
    bench.submit("a", steps=3, hires={**TWICE, "steps": 4})
    bench.run()
    told = [message.data for message in bench.said if message.kind == "progress"]
    assert [(data["step"], data["steps"]) for data in told] == [(step, 7) for step in range(1, 8)]
    assert [data["stage"] for data in told] == [0] * 3 + [1] * 4
    assert {data["stages"] for data in told} == {2}
    shown = [message.data for message in bench.said if message.kind == "preview"]
    sizes = {0: (64, 8), 1: (128, 16)}  # decoded or, where that takes long, a pixel per latent position
    assert all(data["width"] in sizes[data["stage"]] for data in shown)
    assert shown


def test_finishing_in_the_first_stage_returns_what_it_has(bench: Bench) -> None:
    """As A1111's interrupt: there is no second pass then."""
    bench.submit("a", steps=6, hires=TWICE)
    bench.run(until=lambda: sum(message.kind == "progress" for message in bench.said) == 2)
    bench.engine._handle(Message("finish", {"task": "a"}))
    bench.run()
    assert bench.pixels("a").shape == (64, 64, 3)
    assert bench.of("done")["a"].data["facts"]["notes"] == "interrupted after step 3 of 8"


def test_finishing_in_the_second_stage_returns_its_size(bench: Bench) -> None:
    bench.submit("a", steps=2, hires={**TWICE, "steps": 6})
    bench.run(until=lambda: sum(message.kind == "progress" for message in bench.said) == 4)
    bench.engine._handle(Message("finish", {"task": "a"}))
    bench.run()
    assert bench.pixels("a").shape == (128, 128, 3)
    assert bench.of("done")["a"].data["facts"]["notes"] == "interrupted after step 5 of 8"


def test_a_cancelled_two_stage_picture_leaves_between_its_stages(bench: Bench) -> None:
    bench.submit("a", hires=TWICE)
    bench.run(until=lambda: sum(message.kind == "progress" for message in bench.said) == 3)
    bench.engine._handle(Message("cancel", {"task": "a"}))
    bench.run()
    assert set(bench.of("cancelled")) == {"a"}
    assert not bench.engine.tasks


def test_a_strength_of_zero_only_enlarges(bench: Bench) -> None:
    hires = {**TWICE, "denoising_strength": 0.0, "upscaler": "Nearest"}
    forwards: list[int] = []
    for name, fields in (("plain", {}), ("enlarged", {"hires": hires})):
        before = bench.engine.runner.forwards
        bench.submit(name, **fields)
        bench.run()
        forwards.append(bench.engine.runner.forwards - before)
    assert forwards[0] == forwards[1]
    assert bench.pixels("enlarged").shape == (128, 128, 3)


def test_prompt_editing_goes_on_counting_in_the_second_pass(bench: Bench) -> None:
    """A1111: fractions from 1 to 2 and whole numbers beyond the first pass's steps are the second's."""
    seen: list[tuple[int, int]] = []

    def watched(pipeline: Any) -> Any:
        answer = None
        while True:
            try:
                op = pipeline.send(answer)
            except StopIteration as end:
                return end.value
            if isinstance(op, Predict):
                seen.append((op.rows[0].x.shape[-1], hash(op.rows[0].conditioning.context.sum().item())))
            if isinstance(op, Encode):
                assert len(op.chunks) <= 4
            answer = yield op

    fields = {"prompt": "a [cat:dog:1.5]", "steps": 4, "sampler": "Euler", "hires": {**TWICE, "steps": 8}}
    run_reference(watched(generate(stages_of(parse_request(bench.request(**fields))))), bench.manager)
    first = [text for size, text in seen if size == 8]
    second = [text for size, text in seen if size == 16]
    assert len(set(first)) == 1
    assert [len(first), len(second)] == [4, 8]
    assert [text == first[0] for text in second] == [True] * 5 + [False] * 3


@pytest.mark.parametrize("size", [(16, 16), (12, 16), (16, 12)])
def test_an_upscaled_latent_covers_the_new_size(size: tuple[int, int]) -> None:
    latent = torch.arange(64.0).reshape(1, 8, 8)
    large = upscaled(latent, "Latent (nearest)", *size)
    assert large.shape == (1, size[1], size[0])
    whole = latent.repeat_interleave(2, 1).repeat_interleave(2, 2)
    top, left = (16 - size[1]) // 2, (16 - size[0]) // 2
    assert torch.equal(large, whole[:, top : top + size[1], left : left + size[0]])
