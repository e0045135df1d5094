"""Pictures without painting: extras (upscaling by Pillow), what a picture says about itself, and what is not built.

Sizes and texts are those of A1111 1.10.1's extras; models for upscaling and faces are not here, and are refused by name.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response
from PIL import Image

from modules.api.a1111.lists import UPSCALERS
from modules.api.a1111.options import OwnOptions
from modules.api.a1111.pictures import encoded, picture_bytes, saved_infotext, to_base64
from modules.api.a1111.replies import Caption, ExtrasImage, ExtrasImages, PictureInfo
from modules.api.a1111.requests import ExtrasBatchBody, ExtrasBody, InfoBody, InterrogateBody, _ExtrasBody
from modules.api.a1111.timing import TimedRoute
from modules.api.guard.bodies import fitted, read_json
from modules.api.json_writer import json_text
from modules.api.schema import body_of
from modules.app import App
from modules.errors import RequestError
from modules.images import png
from modules.images.decode import decode
from modules.images.infotext import completed, parse
from modules.images.reading import read_picture
from modules.request import MAX_SOURCE_PIXELS, MAX_SOURCE_SIDE

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

    @router.post("/sdapi/v1/extra-single-image", response_model=ExtrasImage, openapi_extra=body_of(ExtrasBody, _EXTRAS))
    async def single(request: Request) -> Response:
        """One picture, larger or smaller."""
        user, data = request.state.user, await read_json(request)

        def work() -> dict[str, Any]:
            body = fitted(ExtrasBody, data)
            made, said = worked_on(picture_bytes(body.image, "image"), "image", body, own.of(user))
            return {"html_info": _html(said), "image": to_base64(made)}

        return await _answer(work)

    @router.post("/sdapi/v1/extra-batch-images", response_model=ExtrasImages, openapi_extra=body_of(ExtrasBatchBody, _BATCH))
    async def batch(request: Request) -> Response:
        """Several pictures, each as `extra-single-image` does it."""
        user, data = request.state.user, await read_json(request)

        def work() -> dict[str, Any]:
            body = fitted(ExtrasBatchBody, data)
            images, said = [], ""
            for index, one in enumerate(body.imageList):
                name = f"imageList.{index}"
                made, said = worked_on(picture_bytes(one.data, name), name, body, own.of(user))
                images.append(to_base64(made))
            return {"html_info": _html(said), "images": images}

        return await _answer(work)

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


def worked_on(data: bytes, name: str, body: _ExtrasBody, options: Any) -> tuple[bytes, str]:
    """The file of a picture that was sent, after the work that the body asks for, and what its text says of that.

    Raises:
        RequestError: an upscaler or face restorer that is not here, no picture, or a result that would be too large.
    """
    if body.gfpgan_visibility or body.codeformer_visibility:
        raise RequestError("face restoration is not built yet; send 0 for gfpgan_visibility and codeformer_visibility")
    image = decode(data, name)
    texts = {png.PARAMETERS: found} if (found := saved_infotext(data)) else {}
    first, second = _upscaler(body.upscaler_1, "upscaler_1"), _upscaler(body.upscaler_2, "upscaler_2")
    said: dict[str, object] = {}
    if first != "None":
        image = _upscaled(image, first, second, body, said)
    text = ", ".join(f"{key}: {value}" for key, value in said.items())
    if text:
        texts |= {"postprocessing": text, "extras": text}
    return encoded(image, texts, options), text


def _upscaled(image: Image.Image, first: str, second: str, body: _ExtrasBody, said: dict[str, object]) -> Image.Image:
    to_size = body.resize_mode == 1
    width, height = body.upscaling_resize_w, body.upscaling_resize_h
    scale = max(width / image.width, height / image.height) if to_size else body.upscaling_resize
    said |= {"Postprocess upscale to": f"{width}x{height}"} if to_size else {"Postprocess upscale by": f"{scale:g}"}
    made = _scaled(image, first, scale)
    said["Postprocess upscaler"] = first
    if second != "None" and body.extras_upscaler_2_visibility > 0:
        made = Image.blend(made, _scaled(image, second, scale), body.extras_upscaler_2_visibility)
        said["Postprocess upscaler 2"] = second
    if to_size and body.upscaling_crop:
        cropped = Image.new(made.mode, (width, height))
        cropped.paste(made, (width // 2 - made.width // 2, height // 2 - made.height // 2))
        made = cropped
        said["Postprocess crop to"] = f"{width}x{height}"
    return made


def _scaled(image: Image.Image, upscaler: str, scale: float) -> Image.Image:
    """As A1111: the filter makes the exact size, Lanczos the next lower multiple of 8, which is what comes out."""
    exact = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
    final = (max(8, exact[0] // 8 * 8), max(8, exact[1] // 8 * 8))
    if max(exact) > MAX_SOURCE_SIDE or exact[0] * exact[1] > MAX_SOURCE_PIXELS:
        raise RequestError(
            f"the picture would have {exact[0]}x{exact[1]} pixels; at most {MAX_SOURCE_SIDE} a side and "
            f"{MAX_SOURCE_PIXELS:,} in all are made; ask for less"
        )
    filters = {"Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}
    made = image.resize(exact, filters[upscaler])
    return made if exact == final else made.resize(final, Image.Resampling.LANCZOS)


def _upscaler(name: str | None, field: str) -> str:
    found = next((known for known in UPSCALERS if known.lower() == (name or "None").lower()), None)
    if found is None:
        raise RequestError(f"{field}: upscaler {str(name)[:80]!r} is not here; known are {', '.join(UPSCALERS)}")
    return found


def _html(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"
