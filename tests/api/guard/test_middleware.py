"""The guard from outside: hosts, origins, sizes, headers and identities.  Every answer must carry the security headers."""

from __future__ import annotations

import re
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.testclient import TestClient

from modules.api.guard import middleware
from modules.api.guard.access import rule_for
from modules.api.guard.middleware import MAX_BODY, AccessConfig, GuardMiddleware

BASE = "http://127.0.0.1:7860"

PAGE = '<!doctype html><script>var x = "<script src=evil>";</script><script src="a.js"></script><p>text</p>'


def echo_server(folder: Path | None = None) -> FastAPI:
    """Says what got through."""
    server = FastAPI()

    @server.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE, headers={"access-control-allow-origin": "*", "access-control-allow-credentials": "true"})

    @server.api_route("/internal/echo", methods=["GET", "POST"])
    async def echo(request: Request) -> JSONResponse:
        body = await request.body()
        return JSONResponse({"user": request.state.user, "bytes": len(body), "headers": dict(request.headers)})

    @server.post("/sdapi/v1/echo")
    async def api(request: Request) -> JSONResponse:
        body = await request.body()
        return JSONResponse({"user": request.state.user, "bytes": len(body), "cookie": request.headers.get("cookie", "")})

    @server.get("/picture")
    async def picture() -> FileResponse:
        return FileResponse(__file__)

    @server.get("/plain")
    async def plain(request: Request) -> JSONResponse:
        return JSONResponse({"user": request.state.user})

    @server.get("/broken")
    async def broken() -> None:
        raise RuntimeError("/home/user/secret.py")

    access = AccessConfig(hosts=frozenset({"Studio.lan"}), origins=frozenset({"http://127.0.0.1:8000"}), folder=folder)
    server.add_middleware(GuardMiddleware, access=access)
    return server


@pytest.fixture
def visitor(tmp_path: Path) -> Iterator[Callable[[], TestClient]]:
    server, clients = echo_server(tmp_path), []

    def new() -> TestClient:
        clients.append(TestClient(server, base_url=BASE, raise_server_exceptions=False))
        return clients[-1]

    yield new
    for client in clients:
        client.close()


@pytest.fixture
def client(visitor: Callable[[], TestClient]) -> TestClient:
    return visitor()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:7860", "localhost:9999", "LOCALHOST", "[::1]:7860", "127.0.0.53", "studio.lan", "Studio.LAN:80"],
)
def test_own_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/plain", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:7860", "192.168.1.5", "0.0.0.0", "localhost.", "[::1].evil", "127.0.0.1.evil.example"),
        *("", "127.0.0.1/health?x=", "user@127.0.0.1", "127.0.0.1:99999999", "[fe80::1]", "2130706433", "127.1"),
    ],
)
def test_other_names_are_not(client: TestClient, host: str) -> None:
    answer = client.get("/plain", headers={"host": host})
    assert answer.status_code == 421
    assert "127.0.0.1" in answer.json()["error"]


def test_two_hosts_are_one_too_many(client: TestClient) -> None:
    assert client.get("/plain", headers=[("host", "127.0.0.1"), ("host", "127.0.0.1")]).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://127.0.0.1:7861"},
        {"origin": "http://127.0.0.1"},
        {"origin": "file://"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": BASE, "sec-fetch-site": "cross-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_sites_change_nothing(client: TestClient, headers: dict[str, str], method: str) -> None:
    assert client.request(method, "/internal/echo", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers", [{}, {"origin": BASE}, {"origin": BASE, "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}]
)
def test_own_page_and_programs_may_post(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/internal/echo", headers=headers, content=b"x").json()["bytes"] == 1


def test_too_large_bodies_are_refused_announced_or_not(client: TestClient) -> None:
    assert client.post("/internal/echo", content=b"x" * MAX_BODY).json()["bytes"] == MAX_BODY
    assert client.post("/internal/echo", content=b"x" * (MAX_BODY + 1)).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x" * (MAX_BODY // 2)

    answer = client.post("/internal/echo", content=chunks())
    assert answer.request.headers["transfer-encoding"] == "chunked"
    assert answer.status_code == 413
    assert client.post("/internal/echo", headers={"content-length": "-5"}).status_code == 400


def test_too_many_headers_are_refused(client: TestClient) -> None:
    assert client.get("/plain", headers={f"x-{k}": "v" for k in range(120)}).status_code == 431
    assert client.get("/plain", headers={"x": "v" * 40_000}).status_code == 431


@pytest.mark.parametrize(
    "claim",
    [
        {"forwarded": "for=1.2.3.4"},
        {"x-forwarded-for": "127.0.0.1"},
        {"X-Forwarded-Host": "127.0.0.1"},
        {"x-forwarded-proto": "https"},
        {"x-real-ip": "1.2.3.4"},
        {"via": "1.1 proxy"},
        {"cf-connecting-ip": "1.2.3.4"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/", "/plain", "/sdapi/v1/echo", "/health"])
def test_what_looks_proxied_is_refused(client: TestClient, claim: dict[str, str], path: str) -> None:
    answer = client.get(path, headers=claim)
    assert answer.status_code == 403
    assert "looks proxied: enable accounts" in answer.text


def test_headers_that_could_move_gradio_do_not_get_in(client: TestClient) -> None:
    inside = client.get("/internal/echo", headers={"x-gradio-server": "http://evil", "x-own": "kept"}).json()["headers"]
    assert inside["x-own"] == "kept"
    assert "x-gradio-server" not in inside


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors", "origin": "http://evil.example"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe", "accept": "text/html"}, 403),
        ({"origin": "http://evil.example"}, 403),
        (
            {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "accept": "text/html"},
            200,
        ),
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, 200),
    ],
    ids=str,
)
def test_other_sites_may_lead_here_and_read_nothing(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.get("/plain", headers=headers).status_code == status


def test_a_foreign_referer_is_as_bad_as_an_origin(client: TestClient) -> None:
    assert client.post("/internal/echo", headers={"referer": "http://evil.example/x"}).status_code == 403
    assert client.post("/internal/echo", headers={"referer": f"{BASE}/x"}).status_code == 200


def test_a_named_site_may_call_the_api_without_cookies(client: TestClient) -> None:
    client.get("/")  # the browser has a cookie now
    origin = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-site"}
    asked = client.options("/sdapi/v1/echo", headers={**origin, "access-control-request-method": "POST"})
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == "http://127.0.0.1:8000"
    assert "access-control-allow-credentials" not in asked.headers
    answer = client.post("/sdapi/v1/echo", headers=origin, json={})
    assert answer.headers["access-control-allow-origin"] == "http://127.0.0.1:8000"
    assert answer.json() == {"user": "local", "bytes": 2, "cookie": ""}
    assert client.post("/internal/echo", headers=origin).status_code == 403, "the API and nothing else"
    assert client.options("/sdapi/v1/echo", headers={"origin": "http://127.0.0.1:8001"}).status_code == 403


@pytest.mark.parametrize("path", ["/gradio_api/file=http://evil.example/x", "/gradio_api/proxy=http://evil", "/monitoring"])
def test_nobody_relays_addresses_or_reads_statistics(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
    assert client.get(path).json() == {"error": "There is nothing here."}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/internal/jobs", "GET, HEAD, POST"),
        ("PUT", "/internal/jobs/x/cancel", "POST"),
        ("POST", "/internal/engine", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_said_to_be_one(client: TestClient, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, path, headers={"origin": BASE})
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_nothing_is_cached_by_paths_of_unknown_clients() -> None:
    """4096 paths of 60 kB stayed in memory: 247 MB for a client that never logged in."""
    rule_for("GET", "/warm")
    tracemalloc.start()
    for number in range(50):
        rule_for("GET", f"/{number}" + "x" * 60_000)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 60_000


@pytest.mark.parametrize("ranges", ["bytes=0-1,3-4", "bytes=" + ",".join("0-0" for _ in range(2000))])
def test_one_range_at_a_time(client: TestClient, ranges: str) -> None:
    assert client.get("/picture", headers={"range": ranges}).status_code == 416
    assert client.get("/picture", headers={"range": "bytes=0-9"}).content == Path(__file__).read_bytes()[:10]


def test_uploads_stop_before_the_disk_is_full(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"x" * (MAX_BODY + 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=middleware.DISK_FLOOR))
    answer = client.post("/sdapi/v1/echo", content=body)
    assert answer.status_code == 507
    assert "nearly full" in answer.json()["detail"]
    assert client.post("/sdapi/v1/echo", content=b"small").status_code == 200
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=middleware.DISK_FLOOR + len(body)))
    assert client.post("/sdapi/v1/echo", content=body).json()["bytes"] == len(body)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 200),
        ("/plain", {}, 200),
        ("/nothing", {}, 404),
        ("/broken", {}, 500),
        ("/plain", {"host": "evil"}, 421),
        ("/plain", {"x": "v" * 40_000}, 431),
    ],
)
def test_every_answer_is_dressed(client: TestClient, path: str, headers: dict[str, str], status: int) -> None:
    answer = client.get(path, headers=headers)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "private, no-store"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert "/home" not in answer.text


def test_scripts_of_a_page_carry_a_fresh_nonce(client: TestClient) -> None:
    nonces = set()
    for _ in range(2):
        answer = client.get("/", headers={"accept": "text/html", "accept-encoding": "gzip, br"})
        (nonce,) = re.findall(r"script-src 'self' 'nonce-([\w-]+)'", answer.headers["content-security-policy"])
        assert "'unsafe-inline'" not in answer.headers["content-security-policy"].split("style-src")[0]
        assert answer.text == (
            f'<!doctype html><script nonce="{nonce}">var x = "<script src=evil>";</script>'
            f'<script nonce="{nonce}" src="a.js"></script><p>text</p>'
        )
        assert int(answer.headers["content-length"]) == len(answer.content)
        nonces.add(nonce)
    assert len(nonces) == 2


def whoami(client: TestClient, **headers: str) -> str:
    return str(client.get("/internal/echo", headers=headers).json()["user"])


def test_all_browsers_are_the_machines_one_user(visitor: Callable[[], TestClient]) -> None:
    one, other = visitor(), visitor()
    answer = one.get("/")
    assert re.fullmatch(
        r"atelier_\d+=[\w-]{32}; Path=/; Max-Age=34560000; HttpOnly; SameSite=Strict", answer.headers["set-cookie"]
    )
    assert whoami(one) == whoami(other) == "owner"
    assert one.cookies != other.cookies
    for elsewhere in ("http://localhost:7860", "http://[::1]:7860"):
        assert whoami(other, host=elsewhere.removeprefix("http://")) == "owner"


def test_a_visit_from_another_site_acts_for_nobody(client: TestClient) -> None:
    visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "accept": "text/html"}
    assert client.get("/internal/echo", headers=visit).json()["user"] == ""
    assert client.get("/internal/echo", headers={"sec-fetch-site": "same-site"}).status_code == 403


def test_a_link_from_another_site_does_not_replace_the_identity(client: TestClient) -> None:
    user = whoami(client)
    cookies = dict(client.cookies)
    client.cookies.clear()  # as a browser does with Strict cookies on such a visit
    assert "set-cookie" not in client.get("/", headers={"sec-fetch-site": "cross-site"}).headers
    client.cookies.update(cookies)
    assert whoami(client) == user


@pytest.mark.parametrize("value", ["short", "x" * 65, "ä" * 40, "a b" * 12, "../../etc/passwd" * 3, ""])
def test_made_up_cookies_are_replaced(client: TestClient, value: str) -> None:
    answer: Any = client.get("/internal/echo", headers={"cookie": f"atelier_7860={value}".encode()})  # type: ignore[dict-item]
    assert "set-cookie" in answer.headers


def test_nobody_is_nobody_where_no_identity_is_given(client: TestClient) -> None:
    assert client.get("/plain").json()["user"] == ""
