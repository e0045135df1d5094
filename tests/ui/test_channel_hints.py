"""Options that only some kinds of checkpoint know are seen with those alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modules.checkpoints.files import CheckpointInfo, Defaults
from modules.request.checkpoint import SIZE_FIELDS
from modules.request.starting import NOT_ENLARGING
from modules.ui.form import Form
from modules.ui.form_sync import BY_FACTOR, TO_SIZE, _size_by, channel_hints, with_hints


@pytest.mark.parametrize(
    ("family", "seen"),
    [("sdxl", True), ("sdxl-refiner", True), ("playground-2.5", True), ("sd1", False), ("sd2-base", False), ("", False)],
)
def test_what_sdxl_is_told_is_seen_with_sdxl(family: str, seen: bool) -> None:
    components: dict[str, Any] = {name: object() for name in (*SIZE_FIELDS, "steps")}
    info = CheckpointInfo("x", Path("x.safetensors"), "x", family, Defaults())
    updates = channel_hints(Form("txt2img", components), info)
    assert {name: updates[components[name]]["visible"] for name in SIZE_FIELDS} == dict.fromkeys(SIZE_FIELDS, seen)
    assert components["steps"] not in updates


@pytest.mark.parametrize(("family", "seen"), [("x4-upscaler", True), ("sd1", False), ("sdxl-edit", False), ("", False)])
def test_what_the_upscaler_takes_is_seen_with_it_alone_and_what_it_does_not_take_elsewhere(family: str, seen: bool) -> None:
    components: dict[str, Any] = {name: object() for name in (*NOT_ENLARGING, "upscaler_noise_level")}
    info = CheckpointInfo("x", Path("x.safetensors"), "x", family, Defaults())
    updates = channel_hints(Form("img2img", components), info)
    assert updates[components["upscaler_noise_level"]]["visible"] is seen
    assert {updates[components[name]]["visible"] for name in NOT_ENLARGING} == {not seen}


@pytest.mark.parametrize(
    ("family", "hint", "guided", "from_noise"),
    [
        ("sd1", "What should the picture show?", True, False),
        ("ldm-text", "What should the picture show?", True, False),
        ("ldm-class", "A class", True, False),
        ("ldm-layout", "A box on each line", True, False),
        ("ldm-unconditional", "without words", False, False),
        ("ldm-super-resolution", "without words", False, True),
        ("ldm-map", "without words", False, True),
    ],
)
def test_what_the_prompt_is_for_the_checkpoint_is_said_and_what_is_idle_is_not_seen(
    family: str, hint: str, guided: bool, from_noise: bool
) -> None:
    names = ("prompt", "negative_prompt", "cfg_scale", "upscaler_noise_level", "denoising_strength")
    components: dict[str, Any] = {name: object() for name in names}
    info = CheckpointInfo("x", Path("x.safetensors"), "x", family, Defaults())
    updates = {name: channel_hints(Form("img2img", components), info)[components[name]] for name in names}
    assert hint in updates["prompt"]["placeholder"]
    assert "value" not in updates["prompt"]
    assert updates["cfg_scale"]["visible"] is guided
    assert ("without words" in updates["negative_prompt"]["placeholder"]) is not guided
    assert updates["denoising_strength"]["visible"] is not from_noise
    assert updates["upscaler_noise_level"]["visible"] is False, "SD x4 upscaler's alone"


def test_a_field_that_is_seen_keeps_the_value_that_it_gets() -> None:
    """As when a form is filled again after a reload, or with the settings of a picture."""
    strength, level = object(), object()
    form = Form("img2img", {"denoising_strength": strength, "upscaler_noise_level": level})  # type: ignore[dict-item]
    info = CheckpointInfo("x", Path("x"), "x", "sd1", Defaults())
    updates = with_hints({strength: 0.35}, channel_hints(form, info))
    assert (updates[strength]["value"], updates[strength]["visible"]) == (0.35, True)
    assert updates[level]["visible"] is False
    assert "value" not in updates[level]


def test_the_upscaler_makes_a_picture_four_times_as_large_unless_another_size_is_said() -> None:
    """And what it brought goes with it; a factor that was chosen otherwise stays."""
    components: dict[str, Any] = {"size_by": object(), "size_factor": object()}
    form = Form("img2img", components)
    upscaler, other = (CheckpointInfo("x", Path("x"), "x", family, Defaults()) for family in ("x4-upscaler", "sd1"))
    shown = {components["size_by"]: BY_FACTOR, components["size_factor"]: 4}
    assert _size_by(form, upscaler, {}) == {"size_by": BY_FACTOR, "size_factor": 4}
    assert _size_by(form, other, shown) == {"size_by": TO_SIZE, "size_factor": 1}
    assert _size_by(form, other, {**shown, components["size_factor"]: 2}) == {}
    assert _size_by(Form("inpaint", components), upscaler, shown) == {}
