"""What the set-up shows: a line per step, and one line of cause and remedy when a step fails."""

from __future__ import annotations

import platform
import re
import shutil
import sys
import threading
import time
from collections.abc import Sequence


class Step:
    """One line on the terminal: what is being done, how far it is, how long it takes.  `end` must follow."""

    def __init__(self, what: str) -> None:
        self.what, self.started, self.doing, self.packages = what, time.monotonic(), "", 0
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        if sys.stdout.isatty():
            self._ticker.start()
        else:
            print(f"  {what} ...", flush=True)

    def hear(self, line: str) -> None:
        """Make one phrase of what pip says; where there is no live line, the few that take long get a line each."""
        if match := re.match(r"\s*Collecting (\S+)", line):
            self.packages += 1
            self.doing = f"{self.packages} packages found: {match[1]}"
        elif match := re.match(r"\s*Downloading (\S+) \((.+)\)", line):
            self.doing = f"downloading {match[1].rsplit('/', 1)[-1].split('-')[0]}, {match[2]}"
            if re.search(r"\d{2}(\.\d+)? MB|GB", match[2]):
                self._say(f"    {self.doing}")
        elif match := re.match(r"\s*Installing collected packages: (.*)", line):
            self.doing = f"installing {match[1].count(',') + 1} packages"
            self._say(f"    {self.doing}")

    def end(self, good: bool) -> None:
        self._over.set()
        if self._ticker.is_alive():
            self._ticker.join()
            print("\r\x1b[K", end="")
        print(f"  {'done' if good else 'FAILED'}: {self.what}, {self._seconds()} s", flush=True)

    def _say(self, line: str) -> None:
        if not self._ticker.is_alive():
            print(line, flush=True)

    def _tick(self) -> None:
        """Write the line anew twice a second, so that a long download or unpacking is seen to be alive."""
        while not self._over.wait(0.5):
            width = shutil.get_terminal_size().columns - 1
            line = f"  {self.what} ... {self.doing} ({self._seconds()} s)"
            print(f"\r\x1b[K{line[:width]}", end="", flush=True)

    def _seconds(self) -> int:
        return round(time.monotonic() - self.started)


_CAUSES = (
    (r"No space left on device|Errno 28", "the disk is full; make room and start again"),
    (
        r"name resolution|Name or service not known|NewConnectionError|Network is unreachable|Connection refused|ProxyError"
        r"|ConnectTimeout|ConnectionResetError|getaddrinfo failed|No route to host|Read timed out|ReadTimeoutError",
        "pip could not reach the package index; connect to the internet (behind a proxy, set HTTPS_PROXY) and start again",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "pip does not trust the package index's certificate; set PIP_CERT to your network's certificate file, or set the clock",
    ),
    (
        r"Permission denied|Errno 13|Read-only file system",
        "files cannot be written here; move the project to a folder of your own",
    ),
    (
        r"No matching distribution found for torch",
        f"there is no torch for Python {platform.python_version()} on {platform.system()} {platform.machine()}; "
        "use a 64-bit Python 3.10 to 3.13",
    ),
)


def explain(tail: Sequence[str]) -> str:
    """One line of cause and remedy from the last lines that a failed step said."""
    text = "\n".join(tail)
    for pattern, message in _CAUSES:
        if re.search(pattern, text):
            return message
    errors = [line for line in tail if "error" in line.lower()] or [line for line in tail if line] or ["no output"]
    return f"the set-up failed: {errors[-1][:200]}"
