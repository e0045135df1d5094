"""What extensions add to the engine: samplers, schedules and rules of guidance that paint."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modules.diffusion.samplers import Sampler, SamplerProgram
from modules.diffusion.schedules import Schedule
from modules.hooks import HOOKS, hookimpl
from modules.pipelines.guidance import Guidance, Rule
from tests.engine.conftest import Bench


def leap(x: Any, sigmas: list[float], noise: Any) -> SamplerProgram:
    """Go to the denoised x at once, at every level."""
    for sigma in sigmas[:-1]:
        x = yield x, sigma
    return x


def louder(guidance: Guidance, request: Any, sampler: Sampler) -> Guidance:
    return replace(guidance, scale=guidance.scale * 2)


class Mine:
    @hookimpl
    def samplers(self) -> list[Sampler]:
        return [Sampler("Leap", leap, ())]

    @hookimpl
    def schedules(self) -> list[Schedule]:
        return [Schedule("halves", "Halves", lambda levels, steps, tweaks: [8.0 / 2**step for step in range(steps)] + [0.0])]


class Louder:
    @hookimpl
    def guidance_rules(self) -> list[Rule]:
        return [Rule("Louder", louder)]


def test_an_extensions_sampler_and_schedule_paint(bench: Bench) -> None:
    asked = {"sampler": "Leap", "schedule": "Halves"}
    with HOOKS.registered(Mine(), "mine"):
        bench.submit("mine", **asked)
        bench.submit("euler", sampler="Euler", schedule="Halves")
        bench.run()
        assert np.abs(bench.pixels("mine") - bench.alone(**asked)).max() <= 1
        assert (bench.pixels("mine") != bench.pixels("euler")).any()
    bench.submit("gone", **asked)
    bench.run()
    assert "'Leap' is not here" in bench.of("failed")["gone"].data["error"]


def test_an_extensions_rule_guides(bench: Bench) -> None:
    with HOOKS.registered(Louder(), "louder"):
        bench.submit("louder", cfg_scale=4.0)
        bench.run()
    bench.submit("twice", cfg_scale=8.0)
    bench.submit("once", cfg_scale=4.0)
    bench.run()
    assert np.abs(bench.pixels("louder") - bench.pixels("twice")).max() <= 1
    assert (bench.pixels("louder") != bench.pixels("once")).any()


@pytest.mark.parametrize(
    "fields", [{}, {"apg": True, "cfg_rescale": 0.5}, {"ngms": 3.0, "skip_early_cfg": 0.3, "pag_scale": 1.0}]
)
def test_built_in_rules_alone_leave_their_marks(fields: dict[str, Any]) -> None:
    from modules.diffusion.samplers import SAMPLERS
    from modules.pipelines.guidance import guidance_for
    from modules.request import Txt2Img

    guidance = guidance_for(Txt2Img(steps=10, **fields), SAMPLERS["Euler"])
    assert (guidance.skips is not None) == ("ngms" in fields)
    assert len(guidance.added) == ("pag_scale" in fields)
