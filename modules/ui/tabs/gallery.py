"""The Gallery tab: all pictures in the outputs folder, found again, kept in order, and sent on.

It is all in the browser (`static/gallery/`), over the page's endpoints of the gallery.
"""

from __future__ import annotations

from modules.ui.files import STATIC
from modules.ui.gradio import gr
from modules.ui.results import Results


class GalleryTab:
    """The place of the pictures; `static/gallery/index.js` fills it."""

    name = "gallery"
    label = "Gallery"
    shows = "nothing"

    def build(self) -> None:
        gr.HTML((STATIC / "gallery" / "gallery.html").read_text("utf-8"), elem_id="gallery_area", js_on_load=None)

    def connect(self, results: Results, page: gr.Blocks) -> None:
        """Nothing: pictures and settings go to the forms by `atelier:send`."""
