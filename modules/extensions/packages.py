"""The Python packages that extensions need: verdicts on what is installed, and installing what changes none of that.

What is installed is never changed for an extension: a requirement is met by it, missing, or a conflict, which refuses the
extension.  Missing ones are installed from the command line only, with everything that is installed as pip's constraints.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from modules.errors import ExtensionError
from modules.extensions.manifest import Manifest

PIP_SECONDS = 1800.0
MISSING = "which is not installed"
"""Stands in the sentence about a package that is missing, and in no other."""


@dataclass(frozen=True)
class Need:
    """A requirement of an extension and the verdict: `met` by what is installed, `missing` and could be installed, or a
    `conflict` with what is installed, which is never changed; `text` is that in a sentence."""

    requirement: str
    verdict: Literal["met", "missing", "conflict"]
    text: str


def needs_of(manifest: Manifest) -> tuple[Need, ...]:
    """The requirements of an extension that count on this machine, with their verdicts."""
    parsed = [Requirement(one) for one in manifest.python]
    return tuple(_need(one) for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""}))


def _need(requirement: Requirement) -> Need:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        text = f"it needs the package {requirement}, {MISSING}; python3 webui.py extension enable NAME offers to install it"
        return Need(str(requirement), "missing", text)
    if requirement.specifier.contains(version, prereleases=True):
        return Need(str(requirement), "met", f"{requirement}: {version} is installed")
    text = f"it needs the package {requirement}, and {version} is installed, which is not changed for an extension"
    return Need(str(requirement), "conflict", text)


def install(requirements: Sequence[str], confirm: Sequence[str] = (), timeout: float = PIP_SECONDS) -> list[str]:
    """Install packages that are missing, with what they need; returns the names and versions that were installed.

    pip is asked first what it would do (`would_install`), and does it with the same constraints: every package that is
    installed stays at its version.

    Raises:
        ExtensionError: pip cannot do it without changing what is installed, or fails.
    """
    planned = would_install(requirements, timeout)
    if planned:
        with tempfile.TemporaryDirectory(prefix="atelier-pip-") as folder:
            _pip(["install", *_safe(Path(folder)), "--", *requirements], timeout)
    return planned


def would_install(requirements: Sequence[str], timeout: float = PIP_SECONDS) -> list[str]:
    """The packages, as "name version", that pip would install for these.

    Raises:
        ExtensionError: it would change what is installed, or finds none that fit.
    """
    if not requirements:
        return []
    with tempfile.TemporaryDirectory(prefix="atelier-pip-") as name:
        report = Path(name, "report.json")
        _pip(["install", "--dry-run", "--report", str(report), *_safe(Path(name)), "--", *requirements], timeout)
        try:
            said = json.loads(report.read_text(encoding="utf-8"))
            planned = [(str(one["metadata"]["name"]), str(one["metadata"]["version"])) for one in said["install"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise ExtensionError("pip did not say what it would install; install the packages by hand") from None
    there = {canonicalize_name(name): f"{name} {version}" for name, version in installed()}
    changed = [f"{there[key]} to {version}" for name, version in planned if (key := canonicalize_name(name)) in there]
    if changed:
        raise ExtensionError(f"pip would change what is installed ({', '.join(changed)}), which is not done for an extension")
    return [f"{name} {version}" for name, version in planned]


def installed() -> list[tuple[str, str]]:
    """(name, version) of every package that is installed."""
    found: dict[str, tuple[str, str]] = {}
    for one in importlib.metadata.distributions():
        if (name := one.metadata["Name"]) and one.version:
            found.setdefault(canonicalize_name(name), (str(name), one.version))
    return sorted(found.values())


def _safe(folder: Path) -> list[str]:
    """pip's options: no package that is installed changes, and no code of a package runs while it is installed."""
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in installed()), encoding="utf-8")
    return ["--only-binary", ":all:", "--constraint", str(constraints), "--upgrade-strategy", "only-if-needed"]


def _pip(arguments: list[str], timeout: float) -> None:
    """
    Raises:
        ExtensionError: pip fails; with its last lines.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise ExtensionError(f"pip took longer than {timeout:.0f} seconds; nothing was installed") from None
    except OSError as error:
        raise ExtensionError(f"pip cannot be started: {error.strerror or error}") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
        said = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise ExtensionError(f"pip cannot install what is needed without changing what is installed: {' '.join(said)[:600]}")
