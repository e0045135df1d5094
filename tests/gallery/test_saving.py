"""From a painted picture to the gallery: through the whole App, before an engine whose words the test says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from modules.app import App
from modules.gallery import gallery as galleries
from modules.gallery.search import Search
from modules.settings import Settings
from tests.gallery.conftest import SECONDS, painted
from tests.scripted import ScriptedLink
from tests.tiny import tiny_checkpoint

SMALL = {"seed": 7, "steps": 2, "width": 64, "height": 64}


def _indexed(app: App, count: int) -> list[tuple[str, str, str]]:
    """Owner, prompt and seed of what is in the index, once that many are; no look into the folder."""
    end = time.monotonic() + SECONDS
    while True:
        entries = app.gallery.index.page(Search(), None).entries
        if len(entries) >= count:
            return sorted((entry.owner, entry.said.prompt, entry.said.seed) for entry in entries)
        assert time.monotonic() < end, "what was painted did not reach the gallery"
        time.sleep(0.02)


def test_what_is_painted_is_in_the_gallery_and_leaves_it_with_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(galleries, "FIRST_LOOK_S", 1e6)  # so that no scan finds it
    (tmp_path / "models").mkdir()
    tiny_checkpoint(tmp_path / "models" / "tiny.safetensors")
    link = ScriptedLink()
    settings = Settings(data_dir=tmp_path / "data", models_dirs=(tmp_path / "models",), outputs_dir=tmp_path / "out")
    app = App(settings, link)
    app.start()
    try:
        link.hello()
        first = app.submit({**SMALL, "prompt": "a lighthouse", "count": 2}, "ada").id
        second = app.submit({**SMALL, "prompt": "a secret", "private": True}, "bob").id
        for task in (f"{first}.0", f"{first}.1", f"{second}.0"):
            link.done(task, bytes([len(task) % 256, 3, 9]) * 64 * 64)
        for job, user in ((first, "ada"), (second, "bob")):
            assert [view.state for view in app.events(job, user)][-1] == "done"
        assert _indexed(app, 3) == [("ada", "a lighthouse", "7"), ("ada", "a lighthouse", "8"), ("bob", "", "")]
        assert app.delete(first, "ada", 0)
        assert [one[0] for one in _indexed(app, 2)] == ["ada", "bob"]
        assert app.delete(first, "ada")
        assert [one[0] for one in _indexed(app, 1)] == ["bob"]
        painted(tmp_path / "out" / "grid.png", "a grid of a script")
        app.picture_saved("grid.png", "ada")
        assert _indexed(app, 2)[0] == ("ada", "a grid of a script", "1")
    finally:
        app.close()
