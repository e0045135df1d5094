"""The canvas: a picture to start from, with a mask, colours, a box and a frame painted on it, as one component.

All of it lives in the browser, in `static/canvas/` as ES modules: the picture goes to `/internal/sources` once, and what a
request needs is asked for when it is submitted (`flush` in `registry.js`).  So the component has no value, and Gradio carries
neither pictures nor strokes.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from modules.ui.files import STATIC
from modules.ui.gradio import gr

Tools = Literal["picture", "sketch", "inpaint"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")

_LOAD = """
const url = new URL("ui/VERSION/canvas/index.js", document.baseURI).href;
import(url).then((canvas) => canvas.start(element, "NAME", "TOOLS"));
"""


class Canvas(gr.HTML):
    """The canvas `name`, with the element id `<name>_canvas`; scripts reach it as `canvas(name)` of `canvas/registry.js`.

    `tools` says what can be done with a picture: "picture" takes one and no more, "sketch" has colours to paint on it,
    "inpaint" has a mask, colours, a box for "only masked" and a frame to extend the picture.
    """

    def __init__(self, name: str, version: str, tools: Tools = "inpaint") -> None:
        if not _NAME.fullmatch(name):  # it goes into a script and into element ids
            raise ValueError(f"canvas name {name!r}: lower-case letters, digits and _ only")
        super().__init__(
            html_template=(STATIC / "canvas" / "canvas.html").read_text("utf-8"),
            js_on_load=_LOAD.replace("VERSION", version).replace("NAME", name).replace("TOOLS", tools),
            apply_default_css=False,
            elem_id=f"{name}_canvas",
            elem_classes=["canvas-area"],
        )

    def preprocess(self, payload: Any) -> None:
        return None

    def postprocess(self, value: Any) -> None:
        return None

    def get_block_name(self) -> str:
        return "html"
