"""Options that only some kinds of checkpoint know are seen with those alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modules.checkpoints.files import CheckpointInfo, Defaults
from modules.request.checkpoint import SIZE_FIELDS
from modules.ui.form import Form
from modules.ui.form_sync import channel_hints


@pytest.mark.parametrize(
    ("family", "seen"),
    [("sdxl", True), ("sdxl-refiner", True), ("playground-2.5", True), ("sd1", False), ("sd2-base", False), ("", False)],
)
def test_what_sdxl_is_told_is_seen_with_sdxl(family: str, seen: bool) -> None:
    components: dict[str, Any] = {name: object() for name in (*SIZE_FIELDS, "steps")}
    info = CheckpointInfo("x", Path("x.safetensors"), "x", family, Defaults())
    updates = channel_hints(Form("txt2img", components), info)
    assert {name: updates[components[name]]["visible"] for name in SIZE_FIELDS} == dict.fromkeys(SIZE_FIELDS, seen)
    assert components["steps"] not in updates
