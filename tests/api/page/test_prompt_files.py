"""The routes of the styles editor and the wildcards manager."""

from __future__ import annotations

from starlette.testclient import TestClient

from modules.api.server import build_api
from tests.api.people import AccountsServer
from tests.ui.fake_app import FakeApp


def test_styles_are_changed_by_who_saw_them_last(client: TestClient, app: FakeApp) -> None:
    empty = client.get("/internal/styles").json()
    assert (empty["styles"], empty["version"], empty["may_edit"]) == ([], "", True)
    first = client.post("/internal/styles", json={"name": "A", "prompt": "b", "version": ""}).json()
    assert first["styles"] == [{"name": "A", "prompt": "b", "negative_prompt": "", "rows": 1}]
    late = client.post("/internal/styles", json={"name": "C", "version": ""})
    assert late.status_code == 422
    assert "changed meanwhile" in late.json()["error"]
    renamed = client.post("/internal/styles", json={"name": "B", "was": "A", "version": first["version"]}).json()
    assert list(app.library.styles()) == ["B"]
    assert client.post("/internal/styles/delete", json={"name": "B", "version": renamed["version"]}).json()["styles"] == []
    assert client.post("/internal/styles", json={"name": 7, "version": ""}).status_code == 422


def test_wildcards_are_read_written_and_drawn(client: TestClient) -> None:
    made = client.post("/internal/wildcards", json={"name": "a/b", "text": "x\ny\n", "version": ""}).json()
    assert made["files"] == [{"name": "a/b", "values": 2}]
    file = client.post("/internal/wildcards/read", json={"name": "a/b"}).json()
    assert client.post("/internal/wildcards/read", json={"name": "../a"}).status_code == 404
    drawn = client.post("/internal/wildcards/draw", json={"text": "__a/b__ __c__", "seed": 1, "count": 9}).json()
    assert set(drawn["drawn"]) <= {"x __c__", "y __c__"}
    assert (len(drawn["drawn"]), drawn["unknown"]) == (9, ["c"])
    for body in ({"text": "x", "seed": -1}, {"text": 5}, {"text": "x", "count": 1000}, {"text": "x" * 200_001}):
        assert client.post("/internal/wildcards/draw", json=body).status_code == 422, body
    gone = client.post("/internal/wildcards/delete", json={"name": "a/b", "version": file["version"]})
    assert gone.json()["files"] == []


def test_users_look_and_administrators_write(app: FakeApp) -> None:
    server = AccountsServer(app, build_api)
    try:
        client = server.client(server.person("Ada", "user"))
        headers = {"origin": str(client.base_url).rstrip("/")}
        assert client.get("/internal/styles").json()["may_edit"] is False
        assert client.post("/internal/wildcards/draw", json={"text": "{a|b}"}, headers=headers).status_code == 200
        for path in ("styles", "styles/delete", "wildcards", "wildcards/delete"):
            body = {"name": "a", "version": "", "text": "x"}
            assert client.post(f"/internal/{path}", json=body, headers=headers).status_code == 403
    finally:
        server.close()
