"""The txt2img tab: a picture from words."""

from __future__ import annotations

from modules.ui.tabs.generation import GenerationTab


class Txt2ImgTab(GenerationTab):
    """Nothing but what every painting tab has."""

    name = "txt2img"
    label = "txt2img"
