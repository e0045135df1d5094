"""Launchers: the link talks to whatever they start, and says so when they cannot."""

from __future__ import annotations

import errno
import os
import queue
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from modules.engine.launcher import ROOT, EngineProcess, LocalLauncher
from modules.engine.link import ProcessLink
from modules.engine.messages import Message

PATIENCE = 120
"""Seconds until a test gives up; far beyond what any machine needs."""


class SocketProcess:
    """An engine at the other end of a socket, as one on another machine would be."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "modules.engine"],
            cwd=ROOT,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
        )
        theirs.close()
        assert self._process.stderr is not None
        self.pid, self.printed = self._process.pid, self._process.stderr
        self.to_engine: IO[bytes] = ours.makefile("wb")
        self.from_engine: IO[bytes] = ours.makefile("rb")
        ours.close()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float | None = None) -> bool:
        try:
            return self._process.wait(timeout) is not None
        except subprocess.TimeoutExpired:
            return False

    def kill(self) -> None:
        self._process.kill()

    def ending(self, last_line: str) -> str:
        self._process.wait()
        return "the engine on the other machine ended"


class SocketLauncher:
    def __init__(self) -> None:
        self.launched: list[EngineProcess] = []

    def launch(self) -> EngineProcess:
        self.launched.append(SocketProcess())
        return self.launched[-1]


class NoLauncher:
    def launch(self) -> EngineProcess:
        raise OSError(errno.EAGAIN, "no more processes")


def next_of(messages: queue.Queue[Message], kind: str) -> Message:
    while (message := messages.get(timeout=PATIENCE)).kind != kind:
        pass
    return message


def test_the_link_talks_to_what_its_launcher_starts_and_has_it_started_again(tiny_models: Path, tmp_path: Path) -> None:
    launcher, messages = SocketLauncher(), queue.Queue[Message]()
    basics: dict[str, Any] = {"models_dirs": [str(tiny_models)], "cache_dir": str(tmp_path), "device": "cpu", "dtype": "auto"}
    link = ProcessLink({**basics, "attention": "auto", "exact": False}, launcher=launcher)
    link.start(messages.put)
    try:
        assert next_of(messages, "hello").data["pid"] == launcher.launched[0].pid == link.pid
        request = {"prompt": "x", "seed": 1, "steps": 2, "width": 64, "height": 64, "checkpoint": "tiny"}
        link.send(Message("submit", {"task": "a.0", "user": "u", "request": request}))
        assert len(next_of(messages, "done").blob) == 64 * 64 * 3
        launcher.launched[0].kill()
        assert next_of(messages, "died").data["cause"] == "the engine on the other machine ended"
        assert next_of(messages, "hello").data["pid"] == launcher.launched[1].pid
    finally:
        link.close()
    assert [process.running for process in launcher.launched] == [False, False]


def test_a_launcher_that_cannot_start_a_process_is_told_of(tmp_path: Path) -> None:
    messages = queue.Queue[Message]()
    link = ProcessLink({}, launcher=NoLauncher())
    link.start(messages.put)
    assert next_of(messages, "gave_up").data["cause"] == "no process could be started (no more processes)"
    link.close()


@pytest.mark.skipif(os.name == "nt", reason="signals as Unix has them")
def test_how_a_local_process_ended_is_put_into_words() -> None:
    failed = LocalLauncher([sys.executable, "-c", "import sys; print('no luck', file=sys.stderr); sys.exit(3)"]).launch()
    assert failed.wait(PATIENCE)
    assert (failed.printed.read(), failed.running) == (b"no luck\n", False)
    assert failed.ending("no luck") == "the engine ended with code 3: no luck"
    waiting = LocalLauncher([sys.executable, "-c", "import sys; sys.stdin.read()"]).launch()
    assert (waiting.running, waiting.wait(0.01)) == (True, False)
    os.kill(waiting.pid, signal.SIGKILL)
    assert waiting.ending("") == "the engine was ended by SIGKILL (most often: the machine ran out of memory)"
    waiting.kill()  # harmless by now
    for process in (failed, waiting):
        for stream in (process.to_engine, process.from_engine, process.printed):
            stream.close()
