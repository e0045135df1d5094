"""Numbers, texts, bodies and connections as no client of ours would send them (S25-S34, S38)."""

from __future__ import annotations

import gzip
import socket
from urllib.parse import unquote

import pytest

from modules.settings import ROOT
from tests.security.instance import JSON, RunningInstance, Visitor, settled
from tests.security.pictures import png
from tests.security.raw import PATIENCE, compose, parse
from tests.security.routes import Way

NUMBERS = [
    "-1",
    "0",
    "99999999",
    "2147483648",
    "9223372036854775808",
    "1e999",
    "-1e999",
    "NaN",
    '"20"',
    "true",
    "20.5",
    "9" * 5000,
]
FIELDS = [
    *("steps", "width", "height", "count", "cfg_scale", "seed", "clip_skip", "variation_seed", "variation_strength", "eta"),
    *("s_churn", "rho", "sigma_max", "cfg_rescale", "mimic_scale", "denoising_strength", "mask_blur_x", "masked_padding"),
]


@pytest.mark.parametrize("route", ["/internal/jobs", "/api/v1/jobs", "/sdapi/v1/txt2img"])
def test_s27_numbers_out_of_bounds_are_answered(browser: Visitor, route: str) -> None:
    accepted = []
    for field in FIELDS:
        for number in NUMBERS:
            # Of what is accepted nothing shall be painted: a bad width beside it is reason enough to refuse.
            body = f'{{"prompt": "x", "height": 64, "width": 63, "{field}": {number}}}'.encode()
            reply = browser.ask(route, "POST", [JSON], body=body)
            assert reply.status in (200, 201, 400, 422), (field, number, reply.status, reply.text[:200])
            if reply.status < 300:
                accepted.append((field, number))
    assert {field for field, _ in accepted} <= {"width"}, "only where the width itself was the field"


TEXTS = [
    '"\\ud800"',
    '"\\u0000"',
    '"\\udfff\\ud800 x"',
    '"' + "a" * 40_000 + '"',
    '"\\u202e"',
    '"\U0001f600"',
    "null",
    "[]",
    "{}",
    "1",
]
MALFORMED = [
    *(
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"0",
        b"\xff\xfe",
        b'\xef\xbb\xbf{"width": 63}',
        '{"width": 63}'.encode("utf-16"),
        b"{}{}",
        b"\0",
    ),
    *(
        b'{"prompt": "\xff"}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"width": 64, "width": 63}',
        b"{'prompt': 1}",
        b"NaN",
        b"//x",
    ),
    b'{"__proto__": {"x": 1}, "constructor": 1, "width": 63}',
]


@pytest.mark.parametrize(
    "route",
    [
        *("/internal/jobs", "/internal/prompt/check", "/internal/queue/pause", "/api/v1/jobs", "/sdapi/v1/txt2img"),
        *("/sdapi/v1/img2img", "/sdapi/v1/png-info", "/sdapi/v1/options", "/internal/progress", "/gradio_api/queue/join"),
    ],
)
def test_s28_texts_that_are_no_json_or_odd_json(browser: Visitor, route: str) -> None:
    cases = [*MALFORMED, *(f'{{"prompt": {text}, "width": 63}}'.encode() for text in TEXTS)]
    for body in cases:
        reply = browser.ask(route, "POST", [JSON], body=body)
        assert 200 <= reply.status < 500, (route, body[:60], reply.status)


def test_s25_prompts_that_are_made_to_hurt(browser: Visitor) -> None:
    hostile = [
        *(
            "[a:b:0.5] " * 3000,
            "[a|b] " * 5000,
            "(" * 32_000,
            "[" * 32_000,
            "(a:" * 8000,
            "{a|" * 8000,
            "((((a:.)" * 3000,
            "(a:.)",
        ),
        *(
            "__" * 16_000,
            "<lora:" * 5000,
            "a AND " * 5000,
            "BREAK " * 5000,
            "\\" * 32_000,
            "[[[a:b:c:d:5]" * 2000,
            "(a:1e999)",
            "::::" * 8000,
        ),
    ]
    for prompt in hostile:
        reply = browser.post("/internal/prompt/check", {"prompt": prompt[:32_768]})
        assert reply.status in (200, 400, 422), (prompt[:20], reply.status, reply.text[:200])


def test_s26_words_that_look_like_paths_lead_nowhere(instance: RunningInstance, browser: Visitor) -> None:
    prompt = "<lora:../../secret:1> __../../.env__ [datetime<%s>] ../../x /etc/passwd <hypernet:/etc/passwd:1>"
    job = browser.post("/internal/jobs", {"prompt": prompt, "width": 64, "height": 64, "steps": 1})
    if job.status < 300:
        view = settled(browser, job.json()["id"])
        for file in instance.outputs.rglob("*.png"):
            assert file.resolve().is_relative_to(instance.outputs.resolve())
        assert not any("passwd" in str(path) for path in instance.outputs.rglob("*"))
        assert view["state"] in ("done", "failed")
    else:
        assert job.status == 422


def big(size: int) -> bytes:
    return b'{"prompt": "' + b"x" * size + b'"}'


@pytest.mark.parametrize(
    ("route", "cap"), [("/internal/jobs", 1 << 20), ("/gradio_api/queue/join", 1 << 20), ("/internal/prompt/check", 1 << 20)]
)
def test_s29_twice_what_is_allowed(instance: RunningInstance, browser: Visitor, route: str, cap: int) -> None:
    before, body = instance.memory(), big(2 * cap)
    assert browser.ask(route, "POST", [JSON], body=body).status == 413
    pieces = b"".join(
        b"%x\r\n%b\r\n" % (len(part), part) for part in (body[i : i + 50_000] for i in range(0, len(body), 50_000))
    )
    chunked = [JSON, ("Transfer-Encoding", "chunked")]
    assert browser.ask(route, "POST", chunked, body=pieces + b"0\r\n\r\n").status == 413
    assert instance.memory() - before < 50 << 20


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Length", "-1")],
        [("Content-Length", "1e3")],
        [("Content-Length", "+5")],
        [("Content-Length", "5"), ("Content-Length", "6")],
        [("Content-Length", "9" * 400)],
        [("Content-Length", "99999999999")],
        [("Transfer-Encoding", "gzip")],
        [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
        [("Transfer-Encoding", "chunked, identity")],
    ],
    ids=str,
)
def test_s29_lengths_that_are_none(browser: Visitor, headers: list[tuple[str, str]]) -> None:
    for target in ("/internal/jobs", "/internal/sources", "/gradio_api/upload"):
        reply = browser.ask(target, "POST", [JSON, *headers], body=b'{"x"}')
        assert reply.status in (400, 411, 413, 501), (target, reply.status)


def test_s29_a_length_and_chunks_at_once_start_no_second_request(instance: RunningInstance) -> None:
    smuggled = b"0\r\n\r\nGET /internal/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    headers = [JSON, ("Content-Length", "5"), ("Transfer-Encoding", "chunked"), ("Connection", "keep-alive")]
    reply = instance.send(compose(instance.port, "/internal/jobs", "POST", headers, smuggled).replace(b"keep-alive", b"close"))
    assert reply.status in (400, 413, 415, 422)
    assert reply.body.count(b"HTTP/1.1") == 0


def test_s29_packed_bodies_are_not_unpacked(instance: RunningInstance, browser: Visitor) -> None:
    before = instance.memory()
    reply = browser.ask("/internal/jobs", "POST", [JSON, ("Content-Encoding", "gzip")], body=gzip.compress(bytes(100 << 20)))
    assert reply.status in (400, 413, 415, 422)
    assert instance.memory() - before < 50 << 20


def test_s31_ranges(browser: Visitor) -> None:
    kept = browser.ask("/internal/sources", "POST", [("Content-Type", "image/png")], body=png(256, 256)).json()["id"]
    many = ",".join(f"{i}-{i + 1}" for i in range(5000))
    for value in (
        f"bytes={many}"[:30_000],
        "bytes=0-,0-,0-",
        "bytes=-9999999999",
        "bytes=5-1",
        "bytes=a-b",
        "bytes=0-" + "9" * 300,
    ):
        reply = browser.ask(f"/internal/sources/{kept}", headers=[("Range", value)])
        assert reply.status in (200, 206, 400, 416), (value[:30], reply.status)
        assert len(reply.body) < 1 << 20


def test_s32_everything_answers_while_the_line_is_long(browser: Visitor) -> None:
    jobs = []
    for _ in range(30):
        reply = browser.post("/internal/jobs", {"prompt": "x", "width": 64, "height": 64, "steps": 150})
        assert reply.status in (201, 429), reply.text
        if reply.status == 201:
            jobs.append(reply.json()["id"])
    assert len(jobs) > 10
    for target in ("/health", "/internal/engine", "/internal/queue", "/sdapi/v1/progress", "/api/v1/jobs"):
        assert browser.ask(target).status == 200
    for job in jobs:
        assert browser.post(f"/internal/jobs/{job}/cancel").status == 200
    assert all(settled(browser, job)["state"] in ("cancelled", "done") for job in jobs)


def test_s33_the_log_has_lines_of_the_programs_own_only(instance: RunningInstance, browser: Visitor) -> None:
    forged = "x\n2026-01-01 ERROR forged by a prompt\r\n\x1b[31mred\x1b]0;title\x07"
    browser.post("/internal/jobs", {"prompt": forged, "width": 63, "checkpoint": forged, "sampler": forged})
    job = browser.post("/internal/jobs", {"prompt": forged, "width": 64, "height": 64, "steps": 1})
    if job.status == 201:
        settled(browser, job.json()["id"])
    instance.ask("/x", headers=[("User-Agent", "\x1b[31mred"), ("Referer", f"http://127.0.0.1:{instance.port}/\x1b[2J")])
    instance.ask("/%0a2026-01-01%20ERROR%20forged%20by%20a%20path%1b%5b31m")
    said = instance.said + (instance.data / "engine.log").read_text(encoding="utf-8", errors="replace")
    assert "\x1b[31m" not in said
    assert "\x1b]0" not in said
    assert not [line for line in said.splitlines() if line.startswith("2026-01-01 ERROR forged")]


def test_s38_a_thousand_pictures_do_not_fill_the_disk(instance: RunningInstance, browser: Visitor) -> None:
    """Equal pictures are one file, and Gradio, whose upload tells where it keeps files, takes none in."""
    for _ in range(20):
        assert browser.ask("/internal/sources", "POST", [("Content-Type", "image/png")], body=png(64, 64, seed=1)).status == 201
    kept = list((instance.data / "sources").rglob("*.png"))
    assert len(kept) < 100
    boundary = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + png(32, 32) + b"\r\n--b--\r\n"
    for route in ("/gradio_api/upload", "/gradio_api/upload?upload_id=x", "/upload"):
        reply = browser.ask(route, "POST", [("Content-Type", "multipart/form-data; boundary=b")], body=boundary)
        assert (reply.status, str(instance.folder) in reply.text) == (404, False), route
    assert not list((instance.data / "gradio").rglob("*.png"))


def test_no_answer_that_the_page_is_made_of_names_a_folder(
    instance: RunningInstance, browser: Visitor, ways: list[Way]
) -> None:
    """Also answers that succeed: the page, Gradio's description of it, and everything that can be had without arguments."""
    streams = ("/internal/events", "/gradio_api/queue/data")
    told = [way.path for way in ways if way.method == "GET" and "{" not in way.path and way.path not in streams]
    assert {"/config", "/gradio_api/info", "/internal/engine", "/sdapi/v1/sd-models"} <= set(told)
    kept = browser.ask("/internal/sources", "POST", [("Content-Type", "image/png")], body=png(64, 64, seed=2))
    replies = [("a picture that was kept", kept), *((path, browser.ask(path)) for path in told)]
    wrong = [what for what, reply in replies if str(instance.folder) in reply.text or str(ROOT) in reply.text]
    assert not wrong


def test_s30_who_says_nothing_does_not_keep_the_others_out(instance: RunningInstance) -> None:
    """200 who say nothing at all and 200 who begin a head, at once, as the server gives all of them the same time; then 300 who
    begin a body, which may pause longer."""
    body = b"POST /internal/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{"
    for firsts, number in (((b"GET / HTTP/1.1\r\nHo", b""), 200), ((body,), 300)):
        idle: list[socket.socket] = []
        try:
            for first in firsts:
                for _ in range(number):
                    idle.append(socket.create_connection(("127.0.0.1", instance.port), timeout=PATIENCE))
                    idle[-1].sendall(first)
                for _ in range(5):
                    assert instance.ask("/health").status == 200
            if body not in firsts:
                for connection in idle:
                    assert parse(connection.recv(4096)).status in (0, 400, 408)
        finally:
            for connection in idle:
                connection.close()


def test_s34_no_answer_names_a_folder(instance: RunningInstance, browser: Visitor) -> None:
    """Of everything that the other tests provoked: no traceback, no path, no class; and some of the worst once more."""
    for body in (b'{"data": [{"path": 1}], "fn_index": 0}', b'{"data": null, "fn_index": 99999}', b'{"fn_index": "x"}', b"[]"):
        for route in ("/gradio_api/queue/join", "/gradio_api/run/x", "/gradio_api/call/x", "/gradio_api/component_server"):
            browser.ask(route, "POST", [JSON], body=body)
    secrets = ("Traceback", str(instance.data), "site-packages", "/modules/", 'File "', "sqlite3.", "pydantic_core")
    wrong = [
        (what, secret)
        for what, reply in instance.heard
        for secret in secrets
        if reply.status >= 400 and secret in reply.text and secret not in unquote(what)
    ]
    assert not wrong
    assert [what for what, reply in instance.heard if reply.status == 500] == []


def test_hung_up_bodies_and_calls_that_no_page_makes_leave_a_line_and_no_traceback(
    instance: RunningInstance, browser: Visitor
) -> None:
    before = len(instance.said)
    for route in ("/sdapi/v1/txt2img", "/internal/jobs", "/gradio_api/queue/join"):
        with socket.create_connection(("127.0.0.1", instance.port), timeout=30) as half:
            head = f"POST {route} HTTP/1.1\r\nHost: 127.0.0.1:{instance.port}\r\nContent-Type: application/json\r\n"
            half.sendall(f'{head}Content-Length: 1000\r\n\r\n{{"a":'.encode())
    for body in (b'{"data": [], "fn_index": 99999}', b'{"data": null, "fn_index": -1, "session_hash": "x"}', b"[]"):
        for route in ("/gradio_api/run/predict", "/gradio_api/queue/join", "/gradio_api/run/made-up"):
            reply = browser.ask(route, "POST", [JSON], body=body)
            assert 400 <= reply.status < 500, (route, body, reply.status)
    deep = b'{"data": ' + b"[" * 40 + b"]" * 40 + b"}"
    many = b'{"data": [' + b"[]," * 60_000 + b"[]]}"
    for body in (deep, many):
        assert browser.ask("/gradio_api/queue/join", "POST", [JSON], body=body).status == 413
    assert browser.ask("/health").status == 200
    said = instance.said[before:]
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 12, said
