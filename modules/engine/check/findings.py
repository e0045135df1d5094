"""What a check is given, and what it yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from modules.diffusion.attention import Attend
from modules.engine.setup import Choices


@dataclass(frozen=True)
class Result:
    """One finding.  `missing` is a failure, `note` is worth knowing; `remedy` is what helps until it is mended.

    `difference` was measured and must not be above `bound`; None where nothing is compared.
    """

    what: str
    found: str
    state: Literal["good", "note", "missing"] = "good"
    remedy: str = ""
    difference: float | None = None
    bound: float | None = None


def compared(what: str, difference: float, bound: float, details: str = "", remedy: str = "") -> Result:
    """A measured difference against its bound; beyond it, or where it is no number, the check failed."""
    good = difference <= bound
    verdict = f"differs by at most {difference:.2g} (bound {bound:g})"
    found = "; ".join(part for part in (verdict if good else f"WRONG: {verdict}", details) if part)
    return Result(what, found, "good" if good else "missing", "" if good else remedy, difference, bound)


@dataclass(frozen=True)
class Bench:
    """What is checked, and with how much work.

    Args:
        choices: the device, and what the engine would take on it.
        backends: attention back ends that run on this kind of device, each held to the plain formula.
        models_dirs: where the starter is looked for.
        folder: an empty one, for files that last as long as the check.
        steps: denoising steps of a picture.
        side: pixels of the starter's picture; its own size.
    """

    choices: Choices
    backends: dict[str, Attend]
    models_dirs: Sequence[Path]
    folder: Path
    steps: int = 4
    side: int = 256

    @property
    def device(self) -> torch.device:
        return self.choices.device

    @property
    def dtypes(self) -> list[torch.dtype]:
        """Number formats that the device computes itself."""
        if self.device.type == "cpu":
            return [torch.float32, torch.bfloat16]
        bfloat = torch.cuda.get_device_capability(self.device) >= (8, 0)
        return [torch.float32, torch.float16, *([torch.bfloat16] if bfloat else [])]

    def settle(self) -> None:
        """Wait until the device has done all that was begun."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


Check = Callable[[Bench], Iterator[Result]]


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
