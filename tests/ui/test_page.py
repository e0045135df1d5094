"""The page's version, which its scripts and styles are served under."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import pytest

from modules.ui.page import _version


def test_the_version_changes_with_a_file_in_a_subfolder_and_with_its_place(tmp_path: Path) -> None:
    """Browsers keep each version for ever: an import that points at a file which has moved must never be an old one."""
    script = tmp_path / "results" / "jobs.js"
    script.parent.mkdir()
    script.write_text("1")
    first = _version(tmp_path)
    script.write_text("2")
    second = _version(tmp_path)
    (tmp_path / "forms").mkdir()
    script.rename(tmp_path / "forms" / "jobs.js")
    assert len({first, second, _version(tmp_path)}) == 3


@pytest.mark.browser
def test_an_idle_server_sleeps(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio's queue, which no event of ours uses, was looked into 886 times a second."""
    looks: list[float] = []
    queue = importlib.import_module("gradio.queueing").Queue  # after modules.ui.gradio, which sets Gradio up
    length = queue.__len__
    monkeypatch.setattr(queue, "__len__", lambda self: looks.append(time.monotonic()) or length(self))
    while not looks:
        time.sleep(0.01)
    del looks[:]
    time.sleep(1.5)
    assert 1 <= len(looks) <= 10
