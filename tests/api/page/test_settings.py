"""The Settings tab's routes: who sees and changes what, and presets as files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from modules.api.server import build_api
from tests.api.people import AccountsServer
from tests.ui.fake_app import FakeApp

FIELDS = {"prompt": "a cat", "steps": 20}


def named(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(row for row in rows if row["name"] == name)


def test_the_servers_settings_are_read_changed_and_reset(client: TestClient, app: FakeApp) -> None:
    answer = client.get("/internal/settings").json()
    assert answer["may_edit"]
    assert named(answer["rows"], "output_name")["default"] == "[time]-[job]-[index]-[seed]"
    assert named(answer["options"], "CLIP_stop_at_last_layers")["default"] == 1
    changed = client.post("/internal/settings", json={"name": "output_name", "value": "[seed]"})
    assert named(changed.json()["rows"], "output_name")["value"] == "[seed]"
    assert app.server_settings.path.read_text() == 'output_name = "[seed]"\n'
    refused = client.post("/internal/settings", json={"name": "output_name", "value": "[sead]"})
    assert refused.status_code == 422
    assert "did you mean [seed]?" in refused.json()["error"]
    back = client.post("/internal/settings", json={"name": "output_name", "reset": True}).json()
    assert named(back["rows"], "output_name")["source"] == "default"
    for body in ({}, {"name": "history"}, {"name": "history", "value": None}, {"name": "history", "value": 1, "reset": True}):
        assert client.post("/internal/settings", json=body).status_code == 422


def test_preferences_are_ones_own(browser_of: Callable[[], TestClient]) -> None:
    mine, yours = browser_of(), browser_of()
    assert named(mine.post("/internal/preferences", json={"sound": True}).json(), "sound")["value"] is True
    assert named(mine.get("/internal/preferences").json(), "sound")["value"] is True
    assert named(yours.get("/internal/preferences").json(), "sound")["value"] is False
    assert mine.post("/internal/preferences", json={"sound": "loud"}).status_code == 422


def test_presets_go_from_file_to_file(browser_of: Callable[[], TestClient]) -> None:
    mine, yours = browser_of(), browser_of()
    (preset,) = mine.post("/internal/presets", json={"tab": "txt2img", "name": "A", "fields": FIELDS}).json()
    at = f"/internal/presets/{preset['id']}"
    assert yours.get(f"{at}/file").status_code == yours.post(at, json={"name": "B"}).status_code == 404
    (shared,) = mine.post(at, json={"shared": True}).json()
    assert shared["shared"]
    file = yours.get(f"{at}/file")
    assert "attachment" in file.headers["content-disposition"]
    assert yours.post("/internal/presets/read", json=file.json()).json() == {"tab": "txt2img", "name": "A", "fields": FIELDS}
    assert yours.post(f"{at}/delete", json={}).status_code == 200  # the local user is an administrator, and it is shared
    assert mine.get("/internal/presets").json() == []
    for body in (
        {"tab": "txt2img", "name": "A"},
        {"tab": "no", "name": "A", "fields": FIELDS},
        {"tab": "txt2img", "fields": FIELDS},
    ):
        assert mine.post("/internal/presets", json=body).status_code == 422


@pytest.mark.parametrize("role", ["viewer", "user", "administrator"])
def test_only_administrators_see_folders_and_change_the_server(app: FakeApp, role: Any) -> None:
    server = AccountsServer(app, build_api)
    try:
        client = server.client(server.person("Ada", role))
        answer = client.get("/internal/settings").json()
        rules = role == "administrator"
        groups = {row["group"] for row in answer["rows"]}
        assert ("Folders" in groups, "Network" in groups, answer["may_edit"], bool(answer["file"])) == (rules,) * 4
        assert str(app.settings.data_dir) not in client.get("/internal/settings").text
        assert rules or all(row["locked"] for row in answer["rows"])
        headers = {"origin": str(client.base_url).rstrip("/")}
        changed = client.post("/internal/settings", json={"name": "history", "value": 5}, headers=headers)
        assert (changed.status_code == 200) == rules, changed.text
    finally:
        server.close()
