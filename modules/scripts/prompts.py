"""Prompts from a file or a text: a request for each line, which is a prompt or sets fields by A1111's flags.

    a red apple
    --prompt "a cat" --negative_prompt "blurry" --steps 30 --width 512

Source: AUTOMATIC1111 v1.10.1, `scripts/prompts_from_file.py`: the flags, and what the seeds of lines are.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from modules.diffusion.samplers import find_sampler
from modules.errors import RequestError
from modules.request import clean_text
from modules.scripts.axes import Names
from modules.scripts.plan import Cell, Fields, Plan, ScriptError, changes, check_size, counted, drawn_seed
from modules.scripts.xyz import Check

MAX_TEXT = 1 << 20
"""Characters of all lines."""


@dataclass(frozen=True)
class Prompts:
    """`iterate_seed`: each line counts the seed on by its pictures; `same_seed`: one random seed for all lines;
    `prompt_position`: a line's prompts stand before ("start") or behind ("end") the form's, or in their place ("none")."""

    text: str = ""
    iterate_seed: bool = False
    same_seed: bool = False
    prompt_position: Literal["none", "start", "end"] = "start"


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise RequestError(f"must be a whole number, {text[:40]!r} was given") from None


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RequestError(f"must be a number, {text[:40]!r} was given") from None


def _seed(text: str) -> int:
    seed = _whole(text)
    return seed if seed == -1 else seed % 2**64


def _side(text: str) -> int:
    return _whole(text) // 8 * 8


_FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "prompt": ("prompt", str),
    "negative_prompt": ("negative_prompt", str),
    "seed": ("seed", _seed),
    "subseed": ("variation_seed", _seed),
    "subseed_strength": ("variation_strength", _real),
    "seed_resize_from_w": ("seed_resize_width", lambda text: max(0, _whole(text))),
    "seed_resize_from_h": ("seed_resize_height", lambda text: max(0, _whole(text))),
    "steps": ("steps", _whole),
    "cfg_scale": ("cfg_scale", _real),
    "width": ("width", _side),
    "height": ("height", _side),
}
"""Flags that are fields of a request, and how their values are read."""

_SWITCHES = {
    "restore_faces": "face restoration is not built",
    "tiling": "seamless tiling is not built",
    "do_not_save_samples": "every picture is kept in the outputs folder",
    "do_not_save_grid": "there is no grid of these",
}
"""Flags of true or false: why true cannot be; false changes nothing."""

_REFUSED = {
    "outpath_samples": "pictures go into the outputs folder alone, as no client may write elsewhere",
    "outpath_grids": "pictures go into the outputs folder alone, as no client may write elsewhere",
    "prompt_for_display": "the prompt that is painted is the one that is shown",
}


def plan_prompts(asked: Prompts, base: Fields, names: Names, check: Check) -> Plan:
    """A cell for each line that is not empty.

    Raises:
        ScriptError: there are no lines, or one makes no sense; names its number.
    """
    text = clean_text(asked.text)
    if len(text) > MAX_TEXT:
        raise ScriptError(f"the prompts have {len(text):,} characters; {MAX_TEXT:,} are the most", "prompts")
    if asked.prompt_position not in ("none", "start", "end"):
        raise ScriptError(f"the position is none, start or end, not {str(asked.prompt_position)[:40]!r}", "prompt_position")
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise ScriptError("there are no prompts; write one on each line", "prompts")
    check_size(len(lines), 1)
    seed = base.get("seed")
    if (asked.iterate_seed or asked.same_seed) and (seed is None or seed == -1):
        base = {**base, "seed": drawn_seed()}
    cells, headings, pictures, by = [], [], 0, 0
    for number, line in lines:
        try:
            own = _fields_of(line, names)
            for name in ("prompt", "negative_prompt"):
                if name in own:
                    own[name] = _placed(own[name], str(base.get(name) or ""), asked.prompt_position)
            fields = {**counted(base, by), **own}
            request = check(fields, True)
        except RequestError as error:
            raise ScriptError(f"line {number}: {error}", "prompts") from None
        pictures += request.count
        by += request.count if asked.iterate_seed else 0
        check_size(len(lines), 1 + pictures // len(lines))
        cells.append(Cell(changes(base, fields)))
        headings.append(((line[:200], True),))
    return Plan(
        script="prompts",
        base=base,
        cells=tuple(cells),
        columns=((),),
        rows=tuple(headings),
        items={"Script": "Prompts from file or textbox"},
        draw_sheet=False,
        include_cells=True,
    )


def _placed(prompt: str, own: str, position: str) -> str:
    """A line's prompt before, behind or in place of the form's."""
    if position == "none" or not own:
        return prompt
    return f"{prompt} {own}" if position == "start" else f"{own} {prompt}"


def _fields_of(line: str, names: Names) -> Fields:
    """The fields that a line sets.

    Raises:
        RequestError: a flag is unknown, lacks its value or cannot be followed.
    """
    if not line.startswith("--"):
        return {"prompt": line}
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise RequestError(f"its quotes do not match ({error})") from None
    found: Fields = {}
    many = {"n_iter": 0, "batch_size": 0}
    while words:
        flag = words.pop(0)
        if not flag.startswith("--"):
            raise RequestError(f"{flag[:60]!r} belongs to no flag; quote values that have blanks")
        name = flag[2:]
        if name in _REFUSED:
            raise RequestError(f"{flag} cannot be followed: {_REFUSED[name]}")
        taken: list[str] = []
        while words and not words[0].startswith("--") and (name in ("prompt", "negative_prompt") or not taken):
            taken.append(words.pop(0))
        if not taken:
            raise RequestError(f"{flag[:60]} has no value")
        value = " ".join(taken)
        try:
            if name in many:
                many[name] = _whole(value)
            else:
                found |= _read(name, value, names)
        except RequestError as error:
            raise RequestError(f"{flag[:60]}: {error}") from None
    if any(many.values()):
        found["count"] = max(1, many["n_iter"]) * max(1, many["batch_size"])
    return found


def _read(name: str, value: str, names: Names) -> Fields:
    """The fields that one flag sets."""
    if name in _FIELDS:
        field, read = _FIELDS[name]
        return {field: read(value)}
    if name in ("sampler_name", "sampler_index"):
        sampler, schedule = find_sampler(value)
        return {"sampler": sampler.name, **({"schedule": schedule} if schedule else {})}
    if name == "sd_model":
        return {"checkpoint": names.checkpoint(value)}
    if name == "styles":
        styles = [style.strip() for style in value.split(",") if style.strip()]
        if unknown := [style for style in styles if style not in names.styles()]:
            raise RequestError(f"style {unknown[0][:60]!r} is not here")
        return {"styles": styles}
    if name in _SWITCHES:
        if value.casefold() not in ("true", "false"):
            raise RequestError(f"must be true or false, {value[:40]!r} was given")
        if value.casefold() == "true":
            raise RequestError(_SWITCHES[name])
        return {}
    known = ", ".join(
        sorted((*_FIELDS, *_SWITCHES, "sampler_name", "sampler_index", "sd_model", "styles", "n_iter", "batch_size"))
    )
    raise RequestError(f"there is no such flag; there are {known}")
