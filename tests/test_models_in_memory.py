"""What is in the engine's memory, and for whom: asked of a real engine, and of one that does not answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from modules.app import App
from modules.engine.messages import InMemory, Message
from modules.jobs import worker
from modules.jobs.worker import engine_configuration
from modules.settings import Settings
from tests.local import LocalLink
from tests.scripted import ScriptedLink
from tests.tiny import tiny_checkpoint, write

SMALL: dict[str, Any] = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    return Settings(data_dir=tmp_path / "data", models_dirs=(tmp_path,), outputs_dir=tmp_path / "outputs")


@pytest.fixture
def scripted(settings: Settings) -> Iterator[tuple[App, ScriptedLink]]:
    link = ScriptedLink()
    app = App(settings, link)
    app.start()
    yield app, link
    app.close()


def test_a_loaded_checkpoint_and_its_lora_are_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "INSPECT_SECONDS", 0.0)
    (settings.models_dirs[0] / "loras").mkdir()
    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"{stem}.lora_down.weight": torch.ones(2, 32), f"{stem}.lora_up.weight": torch.ones(64, 2)}
    write(settings.models_dirs[0] / "loras" / "ink.safetensors", tensors)
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    try:
        # The default checkpoint is read ahead once the engine is up: it may be here already, and is nobody's
        assert all((model["name"], model["users"]) == ("tiny", []) for model in app.in_memory(60.0))
        job = app.submit({**SMALL, "prompt": "a cat <lora:ink:1>", "steps": 150, "count": 4}, "me")
        users: dict[str, set[str]] = {}
        for view in app.events(job.id, "me"):
            for model in app.in_memory(60.0):
                users.setdefault(model["name"], set()).update(model["users"])
            if users == {"tiny": {"me"}, "ink": {"me"}} and not view.over:
                app.cancel(job.id, "me")
        assert users == {"tiny": {"me"}, "ink": {"me"}}
        app.service.settle()
        tiny, ink = app.in_memory(60.0)
        assert (tiny["name"], tiny["kind"], tiny["device"], tiny["users"]) == ("tiny", "checkpoint", "cpu", [])
        assert tiny["bytes"] > 2_000_000
        assert 0 <= tiny["idle_seconds"] < 60
        assert (ink["name"], ink["kind"], ink["bytes"]) == ("ink", "lora", 4 * 2 * (32 + 64))
        app.unload()
        assert "tiny" not in [model["name"] for model in app.in_memory(60.0)]
    finally:
        app.close()


def test_an_engine_that_does_not_answer_keeps_nobody_waiting(scripted: tuple[App, ScriptedLink]) -> None:
    app, link = scripted
    assert app.in_memory(60.0) == [], "no engine has come up: it is not asked"
    link.hello()
    assert app.in_memory(0.01) == []
    model = {"name": "tiny", "kind": "checkpoint", "bytes": 5, "device": "cpu", "users": ["me"], "idle_seconds": 0.0}
    link.say(InMemory([model]).message())
    assert app.in_memory(60.0) == [model], "what it said is told without asking again"
    assert [message.kind for message in link.sent].count("inspect") == 1
    app.service.workers.all[0]._inspected_at = time.monotonic() - 10
    assert app.in_memory(0.01) == [model]
    assert [message.kind for message in link.sent].count("inspect") == 2
    link.say(Message("died", {"cause": "it was ended"}))
    assert app.in_memory(60.0) == []
