"""The endpoints of the model tools: names alone, one's own runs, and administrators only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from modules.api.page.model_tools import model_tool_endpoints
from modules.api.server import build_api
from modules.model_tools.runs import ToolRuns
from tests.api.people import AccountsServer
from tests.tiny import tiny_checkpoint
from tests.ui.fake_app import STICKERS, FakeApp

MERGE = {"tool": "merge", "a": "one", "b": "one", "output": "both"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FakeApp]:
    made = FakeApp(tmp_path)
    folder = tmp_path / "tool models"
    (folder / "embeddings").mkdir(parents=True)
    (folder / "embeddings" / "old.pt").write_bytes(b"123")
    tiny_checkpoint(folder / "one.safetensors")
    made.models = [STICKERS]
    made.model_tools = ToolRuns(tmp_path / "tools.sqlite", [folder], tmp_path / "hashes.json")
    yield made
    made.model_tools.close()


@pytest.fixture
def local(app: FakeApp) -> Iterator[TestClient]:
    with TestClient(build_api(app), base_url="http://127.0.0.1:7860") as client:  # type: ignore[arg-type]
        client.get("/internal/engine")  # gives the page's cookie
        yield client


def test_a_run_from_start_to_forgetting(local: TestClient) -> None:
    started = local.post("/internal/model-tools", json=MERGE)
    assert started.status_code == 201
    run = started.json()
    assert (run["state"], run["tool"], run["title"], run["progress"]) == ("queued", "merge", "Merge checkpoints", 0.0)
    assert local.get("/internal/model-tools").json() == {"runs": [run], "others": 0}
    place = f"/internal/model-tools/{run['id']}"
    assert local.post(f"{place}/forget").json() == {"forgotten": False}, "it is not over"
    assert local.post(f"{place}/cancel").json() == {"cancelled": True}
    assert local.post(f"{place}/cancel").json() == {"cancelled": False}
    assert local.post(f"{place}/forget").json() == {"forgotten": True}
    assert local.get("/internal/model-tools").json()["runs"] == []
    for what in ("cancel", "forget"):
        assert local.post(f"/internal/model-tools/nothing/{what}").status_code == 404


def test_sources_are_names(local: TestClient, tmp_path: Path) -> None:
    answer = local.get("/internal/model-tools/sources")
    assert answer.json() == {
        "checkpoints": [{"name": "stickers", "family": "sd1"}],
        "loras": [],
        "vaes": [],
        "pickles": [{"name": "embeddings/old.pt", "size": 3, "converted": False}],
        "folders": [],
    }
    assert str(tmp_path) not in answer.text


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({**MERGE, "b": "/etc/passwd"}, 422, "b: checkpoint '/etc/passwd' is not here"),
        ({**MERGE, "output": "../out"}, 422, "output: must be a file's name without folders"),
        ({**MERGE, "output": "one"}, 422, "there is a file one.safetensors already"),
        ({"tool": "convert", "file": "../../x.pt"}, 422, "file: pickle '../../x.pt' is not here"),
        ({"tool": "rm"}, 422, "tool: must be one of merge"),
        ({**MERGE, "a": {"$": 1}}, 422, "a: input should be a valid string"),
        ({**MERGE, "multiplier": None}, 422, "multiplier"),
    ],
)
def test_what_cannot_be_is_refused_in_words(local: TestClient, fields: Any, status: int, message: str) -> None:
    answer = local.post("/internal/model-tools", json=fields)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(message)
    assert local.get("/internal/model-tools").json()["runs"] == []


def test_a_source_that_makes_no_sense_is_looked_for_nowhere(local: TestClient) -> None:
    for source, message in (
        (None, "source: is needed"),
        ("ink", "source: must be owner/name"),
        ("file:///etc/passwd", "source: must be"),
        ("x" * 3000, "source: must have at most"),
    ):
        answer = local.post("/internal/model-tools/look", json={"source": source})
        assert answer.status_code == 422
        assert answer.json()["error"].startswith(message)
    link = local.post("/internal/model-tools/look", json={"source": "https://example.org/a.ckpt?token=secret"}).json()
    assert (link["link"], link["name"]) == (True, "https://example.org/a.ckpt")


def test_another_sites_page_starts_nothing(local: TestClient, app: FakeApp) -> None:
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"content-type": "text/plain"}):
        assert local.post("/internal/model-tools", json=MERGE, headers=headers).status_code in (403, 415, 422)
    assert local.get("/internal/model-tools").json()["runs"] == []


def test_administrators_only_and_each_their_own(app: FakeApp) -> None:
    def build(app: Any, access: Any) -> FastAPI:
        return build_api(app, access)

    server = AccountsServer(app, build)
    try:
        ada, eve = server.person("Ada", "administrator"), server.person("Eve", "administrator")
        boss = server.client(ada)
        run = boss.post("/internal/model-tools", json=MERGE).json()["id"]
        for role in ("user", "viewer"):
            client = server.client(server.person(role.title(), role))  # type: ignore[arg-type]
            for path in ("", "/sources"):
                assert client.get(f"/internal/model-tools{path}").status_code == 403
            for path in ("", "/look", f"/{run}/cancel", f"/{run}/forget"):
                assert client.post(f"/internal/model-tools{path}", json=MERGE).status_code == 403
        assert server.client().get("/internal/model-tools").status_code == 401
        other = server.client(eve)
        assert other.get("/internal/model-tools").json() == {"runs": [], "others": 1}
        assert other.post(f"/internal/model-tools/{run}/cancel").status_code == 404
        assert boss.get("/internal/model-tools").json()["runs"][0]["state"] == "queued"
    finally:
        server.close()


def test_the_endpoints_ask_for_the_role_themselves(app: FakeApp) -> None:
    """Beside the guard's table: without a role in the request's state nothing is answered."""
    server = FastAPI()
    server.include_router(model_tool_endpoints(app))  # type: ignore[arg-type]
    with TestClient(server) as client:
        assert client.get("/internal/model-tools").status_code == 403
