"""Fetching an extension's repository with git: one commit of it, and no program of it or of the user's settings runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from modules.errors import ExtensionError
from modules.extensions.inspecting import MAX_BYTES

SECONDS = 300.0
"""A fetch that takes longer is given up."""
_LOOK_SECONDS = 0.2
_HTTPS = re.compile(
    r"https://(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?/[A-Za-z0-9._~/%+-]{1,400}"
    r"(?:#(?P<ref>[A-Za-z0-9][A-Za-z0-9._/-]{0,99}))?"
)
_PASSED_ON = (
    *("PATH", "SYSTEMROOT", "TEMP", "TMP", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO"),
)
"""What git learns of the environment: where programs lie, and how to reach the network."""


def checked_address(address: str, local: bool) -> tuple[str, str, str]:
    """(address, branch or tag or "", git's protocol) of a repository.

    With `local`, a path of this machine is taken too.

    Raises:
        ExtensionError: it is none that is fetched from.
    """
    address = address.strip()
    if match := _HTTPS.fullmatch(address):
        ref = match["ref"] or ""
        if ".." in ref or ref.endswith((".lock", "/", ".")):
            raise ExtensionError(f"{ref!r} is no branch or tag")
        return address.partition("#")[0], ref, "https"
    if local and address and "\0" not in address and "://" not in address:
        path = Path(address).expanduser().resolve()
        if (path / ".git").exists() or (path / "HEAD").is_file():
            return str(path), "", "file"
        if path.is_dir():
            raise ExtensionError(f"{address} is no repository of git; move an extension of your own into the extensions folder")
        raise ExtensionError(f"there is no folder {address!r}, and it is no address that begins with https://")
    where = ", or the path of a folder with a repository" if local else ""
    raise ExtensionError(
        f"{address[:100]!r} is no address of a repository that is fetched from; it must be https://HOST/PATH, without a "
        f"password, with #BRANCH or #TAG behind it where you want one{where}"
    )


def fetch(address: str, ref: str, protocol: str, target: Path, seconds: float = SECONDS) -> str:
    """Put the files of a repository's newest commit into `target`, which is made; returns the commit.

    Raises:
        ExtensionError: git is not here, cannot fetch it, takes too long, or it is too large.
    """
    if (git := shutil.which("git")) is None:
        raise ExtensionError("git is not installed; install it, or install the extension from a zip")
    with tempfile.TemporaryDirectory(prefix="atelier-git-") as home:
        environment = _environment(protocol, home)
        options = _options(protocol)
        branch = [f"--branch={ref}"] if ref else []
        clone = ["clone", "--quiet", "--depth=1", "--no-tags", "--single-branch", "--no-recurse-submodules", "--no-local"]
        given = Path(address).as_uri() if protocol == "file" else address
        _run([git, *options, *clone, "--template=", *branch, "--", given, str(target)], environment, seconds, target)
        commit = _run([git, *options, "-C", str(target), "rev-parse", "HEAD"], environment, 30.0, target).strip()
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        raise ExtensionError("git did not say which commit it fetched")
    _remove(target / ".git")
    return commit


def _options(protocol: str) -> list[str]:
    said = {
        "protocol.allow": "never",
        f"protocol.{protocol}.allow": "always",
        "core.hooksPath": os.devnull,
        "core.fsmonitor": "false",
        "core.symlinks": "false",
        "core.protectNTFS": "true",
        "core.protectHFS": "true",
        "core.autocrlf": "false",
        "fetch.fsckObjects": "true",
        "transfer.fsckObjects": "true",
        "submodule.recurse": "false",
        "credential.helper": "",
        "http.followRedirects": "false",
        "advice.detachedHead": "false",
    }
    return [part for key, value in said.items() for part in ("-c", f"{key}={value}")]


def _environment(protocol: str, home: str) -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        **passed,
        "HOME": home,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": protocol,
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "LC_ALL": "C",
    }


def _run(command: list[str], environment: Mapping[str, str], seconds: float, folder: Path) -> str:
    """What git prints.  Ended when it takes too long, or `folder` becomes too large.

    Raises:
        ExtensionError: it fails, or was ended.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        except OSError as error:
            raise ExtensionError(f"git cannot be started: {error.strerror or error}") from None
        problem, end = "", time.monotonic() + seconds
        try:
            while not problem:
                try:
                    process.wait(_LOOK_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if time.monotonic() > end:
                        problem = f"git took longer than {seconds:.0f} seconds"
                    elif _bytes_of(folder) > 2 * MAX_BYTES:
                        problem = f"the repository is larger than {MAX_BYTES >> 20} MiB"
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        out.seek(0)
        err.seek(0)
        said = err.read(4000).decode("utf-8", "replace")
        if not problem and process.returncode:
            problem = f"git cannot fetch it: {' '.join(said.split())[:300] or f'it ended with code {process.returncode}'}"
        if problem:
            raise ExtensionError(problem)
        return out.read(4000).decode("utf-8", "replace")


def _bytes_of(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # it came and went
                pass
    return total


def _remove(folder: Path) -> None:
    """Remove a folder whose files git made read-only."""

    def writable(function: object, path: str, _: object) -> None:
        os.chmod(path, 0o700)
        os.unlink(path)

    if sys.version_info >= (3, 12):
        shutil.rmtree(folder, onexc=writable)
    else:
        shutil.rmtree(folder, onerror=writable)
