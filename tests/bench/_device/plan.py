"""What is measured on which device, and for how long: read from the environment, so that parts can be chosen.

| variable | meaning | default |
|---|---|---|
| `ATELIER_BENCH_PARTS` | some of `PARTS`, with commas | all but `profile` |
| `ATELIER_BENCH_ACCELERATORS` | values of `--accelerator`, with commas | none, graphs, compile; on a CPU none, openvino |
| `ATELIER_BENCH_COMPILED` | 1 or 0: diffusers compiled, about a minute | 1 on CUDA, else 0 |
| `ATELIER_BENCH_NARROW` | 1 for networks a tenth as wide and small pictures, to try the bench itself | 0 |
| `ATELIER_BENCH_SECONDS` | after so long no further measurement begins | 220 |
| `ATELIER_BENCH_DTYPE` | float16, bfloat16 or float32 | what `--dtype auto` takes |
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

import torch

from modules.diffusion.clip import TextConfig
from modules.diffusion.unet import UNetConfig
from modules.diffusion.vae import VAEConfig

PARTS = ("unet", "compiled", "picture", "users", "vae", "start", "profile")

NARROW_UNET = UNetConfig(channels=(32, 64, 64, 64), context_dim=64)
NARROW_VAE = VAEConfig(channels=(32, 32, 32, 32), res_blocks=1)
NARROW_TEXT = TextConfig(width=64, layers=2, heads=2, hidden=128)


@dataclass(frozen=True)
class Plan:
    """Sizes are pixels per side; `rows` are those of one forward."""

    device: torch.device
    parts: tuple[str, ...]
    accelerators: tuple[str, ...]
    compiled: bool
    narrow: bool
    dtype: str
    """A value of the setting."""
    rows: tuple[int, ...]
    sides: tuple[int, ...]
    side: int
    """Of whole pictures."""
    steps: int
    seconds: float
    named: bool = False
    """Whether the accelerators were named, not those of such devices in general."""
    began: float = field(default_factory=time.monotonic)

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def unet(self) -> UNetConfig:
        return NARROW_UNET if self.narrow else UNetConfig()

    @property
    def vae(self) -> VAEConfig:
        return NARROW_VAE if self.narrow else VAEConfig()

    @property
    def text(self) -> TextConfig:
        return NARROW_TEXT if self.narrow else TextConfig()

    @property
    def left(self) -> float:
        """Seconds until nothing further begins."""
        return self.began + self.seconds - time.monotonic()

    @property
    def for_pictures(self) -> tuple[str, ...]:
        """The accelerators of whole pictures: compiling each of an engine's shapes takes too long, unless it is asked for."""
        return tuple(name for name in self.accelerators if self.named or name != "compile")

    def wait(self) -> None:
        """Until the device has done everything that it was given."""
        if self.cuda:
            torch.cuda.synchronize(self.device)


def plan() -> Plan:
    """The plan of this machine and environment."""
    cuda = torch.cuda.is_available()
    narrow = _switch("NARROW", False)
    sides = (512, 1024) if cuda else (256,)
    steps = 20 if cuda else 4
    accelerators = "none,graphs,compile" if cuda else "none,openvino"
    parts = tuple(_listed("PARTS", ",".join(part for part in PARTS if part != "profile")))
    if strange := set(parts) - set(PARTS):
        raise SystemExit(f"ATELIER_BENCH_PARTS has {', '.join(sorted(strange))}; known are {', '.join(PARTS)}")
    return Plan(
        device=torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu"),
        parts=parts,
        accelerators=tuple(_listed("ACCELERATORS", accelerators)),
        compiled=_switch("COMPILED", cuda),
        narrow=narrow,
        dtype=_given("DTYPE", "auto"),
        rows=(1, 2, 8, 32) if cuda else (1, 2),
        sides=tuple(side // 4 for side in sides) if narrow else sides,
        side=sides[0] // 4 if narrow else sides[0],
        steps=steps,
        seconds=float(_given("SECONDS", "220")),
        named=bool(_given("ACCELERATORS", "")),
    )


def _given(name: str, default: str) -> str:
    return os.environ.get(f"ATELIER_BENCH_{name}") or default


def _listed(name: str, default: str) -> list[str]:
    return [part.strip() for part in _given(name, default).split(",") if part.strip()]


def _switch(name: str, default: bool) -> bool:
    return _given(name, str(int(default))) not in ("0", "no", "false")
