"""The program as started for others to reach: the set-up code on a terminal, no start without one, https, `accounts`."""

from __future__ import annotations

import http.client
import re
import signal
import ssl
import subprocess
import sys
import urllib.parse
from contextlib import closing
from pathlib import Path

import pytest

from modules import cli
from modules.accounts import AccountStore
from modules.accounts.store import FILE_NAME
from modules.api.guard.tls import certificate, self_signed
from modules.commands import serve
from modules.errors import SettingsError
from modules.settings import ROOT, Settings
from tests.test_cli import PATIENCE, command, posix, running


def asked(address: str, method: str, path: str, form: dict[str, str] | None = None, cookie: str = "") -> tuple[int, str, str]:
    """Status, cookie and body; whatever certificate there is."""
    parts = urllib.parse.urlsplit(address)
    anything = ssl.create_default_context()
    anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(str(parts.hostname), parts.port, timeout=PATIENCE, context=anything)
    headers = {"cookie": cookie} if cookie else {}
    if form is not None:
        headers["content-type"] = "application/x-www-form-urlencoded"
    connection.request(method, path, urllib.parse.urlencode(form) if form is not None else None, headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, (answer.getheader("set-cookie") or "").partition(";")[0], body


@posix
def test_the_first_start_with_accounts(tmp_path: Path) -> None:
    """On loopback, with accounts and https: what `--listen` does, without opening a port to the network."""
    arguments = ["serve", "--port", "0", "--no-browser", "--require-token", "--tls-self-signed"]
    with running(command(tmp_path, tmp_path, *arguments)) as process:
        address = process.until(r"Atelier is at (https://127\.0\.0\.1:\d+)")[1]
        shown = process.until(r"fingerprint\s+([0-9A-F]{2}(:[0-9A-F]{2}){31})")[1]
        code = process.until(r"\n    ([0-9A-Z]{4}(-[0-9A-Z]{4}){3})\r?\n")[1]
        process.until(rf"{address}/setup\?code={code}")
        process.until("▀|█")
        port = urllib.parse.urlsplit(address).port
        pem = ssl.get_server_certificate(("127.0.0.1", port or 0))
        der = ssl.PEM_cert_to_DER_cert(pem)
        import hashlib

        assert hashlib.sha256(der).hexdigest().upper() == shown.replace(":", "")

        assert asked(address, "GET", "/internal/jobs")[0] == 401
        assert asked(address, "POST", "/setup", {"code": "ABCD" * 4, "name": "Eve", "password": "let me in"})[0] == 403
        status, cookie, _ = asked(address, "POST", "/setup", {"code": code, "name": "Ada", "password": "correct horse"})
        assert status == 303
        assert cookie.startswith(f"sid_{port}=")
        assert (
            asked(address, "GET", "/internal/account", cookie=cookie)[2]
            == '{"mode":"accounts","name":"Ada","role":"administrator"}'
        )
        assert asked(address, "POST", "/setup", {"code": code, "name": "Eve", "password": "let me in"})[0] == 303, "to /login"
        cli_values = ["accounts", "list", "--data-dir", str(tmp_path / "data")]
        done = subprocess.run([sys.executable, "-m", "modules.cli", *cli_values], cwd=ROOT, capture_output=True, text=True)
        assert "Ada: administrator" in done.stdout
        assert "Eve" not in done.stdout
        assert process.end(signal.SIGINT) == 130, process.said
        assert "Traceback" not in process.said


def test_without_a_terminal_nobody_could_read_a_code(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, tmp_path, "serve", "--listen", "--port", "0"), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "accounts invite --role administrator" in done.stderr
    assert "Traceback" not in done.stderr
    assert not re.search(r"[0-9A-Z]{4}-[0-9A-Z]{4}-", done.stdout + done.stderr), "and none was printed"


def run(tmp_path: Path, *arguments: str) -> int:
    return cli.run(cli.parse(["accounts", *arguments, "--data-dir", str(tmp_path)]))


def code_in(text: str) -> str:
    found = re.search(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){3}", text)
    assert found is not None, text
    return found[0]


def test_the_accounts_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path, require_token=True)
    assert run(tmp_path, "list") == 0
    assert "Nobody has an account" in capsys.readouterr().out
    with closing(serve.open_accounts(settings)) as opened, pytest.raises(SettingsError, match="no terminal"):
        serve.check_access(settings, opened)

    assert run(tmp_path, "invite", "--role", "administrator") == 0
    said = capsys.readouterr().out
    assert "http://127.0.0.1:7860/invite?code=" in said
    store = AccountStore(tmp_path / FILE_NAME)
    serve.check_access(settings, store)  # there is a code now

    ada = store.redeem(code_in(said), "Ada", "hash")
    assert run(tmp_path, "tokens", "ada", "--new", "Krita") == 0
    secret = capsys.readouterr().out.strip()
    assert store.token(secret) == ada
    assert run(tmp_path, "tokens", "Ada") == 0
    token = capsys.readouterr().out.split()[0]
    assert run(tmp_path, "tokens", "Ada", "--revoke", token) == 0
    assert store.token(secret) is None
    assert run(tmp_path, "tokens", "Ada", "--revoke", token) == 1
    capsys.readouterr()

    session = store.add_session(ada.id, "", "")
    assert run(tmp_path, "reset", "Ada", "--hours", "2") == 0
    store.redeem(code_in(capsys.readouterr().out), "", "new hash")
    assert store.session(session) is None
    assert run(tmp_path, "remove", "Ada") == 1
    assert "last administrator" in capsys.readouterr().err
    store.redeem(store.add_code("invite", "administrator", 60), "Eve", "hash")
    assert run(tmp_path, "remove", "Ada") == 0
    assert [account.name for account in store.accounts()] == ["Eve"]
    store.close()


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["remove"], "needs the name", 2),
        (["list", "Ada"], "takes no name", 2),
        (["invite", "--role", "king"], "viewer, user, administrator", 1),
        (["invite", "--hours", "0"], "--hours", 2),
        (["invite", "--hours", "1e3"], "--hours", 2),
        (["reset", "Zoe"], "nobody here is called 'Zoe'", 1),
    ],
)
def test_slips_of_the_pen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str, code: int
) -> None:
    assert run(tmp_path, *arguments) == code
    assert said in capsys.readouterr().err


# ---- certificates


def test_a_certificate_of_our_own_is_kept_and_serves_its_names(tmp_path: Path) -> None:
    first = self_signed(tmp_path / "tls", ["localhost", "127.0.0.1", "::1"])
    assert first == self_signed(tmp_path / "tls", ["localhost", "127.0.0.1"])
    assert re.fullmatch(r"([0-9A-F]{2}:){31}[0-9A-F]{2}", first.fingerprint)
    assert first.key.stat().st_mode & 0o077 == 0
    assert self_signed(tmp_path / "tls", ["studio.lan"]) != first, "a new name needs a new one"
    context = ssl.create_default_context(cafile=str(first.cert))
    assert context.get_ca_certs() or context.cert_store_stats()["x509"] == 1


def test_a_start_that_was_killed_between_key_and_certificate_spoils_nothing(tmp_path: Path) -> None:
    """The new key is there and the old certificate still is."""
    old, other = self_signed(tmp_path / "tls", ["localhost"]), self_signed(tmp_path / "other", ["localhost"])
    other.key.replace(old.key)
    assert self_signed(tmp_path / "tls", ["localhost"]).fingerprint not in (old.fingerprint, other.fingerprint)
    old.key.write_bytes(b"torn")
    assert self_signed(tmp_path / "tls", ["localhost"]).key.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in (tmp_path / "tls").iterdir()) == ["cert.pem", "key.pem"]


def test_certificates_that_do_not_fit_are_reported(tmp_path: Path) -> None:
    one, other = self_signed(tmp_path / "a", ["a"]), self_signed(tmp_path / "b", ["b"])
    given = certificate(Settings(tls_cert=one.cert, tls_key=one.key))
    assert given is not None
    assert given.fingerprint == one.fingerprint
    assert certificate(Settings()) is None
    (tmp_path / "junk.pem").write_text("no PEM at all")
    for settings, said in (
        (Settings(tls_cert=one.cert), "needs both"),
        (Settings(tls_key=one.key), "needs both"),
        (Settings(tls_cert=one.cert, tls_key=other.key), "belong together"),
        (Settings(tls_cert=tmp_path / "junk.pem", tls_key=one.key), "belong together"),
        (Settings(tls_cert=tmp_path / "none.pem", tls_key=one.key), "cannot be read"),
        (Settings(tls_cert=one.cert, tls_key=one.key, tls_self_signed=True), "leave it out"),
    ):
        with pytest.raises(SettingsError, match=said):
            certificate(settings)
