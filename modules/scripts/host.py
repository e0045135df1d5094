"""What scripts need of the App: jobs, names, and places for pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from modules.checkpoints.files import CheckpointInfo
from modules.checkpoints.upscalers import UpscalerInfo, no_files
from modules.checkpoints.vaes import VaeInfo
from modules.images.outputs import Outputs
from modules.images.uploads import Upload
from modules.jobs.estimates import Quote
from modules.jobs.views import JobView
from modules.pixels.enlarging import hires_upscalers
from modules.prompts.library import Library
from modules.request import GenerationRequest
from modules.scripts.axes import Names


class ModelNames(Protocol):
    """What knows autoencoders and upscalers by name."""

    def vae(self, name: str) -> str: ...
    def upscaler(self, name: str, field: str, others: Sequence[str]) -> str: ...


class Host(Protocol):
    """`modules.app.App`, whose methods say what they do."""

    @property
    def outputs(self) -> Outputs: ...
    @property
    def library(self) -> Library: ...
    @property
    def catalogue(self) -> ModelNames: ...

    def checkpoints(self) -> Sequence[CheckpointInfo]: ...
    def checkpoint(self, name: str | None) -> CheckpointInfo: ...
    def vaes(self) -> Sequence[VaeInfo]: ...
    def upscalers(self) -> Sequence[UpscalerInfo]: ...
    def complete(self, fields: dict[str, Any]) -> GenerationRequest: ...
    def prepared(self, fields: dict[str, Any], user: str) -> GenerationRequest: ...
    def quote(self, fields: dict[str, Any]) -> Quote: ...
    def submit(self, fields: dict[str, Any], user: str, key: str = "") -> JobView: ...
    def job(self, job_id: str, user: str) -> JobView | None: ...
    def unfinished(self, job_id: str) -> bool: ...
    def cancel(self, job_id: str, user: str) -> bool: ...
    def listen(self, listener: Callable[[], None]) -> Callable[[], None]: ...
    def picture_saved(self, name: str, user: str) -> None: ...
    def keep_upload(self, data: bytes, user: str) -> Upload: ...
    def upload_path(self, upload: str, user: str) -> Path | None: ...


def names_in(host: Host) -> Names:
    """What is here under which name."""

    def files() -> list[str]:
        return [info.name for info in host.upscalers() if not info.problem]

    return Names(
        checkpoints=lambda: [info.name for info in host.checkpoints() if not info.problem],
        vaes=lambda: ["Automatic", "None", *(info.name for info in host.vaes() if not info.problem)],
        styles=lambda: list(host.library.styles()),
        upscalers=lambda: [*hires_upscalers(), *files()],
        checkpoint=lambda name: host.checkpoint(name).name,
        vae=host.catalogue.vae,
        upscaler=lambda name: host.catalogue.upscaler(name, "hires.upscaler", hires_upscalers()),
        enlargers=lambda: [*no_files(), *files()],
        enlarger=lambda name: host.catalogue.upscaler(name, "SD upscale", no_files()),
    )
