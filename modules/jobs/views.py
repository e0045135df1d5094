"""What the outside sees of jobs, pictures and the engine: plain frozen data, made by `modules.app`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from modules.fields import about
from modules.images.infotext_hires import described
from modules.images.infotext_keys import NEGATIVE_LINE
from modules.options import FROM_PICTURES, OPTIONS
from modules.request import GenerationRequest, Hires, Upscaling
from modules.request.extensions import labels_of
from modules.request.kept_extensions import named

Health = Literal["starting", "ready", "restarting", "failed"]

_LABELS = {option.name: option.label for group in (*OPTIONS.values(), FROM_PICTURES) for option in group}
_ALWAYS_SHOWN = frozenset(
    (
        *("prompt", "negative_prompt", "styles", "seed", "count", "checkpoint", "width", "height"),
        *("sampler", "schedule", "steps", "cfg_scale", "pictures", "denoising_strength", "inpaint_area"),
        *("extensions", "kept_extensions"),  # by their options, and by their names
        "source_text",  # with the picture's own
    )
)
"""Fields of a request that are shown whatever their value."""


@dataclass(frozen=True)
class EngineState:
    """`message` is a sentence for the user; the choices carry their reasons, and are empty until the engine said hello.
    `workers` are the states of all engines where there are several; the rest is then that of the one that is best off."""

    state: Health
    message: str
    device: str = ""
    dtype: str = ""
    attention: str = ""
    kernels: str = ""
    accelerator: str = ""
    weights: str = ""
    workers: tuple[EngineState, ...] = ()


@dataclass(frozen=True)
class PictureView:
    """A finished picture.  `path` is on this machine; clients get the picture by job and index."""

    index: int
    name: str
    path: Path
    infotext: str
    seed: int
    width: int
    height: int


@dataclass(frozen=True)
class Preview:
    """The newest look at a running job; `rev` grows with each."""

    rev: int
    jpeg: bytes


@dataclass(frozen=True)
class JobView:
    """A job as its owner sees it.

    `position` counts the jobs before it (0 = its turn); `done` of `count` pictures are finished.  `step` of `steps` is that of
    the picture that is furthest, over all its stages (a second pass is the second); `stage` of `stages` counts those from 1,
    and `stage_step` of `stage_steps` is within that one.  `progress` is of the whole job in [0, 1]; `eta_s` seconds, None
    while nothing is known; `rev` grows with each change.
    """

    id: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    position: int
    count: int
    done: int
    step: int
    steps: int
    progress: float
    eta_s: float | None
    rev: int
    error: str
    created: float
    request: GenerationRequest
    pictures: tuple[PictureView, ...]

    stage: int = 1
    stages: int = 1
    stage_step: int = 0
    stage_steps: int = 0
    doing: str = ""
    """What the workers that have its images do instead of painting, such as loading its checkpoint; "" for nothing special."""
    paused: bool = False
    """The owner paused: nothing more of it is begun."""
    skipping: bool = False
    """A picture that the owner skipped ends with the step that runs."""
    interrupted: bool = False
    """The owner ended it early: what is painted ends with the step that runs, and nothing more is begun."""
    held: str = ""
    """Why it cannot go on now although nothing is wrong with it, "" when it can: pictures or jobs cannot be written."""

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Load:
    """What others have in the queue: how much, and never what.  `seconds` of device time; None while nothing is known."""

    users: int
    jobs: int
    pictures: int
    seconds: float | None


@dataclass(frozen=True)
class QueueView:
    """The queue as one user sees it: own unfinished jobs in their order, and the load that others are."""

    jobs: tuple[JobView, ...]
    paused: bool
    others: Load
    per_user: int
    total: int


def changed_settings(request: GenerationRequest) -> list[tuple[str, str]]:
    """Label and value of each setting of a request that is not at its default, beside those that are shown always.

    Every field of the request counts, also one that has no label of its own; so nothing that has a part in a picture is unsaid.
    """
    fields = type(request).model_fields
    changed = [name for name, field in fields.items() if name not in _ALWAYS_SHOWN and getattr(request, name) != field.default]
    labels = _LABELS | {name: one.label for name, one in about(Upscaling).items() if one.label}
    shown = {labels.get(name, name.replace("_", " ").capitalize()): getattr(request, name) for name in changed}
    shown |= labels_of(request.extensions)
    if request.kept_extensions:
        shown["Not used"] = f"{', '.join(named(request.kept_extensions))} (not installed here, or off)"
    return [(label, _in_words(value)) for label, value in shown.items()]


def _in_words(value: Any) -> str:
    if isinstance(value, Hires):
        return described(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(_in_words, value)) if isinstance(value, (tuple, list)) else str(value)


def painted_words(infotext: str) -> tuple[str, str] | None:
    r"""Prompt and negative prompt as they were encoded, with the styles' words and what wildcards drew, from a text of ours
    (`modules.images.infotext.render`); None of any other text.

    Cheaper than `infotext.parse`: it is asked for each picture of a list.

    >>> painted_words("a red apple\nNegative prompt: blurry\nSteps: 20, Seed: 1"), painted_words("Steps: 20")
    (('a red apple', 'blurry'), ('', ''))
    """
    words, _, items = f"\n{infotext}".rpartition("\n")
    if not items.startswith("Steps: "):
        return None
    prompt, _, negative = words.partition(f"\n{NEGATIVE_LINE}")
    return prompt.removeprefix("\n"), negative.removeprefix(" ")
