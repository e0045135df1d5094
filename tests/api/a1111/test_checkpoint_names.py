"""Checkpoints whose names or files are unusual, through A1111's API and ours, painted for real."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from modules.api.server import build_api
from modules.app import App
from modules.jobs.worker import engine_configuration
from modules.settings import Settings
from tests.api.a1111.conftest import SMALL
from tests.api.conftest import BASE
from tests.local import LocalLink
from tests.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, App]]:
    folder = tmp_path_factory.mktemp("names")
    models = folder / "models"
    (models / "folder").mkdir(parents=True)
    whole = tiny_checkpoint(models / "dream_v2.safetensors").read_bytes()
    (models / "dream.safetensors").write_bytes(whole[: len(whole) // 2])
    for name in ("folder/name.safetensors", "foo [deadbeef].safetensors", "blank .safetensors"):
        (models / name).write_bytes(whole)
    settings = Settings(data_dir=folder / "data", models_dirs=(models,), outputs_dir=folder / "out")
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    with TestClient(build_api(app), base_url=BASE, raise_server_exceptions=False) as client:
        yield client, app
    app.close()


def paint(client: TestClient, checkpoint: str) -> Any:
    body = {**SMALL, "steps": 1, "override_settings": {"sd_model_checkpoint": checkpoint}}
    return client.post("/sdapi/v1/txt2img", json=body)


@pytest.mark.parametrize("name", ["dream", "dream.safetensors", "dream.safetensors [0123456789]", "DREAM", "drea"])
def test_a_broken_file_is_refused_and_not_replaced(here: tuple[TestClient, App], name: str) -> None:
    client, _ = here
    answer = paint(client, name)
    assert answer.status_code == 422
    assert "dream.safetensors ends after" in answer.text
    chosen = client.post("/sdapi/v1/options", json={"sd_model_checkpoint": name})
    assert chosen.status_code == 422
    assert "dream.safetensors ends after" in chosen.text


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("folder\\name.safetensors [0123456789]", "folder/name"),
        ("folder\\\\name.safetensors", "folder/name"),
        ("foo [deadbeef]", "foo [deadbeef]"),
        ("foo [deadbeef].safetensors", "foo [deadbeef]"),
        ("blank ", "blank "),
        ("blank .safetensors", "blank "),
        ("eam_v2", "dream_v2"),
    ],
)
def test_every_name_can_be_chosen(here: tuple[TestClient, App], name: str, found: str) -> None:
    client, app = here
    answer = paint(client, name)
    assert answer.status_code == 200, answer.text
    newest = app.complete({}).checkpoint
    assert newest == found


def test_what_is_listed_can_be_chosen_and_painted_with(here: tuple[TestClient, App]) -> None:
    client, app = here
    for model in client.get("/sdapi/v1/sd-models").json():
        for name in (model["title"], model["model_name"]):
            assert paint(client, name).status_code == 200, name
    for info in app.checkpoints():
        if not info.problem:
            answer = client.post("/api/v1/jobs", json={**SMALL, "steps": 1, "checkpoint": info.name})
            assert answer.status_code == 201, answer.text
            assert answer.json()["request"]["checkpoint"] == info.name
