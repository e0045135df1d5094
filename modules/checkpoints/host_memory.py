"""How much of main memory is free, measured: what reading ahead may take, and what estimates compare with; and giving back what
was freed.  No torch."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

_ROOT = Path("/")


def available(root: Path = _ROOT) -> int | None:
    """Bytes that this process could take without swapping; None where the system does not say.

    Linux' `MemAvailable`, or what a container's limit (cgroup v2) leaves where that is less.  Files in the system's cache count
    as free in both: they go when something else needs the place.
    """
    said = _numbers(root / "proc/meminfo")
    if "MemAvailable" not in said:
        return None
    free, left = said["MemAvailable"] * 1024, _left_of_group(root)
    return free if left is None else min(free, left)


def give_back() -> None:
    """Return freed memory to the system, where the C library keeps it for itself.

    glibc maps large tensors at first, but raises that threshold to 32 MiB as they are freed, and what it then takes from its
    heap stays resident: 8 GB of SDXL's weights, long after the checkpoint went.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # musl has none
        trim(0)


def _left_of_group(root: Path) -> int | None:
    group = root / "sys/fs/cgroup"
    try:
        limit, taken = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except (OSError, UnicodeDecodeError):
        return None
    if not (limit.isdecimal() and taken.isdecimal()):  # "max" is no limit
        return None
    cached = _numbers(group / "memory.stat")
    files = cached.get("inactive_file", 0) + cached.get("active_file", 0)
    return max(0, int(limit) - max(0, int(taken) - files))


def _numbers(path: Path) -> dict[str, int]:
    """The lines "name number" or "name: number unit" of a file of the system."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return {}
    return {name: int(number) for name, number in re.findall(r"^(\w+):?\s+(\d+)\b", text, re.MULTILINE)}
