"""What the outside sees of jobs, pictures and the engine: plain frozen data, made by `modules.app`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modules.request import GenerationRequest

Health = Literal["starting", "ready", "restarting", "failed"]


@dataclass(frozen=True)
class EngineState:
    """`message` is a sentence for the user; the choices carry their reasons, and are empty until the engine said hello."""

    state: Health
    message: str
    device: str = ""
    dtype: str = ""
    attention: str = ""


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

    `position` counts the jobs before it (0 = its turn); `done` of `count` pictures are finished; `step` of `steps` is the
    current picture's; `progress` is of the whole job in [0, 1]; `eta_s` seconds, None while nothing is known; `rev` grows with
    each change.
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

    paused: bool = False
    """The owner paused: nothing more of it is begun."""
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
