"""Listening and leaving: addresses that are refused, and a server that goes when it is told to."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from modules.errors import SettingsError
from modules.server import listen
from modules.settings import ROOT


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "studio.lan"])
def test_other_machines_are_not_let_in_without_accounts(host: str) -> None:
    with pytest.raises(SettingsError, match="without a login"):
        listen(host, 0)


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
import sys
from pathlib import Path
from modules.server import serve
from tests.ui.fake_app import FakeApp

app = FakeApp(Path(sys.argv[1]))
app.settings.port = 0
try:
    serve(app, on_ready=lambda url: print(url, flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
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
    assert out == "interrupted\n"
    assert process.returncode == 0
    assert "Traceback" not in err
