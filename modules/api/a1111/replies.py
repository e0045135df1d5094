"""What A1111's API answers: its shapes, for the description of this API.  The routes build them as plain data."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Reply(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class Images(_Reply):
    """Generated pictures."""

    images: list[str] | None = Field(description="Files as base64, in the option `samples_format`, with their text inside.")
    parameters: dict[str, Any] = Field(description="The request with all defaults.")
    info: str = Field(description="A JSON object as text: all_seeds, all_prompts, infotexts, sd_model_name and more.")


class ExtrasImage(_Reply):
    html_info: str
    image: str | None


class ExtrasImages(_Reply):
    html_info: str
    images: list[str]


class PictureInfo(_Reply):
    info: str = Field(description="The parameters text, empty without one.")
    items: dict[str, Any] = Field(description="What else the file says.")
    parameters: dict[str, Any] = Field(description="The text's items, with A1111's defaults for what it leaves out.")


class ExtensionItem(_Reply):
    name: str
    remote: str = Field(description="The address that it came from, empty where that is unknown.")
    branch: str
    commit_hash: str
    version: str
    commit_date: int
    enabled: bool


class Caption(_Reply):
    caption: str


class State(_Reply):
    skipped: bool
    interrupted: bool
    stopping_generation: bool
    job: str
    job_count: int
    job_timestamp: str
    job_no: int
    sampling_step: int
    sampling_steps: int


class Progress(_Reply):
    """Of the caller's own current job."""

    progress: float = Field(description="From 0 to 1; 0 when nothing of yours is under way.")
    eta_relative: float = Field(description="Seconds, 0 while nothing is known.")
    state: State
    current_image: str | None = Field(description="The newest preview, a JPEG as base64.")
    textinfo: str | None


class TaskProgress(_Reply):
    """Of one of the caller's own calls."""

    active: bool
    queued: bool
    completed: bool
    progress: float | None
    eta: float | None
    live_preview: str | None = Field(description="A data URI; null while there is none newer than id_live_preview.")
    id_live_preview: int | None
    textinfo: str | None


class PendingTasks(_Reply):
    size: int
    tasks: list[str]


class QueueStatus(_Reply):
    """Gradio 3's estimation of its queue; here of the caller's jobs that are not over."""

    msg: str
    rank: int | None
    queue_size: int
    avg_event_process_time: float | None
    avg_event_concurrent_process_time: float | None
    rank_eta: float | None
    queue_eta: float = Field(description="Seconds, 0 while nothing is known.")


class SamplerItem(_Reply):
    name: str
    aliases: list[str]
    options: dict[str, Any]


class SchedulerItem(_Reply):
    name: str
    label: str
    aliases: list[str] | None
    default_rho: float | None
    need_inner_model: bool | None


class UpscalerItem(_Reply):
    name: str
    model_name: str | None
    model_path: str | None
    model_url: str | None
    scale: float | None


class ModelItem(_Reply):
    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str = Field(description="The file's name without its folder.")
    config: str | None


class StyleItem(_Reply):
    name: str
    prompt: str | None
    negative_prompt: str | None


class NamedItem(_Reply):
    name: str


class Embeddings(_Reply):
    loaded: dict[str, Any]
    skipped: dict[str, Any]


class VaeItem(_Reply):
    model_name: str
    filename: str
    """The file's name; where it lies is not said."""


class LoraItem(_Reply):
    name: str
    alias: str
    path: str
    """The file's name; where it lies is not said."""
    metadata: dict[str, Any]


class HypernetworkItem(_Reply):
    name: str
    path: str
    """The file's name; where it lies is not said."""


class Scripts(_Reply):
    txt2img: list[str]
    img2img: list[str]


class ScriptItem(_Reply):
    name: str
    is_alwayson: bool
    is_img2img: bool
    args: list[dict[str, Any]]


class Memory(_Reply):
    ram: dict[str, Any]
    cuda: dict[str, Any]
