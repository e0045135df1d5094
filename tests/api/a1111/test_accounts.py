"""The APIs of a server with accounts: tokens as Bearer and Basic, roles, and that nobody sees anybody else's work."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from modules.accounts import Role
from modules.api.server import build_api
from modules.app import App
from tests.api.a1111.conftest import SMALL, as_text, detail, png
from tests.api.people import PASSWORD, AccountsServer
from tests.scripted import ScriptedLink


@pytest.fixture
def instance(real_app: App) -> Iterator[AccountsServer]:
    made = AccountsServer(real_app, build_api)
    yield made
    made.close()


def program(instance: AccountsServer, name: str, role: Role = "user") -> TestClient:
    """A program of that person, with a token of its own."""
    client = instance.client()
    client.headers["authorization"] = f"Bearer {instance.store.add_token(instance.person(name, role).id, 'a program')}"
    return client


def test_a_program_needs_a_token(instance: AccountsServer) -> None:
    stranger = instance.client()
    for path in ("/sdapi/v1/options", "/sdapi/v1/progress", "/controlnet/version", "/internal/pending-tasks"):
        assert stranger.get(path).status_code == 401
    refused = stranger.post("/sdapi/v1/txt2img", json=SMALL)
    assert refused.status_code == 401
    assert "detail" in refused.json(), "A1111's clients show it"
    for path in ("/api/v1/jobs", "/openapi.json", "/docs"):
        assert stranger.get(path).status_code in (401, 303)


def test_a1111_s_clients_send_name_and_password_with_each_call(instance: AccountsServer) -> None:
    ada = instance.person("ada")
    token = instance.store.add_token(ada.id, "Krita")
    for secret in (PASSWORD, token):
        client = instance.client()
        client.headers["authorization"] = "Basic " + base64.b64encode(f"ada:{secret}".encode()).decode()
        assert client.get("/sdapi/v1/options").status_code == 200


def test_what_each_role_may(instance: AccountsServer, link: ScriptedLink) -> None:
    viewer, user, boss = (
        program(instance, name, role) for name, role in (("v", "viewer"), ("u", "user"), ("b", "administrator"))
    )
    for client in (viewer, user, boss):
        assert client.get("/sdapi/v1/sd-models").status_code == 200
        assert client.get("/internal/pending-tasks").json() == {"size": 0, "tasks": []}
        assert client.post("/internal/progress", json={"id_task": "x"}).status_code == 200
        assert client.post("/sdapi/v1/png-info", json={"image": as_text(png())}).status_code == 200
        assert client.get("/api/v1/jobs").status_code == 200
        assert client.get("/docs").status_code == 200
    for path in ("txt2img", "img2img", "extra-single-image", "interrupt", "skip", "options", "interrogate"):
        detail(viewer.post(f"/sdapi/v1/{path}", json=SMALL), 403)
    assert viewer.post("/api/v1/jobs", json=SMALL).status_code == 403
    assert user.post("/sdapi/v1/interrupt", json={}).status_code == 200
    assert user.post("/api/v1/jobs", json=SMALL).status_code == 201
    for path in ("unload-checkpoint", "reload-checkpoint", "refresh-checkpoints"):
        detail(user.post(f"/sdapi/v1/{path}"), 403)
        assert boss.post(f"/sdapi/v1/{path}").status_code == 200


def test_everybody_sees_and_stops_their_own(instance: AccountsServer, real_app: App, link: ScriptedLink) -> None:
    ada, bob = program(instance, "ada"), program(instance, "bob", "administrator")
    job = ada.post("/api/v1/jobs", json=SMALL).json()
    assert bob.get("/sdapi/v1/progress").json()["state"]["job_count"] == 0
    assert bob.get(job["url"]).status_code == 404
    for path in ("interrupt", "skip"):
        bob.post(f"/sdapi/v1/{path}", json={})
    assert link.flying() == [f"{job['id']}.0"]
    ada.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 2})
    assert bob.get("/sdapi/v1/options").json()["CLIP_stop_at_last_layers"] == 1
    ada.post("/sdapi/v1/interrupt", json={})
    assert link.tasks("finish") == [f"{job['id']}.0"]
