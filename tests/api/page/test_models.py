"""The Models tab's routes, over real files: what is listed, shown, searched, edited, and who may."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, PngImagePlugin
from starlette.testclient import TestClient

from modules.api.server import build_api
from modules.checkpoints.header import Header, read_header
from modules.model_library import described
from modules.model_library.library import ModelLibrary, Query
from modules.model_library.previews import written
from tests.api.people import AccountsServer
from tests.tiny import tiny_checkpoint, write
from tests.ui.fake_app import FakeApp

LIST = "/internal/models"

KOHYA = {
    "ss_base_model_version": "sd_v1",
    "ss_sd_model_name": "anything-v3.safetensors",
    "ss_network_module": "networks.lora",
    "ss_network_dim": "8",
    "ss_network_alpha": "4.0",
    "ss_resolution": "(512, 768)",
    "ss_steps": "1200",
    "ss_epoch": "10",
    "ss_num_train_images": "240",
    "ss_training_started_at": "1690000000.5",
    "ss_tag_frequency": json.dumps({"5_ink": {"ink": 40, "1girl": 12}, "1_more": {"ink": 2, "tree": "many", "sky": 7}}),
    "sshs_model_hash": "ab" * 32,
    "modelspec.author": "Ada <b>",
    "modelspec.license": "CC0",
}


def lora(path: Path, width: int = 768, **metadata: str) -> Path:
    """A LoRA of one layer of cross-attention with text `width` wide."""
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"{stem}.lora_down.weight": torch.zeros(2, width), f"{stem}.lora_up.weight": torch.zeros(64, 2)}
    return write(path, {**tensors, f"{stem}.alpha": torch.tensor(2.0)}, metadata)


def picture(path: Path, kind: str = "PNG", size: tuple[int, int] = (900, 600)) -> None:
    Image.new("RGB", size, (200, 30, 30)).save(path, kind)


@pytest.fixture
def models(app: FakeApp, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "models"
    folder.mkdir()
    app.catalogue.folders = [folder]
    yield folder
    app.model_library.close()


@pytest.fixture
def listed(client: TestClient) -> Callable[..., Any]:
    """A page of the list, once all files are read."""

    def ask(**query: Any) -> Any:
        end = time.monotonic() + 20
        while True:
            answer = client.get(LIST, params=query)
            assert answer.status_code == 200, answer.text
            if not answer.json()["unread"]:
                return answer.json()
            assert time.monotonic() < end
            time.sleep(0.02)

    return ask


def names(page: Any) -> list[str]:
    return [item["name"] for item in page["items"]]


def test_all_kinds_are_listed_by_folder(models: Path, listed: Callable[..., Any]) -> None:
    (models / "sub").mkdir()
    tiny_checkpoint(models / "sub" / "tiny.safetensors")
    lora(models / "Lora" / "style" / "ink.safetensors", **KOHYA)
    lora(models / "Lora" / "pose.safetensors")
    for folder, file in (("VAE", "v"), ("hypernetworks", "h"), ("ControlNet", "c"), ("ESRGAN", "e"), ("upscalers", "u")):
        (models / folder).mkdir()
        write(models / folder / f"{file}.safetensors", {"a": torch.zeros(1)})
    (models / "embeddings").mkdir()
    write(models / "embeddings" / "worst.safetensors", {"emb_params": torch.zeros(3, 768)})
    page = listed()
    assert page["total"] == 9
    assert page["kinds"] == {
        "checkpoint": 1, "vae": 1, "lora": 2, "embedding": 1, "hypernetwork": 1, "controlnet": 1, "upscaler": 2, "taesd": 0
    }  # fmt: skip
    assert listed(kind="lora")["folders"] == [{"path": "Lora", "count": 2}, {"path": "Lora/style", "count": 1}]
    cards = {item["name"]: item for item in page["items"]}
    assert cards["sub/tiny"]["kind"] == "checkpoint"
    assert (cards["sub/tiny"]["family"], cards["sub/tiny"]["file"]) == ("SD 1.x", "sub/tiny.safetensors")
    assert cards["sub/tiny"]["insert"] == ""
    ink = cards["ink"]
    assert (ink["file"], ink["folder"], ink["family"]) == ("Lora/style/ink.safetensors", "Lora/style", "SD 1.x")
    assert (ink["insert"], ink["weight"], ink["hash"]) == ("<lora:ink:1>", None, "ab" * 6)
    assert ink["base_model"] == "anything-v3.safetensors"
    assert ink["size"] == (models / "Lora" / "style" / "ink.safetensors").stat().st_size
    assert cards["worst"]["insert"] == "worst"
    assert cards["h"]["insert"] == "<hypernet:h:1>"
    assert "not used by this version yet" in cards["c"]["problem"]
    for name in ("e", "u"):
        assert "is no upscaler of a kind that is known here" in cards[name]["problem"]
    assert cards["h"]["problem"] == "h.safetensors is no hypernetwork: it has no tensor 768.0.linear.0.weight"
    assert cards["v"]["problem"].startswith("v.safetensors has an autoencoder without an encoder")
    assert (ink["problem"], ink["fits"], ink["preview"], ink["loaded"], ink["favourite"]) == ("", "", "", "", False)
    assert names(listed(folder="Lora/style")) == ["ink"]
    assert names(listed(folder="Lora")) == ["ink", "pose"]
    assert names(listed(folder="Lo")) == []


def test_search_sort_and_pages(models: Path, listed: Callable[..., Any]) -> None:
    for number, name in enumerate(("Zebra", "ant", "Bee")):
        path = lora(models / "loras" / f"{name}.safetensors", width=(2048, 768, 1024)[number])
        os.utime(path, (1e9 + number, 1e9 + number))
    (models / "loras" / "ant.json").write_text(json.dumps({"activation text": "six legs, Tiny", "description": "an insect"}))
    assert names(listed(kind="lora")) == ["ant", "Bee", "Zebra"]
    assert names(listed(sort="newest")) == ["Bee", "ant", "Zebra"]
    assert names(listed(sort="size")) == ["Zebra", "Bee", "ant"]
    assert names(listed(sort="family")) == ["ant", "Bee", "Zebra"]
    assert names(listed(q="LEGS insect")) == ["ant"]
    found = listed(q="sdxl")
    assert (names(found), found["total"], found["kinds"]["lora"]) == (["Zebra"], 1, 1)
    assert names(listed(q="nothing of that")) == []
    page = listed(offset=1, limit=1)
    assert (names(page), page["total"]) == (["Bee"], 3)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("kind=motor", "kind: must be one of checkpoint, vae"),
        ("sort=x", "sort: must be one of"),
        ("limit=0", "limit: must be a whole number from 1"),
        ("limit=1e3", "limit: must be a whole number"),
        ("offset=-1", "offset: must be a whole number"),
        ("q=" + "x" * 501, "q: at most 500"),
    ],
)
def test_a_query_without_sense_is_refused_in_words(client: TestClient, models: Path, query: str, words: str) -> None:
    answer = client.get(f"{LIST}?{query}")
    assert answer.status_code == 422
    assert words in answer.json()["error"]


def test_what_does_not_fit_the_checkpoint_says_why(models: Path, listed: Callable[..., Any]) -> None:
    tiny_checkpoint(models / "tiny.safetensors")
    lora(models / "loras" / "wide.safetensors", 768)
    lora(models / "loras" / "xl.safetensors", 2048)
    lora(models / "loras" / "own.safetensors", 32)
    (models / "embeddings").mkdir()
    write(models / "embeddings" / "word.safetensors", {"emb_params": torch.zeros(1, 768)})
    fits = {item["name"]: item["fits"] for item in listed(checkpoint="tiny")["items"]}
    assert fits["own"] == fits["tiny"] == ""
    assert fits["wide"] == "It is made for text 768 numbers wide; the checkpoint 'tiny' takes 32."
    assert fits["word"] == fits["wide"]
    assert fits["xl"] == "It is made for SDXL; the checkpoint 'tiny' is SD 1.x."
    assert {item["fits"] for item in listed()["items"]} == {""}
    assert {item["name"]: item["fits"] for item in listed(checkpoint="TINY.safetensors")["items"]} == fits
    assert {item["fits"] for item in listed(checkpoint="absent")["items"]} == {""}


def test_a_model_is_told_in_words(models: Path, client: TestClient, listed: Callable[..., Any]) -> None:
    path = lora(models / "loras" / "ink.safetensors", **KOHYA)
    civitai = {
        "baseModel": "SD 1.5",
        "trainedWords": ["inky, black"],
        "model": {"name": "Ink", "description": "<p>An &amp; <b>ink</b></p>"},
    }
    path.with_name("ink.civitai.info").write_text(json.dumps(civitai))
    [card] = listed()["items"]
    assert (card["base_model"], card["triggers"]) == ("SD 1.5", ["inky", "black"])
    found = client.get(f"{LIST}/{card['id']}").json()
    assert {key: found[key] for key in card if key not in ("hash",)} == {key: card[key] for key in card if key not in ("hash",)}
    facts = {fact["label"]: fact["value"] for fact in found["facts"]}
    assert facts["Rank"] == "8"
    assert facts["Resolution"] == "512 × 768"
    assert facts["Made"] == "2023-07-22"
    assert facts["Author"] == "Ada <b>"
    assert facts["Trained on, pictures"] == "240"
    assert facts["Name on civitai"] == "Ink"
    assert found["tags"] == [{"tag": "ink", "count": 42}, {"tag": "1girl", "count": 12}, {"tag": "sky", "count": 7}]
    assert found["description"] == "An & ink"
    assert (found["notes"], found["negative"], found["defaults"], found["may_edit"]) == ("", "", {}, True)
    assert client.get(f"{LIST}/nothing").status_code == 404


def test_what_people_write_down_is_a1111s(models: Path, client: TestClient, listed: Callable[..., Any]) -> None:
    path = lora(models / "loras" / "ink.safetensors")
    beside = path.with_suffix(".json")
    beside.write_text(json.dumps({"sd version": "SD1", "extension": {"of": ["others", 1]}, "notes": "old"}))
    [card] = listed()["items"]
    where = f"{LIST}/{card['id']}"
    given = {"notes": "Ü\nand more", "weight": 0.8, "triggers": [" ink ", "black"], "negative": "colour"}
    answer = client.post(where, json=given)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["notes"], told["weight"], told["triggers"], told["negative"]) == (
        "Ü\nand more",
        0.8,
        ["ink", "black"],
        "colour",
    )
    assert told["insert"] == "<lora:ink:0.8>"
    assert json.loads(beside.read_text("utf-8")) == {
        "sd version": "SD1",
        "extension": {"of": ["others", 1]},
        "notes": "Ü\nand more",
        "preferred weight": 0.8,
        "activation text": "ink, black",
        "negative text": "colour",
    }
    assert sorted(one.name for one in path.parent.iterdir()) == ["ink.json", "ink.safetensors"]
    assert listed()["items"][0]["weight"] == 0.8
    assert client.get("/internal/prompt/names").json()["lora_words"] == {
        "ink": {"triggers": ["ink", "black"], "weight": 0.8, "negative": "colour"}
    }
    client.post(where, json={"notes": "", "weight": None, "triggers": [], "negative": None})
    assert json.loads(beside.read_text("utf-8")) == {"sd version": "SD1", "extension": {"of": ["others", 1]}}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"notes": 7}, "notes: must be text"),
        ({"notes": "x" * 20_001}, "notes: at most 20,000"),
        ({"weight": "0.5"}, "weight: must be a number"),
        ({"weight": True}, "weight: must be a number"),
        ({"weight": 11}, "weight: must be a number from -10 to 10"),
        ({"triggers": "ink"}, "triggers: must be a list"),
        ({"triggers": ["x"] * 101}, "triggers: at most 100"),
        ({"path": "/etc/passwd"}, "path: there is no such field"),
        ({"favourite": 1}, "favourite: must be true or false"),
        ({"defaults": {"steps": 5}}, "only checkpoints have them"),
    ],
)
def test_edits_without_sense_are_refused_and_nothing_is_written(
    models: Path, client: TestClient, listed: Callable[..., Any], given: dict[str, Any], words: str
) -> None:
    path = lora(models / "loras" / "ink.safetensors")
    [card] = listed()["items"]
    answer = client.post(f"{LIST}/{card['id']}", json=given)
    assert answer.status_code == 422
    assert words in answer.json()["error"]
    assert [one.name for one in path.parent.iterdir()] == ["ink.safetensors"]


def test_a_neighbour_that_is_no_json_is_never_overwritten(models: Path, client: TestClient, listed: Callable[..., Any]) -> None:
    beside = lora(models / "loras" / "ink.safetensors").with_suffix(".json")
    [card] = listed()["items"]
    for content in (b'{"notes": ', b"[1]", b"[" * 10_000, b'{"a": "' + b"x" * (3 << 20) + b'"}'):
        beside.write_bytes(content)
        answer = client.post(f"{LIST}/{card['id']}", json={"notes": "new"})
        assert answer.status_code == 507
        assert "ink.json beside the model was not changed" in answer.json()["error"]
        assert beside.read_bytes() == content


def test_odd_json_of_others_is_kept(models: Path, client: TestClient, listed: Callable[..., Any]) -> None:
    beside = lora(models / "loras" / "ink.safetensors", ss_network_args=json.dumps({"a": [[[1]]], "b": 2})).with_suffix(".json")
    [card] = listed()["items"]
    odd = {"half": "\ud800", "number": float("inf"), "ü": None}
    beside.write_text("\ufeff" + json.dumps(odd), "utf-8")
    answer = client.post(f"{LIST}/{card['id']}", json={"notes": "neu: ü"})
    assert answer.status_code == 200, answer.text
    assert json.loads(beside.read_bytes()) == {**odd, "notes": "neu: ü"}
    assert {"label": "Network options", "value": "a=?, b=2"} in answer.json()["facts"]
    for depth in (100, 300, 600, 900):
        beside.write_text('{"deep": ' + "[" * depth + "]" * depth + "}")
        before = beside.read_bytes()
        answer = client.post(f"{LIST}/{card['id']}", json={"notes": "new"})
        assert answer.status_code in (200, 507), (depth, answer.text)
        assert answer.status_code == 200 or beside.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_said(
    models: Path, client: TestClient, listed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lora(models / "loras" / "ink.safetensors")
    [card] = listed()["items"]

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)  # the tests may run as root, whom no folder refuses
    answer = client.post(f"{LIST}/{card['id']}", json={"notes": "new"})
    assert answer.status_code == 507
    assert "ink.json cannot be written beside the model (Permission denied)" in answer.json()["error"]
    assert [one.name for one in path.parent.iterdir()] == ["ink.safetensors"]


def test_a_preview_is_made_small_here(models: Path, client: TestClient, listed: Callable[..., Any]) -> None:
    path = lora(models / "loras" / "ink.safetensors")
    beside = path.with_name("ink.png")
    said = PngImagePlugin.PngInfo()
    said.add_text("parameters", "<script>alert(1)</script>")
    Image.new("RGB", (900, 600), (200, 30, 30)).save(beside, pnginfo=said)
    [card] = listed()["items"]
    answer = client.get(card["preview"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, max-age=3600"
    assert b"script" not in answer.content
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == ("JPEG", (384, 256))
    assert client.get(card["preview"], headers={"if-none-match": answer.headers["etag"]}).status_code == 304
    assert client.get(card["preview"].partition("?")[0]).headers["cache-control"] == "private, no-cache"
    picture(path.with_name("ink.preview.webp"), "WEBP", (100, 100))
    time.sleep(0.01)
    [card] = listed()["items"]
    with Image.open(io.BytesIO(client.get(card["preview"]).content)) as image:
        assert image.size == (100, 100), "the preview goes before the picture"


@pytest.mark.parametrize(("suffix", "kind"), [(".preview.jpg", "JPEG"), (".jpeg", "JPEG"), (".webp", "WEBP"), (".gif", "GIF")])
def test_previews_come_in_all_formats(
    models: Path, client: TestClient, listed: Callable[..., Any], suffix: str, kind: str
) -> None:
    path = lora(models / "loras" / "a b%.safetensors")
    picture(path.with_name("a b%" + suffix), kind)
    [card] = listed()["items"]
    assert client.get(card["preview"]).headers["content-type"] == "image/jpeg"


def test_hostile_neighbours_cost_nothing(models: Path, client: TestClient, listed: Callable[..., Any], tmp_path: Path) -> None:
    """Each beside a LoRA of its own: all are listed and can be opened, and no content of theirs is served."""
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"notes": "CANARY", "activation text": "CANARY"}))
    picture(tmp_path / "secret.png")
    deep = "[" * 10_000 + "]" * 10_000
    near = '{"a": {"img_count": ' + "[" * 700 + "]" * 700 + "}}"
    strange: dict[str, Any] = {
        "near": near,
        "deep": deep, "large": '{"notes": "' + "x" * (10 << 20) + '"}', "list": "[]", "torn": '{"notes": "a', "empty": "",
        "binary": "\x00\x01", "types": json.dumps(
            {"notes": 7, "description": [1], "activation text": {"a": 1}, "preferred weight": "1e999", "negative text": None,
             "sd version": ["x"], "atelier": "no", "model": 3, "trainedWords": [[["x"]], 1, None], "baseModel": {}, "images": 1}
        ),
    }  # fmt: skip
    for name, content in strange.items():
        said = dict.fromkeys(("ss_tag_frequency", "ss_network_args", "ss_dataset_dirs", "modelspec.tags"), content[:100_000])
        path = lora(models / "loras" / f"{name}.safetensors", **said)
        for ending in (".json", ".civitai.info"):
            path.with_name(name + ending).write_text(content)
        path.with_name(f"{name}.preview.png").write_bytes(content.encode()[:1000])
    linked = lora(models / "loras" / "linked.safetensors")
    linked.with_name("linked.json").symlink_to(secret)
    linked.with_name("linked.png").symlink_to(tmp_path / "secret.png")
    piped = lora(models / "loras" / "piped.safetensors")
    os.mkfifo(piped.with_name("piped.json"))
    os.mkfifo(piped.with_name("piped.png"))
    bomb = lora(models / "loras" / "bomb.safetensors").with_name("bomb.png")
    bomb.write_bytes(bomb_png(20_000, 20_000))
    gif = lora(models / "loras" / "gif.safetensors").with_name("gif.gif")
    picture(gif, "GIF", (10, 10))
    gif.write_bytes(gif.read_bytes()[:6] + b"\xff\xff\xff\xff" + gif.read_bytes()[10:])
    circle = lora(models / "loras" / "circle.safetensors").with_name("circle.json")
    circle.symlink_to(circle)
    page = listed()
    assert page["total"] == len(strange) + 5
    for card in page["items"]:
        assert card["problem"] == ""
        told = client.get(f"{LIST}/{card['id']}")
        assert told.status_code == 200, (card["name"], told.text)
        assert "CANARY" not in told.text
        assert (told.json()["weight"], told.json()["triggers"]) == (None, [])
        if card["preview"]:
            assert client.get(card["preview"]).status_code == 404, card["name"]


def bomb_png(width: int, height: int) -> bytes:
    """A small PNG file of many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_pickles_and_torn_files_are_listed_with_what_to_do(models: Path, listed: Callable[..., Any]) -> None:
    (models / "loras").mkdir()
    (models / "loras" / "old.pt").write_bytes(b"\x80\x02}q\x00.")
    (models / "loras" / "torn.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    (models / "loras" / "gone.safetensors").symlink_to(models / "nowhere")
    (models / "model.ckpt").write_bytes(b"\x80\x02}q\x00.")
    problems = {item["name"]: item["problem"] for item in listed()["items"]}
    assert "old.pt is a pickle" in problems["old"]
    assert "python3 webui.py models convert old.pt" in problems["old"]
    assert "python3 webui.py models convert model.ckpt" in problems["model"]
    assert "torn.safetensors ends after" in problems["torn"]
    assert "link to a file that is gone" in problems["gone"]


def test_of_two_with_one_name_the_second_is_told(models: Path, listed: Callable[..., Any]) -> None:
    lora(models / "loras" / "ink.safetensors")
    lora(models / "loras" / "more" / "Ink.safetensors")
    first, second = sorted(listed()["items"], key=lambda item: item["problem"])
    assert (first["file"], first["problem"]) == ("loras/ink.safetensors", "")
    assert "loras/ink.safetensors has the same name" in second["problem"]


def test_files_come_change_and_go(models: Path, client: TestClient, listed: Callable[..., Any]) -> None:
    path = lora(models / "loras" / "one.safetensors", 768)
    assert [item["family"] for item in listed()["items"]] == ["SD 1.x"]
    lora(models / "loras" / "two.safetensors", 1024)
    assert [item["family"] for item in listed()["items"]] == ["SD 1.x", "SD 2.x"]
    lora(path, 2048)
    assert client.post(f"{LIST}/refresh").json() == {"refreshed": True}
    assert [item["family"] for item in listed()["items"]] == ["SDXL", "SD 2.x"]
    before = listed()["items"][0]["id"]
    path.with_suffix(".json").write_text(json.dumps({"activation text": "uno"}))
    assert listed()["items"][0]["triggers"] == ["uno"]
    assert listed()["items"][0]["id"] == before
    path.unlink()
    assert names(listed()) == ["two"]
    assert client.get(f"{LIST}/{before}").status_code == 404


def test_a_restart_reads_no_header_again(models: Path, app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [lora(models / "loras" / f"{number}.safetensors", **KOHYA) for number in range(5)]
    read: list[str] = []

    def counted(path: Path) -> Header:
        read.append(path.name)
        return read_header(path)

    monkeypatch.setattr(described, "read_source", counted)

    def start() -> Any:
        library = ModelLibrary(lambda: [models], app.settings.data_dir)
        library.refresh()
        page = library.page(Query())
        library.close()
        return page["items"]

    first = start()
    assert sorted(read) == [path.name for path in paths]
    read.clear()
    assert start() == first
    assert read == []
    lora(paths[2], 1024)
    assert [item["family"] for item in start()] == ["SD 1.x", "SD 1.x", "SD 2.x", "SD 1.x", "SD 1.x"]
    assert read == ["2.safetensors"]
    cache = app.settings.data_dir / "models.sqlite"
    cache.write_bytes(b"no database" * 1000)
    assert len(start()) == 5
    assert len(read) == 6
    assert cache.with_name("models.sqlite.damaged").exists()


def test_hashes_are_worked_out_in_the_background(models: Path, client: TestClient, listed: Callable[..., Any]) -> None:
    path = lora(models / "loras" / "ink.safetensors")
    [card] = listed()["items"]
    assert card["hash"] == ""
    where, end = f"{LIST}/{card['id']}/hash", time.monotonic() + 20
    while (found := client.post(where, json={}).json())["progress"] is not None:
        assert 0 <= found["progress"] <= 1
        assert time.monotonic() < end
        time.sleep(0.02)
    data = path.read_bytes()
    behind = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
    assert found == {"hash": behind[:12], "sha256": hashlib.sha256(data).hexdigest(), "autov3": behind, "progress": None}
    assert listed(q="ink")["items"][0]["hash"] == behind[:12]
    told = client.get(f"{LIST}/{card['id']}").json()
    assert told["hashing"] is None
    assert behind in [fact["value"] for fact in told["facts"]]
    lora(path, 32)
    client.post(f"{LIST}/refresh")
    assert listed()["items"][0]["hash"] == ""


def test_ones_own_picture_becomes_the_preview(
    models: Path, app: FakeApp, browser_of: Callable[[], TestClient], listed: Callable[..., Any], client: TestClient
) -> None:
    path = lora(models / "loras" / "ink.safetensors")
    [card] = listed()["items"]
    client.get("/internal/jobs")
    job = client.post("/internal/jobs", json={"prompt": "a cat"}).json()["id"]
    app.finish_picture(job)
    where = f"{LIST}/{card['id']}/preview"
    other = browser_of()
    other.get("/internal/jobs")
    assert other.post(where, json={"job": job, "index": 0}).status_code == 404, "another's picture"
    assert client.post(where, json={"job": job, "index": 5}).status_code == 404
    assert client.post(where, json={"job": job, "index": "0"}).status_code == 422
    assert not path.with_name("ink.preview.png").exists()
    made = client.post(where, json={"job": job, "index": 0})
    assert made.status_code == 200, made.text
    with Image.open(path.with_name("ink.preview.png")) as image:
        assert image.format == "PNG"
        assert max(image.size) <= 512
        assert image.text["parameters"].startswith("a cat\nSteps: ")  # type: ignore[attr-defined]
    assert client.get(made.json()["preview"]).status_code == 200
    assert listed()["items"][0]["preview"] == made.json()["preview"]
    assert client.post(f"{where}/remove", json={}).json() == {"preview": ""}
    assert not path.with_name("ink.preview.png").exists()
    picture(path.with_name("ink.png"))
    refused = client.post(f"{where}/remove", json={})
    assert (refused.status_code, path.with_name("ink.png").exists()) == (422, True)
    assert "ink.png came with the model" in refused.json()["error"]


def test_a_preview_that_is_set_is_of_512_pixels_at_most(tmp_path: Path) -> None:
    big = tmp_path / "big.png"
    picture(big, size=(1600, 800))
    with Image.open(io.BytesIO(written(big.read_bytes(), "a\nSteps: 1"))) as image:
        assert image.size == (512, 256)


def test_who_may_do_what(app: FakeApp, models: Path) -> None:
    """Everybody looks and has favourites; what is for all is for administrators."""
    path = lora(models / "loras" / "ink.safetensors")
    server = AccountsServer(app, build=lambda app, access: build_api(app, access))
    people = {role: server.client(server.person(role, role)) for role in ("administrator", "user", "viewer")}  # type: ignore[arg-type]
    card = people["viewer"].get(LIST).json()["items"][0]
    where = f"{LIST}/{card['id']}"
    for role, client in people.items():
        allowed = role == "administrator"
        assert client.get(where).json()["may_edit"] is allowed
        for target, body in (
            (where, {"notes": "x"}),
            (where, {"notes": "x", "favourite": True}),
            (where, {}),
            (f"{where}/preview/remove", {}),
            (f"{LIST}/refresh", {}),
        ):
            assert client.post(target, json=body).status_code == (200 if allowed else 403), (role, target, body)
        client.post(where, json={"favourite": role != "user"})
    seen = {role: client.get(LIST).json()["items"][0]["favourite"] for role, client in people.items()}
    assert seen == {"administrator": True, "user": False, "viewer": True}
    people["viewer"].post(where, json={"favourite": False})
    assert people["administrator"].get(LIST).json()["items"][0]["favourite"]
    assert json.loads(path.with_suffix(".json").read_text()) == {"notes": "x"}
    server.close()


def test_who_uses_what_is_told_to_those_who_may_know(app: FakeApp, models: Path) -> None:
    lora(models / "loras" / "ink.safetensors")
    server = AccountsServer(app, build=lambda app, access: build_api(app, access))
    ada, bob = server.person("Ada", "administrator"), server.person("Bob")
    app.memory = [
        {"name": "ink", "kind": "lora", "bytes": 9, "device": "cpu", "users": [ada.user, bob.user], "idle_seconds": 0.0}
    ]
    told = server.client(ada).get(f"{LIST}/loaded").json()
    assert told == [{**app.memory[0], "users": ["Bob", "you"]}]
    assert server.client(bob).get(f"{LIST}/loaded").json()[0]["users"] == ["another user", "you"]
    assert server.client(ada).get(LIST).json()["items"][0]["loaded"] == "in memory, used by Bob, you"
    app.memory = [{**app.memory[0], "users": []}]
    assert server.client(bob).get(LIST).json()["items"][0]["loaded"] == "in memory"
    server.close()


def test_defaults_of_a_checkpoint_are_kept_and_taken_back(
    models: Path, app: FakeApp, client: TestClient, listed: Callable[..., Any]
) -> None:
    path = tiny_checkpoint(models / "tiny.safetensors")
    [card] = listed()["items"]
    where = f"{LIST}/{card['id']}"
    nothing = dict.fromkeys(("size", "steps", "cfg_scale", "sampler", "schedule", "clip_skip", "vae")) | {"negative": ""}
    assert client.get(where).json()["defaults"] == nothing
    given = {
        "size": [128, 64],
        "steps": 3,
        "cfg_scale": 2.5,
        "sampler": "euler a",
        "schedule": "karras",
        "clip_skip": 2,
        "negative": "dull",
    }
    answer = client.post(where, json={"defaults": given})
    assert answer.status_code == 200, answer.text
    assert answer.json()["defaults"] == {**nothing, **given, "sampler": "Euler a", "schedule": "Karras"}
    request = app.catalogue.complete({"prompt": "x"})
    assert (request.width, request.height, request.steps, request.cfg_scale) == (128, 64, 3, 2.5)
    assert (request.sampler, request.schedule, request.clip_skip) == ("Euler a", "Karras", 2)
    assert request.negative_prompt == "dull"
    said = app.catalogue.complete({"prompt": "x", "steps": 9, "width": 64, "negative_prompt": "", "clip_skip": 1})
    assert (said.steps, said.width, said.height, said.negative_prompt, said.clip_skip) == (9, 64, 64, "", 1)
    assert app.catalogue.checkpoints()[0].defaults.steps == app.catalogue.checkpoint("tiny").defaults.steps == 3
    assert client.post(where, json={"defaults": {"steps": None}}).json()["defaults"]["steps"] is None
    assert app.catalogue.complete({"prompt": "x"}).steps == 4, "the file's own"
    for bad, words in (
        ({"steps": 0}, "steps: must be"),
        ({"size": [63, 64]}, "width: must be"),
        ({"sampler": "Oiler"}, "'Oiler' is not here"),
        ({"lora": "x"}, "there is no default 'lora'"),
        ([], "must be an object"),
    ):
        refused = client.post(where, json={"defaults": bad})
        assert (refused.status_code, words in refused.json()["error"]) == (422, True), refused.text
    path.with_suffix(".json").write_text(json.dumps({"atelier": {"defaults": {"steps": 10**9, "sampler": 7, "width": 128}}}))
    torn = app.catalogue.complete({"prompt": "x"})
    assert (torn.steps, torn.width) == (4, 128), "what makes no sense is left out"


def test_programs_get_the_list_too(models: Path, client: TestClient, listed: Callable[..., Any]) -> None:
    lora(models / "loras" / "ink.safetensors", **KOHYA)
    listed()
    answer = client.get("/api/v1/library", params={"kind": "lora", "q": "ink"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["total"], answer.json()["items"][0]["insert"]) == (1, "<lora:ink:1>")
    assert client.get("/api/v1/library", params={"kind": "motor"}).status_code == 422
    assert client.get("/api/v1/library", params={"limit": 0}).status_code == 422
