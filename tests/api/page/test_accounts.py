"""The login pages as a browser meets them: setting up, being invited, logging in, one's account, going."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from modules.accounts import Account
from modules.accounts.store import TOUCH_SECONDS
from tests.api.people import BASE, PASSWORD, AccountsServer, accounts_server
from tests.ui.fake_app import FakeApp


@pytest.fixture
def app(tmp_path: Path) -> FakeApp:
    return FakeApp(tmp_path)


@pytest.fixture
def instance(app: FakeApp) -> Iterator[AccountsServer]:
    with accounts_server(app) as made:
        yield made


@pytest.fixture
def ada(instance: AccountsServer) -> Account:
    return instance.person("Ada", "administrator")


@pytest.fixture
def bob(instance: AccountsServer, ada: Account) -> Account:
    return instance.person("Bob")


def log_in(client: TestClient, name: str, password: str = PASSWORD, **more: str) -> int:
    return client.post("/login", data={"name": name, "password": password, **more}).status_code


def cookie_of(answer: object) -> str:
    return str(answer.headers["set-cookie"])  # type: ignore[attr-defined]


# ---- the first administrator


def test_the_first_one_comes_in_by_the_code_from_the_console(instance: AccountsServer) -> None:
    client, code = instance.client(), instance.accounts.setup_code()
    assert client.get("/", headers={"accept": "text/html"}).headers["location"] == "/setup"
    assert client.get("/login").headers["location"] == "/setup"
    assert 'name="code"' in client.get("/setup").text
    assert client.get(f"/setup?code={code}").status_code == 200
    answer = client.post("/setup", data={"code": code, "name": "Ada", "password": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert client.get("/internal/account").json() == {"mode": "accounts", "name": "Ada", "role": "administrator"}
    again = instance.client()
    assert again.get(f"/setup?code={code}").headers["location"] == "/login"
    assert again.post("/setup", data={"code": code, "name": "Eve", "password": PASSWORD}).headers["location"] == "/login"
    assert [account.name for account in instance.store.accounts()] == ["Ada"]


@pytest.mark.parametrize("code", ["", "ABCD-ABCD-ABCD-ABCD", "x" * 5000, "😀"])
def test_without_the_code_nobody_becomes_anything(instance: AccountsServer, code: str) -> None:
    instance.accounts.setup_code()
    answer = instance.client().post("/setup", data={"code": code, "name": "Eve", "password": PASSWORD})
    assert answer.status_code == 403
    assert "does not work" in answer.text
    assert instance.store.accounts() == []


def test_the_code_ends_after_ten_minutes(instance: AccountsServer) -> None:
    code = instance.accounts.setup_code()
    instance.clock.now += 601
    assert instance.client().post("/setup", data={"code": code, "name": "Eve", "password": PASSWORD}).status_code == 403


# ---- invitations


def test_an_invitation_from_making_to_painting(instance: AccountsServer, ada: Account, app: FakeApp) -> None:
    boss = instance.client(ada)
    answer = boss.post("/account/invitations", data={"role": "user", "hours": "24"})
    assert answer.headers["location"] == "/account"
    shown = boss.get("/account").text
    assert "<svg" in shown
    link = re.search(rf"{BASE}(/invite\?code=[0-9A-Z-]+)", shown)
    assert link is not None
    assert "<svg" not in boss.get("/account").text, "shown once"

    guest = instance.client()
    for _ in range(3):  # previews of the link in a chat do not use it up
        assert "You will be a user" in guest.get(link[1]).text
    code = link[1].rpartition("=")[2]
    short = guest.post("/invite", data={"code": code, "name": "Bob", "password": "short"})
    assert short.status_code == 422
    assert 'value="Bob"' in short.text
    taken = guest.post("/invite", data={"code": code, "name": "ADA", "password": PASSWORD})
    assert taken.status_code == 422
    assert "take another name" in taken.text
    assert guest.post("/invite", data={"code": code, "name": "Bob", "password": PASSWORD}).status_code == 303
    assert guest.post("/internal/jobs", json={"prompt": "x"}).status_code == 201
    user, _ = next(iter(app.records.values()))
    assert re.fullmatch(r"account-[0-9a-f]{20}", user)
    assert instance.client().post("/invite", data={"code": code, "name": "Eve", "password": PASSWORD}).status_code == 403


def test_an_invitation_can_be_withdrawn_and_makes_sense(instance: AccountsServer, ada: Account) -> None:
    boss = instance.client(ada)
    for data in ({"role": "king", "hours": "1"}, {"role": "user", "hours": "0"}, {"role": "user", "hours": "99999"}, {}):
        assert boss.post("/account/invitations", data=data).status_code == 422
    assert instance.store.codes() == []
    boss.post("/account/invitations", data={"role": "viewer", "hours": "1"})
    (code,) = instance.store.codes()
    boss.post(f"/account/invitations/{code.id}/withdraw")
    assert instance.store.codes() == []


def test_links_are_made_for_where_others_reach_us(instance: AccountsServer, ada: Account) -> None:
    here = instance.client(ada, base="http://127.0.0.1:7860", address="127.0.0.1")
    here.post("/account/invitations", data={"role": "user", "hours": "1"})
    assert f"{BASE}/invite?code=" in here.get("/account").text


# ---- logging in and out


def test_in_and_out(instance: AccountsServer, ada: Account) -> None:
    client = instance.client()
    assert client.get("/internal/jobs").status_code == 401
    answer = client.post("/login", data={"name": "ada", "password": PASSWORD, "next": "/account"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    assert re.fullmatch(r"sid_7860=[\w-]{43}; Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict", cookie_of(answer))
    assert client.get("/internal/jobs").status_code == 200
    assert client.get("/login").headers["location"] == "/"
    secret = client.cookies["sid_7860"]
    out = client.post("/logout")
    assert out.headers["location"] == "/login"
    assert "Max-Age=0" in cookie_of(out)
    client.cookies.set("sid_7860", secret)
    assert client.get("/internal/jobs").status_code == 401, "the session is over on the server too"


def test_the_cookie_is_secure_under_https(instance: AccountsServer, ada: Account) -> None:
    client = instance.client(base="https://192.168.1.5:7860")
    assert "; Secure" in cookie_of(client.post("/login", data={"name": "Ada", "password": PASSWORD}))


def test_the_cookie_lives_on_with_the_session(instance: AccountsServer, ada: Account) -> None:
    client = instance.client(ada)
    assert "set-cookie" not in client.get("/internal/jobs").headers
    instance.clock.now += TOUCH_SECONDS + 1
    assert "Max-Age=2592000" in cookie_of(client.get("/internal/jobs"))
    assert "set-cookie" not in client.get("/internal/jobs").headers


@pytest.mark.parametrize(
    ("name", "password", "status"),
    [
        ("Ada", "wrong password", 401),
        ("nobody", PASSWORD, 401),
        ("", "", 401),
        ("Ada", "ü", 401),
        ("Ada", "a:b", 401),
        ("Ada", "x" * 1025, 413),
        ("Ada", "x" * 1_000_000, 413),
        ("x" * 10_000, PASSWORD, 401),
        ("<img src=x onerror=alert(1)>", PASSWORD, 401),
    ],
)
def test_wrong_logins_are_refused(instance: AccountsServer, ada: Account, name: str, password: str, status: int) -> None:
    answer = instance.client().post("/login", data={"name": name, "password": password})
    assert answer.status_code == status
    assert "set-cookie" not in answer.headers
    assert "<img" not in answer.text


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"name=Ada&password=%ff%fe", "application/x-www-form-urlencoded", 422),
        ("name=Ada&password=ü".encode(), "application/x-www-form-urlencoded", 422),
        (b"&".join(b"a=%d" % n for n in range(100)), "application/x-www-form-urlencoded", 422),
        (b"name=Ada&password=%ED%A0%80", "application/x-www-form-urlencoded", 422),
        (b'{"name": "Ada"}', "application/json", 422),
        (b"name=Ada", "text/plain", 422),
        (b"", "application/x-www-form-urlencoded", 401),
    ],
)
def test_forms_that_are_none(instance: AccountsServer, ada: Account, body: bytes, kind: str, status: int) -> None:
    assert instance.client().post("/login", content=body, headers={"content-type": kind}).status_code == status


def test_guessing_is_slowed_down_and_nobody_is_locked_out(instance: AccountsServer, ada: Account) -> None:
    client = instance.client()
    said = [log_in(client, "Ada", "a guess") for _ in range(200)]
    assert said.count(429) == 195
    answer = client.post("/login", data={"name": "Ada", "password": PASSWORD})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "2"
    assert "Try again in" in answer.text
    assert log_in(instance.client(address="192.168.1.99"), "Ada") == 303, "from another address it works at once"
    instance.patience.now += 2
    assert log_in(client, "Ada") == 303


def test_what_a_proxy_would_say_does_not_change_who_is_slowed_down(instance: AccountsServer, ada: Account) -> None:
    client = instance.client()
    said = []
    for n in range(10):
        data = {"name": "Ada", "password": "a guess"}
        said.append(client.post("/login", data=data, headers={"x-forwarded-for": f"10.0.0.{n}"}).status_code)
    assert said == [401] * 5 + [429] * 5


def test_a_trusted_proxy_is_believed(app: FakeApp) -> None:
    with accounts_server(app, proxies=("10.0.0.0/8",), hosts=frozenset({"studio.example"})) as instance:
        ada = instance.person("Ada", "administrator")
        client = instance.client(base="http://studio.example", address="10.0.0.2")
        told = {"x-forwarded-for": "203.0.113.9, 198.51.100.7, 10.0.0.3", "x-forwarded-proto": "https"}
        answer = client.post("/login", data={"name": "Ada", "password": PASSWORD}, headers=told)
        assert "; Secure" in cookie_of(answer)
        assert instance.store.sessions(ada.id)[0].address == "198.51.100.7", "the first hop that is no proxy of ours"
        other = instance.client(base="http://studio.example", address="11.0.0.2")
        other.post("/login", data={"name": "Ada", "password": PASSWORD}, headers=told)
        assert instance.store.sessions(ada.id)[0].address == "11.0.0.2"


@pytest.mark.parametrize(
    "target",
    [
        *(
            "//evil.example",
            "/\\evil.example",
            "////evil.example",
            "https://evil.example",
            "/account/../..//evil",
            "javascript:alert(1)",
        ),
        *("/account\r\nLocation: http://evil", "/logout", "/account#@evil", "\\\\evil", "/%2f/evil.example", "/.evil.example"),
    ],
)
def test_nobody_is_led_elsewhere(instance: AccountsServer, ada: Account, target: str) -> None:
    client = instance.client()
    assert f'value="{target}"' not in client.get("/login", params={"next": target}).text
    answer = client.post("/login", data={"name": "Ada", "password": PASSWORD, "next": target})
    assert answer.headers["location"] == "/"
    assert client.get("/login", params={"next": target}).headers["location"] == "/"


# ---- programs


def basic(name: str, secret: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


def test_tokens_open_the_api_and_not_the_account(instance: AccountsServer, ada: Account, bob: Account) -> None:
    page = instance.client(bob)
    page.post("/account/tokens", data={"label": "Krita"})
    found = re.search(r"atelier_[\w-]{43}", page.get("/account").text)
    assert found is not None
    assert found[0] not in page.get("/account").text, "shown once"
    client = instance.client()
    for headers in ({"authorization": f"Bearer {found[0]}"}, basic("Bob", found[0]), basic("bob", PASSWORD)):
        assert client.get("/internal/account", headers=headers).json()["name"] == "Bob"
        assert client.post("/account/tokens", data={"label": "more"}, headers=headers).status_code == 403
        assert client.get("/account", headers=headers).status_code == 403
    (token,) = instance.store.tokens(bob.id)
    page.post(f"/account/tokens/{token.id}/revoke")
    assert client.get("/internal/account", headers={"authorization": f"Bearer {found[0]}"}).status_code == 401


@pytest.mark.parametrize(
    "header", ["Bearer x", "Bearer ", "Basic", "Basic !!!", "Basic QQ==", "Basic Og==", "Digest x", "Negotiate", "x" * 9000]
)
def test_headers_that_show_nothing_are_refused_even_beside_a_cookie(
    instance: AccountsServer, ada: Account, header: str
) -> None:
    client = instance.client(ada)
    assert client.get("/internal/account", headers={"authorization": header}).status_code == 401
    assert client.get("/internal/account").status_code == 200


def test_programs_are_slowed_down_as_people_are(instance: AccountsServer, ada: Account) -> None:
    client = instance.client()
    said = [client.get("/sdapi/v1/options", headers=basic("Ada", "guess")).status_code for _ in range(8)]
    assert said == [401] * 5 + [429] * 3


# ---- one's account, and others'


def test_a_new_password_logs_out_the_other_browsers(instance: AccountsServer, bob: Account) -> None:
    here, there = instance.client(bob), instance.client(bob)
    wrong = here.post("/account/password", data={"old": "not it", "new": "another one"})
    assert wrong.status_code == 403
    assert "not right" in wrong.text
    assert here.post("/account/password", data={"old": PASSWORD, "new": "short"}).status_code == 422
    assert here.post("/account/password", data={"old": PASSWORD, "new": "x" * 1025}).status_code == 413
    assert here.post("/account/password", data={"old": PASSWORD, "new": "another one"}).status_code == 303
    assert here.get("/internal/account").status_code == 200
    assert there.get("/internal/account").status_code == 401
    assert log_in(instance.client(), "Bob") == 401
    assert log_in(instance.client(), "Bob", "another one") == 303


def test_ending_ones_own_sessions_and_no_others(instance: AccountsServer, ada: Account, bob: Account) -> None:
    mine, also_mine, hers = instance.client(bob), instance.client(bob), instance.client(ada)
    (her_session,) = instance.store.sessions(ada.id)
    mine.post(f"/account/sessions/{her_session.id}/end")
    assert hers.get("/internal/account").status_code == 200
    mine.post("/account/sessions/end")
    assert also_mine.get("/internal/account").status_code == 401
    assert mine.get("/internal/account").status_code == 200


def test_a_user_sees_no_others_on_the_account_page(instance: AccountsServer, ada: Account, bob: Account) -> None:
    shown = instance.client(bob).get("/account").text
    assert "Ada" not in shown
    assert "Invitations" not in shown
    assert "Bob" in instance.client(ada).get("/account").text


def test_what_an_administrator_does_to_an_account(instance: AccountsServer, ada: Account, bob: Account) -> None:
    boss, his, token = instance.client(ada), instance.client(bob), instance.store.add_token(bob.id, "t")
    people = f"/account/people/{bob.id}"
    boss.post(f"{people}/role", data={"role": "viewer"})
    assert his.post("/internal/jobs", json={"prompt": "x"}).status_code == 403
    assert boss.post(f"{people}/role", data={"role": "emperor"}).status_code == 422
    boss.post(f"{people}/end")
    assert his.get("/internal/account").status_code == 401
    boss.post(f"{people}/disable")
    assert log_in(instance.client(), "Bob") == 401
    assert instance.client().get("/internal/account", headers={"authorization": f"Bearer {token}"}).status_code == 401
    boss.post(f"{people}/enable")
    boss.post(f"{people}/reset")
    code = re.search(r"/invite\?code=([0-9A-Z-]+)", boss.get("/account").text)
    assert code is not None
    guest = instance.client()
    assert "For Bob." in guest.get(f"/invite?code={code[1]}").text
    assert guest.post("/invite", data={"code": code[1], "password": "another one"}).status_code == 303
    assert log_in(instance.client(), "Bob", "another one") == 303
    boss.post(f"{people}/remove")
    assert guest.get("/internal/account").status_code == 401
    assert boss.post(f"{people}/remove").status_code == 404


def test_the_last_administrator_cannot_step_down(instance: AccountsServer, ada: Account) -> None:
    boss = instance.client(ada)
    for act, data in (("role", {"role": "user"}), ("disable", {}), ("remove", {})):
        answer = boss.post(f"/account/people/{ada.id}/{act}", data=data)
        assert answer.status_code == 422
        assert "last administrator" in answer.text
    assert boss.get("/internal/account").json()["role"] == "administrator"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://192.168.1.5:7861", "http://192.168.1.5"])
@pytest.mark.parametrize("path", ["/login", "/logout", "/setup", "/invite", "/account/password", "/account/invitations"])
def test_no_other_site_sends_these_forms(instance: AccountsServer, ada: Account, path: str, origin: str) -> None:
    assert instance.client(ada).post(path, data={"role": "user", "hours": "1"}, headers={"origin": origin}).status_code == 403
    assert instance.store.codes() == []


@pytest.mark.parametrize("path", ["/login", "/setup?code=%3Cscript%3E", "/invite", "/account"])
def test_the_pages_run_nothing_of_anybodys(instance: AccountsServer, path: str) -> None:
    evil = instance.person("<script>alert(1)</script>", "administrator") if path in ("/account", "/login") else None
    answer = instance.client(evil if path == "/account" else None).get(path)
    assert "<script>" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "private, no-store"
    for file in re.findall(r'(?:src|href)="(/door/[^"]+)"', answer.text):
        served = instance.client().get(file)
        assert served.status_code == 200
        assert "immutable" in served.headers["cache-control"]


# ---- names of this machine


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("192.168.1.5:7860", 401),
        ("127.0.0.1:7860", 401),
        ("localhost", 401),
        ("192.168.1.6:7860", 421),
        ("0.0.0.0:7860", 421),
        ("[::]", 421),
        ("studio.lan", 401),
        ("evil.example", 421),
        ("studio.lan.evil.example", 421),
        ("studio.lan.", 421),
    ],
)
def test_only_the_address_one_came_by_and_named_hosts(app: FakeApp, host: str, status: int) -> None:
    with accounts_server(app, hosts=frozenset({"studio.lan"})) as instance:
        assert instance.client().get("/internal/jobs", headers={"host": host}).status_code == status


# ---- a local instance


def test_a_local_instance_has_no_login(app: FakeApp) -> None:
    from modules.api.server import build_api

    client = TestClient(build_api(app), base_url="http://127.0.0.1:7860", follow_redirects=False)  # type: ignore[arg-type]
    assert client.get("/internal/account").json() == {"mode": "local", "name": "", "role": "administrator"}
    assert client.post("/login", data={"name": "a", "password": "b"}).status_code == 404
    assert client.get("/account").status_code == 404
    assert client.get("/sdapi/v1/options", headers=basic("any", "thing")).status_code == 200, "clients with --api-auth set"
    client.close()
