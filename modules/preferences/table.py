"""What each user may choose for themselves, in one table.  The page does what they say; nothing here touches a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from modules.errors import RequestError


@dataclass(frozen=True)
class Preference:
    """`default` decides the kind: a switch, a number from `low` to `high`, or one of `choices`."""

    name: str
    group: str
    label: str
    help: str
    default: bool | int | float | str
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return "switch" if isinstance(self.default, bool) else "choice" if self.choices else "number"

    def read(self, value: Any) -> bool | int | float | str:
        """
        Raises:
            RequestError: it is no value of this preference.
        """
        if self.kind == "switch":
            if not isinstance(value, bool):
                raise RequestError(f"{self.name}: it must be true or false")
            return value
        if self.kind == "choice":
            if value not in self.choices:
                raise RequestError(f"{self.name}: it must be one of {', '.join(self.choices)}")
            return str(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise RequestError(f"{self.name}: it must be a number from {self.low:g} to {self.high:g}")
        whole = isinstance(self.default, int)
        if not self.low <= value <= self.high or (whole and value != int(value)):
            raise RequestError(f"{self.name}: it must be a {'whole ' * whole}number from {self.low:g} to {self.high:g}")
        return int(value) if whole else float(value)


LAST = "the last one"
BROWSERS = "the browser's"
LANGUAGES = (BROWSERS, "English", "简体中文", "日本語", "Deutsch", "Español")
"""Each by its own name, so that who reads no English finds theirs; `languages/translate.js` knows their files."""

PREFERENCES: tuple[Preference, ...] = (
    Preference(
        "start_tab",
        "Page",
        "Tab at the start",
        "the tab that is seen when the address names none",
        LAST,
        choices=(LAST, "txt2img", "img2img", "inpaint", "extras", "gallery", "models"),
    ),
    Preference(
        "language", "Page", "Language", "of the page; it is loaded anew when this is changed", BROWSERS, choices=LANGUAGES
    ),
    Preference("title_progress", "Page", "Progress in the title", "how far the picture is, in the window's title", True),
    Preference("sound", "When a job is done", "Sound", "play two notes when a job of yours is done or has failed", False),
    Preference("sound_volume", "When a job is done", "Volume", "of that sound, in percent", 50, 0, 100),
    Preference(
        "notification",
        "When a job is done",
        "Notification",
        "let the browser say so, while this page is not in front; it asks for your leave when this is switched on",
        False,
    ),
    Preference(
        "weight_step",
        "Prompt",
        "Step of weights",
        "by which Ctrl with the arrows up and down changes a word's weight",
        0.1,
        0.01,
        1,
    ),
    Preference(
        "network_step",
        "Prompt",
        "Step of networks",
        "by which the same keys change the weight of <lora:name:weight>",
        0.05,
        0.01,
        1,
    ),
    Preference(
        "canvas_brush", "Canvas", "Brush", "pixels across, on a canvas that is opened anew and was not painted on", 64, 1, 512
    ),
    Preference("canvas_hardness", "Canvas", "Hardness", "of that brush: 0 is soft to the middle, 1 has a hard edge", 0.8, 0, 1),
    Preference("canvas_mask", "Canvas", "Mask's opacity", "how much of the picture is hidden where the mask is", 0.55, 0.1, 1),
)

BY_NAME = {one.name: one for one in PREFERENCES}
