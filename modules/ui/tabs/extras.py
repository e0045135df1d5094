"""The Extras tab: pictures that are only enlarged, one or many.

It is all in the browser (`static/extras/`), which submits each picture as a job of its own.
"""

from __future__ import annotations

from modules.ui.files import STATIC
from modules.ui.gradio import gr
from modules.ui.results import Results


class ExtrasTab:
    """A form, a place to drop pictures, and the results beside their sources."""

    name = "extras"
    label = "Extras"
    shows = "nothing"

    def build(self) -> None:
        gr.HTML((STATIC / "extras" / "extras.html").read_text("utf-8"), elem_id="extras_area", js_on_load=None)

    def connect(self, results: Results, page: gr.Blocks) -> None:
        """Nothing: pictures never pass through Gradio."""
