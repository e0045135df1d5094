"""`doctor`: what this machine has, what was chosen and why, what is missing and the command that fixes it.

Works where little else does: it needs nothing but the standard library, asks torch in a process of its own, and reports what it
cannot import instead of failing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from modules import __version__
from modules.bootstrap.environment import wanted
from modules.bootstrap.install import cuda_driver
from modules.errors import AtelierError
from modules.settings import ROOT, TABLE, Settings, unknown_variables

State = Literal["good", "note", "missing"]

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EMOJI_FONT = "NotoColorEmoji.ttf"
TORCH_SECONDS = 180
"""A cold import of torch from a slow disk takes a minute."""
CHECK_SECONDS = TORCH_SECONDS + 90
"""What the check of the device may take in all; it begins nothing new after 50 seconds of its own."""


@dataclass(frozen=True)
class Finding:
    """One line.  `missing` is needed and not here, `note` is optional or worth knowing; `remedy` is the command that helps."""

    topic: str
    what: str
    found: str
    state: State = "good"
    remedy: str = ""


@dataclass(frozen=True)
class Compared(Finding):
    """A finding of the check: `difference` was measured and must not be above `bound`; None where nothing is compared."""

    difference: float | None = None
    bound: float | None = None


def run(values: argparse.Namespace, settings: Settings, problem: str = "") -> int:
    """Print the findings; 1 when something that is needed is missing.  `problem` is what kept the set-up from being made."""
    found = examine(settings, problem, values.check)
    if not values.json:
        return 1 if _print(found) else 0
    findings = list(found)
    ok = all(finding.state != "missing" for finding in findings)
    said = {"ok": ok, "version": __version__, "findings": [asdict(finding) for finding in findings]}
    print(json.dumps(said, ensure_ascii=False))
    return 0 if ok else 1


def examine(settings: Settings, problem: str = "", check: bool = False) -> Iterator[Finding]:
    """Everything, in the order in which it is shown; with `check` also what the device computes, which takes up to a minute."""
    yield from _machine(settings)
    yield from _programs(problem)
    yield from _choices(settings, usable=not problem)
    yield from _settings(settings)
    yield from _folders(settings)
    yield from _checkpoints(settings)
    yield from _extensions(settings)
    yield from _extras()
    if check:
        yield from _check(settings)


# ---- the machine


def _machine(settings: Settings) -> Iterator[Finding]:
    yield Finding("machine", "Atelier", f"{__version__} in {ROOT}")
    yield Finding("machine", "Python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("machine", "system", f"{_system()}, {platform.machine()}")
    yield Finding("machine", "processor", _processor())
    memory = _memory()
    if memory:
        total, free = memory
        small = total < 4e9 * settings.workers
        yield Finding(
            "machine",
            "memory",
            f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB of it available",
            "note" if small else "good",
            "a real SD 1.x checkpoint needs about 6 GB in float32 for each worker; the starter runs in 2 GB" if small else "",
        )
    yield from _gpu()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _processor() -> str:
    text = _read("/proc/cpuinfo")
    name = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.+)$", text, re.MULTILINE)
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")
    features = [feature for feature in known if flags and feature in flags[1].split()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    described = name[1] if name else platform.processor() or platform.machine()
    return f"{described}, {cores} core{'s' * (cores != 1)}" + (f" ({', '.join(features)})" if features else "")


def _memory() -> tuple[int, int] | None:
    """Bytes in all and available."""
    said = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE))
    if "MemTotal" in said:
        return int(said["MemTotal"]) * 1024, int(said.get("MemAvailable", "0")) * 1024
    return None


def _gpu() -> Iterator[Finding]:
    driver = cuda_driver()
    if driver is None:
        yield Finding("machine", "GPU", "no NVIDIA GPU with a driver; pictures are computed by the processor")
        return
    names = _said("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    yield Finding(
        "machine",
        "GPU",
        f"{names.replace(chr(10), '; ') or 'NVIDIA'} (driver knows CUDA {driver // 1000}.{driver % 1000 // 10})",
    )


# ---- what is installed


def _programs(problem: str) -> Iterator[Finding]:
    if problem:
        yield Finding("programs", "set-up", problem, "missing", "python3 webui.py")
    absent = []
    for requirement in wanted():
        name, marker = re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0], requirement.partition(";")[2]
        if not marker and _version(name) is None:
            absent.append(name)
    if absent:
        yield Finding("programs", "packages", f"not installed here: {', '.join(absent)}", "missing", "python3 webui.py")
    else:
        shown = (f"{name} {_version(name)}" for name in ("torch", "transformers", "gradio", "pillow", "numpy"))
        yield Finding("programs", "packages", ", ".join(shown))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


_ASK_TORCH = """
import json, pathlib, sys
import torch
said = {"torch": torch.__version__, "cuda": torch.version.cuda or "", "available": torch.cuda.is_available()}
try:
    from modules.engine.setup import choose, set_threads
    workers = int(sys.argv[5])
    set_threads(workers)
    each = [choose(*sys.argv[1:5], worker, workers, pathlib.Path(sys.argv[6]), sys.argv[7]) for worker in range(workers)]
    chosen = each[0]
    said["chosen"] = {
        "device": ", ".join(dict.fromkeys(f"{one.device} ({one.device_reason})" for one in each)),
        "dtype": f"{chosen.dtype_name} ({chosen.dtype_reason})",
        "attention": f"{chosen.attention.name} ({chosen.attention.reason})",
        "kernels": f"{chosen.kernels.name} ({chosen.kernels.reason})",
        "accelerator": f"{chosen.accelerator.name} ({chosen.accelerator.reason})",
        "weights": chosen.weights,
    }
except Exception as error:
    said["error"] = str(error)
print(json.dumps(said))
"""


def _choices(settings: Settings, usable: bool) -> Iterator[Finding]:
    """What the engine would run on, asked of the very function that the engine asks."""
    if not usable and _version("torch") is None:
        yield Finding("chosen", "device", "unknown until the set-up is made", "note")
        return
    said = _ask_torch(settings)
    if "broken" in said:
        yield Finding("chosen", "torch", f"cannot be used: {said['broken']}", "missing", "rm -r .venv; python3 webui.py")
        return
    if "error" in said:
        remedy = "take the setting back: --device auto --dtype auto --attention auto --accelerator auto --workers 1"
        yield Finding("chosen", "device", said["error"], "missing", remedy)
    for what, choice in said.get("chosen", {}).items():
        yield Finding("chosen", what, choice)
    if cuda_driver() is not None and not said["available"]:
        build = f"torch {said['torch']} is " + (f"built for CUDA {said['cuda']}" if said["cuda"] else "a build for the CPU")
        yield Finding(
            "chosen", "GPU", f"there is an NVIDIA GPU, but {build} and cannot use it", "note", "rm -r .venv; python3 webui.py"
        )


def _ask_torch(settings: Settings) -> dict[str, Any]:
    """What torch and the engine say, from a process of their own; under "broken" why they say nothing."""
    asked = (settings.device, settings.dtype, settings.attention, settings.accelerator, settings.workers, settings.data_dir)
    command = [sys.executable, "-c", _ASK_TORCH, *map(str, asked), settings.weights_storage]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TORCH_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"broken": str(error)}
    try:
        said = json.loads(done.stdout)
    except ValueError:
        return {"broken": done.stderr.strip().rpartition("\n")[2] or f"it ended with code {done.returncode}"}
    return dict(said)


# ---- the device at work


def _check(settings: Settings) -> Iterator[Finding]:
    """What `modules.engine.check` finds, each as soon as it is there, from a process of its own."""
    if _version("torch") is None:
        yield Finding("check", "device", "cannot be checked before the set-up is made", "missing", "python3 webui.py")
        return
    command = [sys.executable, "-m", "modules.engine.check", "--json"]
    for name in ("device", "dtype", "attention", "accelerator"):
        command += [f"--{name}", getattr(settings, name)]
    for folder in settings.models_dirs:
        command += ["--models-dir", str(folder)]
    command += ["--cache-dir", str(settings.data_dir)]
    last, failed, over = "nothing", False, threading.Event()
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):

        def end() -> None:
            over.set()
            process.kill()

        timer = threading.Timer(CHECK_SECONDS, end)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if not line.startswith("{"):
                    continue  # a library's words
                finding = Compared("check", **json.loads(line))
                last, failed = finding.what, failed or finding.state == "missing"
                yield finding
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
        stderr.seek(0)
        said = stderr.read().strip().rpartition("\n")[2]
    if over.is_set():
        found = f"did not answer within {CHECK_SECONDS:g} s and was ended; the last that it found was: {last}"
        yield Finding("check", "time", found, "missing", "python3 webui.py doctor --check --device cpu")
    elif code and not failed:
        ended = f"ended with code {code} after: {last}" + (f" ({said})" if said else "")
        yield Finding("check", "device", ended, "missing", "python3 webui.py doctor --check --device cpu")


# ---- what is set, and what is there


def _settings(settings: Settings) -> Iterator[Finding]:
    for setting in TABLE:
        value = getattr(settings, setting.field)
        shown = (
            ", ".join(map(str, value))
            if isinstance(value, tuple)
            else str(value).lower()
            if isinstance(value, bool)
            else str(value)
        )
        yield Finding("settings", setting.name, f"{shown} ({settings.source(setting.field)})")
    for stray in unknown_variables():
        yield Finding("settings", "environment", stray, "note")


def _folders(settings: Settings) -> Iterator[Finding]:
    from modules.commands.folders import check_writable

    for folder, flag in ((settings.data_dir, "--data-dir"), (settings.outputs_dir, "--outputs-dir")):
        name = flag.strip("-").removesuffix("-dir")
        try:
            check_writable(folder, flag)
            free = shutil.disk_usage(folder).free
            low = free < 1e9
            yield Finding(
                "folders", name, f"{folder}, {free / 1e9:.1f} GB free", "note" if low else "good", "make room" if low else ""
            )
        except AtelierError as error:
            yield Finding("folders", name, str(error), "missing", f"python3 webui.py {flag} ANOTHER-FOLDER")
    for folder in settings.models_dirs:
        if not folder.is_dir():
            yield Finding("folders", "models", f"{folder} does not exist", "note", f"mkdir -p {folder}")


def _checkpoints(settings: Settings) -> Iterator[Finding]:
    try:
        from modules.checkpoints.files import scan
        from modules.checkpoints.sources import size_of
        from modules.checkpoints.taesd import scan_taesd
    except ImportError as error:
        yield Finding("checkpoints", "list", f"cannot be read before the set-up is made ({error})", "note")
        return
    found = scan(settings.models_dirs)
    for info in found:
        size = size_of(info.path) / 1e6 if info.path.exists() else 0
        if info.problem:
            yield Finding("checkpoints", info.name, info.problem, "note", "")
        else:
            yield Finding(
                "checkpoints", info.name, f"{info.family}, {size:.0f} MB, {info.defaults.width}x{info.defaults.height}"
            )
            if info.note:
                yield Finding("checkpoints", info.name, info.note, "note", "")
    for tiny in scan_taesd(settings.models_dirs):
        if tiny.problem:
            yield Finding("checkpoints", "TAESD", tiny.problem, "note", "")
        else:
            yield Finding("checkpoints", "TAESD", f"{tiny.name}: {' and '.join(tiny.halves)} for {tiny.latent}")
    if all(info.problem for info in found):
        remedy = f"git checkout models, or put an SD 1.x .safetensors file into {settings.models_dirs[0]}"
        yield Finding("checkpoints", "usable", "none", "missing", remedy)


def _extensions(settings: Settings) -> Iterator[Finding]:
    """What there is and why it is not in use; nothing of it runs."""
    try:
        from modules.extensions.discovery import folders_of
        from modules.extensions.service import Extensions
    except ImportError as error:
        yield Finding("extensions", "list", f"cannot be read before the set-up is made ({error})", "note")
        return
    trusting = not settings.needs_accounts
    for view in Extensions(folders_of(settings), settings.data_dir, settings.extensions_off, trusting).list():
        said = f"{view.version or '?'}, {view.state}{f': {view.reason}' if view.reason else ''}"
        broken = view.state in ("failed", "suspended", "refused")
        yield Finding("extensions", view.name, said, "note" if broken else "good")


def _extras() -> Iterator[Finding]:
    """What only developers need."""
    browser = next((path for name in CHROMIUMS if (path := shutil.which(name))), "")
    if browser:
        yield Finding("for developers", "Chromium", browser)
    else:
        yield Finding("for developers", "Chromium", "not here; browser tests need it", "note", "sudo apt install chromium")
    font = find_font(EMOJI_FONT)
    if font:
        yield Finding("for developers", "emoji font", str(font))
    else:
        remedy = "sudo apt install fonts-noto-color-emoji"
        yield Finding("for developers", "emoji font", "not here; training the starter model needs it", "note", remedy)


def find_font(name: str) -> Path | None:
    folders = (
        Path("/usr/share/fonts"),
        Path("/usr/local/share/fonts"),
        Path.home() / ".local/share/fonts",
        Path.home() / ".fonts",
    )
    return next((path for folder in folders if folder.is_dir() for path in sorted(folder.rglob(name))), None)


# ---- showing it


_MARKS: dict[State, str] = {"good": " ", "note": "·", "missing": "✗"}


def _print(findings: Iterable[Finding]) -> bool:
    """Each as soon as it is there; returns whether something that is needed is missing."""
    topic, missing, failed = "", 0, 0
    for finding in findings:
        if finding.topic != topic:
            topic = finding.topic
            print(f"\n{topic}")
        print(f" {_MARKS[finding.state]} {finding.what:<12} {finding.found}", flush=True)
        if finding.remedy:
            print(f"   {'':<12} -> {finding.remedy}")
        if finding.state == "missing":
            missing, failed = missing + (topic != "check"), failed + (topic == "check")
    if failed:
        print(f"\n{failed} finding{'s' * (failed != 1)} of the check must not be; the lines marked ✗ say what helps.")
    if missing:
        print(f"\n{missing} thing{'s' * (missing != 1)} needed and missing; the lines marked ✗ say what helps.")
    elif not failed:
        print("\nAll that is needed is here.")
    return bool(missing or failed)


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
