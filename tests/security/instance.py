"""The real program, started as a user would, with a canary in every file that nobody may read; and clients."""

from __future__ import annotations

import json as _json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from modules.settings import ROOT
from tests.security.raw import PATIENCE, Pairs, Reply, compose, exchange

JSON = ("Content-Type", "application/json")
FORM = ("Content-Type", "application/x-www-form-urlencoded")
CANARY = "canary-" + secrets.token_hex(12)


class Listener:
    """Another machine's server, as far as the program can tell: counts its connections."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port, self.hits = int(self._socket.getsockname()[1]), 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.hits += 1
                connection.close()

    def close(self) -> None:
        self._socket.close()


class RunningInstance:
    """A running program.  `ask` sends a request; all answers are kept in `heard`, all that it prints in the file `log`."""

    def __init__(self, folder: Path, models: Path, *arguments: str, first: tuple[str, ...] = ()) -> None:
        self.folder, self.data, self.outputs, self.log = folder, folder / "data", folder / "outputs", folder / "log"
        self.outside = Listener()
        self.heard: list[tuple[str, Reply]] = []
        self.data.mkdir(parents=True, exist_ok=True)  # there already when an instance is started again
        (self.data / "settings.toml").write_text(f"# {CANARY}\nhistory = 900\n", encoding="utf-8")
        for name in (".env", "secret.json", "secret.txt"):
            (self.data / name).write_text(CANARY, encoding="utf-8")
            (folder / name).write_text(CANARY, encoding="utf-8")
        folders = ["--data-dir", str(self.data), "--outputs-dir", str(self.outputs), "--models-dir", str(models)]
        command = [sys.executable, "-m", "modules.cli", "serve", "--port", "0", "--no-browser", "--device", "cpu", *folders]
        self.told = ""
        if first:  # a command before the server starts
            run = [sys.executable, "-m", "modules.cli", *first, *folders]
            done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            self.told = done.stdout
        # Whatever would like to fetch something from the network has to ask our listener for it.
        proxy = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), f"http://127.0.0.1:{self.outside.port}")
        spaces = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**spaces, **proxy, **{name.upper(): value for name, value in proxy.items()}},
                start_new_session=True,
            )
        self.port = int(self.until(r"Atelier is at https?://[^ ]*?:(\d+)")[1])

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def until(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self.said)):
            assert self.process.poll() is None, f"it ended: {self.said}"
            assert time.monotonic() < deadline, f"never said {pattern!r}: {self.said}"
            time.sleep(0.05)
        return match

    def ask(
        self,
        target: str | bytes,
        method: str = "GET",
        headers: Pairs = (),
        body: bytes | None = None,
        json: Any = None,
        host: str | None = "",
        version: str = "1.1",
    ) -> Reply:
        pairs = list(headers)
        if json is not None:
            pairs.append(JSON)
            body = _json.dumps(json).encode()
        if method not in ("GET", "HEAD", "OPTIONS") and body is None:
            body = b""
        reply = exchange(self.port, compose(self.port, target, method, pairs, body, host, version))
        self.heard.append((f"{method} {target!r}", reply))
        return reply

    def send(self, data: bytes) -> Reply:
        """Exactly these bytes."""
        reply = exchange(self.port, data)
        self.heard.append((repr(data[:80]), reply))
        return reply

    def memory(self) -> int:
        """Resident bytes of the web process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]

    def close(self, number: int = signal.SIGTERM) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.outside.close()


class Visitor:
    """A browser or program at a instance's access: sends its cookies and headers along with everything."""

    def __init__(self, instance: RunningInstance, headers: Pairs = ()) -> None:
        self.instance, self.headers, self.cookies = instance, list(headers), dict[str, str]()

    def ask(self, target: str | bytes, method: str = "GET", headers: Pairs = (), **rest: Any) -> Reply:
        pairs = [*self.headers, *headers]
        if self.cookies:
            pairs.append(("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())))
        reply = self.instance.ask(target, method, pairs, **rest)
        for value in reply.all("set-cookie"):
            name, _, secret = value.partition(";")[0].partition("=")
            self.cookies[name] = secret
        return reply

    def fill_in(self, target: str, **fields: str) -> Reply:
        """Send a form, as a browser does."""
        return self.ask(target, "POST", [FORM], body=urlencode(fields).encode())

    def post(self, target: str, json: Any = None, **rest: Any) -> Reply:
        return self.ask(target, "POST", json=json, **rest)


@contextmanager
def opened(folder: Path, models: Path, *arguments: str, first: tuple[str, ...] = ()) -> Iterator[RunningInstance]:
    instance = RunningInstance(folder, models, *arguments, first=first)
    try:
        yield instance
    finally:
        instance.close()


def settled(visitor: Visitor, job: str) -> dict[str, Any]:
    """The job when it is over, however it went."""
    deadline = time.monotonic() + PATIENCE
    while True:
        view = visitor.ask(f"/internal/jobs/{job}").json()
        if view["state"] in ("done", "failed", "cancelled"):
            return dict(view)
        assert time.monotonic() < deadline, f"job {job} does not end: {view}"
        time.sleep(0.05)
