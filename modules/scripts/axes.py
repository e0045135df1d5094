"""The axes of an X/Y/Z plot: what of a request can vary from cell to cell.

Every field that the request declares is an axis by itself, be it of the second pass or of an extension; fields that A1111 has
an axis for carry its label and stand in its order, so that its `script_args`, which count them, mean the same here.  Beside
the fields there are Prompt S/R, Prompt order and Size.

Source: AUTOMATIC1111 v1.10.1, `scripts/xyz_grid.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from modules.diffusion.samplers import SAMPLERS, find_sampler
from modules.diffusion.schedules import SCHEDULES, find_schedule
from modules.errors import RequestError, UnknownName
from modules.fields import About, about, kind_of
from modules.options import EXTENSIONS as PREFIX
from modules.request import EXTENSIONS, Hires, Img2Img, Txt2Img
from modules.scripts import values as syntax

Fields = dict[str, Any]
Kind = Literal["nothing", "int", "float", "switch", "choice", "text", "styles", "S/R", "order", "size"]

HIRES_CHECKPOINT = "hires.checkpoint"
SEEDS = ("seed", "variation_seed")
"""Fields of which -1 is a random value."""


@dataclass(frozen=True)
class Names:
    """What is here under which name: lists to choose from, and the name that a text means.

    `checkpoint`, `vae`, `upscaler` (of a second pass) and `enlarger` (of a whole picture) raise `RequestError` for what is not
    here or cannot be used.
    """

    checkpoints: Callable[[], list[str]]
    vaes: Callable[[], list[str]]
    styles: Callable[[], list[str]]
    upscalers: Callable[[], list[str]]
    checkpoint: Callable[[str], str]
    vae: Callable[[str], str]
    upscaler: Callable[[str], str]
    enlargers: Callable[[], list[str]]
    enlarger: Callable[[str], str]


@dataclass(frozen=True)
class Axis:
    """One thing that can vary.

    `key` is the request's field, `hires.FIELD`, `extensions.NAME.FIELD`, or the name of an axis that is no field.  `cost` is
    how dear another value is, from 0 to 1: cells are made so that the dearest changes least often.  `missing` says why an axis
    that A1111 has cannot be used here.
    """

    key: str
    label: str
    kind: Kind
    cost: float = 0.0
    words: tuple[str, ...] = ()
    missing: str = ""

    def choices(self, names: Names) -> list[str] | None:
        """All that can be chosen, None where values are typed."""
        listed: dict[str, Callable[[], list[str]]] = {
            "sampler": lambda: list(SAMPLERS),
            "schedule": lambda: list(SCHEDULES),
            "checkpoint": names.checkpoints,
            "refiner": lambda: ["None", *names.checkpoints()],
            "vae": names.vaes,
            "styles": names.styles,
            "upscaler": names.upscalers,
        }
        field = "refiner" if self.key == HIRES_CHECKPOINT else self.key.removeprefix("hires.")  # none is one of them
        if field in listed and self.kind in ("text", "styles"):
            return listed[field]()
        if self.kind == "switch":
            return ["True", "False"]
        return list(self.words) if self.kind == "choice" else None

    def parse(self, texts: list[str], names: Names) -> list[Any]:
        """The values that texts mean, as JSON has them.

        Raises:
            RequestError: one makes no sense on this axis.
        """
        if self.kind == "nothing":
            return [None]
        if self.kind in ("int", "float"):
            numbers: list[Any] = list((syntax.integers if self.kind == "int" else syntax.reals)(texts))
            return numbers
        texts = [text for text in texts if text] if self.kind not in ("text", "S/R") else texts
        if self.kind == "order":
            return [list(order) for order in syntax.permutations(texts)]
        reading: dict[str, Callable[[str], Any]] = {"switch": _switch, "size": _size, "choice": lambda text: _word(self, text)}
        read = reading.get(self.kind)
        return [read(text) if read else self._named(text, names) for text in texts]

    def _named(self, text: str, names: Names) -> Any:
        """The name as it is written here, and for a sampler also the schedule that an old combined name says."""
        field = self.key.removeprefix("hires.")
        if self.kind == "styles":
            styles = syntax.split(text)
            if unknown := [name for name in styles if name not in ("None", *names.styles())]:
                raise UnknownName("style", unknown[0], names.styles())
            return [name for name in styles if name != "None"]
        if field == "sampler":
            sampler, schedule = find_sampler(text)
            return [sampler.name, schedule] if schedule else sampler.name
        if field == "schedule":
            return find_schedule(text).label
        if (field == "refiner" or self.key == HIRES_CHECKPOINT) and text.casefold() in ("", "none"):
            return ""
        known = {"checkpoint": names.checkpoint, "refiner": names.checkpoint, "vae": names.vae, "upscaler": names.upscaler}
        return known.get(field, str)(text)

    def apply(self, fields: Fields, value: Any, values: list[Any]) -> Fields:
        """A request's fields with this value in place; `values` are all of the axis.

        Raises:
            RequestError: they have no place for it.
        """
        if self.kind == "nothing":
            return fields
        if self.kind == "S/R":
            return _replaced(fields, values[0], value)
        if self.kind == "order":
            return {**fields, "prompt": _ordered(fields.get("prompt") or "", value)}
        if self.kind == "size":
            return {**fields, "width": value[0], "height": value[1]}
        if self.kind == "styles":
            return {**fields, "styles": [*(fields.get("styles") or ()), *value]}
        if self.key.startswith("hires."):
            return {**fields, "hires": self._in_hires(fields.get("hires"), value)}
        if self.key.startswith(PREFIX):
            name, _, field = self.key.removeprefix(PREFIX).partition(".")
            given = fields.get("extensions") or {}
            return {**fields, "extensions": {**given, name: {**given.get(name, {}), field: value}}}
        return {**fields, **_sampled(self.key, value)}

    def _in_hires(self, hires: Any, value: Any) -> Fields:
        if not isinstance(hires, Mapping):
            raise RequestError("there is no second pass; switch Second pass (hires) on, or choose another axis")
        return {**hires, **_sampled(self.key.removeprefix("hires."), value)}

    def shown(self, value: Any, labelled: bool = True) -> str:
        """The value as a legend has it; with `labelled` behind the axis' label where the value does not speak for itself."""
        if self.kind == "nothing":
            return ""
        if self.kind == "size":
            text = f"{value[0]}x{value[1]}"
        elif isinstance(value, list):
            text = " ".join(value) if self.key.endswith("sampler") else ", ".join(value) or "None"
        elif isinstance(value, float):
            text = f"{round(value, 8):g}" if abs(value) < 1e6 else repr(value)
        else:
            text = str(value)
        if self.key in ("checkpoint", "refiner", HIRES_CHECKPOINT):
            text = text.replace("\\", "/").rpartition("/")[2] or "None"
        return text if not labelled or self.kind in ("S/R", "order") or self.key == "checkpoint" else f"{self.label}: {text}"


def _sampled(field: str, value: Any) -> Fields:
    return {"sampler": value[0], "schedule": value[1]} if field == "sampler" and isinstance(value, list) else {field: value}


def _switch(text: str) -> bool:
    word = text.casefold()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise RequestError(f"{text[:60]!r} is neither True nor False")


def _size(text: str) -> list[int]:
    width, _, height = text.lower().replace("×", "x").replace(" ", "").partition("x")
    if not (width.isdecimal() and height.isdecimal() and len(text) < 20):
        raise RequestError(f"{text[:60]!r} is no size; one is written 512x768, the width first")
    return [int(width), int(height)]


def _word(axis: Axis, text: str) -> str:
    known = {word.casefold(): word for word in axis.words}
    if text.casefold() not in known:
        raise UnknownName(axis.label, text[:80], axis.words)
    return known[text.casefold()]


_PROMPTS = ("prompt", "negative_prompt")


def _replaced(fields: Fields, old: str, new: str) -> Fields:
    hires = fields.get("hires")
    places = [fields, *([hires] if isinstance(hires, dict) else [])]
    if not old:
        raise RequestError("the first value is the text that is replaced, and it is empty")
    if not any(old in (place.get(name) or "") for place in places for name in _PROMPTS):
        raise RequestError(f"{old[:80]!r} is in neither prompt; the first value is the text that the others replace")
    found = [
        {**place, **{name: place[name].replace(old, new) for name in _PROMPTS if isinstance(place.get(name), str)}}
        for place in places
    ]
    return {**found[0], **({"hires": found[1]} if len(found) > 1 else {})}


def _ordered(prompt: str, words: list[str]) -> str:
    """`prompt` with these words, each at a place where one of them stands now, in this order."""
    places, start = [], 0
    rest = sorted(words, key=len, reverse=True)
    while rest:
        found = min(((prompt.find(word, start), -len(word), word) for word in rest if word in prompt[start:]), default=None)
        if found is None:
            raise RequestError(f"{rest[0][:80]!r} is not in the prompt (once for each time that it is listed)")
        at, _, word = found
        places.append((at, at + len(word)))
        rest.remove(word)
        start = at + len(word)
    parts, end = [], 0
    for (at, after), word in zip(places, words, strict=True):
        parts += [prompt[end:at], word]
        end = after
    return "".join(parts) + prompt[end:]


# ---- which there are

_NOT = frozenset({"count", "pictures", "box", "hires", "extensions", "kept_extensions"})
"""Fields that are no axes: how many pictures a cell has, what they are made from, and what has axes of its own."""

_LABELS = {
    "sampler": "Sampler",
    "schedule": "Schedule type",
    "checkpoint": "Checkpoint name",
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "width": "Width",
    "height": "Height",
    "hires.width": "Hires width",
    "hires.height": "Hires height",
}
_COSTS = {"checkpoint": 1.0, "refiner": 1.0, HIRES_CHECKPOINT: 1.0, "vae": 0.7, "vae_decoder": 0.3, "vae_encoder": 0.3}
_NO_WORDS = "only a picture that is made from a picture has it"
_NOT_BUILT = "Atelier has no such setting"

_THEIRS: tuple[tuple[str, str, str, str], ...] = (
    ("Nothing", "nothing", "both", ""),
    ("Seed", "seed", "both", ""),
    ("Var. seed", "variation_seed", "both", ""),
    ("Var. strength", "variation_strength", "both", ""),
    ("Steps", "steps", "both", ""),
    ("Hires steps", "hires.steps", "words", ""),
    ("CFG Scale", "cfg_scale", "both", ""),
    ("Image CFG Scale", "image_cfg_scale", "picture", ""),
    ("Prompt S/R", "prompt_sr", "both", ""),
    ("Prompt order", "prompt_order", "both", ""),
    ("Sampler", "sampler", "both", ""),
    ("Hires sampler", "hires.sampler", "words", ""),
    ("Checkpoint name", "checkpoint", "both", ""),
    ("Negative Guidance minimum sigma", "ngms", "both", ""),
    ("Sigma Churn", "s_churn", "both", ""),
    ("Sigma min", "s_tmin", "both", ""),
    ("Sigma max", "s_tmax", "both", ""),
    ("Sigma noise", "s_noise", "both", ""),
    ("Schedule type", "schedule", "both", ""),
    ("Schedule min sigma", "sigma_min", "both", ""),
    ("Schedule max sigma", "sigma_max", "both", ""),
    ("Schedule rho", "rho", "both", ""),
    ("Beta schedule alpha", "beta_alpha", "both", ""),
    ("Beta schedule beta", "beta_beta", "both", ""),
    ("Eta", "eta", "both", ""),
    ("Clip skip", "clip_skip", "both", ""),
    ("Denoising", "hires.denoising_strength", "words", ""),
    ("Denoising", "denoising_strength", "picture", ""),
    ("Initial noise multiplier", "noise_multiplier", "both", ""),
    ("Extra noise", "extra_noise", "both", ""),
    ("Hires upscaler", "hires.upscaler", "words", ""),
    ("Cond. Image Mask Weight", "conditioning_mask_strength", "picture", ""),
    ("VAE", "vae", "both", ""),
    ("Styles", "styles", "both", ""),
    ("UniPC Order", "unipc_order", "both", "UniPC runs at its usual order here"),
    ("Face restore", "face_restore", "both", _NOT_BUILT),
    ("Token merging ratio", "token_merging", "both", _NOT_BUILT),
    ("Token merging ratio high-res", "token_merging_hr", "both", _NOT_BUILT),
    ("Always discard next-to-last sigma", "discard_penultimate", "both", ""),
    ("SGM noise multiplier", "sgm_noise_multiplier", "both", ""),
    ("Refiner checkpoint", "refiner", "both", ""),
    ("Refiner switch at", "refiner_switch_at", "both", ""),
    ("RNG source", "rng", "both", ""),
    ("FP8 mode", "fp8", "both", _NOT_BUILT),
    ("Size", "size", "both", ""),
)
"""A1111's axes in its order: label, key, in which of its two lists, and why there is none here."""

_OWN: dict[str, Kind] = {"nothing": "nothing", "prompt_sr": "S/R", "prompt_order": "order", "size": "size"}
"""Axes that are no fields."""


def axes(image: bool) -> list[Axis]:
    """All axes of a request from words, or from a picture (`image`): A1111's in its order, then the others."""
    fields = _fields(image)
    listed = []
    for label, key, place, missing in _THEIRS:
        if place == ("words" if image else "picture"):
            continue
        if key in _OWN:
            listed.append(Axis(key, label, _OWN[key]))
        elif key in fields:
            found = fields.pop(key)
            listed.append(Axis(key, label, found.kind, found.cost, found.words))
        else:
            listed.append(Axis(key, label, "text", missing=missing or _NO_WORDS))
    taken = {axis.label.casefold() for axis in listed}
    for axis in fields.values():
        label = axis.label if axis.label.casefold() not in taken else f"{axis.label} ({axis.key})"
        taken.add(label.casefold())
        listed.append(Axis(axis.key, label, axis.kind, axis.cost, axis.words))
    return listed


def find_axis(name: Any, image: bool) -> Axis:
    """The axis of this label or key, or of this place in A1111's list.

    Raises:
        RequestError: there is none, or it cannot be used here.
    """
    listed = axes(image)
    if isinstance(name, str) and name.strip().isdecimal() and len(name) < 5:
        name = int(name)
    if isinstance(name, int) and not isinstance(name, bool):
        if not 0 <= name < len(listed):
            raise RequestError(f"there is no axis {name}; they are counted from 0 to {len(listed) - 1}")
        found = listed[name]
    else:
        wanted = str(name or "Nothing").casefold()
        matching = [axis for axis in listed if wanted in (axis.label.casefold(), axis.key.casefold())]
        if not matching:
            raise UnknownName("axis", str(name)[:80], [axis.label for axis in listed if not axis.missing])
        found = matching[0]
    if found.missing:
        raise RequestError(f"{found.label} cannot vary here: {found.missing}")
    return found


def _fields(image: bool) -> dict[str, Axis]:
    """An axis for each field that a request declares, by key."""
    model: type[BaseModel] = Img2Img if image else Txt2Img
    found = _of_model(model)
    if not image:
        found |= _of_model(Hires, "hires.", "Hires ")
    for name, extension in EXTENSIONS.items():
        found |= _of_model(extension.options, f"{PREFIX}{name}.")
    return found


def _of_model(model: type[BaseModel], prefix: str = "", before: str = "") -> dict[str, Axis]:
    declared = about(model)
    found = {}
    for name in model.model_fields:
        key = prefix + name
        if key in _NOT or (kind := _kind(model, name)) is None:
            continue
        label = _LABELS.get(key) or _label(declared.get(name, About()), name, before)
        words = get_args(kind_of(model, name)) if kind == "choice" else ()
        found[key] = Axis(key, label, kind, _COSTS.get(key, 0.0), words)
    return found


def _label(one: About, name: str, before: str) -> str:
    if one.label:
        return before + one.label
    if one.keys and "-" not in one.keys[0]:
        return one.keys[0]
    return (before + name.replace("_", " ")).capitalize()


def _kind(model: type[BaseModel], name: str) -> Kind | None:
    """How values of a field are written; None where they are no single values."""
    kind = kind_of(model, name)
    if kind is bool:
        return "switch"
    if kind is int or kind is float:
        return "int" if kind is int else "float"
    if get_origin(kind) is Literal:
        return "choice"
    if name == "styles":
        return "styles"
    return "text" if kind is str else None
