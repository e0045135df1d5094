"""Making the environment ready with venv and pip, and what of the machine decides which torch to ask for."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.bootstrap.environment import ROOT, TORCH, Environment, SetupError, fingerprint, groups_of, optional
from modules.bootstrap.terminal import Step, explain
from modules.locks import ProcessLock

LOG = ROOT / "data" / "setup.log"
"""All that pip said."""

NEED_BYTES = {False: 2_500_000_000, True: 9_000_000_000}
"""Free disk space that the set-up takes, without and with CUDA (measured 1.6 GB without, with pip's cache; CUDA's libraries are
about 5 GB)."""


def set_up(environment: Environment, extras: Sequence[str]) -> None:
    """Make the environment ready.  Only one process at a time does; others wait and find it done.

    Raises:
        SetupError: it cannot be done; one line with cause and remedy.
    """
    try:
        LOG.parent.mkdir(exist_ok=True)
        lock = _lock(LOG.parent / "setup.lock")
    except OSError as error:
        raise SetupError(f"cannot write to {ROOT} ({error.strerror}); move the project to a folder of your own") from None
    try:
        if environment.ready(extras):
            return
        if environment.inside() and environment.begun():
            raise SetupError(f"{environment.folder} is half-made; start with the system's own python3 webui.py to make it anew")
        started = time.monotonic()
        with LOG.open("a", encoding="utf-8") as out:
            Setup(environment, out).run(extras)
        print(
            f"Set-up complete in {time.monotonic() - started:.0f} s. Later starts need neither this nor the network.\n",
            flush=True,
        )
    except OSError as error:
        raise SetupError(f"the set-up could not write to {environment.folder}: {error.strerror or error}") from None
    finally:
        lock.release()


def _lock(path: Path) -> ProcessLock:
    told = False
    while True:
        try:
            return ProcessLock(path)
        except BlockingIOError:
            if not told:
                print("Another start is setting up; waiting for it ...", flush=True)
                told = True
            time.sleep(0.5)


@dataclass
class Setup:
    """One run of the set-up.  `log` gets all that pip says; the terminal gets a line per step."""

    environment: Environment
    log: Any

    def run(self, extras: Sequence[str]) -> None:
        environment, groups = self.environment, groups_of(extras)
        driver = cuda_driver()
        print(f"Setting up in {environment.folder} (only this once; details in {LOG})", flush=True)
        before = self._prepare(cuda=driver is not None)

        environment.write_note(state="installing")
        try:
            if before or not self._has("torch"):  # in an environment that is not of our making, its own torch is respected
                self._install([TORCH], "torch")
            for name, requirements in groups.items():
                if name:  # beside the others, so that pip cannot satisfy the one by breaking the other
                    requirements = [*groups[""], *requirements]
                self._install(requirements, "tools for the tests" if name == "test" else name or "everything else")
        except SetupError:
            # pip gives up before it changes anything: what was complete still is, for those who need no more than that.
            if before.get("state") == "complete":
                environment.write_note(**before)
            raise
        if driver is not None:
            self._report_gpu(driver)

        installed = {**before.get("installed", {}), **{name: fingerprint(needs) for name, needs in groups.items()}}
        environment.write_note(state="complete", python=environment.version(), installed=installed)

    def _prepare(self, cuda: bool) -> dict[str, Any]:
        """An environment with pip in it.  Returns the note of what is installed in it already."""
        environment = self.environment
        note = environment.read_note()
        version = environment.version()
        usable = version is not None and not environment.begun() and note.get("python", version) == version
        if usable:
            if not self._has("pip"):
                self._call([str(environment.python), "-m", "ensurepip", "--default-pip"], "pip")
            return note

        if incomplete := _missing_for_venv():
            raise SetupError(incomplete)
        need, free = NEED_BYTES[cuda], shutil.disk_usage(ROOT).free
        if free < need:
            raise SetupError(
                f"{free / 1e9:.1f} GB are free on the disk of {ROOT}, the set-up needs {need / 1e9:.1f} GB; make room"
            )
        if os.path.lexists(environment.folder):
            print(f"  {environment.folder.name} is half-made or its Python is gone; making it anew", flush=True)
            _remove(environment.folder)
        environment.folder.mkdir()
        environment.write_note(state="installing")  # first of all, so that whatever stops us leaves no doubt
        self._call([sys.executable, "-m", "venv", str(environment.folder)], f"environment (Python {platform.python_version()})")
        return {}

    def _has(self, package: str) -> bool:
        asked = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
        return subprocess.run([str(self.environment.python), "-c", asked], capture_output=True).returncode == 0

    def _install(self, requirements: Sequence[str], what: str) -> None:
        """Bytecode is left to the first import, which compiles what is used instead of all of it."""
        quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--retries", "2", "--no-compile"]
        self._call([str(self.environment.python), "-m", "pip", "install", *quiet, *requirements], what)

    def _report_gpu(self, driver: int) -> None:
        """Add xformers where a wheel fits the torch that is there, and say what came of it.  Never fails the set-up."""
        check = "import torch; print(torch.__version__, torch.cuda.is_available())"
        seen = subprocess.run([str(self.environment.python), "-c", check], capture_output=True, text=True)
        version, _, works = seen.stdout.strip().partition(" ")
        if works != "True":
            cuda = f"CUDA {driver // 1000}.{driver % 1000 // 10}"
            print(
                f"  The NVIDIA GPU cannot be used: its driver ({cuda}) is too old for torch {version}. "
                "Update it, then delete .venv and start again."
            )
            return
        constraint = self.environment.folder / "torch.txt"
        constraint.write_text(f"torch=={version}\n", encoding="utf-8")
        try:
            self._install([*optional("xformers"), "--only-binary", ":all:", "-c", str(constraint)], "xformers")
            probe = (
                "import torch; from modules.diffusion.attention import xformers_missing as m; print(m(torch.device('cuda')))"
            )
            said = subprocess.run([str(self.environment.python), "-c", probe], capture_output=True, text=True, cwd=ROOT)
            problem = said.stdout.strip() if said.returncode == 0 else said.stderr.strip().rpartition("\n")[2]
        except SetupError:
            problem = f"no xformers wheel fits torch {version} on Python {self.environment.version()}"
        print(f"  {problem}; attention will use torch's own" if problem else "  xformers fits and runs", flush=True)

    def _call(self, command: Sequence[str], what: str) -> None:
        """Run a step: its output to the log, its progress to the terminal.

        Raises:
            SetupError: it failed; with the likely cause.
        """
        step = Step(what)
        self.log.write(f"\n$ {' '.join(command)}\n")
        environment = {**os.environ, "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}
        environment.pop("PYTHONHOME", None)
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment, cwd=ROOT
        )
        tail: list[str] = []
        try:
            assert process.stdout is not None
            for line in process.stdout:
                self.log.write(line)
                tail = [*tail[-60:], line.strip()]
                step.hear(line)
        except BaseException:
            process.terminate()
            raise
        finally:
            self.log.flush()
            code = process.wait()
            step.end(code == 0)
        if code != 0:
            raise SetupError(f"{explain(tail)} (details: {LOG})")


def _missing_for_venv() -> str:
    """Debian and Ubuntu ship Python without what `venv` needs."""
    check = "import ensurepip, venv"
    if subprocess.run([sys.executable, "-c", check], capture_output=True).returncode == 0:
        return ""
    return (
        "this Python cannot make virtual environments: on Debian and Ubuntu run `sudo apt install python3-venv`, "
        "elsewhere install Python from https://www.python.org/downloads/; then start again"
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def cuda_driver() -> int | None:
    """The newest CUDA that the NVIDIA driver knows, as 1000 x major + 10 x minor; None without a driver or without a GPU."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
        version, count = ctypes.c_int(), ctypes.c_int()
        if library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
            return None
        return version.value if library.cuDriverGetVersion(ctypes.byref(version)) == 0 else None
    except (OSError, AttributeError):
        return None
