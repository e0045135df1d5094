"""A instance with accounts from outside: who gets in, what they reach of others, what is told (S10, S11, S17, S19-S21, S35).

Every route, role and owner in detail: `tests/api/guard/test_access.py`; here the real program answers over the wire.
"""

from __future__ import annotations

import base64
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modules.settings import ROOT
from tests.security.instance import RunningInstance, Visitor, opened, settled
from tests.security.pictures import png
from tests.security.raw import Reply
from tests.security.routes import Way

PASSWORD = "canary-password-Zebra7"
CODE = re.compile(r"[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}")
PAGE = [("Accept", "text/html")]
PUBLIC = re.compile(r"/(health|login|setup|invite|door/.*)")
PICTURE = [("Content-Type", "image/png")]


class Family:
    """Ada rules, Bob and Carol paint, Vera may look; `token` is an API token of Bob's."""

    def __init__(self, instance: RunningInstance) -> None:
        self.instance = instance
        found = CODE.search(instance.told)
        assert found
        self.ada = self._join("Ada", found[0])
        self.bob, self.carol = self._join("Bob", self._invited("user")), self._join("Carol", self._invited("user"))
        self.vera = self._join("Vera", self._invited("viewer"))
        assert self.bob.fill_in("/account/tokens", label="x").status == 303
        shown = re.search(r"[A-Za-z0-9_-]{32,}", re.sub(r"(?s).*new token", "", self.bob.ask("/account", headers=PAGE).text))
        assert shown
        self.token = shown[0]

    def _join(self, name: str, code: str) -> Visitor:
        visitor = Visitor(self.instance)
        reply = visitor.fill_in("/invite", code=code, name=name, password=PASSWORD)
        assert (reply.status, list(visitor.cookies)) == (303, [f"sid_{self.instance.port}"]), reply.text
        return visitor

    def _invited(self, role: str) -> str:
        assert self.ada.fill_in("/account/invitations", role=role, hours="24").status == 303
        found = CODE.search(self.ada.ask("/account", headers=PAGE).text)
        assert found
        return found[0]


@pytest.fixture(scope="module")
def accounts_instance(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[RunningInstance]:
    first = ("accounts", "invite", "--role", "administrator")
    with opened(tmp_path_factory.mktemp("home") / "home", models, "--require-token", first=first) as instance:
        yield instance


@pytest.fixture(scope="module")
def family(accounts_instance: RunningInstance) -> Family:
    return Family(accounts_instance)


@pytest.fixture(scope="module")
def painted(family: Family) -> tuple[str, str]:
    """A finished job of Bob's, and the id of a source picture of his."""
    job = family.bob.post("/internal/jobs", {"prompt": "bobs secret cat", "width": 64, "height": 64, "steps": 1}).json()["id"]
    assert settled(family.bob, job)["state"] == "done"
    return job, family.bob.ask("/internal/sources", "POST", PICTURE, body=png(40, 40, seed=3)).json()["id"]


def test_s11_without_a_name_nothing_answers(accounts_instance: RunningInstance, family: Family, ways: list[Way]) -> None:
    """Every method of every route there is, and every other method on it: 401, but for what is public."""
    asked = 0
    for way in ways:
        target = way.filled()
        if PUBLIC.fullmatch(way.path.replace("{rest}", "x")):
            continue
        for method in {way.method, "GET", "POST", "PUT", "DELETE"}:
            reply = accounts_instance.ask(target, method)
            assert reply.status in (401, 404) or (reply.status == 405 and method != way.method), (way, method, reply.status)
            if method == way.method:
                forbidden_to_all = reply.status == 404 and way.path.startswith(("/gradio_api", "/monitoring"))
                assert reply.status == 401 or forbidden_to_all, (way, reply.status)
            assert not reply.all("set-cookie")
            asked += 1
    assert asked > 400


@pytest.mark.parametrize(
    "target",
    [
        "//",
        "/./",
        "/%2e/config",
        "/CONFIG",
        "/config;x",
        "/config/",
        "/config%20",
        "//config",
        "/health/../config",
        "/health%2f..%2fconfig",
    ],
)
def test_s12_no_spelling_of_a_path_gets_past(accounts_instance: RunningInstance, family: Family, target: str) -> None:
    reply = accounts_instance.ask(target.encode())
    assert reply.status in (400, 401, 404), reply.status
    assert "components" not in reply.text


@pytest.mark.parametrize(
    "header",
    [
        *(
            "Bearer x",
            "Bearer ",
            "Bearer null",
            "Basic x",
            "Basic Og==",
            "Basic " + base64.b64encode(b"Ada:").decode(),
            "Digest x",
        ),
        *("Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(), "Bearer " + "a" * 20_000, "Negotiate x", "bearer\tx"),
    ],
)
def test_s11_headers_that_show_nothing(accounts_instance: RunningInstance, family: Family, header: str) -> None:
    for target in ("/sdapi/v1/options", "/internal/jobs", "/"):
        assert accounts_instance.ask(target, headers=[("Authorization", header)]).status in (400, 401, 429)


def test_s11_a_token_opens_the_api_and_not_the_account(accounts_instance: RunningInstance, family: Family) -> None:
    basic = base64.b64encode(f"Bob:{family.token}".encode()).decode()
    for shown in (f"Bearer {family.token}", f"Basic {basic}"):
        program = Visitor(accounts_instance, [("Authorization", shown)])
        assert program.ask("/api/v1/jobs").status == 200
        assert program.ask("/sdapi/v1/options").status == 200
        assert program.ask("/account", headers=PAGE).status == 403
        assert program.fill_in("/account/tokens", label="more").status == 403
        assert program.fill_in("/account/password", old=PASSWORD, new="something else").status == 403


def test_s17_no_server_for_others_without_an_account(tmp_path: Path) -> None:
    """Where nobody reads a set-up code, it does not start at all, and says what to do; nothing listens meanwhile."""
    command = [sys.executable, "-m", "modules.cli", "serve", "--port", "0", "--no-browser", "--require-token"]
    folders = ["--data-dir", str(tmp_path / "data"), "--outputs-dir", str(tmp_path / "out"), "--models-dir", str(tmp_path)]
    done = subprocess.run([*command, *folders], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 2
    assert "accounts invite" in done.stderr
    assert "Traceback" not in done.stderr


def test_s17_a_local_instance_listens_on_loopback_only(instance: RunningInstance) -> None:
    table = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
    addresses = {address.split(":")[0] for address in listening if int(address.split(":")[1], 16) == instance.port}
    assert addresses == {"0100007F"}


def test_s20_another_users_data_is_not_reached(family: Family, painted: tuple[str, str]) -> None:
    job, source = painted
    ways = [
        *(("GET", f"/internal/jobs/{job}{rest}") for rest in ("", "/preview", "/events", "/zip")),
        *(("GET", f"/internal/pictures/{job}/0{rest}") for rest in ("", "/thumbnail", "?download=1")),
        *(("GET", f"/api/v1/jobs/{job}{rest}") for rest in ("", "/events", "/pictures/0", "/pictures/0/infotext")),
        *(
            ("POST", f"/internal/jobs/{job}/{act}")
            for act in ("cancel", "skip", "interrupt", "retry", "remove", "move", "delete")
        ),
        ("POST", f"/internal/pictures/{job}/0/delete"),
        *(("POST", f"/api/v1/jobs/{job}/{act}") for act in ("cancel", "skip", "interrupt")),
        ("GET", f"/internal/sources/{source}"),
    ]
    for other in (family.carol, family.vera, family.ada):
        for method, target in ways:
            reply = other.ask(target, method, json={"to": 0, "before": None} if method == "POST" else None)
            expected = (403,) if other is family.vera and method == "POST" else (404, 422)
            assert reply.status in expected, (target, reply.status)
            assert "secret cat" not in reply.text
        for target in ("/internal/jobs", "/internal/queue", "/api/v1/jobs", "/sdapi/v1/progress", "/internal/progress"):
            assert "secret cat" not in other.ask(target).text
            assert job not in other.ask(target).text
    assert family.bob.ask(f"/internal/pictures/{job}/0").status == 200


def test_s20_a_picture_cannot_be_painted_from_by_its_number_alone(family: Family, painted: tuple[str, str]) -> None:
    reply = family.carol.post("/internal/jobs", {"prompt": "x", "width": 64, "height": 64, "steps": 1, "source": painted[1]})
    assert reply.status == 422
    assert "is not here" in reply.text


def test_s20_a_viewer_looks_and_changes_nothing(family: Family) -> None:
    request = {"prompt": "x", "width": 64, "height": 64, "steps": 1}
    targets = ("/internal/jobs", "/api/v1/jobs", "/api/v1/forever", "/sdapi/v1/txt2img", "/internal/queue/pause")
    for target in (*targets, "/sdapi/v1/options"):
        assert family.vera.post(target, request).status == 403, target
    assert family.vera.ask("/internal/sources", "POST", PICTURE, body=png(8, 8)).status == 403
    config = family.vera.ask("/config").json()
    for call in config["dependencies"]:
        body = {"data": [None] * len(call["inputs"]), "fn_index": call["id"], "session_hash": "v"}
        family.vera.post("/gradio_api/queue/join", body)
    assert family.vera.ask("/internal/jobs").json() == []


def test_s20_only_administrators_rule(family: Family) -> None:
    for person in (family.bob, family.vera):
        for act in ("role", "disable", "enable", "remove", "reset", "end"):
            assert person.fill_in(f"/account/people/x/{act}", role="administrator").status == 403
        assert person.fill_in("/account/invitations", role="administrator", hours="24").status == 403
        assert person.ask("/gradio_api/file=/etc/passwd").status == 403


def test_s21_without_the_code_nobody_becomes_the_first(accounts_instance: RunningInstance, family: Family) -> None:
    eve = Visitor(accounts_instance)
    for path in ("/setup", "/invite"):
        for code in ("", "AAAA-AAAA-AAAA-AAAA", "0" * 3000):
            reply = eve.fill_in(path, code=code, name="Eve", password=PASSWORD)
            assert reply.status in (303, 403, 413, 429), (path, reply.status)
            assert reply.header("location") in ("", "/login")
    assert not eve.cookies


@pytest.mark.parametrize(
    "target", ["//evil.example", "/\\evil.example", "////evil.example", "https://evil.example", "/%2fevil.example", "\t//evil"]
)
def test_s35_logging_in_leads_nowhere_else(accounts_instance: RunningInstance, family: Family, target: str) -> None:
    visitor = Visitor(accounts_instance)
    reply = visitor.fill_in("/login", name="Carol", password=PASSWORD, next=target)
    assert reply.status == 303
    assert reply.header("location") == "/"
    assert "evil" not in visitor.ask("/login?next=" + target.replace("\t", "%09").replace("\\", "%5c")).header("location")
    assert "evil" not in visitor.fill_in("/logout", next=target).header("location")


def guess(accounts_instance: RunningInstance, name: str, password: str) -> Reply:
    return Visitor(accounts_instance).fill_in("/login", name=name, password=password)


def test_s19_guessing_is_slowed_down_and_nobody_is_told_who_exists(accounts_instance: RunningInstance, family: Family) -> None:
    said = [guess(accounts_instance, "Vera", f"wrong {number}") for number in range(40)]
    assert {reply.status for reply in said} == {401, 429}
    late = [reply for reply in said if reply.status == 429]
    assert len(late) >= 30
    assert all(int(reply.header("retry-after")) >= 1 for reply in late)
    unknown = guess(accounts_instance, "Nobody-of-that-name", "wrong")
    assert unknown.status == 401
    first = next(reply for reply in said if reply.status == 401)
    assert re.sub("Nobody-of-that-name|Vera", "N", unknown.text) == re.sub("Nobody-of-that-name|Vera", "N", first.text)


@pytest.mark.parametrize("password", ["ü" * 20, "a:b", "x" * 2000, "x" * 15_000, "\x00", "😀", ""])
def test_s19_odd_passwords_are_only_wrong(accounts_instance: RunningInstance, family: Family, password: str) -> None:
    assert guess(accounts_instance, f"Odd{len(password)}", password).status in (401, 413, 422, 429)


def test_s10_no_secret_is_told_or_written(accounts_instance: RunningInstance, family: Family, ways: list[Way]) -> None:
    """Of all that the others said and this program printed or keeps: no password, no token, no session."""
    secrets = [PASSWORD, family.token, *(v for p in (family.ada, family.bob, family.carol) for v in p.cookies.values() if v)]
    for way in ways:
        if way.method == "GET" and not any(
            w in way.path for w in ("events", "queue/data", "heartbeat", "stream", "reload", "progress")
        ):
            family.ada.ask(way.filled())
    shown_once = 0
    for what, reply in accounts_instance.heard:
        for secret in secrets:
            if secret in reply.text:
                assert what.startswith("GET '/account'"), what
                assert secret == family.token
                shown_once += 1
    assert shown_once <= 1
    kept = [file for file in accounts_instance.data.rglob("*") if file.is_file()]
    for file in [accounts_instance.log, *kept]:
        data = file.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in data], file


def test_s40_the_sessions_cookie_is_for_no_script(accounts_instance: RunningInstance, family: Family) -> None:
    (cookie,) = Visitor(accounts_instance).fill_in("/login", name="Bob", password=PASSWORD).all("set-cookie")
    assert cookie.startswith(f"sid_{accounts_instance.port}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}


def test_s18_a_claimed_address_does_not_change_whose_guesses_count(accounts_instance: RunningInstance, family: Family) -> None:
    said = []
    for number in range(20):
        visitor = Visitor(accounts_instance, [("X-Forwarded-For", f"10.0.0.{number}"), ("X-Forwarded-Host", "evil.example")])
        said.append(visitor.fill_in("/login", name="Claimed", password="wrong"))
    assert sum(reply.status == 429 for reply in said) >= 10
    assert "evil" not in family.ada.ask("/config", headers=[("X-Forwarded-Host", "evil.example")]).json()["root"]


def test_s30_a_server_with_accounts_is_not_held_open_either(accounts_instance: RunningInstance) -> None:
    idle = [socket.create_connection(("127.0.0.1", accounts_instance.port), timeout=60) for _ in range(100)]
    assert accounts_instance.ask("/health").status == 200
    for connection in idle:
        connection.close()
