"""Hooks of the engine: each changes pixels, shares forwards with pictures without it, and is left out where it raises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from modules.checkpoints.lora_names import AdapterKind
from modules.diffusion.adapters import Delta
from modules.diffusion.deltas import Full
from modules.diffusion.forward import Join
from modules.diffusion.samplers import Denoised
from modules.errors import ExtensionFailed
from modules.extensions.isolation import ISOLATION
from modules.hooks import HOOKS, hookimpl
from modules.pipelines.denoisers import Denoiser, on_rows
from modules.pipelines.guidance import Rule
from modules.pipelines.preprocessing import Preprocessor
from modules.pipelines.stages import Further, Stage, stages_of
from modules.pipelines.testing import painted
from modules.pipelines.wrappers import Run, Wrapper
from modules.pixels.enlarging import Upscaler, hires_upscalers
from modules.request import Img2Img, Txt2Img
from tests.engine.conftest import Bench
from tests.engine.test_loras import changes, kohya

PROMPT = "a dog"
"""Whoever asks for it is a user of the extensions here; the other prompts are not."""


def asks(request: Txt2Img) -> bool:
    return request.prompt == PROMPT


class Brighter:
    """A denoiser wrapper that counts how often it was asked, and that may raise at one of its evaluations."""

    def __init__(self, raises_at: int = -1) -> None:
        self.evaluations, self.raises_at = 0, raises_at

    def wrap(self, denoise: Denoiser, run: Run) -> Denoiser:
        if not asks(run.stage.settings):
            return denoise
        run.note("it is brighter")

        def brighter(x: torch.Tensor, sigma: float) -> Any:
            answer = yield from denoise(x, sigma)
            self.evaluations += 1
            if self.evaluations == self.raises_at:
                raise LookupError("no more light")
            return Denoised(answer.guided + 0.3 * run.done(sigma), answer.negative)

        return brighter

    @hookimpl
    def denoiser_wrappers(self) -> list[Wrapper]:
        return [Wrapper("Brighter", self.wrap)]


def test_a_wrapper_changes_its_pictures_alone_and_shares_forwards(bench: Bench) -> None:
    one, two = {"steps": 6, "prompt": PROMPT}, {"steps": 6, "seed": 2}
    plain, other = bench.alone(**two), bench.alone(**one)
    with HOOKS.registered(Brighter(), "brighter"):
        bench.submit("with", **one)
        bench.submit("without", **two)
        bench.run()
        assert bench.engine.runner.forwards < 12, "they shared some"
        assert np.abs(bench.pixels("with") - bench.alone(**one)).max() <= 1
    assert np.abs(bench.pixels("without") - plain).max() <= 1
    assert (bench.pixels("with") != other).mean() > 0.1
    assert "it is brighter" in bench.of("done")["with"].data["facts"]["notes"]
    assert "notes" not in bench.of("done")["without"].data["facts"]


@pytest.mark.parametrize("fields", [{}, {"sampler": "Heun"}, {"prompt": "a [cat:dog:0.5]"}], ids=["euler", "heun", "editing"])
def test_a_picture_whose_wrapper_raises_is_the_one_without_it(tiny_models: Path, fields: dict[str, Any]) -> None:
    checkpoint = tiny_models / "tiny.safetensors"
    plain = painted(checkpoint, **fields)
    notes: dict[str, None] = {}
    failing = Brighter(raises_at=2)
    failing.wrap = lambda denoise, run: Brighter.wrap(failing, denoise, replace_prompt(run))  # type: ignore[method-assign]
    with HOOKS.registered(failing, "brighter"):
        assert (painted(checkpoint, notes, **fields) == plain).all()
    assert failing.evaluations == 2, "it was not asked again"
    assert list(notes) == [
        "the extension brighter failed in denoiser_wrappers: LookupError: no more light; the picture was made without it"
    ]


def replace_prompt(run: Run) -> Run:
    return replace(run, stage=replace(run.stage, settings=run.stage.settings.model_copy(update={"prompt": PROMPT})))


def test_a_picture_fails_where_its_extension_says_so(tiny_models: Path) -> None:
    ISOLATION.declare("brighter", "fail")
    try:
        with HOOKS.registered(Brighter(raises_at=1), "brighter"), pytest.raises(ExtensionFailed, match="brighter"):
            painted(tiny_models / "tiny.safetensors", prompt=PROMPT)
    finally:
        ISOLATION.declare("brighter", "without")


class Nonsense:
    """Answers no pair of predictions."""

    @hookimpl
    def denoiser_wrappers(self) -> list[Wrapper]:
        return [Wrapper("Nonsense", lambda denoise, run: self.nonsense)]

    def nonsense(self, x: torch.Tensor, sigma: float) -> Any:
        yield from ()
        return x[:, :1]


def test_an_answer_that_is_none_is_a_failure(tiny_models: Path) -> None:
    plain = painted(tiny_models / "tiny.safetensors")
    with HOOKS.registered(Nonsense(), "nonsense"):
        notes: dict[str, None] = {}
        assert (painted(tiny_models / "tiny.safetensors", notes) == plain).all()
    assert "two x0 predictions" in next(iter(notes))


def broken_edit(h: torch.Tensor, skip: torch.Tensor, join: Join) -> Any:
    raise ArithmeticError(f"at join {join.number}")


class BrokenEdit:
    @hookimpl
    def denoiser_wrappers(self) -> list[Wrapper]:
        def wrap(denoise: Denoiser, run: Run) -> Denoiser:
            if not asks(run.stage.settings):
                return denoise
            return lambda x, sigma: on_rows(denoise(x, sigma), lambda row: replace(row, skip_edits=(broken_edit,)))

        return [Wrapper("Broken edit", wrap)]


def test_an_edit_that_raises_within_a_shared_forward_costs_its_extension_only(bench: Bench) -> None:
    plain, without = bench.alone(seed=2), bench.alone(prompt=PROMPT)
    with HOOKS.registered(BrokenEdit(), "broken"):
        bench.submit("broken", prompt=PROMPT)
        bench.submit("other", seed=2)
        bench.run()
    assert bench.of("failed") == {}
    assert np.abs(bench.pixels("other") - plain).max() <= 1
    assert np.abs(bench.pixels("broken") - without).max() <= 1


class Loud:
    def __init__(self, raises: bool) -> None:
        self.raises = raises

    @hookimpl
    def guidance_rules(self) -> list[Rule]:
        def combine(answers: Any) -> torch.Tensor:
            if self.raises:
                raise KeyError("loud")
            return answers.guided(answers.scale * 2)

        return [Rule("Loud", lambda guidance, request, sampler: replace(guidance, combine=combine))]


def test_a_rule_whose_function_raises_is_left_out(tiny_models: Path) -> None:
    checkpoint = tiny_models / "tiny.safetensors"
    plain, twice = painted(checkpoint), painted(checkpoint, cfg_scale=10.0)
    with HOOKS.registered(Loud(raises=False), "loud"):
        assert np.abs(painted(checkpoint).astype(int) - twice).max() <= 1
    with HOOKS.registered(Loud(raises=True), "loud"):
        notes: dict[str, None] = {}
        assert (painted(checkpoint, notes) == plain).all()
    assert "failed in guidance_rules" in next(iter(notes))


# ---- adapters, input pictures, upscalers, stages


class Halved:
    """Files that keep half of the difference of a weight."""

    def __init__(self, raises: bool = False) -> None:
        self.raises = raises

    @hookimpl
    def adapters(self) -> list[AdapterKind]:
        return [AdapterKind("Halved", frozenset({"halved"}), self.read, {".halved_diff": "halved"})]

    def read(self, tensors: Any, weight: torch.Tensor) -> Delta:
        if self.raises:
            raise KeyError("no halves")
        return Full(tensors["halved"] * 2, None)


def test_a_kind_of_adapter_is_read_from_its_files(bench: Bench, tiny_models: Path) -> None:
    place, (down, up) = next(iter(changes(0)["unet"].items()))
    difference = torch.randn(up.shape[0], *down.shape[1:], generator=torch.Generator().manual_seed(0))
    (tiny_models / "loras").mkdir(exist_ok=True)
    for ending, share in (("diff", 1.0), ("halved_diff", 0.5)):
        stem = kohya("unet", place)
        save_file({f"{stem}.{ending}": difference * share}, tiny_models / "loras" / f"{ending}.safetensors")
    whole, plain = bench.alone(prompt="a cat<lora:diff:1>"), bench.alone(prompt="a cat")
    with HOOKS.registered(Halved(), "halved"):
        assert (bench.alone(prompt="a cat<lora:halved_diff:1>") == whole).all()
    assert (whole != plain).any()
    with HOOKS.registered(Halved(raises=True), "halved"):
        bench.submit("failing", prompt="a cat<lora:halved_diff:0.9>", seed=1)
        bench.run()
    assert np.abs(bench.pixels("failing") - plain).max() <= 1
    assert "halved_diff" in bench.of("done")["failing"].data["facts"]["notes"]


class Mirror:
    def __init__(self, cropped: bool = False) -> None:
        self.cropped = cropped

    @hookimpl
    def preprocessors(self) -> list[Preprocessor]:
        return [Preprocessor("Mirror", self.mirrored)]

    def mirrored(self, request: Img2Img, pictures: Any) -> Any:
        turned = {role: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for role, picture in pictures.items()}
        return {**turned, "init": turned["init"].crop((0, 0, 8, 8))} if self.cropped else turned


def test_a_preprocessor_sees_the_picture_before_the_networks(bench: Bench) -> None:
    source = Image.linear_gradient("L").rotate(90).resize((64, 64)).convert("RGB")
    fields = {"source": source, "denoising_strength": 0.5}
    plain, turned = (
        bench.alone(**{**fields, "source": one}) for one in (source, source.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    )
    with HOOKS.registered(Mirror(), "mirror"):
        assert (bench.alone(**fields) == turned).all()
    assert (plain != turned).any()
    with HOOKS.registered(Mirror(cropped=True), "mirror"):
        assert (bench.alone(**fields) == plain).all(), "of another size: left out"


class Blocks:
    def __init__(self, raises: bool = False) -> None:
        self.raises = raises

    @hookimpl
    def upscalers(self) -> list[Upscaler]:
        return [Upscaler("Blocks", self.enlarged)]

    def enlarged(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        if self.raises:
            raise OSError("no blocks left")
        return image.resize(size, Image.Resampling.NEAREST)


def test_an_upscaler_is_offered_and_used(bench: Bench) -> None:
    twice = {"width": 128, "height": 128, "steps": 2, "denoising_strength": 0.6}
    nearest, lanczos = (bench.alone(hires={**twice, "upscaler": name}) for name in ("Nearest", "Lanczos"))
    with HOOKS.registered(Blocks(), "blocks"):
        assert hires_upscalers()[-3:] == ("Lanczos", "Nearest", "Blocks")
        made = bench.alone(hires={**twice, "upscaler": "Blocks"})
        assert (made == nearest).all()
        assert (made != lanczos).any()
    with HOOKS.registered(Blocks(raises=True), "blocks"):
        bench.submit("failing", hires={**twice, "upscaler": "Blocks"})
        bench.run()
    assert "the upscaler 'Blocks' of the extension 'blocks' failed" in bench.of("failed")["failing"].data["error"]
    bench.submit("gone", hires={**twice, "upscaler": "Blocks"})
    bench.run()
    assert "Blocks" in bench.of("failed")["gone"].data["error"]


class Again:
    """Paints over the result once more, a little."""

    def __init__(self, start: Any = "latent") -> None:
        self.start = start

    @hookimpl
    def stages(self) -> list[Further]:
        return [Further("Again", self.further)]

    def further(self, request: Txt2Img, before: Sequence[Stage]) -> list[Stage]:
        last = before[-1]
        return [replace(last, start=self.start, strength=0.4, exactly=True, upscaler="Latent")] if asks(request) else []


def test_a_stage_is_run_behind_the_requests_own_and_counted(bench: Bench) -> None:
    one, two = ({"width": 64, "height": 64, "steps": 3, **fields} for fields in ({"prompt": PROMPT}, {"prompt": "a cat"}))
    plain = bench.alone(**one)
    with HOOKS.registered(Again(), "again"):
        assert [stage.steps for stage in stages_of(Txt2Img(**one))] == [3, 3]
        assert len(stages_of(Txt2Img(**two))) == 1
        bench.submit("again", **one)
        bench.run()
        last = bench.of("progress")["again"].data
        assert (last["step"], last["steps"]) == (6, 6)
    assert (bench.pixels("again") != plain).any()
    with HOOKS.registered(Again(start="noise"), "again"):
        assert len(stages_of(Txt2Img(**one))) == 1, "a stage that throws the result away is refused"
