"""What the native API answers: jobs, pictures, estimates and lists, as JSON with a schema."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from modules.errors import without_folders
from modules.jobs.views import JobView
from modules.roles import with_role_fields


class PictureAnswer(BaseModel):
    index: int
    seed: int
    width: int
    height: int
    infotext: str = Field(description="A1111's parameters text.")
    url: str = Field(description="Where the file is, with its text inside.")


class JobAnswer(BaseModel):
    id: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    position: int = Field(description="Jobs before it; 0: its turn.")
    count: int = Field(description="Pictures that it makes.")
    done: int = Field(description="Pictures that are finished.")
    step: int = Field(description="Of the picture that is furthest, over all its stages.")
    steps: int
    stage: int = Field(description="The stage of that picture, from 1; a second pass is the second.")
    stages: int
    stage_step: int = Field(description="Its step within the stage.")
    stage_steps: int
    progress: float = Field(description="Of the whole job, from 0 to 1.")
    eta_s: float | None = Field(description="Seconds; null while nothing is known.")
    paused: bool
    doing: str = Field(
        description="What is done before its next step, such as loading its checkpoint; empty for nothing special."
    )
    error: str = Field(description="Why it failed; empty otherwise.")
    held: str = Field(
        description="Why it waits though nothing is wrong with it: the disk is full, for instance; empty otherwise."
    )
    created: float = Field(description="Seconds since 1970.")
    request: dict[str, Any] = Field(description="The complete request: with names resolved and the seed drawn.")
    pictures: list[PictureAnswer]
    url: str


class JobList(BaseModel):
    jobs: list[JobAnswer] = Field(description="Newest first.")
    next: str | None = Field(description="The cursor of the next page; null on the last one.")


class UploadAnswer(BaseModel):
    id: str = Field(description="For a job's `pictures`, as its init or its mask.")
    width: int
    height: int


class MemoryAnswer(BaseModel):
    bytes: int = Field(description="What it takes of the device's memory at its peak.")
    weights: int = Field(description="Of that, for the networks.")
    room: int = Field(description="Bytes that are there; 0 where that is not known.")
    measured: bool = Field(description="Whether such calls were measured; else it follows from the networks' layers.")
    fits: bool
    possible: bool = Field(description="Whether it can be painted, if by slower means.")
    means: list[Literal["tiles", "rows", "others", "fp8", "denoiser"]] = Field(
        description="What is then done: decoding in tiles; a step's rows one by one; streaming text encoders and VAE; keeping "
        "the denoiser's weights in 8 bits; streaming them."
    )
    streamed: int = Field(description="Bytes that are brought to the device in each step then.")
    size: tuple[int, int] | None = Field(description="Where it is not possible, the largest width and height that are.")
    whole: tuple[int, int] | None = Field(description="Where it does not fit, the largest that fit without any of that.")
    fp8: bool = Field(description="Whether it would fit with weights in 8 bits.")
    taesd: bool = Field(description="Whether it would fit with TAESD as decoder.")
    single: bool = Field(description="Whether it would fit with one picture at a time.")
    said: list[str] = Field(description="The same in sentences.")


class EstimateAnswer(BaseModel):
    seconds: float | None = Field(description="Of the device, for all pictures; null while nothing was measured.")
    beyond: bool = Field(description="Whether it is larger than all that was measured, so that it takes longer than that.")
    native: tuple[int, int] | None = Field(
        description="The width and height that the checkpoint was made for; null of a picture that is only enlarged."
    )
    weights: int = Field(description="Bytes of its networks; 0 where that is not known.")
    memory: MemoryAnswer | None


class DefaultsAnswer(BaseModel):
    width: int
    height: int
    steps: int
    cfg_scale: float
    sampler: str
    schedule: str
    distilled_cfg_scale: float | None = Field(description="null where the network takes no distilled guidance scale.")


class UnfitAnswer(BaseModel):
    field: Literal["sampler", "schedule"] = Field(description="Of a job, and of its second pass.")
    names: list[str] = Field(description="Values with which jobs for this checkpoint are refused.")
    reason: str
    instead: str = Field(description="A value that fits.")


class ModelAnswer(BaseModel):
    name: str = Field(description="For `checkpoint` of a job.")
    title: str
    family: str
    prompt: str = Field(description="What the prompt is for it: text, class, boxes, or nothing, where none is read.")
    takes: str = Field(description="What it is given beside noise: mask, picture, low-res or map; empty for nothing.")
    unguided: str = Field(description="Why it is run at a CFG scale of 1; empty where guidance belongs to it.")
    unfit: list[UnfitAnswer] = Field(description="Samplers and schedules that make no sense with it, by reason.")
    description: str
    prompts: list[str]
    motifs: list[str]
    problem: str = Field(description="Why the file cannot be used; empty when it can.")
    note: str = Field(description="What is wrong beside it, such as a damaged configuration; empty when nothing is.")
    sha256: str | None
    defaults: DefaultsAnswer


class ModelFileAnswer(BaseModel):
    id: str
    kind: str = Field(description="checkpoint, vae, taesd, lora, embedding, hypernetwork, controlnet or upscaler.")
    name: str = Field(description="As one writes or selects it.")
    file: str = Field(description="Below its models folder.")
    folder: str
    family: str = Field(description="What it was made for; empty when that is unknown.")
    size: int = Field(description="Bytes.")
    modified: float = Field(description="Seconds since 1970.")
    hash: str = Field(description="As A1111 shows it; empty while it is not known.")
    base_model: str
    triggers: list[str] = Field(description="Words that call it.")
    fits: str = Field(description="Why it does not fit the `checkpoint`; empty when it does.")
    problem: str = Field(description="Why it cannot be used; empty when it can.")
    insert: str = Field(description="What to write into a prompt to use it.")
    weight: float | None = Field(description="The preferred one.")
    favourite: bool


class ModelFileList(BaseModel):
    total: int
    unread: int = Field(description="Files that are still being read, and say nothing of themselves yet.")
    kinds: dict[str, int] = Field(description="How many are found of each kind.")
    items: list[ModelFileAnswer]


class SamplerAnswer(BaseModel):
    name: str
    aliases: list[str]
    schedule: str = Field(description="What the schedule Automatic means for it.")
    options: list[str] = Field(description="Fields that change its pictures.")


class ScheduleAnswer(BaseModel):
    name: str = Field(description="For `schedule` of a job.")
    aliases: list[str]
    options: list[str] = Field(description="What may be bent in it.")


class ExtensionAnswer(BaseModel):
    name: str = Field(description="For `extensions` of a job.")
    title: str
    version: str
    description: str
    state: Literal["on", "off", "failed", "suspended", "refused"]
    halves: list[str] = Field(description="web, engine or both.")
    options: dict[str, Any] | None = Field(description="The JSON schema of what a job may ask of it; null without options.")


def job_answer(job: JobView) -> dict[str, Any]:
    """A job as JSON of this API."""
    url = f"/api/v1/jobs/{job.id}"
    return {
        "id": job.id,
        "state": job.state,
        "position": job.position,
        "count": job.count,
        "done": job.done,
        "step": job.step,
        "steps": job.steps,
        "stage": job.stage,
        "stages": job.stages,
        "stage_step": job.stage_step,
        "stage_steps": job.stage_steps,
        "progress": round(job.progress, 4),
        "eta_s": None if job.eta_s is None else round(job.eta_s, 1),
        "paused": job.paused,
        "doing": without_folders(job.doing),
        "error": without_folders(job.error),
        "held": without_folders(job.held),
        "created": job.created,
        "request": with_role_fields(job.request.model_dump(mode="json")),
        "pictures": [
            {
                "index": picture.index,
                "seed": picture.seed,
                "width": picture.width,
                "height": picture.height,
                "infotext": picture.infotext,
                "url": f"{url}/pictures/{picture.index}",
            }
            for picture in job.pictures
        ],
        "url": url,
    }
