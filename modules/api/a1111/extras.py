"""Pictures without painting: extras (upscaling), what a picture says about itself, and what is not built.

Sizes and texts are those of A1111 1.10.1's extras.  Filters work on the picture here; with an upscaler's file a call becomes a
job like any other, and is answered when that is over.  Models for faces are not here, and are refused by name.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response

from modules.api.a1111.hires import known_upscaler
from modules.api.a1111.options import OwnOptions
from modules.api.a1111.pictures import encoded, picture_bytes, saved_infotext, to_base64
from modules.api.a1111.replies import Caption, ExtrasImage, ExtrasImages, PictureInfo
from modules.api.a1111.requests import ExtrasBatchBody, ExtrasBody, InfoBody, InterrogateBody, _ExtrasBody
from modules.api.a1111.timing import TimedRoute
from modules.api.error_responses import caller
from modules.api.guard.bodies import fitted, read_json
from modules.api.json_writer import json_text
from modules.api.schema import body_of
from modules.api.waiting import until_over
from modules.app import App
from modules.checkpoints.upscalers import built_in
from modules.errors import RequestError
from modules.images import png
from modules.images.decode import decode
from modules.images.infotext import completed, parse
from modules.images.reading import read_picture
from modules.jobs.views import JobView
from modules.pixels.enlarging import by_filter, put_together
from modules.request import Upscaling, parse_request
from modules.request.kinds import MAX_SOURCE_TEXT
from modules.request.upscaling import sizes

WORKERS = 2
"""Pictures that are worked on at a time."""

_EXTRAS = {"image": "iVBORw0KGgo...", "upscaling_resize": 2, "upscaler_1": "Lanczos"}
_BATCH = {"imageList": [{"data": "iVBORw0KGgo...", "name": "one.png"}], "upscaling_resize": 2, "upscaler_1": "Lanczos"}


def extras_endpoints(app: App, own: OwnOptions) -> APIRouter:
    router = APIRouter(route_class=TimedRoute)
    few = anyio.CapacityLimiter(WORKERS)

    async def _answer(work: Callable[[], dict[str, Any]]) -> Response:
        text = await anyio.to_thread.run_sync(lambda: json_text(work()), limiter=few)
        return Response(text, media_type="application/json")

    async def _made(request: Request, body: _ExtrasBody, pictures: Mapping[str, str]) -> tuple[list[bytes], str]:
        """The files made of pictures in base64, and what their texts say.  Upscalers' files run as jobs like any other."""
        wanted = await anyio.to_thread.run_sync(wanted_of, app, body)
        user = caller(request) if wanted.by_model else request.state.user
        options = own.of(user)

        def begin(name: str, text: str) -> Any:
            data = picture_bytes(text, name)
            return submitted(app, data, name, wanted, user) if wanted.by_model else worked_on(data, name, wanted, options)

        begun: list[Any] = []
        try:
            for name, text in pictures.items():
                begun.append(await anyio.to_thread.run_sync(begin, name, text, limiter=few))
        except Exception:
            for job in begun if wanted.by_model else ():  # the caller gets an error, and their results would go nowhere
                await anyio.to_thread.run_sync(app.cancel, job.id, user)
            raise
        if not wanted.by_model:
            return [made for made, _ in begun], begun[-1][1] if begun else ""
        results = []
        for job in begun:
            over = await until_over(app, job.id, user)
            results.append(await anyio.to_thread.run_sync(finished, over, options, limiter=few))
        return [made for made, _ in results], results[-1][1] if results else ""

    @router.post("/sdapi/v1/extra-single-image", response_model=ExtrasImage, openapi_extra=body_of(ExtrasBody, _EXTRAS))
    async def single(request: Request) -> Response:
        """One picture, larger or smaller."""
        data = await read_json(request)
        body = fitted(ExtrasBody, data)
        made, said = await _made(request, body, {"image": body.image})
        return await _answer(lambda: {"html_info": _html(said), "image": to_base64(made[0])})

    @router.post("/sdapi/v1/extra-batch-images", response_model=ExtrasImages, openapi_extra=body_of(ExtrasBatchBody, _BATCH))
    async def batch(request: Request) -> Response:
        """Several pictures, each as `extra-single-image` does it."""
        data = await read_json(request)
        body = fitted(ExtrasBatchBody, data)
        made, said = await _made(request, body, {f"imageList.{index}": one.data for index, one in enumerate(body.imageList)})
        return await _answer(lambda: {"html_info": _html(said), "images": [to_base64(one) for one in made]})

    @router.post("/sdapi/v1/png-info", response_model=PictureInfo, openapi_extra=body_of(InfoBody, {"image": "iVBORw0KGgo..."}))
    async def png_info(request: Request) -> Response:
        """What a PNG, JPEG, WebP or AVIF says about how it was made, whichever program wrote it."""
        data = await read_json(request)

        def work() -> dict[str, Any]:
            found = read_picture(picture_bytes(fitted(InfoBody, data).image, "image"), "image")
            items = {key: text for key, text in found.texts.items() if key != "parameters"}
            return {"info": found.infotext, "items": items, "parameters": completed(parse(found.infotext))}

        return await _answer(work)

    @router.post("/sdapi/v1/interrogate", response_model=Caption, openapi_extra=body_of(InterrogateBody, {"model": "clip"}))
    async def interrogate(request: Request) -> Response:
        """Not built: always refused, with the reason."""
        body = fitted(InterrogateBody, await read_json(request))
        raise RequestError(f"interrogate: there is no model here that describes pictures ({body.model[:40]!r} was asked for)")

    return router


@dataclass(frozen=True)
class Wanted:
    """What a call asks for: our `fields` for each of its pictures, and whether an upscaler's file has a part in it."""

    fields: Mapping[str, Any]
    by_model: bool


def wanted_of(app: App, body: _ExtrasBody) -> Wanted:
    """What a body asks for, under the names that upscalers have here.

    Raises:
        RequestError: an upscaler or face restorer that is not here.
    """
    if body.gfpgan_visibility or body.codeformer_visibility:
        raise RequestError("face restoration is not built yet; send 0 for gfpgan_visibility and codeformer_visibility")
    first, second = (
        known_upscaler(app, getattr(body, field) or "None", field, what="upscaler ") for field in ("upscaler_1", "upscaler_2")
    )
    fields: dict[str, Any] = {"upscaler_1": first, "upscaler_2": second, "crop": body.upscaling_crop}
    fields["upscaler_2_visibility"] = body.extras_upscaler_2_visibility
    fields |= (
        {"width": body.upscaling_resize_w, "height": body.upscaling_resize_h}
        if body.resize_mode == 1
        else {"upscale_by": body.upscaling_resize}
    )
    request = parse_request({**fields, "source": "0" * 64})
    assert isinstance(request, Upscaling), "its fields say so"
    return Wanted(fields, any(not built_in(name) for name in request.upscalers))


def worked_on(data: bytes, name: str, wanted: Wanted, options: Any) -> tuple[bytes, str]:
    """The file of a picture that was sent, after filters alone, and what its text says of that.

    Raises:
        RequestError: it is no picture, or the result would be too large.
    """
    image = decode(data, name)
    request = parse_request({**wanted.fields, "source": "0" * 64})
    assert isinstance(request, Upscaling), "its fields say so"
    try:
        request.check_size(image.size)
    except ValueError as error:
        raise RequestError(str(error)) from None
    exact, final = sizes(image.size, request.factor(image.size))
    results = [by_filter(image, upscaler, exact, final) for upscaler in request.upscalers] or [image]
    made = put_together(results, request.upscaler_2_visibility, request.cropped_to)
    text = _said(request)
    return encoded(made, _texts(saved_infotext(data), text), options), text


def _said(request: Upscaling) -> str:
    return ", ".join(f"{key}: {value}" for key, value in request.said().items())


def _texts(parameters: str, text: str) -> dict[str, str]:
    """Of the new file, as A1111 names them."""
    texts = {png.PARAMETERS: parameters} if parameters else {}
    return texts | ({"postprocessing": text, "extras": text} if text else {})


def submitted(app: App, data: bytes, name: str, wanted: Wanted, user: str) -> JobView:
    """A job for a picture that was sent."""
    source = app.input_images.uploads.keep(data, user, name)
    return app.submit({**wanted.fields, "source": source.id, "source_text": saved_infotext(data)[:MAX_SOURCE_TEXT]}, user)


def finished(job: JobView | None, options: Any) -> tuple[bytes, str]:
    """The file of a job's picture, and what its text says of how it was enlarged.

    Raises:
        RequestError: there is none.
    """
    if job is None or not job.pictures:
        why = job.error if job is not None and job.error else "the job was cancelled or removed before it was answered"
        raise RequestError(f"the picture could not be made: {why}")
    try:
        data = job.pictures[0].path.read_bytes()
    except OSError:
        raise RequestError("the picture's file is not in the outputs folder any more") from None
    request = job.request
    assert isinstance(request, Upscaling), "its fields said so"
    text = _said(request)
    return encoded(decode(data), _texts(request.source_text, text), options), text


def _html(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"
