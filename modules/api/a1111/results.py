"""What became of a call: the answer with its pictures, and the `info` text with the keys that A1111's `Processed.js` has.

The facts come from the pictures themselves: each file's own record says what it was painted with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modules import __version__
from modules.api.a1111.pictures import encoded, file_as_asked, grid, saved_infotext, to_base64
from modules.api.a1111.requests import GenerationBody, PictureBody
from modules.api.json_writer import json_text
from modules.app import App
from modules.errors import RequestError
from modules.images import png
from modules.images.decode import decode
from modules.images.infotext import parse
from modules.images.recipe import read_record
from modules.jobs.views import JobView, PictureView
from modules.request import Img2Img, Txt2Img
from modules.scripts.views import RunView

_USUAL = frozenset(
    {"Prompt", "Negative prompt", "Steps", "Sampler", "Schedule type", "CFG scale", "Image CFG scale", "Seed", "Size", "Size-1"}
    | {"Size-2", "Model hash", "Model", "VAE hash", "VAE", "Variation seed", "Variation seed strength", "Seed resize from"}
    | {"Seed resize from-1", "Seed resize from-2", "Denoising strength", "Conditional mask weight", "Clip skip", "ENSD", "RNG"}
    | {"Init image hash", "Version"}
)
"""Items of an infotext that have keys of their own in `info`; the others are its `extra_generation_params`."""


@dataclass(frozen=True)
class CallResult:
    """A finished picture: its file, the request that it was painted from, and what could not be done of it, in words."""

    view: PictureView
    data: bytes
    request: Txt2Img
    parsed: Mapping[str, str]
    notes: str


def read_results(job: JobView) -> list[CallResult]:
    """The job's pictures as far as their files are still there."""
    painted = []
    for view in job.pictures:
        try:
            data = view.path.read_bytes()
        except OSError:
            continue
        try:
            info = read_record(data).info
            request, notes = info.request, info.facts.get("notes", "")
        except RequestError:  # a private picture says nothing
            request, notes = job.request.image(view.index), ""
        painted.append(CallResult(view, data, request, parse(view.infotext), notes))
    return painted


def answer(job: JobView, body: GenerationBody, options: Mapping[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """The body of the response; `notes` are of what was passed over.  Works on files and pictures: it belongs on a thread."""
    painted = read_results(job)
    images = [to_base64(file_as_asked(one.data, options)) for one in painted] if body.send_images else []
    sheet = body.save_images and options["return_grid"] and len(painted) > 1
    if sheet and body.send_images:
        texts = {png.PARAMETERS: text} if (text := saved_infotext(painted[0].data)) else {}
        images.insert(0, to_base64(encoded(grid([decode(one.data).convert("RGB") for one in painted]), texts, options)))
    info = json_text(_info(job, body, painted, bool(sheet), notes), ascii_only=False)
    return {"images": images, "parameters": _parameters(body), "info": info}


def _parameters(body: GenerationBody) -> dict[str, Any]:
    """The request with all defaults."""
    parameters = body.model_dump()
    if isinstance(body, PictureBody) and not body.include_init_images:
        parameters |= {"init_images": None, "mask": None}
    return parameters


def script_answer(
    app: App, run: RunView, user: str, body: GenerationBody, options: Mapping[str, Any], notes: Sequence[str]
) -> dict[str, Any] | None:
    """The body of the response to a call with a script: its grids first, then the cells' pictures where they are asked for.

    None when there is no picture at all.  Works on files and pictures: it belongs on a thread.
    """
    cells_with = [cell for cell in run.cells if cell.pictures]
    if run.plan.get("last_only"):
        columns = len(run.plan.get("columns") or [()])
        cells_with = list({cell.number // columns: cell for cell in cells_with}.values())
    jobs = (job for cell in cells_with if (job := app.job(cell.job, user)) is not None)
    painted = ((job, found) for job in jobs if (found := read_results(job)))
    if (first := next(painted, None)) is None:
        return None
    job, cells = first
    sheets = [one for sheet in run.sheets if (one := _sheet(app, sheet, cells[0])) is not None]
    if run.plan.get("include_cells") or not sheets:  # else the other cells' files are not read at all: they may be gigabytes
        shown = [*sheets, *cells, *(one for _, more in painted for one in more)]
    else:
        shown = sheets
    failed = [f"cell {cell.number}: {cell.error}" for cell in run.cells if cell.state == "failed"]
    said = [*notes, *run.plan.get("notes", ()), *([run.error] if run.error else []), *failed]
    info = {**_info(job, body, shown, False, said), "index_of_first_image": len(sheets)}
    images = [to_base64(file_as_asked(one.data, options)) for one in shown] if body.send_images else []
    return {"images": images, "parameters": _parameters(body), "info": json_text(info, ascii_only=False)}


def _sheet(app: App, sheet: Mapping[str, Any], first: CallResult) -> CallResult | None:
    """A grid picture, None where its file is gone."""
    path = app.outputs.folder / sheet["name"]
    infotext, size = str(sheet.get("infotext", "")), (int(sheet["width"]), int(sheet["height"]))
    try:
        data = path.read_bytes()
    except OSError:
        return None
    view = PictureView(0, path.name, path, infotext, first.request.seed, *size)
    return CallResult(view, data, first.request, parse(infotext), "")


def answer_text(found: Mapping[str, Any]) -> str:
    """The response's JSON.  Base64 needs no escaping, so its megabytes are put in as they are and not searched for quotes."""
    images = ", ".join(f'"{image}"' for image in found["images"])
    return f'{{"images": [{images}], {json_text({key: value for key, value in found.items() if key != "images"})[1:]}'


def _info(job: JobView, body: GenerationBody, painted: list[CallResult], sheet: bool, notes: Sequence[str]) -> dict[str, Any]:
    request, count = job.request, job.request.count
    each = [one.request for one in painted] or [request.image(index) for index in range(count)]
    first, parsed = each[0], painted[0].parsed if painted else {}
    infotexts = [one.view.infotext for one in painted]
    varied = request.variation_strength > 0
    notes = list(dict.fromkeys([*notes, *(one.notes for one in painted if one.notes)]))
    added = {"notes": notes} if notes else {}  # the one key that A1111 has not: what it ignores goes unsaid there
    return {
        "prompt": first.prompt,
        "all_prompts": [one.prompt for one in each],
        "negative_prompt": first.negative_prompt,
        "all_negative_prompts": [one.negative_prompt for one in each],
        "seed": first.seed,
        "all_seeds": [one.seed for one in each],
        "subseed": first.variation_seed if varied else -1,
        "all_subseeds": [one.variation_seed if varied else -1 for one in each],
        "subseed_strength": request.variation_strength,
        "width": request.width,
        "height": request.height,
        "sampler_name": request.sampler,
        "cfg_scale": request.cfg_scale,
        "steps": request.steps,
        "batch_size": body.batch_size or 1,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": parsed.get("Model", request.checkpoint),
        "sd_model_hash": parsed.get("Model hash"),
        "sd_vae_name": parsed.get("VAE"),
        "sd_vae_hash": parsed.get("VAE hash"),
        "seed_resize_from_w": request.seed_resize_width or -1,
        "seed_resize_from_h": request.seed_resize_height or -1,
        "denoising_strength": request.denoising_strength if isinstance(request, Img2Img) else body.denoising_strength,
        "extra_generation_params": {key: value for key, value in parsed.items() if key not in _USUAL},
        "index_of_first_image": int(sheet),
        "infotexts": [infotexts[0], *infotexts] if sheet else infotexts,
        "styles": list(request.styles),
        "job_timestamp": timestamp(job.created),
        "clip_skip": request.clip_skip,
        "is_using_inpainting_conditioning": "Conditional mask weight" in parsed,
        "version": parsed.get("Version", f"Atelier {__version__}"),
        **added,
    }


def timestamp(seconds: float) -> str:
    """
    >>> len(timestamp(0))
    14
    """
    return f"{datetime.fromtimestamp(seconds):%Y%m%d%H%M%S}"
