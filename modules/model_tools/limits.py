"""Limits of the process that opens a pickle, where the system has them: memory, processor time, written bytes, open files, and
no further processes.  Standard library only; does nothing on Windows."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

MEMORY = 2 << 30
"""Bytes of memory beyond what the process has now and three times the file."""
BYTES_PER_SECOND = 10_000_000
"""How slowly a file may be worked on before it is given up."""
SECONDS, WRITTEN, FILES = 120, 64 << 20, 64


def limit(size: int) -> None:
    """Limit this process to what a file of `size` bytes can need."""
    if sys.platform == "win32":
        return
    import resource

    wanted = {
        resource.RLIMIT_CPU: SECONDS + size // BYTES_PER_SECOND,
        resource.RLIMIT_FSIZE: 2 * size + WRITTEN,
        resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":
        wanted[resource.RLIMIT_AS] = _memory_now() + 3 * size + MEMORY
        wanted[resource.RLIMIT_NPROC] = 0
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(OSError, ValueError):  # a limit that this system does not have
            resource.setrlimit(kind, (value, value))


def _memory_now() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")
