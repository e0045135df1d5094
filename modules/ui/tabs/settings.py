"""The Settings tab: one's own preferences, presets of forms, and what the server is set to.

It is all in the browser (`static/settings/`), over the page's endpoints of the settings.
"""

from __future__ import annotations

from modules.ui.files import STATIC
from modules.ui.gradio import gr
from modules.ui.results import Results


class SettingsTab:
    """The place of the settings; `static/settings/index.js` fills it."""

    name = "settings"
    label = "Settings"
    shows = "nothing"

    def build(self) -> None:
        gr.HTML((STATIC / "settings" / "settings.html").read_text("utf-8"), elem_id="settings_area", js_on_load=None)

    def connect(self, results: Results, page: gr.Blocks) -> None:
        """Nothing: a preset reaches Python as settings for a form do (`reuse`)."""
