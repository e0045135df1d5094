"""The virtual environment, what belongs into it, and what is known of how far its set-up got.

A virtual environment cannot be moved (its scripts carry its path), so it is made in place, and a note inside says how far it
got.  An environment whose note does not say "complete" is made anew, unless it was made by other means: then what
is missing is added to it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder."""

TORCH = "torch==2.13.*"
"""Asked for first and by itself, although pyproject.toml allows a range.

On Linux without an NVIDIA GPU the newest torch of the range would bring several GB of CUDA libraries that nothing here could
use.  Builds for the CPU carry the local version "+cpu", which sorts above the plain one *of the same version* only: so the
version must be settled before the build can be chosen.
"""


class SetupError(Exception):
    """The set-up cannot go on; the message is one line with cause and remedy."""


def wanted(extras: Iterable[str] = (), file: Path = ROOT / "pyproject.toml") -> list[str]:
    """The requirements that pyproject.toml names, with those of `extras`."""
    found = _array(file.read_text(encoding="utf-8"), "project", "dependencies")
    for extra in extras:
        found += optional(extra, file)
    return found


def optional(extra: str, file: Path = ROOT / "pyproject.toml") -> list[str]:
    """The requirements of one extra alone."""
    return _array(file.read_text(encoding="utf-8"), "project.optional-dependencies", extra)


def _array(text: str, table: str, key: str) -> list[str]:
    """An array of strings in TOML.  Python 3.10 has no TOML reader; one string per line and "#" mean the same in Python."""
    section = re.search(rf"^\[{re.escape(table)}\]\n(.*?)(?=^\[|\Z)", text, re.DOTALL | re.MULTILINE)
    array = re.search(rf"^{key} = (\[.*?^\])", section[1], re.DOTALL | re.MULTILINE) if section else None
    if not array:
        raise SetupError(f"pyproject.toml has no {table}.{key}; get the project's files anew (git checkout pyproject.toml)")
    return [str(item) for item in ast.literal_eval(array[1])]


def fingerprint(requirements: Sequence[str]) -> str:
    """Changes when what is to be installed changes."""
    return hashlib.sha256("\n".join([TORCH, *requirements]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Environment:
    """A virtual environment in `folder` and the note in it that tells how far its set-up got."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def note(self) -> Path:
        return self.folder / "atelier-setup.json"

    def inside(self) -> bool:
        """Is this very process running in it?"""
        return Path(sys.prefix).resolve() == self.folder.resolve()

    def read_note(self) -> dict[str, Any]:
        try:
            said = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def write_note(self, **said: Any) -> None:
        """Whole or not at all."""
        part = self.note.with_suffix(".part")
        part.write_text(json.dumps(said, indent=1), encoding="utf-8")
        part.replace(self.note)

    def begun(self) -> bool:
        """Did a set-up of ours begin here and not end?"""
        return self.read_note().get("state") == "installing"

    def ready(self, extras: Sequence[str]) -> bool:
        """Complete for `extras`, of this pyproject.toml, and its Python still runs."""
        note = self.read_note()
        installed = note.get("installed")
        if note.get("state") != "complete" or not isinstance(installed, dict):
            return False
        if any(installed.get(name) != fingerprint(needs) for name, needs in groups_of(extras).items()):
            return False
        return self.version() == note.get("python")

    def version(self) -> str | None:
        """Its Python's, such as "3.11"; None when that does not run (the system's own was removed) or is not at home here."""
        if self.inside():
            return f"{sys.version_info[0]}.{sys.version_info[1]}"
        try:
            asked = [str(self.python), "-c", "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.prefix)"]
            answer = subprocess.run(asked, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return None
        version, _, home = answer.stdout.strip().partition("\n")
        at_home = answer.returncode == 0 and Path(home).resolve() == self.folder.resolve()
        return version if at_home else None


def groups_of(extras: Sequence[str]) -> dict[str, list[str]]:
    """Requirements by the name under which the note remembers them."""
    return {"": wanted(), **{extra: optional(extra) for extra in extras}}
