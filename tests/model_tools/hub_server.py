"""An imitation of a model hub on loopback: the endpoints that are asked of it, links, and what goes wrong on the way."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = 1000
"""Bytes from which on a file is kept as LFS."""


@dataclass
class Asked:
    path: str
    host: str
    range: str
    token: str


@dataclass
class HubServer:
    """`repos`: name -> path -> bytes; `links`: path -> bytes."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    links: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of links."""
    redirects: dict[str, str] = field(default_factory=dict)
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    """path -> (status, X-Error-Code)"""
    lies: dict[str, str] = field(default_factory=dict)
    """path -> sha256 that the repository says"""
    cut: list[int] = field(default_factory=list)
    """After how many bytes the next replies break off."""
    hold: threading.Event | None = None
    """Where a reply waits after its first half."""
    reached: threading.Event = field(default_factory=threading.Event)
    ranges: bool = True
    asked: list[Asked] = field(default_factory=list)
    sent: int = 0

    def __post_init__(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        if self.hold is not None:
            self.hold.set()
        self.server.shutdown()
        self.server.server_close()

    def of(self, part: str) -> list[Asked]:
        return [each for each in self.asked if part in each.path]

    def listing(self, name: str) -> dict[str, Any]:
        files = self.repos[name]
        siblings = []
        for path, data in files.items():
            entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": git(data)}
            if len(data) >= LARGE:
                sha256 = self.lies.get(path) or hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 130}
            siblings.append(entry)
        return {"id": name, "sha": "c" * 40, "siblings": siblings, "private": False, "tags": [], "downloads": 0}


def git(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        said = self.headers
        self.hub.asked.append(Asked(path, said["Host"], said.get("Range", ""), said.get("Authorization", "")))
        if path in self.hub.answers:
            status, code = self.hub.answers[path]
            return self.reply(status, b"{}", {"X-Error-Code": code} if code else {})
        if path in self.hub.redirects:
            return self.reply(302, b"", {"Location": self.hub.redirects[path]})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/.+)?", path):
            if found[1] not in self.hub.repos:
                return self.reply(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            return self.reply(200, json.dumps(self.hub.listing(found[1])).encode(), {"Content-Type": "application/json"})
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            data = self.hub.repos[found[1]][found[2]]
            if len(data) >= LARGE:  # as the hub does: large files lie elsewhere
                return self.reply(302, b"", {"Location": f"http://localhost:{self.hub.port}/cdn/{found[1]}/{found[2]}"})
            return self.file(data, {})
        if found := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            return self.file(self.hub.repos[found[1]][found[2]], {})
        if path in self.hub.links:
            return self.file(self.hub.links[path], self.hub.headers)
        return self.reply(404, b"not here", {})

    def reply(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def file(self, data: bytes, more: dict[str, str]) -> None:
        headers = {"ETag": f'"{git(data)}"', "Content-Type": "application/octet-stream", **more}
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if self.hub.ranges else None
        start = int(found[1]) if found else 0
        if found and start >= len(data):
            self.reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        if found:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:]
        self.send_response(206 if found else 200)
        for name, value in {**headers, "Content-Length": str(len(rest))}.items():
            self.send_header(name, value)
        self.end_headers()
        cut = self.hub.cut.pop(0) if self.hub.cut else len(rest)
        half = len(rest) // 2 if self.hub.hold is not None else 0
        try:
            if half:
                self.send(rest[:half])
                self.hub.reached.set()
                assert self.hub.hold is not None
                self.hub.hold.wait(120)
            self.send(rest[half:cut])
        except OSError:  # who asked is gone
            pass
        self.close_connection = True

    def send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()
        self.hub.sent += len(data)
