"""The inpainting tab: a part of a picture anew, or more of it on any side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from modules.errors import RequestError
from modules.fields import infotext_keys
from modules.request import Img2Img, MaskedContent
from modules.ui.form import Values
from modules.ui.gradio import gr
from modules.ui.tabs.img2img import NO_PICTURE, Img2ImgTab, upload

NOTHING_MASKED = "Nothing is marked yet. Paint over what should change, or pull the frame beyond the picture to extend it."

_SIDES = ("outpaint_left", "outpaint_right", "outpaint_up", "outpaint_down")


class InpaintTab(Img2ImgTab):
    """What img2img has, and a mask."""

    name = "inpaint"
    label = "Inpaint"
    tools = "inpaint"
    taken = ("source", "mask", "box", *_SIDES)

    def build_mask(self) -> None:
        form = self.form
        form.declared("mask_mode")
        form.choice("masked_content", "Masked content", _labelled(get_args(MaskedContent)), "original")
        area = form.declared("inpaint_area")
        only_masked = gr.Button("Only masked", elem_id=form.id("only_masked"), elem_classes="by-script")
        only_masked.click(None, None, area, js="() => 'Only masked'")  # what static/forms/area.js presses
        form.keep_for_page("mask_blur", "Mask blur", form.slider("mask_blur", "Mask blur", 0, 64, 4, 1))
        form.slider("masked_padding", "Padding of only masked", 0, 256, 32, 4)
        form.declared("conditioning_mask_strength")
        form.check("differential", "Strength by the mask's grey (differential)")
        with gr.Row(elem_classes="pair sides"):  # not in an accordion: the canvas writes into them
            for name in _SIDES:
                side = f"Extend {name.removeprefix('outpaint_')}"
                form.keep_for_page(name, side, form.number(name, side, 0, step=8, precision=0))
        with gr.Accordion("Soft inpainting", open=False, elem_id=form.id("soft"), elem_classes="more"):
            for name in infotext_keys(Img2Img, "soft inpainting").values():
                form.declared(name)

    def build_upload(self) -> None:
        with gr.Accordion("Upload without the canvas", open=False, elem_id=self.form.id("upload"), elem_classes="more"):
            upload(self.name, "picture", "Picture")
            upload(self.name, "mask", "Mask, white where it should change")

    def requests(self, data: Mapping[Any, Any], attached: Values, user: str) -> list[Values]:
        requests = super().requests(data, attached, user)
        blur = data[self.form.components["mask_blur"]]
        for fields in requests:
            fields |= {"mask_blur_x": blur, "mask_blur_y": blur}
            if not fields.get("source"):
                raise RequestError(NO_PICTURE)
            if not fields.get("mask") and not any(fields.get(side) for side in _SIDES):
                raise RequestError(NOTHING_MASKED)
        return requests

    def _uploaded(self, attached: Values, data: Mapping[Any, Any]) -> Values:
        drawn = super()._uploaded(attached, data)
        sides = {name: data[self.form.components[name]] or 0 for name in _SIDES}
        return {**drawn, **sides} if drawn else {}


def _labelled(contents: tuple[str, ...]) -> list[tuple[str, str]]:
    words = {"blurred": "surroundings, blurred", "tile": "surroundings, tiled", "patches": "surroundings, patched"}
    return [(words.get(name, name), name) for name in contents]
