"""The second pass (hires fix) of the txt2img form: its controls, and the way between them and the request's `hires`.

The request has a size in pixels; the form has a factor of the first pass's size, which a size in pixels overrules, as in A1111.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.schedules import SCHEDULES
from modules.errors import RequestError
from modules.fields import bounds_of
from modules.images.infotext_hires import hires_size
from modules.pixels.enlarging import hires_upscalers
from modules.request import Hires
from modules.ui.form import Form, Values
from modules.ui.gradio import gr

SAME = "Same as the first pass"
PREFIX = "hires_"
CHECKPOINT = "hires_checkpoint"
FACTOR, LOW, HIGH, STEP = 2.0, 1.0, 4.0, 0.05
"""The factor of a form that was never touched, and what its slider reaches."""

_OPTIONAL = ("steps", "cfg_scale", "prompt", "negative_prompt", "sampler", "schedule", "checkpoint")
"""What is the first pass's where the form says nothing."""


def build(form: Form, checkpoints: Sequence[tuple[str, str]]) -> None:
    """The controls, inside the current column, in an accordion that is closed at first; `checkpoints` are (label, name)."""
    defaults = {name: field.default for name, field in Hires.model_fields.items()}
    strength = bounds_of(Hires, "denoising_strength")
    with gr.Accordion("Second pass (hires)", open=False, elem_id=form.id("second_pass"), elem_classes="more"):
        form.check("hires", "Paint a second pass at another size")
        form.slider(f"{PREFIX}factor", "Upscale by", LOW, HIGH, FACTOR, STEP)
        with gr.Row(elem_classes="pair"):
            form.figure(f"{PREFIX}width", "Resize width to", None, "by the factor")
            form.figure(f"{PREFIX}height", "Resize height to", None, "by the factor")
        form.choice(f"{PREFIX}upscaler", "Upscaler", hires_upscalers(), defaults["upscaler"])
        low, high = strength.ge, strength.le
        form.slider(f"{PREFIX}denoising_strength", "Denoising strength", low, high, defaults["denoising_strength"], 0.01)
        with gr.Row(elem_classes="pair"):
            form.figure(f"{PREFIX}steps", "Hires steps", None, "as the first")
            form.figure(f"{PREFIX}cfg_scale", "Hires CFG scale", None, "as the first")
        form.choice(CHECKPOINT, "Hires checkpoint", choices(checkpoints), SAME)
        form.choice(f"{PREFIX}sampler", "Hires sampler", [SAME, *SAMPLERS], SAME)
        form.choice(f"{PREFIX}schedule", "Hires schedule type", [SAME, *SCHEDULES], SAME)
        form.text(f"{PREFIX}prompt", "Hires prompt", "As the first pass", lines=1, max_lines=6)
        form.text(f"{PREFIX}negative_prompt", "Hires negative prompt", "As the first pass", lines=1, max_lines=6)
    form.optional |= {name for name in form.components if name.startswith(PREFIX)}  # nothing of it is asked for while it is off
    form.spread = spread


def choices(checkpoints: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """What can be chosen as the checkpoint of the second pass."""
    return [(SAME, SAME), *checkpoints]


def read(values: Values) -> Values:
    """The form's fields with those of the second pass as the request's `hires`; without it where it is off.

    Raises:
        RequestError: its size or its factor is no number.
    """
    own = {name.removeprefix(PREFIX): values[name] for name in values if name.startswith(PREFIX)}
    rest = {name: value for name, value in values.items() if name != "hires" and not name.startswith(PREFIX)}
    if values.get("hires") is not True:
        return rest
    first = (_whole(rest.get("width"), "width"), _whole(rest.get("height"), "height"))
    resize = (_whole(own.pop("width", 0), "hires_width"), _whole(own.pop("height", 0), "hires_height"))
    width, height = hires_size(first, _number(own.pop("factor", FACTOR)), resize)
    given = {name: value for name, value in own.items() if name not in _OPTIONAL or value not in (None, "", SAME)}
    return {**rest, "hires": {**given, "width": width, "height": height}}


def spread(values: Mapping[str, Any]) -> Values:
    """The other way: fields of a request as those of the form.  A `hires` of None switches the second pass off."""
    found = dict(values)
    if "hires" not in found or isinstance(found["hires"], bool):  # what this form itself said before
        return found
    hires = found.pop("hires")
    if not isinstance(hires, dict):
        return {**found, "hires": False}
    sizes = [hires.get("width"), hires.get("height")]
    factor = _factor((found.get("width"), found.get("height")), sizes)
    shown: Values = {f"{PREFIX}{name}": hires.get(name) for name in ("steps", "cfg_scale")}
    shown |= {f"{PREFIX}{name}": hires.get(name) or "" for name in ("prompt", "negative_prompt")}
    for name, known in (("sampler", SAMPLERS), ("schedule", SCHEDULES)):
        shown[f"{PREFIX}{name}"] = hires[name] if hires.get(name) in known else SAME
    shown[CHECKPOINT] = hires.get("checkpoint") or SAME
    for name in ("upscaler", "denoising_strength"):
        shown[f"{PREFIX}{name}"] = hires.get(name, Hires.model_fields[name].default)
    if not shown[f"{PREFIX}steps"]:
        shown[f"{PREFIX}steps"] = None
    width, height = (None, None) if factor else sizes
    return {
        **found,
        **shown,
        "hires": True,
        f"{PREFIX}factor": factor or FACTOR,
        f"{PREFIX}width": width,
        f"{PREFIX}height": height,
    }


def _factor(first: tuple[Any, Any], second: list[Any]) -> float:
    """The factor on the slider that makes `second` of `first`; 0 where none does."""
    if not all(isinstance(side, int) and side > 0 for side in (*first, *second)):
        return 0.0
    steps = round((HIGH - LOW) / STEP)
    factors = (round(LOW + STEP * number, 2) for number in range(steps + 1))
    return next((factor for factor in factors if hires_size(first, factor) == tuple(second)), 0.0)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise RequestError(f"hires_factor: must be a number from {LOW:g} to {HIGH:g}, {str(value)[:40]!r} was given") from None


def _whole(value: Any, name: str) -> int:
    """A side in pixels, 0 for none."""
    try:
        return int(float(value)) if value not in (None, "") else 0
    except (TypeError, ValueError, OverflowError):
        raise RequestError(f"{name}: must be a whole number of pixels, {str(value)[:40]!r} was given") from None
