"""CPU time to read 32 kB of hostile text: the slowest of each reader.  The goal is 50 ms for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from modules.prompts.compose import split_and, take_networks, without_comments
from modules.prompts.emphasis import weigh
from modules.prompts.scanner import scan
from tests.bench import Figure
from tests.prompts.hostile import HOSTILE

READERS: tuple[Callable[[str], object], ...] = (scan, weigh, take_networks, split_and, without_comments)


def measure() -> Iterator[Figure]:
    for reader in READERS:
        seconds, text = max((_seconds(reader, text), text) for text in HOSTILE)
        yield Figure(f"{reader.__name__}, 32 kB of {text[:12]!r}", seconds * 1000, "ms", "CPU time, best of 3")


def _seconds(reader: Callable[[str], object], text: str) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        reader(text)
        best = min(best, time.process_time() - start)
    return best
