"""`python -m modules.engine.check`: checks the device, and prints each finding as soon as it is there.

`modules.doctor` runs it with --json: an object a line.  The exit code is 1 when a check failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from modules.diffusion.attention import Attend, sdpa, sliced
from modules.diffusion.attention.backends import first_line
from modules.diffusion.attention.choice import candidates
from modules.engine.check import attention, fast_paths, pictures, texts
from modules.engine.check.findings import Bench, Check, Result
from modules.engine.setup import choose
from modules.errors import SettingsError

CHECKS: tuple[Check, ...] = (
    attention.agreement,
    attention.taken,
    fast_paths.kernels,
    fast_paths.graphs,
    texts.encoder,
    pictures.starter,
    pictures.narrow,
)

SECONDS = 50.0
"""No check goes on after this: what is left is named."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check what the arguments name; 1 when something failed."""
    parser = argparse.ArgumentParser(prog="python -m modules.engine.check", description=__doc__)
    for setting in ("device", "dtype", "attention", "accelerator"):
        parser.add_argument(f"--{setting}", default="auto")
    parser.add_argument("--models-dir", type=Path, action="append", default=[])
    parser.add_argument("--cache-dir", type=Path)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--json", action="store_true", help="an object a line")
    values = parser.parse_args(arguments)
    failed = False
    with tempfile.TemporaryDirectory(prefix="atelier-check-") as folder:
        for result in _results(values, Path(folder)):
            failed |= result.state == "missing"
            print(json.dumps(asdict(result)) if values.json else f"{result.state:<8} {result.what}: {result.found}", flush=True)
    return 1 if failed else 0


def _results(values: argparse.Namespace, folder: Path) -> Iterator[Result]:
    try:
        choices = choose(values.device, values.dtype, values.attention, values.accelerator, cache_dir=values.cache_dir)
    except SettingsError as error:
        yield Result("settings", str(error), "missing")
        return
    bench = Bench(choices, backends_of(choices.device), values.models_dir or [Path("models")], folder)
    yield from run_checks(bench, CHECKS, values.seconds)


def run_checks(bench: Bench, checks: Sequence[Check], seconds: float) -> Iterator[Result]:
    """What the checks find, one after the other; a check that raises has failed, and the others go on."""
    end = time.monotonic() + seconds
    for number, check in enumerate(checks):
        results = check(bench)
        while result := _next(check.__name__, results):
            yield result
            if time.monotonic() > end:
                left = ", ".join(each.__name__ for each in checks[number:])
                yield Result("time", f"{seconds:g} s are over; not or not wholly checked: {left}", "note")
                return


@torch.inference_mode()
def _next(name: str, results: Iterator[Result]) -> Result | None:
    try:
        return next(results, None)
    except Exception as error:  # of a device's libraries: what was to be found out
        return Result(name, f"failed: {type(error).__name__}: {first_line(error)}", "missing")


def backends_of(device: torch.device) -> dict[str, Attend]:
    """The attention back ends that may run on a device of this kind."""
    return {**(candidates(device)[0] if device.type == "cuda" else {}), "sdpa": sdpa, "sliced": sliced}


if __name__ == "__main__":
    sys.exit(main())
