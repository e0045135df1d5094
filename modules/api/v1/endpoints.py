"""The native API, `/api/v1`: submit a job and go away; list, watch and cancel one's own; fetch pictures; what there is.

Small on purpose, and ours: fields are those of `modules.request`, nothing waits for a picture, and a job that is not the
caller's is answered like one that does not exist.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from modules.api.checkpoints import checkpoint_json
from modules.api.error_responses import caller
from modules.api.extensions import options_schema
from modules.api.guard.bodies import read_json
from modules.api.limits import DECODERS, Limits, limits_of
from modules.api.schema import error_responses, inlined
from modules.api.streams import Streams
from modules.app import App
from modules.checkpoints.hashes import known_sha256
from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.schedules import SCHEDULES
from modules.errors import RequestError, without_folders
from modules.images import files
from modules.jobs.estimates import quote_json
from modules.jobs.views import JobView, PictureView
from modules.model_library.library import MAX_PAGE as MAX_MODELS
from modules.model_library.library import MAX_QUERY
from modules.model_library.library import Query as ModelQuery
from modules.request import EXTENSIONS, Img2Img, RequestExtension, Txt2Img, Upscaling
from modules.request.upscaling import OWN_FIELDS
from modules.roles import ROLE_FIELDS, with_role_fields

MAX_PAGE = 200
"""Jobs in one answer of the list."""
TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".avif": "image/avif"}

_WORDS = {"prompt": "a red apple on a blue background", "seed": 7, "count": 2}
_EXAMPLES = {
    "words": {"summary": "A picture from words", "value": _WORDS},
    "picture": {
        "summary": "A picture from a picture that was sent to /api/v1/sources",
        "value": {**_WORDS, "pictures": {"init": "0" * 64}, "denoising_strength": 0.6},
    },
    "larger": {
        "summary": "Such a picture at another size, without painting",
        "value": {"pictures": {"init": "0" * 64}, "upscaler_1": "Lanczos", "upscale_by": 2},
    },
}


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


def v1_endpoints(app: App) -> APIRouter:
    """`/api/v1/*`."""
    router = APIRouter(prefix="/api/v1", tags=["Atelier"], responses=error_responses())
    _jobs(router, app)
    _events(router, app)
    _estimates(router, app)
    _pictures(router, app)
    _lists(router, app)
    return router


def _found(app: App, job_id: str, user: str) -> JobView:
    job = app.job(job_id, user)
    if job is None:
        raise HTTPException(404, "There is no such job here (any more).")
    return job


def _jobs(router: APIRouter, app: App) -> None:
    found = partial(_found, app)

    @router.post("/jobs", status_code=201, response_model=JobAnswer, openapi_extra=job_body())
    async def submit(request: Request) -> Any:
        """Submit a job.  It is on disk when this answers, and survives anything.

        Fields that are left out have the checkpoint's own defaults.  With a header `Idempotency-Key`, the same key again is the
        same job, whatever became of the first answer; with another body it is refused (422).
        """
        user = caller(request)
        if not await request.body():
            raise RequestError('a job is a JSON object of fields, such as {"prompt": "a cat"}; the request has no body')
        fields = await read_json(request)
        key = request.headers.get("idempotency-key", "")
        job = await anyio.to_thread.run_sync(lambda: app.submit(fields, user, key, exact=True))
        return job_answer(job)

    @router.get("/jobs", response_model=JobList)
    async def jobs(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
        cursor: Annotated[str, Query(max_length=100, description="`next` of the page before.")] = "",
    ) -> Any:
        """Your jobs, newest first."""
        user = request.state.user
        views = await anyio.to_thread.run_sync(lambda: app.jobs(user, limit + 1, cursor))
        more = len(views) > limit
        page = views[:limit]
        return {"jobs": [job_answer(view) for view in page], "next": page[-1].id if more else None}

    @router.get("/jobs/{job_id}", response_model=JobAnswer)
    async def job(request: Request, job_id: str) -> Any:
        """One of your jobs."""
        return job_answer(found(job_id, request.state.user))

    @router.post("/jobs/{job_id}/cancel", response_model=JobAnswer)
    async def cancel(request: Request, job_id: str) -> Any:
        """Stop it; what is finished stays.  Of a job that is over, nothing changes."""
        user = caller(request)
        await anyio.to_thread.run_sync(app.cancel, job_id, user)
        return job_answer(found(job_id, user))

    @router.post("/jobs/{job_id}/skip", response_model=JobAnswer)
    async def skip(request: Request, job_id: str) -> Any:
        """Finish the picture that is painted now with the step that runs, and go on with the next one.  Where none is painted,
        nothing changes."""
        user = caller(request)
        await anyio.to_thread.run_sync(app.skip, job_id, user)
        return job_answer(found(job_id, user))

    @router.post("/jobs/{job_id}/interrupt", response_model=JobAnswer)
    async def interrupt(request: Request, job_id: str) -> Any:
        """Finish all pictures that are painted now with the step that runs, and begin no others.  A job of which nothing is
        painted yet is cancelled; of one that is over, nothing changes."""
        user = caller(request)
        await anyio.to_thread.run_sync(app.interrupt, job_id, user)
        return job_answer(found(job_id, user))

    @router.post("/jobs/{job_id}/retry", response_model=JobAnswer)
    async def retry(request: Request, job_id: str) -> Any:
        """Queue a failed or cancelled job again, for the pictures that it lacks.  Of any other job, nothing changes."""
        user = caller(request)
        await anyio.to_thread.run_sync(app.retry, job_id, user)
        return job_answer(found(job_id, user))


def _events(router: APIRouter, app: App) -> None:
    streams = Streams(app, job_answer)

    @router.get(
        "/jobs/{job_id}/events",
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {}}, "description": "Events `job`, each with the job as JSON."}},
    )
    async def events(request: Request, job_id: str) -> Response:
        """The job as it changes, as server-sent events; ends when it is over."""
        user = caller(request)
        _found(app, job_id, user)
        return streams.answer(user, job_id)


def _estimates(router: APIRouter, app: App) -> None:
    @router.post("/estimate", response_model=EstimateAnswer, openapi_extra=job_body(key=False))
    async def estimate(request: Request) -> Any:
        """What a job with these fields would take of time and memory; nothing is begun.  What enlarging takes depends on the
        picture's size, which `picture` among the fields says: [width, height]."""
        caller(request)
        fields = await read_json(request)
        return quote_json(await anyio.to_thread.run_sync(app.quote, fields))


def _pictures(router: APIRouter, app: App) -> None:
    few = anyio.CapacityLimiter(DECODERS)

    async def found(request: Request, job_id: str, index: int) -> PictureView:
        picture = app.picture(job_id, index, request.state.user)
        if picture is None or not await anyio.to_thread.run_sync(files.is_ours, picture.path):
            raise HTTPException(404, "There is no such picture here (any more).")
        return picture

    @router.get(
        "/jobs/{job_id}/pictures/{index}",
        response_class=FileResponse,
        responses={200: {"content": {"image/png": {}}, "description": "The file as it was saved."}},
    )
    async def picture(request: Request, job_id: str, index: int) -> Response:
        """A finished picture, with its text inside."""
        there = await found(request, job_id, index)
        return FileResponse(
            there.path,
            media_type=TYPES.get(there.path.suffix.lower(), "application/octet-stream"),
            filename=there.name,
            content_disposition_type="inline",
            headers={"cache-control": "private, no-cache"},
        )

    @router.get(
        "/jobs/{job_id}/pictures/{index}/infotext",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The text."}},
    )
    async def infotext(request: Request, job_id: str, index: int) -> Response:
        """A1111's parameters text of a finished picture."""
        return PlainTextResponse((await found(request, job_id, index)).infotext)

    @router.post("/sources", status_code=201, response_model=UploadAnswer, openapi_extra=_picture_body())
    async def keep(request: Request) -> Any:
        """Send a picture, or a mask, for jobs to start from: the file itself is the body."""
        user = caller(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not kind.startswith("image/") and kind != "application/octet-stream":
            raise HTTPException(415, "send the picture itself, with a content type image/png or the like")
        data = await request.body()
        kept = await anyio.to_thread.run_sync(lambda: app.keep_upload(data, user), limiter=few)
        return {"id": kept.id, "width": kept.width, "height": kept.height}


def _lists(router: APIRouter, app: App) -> None:
    @router.get("/models", response_model=list[ModelAnswer])
    def models() -> Any:
        """The checkpoints, usable ones first."""
        cache = Path(app.settings.data_dir) / "hashes.json"
        return [{**checkpoint_json(info), "sha256": known_sha256(info.path, cache) or None} for info in app.checkpoints()]

    @router.get("/library", response_model=ModelFileList)
    def library(
        request: Request,
        kind: Annotated[str, Query(max_length=20, description="One kind; all unless given.")] = "",
        q: Annotated[str, Query(max_length=MAX_QUERY, description="Words to be found.")] = "",
        folder: Annotated[str, Query(max_length=4096)] = "",
        sort: Annotated[str, Query(max_length=20, description="name, newest, size or family.")] = "name",
        checkpoint: Annotated[str, Query(max_length=1000, description="What the models are to fit.")] = "",
        offset: Annotated[int, Query(ge=0, lt=10_000_000)] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_MODELS)] = 60,
    ) -> Any:
        """The model files of all kinds, with what is known of them."""
        query = ModelQuery(kind, q, folder, sort, checkpoint, offset, limit)
        return app.model_library.page(query, request.state.user)

    @router.get("/samplers", response_model=list[SamplerAnswer])
    async def samplers() -> Any:
        """The samplers."""
        return [
            {
                "name": sampler.name,
                "aliases": list(sampler.aliases),
                "schedule": sampler.default_schedule or "Uniform",
                "options": list(sampler.takes),
            }
            for sampler in SAMPLERS.values()
        ]

    @router.get("/schedules", response_model=list[ScheduleAnswer])
    async def schedules() -> Any:
        """The noise schedules."""
        return [
            {"name": schedule.label, "aliases": [schedule.name, *schedule.aliases], "options": list(schedule.takes)}
            for schedule in SCHEDULES.values()
        ]

    @router.get("/extensions", response_model=list[ExtensionAnswer])
    def extensions() -> Any:
        """The extensions that lie here, whatever their state; only those that are on can be asked for."""
        return [
            {
                "name": view.name,
                "title": view.title,
                "version": view.version,
                "description": view.description,
                "state": view.state,
                "halves": list(view.halves),
                "options": options_schema(view.name),
            }
            for view in app.extensions.list()
        ]

    @router.get("/limits", response_model=Limits)
    async def limits() -> Any:
        """What one request may ask for."""
        return limits_of(app)


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


def job_body(key: bool = True) -> dict[str, Any]:
    """Of a job, with its `key` or without: a request of any kind.  Defaults are left out, because the checkpoint's own come
    before them."""
    named = {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "maxLength": 200},
        "description": "Your own name for the job.",
    }
    kinds = _job_schemas(tuple(EXTENSIONS.values()))
    content = {"application/json": {"schema": {"anyOf": kinds}, "examples": _EXAMPLES}}
    return {"requestBody": {"required": True, "content": content}, "parameters": [named] if key else []}


@lru_cache(maxsize=2)
def _job_schemas(extensions: tuple[RequestExtension, ...]) -> list[dict[str, Any]]:
    """The JSON schemas of requests of each kind, which several routes describe; their field `extensions` lists `extensions`."""
    schemas = [Txt2Img.model_json_schema(), Img2Img.model_json_schema(), Upscaling.model_json_schema()]
    own = schemas[2]["properties"]
    schemas[2]["properties"] = {name: own[name] for name in (*OWN_FIELDS, *ROLE_FIELDS) if name in own}
    return [inlined(schema, schema.pop("$defs", {})) for schema in schemas]


def _picture_body() -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    kinds = ("image/png", "image/jpeg", "image/webp", "image/avif", "application/octet-stream")
    return {"requestBody": {"required": True, "content": dict.fromkeys(kinds, binary)}}
