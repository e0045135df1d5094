"""The PNG Info tab: what any picture says of how it was made.

It is all in the browser (`static/png_info.js`), which asks `POST internal/read`: pictures never pass through Gradio, whose
upload would keep them.
"""

from __future__ import annotations

from modules.ui.files import STATIC
from modules.ui.gradio import gr
from modules.ui.results import Results


class PngInfoTab:
    """A place to drop pictures."""

    name = "pnginfo"
    label = "PNG Info"
    shows = "nothing"

    def build(self) -> None:
        gr.HTML((STATIC / "png_info.html").read_text("utf-8"), elem_id="pnginfo_area", js_on_load=None)

    def connect(self, results: Results, page: gr.Blocks) -> None:
        """Nothing: no settings of a picture ever reach Python here."""
