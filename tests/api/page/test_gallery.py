"""The gallery's routes: pages, files, what is written down, the trash, zips, and whose all that is."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from modules.api.server import build_api
from tests.api.people import AccountsServer
from tests.gallery.conftest import SECONDS, painted
from tests.ui.fake_app import FakeApp

ROOT = "/internal/gallery"


@pytest.fixture
def outputs(app: FakeApp) -> Iterator[Path]:
    folder = app.settings.outputs_dir
    for number, prompt in enumerate(("a red fox", "a blue fox", "a dog")):
        painted(folder / f"{number}.png", prompt, seed=number, age=number, Model="dreams")
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:50])
    app.gallery.rescan(SECONDS)
    yield folder
    app.gallery.close()


def page(client: TestClient, **query: Any) -> Any:
    answer = client.get(ROOT, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(client: TestClient, q: str = "-is:broken") -> list[int]:
    found: list[int] = client.get(f"{ROOT}/ids", params={"q": q}).json()["ids"]
    return found


def test_pages_counts_and_facets(client: TestClient, outputs: Path) -> None:
    first = page(client, q="fox", limit=1)
    assert [item["prompt"] for item in first["items"]] == ["a red fox"]
    assert first["next"]
    second = page(client, q="fox", limit=1, cursor=first["next"])
    assert [item["prompt"] for item in second["items"]] == ["a blue fox"]
    assert not second["next"]
    assert client.get(f"{ROOT}/count", params={"q": "fox"}).json() == {"count": 2}
    facets = client.get(f"{ROOT}/facets").json()
    assert facets["models"] == ["dreams"]
    assert facets["samplers"] == ["Euler a"]
    assert facets["trash"] == 0
    assert client.get(f"{ROOT}/state").json()["problem"] == ""
    [broken] = page(client, q="is:broken")["items"]
    assert "cut short" in broken["broken"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"q": '"'}, "quotation mark"),
        ({"limit": "0"}, "limit"),
        ({"limit": "9999"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "5-3"}, "cursor"),
        ({"cursor": "7-3", "sort": "rating"}, "cursor"),
        ({"sort": "size"}, "sort"),
        ({"cursor": "xyz-3", "sort": "name"}, "cursor"),
        ({"cursor": "ff-3", "sort": "name"}, "cursor"),
        ({"cursor": "-3", "sort": "largest"}, "cursor"),
    ],
)
def test_questions_that_make_no_sense_get_a_sentence(
    client: TestClient, outputs: Path, query: dict[str, str], said: str
) -> None:
    answer = client.get(ROOT, params=query)
    assert answer.status_code == 422
    assert said in answer.json()["error"]


def test_a_picture_its_thumbnail_and_its_recipe(client: TestClient, outputs: Path) -> None:
    [fox] = page(client, q="seed:0")["items"]
    place = f"{ROOT}/pictures/{fox['id']}"
    whole = client.get(place)
    assert whole.content == (outputs / "0.png").read_bytes()
    assert whole.headers["content-type"] == "image/png"
    assert whole.headers["content-disposition"].startswith("inline")
    assert client.get(place, headers={"if-none-match": whole.headers["etag"]}).status_code == 304
    assert client.get(f"{place}?download=1").headers["content-disposition"].startswith("attachment")
    small = client.get(f"{place}/thumbnail")
    assert small.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(small.content)).format == "JPEG"
    recipe = client.get(f"{place}/recipe").json()
    assert recipe["found"]["prompt"] == "a red fox"
    assert recipe["found"]["fields"]["seed"] == 0
    [torn] = page(client, q="is:broken")["items"]
    place = f"{ROOT}/pictures/{torn['id']}"
    assert client.get(place).headers["content-disposition"].startswith("attachment")
    assert client.get(place).headers["content-type"] == "application/octet-stream"
    assert client.get(f"{place}/thumbnail").status_code == 404
    assert client.get(f"{place}/recipe").json()["found"] is None
    for strange in ("0", "x", "-1", "99999999999999999", "1e3", "١"):
        assert client.get(f"{ROOT}/pictures/{strange}").status_code == 404


def test_edits_trash_and_undo(client: TestClient, outputs: Path) -> None:
    before = {path.name: path.read_bytes() for path in outputs.glob("*.png")}
    foxes = ids(client, "fox")
    changed = client.post(f"{ROOT}/edit", json={"ids": foxes, "rating": 4, "add_tags": ["Wild"], "add_albums": ["Best"]}).json()
    assert [(item["rating"], item["tags"], item["albums"]) for item in changed["items"]] == [(4, ["Wild"], ["Best"])] * 2
    assert client.get(f"{ROOT}/facets").json()["albums"] == [["Best", 2]]
    assert client.post(f"{ROOT}/trash", json={"ids": foxes}).json()["ids"] == foxes
    assert [item["prompt"] for item in page(client, q="-is:broken")["items"]] == ["a dog"]
    assert client.post(f"{ROOT}/restore", json={"ids": foxes}).json()["ids"] == foxes
    assert {path.name: path.read_bytes() for path in outputs.glob("*.png")} == before
    client.post(f"{ROOT}/trash", json={"ids": foxes[:1]})
    assert client.post(f"{ROOT}/empty", json={"ids": ids(client)}).json() == {"deleted": 0}
    assert client.post(f"{ROOT}/empty", json={"all": True}).json() == {"deleted": 1}
    assert len(list(outputs.rglob("*.png"))) == 3


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ids": []},
        {"ids": "1"},
        {"ids": [1.5], "rating": 1},
        {"ids": [True], "rating": 1},
        {"ids": [2**60], "rating": 1},
        {"ids": [1]},
        {"ids": [1], "rating": 6},
        {"ids": [1], "rating": True},
        {"ids": [1], "favourite": 1},
        {"ids": [1], "add_tags": "x"},
        {"ids": [1], "add_tags": [1]},
        {"ids": [1], "owner": "me"},
        {"ids": list(range(1, 6000)), "rating": 1},
    ],
)
def test_changes_that_make_no_sense_are_refused(client: TestClient, outputs: Path, body: dict[str, Any]) -> None:
    assert client.post(f"{ROOT}/edit", json=body).status_code == 422


def test_a_selection_as_a_zip(app: FakeApp, client: TestClient, outputs: Path) -> None:
    (outputs / "other").mkdir()
    (outputs / "0.png").rename(outputs / "other" / "1.png")  # another file of the same name
    painted(outputs / "other" / "ünï <x>.png", "a third", seed=9)
    assert client.post(f"{ROOT}/rescan", json={}).json() == {"scanning": True}
    app.gallery.rescan(SECONDS)
    url = client.post(f"{ROOT}/zips", json={"ids": ids(client)}).json()["url"]
    answer = client.get(f"/{url}")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sorted(archive.namelist()) == ["1 (2).png", "1.png", "2.png", "ünï _x_.png"]
        assert archive.testzip() is None
    assert client.get(f"{ROOT}/zips/{'0' * 32}").status_code == 404


# ---- whose


def test_with_accounts_everybody_has_their_own(app: FakeApp) -> None:
    outputs, gallery = app.settings.outputs_dir, app.gallery
    server = AccountsServer(app, build_api)
    try:
        ada, bob, root = server.person("ada"), server.person("bob"), server.person("root", "administrator")
        viewer = server.person("eve", "viewer")
        for number, account in enumerate((ada, bob, viewer)):
            painted(outputs / f"{account.name}.png", account.name, seed=number)
            gallery.saved(f"{account.name}.png", account.user)
        gallery.rescan(SECONDS)
        painted(outputs / "foreign.png", "foreign", seed=7)
        painted(outputs / "2026-08-14" / "101010-abc-000-5.png", "unknown", seed=8)
        gallery.rescan(SECONDS)
        seen = {}
        for account in (ada, bob, root, viewer):
            with server.client(account) as client:
                seen[account.name] = {item["prompt"]: item["id"] for item in page(client)["items"]}
        assert {name: set(items) for name, items in seen.items()} == {
            "ada": {"ada"}, "bob": {"bob"}, "root": {"foreign"}, "eve": {"eve"}
        }  # fmt: skip
        one = seen["bob"]["bob"]
        with server.client(ada) as client:
            for route in ("", "/thumbnail", "/recipe"):
                assert client.get(f"{ROOT}/pictures/{one}{route}").status_code == 404
            assert client.post(f"{ROOT}/edit", json={"ids": [one], "rating": 1}).json() == {"items": []}
            assert client.post(f"{ROOT}/trash", json={"ids": [one]}).json() == {"ids": []}
            url = client.post(f"{ROOT}/zips", json={"ids": [one]}).json()["url"]
            assert client.get(f"/{url}").status_code == 404
            mine = client.post(f"{ROOT}/zips", json={"ids": [seen["ada"]["ada"]]}).json()["url"]
        with server.client(bob) as client:
            assert client.get(f"/{mine}").status_code == 404
            assert client.get(f"{ROOT}/count").json() == {"count": 1}
            assert client.get(f"{ROOT}/facets").json()["trash"] == 0
        with server.client(viewer) as client:
            assert client.post(f"{ROOT}/trash", json={"ids": [seen["eve"]["eve"]]}).status_code == 403
            assert client.get(f"{ROOT}/pictures/{seen['eve']['eve']}").status_code == 200
        with server.client() as client:
            assert client.get(ROOT).status_code == 401
        assert (outputs / "bob.png").exists()
    finally:
        server.close()
        gallery.close()
