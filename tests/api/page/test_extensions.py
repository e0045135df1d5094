"""The endpoints of extensions: who sees what, and that code comes in only after it was shown, for administrators in person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from modules.accounts import Role
from modules.api.guard.middleware import AccessConfig
from modules.api.page.extensions import OPEN
from modules.api.server import build_api
from modules.settings import Settings
from tests.api.people import AccountsServer
from tests.test_request_extensions import Glow
from tests.ui.fake_app import FakeApp
from tests.ui.fake_extensions import GLOW

ALL = "/internal/extensions"
PROPOSE = f"{ALL}/proposals"
ROLES: tuple[Role, ...] = ("user", "viewer")
ADDRESS = {"address": "https://ada:secret@example.org/bloom.git"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FakeApp]:
    made = FakeApp(tmp_path)
    made.extensions.put(GLOW, Glow())
    yield made
    made.extensions.close()


@pytest.fixture
def local(app: FakeApp) -> Iterator[TestClient]:
    with TestClient(build_api(app), base_url="http://127.0.0.1:7860") as client:  # type: ignore[arg-type]
        client.get("/internal/engine")  # gives the page's cookie
        yield client


def test_extensions_are_listed_and_switched(local: TestClient) -> None:
    found = local.get(ALL).json()
    assert (found["may_edit"], found["refusal"], found["options"]) == (True, "", [])
    assert [(one["name"], one["state"], one["halves"]) for one in found["extensions"]] == [("glow", "off", ["web", "engine"])]
    on = local.post(f"{ALL}/glow/enable", json={}).json()
    assert (on["extensions"][0]["state"], on["options"]) == ("on", ["glow"])
    (item,) = local.get("/api/v1/extensions").json()
    assert (item["state"], item["version"], item["options"]["properties"]["strength"]["default"]) == ("on", "1.0.0", 0)
    (a1111,) = local.get("/sdapi/v1/extensions").json()
    assert a1111 == {
        "name": "glow", "remote": "", "branch": "", "commit_hash": "", "version": "1.0.0", "commit_date": 0, "enabled": True,
    }  # fmt: skip
    off = local.post(f"{ALL}/glow/disable", json={}).json()
    assert (off["extensions"][0]["state"], off["options"]) == ("off", [])
    assert local.get("/api/v1/extensions").json()[0]["options"] is None
    assert local.post(f"{ALL}/glow/remove", json={}).json()["extensions"] == []
    missing = local.post(f"{ALL}/glow/enable", json={})
    assert missing.status_code == 422
    assert "there is no extension 'glow' here" in missing.json()["error"]


def test_what_is_fetched_is_shown_before_it_is_put_among_the_extensions(local: TestClient, app: FakeApp) -> None:
    shown = local.post(PROPOSE, json=ADDRESS).json()
    assert [app.extensions.asked, list(app.extensions.views)] == [[ADDRESS["address"]], ["glow"]], "nothing is here by that"
    assert (shown["name"], shown["version"], shown["files"]) == ("bloom", "2.1.0", [["extension.toml", 312], ["web.py", 2048]])
    assert [(need["requirement"], need["verdict"]) for need in shown["needs"]] == [
        ("pillow>=10", "met"),
        ("flowers>=3", "missing"),
    ]
    assert shown["command"] == "python3 webui.py extension enable bloom", "said, and never run"
    assert shown["warnings"] == ["it adds a route"]
    taken = local.post(f"{PROPOSE}/{shown['token']}/accept", json={})
    assert (taken.status_code, taken.json()["state"]) == (201, "off")
    assert taken.json()["source"] == "https://example.org/bloom.git", "without the password in its address"
    again = local.post(f"{PROPOSE}/{shown['token']}/accept", json={})
    assert again.status_code == 422
    zipped = local.post(PROPOSE, content=b"PK...", headers={"content-type": "application/zip"}).json()
    assert local.post(f"{PROPOSE}/{zipped['token']}/discard", json={}).status_code == 200
    assert local.post(f"{PROPOSE}/{zipped['token']}/accept", json={}).status_code == 422
    newer = local.post(f"{ALL}/glow/update", json={}).json()
    assert (newer["replaces"], newer["changes"]) == ("1.0.0", [["web.py", "changed"]])
    for body in ({}, {"address": ""}, {"address": 3}, {"address": None}):
        assert local.post(PROPOSE, json=body).status_code == 422
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert local.post(PROPOSE, content=b"address=x", headers={"content-type": kind}).status_code == 422
    app.extensions.offered = None
    assert "is no git repository" in local.post(PROPOSE, json=ADDRESS).json()["error"]


def test_nothing_is_brought_in_by_another_site_s_page(app: FakeApp) -> None:
    """Whatever it sends, and whatever cookies came along."""
    with TestClient(build_api(app), base_url="http://127.0.0.1:7860") as client:  # type: ignore[arg-type]
        for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "http://evil.example"}):
            kind = {**headers, "content-type": "application/zip"}
            assert client.post(PROPOSE, content=b"PK...", headers=kind).status_code == 403
            assert client.post(f"{ALL}/glow/enable", json={}, headers=headers).status_code == 403
    assert app.extensions.asked == []
    assert app.extensions.views["glow"].state == "off"


@pytest.mark.parametrize("reached", ["settings", "peer"])
def test_a_server_that_others_reach_without_accounts_takes_no_code(app: FakeApp, tmp_path: Path, reached: str) -> None:
    peer = ("192.168.1.9", 1234) if reached == "peer" else ("127.0.0.1", 1234)
    if reached == "settings":
        app.settings = Settings(data_dir=tmp_path / "data", outputs_dir=tmp_path / "outputs", listen=True)
    server = build_api(app, AccessConfig(hosts=frozenset({"192.168.1.5"})))  # type: ignore[arg-type]
    with TestClient(server, base_url="http://192.168.1.5:7860", client=peer) as client:
        client.get("/internal/engine")
        assert client.get(ALL).json()["refusal"] == OPEN
        switches: list[tuple[str, Any]] = [(f"{ALL}/glow/{what}", {}) for what in ("enable", "disable", "update", "remove")]
        for path, body in ((PROPOSE, ADDRESS), (f"{PROPOSE}/token1/accept", {}), *switches):
            reply = client.post(path, json=body)
            assert (reply.status_code, reply.json()["error"]) == (403, OPEN), path
    assert app.extensions.asked == []


def test_only_administrators_in_person_change_anything(app: FakeApp) -> None:
    app.extensions.put(replace(GLOW, state="failed", reason="it failed three times: ValueError: no light"))
    app.extensions.notices = ("Glow was switched off: it failed three times",)
    house = AccountsServer(app, build_api)
    try:
        boss = house.person("Ada", "administrator")
        admin, user, viewer, program = house.client(boss), *(house.client(house.person(r, r)) for r in ROLES), house.client()
        program.headers["authorization"] = f"Bearer {house.store.add_token(boss.id, 't')}"
        for other in (user, viewer):
            found = other.get(ALL).json()
            assert (found["may_edit"], found["notices"], found["extensions"][0]["reason"]) == (False, [], "")
        found = admin.get(ALL).json()
        assert found["notices"] == list(app.extensions.notices)
        assert found["extensions"][0]["reason"].endswith("ValueError: no light")
        posts: list[tuple[str, Any]] = [
            (PROPOSE, ADDRESS), (f"{PROPOSE}/token1/accept", {}), (f"{PROPOSE}/token1/discard", {}),
            *((f"{ALL}/glow/{what}", {}) for what in ("enable", "disable", "update", "remove")),
        ]  # fmt: skip
        for path, body in posts:
            for other in (user, viewer, program):
                assert other.post(path, json=body).status_code == 403, path
        assert app.extensions.asked == []
        assert admin.post(PROPOSE, json=ADDRESS).status_code == 200
    finally:
        house.close()


def test_one_that_lacks_a_package_says_how_to_get_it(local: TestClient, app: FakeApp) -> None:
    reason = "it needs the package flowers>=3, which is not installed; python3 webui.py extension show says how to get it"
    app.extensions.put(replace(GLOW, state="refused", reason=reason, needs=(reason,)))
    (glow,) = local.get(ALL).json()["extensions"]
    assert (glow["reason"], glow["command"]) == (reason, "python3 webui.py extension enable glow")
    refused = local.post(f"{ALL}/glow/enable", json={})
    assert (refused.status_code, refused.json()["error"]) == (422, f"Glow cannot be switched on: {reason}")
