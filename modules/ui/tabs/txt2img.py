"""The txt2img tab: a picture from words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.ui import second_pass
from modules.ui.form import Values
from modules.ui.tabs.generation import GenerationTab


class Txt2ImgTab(GenerationTab):
    """What every painting tab has, and a second pass."""

    name = "txt2img"
    label = "txt2img"

    def build_settings(self) -> None:
        super().build_settings()
        second_pass.build(self.form, self.sync.titles())

    def requests(self, data: Mapping[Any, Any], attached: Values, user: str) -> list[Values]:
        return [second_pass.read(self.form.read(data))]
