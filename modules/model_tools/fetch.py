"""One file over HTTP: resumed from the bytes that are there, verified while it comes.  Standard library only."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from modules.errors import CheckpointError, RequestError
from modules.model_tools.connections import Broken, Changed, Opener, Unreachable, reason_of
from modules.model_tools.disk import check_space, human, unwritable
from modules.model_tools.origins import shown

PAUSES = (1.0, 2.0, 5.0, 10.0)
"""Seconds before a broken connection is tried again; it is given up after as many tries in a row without a byte."""
BLOCK = 1 << 20
CHECKED = 256 << 20
"""Bytes between two looks at the room on the disk."""


@dataclass(frozen=True)
class Item:
    """A file to fetch.  `sha256` and `blob` (git's id of a small file) are "" where they are not known, `size` is None then."""

    url: str
    path: str
    size: int | None = None
    sha256: str = ""
    blob: str = ""

    @property
    def known(self) -> str:
        return self.sha256 or self.blob


@dataclass(frozen=True)
class Answer:
    """What a server says of a file; kept beside its bytes, to know whether they are still a beginning of it."""

    known: str = ""
    etag: str = ""
    modified: str = ""
    size: int | None = None
    name: str = ""

    def fits(self, later: Answer) -> bool:
        """Whether bytes of this answer can be the beginning of that of a later one."""
        if self.known or later.known:
            return self.known == later.known
        sure = bool(self.etag and later.etag) or bool(self.modified and later.modified)
        return sure and (self.etag, self.modified, self.size) == (later.etag, later.modified, later.size)


class Fetcher:
    """Fetches files.

    Args:
        token: for the hub's own origin, "" without one.
        public_only: refuse addresses of this machine and of private networks, but for the hub's own origin.
    """

    def __init__(self, token: str = "", public_only: bool = False) -> None:
        self._opener = Opener(token, public_only)
        self.sleep: Callable[[float], None] = time.sleep

    def fetch(self, item: Item, to: Path, begun: Callable[[Answer], None], say: Callable[[int, int | None], None]) -> Answer:
        """Bring the whole of `item` into the file `to`, going on with what is in it.

        `begun` gets what the server says before anything is written, and may raise; `say` the bytes there and of the whole.

        Raises:
            RequestError: it is refused or not there, CheckpointError: it is not what it should be, OutputError: the disk is
            full, Unreachable: no connection.  What has come stays, but for CheckpointError.
        """
        tries, first = 0, True
        while True:
            before = _size(to)
            try:
                return self._once(item, to, begun, say)
            except Changed:
                _clear(to)
            except CheckpointError:
                _clear(to)
                raise
            except Broken as error:
                tries = 0 if _size(to) > before else tries + 1
                if tries == len(PAUSES) or (first and tries and not _size(to)):
                    raise Unreachable(_lost(item.url, _size(to), str(error))) from None
                self.sleep(PAUSES[tries])
            first = False

    def _once(self, item: Item, to: Path, begun: Callable[[Answer], None], say: Callable[[int, int | None], None]) -> Answer:
        kept, have = _kept(to), _size(to)
        if have and (kept is None or (item.known and kept.known != item.known) or (item.size is not None and have > item.size)):
            _clear(to)
            kept, have = None, 0
        if item.known and have and have == item.size:
            answer = Answer(item.known, size=item.size)
            _check(item, _digests(item, to, have, lambda done: say(done, have)), have)
            return answer
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with self._opener.open(item.url, headers) as reply:
            answer, start = _answer(reply, item)
            if reply.status == 206 and (start != have or kept is None or not kept.fits(answer)):
                raise Changed
            if reply.status != 206:
                have = 0
            if item.size is not None and answer.size not in (None, item.size):
                raise CheckpointError(
                    f"{item.path} has {answer.size:,} bytes there, and its repository says {item.size:,}; try again later"
                )
            begun(answer)
            check_space(to.parent, (answer.size or 0) - have)
            if have == 0:
                _clear(to)
            _keep(to, answer)
            digests = _digests(item, to, have, lambda done: say(done, answer.size))
            have = _receive(reply, to, have, digests, answer, say)
        _check(item, digests, have)
        return answer


def _answer(reply: Any, item: Item) -> tuple[Answer, int]:
    """What the reply says, and from which byte on it comes."""
    headers = reply.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RequestError(
            f"{shown(item.url)} is sent packed ({headers['Content-Encoding'][:20]}), though that was not asked for"
        )
    if not item.known and headers.get_content_type() in ("text/html", "application/json", "text/plain"):
        raise RequestError(
            f"{shown(item.url)} is a web page and not a model (perhaps one to log in); use the link of the file itself"
        )
    start, size = 0, _number(headers.get("Content-Length"))
    if reply.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", "").strip())
        if found is None:
            raise Changed
        start, size = int(found[1]), int(found[2])
    name = headers.get_filename() or unquote(urlsplit(reply.url).path.rpartition("/")[2])
    etag = headers.get("ETag", "").strip()
    return Answer(item.known, "" if etag.startswith("W/") else etag, headers.get("Last-Modified", ""), size, name[:500]), start


def _receive(
    reply: Any, to: Path, have: int, digests: tuple[Any, ...], answer: Answer, say: Callable[[int, int | None], None]
) -> int:
    """Append what comes; the size of the whole."""
    looked = have
    try:
        with to.open("ab") as file:
            while block := _read(reply):
                file.write(block)
                have += len(block)
                if answer.size is not None and have > answer.size:
                    raise CheckpointError(f"{shown(reply.url)} sends more than the {answer.size:,} bytes that it announced")
                for digest in digests:
                    digest.update(block)
                say(have, answer.size)
                if have - looked > CHECKED:
                    looked = have
                    check_space(to.parent, (answer.size or have) - have)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        full = unwritable(to, error)
        raise type(full)(f"{full} ({human(have)} have come; the next start goes on there)") from None
    if answer.size is not None and have < answer.size:
        raise Broken("it ended too early")
    return have


def _read(reply: Any) -> bytes:
    try:
        return bytes(reply.read1(BLOCK))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Broken(reason_of(error)) from None


def _digests(item: Item, to: Path, have: int, say: Callable[[int], None]) -> tuple[Any, ...]:
    """(sha256, git's), having read what is there."""
    git = hashlib.sha1(f"blob {item.size}\0".encode(), usedforsecurity=False)
    digests = (hashlib.sha256(), git)
    if have:
        with to.open("rb") as file:
            done = 0
            while block := file.read(BLOCK):
                done += len(block)
                for digest in digests:
                    digest.update(block)
                say(done)
    return digests


def _check(item: Item, digests: tuple[Any, ...], size: int) -> None:
    sha256, git = (digest.hexdigest() for digest in digests)
    if item.sha256 and sha256 != item.sha256.lower():
        raise CheckpointError(
            f"{item.path} came with the sha256 {sha256[:12]}…, and {item.sha256[:12].lower()}… was expected; what came was "
            "removed, download it again"
        )
    if item.blob and not item.sha256 and git != item.blob:
        raise CheckpointError(f"{item.path} is not what its repository says (git's hash differs); download it again")
    if not size:
        raise CheckpointError(f"{item.path or shown(item.url)} is empty there (0 bytes)")


def _lost(url: str, have: int, reason: str) -> str:
    host = urlsplit(url).hostname
    if have:
        return f"the connection to {host} broke ({reason}) after {human(have)}; start it again, and it goes on there"
    return f"{host} cannot be reached ({reason}); is this machine online?"


# ---- what is kept beside the bytes


def _beside(to: Path) -> Path:
    return to.with_name(f".{to.name}.json")


def _kept(to: Path) -> Answer | None:
    try:
        return replace(Answer(), **json.loads(_beside(to).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _keep(to: Path, answer: Answer) -> None:
    try:
        _beside(to).write_text(json.dumps(asdict(answer)), encoding="utf-8")
    except OSError as error:
        raise unwritable(to, error) from None


def forget(to: Path) -> None:
    """Remove what is kept beside a whole file."""
    _beside(to).unlink(missing_ok=True)


def _clear(to: Path) -> None:
    for path in (to, _beside(to)):
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdigit() else None
