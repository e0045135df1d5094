"""How long one waits: for --help, for the first page, for the first picture."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from modules.settings import ROOT
from tests.bench import Figure

COMMAND = [sys.executable, "-m", "modules.cli"]


def measure() -> Iterator[Figure]:
    """In this Python's environment, so without the set-up; files are in the system's cache from the second figure on."""
    began = time.perf_counter()
    subprocess.run([*COMMAND, "--help"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    yield Figure("command to help", time.perf_counter() - began, "s")
    with tempfile.TemporaryDirectory() as folder:
        places = ["--data-dir", f"{folder}/data", "--outputs-dir", f"{folder}/outputs"]
        for turn in ("first", "second"):
            yield Figure("command to first page", _first_page(places), "s", turn)
        for turn in ("first", "second"):
            began = time.perf_counter()
            picture = ["generate", "a red apple", "--seed", "1", "--output", str(Path(folder) / f"{turn}.png")]
            subprocess.run([*COMMAND, *picture, *places], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            yield Figure("command to first picture, no server", time.perf_counter() - began, "s", turn)


def _first_page(places: list[str]) -> float:
    began = time.perf_counter()
    command = [*COMMAND, "serve", "--port", "0", "--no-browser", *places]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        address = next(match[0] for line in server.stdout if (match := re.search(r"http://\S+", line)))
        urllib.request.urlopen(address, timeout=60).read()
        seconds = time.perf_counter() - began
        server.send_signal(signal.SIGTERM)
    return seconds
