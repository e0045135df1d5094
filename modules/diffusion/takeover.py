"""Evaluate a U-Net eagerly until a faster forward is prepared on a background thread, and from then on with that.

What takes half a minute (converting a network) keeps no picture waiting.  What fails, answers otherwise than
the network or is no faster is left, with the reason in the log once.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from modules.diffusion.accelerators import UNetForward
from modules.diffusion.attention.backends import failed_device, first_line
from modules.diffusion.forward import ForwardContext
from modules.diffusion.unet import UNet

log = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.15}
"""The greatest relative difference (of norms) between two ways to one output that counts as rounding.  Between two back ends
and with random weights it measured 3e-6 in float32 and up to 0.06 in bfloat16."""

TURNS = 3

Inputs = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""x, timesteps, context and vector of a forward, as of `UNet.forward`."""

Prepare = Callable[[UNet, Inputs], UNetForward]
"""Makes a faster forward of a network for inputs like these; raises what goes wrong.  Where it runs on a background thread, the
network is in use meanwhile: it changes nothing of it, nor of `nn.Module` as tracers of torch.fx do."""

_preparing = threading.Lock()
"""One preparation at a time in a process: each takes all cores, and memory for the weights again."""


def twin_of(unet: UNet) -> UNet:
    """A U-Net on the very same weights, to be traced and changed while `unet` is in use; its attention is torch's own."""
    with torch.device("meta"):
        twin = UNet(unet.config)
    twin.load_state_dict(unet.state_dict(), assign=True)
    return twin.eval().requires_grad_(False)


def example(unet: UNet) -> Inputs:
    """Inputs of two rows of a small latent in the network's number format and on its device; the same at each call."""
    config, weight = unet.config, next(unet.parameters())
    generator = torch.Generator().manual_seed(0)
    side = 4 * config.downsampling

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(weight.device, weight.dtype)

    x, context = drawn(2, config.in_channels, side, side), drawn(2, 77, config.context_dim)
    vector = drawn(2, config.vector_width) if config.vector_width else None
    if config.classes and vector is None:
        vector = torch.tensor([[0.0], [config.classes - 1.0]], device=weight.device)  # numbers of classes, in float32
    return x, torch.tensor([900.0, 100.0], device=weight.device), context, vector


class Takeover:
    """Evaluates `unet`, with what `prepare` makes of it as soon as that is ready (`begin`).

    Forwards with a context (adapters, taps, residuals) are always the network's own.  `name` is the accelerator's in the log,
    `prepare` gets `inputs`, and its outcome is kept where it answers them as the network does, in less time.
    """

    def __init__(self, unet: UNet, name: str, prepare: Prepare, inputs: Inputs, what: str = "") -> None:
        self.unet, self.name, self.what = unet, name, what or "the network"
        self._prepare, self._inputs = prepare, inputs
        self._fast: UNetForward | None = None

    @property
    def ready(self) -> bool:
        """Whether the faster forward has taken over."""
        return self._fast is not None

    def begin(self) -> threading.Thread:
        """Start the preparation; the thread holds nothing of a network that is let go before its turn has come."""
        thread = threading.Thread(target=_prepare, args=(weakref.ref(self),), name=f"prepare-{self.name}", daemon=True)
        thread.start()
        return thread

    def __call__(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        ctx: ForwardContext | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        """As `UNet.forward`."""
        fast = self._fast
        if fast is not None and ctx is None:
            try:
                return fast(x, timesteps, context, None, vector)
            except Exception as error:  # torch's, Triton's and OpenVINO's own types
                if failed_device(error):
                    raise
                self._leave(first_line(error))
        # Outside the except block: a live exception would keep the failed forward's tensors
        return self.unet(x, timesteps, context, ctx, vector)  # type: ignore[no-any-return]

    def prepare(self) -> None:
        """Make the faster forward, check it against the network, and let it take over.  Never raises."""
        begun = time.perf_counter()
        try:
            with torch.inference_mode():
                fast = self._prepare(self.unet, self._inputs)
                problem, gain = check(self.unet, fast, self._inputs)
        except Exception as error:
            self._leave(first_line(error))
            return
        if problem:
            self._leave(problem)
            return
        self._fast = fast
        log.info("%s evaluates %s, %.1f times as fast (%.0f s)", self.name, self.what, gain, time.perf_counter() - begun)

    def _leave(self, why: str) -> None:
        self._fast = None
        log.warning("accelerator %s is not used for %s: %s; torch's kernels go on", self.name, self.what, why)


def _prepare(of: weakref.ref[Takeover]) -> None:
    with _preparing:
        takeover = of()
        if takeover is not None:
            takeover.prepare()


Timer = Callable[[Callable[[], Tensor]], tuple[Tensor, float]]


def timed(call: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """The answer of a call, and the seconds that it took on its device."""
    begun = time.perf_counter()
    answer = call()
    if answer.device.type == "cuda":
        torch.cuda.synchronize(answer.device)
    return answer, time.perf_counter() - begun


def check(unet: UNet, fast: UNetForward, inputs: Inputs, timer: Timer = timed) -> tuple[str, float]:
    """Why `fast` is no substitute for `unet`, empty if it is; and how many times as fast it is.

    The two take turns, so that the load of other programs (and of the engine, which goes on) meets both.
    """
    x, timesteps, context, vector = inputs
    best: dict[Any, float] = {}
    for _ in range(TURNS):
        answers = []
        for forward in (unet, fast):
            answer, seconds = timer(lambda forward=forward: forward(x, timesteps, context, None, vector))  # type: ignore[misc]
            best[forward] = min(best.get(forward, seconds), seconds)
            answers.append(answer.float())
    expected, found = answers
    difference = float((found - expected).norm() / expected.norm().clamp(min=1e-6))
    if not difference <= TOLERANCE[x.dtype]:  # NaN is none of these
        return f"its output differs from the network's by {difference:.2g} of it", 0.0
    gain = best[unet] / best[fast]
    return ("" if gain > 1.0 else f"it is no faster ({gain:.2f} times as fast as torch's kernels)"), gain
