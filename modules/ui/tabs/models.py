"""The Models tab: all files that pictures can be made with, what is known of them, and the way from there into a form.

It is all in the browser (`static/models/`), over the page's endpoints of the models.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.schedules import SCHEDULES
from modules.ui.files import STATIC
from modules.ui.gradio import gr
from modules.ui.results import Results


class ModelsTab:
    """The place of the list; `static/models/index.js` fills it."""

    name = "models"
    label = "Models"
    shows = "nothing"

    def build(self) -> None:
        html = (STATIC / "models" / "models.html").read_text("utf-8")
        html = html.replace("SAMPLERS", _choices("models_samplers", SAMPLERS))
        html = html.replace("SCHEDULES", _choices("models_schedules", SCHEDULES))
        gr.HTML(html, elem_id="models_area", js_on_load=None)

    def connect(self, results: Results, page: gr.Blocks) -> None:
        """Nothing: what is chosen here reaches Python through the results (`choose`)."""


def _choices(name: str, words: Iterable[str]) -> str:
    options = "".join(f'<option value="{escape(word)}"></option>' for word in words)
    return f'<datalist id="{name}">{options}</datalist>'
