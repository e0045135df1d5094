"""The engine as a process: it comes back when it is killed, ends with its parent, and says why it cannot start."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modules.engine.launcher import ROOT
from modules.engine.link import SILENCE_SECONDS, ProcessLink
from modules.engine.messages import Message, read_message, write_message

PATIENCE = 120
"""Seconds until a test gives up on a message; far beyond what any machine needs."""


def configuration(models: Path, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    basics = {"models_dirs": [str(models)], "cache_dir": str(tmp_path), "device": "cpu", "dtype": "auto", "attention": "auto"}
    return {**basics, "exact": False, **changes}


class Listener:
    """Keeps the messages of a link; `wait` returns the next one of a kind."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Message] = queue.Queue()

    def wait(self, kind: str) -> Message:
        while (message := self.messages.get(timeout=PATIENCE)).kind != kind:
            pass
        return message


@pytest.fixture
def linked(tiny_models: Path, tmp_path: Path) -> Iterator[Callable[..., tuple[ProcessLink, Listener]]]:
    links = []

    def start(silence: float = SILENCE_SECONDS, **changes: Any) -> tuple[ProcessLink, Listener]:
        link = ProcessLink(configuration(tiny_models, tmp_path, **changes), tmp_path / "engine.log", silence)
        listener = Listener()
        link.start(listener.messages.put)
        links.append(link)
        return link, listener

    yield start
    for link in links:
        link.close()


def submit(link: ProcessLink, task: str, **fields: Any) -> None:
    request = {"prompt": "x", "seed": 1, "steps": 2, "width": 64, "height": 64, "checkpoint": "tiny", **fields}
    link.send(Message("submit", {"task": task, "user": "u", "request": request}))


def test_an_engine_paints_dies_and_comes_back(linked: Callable[..., tuple[ProcessLink, Listener]], tmp_path: Path) -> None:
    """Killed once, then stopped, as by a hanging driver: it is there and says nothing."""
    link, listener = linked(6.0)
    hello = listener.wait("hello")
    assert hello.data["device"].startswith("cpu (")
    submit(link, "a.0")
    first = listener.wait("done")
    assert len(first.blob) == 64 * 64 * 3
    assert re.search(r"^loaded tiny in \d+\.\d s$", (tmp_path / "engine.log").read_text(), re.MULTILINE), "its log is kept"

    assert link.pid is not None
    os.kill(link.pid, signal.SIGKILL)
    assert "SIGKILL" in listener.wait("died").data["cause"]
    second = listener.wait("hello").data["pid"]
    assert second == link.pid
    os.kill(second, signal.SIGSTOP)
    assert listener.wait("died").data["cause"] == "the engine did not answer for 6 seconds"
    third = listener.wait("hello").data["pid"]
    assert third == link.pid
    assert third not in (second, None)
    submit(link, "b.0")
    assert listener.wait("done").blob == first.blob, "the same request gives the same pixels after a restart"
    link.close()
    with pytest.raises(ProcessLookupError):
        os.kill(third, 0)


def test_an_engine_that_reads_nothing_is_closed_all_the_same(tiny_models: Path, tmp_path: Path) -> None:
    """It was stopped, while a thread is sending it more than its pipe holds."""
    link, listener = ProcessLink(configuration(tiny_models, tmp_path)), Listener()
    link.start(listener.messages.put)
    pid = listener.wait("hello").data["pid"]
    os.kill(pid, signal.SIGSTOP)
    sending = threading.Thread(target=link.send, args=(Message("submit", {}, bytes(4 << 20)),), daemon=True)
    sending.start()
    closing = threading.Thread(target=link.close, daemon=True)
    closing.start()
    closing.join(PATIENCE)
    stuck = closing.is_alive()
    if stuck:
        os.kill(pid, signal.SIGKILL)
    assert not stuck
    sending.join(PATIENCE)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_cannot_start_says_why_and_is_not_started_for_ever(linked: Callable[..., tuple[ProcessLink, Listener]]) -> None:
    _, listener = linked(device="cuda:7")
    assert "torch sees" in listener.wait("gave_up").data["cause"]


def test_closing_at_once_leaves_no_process(linked: Callable[..., tuple[ProcessLink, Listener]]) -> None:
    """Whether the process was not spawned yet, just spawned or half started."""
    for _ in range(5):
        link, _ = linked()
        link.close()
        assert link.pid is None
        assert link._thread is not None
        assert not link._thread.is_alive()
    children = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True).stdout
    assert "modules.engine" not in children


def test_an_engine_ends_with_its_parent(tiny_models: Path, tmp_path: Path) -> None:
    """End of stdin is all that a killed parent leaves behind."""
    process = subprocess.Popen(
        [sys.executable, "-m", "modules.engine"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    write_message(process.stdin, Message("configure", configuration(tiny_models, tmp_path)))
    message = read_message(process.stdout)
    assert message is not None
    assert message.kind == "hello"
    process.stdin.close()
    assert process.wait(timeout=PATIENCE) == 0
    process.stdout.close()
