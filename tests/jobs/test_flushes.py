"""What a picture costs beside the engine: each flush of a disk is milliseconds that a user waits for."""

from __future__ import annotations

from typing import Any

import pytest

from modules.app import App
from modules.images import files
from modules.settings import Settings
from tests.faults import FaultyOs
from tests.scripted import ScriptedLink

SMALL: dict[str, Any] = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64}


def test_a_picture_takes_four_flushes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accepted job; the picture and its name; its row together with the job's end.  Nothing else is waited for."""
    link = ScriptedLink()
    app = App(settings, link)
    app.start()
    link.hello()

    def paint(seed: int) -> None:
        job = app.submit({**SMALL, "seed": seed}, "me").id
        link.done(f"{job}.0")
        app.service.settle()
        view = app.job(job, "me")
        assert view is not None
        assert view.state == "done"

    paint(1)  # makes the day's folder
    flushed, said = list[str](), list[str]()
    monkeypatch.setattr(files, "os", FaultyOs(before=lambda call, arguments, n: flushed.append(call)))
    app.store._file.db.set_trace_callback(said.append)
    app.service.hold.look_again()
    paint(2)
    app.store._file.db.set_trace_callback(None)
    app.close()
    assert flushed.count("fsync") == 2
    transactions = [words for words in said if words.startswith("PRAGMA synchronous")]
    assert transactions == [f"PRAGMA synchronous = {level}" for level in ("FULL", "NORMAL", "FULL")]
