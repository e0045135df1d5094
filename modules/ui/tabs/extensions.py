"""The Extensions tab: what others have added to this program, what state it is in, and getting more of it.

It is all in the browser (`static/extensions/`), over the page's endpoints of the extensions.
"""

from __future__ import annotations

from modules.ui.files import STATIC
from modules.ui.gradio import gr
from modules.ui.results import Results


class ExtensionsTab:
    """The place of the list; `static/extensions/index.js` fills it."""

    name = "extensions"
    label = "Extensions"
    shows = "nothing"

    def build(self) -> None:
        gr.HTML((STATIC / "extensions" / "extensions.html").read_text("utf-8"), elem_id="extensions_area", js_on_load=None)

    def connect(self, results: Results, page: gr.Blocks) -> None:
        """Nothing: no extension is switched by an event of Gradio's."""
