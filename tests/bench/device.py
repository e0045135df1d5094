"""How much of the device is used: ours eager and accelerated, diffusers eager and compiled, and the floor, in turn in one run.

The U-Net with 1 to 32 rows, the autoencoder, whole pictures from submit to saved, eight users at once, loading and switching
checkpoints; and, as part `profile`, the kernels of a forward.  Stable Diffusion 1.5's layout with random weights.  The options
are environment variables (`_device/plan.py`); everything takes less than four minutes on an H100, one of them diffusers'
compilation, so on a CPU that is left out unless it is asked for.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from tests.bench import Figure
from tests.bench._device import networks, pictures, profiles
from tests.bench._device.plan import Plan, plan
from tests.bench._device.subjects import Subjects
from tests.bench._device.turns import failure, said

Part = Callable[[Plan, Subjects], Iterator[Figure]]

PARTS: dict[str, Part] = {
    "unet": networks.unet,
    "compiled": networks.compiled,
    "picture": pictures.picture,
    "users": pictures.users,
    "vae": networks.vae,
    "start": pictures.start,
    "profile": profiles.profile,
}


def measure() -> Iterator[Figure]:
    """The parts that the plan names; one that fails gives a line that says so, and the rest goes on."""
    chosen = plan()
    yield Figure("device", float(torch.get_num_threads()), "threads", _machine(chosen))
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        subjects = Subjects(chosen, Path(folder))
        with subjects.open:
            yield from _parts(chosen, subjects)


def _parts(chosen: Plan, subjects: Subjects) -> Iterator[Figure]:
    for name in chosen.parts:
        began = time.monotonic()
        if chosen.left < 0:
            yield failure(name, networks.LATE)
            continue
        try:
            yield from PARTS[name](chosen, subjects)
        except Exception as error:
            yield failure(name, said(error))
        yield Figure(f"time for {name}", time.monotonic() - began, "s")


def _machine(chosen: Plan) -> str:
    name = torch.cuda.get_device_name(chosen.device) if chosen.cuda else "CPU"
    width = "narrow networks: figures say nothing" if chosen.narrow else "SD 1.5 layout, random weights"
    return f"{name}, torch {torch.__version__}, {width}"
