"""Files that nobody asked to serve: traversal, Gradio's file route, planted pages, links, archives (S1-S3, S36, S37)."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.security.instance import CANARY, RunningInstance, Visitor, settled
from tests.security.pictures import png
from tests.security.raw import Reply

DOTS = [
    *("..", "%2e%2e", "%252e%252e", "..%00", "....", ".%2e", "%c0%ae%c0%ae", "%uff0e%uff0e", "..;", "．．"),
]
ENCODINGS = [
    *(
        f"{dots}{slash}{dots}{slash}{dots}{slash}{name}"
        for dots in DOTS
        for slash in ("/", "%2f", "\\", "%5c")
        for name in (".env",)
    ),
    *(
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "//etc/passwd",
        "C:\\Windows\\win.ini",
        "C:/Windows/win.ini",
        "\\\\?\\C:\\x",
        "\\\\host\\share",
    ),
    *(
        "file:///etc/passwd",
        "file:%2f%2f%2fetc%2fpasswd",
        ".env",
        "settings.toml",
        "jobs.sqlite",
        "%00",
        "a%0d%0ax: y",
        "~root",
    ),
    *(
        "/proc/self/environ",
        "%2fproc%2fself%2fenviron",
        "....//....//....//etc/passwd",
        "..././..././etc/passwd",
        "./.",
        "..",
        ".",
    ),
]
"""Ways to say "somewhere else"; the last folder of each exists."""

PLACES = [
    *("/{}", "/internal/jobs/{}", "/internal/jobs/{}/zip", "/internal/jobs/{}/preview", "/internal/pictures/{}/0"),
    *("/internal/pictures/x/{}", "/internal/sources/{}", "/api/v1/jobs/{}", "/api/v1/jobs/{}/pictures/0", "/assets/{}"),
    *("/static/{}", "/svelte/{}", "/gradio_api/file={}", "/gradio_api/file/{}"),
    *("/internal/models/{}", "/internal/models/{}/preview", "/internal/models?folder={}", "/internal/models?checkpoint={}"),
    *("/internal/gallery/pictures/{}", "/internal/gallery/pictures/{}/thumbnail", "/internal/gallery/pictures/{}/recipe"),
    *("/internal/gallery/zips/{}", "/internal/gallery?q={}", "/internal/gallery?cursor={}"),
    *("/sdapi/v1/{}", "/internal/prompt/names?q={}", "/internal/jobs?before={}", "/gradio_api/stream/{}/x/0/playlist.m3u8"),
]


def nothing_leaked(reply: Reply) -> bool:
    return CANARY not in reply.text and "root:x:0" not in reply.text and "PATH=" not in reply.text


@pytest.mark.parametrize("place", PLACES)
def test_s1_no_path_leads_out(instance: RunningInstance, ways: list, place: str) -> None:
    assert len(ENCODINGS) >= 60
    for encoding in ENCODINGS:
        target = place.format(encoding).encode()
        reply = instance.ask(target)
        assert nothing_leaked(reply), target
        assert reply.status < 500, (target, reply.text)
        if "?" not in place:
            assert reply.status in (400, 403, 404, 405, 422), (target, reply.status)


def test_s1_served_scripts_stay_in_their_folder(instance: RunningInstance, browser: Visitor) -> None:
    page = browser.ask("/", headers=[("Accept", "text/html")]).text
    version = page.split("/ui/")[1].split("/")[0] if "/ui/" in page else page.split("ui/")[1].split("/")[0]
    assert instance.ask(f"/ui/{version}/main.js").status == 200
    for encoding in ENCODINGS:
        reply = instance.ask(f"/ui/{version}/{encoding}".encode())
        assert nothing_leaked(reply)
        assert reply.status in (400, 403, 404, 405, 422), (encoding, reply.status)


@pytest.mark.parametrize("name", ["checkpoint", "source", "mask", "sampler", "schedule", "styles", "prompt", "resize_mode"])
def test_s1_no_field_leads_out(browser: Visitor, name: str) -> None:
    """As a name it is unknown, in a prompt it is text; no file is opened for it."""
    for encoding in [
        *ENCODINGS[:8],
        "/etc/passwd",
        "../.env",
        "__../../.env__",
        "<lora:../../.env:1>",
        "../../x.safetensors",
    ]:
        value = [encoding] if name == "styles" else encoding
        reply = browser.post("/internal/jobs", {"prompt": "x", "width": 64, "height": 64, "steps": 1, name: value})
        assert nothing_leaked(reply)
        if name == "prompt":
            assert reply.status in (200, 201, 202), reply.text
            browser.post(f"/internal/jobs/{reply.json()['id']}/cancel")
        else:
            assert reply.status in (400, 404, 422, 429), (name, encoding, reply.text)


def test_s2_gradio_serves_no_file_of_ours(instance: RunningInstance, browser: Visitor) -> None:
    wanted = [
        *(instance.data / name for name in (".env", "secret.json", "secret.txt", "settings.toml", "jobs.sqlite", "engine.log")),
        *(instance.folder / name for name in (".env", "secret.txt", "log")),
        *(Path(__file__), Path("/etc/passwd"), Path("/proc/self/environ"), Path("modules/settings/table.py").resolve()),
    ]
    for path in wanted:
        for target in (f"/gradio_api/file={path}", f"/gradio_api/file/{path}", f"/gradio_api/file=%2F{str(path)[1:]}"):
            reply = browser.ask(target)
            assert reply.status in (400, 403, 404, 405), (target, reply.status)
            assert nothing_leaked(reply)


def test_s2_no_callback_gives_out_a_file_whose_path_it_gets(instance: RunningInstance, browser: Visitor) -> None:
    """Gradio copies what a callback returns as a path to where it is served, so none may return what it was told."""
    config = browser.ask("/config").json()
    names = {str(call["api_name"]) for call in config["dependencies"] if call["api_name"]}
    path = str(instance.data / "secret.json")
    file = {"path": path, "url": f"/gradio_api/file={path}", "meta": {"_type": "gradio.FileData"}, "orig_name": "x.png"}
    for call in config["dependencies"]:
        for data in ([path] * len(call["inputs"]), [file] * len(call["inputs"])):
            body = {"data": data, "fn_index": call["id"], "session_hash": "s2", "event_data": None, "trigger_id": None}
            reply = browser.post("/gradio_api/queue/join", body)
            assert nothing_leaked(reply)
            reply = browser.post(f"/gradio_api/run/{call['api_name'] or 'predict'}", body)
            assert nothing_leaked(reply)
            assert reply.status != 500 or "Traceback" not in reply.text
    for name in names:
        assert browser.post(f"/gradio_api/call/{name}", {"data": [path]}).status < 500
    copies = [
        file for file in (instance.data / "gradio").rglob("*") if file.is_file() and CANARY in file.read_text(errors="replace")
    ]
    assert not copies


def test_s3_planted_pages_are_not_served(instance: RunningInstance, browser: Visitor) -> None:
    page = "<script>parent.stolen = 1</script>"
    day = instance.outputs / "2026-01-01"
    day.mkdir(parents=True, exist_ok=True)
    for name in ("x.html", "x.svg", "120000-x-000-1.png"):
        (day / name).write_text(page, encoding="utf-8")
        for target in (
            f"/outputs/2026-01-01/{name}",
            f"/gradio_api/file={day / name}",
            f"/internal/pictures/{name}/0",
            f"/{name}",
        ):
            assert browser.ask(target).status in (403, 404, 405, 422)


def test_s3_a_picture_with_a_page_at_its_end_comes_back_as_a_picture_alone(browser: Visitor) -> None:
    tail = b"<html><script>alert(1)</script>"
    kept = browser.ask("/internal/sources", "POST", [("Content-Type", "image/png")], body=png(32, 32) + tail)
    if kept.status != 422:
        assert kept.status == 201, kept.text
        reply = browser.ask(f"/internal/sources/{kept.json()['id']}", headers=[("Accept", "text/html")])
        assert reply.header("content-type") == "image/png"
        assert reply.header("x-content-type-options") == "nosniff"
        assert "sandbox" in reply.header("content-security-policy")
        assert tail not in reply.body


def test_s36_a_picture_replaced_by_a_link_is_not_followed(instance: RunningInstance, browser: Visitor) -> None:
    job = browser.post("/internal/jobs", {"prompt": "a cat", "width": 64, "height": 64, "steps": 1}).json()["id"]
    assert settled(browser, job)["state"] == "done"
    assert browser.ask(f"/internal/pictures/{job}/0").status == 200
    file = next(path for path in instance.outputs.rglob("*.png") if job[:8] in path.name)
    file.unlink()
    file.symlink_to(instance.data / "secret.json")
    for target in (f"/internal/pictures/{job}/0", f"/internal/pictures/{job}/0/thumbnail", f"/api/v1/jobs/{job}/pictures/0"):
        reply = browser.ask(target)
        assert nothing_leaked(reply)
        assert reply.status == 404, (target, reply.status)
    archive = browser.ask(f"/internal/jobs/{job}/zip")
    assert CANARY.encode() not in archive.body
    file.unlink()


def test_s36_a_linked_folder_in_outputs_is_not_followed(instance: RunningInstance, browser: Visitor) -> None:
    link = instance.outputs / "2026-01-02"
    link.symlink_to(instance.data, target_is_directory=True)
    assert browser.ask("/internal/pictures/2026-01-02/secret.json").status in (404, 422)
    link.unlink()


def test_s37_an_archive_has_flat_names_of_our_making(browser: Visitor) -> None:
    hostile = "../../x /etc/passwd C:\\x \u202egnp.exe \n<img> CON"
    job = browser.post("/internal/jobs", {"prompt": hostile, "width": 64, "height": 64, "steps": 1, "count": 2}).json()["id"]
    assert settled(browser, job)["state"] == "done"
    reply = browser.ask(f"/internal/jobs/{job}/zip")
    assert reply.status == 200
    assert not set(reply.header("content-disposition")) & set("/\\\r\n<>")
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        names = archive.namelist()
        assert len(names) == 2
        for name in names:
            assert name.isascii()
            assert not set(name) & set('/\\:*?"<>|\r\n ')
            assert not name.startswith(".")
            with Image.open(archive.open(name)) as picture:
                picture.load()


def test_s37_no_archive_is_taken_in(browser: Visitor) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../evil.txt", "x")
    for target in ("/internal/sources", "/api/v1/sources", "/internal/read"):
        for kind in ("application/zip", "image/png"):
            reply = browser.ask(target, "POST", [("Content-Type", kind)], body=buffer.getvalue())
            assert reply.status in (404, 415, 422), (target, kind, reply.status)
    assert json.dumps(browser.ask("/internal/jobs").json())
