"""Files that execute when they are opened, what lies beside a model, installing and settings from outside (S6-S9)."""

from __future__ import annotations

import json
import pickle
import struct
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import PngImagePlugin

from modules.api.guard.access import rule_for
from tests.security import pictures
from tests.security.instance import RunningInstance, Visitor, opened, settled
from tests.security.routes import Way
from tests.tiny import tiny_checkpoint


class Evil:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return (os.system, (f"touch {self.mark}",))


def plant(folder: Path, mark: Path) -> list[str]:
    """Evil files under all names that models have; the names of those that could be taken for checkpoints."""
    data = pickle.dumps(Evil(mark), 2)
    for name in ("raw.ckpt", "raw.pt", "raw.pth", "raw.bin", "raw.safetensors", "raw.vae.pt", "model.pkl"):
        (folder / name).write_bytes(data)
    for name in ("zip.ckpt", "zip.safetensors", "zip.pt"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/data.pkl", data)
            archive.writestr("archive/version", "3\n")
    header = json.dumps({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}).encode()
    (folder / "lying.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
    (folder / "huge-header.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    (folder / "page.safetensors").write_bytes(b"<!doctype html><p>404")
    (folder / "empty.safetensors").write_bytes(b"")
    # Beside the good model: what other programs would read along with it.
    (folder / "tiny.yaml").write_text(f"model:\n  target: !!python/object/apply:os.system ['touch {mark}']\n", encoding="utf-8")
    (folder / "tiny.json").write_text('{"description": "<img src=x onerror=window.__x=1>"}', encoding="utf-8")
    np.save(folder / "tiny.npy", np.array([Evil(mark)], dtype=object), allow_pickle=True)
    texts = PngImagePlugin.PngInfo()
    texts.add_text("sd-ti-embedding", data.hex())
    (folder / "tiny.png").write_bytes(pictures.png(8, 8, pnginfo=texts))
    (folder / "sitecustomize.py").write_text(f"open({str(mark)!r}, 'w')", encoding="utf-8")
    return ["raw", "zip", "lying", "huge-header", "page", "empty"]


@pytest.fixture(scope="module")
def mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mark") / "PWNED"


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory, mark: Path) -> Iterator[RunningInstance]:
    """A instance whose models folder is full of traps."""
    folder = tmp_path_factory.mktemp("traps")
    tiny_checkpoint(folder / "tiny.safetensors")
    plant(folder, mark)
    with opened(tmp_path_factory.mktemp("trap") / "home", folder) as running:
        yield running


def test_s6_s7_nothing_that_executes_is_opened(trap: RunningInstance, mark: Path) -> None:
    visitor = Visitor(trap)
    visitor.ask("/", headers=[("Accept", "text/html")])
    assert ".pkl" not in visitor.ask("/internal/checkpoints").text
    refused = 0
    for name in ("raw", "zip", "lying", "huge-header", "page", "empty", "raw.ckpt", "raw.safetensors", "zip.pt", "tiny.yaml"):
        request = {"prompt": "x", "width": 64, "height": 64, "steps": 1, "checkpoint": name}
        reply = visitor.post("/internal/jobs", request)
        if reply.status == 201:
            view = settled(visitor, reply.json()["id"])
            assert view["state"] == "failed", name
            assert len(view["error"]) > 20, "a reason in words"
        else:
            assert reply.status in (404, 422), (name, reply.text)
        refused += 1
        option = visitor.post("/sdapi/v1/options", {"sd_model_checkpoint": name})
        assert option.status in (200, 400, 403, 404, 422), (name, option.text)
    assert refused == 10
    assert not mark.exists()


def test_s6_s7_the_list_of_models_opens_nothing_that_executes_either(trap: RunningInstance, mark: Path) -> None:
    visitor = Visitor(trap)
    visitor.ask("/", headers=[("Accept", "text/html")])
    assert visitor.post("/internal/models/refresh", {}).status == 200
    cards = visitor.ask("/internal/models").json()["items"]
    assert len(cards) >= 8
    for card in cards:
        trapped = card["name"].startswith(("raw", "zip", "lying", "huge-header", "page", "empty"))
        assert bool(card["problem"]) == trapped, card
        told = visitor.ask(f"/internal/models/{card['id']}")
        assert told.status == 200
        assert visitor.post(f"/internal/models/{card['id']}/hash", {}).status == 200
        if card["preview"]:
            picture = visitor.ask(card["preview"])
            assert (picture.status, picture.body[:2]) == (200, b"\xff\xd8"), "ours, not the file's bytes"
    assert not mark.exists()


def test_s6_converting_a_pickle_runs_nothing_of_it(trap: RunningInstance, mark: Path) -> None:
    """Each in a process of its own, by the page's own way; what is beside it stays as it is."""
    visitor = Visitor(trap)
    visitor.ask("/", headers=[("Accept", "text/html")])
    listed = {each["name"] for each in visitor.ask("/internal/model-tools/sources").json()["pickles"]}
    evil = ("raw.ckpt", "raw.pt", "raw.pth", "raw.bin", "raw.vae.pt", "zip.ckpt", "zip.pt")
    assert listed == set(evil)
    for name in evil:
        started = visitor.post("/internal/model-tools", {"tool": "convert", "file": name, "replace": True})
        assert started.status == 201, started.text
        run = started.json()["id"]
        end = time.monotonic() + 120
        while (view := visitor.ask("/internal/model-tools").json()["runs"][0])["state"] in ("queued", "running"):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert (view["id"], view["state"]) == (run, "failed")
        assert "refused: opening it would run programs" in view["error"], view
    assert not mark.exists()
    assert visitor.post("/internal/model-tools", {"tool": "convert", "file": "model.pkl"}).status == 422
    assert visitor.post("/internal/model-tools", {"tool": "convert", "file": "../traps/raw.ckpt"}).status == 422


def test_s6_the_good_model_goes_on_working(trap: RunningInstance, mark: Path) -> None:
    visitor = Visitor(trap)
    visitor.ask("/", headers=[("Accept", "text/html")])
    request = {"prompt": "a cat <lora:raw:1>", "width": 64, "height": 64, "steps": 1, "checkpoint": "tiny"}
    reply = visitor.post("/internal/jobs", request)
    assert reply.status in (201, 422), reply.text
    reply = visitor.post("/internal/jobs", {**request, "prompt": "a cat"})
    assert settled(visitor, reply.json()["id"])["state"] == "done"
    for route in ("refresh-checkpoints", "refresh-embeddings", "refresh-loras", "refresh-vae"):
        assert visitor.post(f"/sdapi/v1/{route}").status < 500
    for route in ("sd-models", "embeddings", "loras", "sd-vae", "hypernetworks", "upscalers"):
        reply = visitor.ask(f"/sdapi/v1/{route}")
        assert reply.status == 200
    assert not mark.exists()


def test_s8_nothing_installs_anything(instance: RunningInstance, browser: Visitor, ways: list[Way]) -> None:
    """But extensions: by the local user or an administrator in person, after they were shown, and switched off then
    (`tests/api/page/test_extensions.py`).  No route brings code in otherwise, and none installs a package."""
    code = sorted(way.path for way in ways if "extension" in way.path and way.method == "POST")
    assert code == [
        *("/internal/extensions/proposals", "/internal/extensions/proposals/{token}/accept"),
        "/internal/extensions/proposals/{token}/discard",
        *(f"/internal/extensions/{{name}}/{what}" for what in ("disable", "enable", "remove", "update")),
    ]
    for path in code:
        rule = rule_for("POST", path.replace("{", "").replace("}", ""))
        assert (rule.least, rule.in_person) == ("administrator", True), path
        by_another_site = [("Content-Type", "application/json"), ("Sec-Fetch-Site", "cross-site")]
        assert browser.ask(path, "POST", by_another_site, body=b"{}").status == 403, path
    for way in ways:
        for word in ("install", "git", "pip", "clone", "exec", "eval", "shell", "upload_model", "server-"):
            assert word not in way.path.replace("/pipe", ""), way
    for path in (
        *("/sdapi/v1/extensions/install", "/sdapi/v1/server-kill", "/sdapi/v1/server-restart", "/sdapi/v1/server-stop"),
        *("/sdapi/v1/create/embedding", "/sdapi/v1/train/embedding", "/internal/sysinfo", "/internal/profile-startup"),
        *("/customnode/install", "/manager/reboot", "/sdapi/v1/run", "/sdapi/v1/git-pull", "/file=/etc/passwd"),
    ):
        for method in ("GET", "POST"):
            assert browser.ask(path, method, json={} if method == "POST" else None).status in (403, 404, 405), path
    for path in ("vibe-code", "vibe-edit", "vibe-starter-queries", "undo-vibe-edit", "component_server", "process_recording"):
        reply = browser.post(
            f"/gradio_api/{path}", {"prompt": "print(1)", "code": "import os", "data": [], "fn_name": "x", "component_id": 1}
        )
        assert not 200 <= reply.status < 300, (path, reply.text)


def test_s9_no_setting_of_the_program_is_changed_from_outside(instance: RunningInstance, browser: Visitor) -> None:
    written = {file: file.read_bytes() for file in instance.data.glob("*.toml")}
    names = [
        *browser.ask("/sdapi/v1/options").json(),
        "outdir_samples",
        "outdir_txt2img_samples",
        "temp_dir",
        "data_dir",
        "host",
    ]
    names += ["port", "models_dirs", "outputs_dir", "ckpt_dir", "disable_safe_unpickle", "samples_filename_pattern", "save_txt"]
    evil = ["../../scripts", "/tmp/evil", "import os", {"path": "/etc"}, ["/etc"], "[prompt]/../../x"]
    for number, name in enumerate(names):
        value = evil[number % len(evil)]
        reply = browser.post("/sdapi/v1/options", {name: value})
        assert reply.status in (200, 400, 403, 404, 422), (name, value, reply.status)
    assert {file: file.read_bytes() for file in instance.data.glob("*.toml")} == written
    job = browser.post("/internal/jobs", {"prompt": "x", "width": 64, "height": 64, "steps": 1}).json()["id"]
    assert settled(browser, job)["state"] == "done"
    assert any(job[:8] in file.name for file in instance.outputs.rglob("*.png"))
    assert not Path("/tmp/evil").exists()


def test_s9_what_one_sets_another_does_not_get(instance: RunningInstance, browser: Visitor) -> None:
    """Without accounts there are two: the user at the browsers, and the programs that call the API without a cookie."""
    program = Visitor(instance)
    before = program.ask("/sdapi/v1/options").json()
    browser.post("/sdapi/v1/options", {"CLIP_stop_at_last_layers": 7})
    assert browser.ask("/sdapi/v1/options").json()["CLIP_stop_at_last_layers"] == 7
    assert program.ask("/sdapi/v1/options").json() == before
