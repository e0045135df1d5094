"""torch.compile as an accelerator of U-Nets: compiled for each shape that repeats, with a cache on disk.

Inductor takes a minute or more for a shape, and pictures wait for it: while torch traces, it replaces `nn.Module.__call__` for
all threads, and modules that another one calls meanwhile raise NameError (torch 2.13).  Shapes are compiled one by one,
as free dimensions fail in inductor ("Invalid ranges").  On a CPU weights are frozen into the graph and packed, which
takes the memory again for each shape.  On a GPU nothing is captured, so that what is compiled may become a CUDA graph.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
import sysconfig
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modules.diffusion.accelerators import Accelerate, UNetForward
from modules.diffusion.forward import ForwardContext
from modules.diffusion.takeover import Inputs, Prepare, Takeover, twin_of
from modules.diffusion.unet import UNet

log = logging.getLogger(__name__)

SHAPES = {"cpu": 2, "cuda": 8}
"""Shapes of a network that stay compiled, by device; the longest unused goes."""

REPEATS = 8
"""Forwards of a shape before it is compiled: a few steps of a picture, so that sizes tried once are not."""

COMPILERS = {"darwin": "clang++", "win32": "cl"}
"""What inductor compiles with, by platform, unless CXX says otherwise; elsewhere g++."""

_Shape = tuple[tuple[int, ...], int]


def compiled(unet: UNet, inputs: Inputs, **how: Any) -> UNetForward:
    """The U-Net compiled for inputs of these shapes (`takeover.Prepare`), ready to run; `how` is for `torch.compile`."""
    on_cpu = inputs[0].device.type == "cpu"
    how = how or ({"options": {"freezing": True}} if on_cpu else {"mode": "max-autotune-no-cudagraphs"})
    function = torch.compile(twin_of(unet), dynamic=False, fullgraph=True, **how)

    def forward(
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        ctx: ForwardContext | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        plain = vector if vector is None else vector.contiguous()
        # One memory layout: another would compile again, and the caller would wait for it
        answer: Tensor = function(x.contiguous(), timesteps.contiguous(), context.contiguous(), None, plain)
        return answer

    x, timesteps, context, vector = inputs
    with torch.inference_mode():  # as the engine runs it: what is compiled holds for one grad mode
        forward(x, timesteps, context, None, vector)
    return forward


class ByShape:
    """Evaluates `unet` compiled for each shape that was asked for `repeats` times, of at most `limit` shapes at once.

    What a shape is compiled to is checked as every `Takeover` is; that happens at once, on the calling thread.
    """

    def __init__(self, unet: UNet, prepare: Prepare, limit: int, repeats: int = REPEATS) -> None:
        self.unet, self._prepare, self._limit, self._repeats = unet, prepare, limit, repeats
        self._seen: OrderedDict[_Shape, int] = OrderedDict()
        self.takeovers: OrderedDict[_Shape, Takeover] = OrderedDict()

    def __call__(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        ctx: ForwardContext | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        """As `UNet.forward`."""
        if ctx is not None:
            return self.unet(x, timesteps, context, ctx, vector)  # type: ignore[no-any-return]
        shape: _Shape = (tuple(x.shape), context.shape[1])
        takeover = self.takeovers.get(shape) or self._repeated(shape, (x, timesteps, context, vector))
        if takeover is None:
            return self.unet(x, timesteps, context, None, vector)  # type: ignore[no-any-return]
        self.takeovers.move_to_end(shape)
        return takeover(x, timesteps, context, None, vector)

    def _repeated(self, shape: _Shape, inputs: Inputs) -> Takeover | None:
        """The takeover of a shape that has been asked for often enough, prepared now."""
        self._seen[shape] = self._seen.get(shape, 0) + 1
        self._seen.move_to_end(shape)
        while len(self._seen) > 64:
            self._seen.popitem(last=False)
        if self._seen[shape] < self._repeats:
            return None
        what = f"{self.unet.title} {' x '.join(map(str, shape[0]))}, {shape[1]} tokens"
        takeover = Takeover(self.unet, "compile", self._prepare, inputs, what)
        while len(self.takeovers) >= self._limit:
            self._seen.pop(self.takeovers.popitem(last=False)[0], None)
        self.takeovers[shape] = takeover
        log.info("compiling %s; pictures wait for it", what)
        takeover.prepare()
        return takeover


def by_compilation(device: torch.device, folder: Path, prepare: Prepare = compiled) -> Accelerate:
    """Evaluate U-Nets compiled; inductor's cache lies in `folder`, unless the environment says where."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder.absolute()))
    return lambda unet: ByShape(unet, prepare, SHAPES.get(device.type, 2))


def compilation_missing(device: torch.device) -> str:
    """Why nothing can be compiled for `device`, and what to do; empty when it can."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "torch's Triton is not installed; install torch with CUDA from its own index, or use --accelerator auto"
    compiler = os.environ.get("CXX") or COMPILERS.get(sys.platform, "g++")
    if shutil.which(compiler) is None:
        return f"the C++ compiler {compiler} was not found; install it, name another in CXX, or use --accelerator auto"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "Python.h is missing, which compiled kernels need; install python3-dev, or use --accelerator auto"
    return ""
