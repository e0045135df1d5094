"""Other sites and other names: CSRF, rebinding, CORS, null origins, forwarded headers, framing (S12-S16, S18, S40)."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pytest

from tests.security.instance import RunningInstance, Visitor
from tests.security.routes import Way

PAGE = [("Accept", "text/html")]
ENDLESS = ("events", "queue/data", "heartbeat", "stream", "progress", "dev/reload")
"""Parts of the paths of answers that go on and on."""
EVIL = "http://evil.example"
HOSTS = [
    *("evil.example", "evil.example:{port}", "[::1].evil", "[::1].evil:{port}", "localhost.:{port}", "127.0.0.1.:{port}", ""),
    *("0.0.0.0:{port}", "192.168.1.5:{port}", "10.0.0.1", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "localhost.evil"),
    *("evil.example#127.0.0.1", "2130706433:{port}", "0x7f000001", "017700000001", "127.1:{port}", "[::]:{port}"),
    *("[::ffff:192.168.1.5]", "localhost:{port}:80", "localhost evil.example", "xn--lcalhost-n2a", "localhost%00.evil"),
]


def test_s12_a_path_in_the_host_is_no_host(instance: RunningInstance) -> None:
    for trick in ("/health?x=", "/health#", "?/health", "\\health", "/login", "%2fhealth", ";/health", "@health"):
        assert instance.ask("/config", host=f"127.0.0.1:{instance.port}{trick}").status in (400, 421), trick


def test_s12_one_host_and_no_more(instance: RunningInstance) -> None:
    mine = f"127.0.0.1:{instance.port}"
    for first, second in ((mine, mine), (mine, "evil.example"), ("evil.example", mine)):
        reply = instance.ask("/config", host=None, headers=[("Host", first), ("Host", second)])
        assert reply.status in (400, 421)
    assert instance.ask("/config", host=None).status in (400, 421)
    assert instance.ask(f"http://evil.example:{instance.port}/config").status != 200, "a whole address as target"


@pytest.mark.parametrize("host", HOSTS)
def test_s14_other_names_are_not_answered(instance: RunningInstance, host: str) -> None:
    named = host.format(port=instance.port)
    for target in (
        "/",
        "/config",
        "/internal/engine",
        "/sdapi/v1/options",
        "/api/v1/jobs",
        "/gradio_api/queue/data",
        "/health",
    ):
        reply = instance.ask(target, host=named or None, headers=[] if named else [("Host", "")])
        assert reply.status in (400, 421), (target, reply.status)
        assert not reply.all("set-cookie")


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "[::1]:{port}", "127.0.0.1"])
def test_s14_its_own_names_are(instance: RunningInstance, host: str) -> None:
    assert instance.ask("/health", host=host.format(port=instance.port)).status == 200


BODIES = {
    "application/json": b'{"prompt": "evil", "width": 64, "height": 64, "steps": 1, "image": "", "data": [], "fn_index": 0}',
    "text/plain": b'{"prompt": "evil", "width": 64, "height": 64, "steps": 1}',
    "application/x-www-form-urlencoded": b"prompt=evil&width=64",
    "multipart/form-data; boundary=b": b'--b\r\nContent-Disposition: form-data; name="files"; filename="e"\r\n\r\nx\r\n--b--',
}


def foreign(port: int) -> list[list[tuple[str, str]]]:
    return [
        [("Origin", EVIL)],
        [("Origin", "null")],
        [("Origin", f"http://127.0.0.1:{port + 1}")],
        [("Referer", f"{EVIL}/page")],
        [("Origin", f"http://localhost:{port}")],
        [("Sec-Fetch-Site", "cross-site")],
        [("Sec-Fetch-Site", "same-site"), ("Origin", f"http://127.0.0.1:{port}")],
    ]


def kept_files(instance: RunningInstance) -> list[Path]:
    """All in the data folder but the gallery's index, which a thread of the server makes whenever it comes to it."""
    return sorted(path for path in instance.data.rglob("*") if not path.name.startswith("gallery.sqlite"))


def test_s13_no_route_does_anything_for_another_site(instance: RunningInstance, ways: list[Way], browser: Visitor) -> None:
    """Every method of every route that changes something, with the visitor's own cookie, in all ways from elsewhere."""
    changing = [way for way in ways if way.method not in ("GET", "HEAD", "OPTIONS")]
    assert len(changing) > 60
    jobs = len(instance.ask("/internal/queue", headers=[("Cookie", "x=y")]).text)
    files = kept_files(instance)
    kinds = cycle(BODIES.items())
    for way in changing:
        for headers in foreign(instance.port):
            kind, body = next(kinds)
            reply = browser.ask(way.filled(), way.method, [*headers, ("Content-Type", kind)], body=body)
            assert reply.status in (403, 415), (way, headers, kind, reply.status)
    assert kept_files(instance) == files
    assert len(instance.ask("/internal/queue", headers=[("Cookie", "x=y")]).text) == jobs


@pytest.mark.parametrize("kind", [kind for kind in BODIES if kind != "application/json"])
def test_s13_a_form_is_no_json(browser: Visitor, kind: str) -> None:
    """What a browser may send across sites without asking first is no order, even from our own page."""
    fields = b'{"prompt": "x", "width": 64, "height": 64, "steps": 1}'
    for target in ("/internal/jobs", "/sdapi/v1/txt2img", "/api/v1/jobs"):
        reply = browser.ask(target, "POST", [("Content-Type", kind)], body=fields)
        assert reply.status in (400, 415, 422), (target, reply.status)


def test_s13_looking_changes_nothing(instance: RunningInstance, ways: list[Way], browser: Visitor) -> None:
    before = browser.ask("/internal/jobs").text
    for way in ways:
        if way.method == "GET" and not any(word in way.path for word in ENDLESS):
            browser.ask(way.filled())
    assert browser.ask("/internal/jobs").text == before


@pytest.mark.parametrize("origin", [EVIL, "http://127.0.0.1", "https://localhost", "null", "http://192.168.1.5"])
@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}", "192.168.1.5:{port}", "mybox.local"])
def test_s15_no_other_site_may_read(instance: RunningInstance, host: str, origin: str) -> None:
    named = host.format(port=instance.port)
    for target in ("/", "/config", "/internal/engine", "/sdapi/v1/options", "/api/v1/jobs", "/gradio_api/info", "/health"):
        for method, more in (("GET", []), ("OPTIONS", [("Access-Control-Request-Method", "POST")])):
            reply = instance.ask(target, method, [("Origin", origin), *more], host=named)
            assert not [name for name, _ in reply.headers if name.lower().startswith("access-control-")]
            assert reply.status in (400, 403, 405, 421), (target, method, reply.status)


@pytest.mark.parametrize("origin", ["null", "", "https://", "file://", "http://", "://", " ", "nonsense", "http://[", "data:,"])
def test_s16_an_origin_that_is_none_is_not_ours(instance: RunningInstance, origin: str) -> None:
    for target in ("/internal/jobs", "/sdapi/v1/txt2img", "/gradio_api/queue/join", "/gradio_api/upload"):
        reply = instance.ask(target, "POST", [("Origin", origin)], json={"prompt": "x"})
        assert reply.status == 403, (target, reply.status)


CLAIMS = [
    *(("X-Forwarded-Host", "evil.example"), ("X-Forwarded-For", "10.1.2.3"), ("X-Forwarded-Proto", "https")),
    *(("X-Forwarded-Prefix", "/evil"), ("Forwarded", "for=10.1.2.3;host=evil.example"), ("X-Real-IP", "10.1.2.3")),
    *(("Via", "1.1 evil"), ("X-Original-URL", "/health"), ("CF-Connecting-IP", "10.1.2.3")),
]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim[0])
def test_s18_a_local_instance_answers_no_proxy(instance: RunningInstance, claim: tuple[str, str]) -> None:
    for target in ("/", "/config", "/sdapi/v1/options", "/internal/engine"):
        reply = instance.ask(target, headers=[claim, *PAGE])
        assert reply.status == 403
        assert "proxied" in reply.text


def test_s18_nor_one_that_speaks_http_1_0(instance: RunningInstance) -> None:
    assert instance.ask("/config", version="1.0").status == 403


def test_s18_nothing_turns_the_address_that_it_takes_for_its_own(instance: RunningInstance, browser: Visitor) -> None:
    for claim in (("X-Gradio-Server", EVIL), ("X-Rewrite-URL", EVIL), ("X-Host", "evil.example"), ("X-Url-Scheme", "evil")):
        reply = browser.ask("/config", headers=[claim])
        assert reply.status == 200
        assert "evil" not in reply.json()["root"]
        assert "evil" not in browser.ask("/", headers=[claim, *PAGE]).text.lower().replace("medieval", "")


def test_s40_every_kind_of_answer_is_dressed(instance: RunningInstance, browser: Visitor, ways: list[Way]) -> None:
    """The page, data, files, errors: the same headers on all of them, and the strictest policy on what is no page."""
    for way in ways:
        if way.method != "GET" or any(word in way.path for word in ENDLESS):
            continue
        reply = browser.ask(way.filled(), headers=PAGE)
        assert reply.header("x-content-type-options") == "nosniff", way
        assert reply.header("x-frame-options") == "DENY", way
        assert reply.header("cross-origin-resource-policy") == "same-origin", way
        assert reply.header("cross-origin-opener-policy") == "same-origin", way
        assert reply.header("referrer-policy") == "no-referrer", way
        assert reply.header("cache-control"), way
        policy = reply.header("content-security-policy")
        assert "frame-ancestors 'none'" in policy, way
        assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0], way
        if not reply.header("content-type").startswith("text/html"):
            assert policy.startswith("default-src 'none'"), way
            assert "sandbox" in policy, way
        assert not reply.header("server"), way


def test_s40_the_page_has_a_nonce_of_its_own_each_time(browser: Visitor) -> None:
    policies = {browser.ask("/", headers=PAGE).header("content-security-policy") for _ in range(3)}
    assert len(policies) == 3


def test_s40_cookies_are_for_this_port_and_for_no_script(instance: RunningInstance) -> None:
    (cookie,) = instance.ask("/", headers=PAGE).all("set-cookie")
    assert cookie.startswith(f"atelier_{instance.port}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
