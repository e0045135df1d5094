"""txt2img and img2img: a call becomes a job like any other, and is answered when that is over.

A client that disconnects leaves the job running; its pictures are in the outputs folder and in the caller's list of jobs.
"""

from __future__ import annotations

from typing import Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response
from PIL import Image
from starlette.exceptions import HTTPException

from modules.api.a1111.chosen_scripts import chosen_script
from modules.api.a1111.detailer import detail_script
from modules.api.a1111.hires import over_picture
from modules.api.a1111.models import own_checkpoint
from modules.api.a1111.options import CHECKPOINT, Chosen, OwnOptions, read_options
from modules.api.a1111.outpainting_scripts import outpainting
from modules.api.a1111.pictures import picture_bytes, read_picture
from modules.api.a1111.replies import Images
from modules.api.a1111.requests import GenerationBody, PictureBody, TextBody
from modules.api.a1111.results import answer, answer_text, script_answer
from modules.api.a1111.tasks import Tasks
from modules.api.a1111.timing import TimedRoute
from modules.api.a1111.translate import asked_of, is_named
from modules.api.error_responses import caller
from modules.api.guard.bodies import fitted, read_json
from modules.api.schema import body_of
from modules.api.waiting import until_over, until_script_over
from modules.app import App
from modules.errors import EngineError, RequestError
from modules.jobs.views import JobView
from modules.pixels.masks import from_image
from modules.scripts.views import RunView

B = TypeVar("B", bound=GenerationBody)

DECODERS, ENCODERS = 2, 4
"""Calls whose pictures are decoded, and answers that are put together, at a time."""

_TEXT = {"prompt": "a red apple on a blue background", "steps": 20, "seed": 7, "width": 256, "height": 256}
_PICTURE = {"init_images": ["iVBORw0KGgo..."], "denoising_strength": 0.6, **_TEXT}


def generation_endpoints(app: App, own: OwnOptions, tasks: Tasks) -> APIRouter:
    router = APIRouter(route_class=TimedRoute)
    decoders, encoders = anyio.CapacityLimiter(DECODERS), anyio.CapacityLimiter(ENCODERS)

    @router.post("/sdapi/v1/txt2img", response_model=Images, openapi_extra=body_of(TextBody, _TEXT))
    async def txt2img(request: Request) -> Response:
        """A picture from words.  Answers when it is painted; see /sdapi/v1/progress and `force_task_id` for the meantime."""
        return await _paint(request, TextBody)

    @router.post("/sdapi/v1/img2img", response_model=Images, openapi_extra=body_of(PictureBody, _PICTURE))
    async def img2img(request: Request) -> Response:
        """A picture from a picture; with a `mask`, inpainting."""
        return await _paint(request, PictureBody)

    async def _paint(request: Request, kind: type[B]) -> Response:
        user = caller(request)
        data = await read_json(request)

        def accept() -> tuple[B, Chosen, list[str], JobView | RunView]:
            body = fitted(kind, data)
            overridden = _overridden(body)
            detailing, said = detail_script(body.alwayson_scripts)
            options = _options(app, own, user, overridden)
            asked = asked_of(app, body, options, overridden)
            fields = asked.fields | (_kept(app, body, user) if isinstance(body, PictureBody) else {})
            if isinstance(body, TextBody) and body.enable_hr and body.firstpass_image:
                kept = app.keep_upload(picture_bytes(body.firstpass_image, "firstpass_image"), user)
                fields = over_picture(fields, kept.id)
            if body.override_settings_restore_afterwards is False:  # not before it is clear that they can be painted with
                own.set(user, overridden)
            if body.script_name is not None and is_named(body.script_name):
                image = isinstance(body, PictureBody)
                if image and (grown := outpainting(body.script_name, body.script_args or [])) is not None:
                    notes = [*asked.notes, *grown.notes]
                    return body, options, notes, app.submit(fields | grown.fields, user)
                if detailing:
                    raise RequestError("alwayson_scripts.ADetailer: it follows a plain call here; leave script_name out")
                script = chosen_script(body.script_name, body.script_args or [], image, app.scripts)
                return body, options, asked.notes, app.scripts.start(script, fields, user)
            if detailing:
                return body, options, [*asked.notes, *said], app.scripts.start(detailing, fields, user)
            return body, options, asked.notes, app.submit(fields, user)

        body, options, notes, job = await anyio.to_thread.run_sync(accept, limiter=decoders)
        data.clear()  # pictures as text: megabytes that nobody needs while the job waits
        if body.force_task_id:
            tasks.remember(user, body.force_task_id, job.id)
        if isinstance(job, RunView):
            return await _script(job, user, body, options, notes)
        over = await until_over(app, job.id, user)
        if over is None:
            raise RequestError("the job was removed from the list before it was answered")
        if over.state == "failed":
            _say_why(app, over)
        text = await anyio.to_thread.run_sync(lambda: answer_text(answer(over, body, options, notes)), limiter=encoders)
        return Response(text, media_type="application/json")

    async def _script(run: RunView, user: str, body: GenerationBody, options: Chosen, notes: list[str]) -> Response:
        over = await until_script_over(app, run.id, user)
        if over is None:
            raise RequestError("the script was removed from the list before it was answered")

        def put_together() -> str | None:
            found = script_answer(app, over, user, body, options, notes)
            return None if found is None else answer_text(found)

        text = await anyio.to_thread.run_sync(put_together, limiter=encoders)
        if text is None:
            why = next((cell.error for cell in over.cells if cell.error), "it was cancelled")
            raise RequestError(f"no picture of the script could be made: {why}")
        return Response(text, media_type="application/json")

    return router


def _overridden(body: GenerationBody) -> dict[str, Any]:
    """The options that the call sets for itself."""
    overridden = read_options(body.override_settings or {})
    if overridden.get(CHECKPOINT) == "":  # how some clients say "the usual one"
        del overridden[CHECKPOINT]
    return overridden


def _options(app: App, own: OwnOptions, user: str, overridden: dict[str, Any]) -> Chosen:
    """All options that hold for a call."""
    usual = own_checkpoint(app, own, user)
    return Chosen({**own.of(user), CHECKPOINT: usual.name if usual else "", **overridden})


def _kept(app: App, body: PictureBody, user: str) -> dict[str, str]:
    """The ids of the call's pictures, kept for the job."""
    if not body.init_images:
        raise HTTPException(404, "Init image not found")
    if len(body.init_images) > 1:
        raise RequestError(
            f"init_images: {len(body.init_images)} pictures were given, and one call paints from one; send one call for each"
        )
    source = app.keep_upload(picture_bytes(body.init_images[0], "init_images.0"), user)
    if not body.mask:
        return {"source": source.id}
    mask = Image.fromarray(from_image(read_picture(body.mask, "mask"), body.mask_round is not False))
    if mask.size != (source.width, source.height):  # A1111 brings both to the size of the result, each on its own
        mask = mask.resize((source.width, source.height), Image.Resampling.LANCZOS)
    return {"source": source.id, "mask": app.input_images.uploads.keep_image(mask.convert("RGB"), user).id}


def _say_why(app: App, job: JobView) -> None:
    if app.engine().state == "failed":
        raise EngineError(job.error)
    raise RequestError(f"the picture could not be made: {job.error}")
