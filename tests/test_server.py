"""Listening and leaving: addresses that are refused, and a server that goes when it is told to."""

from __future__ import annotations

import errno
import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from modules.errors import SettingsError
from modules.server import listen, listen_all
from modules.settings import ROOT


def test_several_addresses_share_one_port() -> None:
    first, second = listen_all(("127.0.0.1", "127.0.0.2"), 0)
    with first, second:
        assert first.getsockname()[1] == second.getsockname()[1]
        with pytest.raises(SettingsError, match=r"127\.0\.0\.2"):
            listen_all(("127.0.0.3", "127.0.0.2"), first.getsockname()[1])
        listen("127.0.0.3", first.getsockname()[1]).close()  # nothing stays open behind a refusal


def test_an_address_of_another_machine_is_said_to_be_one() -> None:
    with pytest.raises(SettingsError, match="no such address"):
        listen("203.0.113.7", 0)


def test_a_machine_without_ipv6_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.bind

    def bind(self: socket.socket, address: tuple[str, int]) -> None:
        if ":" in address[0]:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        real(self, address)

    monkeypatch.setattr(socket.socket, "bind", bind)
    (only,) = listen_all(("127.0.0.1", "::1"), 0)
    only.close()


def test_a_taken_port_is_said_to_be_taken() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}.*--port"):
            listen("127.0.0.1", port)


def test_a_port_below_1024_without_the_right_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(SettingsError, match="Permission denied"):
        listen("127.0.0.1", 80)


SCRIPT = """
import gc
import sys
from pathlib import Path
from modules.server import serve
from tests.ui.fake_app import FakeApp

app = FakeApp(Path(sys.argv[1]))
try:
    serve(app, on_ready=lambda url: print(url, flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
print("spared by collections:", gc.get_freeze_count() > 100_000, flush=True)
"""


def test_ctrl_c_ends_it_even_with_an_open_connection(tmp_path: Path) -> None:
    # Shells start background processes with Ctrl-C ignored, and children inherit that.
    ready = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{ready}\n{SCRIPT}", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        connection = http.client.HTTPConnection(process.stdout.readline().strip().removeprefix("http://"))
        connection.request("GET", "/health")
        assert json.loads(connection.getresponse().read()) == {"status": "ok", "engine": "ready"}
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
        connection.close()
    finally:
        process.kill()
        process.wait()
    assert out == "interrupted\nspared by collections: True\n"
    assert process.returncode == 0
    assert "Traceback" not in err
