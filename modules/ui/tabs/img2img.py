"""The img2img tab: a picture from a picture.  The inpainting tab stands on it.

What is on the canvas, or was chosen without it (`static/forms/upload.js`), comes with the attachment of the page's scripts
(`static/forms/attachment.js`).  Several pictures at once become one job each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.app import App
from modules.errors import AtelierError, RequestError
from modules.fields import about, bounds_of
from modules.request import Img2Img
from modules.request.starting import NOISE_LEVEL
from modules.ui.canvas import Canvas, Tools
from modules.ui.files import STATIC
from modules.ui.form import Values
from modules.ui.form_sync import BY_FACTOR, TO_SIZE, FormSync
from modules.ui.gradio import gr
from modules.ui.tabs.generation import GenerationTab

NO_PICTURE = "There is no picture to start from yet. Drop one on the canvas, paste one or choose a file."

SIZES = (TO_SIZE, BY_FACTOR)

RECALLED = ("Prompt", "Negative prompt", "Seed", "CFG scale", "Sampler", "Steps")
"""What a picture of a batch may say for itself, by the labels of the form."""

_BATCH_IS_THERE = "document.dispatchEvent(new CustomEvent('atelier:batch', { detail: element }));"
_UPLOAD_IS_THERE = "document.dispatchEvent(new CustomEvent('atelier:upload', { detail: element }));"
"""Gradio makes what is in a closed accordion when it is opened."""


class Img2ImgTab(GenerationTab):
    """A batch is driven by the page: see `static/forms/batch.js` and `static/results/continuations.js`."""

    name = "img2img"
    label = "img2img"
    shows = "canvas"
    tools: Tools = "sketch"
    strength = 0.75
    taken: tuple[str, ...] = ("source",)
    """What of the canvas becomes part of the request."""

    def __init__(self, app: App, sync: FormSync, version: str) -> None:
        super().__init__(app, sync)
        self.version = version

    def build_canvas(self) -> None:
        with gr.Column(elem_id=self.form.id("canvas_place"), elem_classes="plain canvas-place"):
            Canvas(self.name, self.version, tools=self.tools)
            below = (STATIC / "results" / "below_canvas.html").read_text("utf-8").replace("PREFIX", self.name)
            gr.HTML(below, elem_id=self.form.id("below_canvas"), elem_classes="below-canvas", js_on_load=None)

    def build_settings(self) -> None:
        form = self.form
        form.slider("denoising_strength", "Denoising strength", 0, 1, self.strength, 0.01)
        self.build_mask()
        self.build_styles_and_sampler()
        form.declared("resize_mode")
        size_by = gr.Radio(list(SIZES), value=SIZES[0], label="Size", elem_id=form.id("size_by"), elem_classes="size-by")
        form.keep_for_page("size_by", "Size", size_by)
        self.build_size()
        form.keep_for_page("size_factor", "Factor", form.slider("size_factor", "Factor", 0.05, 4, 1, 0.05))
        self.build_seed_and_count()
        self.build_noise()
        self.build_many()
        self.build_upload()

    def build_mask(self) -> None:
        """What only inpainting has."""

    def build_noise(self) -> None:
        form = self.form
        with gr.Accordion("Noise and colour", open=False, elem_id=form.id("noise"), elem_classes="more"):
            form.declared("noise_multiplier")
            form.declared("extra_noise")
            form.declared("image_cfg_scale")
            level = bounds_of(Img2Img, "upscaler_noise_level")
            label = about(Img2Img)["upscaler_noise_level"].label
            form.slider("upscaler_noise_level", label, level.ge, level.le, NOISE_LEVEL, 1)
            form.check("color_correction", "Match the colours of the source")
            form.check("fix_steps", "Run all steps at any strength")

    def build_many(self) -> None:
        form = self.form
        with gr.Accordion("Many pictures", open=False, elem_id=form.id("many"), elem_classes="more"):
            batch = (STATIC / "forms" / "batch.html").read_text("utf-8").replace("PREFIX", self.name)
            gr.HTML(batch, elem_id=form.id("batch_area"), js_on_load=_BATCH_IS_THERE)
            recall = gr.CheckboxGroup(
                list(RECALLED), value=[], label="Take from each picture's own text", elem_id=form.id("batch_recall")
            )
            form.keep_for_page("batch_recall", "Take from each picture's own text", recall)

    def build_upload(self) -> None:
        """For browsers without a canvas: files that become the same request."""
        with gr.Accordion("Upload without the canvas", open=False, elem_id=self.form.id("upload"), elem_classes="more"):
            upload(self.name, "picture", "Picture")

    def requests(self, data: Mapping[Any, Any], attached: Values, user: str) -> list[Values]:
        values = self.form.read(data)
        batch = attached.get("batch")
        if isinstance(batch, list) and batch:
            return [self._of_batch(values, one) for one in batch if isinstance(one, dict)]
        drawn = attached.get("canvas") or self._uploaded(attached, data)
        if not isinstance(drawn, dict) or not drawn.get("source"):
            raise RequestError(NO_PICTURE)
        return [self._request(values, drawn, attached.get("size"))]

    def _request(self, values: Values, drawn: Values, size: Any) -> Values:
        fields = {**values, **{name: drawn[name] for name in self.taken if name in drawn}}
        if isinstance(size, dict):
            fields |= {name: size[name] for name in ("width", "height") if name in size}
        return fields

    def _of_batch(self, values: Values, one: Values) -> Values:
        """One of many pictures: the form's fields, its own source and mask, and what its own text is asked for."""
        fields = self._request(values, {"source": one.get("source"), "mask": one.get("mask")}, one.get("size"))
        own = one.get("fields")
        if isinstance(own, dict):
            known = ("prompt", "negative_prompt", "seed", "cfg_scale", "sampler", "schedule", "steps")
            fields |= {name: own[name] for name in known if own.get(name) is not None}
        return fields

    def _uploaded(self, attached: Values, data: Mapping[Any, Any]) -> Values:
        """What was chosen without the canvas, as the fields that a canvas would give."""
        chosen = attached.get("upload")
        return {name: chosen.get(name) for name in ("source", "mask")} if isinstance(chosen, dict) else {}

    def complaint(self, error: AtelierError) -> Values:
        found = super().complaint(error)
        found["error"] = found["error"].removeprefix("Source: ")
        return found


def upload(tab: str, name: str, label: str) -> gr.HTML:
    """A file input, tied to `static/forms/upload.js` by tab and name."""
    template = (STATIC / "forms" / "upload.html").read_text("utf-8")
    html = template.replace("PREFIX", tab).replace("NAME", name).replace("LABEL", label)
    return gr.HTML(html, elem_id=f"{tab}_upload_{name}", js_on_load=_UPLOAD_IS_THERE)
