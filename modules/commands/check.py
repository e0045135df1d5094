"""`test`: everything that must hold before a change is done, in the order of how soon it answers.

All checks run even after one failed, so that one round shows everything.  pytest runs last, so that its own summary is the
last line when all is well; the types, a minute on one core, are checked meanwhile.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modules.errors import SettingsError
from modules.settings import ROOT, Settings


@dataclass(frozen=True)
class Check:
    """`remedy` is the command that helps most when it fails; "" where reading what it says is what helps."""

    name: str
    command: tuple[str, ...]
    remedy: str = ""


def checks() -> list[Check]:
    scripts = Path(sys.executable).parent
    return [
        Check("format", (str(scripts / "ruff"), "format", "--check", "."), "ruff format ."),
        Check("lint", (str(scripts / "ruff"), "check", "."), "ruff check --fix ."),
        Check("layers", (str(scripts / "lint-imports"), "--no-cache")),
    ]


def types() -> Check:
    return Check("types", (sys.executable, "-m", "mypy"))


def run(values: argparse.Namespace, settings: Settings) -> int:
    """Exit code 0 when every check passed, else the first failure's."""
    missing = [name for name in ("pytest", "mypy", "importlinter") if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"{', '.join(missing)} not installed here; run `python3 webui.py test`, which installs the test tools"
        )
    failed = [check for check in checks() if not passes(check)]
    ended = started(types())
    print("types: beside the tests\ntests", flush=True)
    side_by_side = ["-n", "2", "--dist", "loadfile"]  # whole files: what their tests share is built once
    code = subprocess.run(
        [sys.executable, "-m", "pytest", *side_by_side, *values.pytest], cwd=ROOT, env=_environment()
    ).returncode
    if not ended():
        failed.append(types())
    if not failed:
        return code
    names = [check.name for check in failed] + (["tests"] if code else [])
    print(f"\nFAILED: {', '.join(names)}")
    for check in failed:
        if check.remedy:
            print(f"  {check.name}: .venv/bin/{check.remedy}")
    return code or 1


def passes(check: Check) -> bool:
    """Run a check: one line when it passes, all that it said when it does not."""
    begun = time.monotonic()
    code, said = _started(check)()
    print(f"{check.name}: {'FAILED' if code else 'passed'} ({time.monotonic() - begun:.1f} s)", flush=True)
    if code:
        print(said, flush=True)
    return code == 0


def started(check: Check) -> Callable[[], bool]:
    """Begin a check; what is answered waits for its end, is silent when it passed, and else prints all that it said."""
    wait = _started(check)

    def passed() -> bool:
        code, said = wait()
        if code:
            print(f"{check.name}: FAILED\n{said}", flush=True)
        return code == 0

    return passed


def _started(check: Check) -> Callable[[], tuple[int, str]]:
    """What is answered waits for the exit code and all output."""
    process = subprocess.Popen(
        check.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )

    def ended() -> tuple[int, str]:
        said, _ = process.communicate()
        return process.returncode, said

    return ended


def _environment() -> dict[str, str]:
    """The tests make their own settings: what is set for this user's server must not leak into them.

    They start many processes, so what those import is compiled once and kept.  Two run side by side, mostly with small
    tensors, so each takes one thread of OpenMP: several would spend the cores on waiting for one another.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ATELIER_") and name != "PYTHONDONTWRITEBYTECODE"
    }
    return {"OMP_NUM_THREADS": "1", **kept}
