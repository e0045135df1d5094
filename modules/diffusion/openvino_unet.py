"""OpenVINO as an accelerator of U-Nets on CPUs: converted behind the running network, and kept on disk.

One conversion serves all sizes, rows and prompt lengths.  OpenVINO packs weights of its own, in the same number format: they
take the same memory again, beside the network's, which forwards with a context go on to use.  The converted file is mapped.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from modules.diffusion.accelerators import Accelerate, UNetForward
from modules.diffusion.forward import ForwardContext
from modules.diffusion.takeover import Inputs, Takeover, example, twin_of
from modules.diffusion.unet import UNet

log = logging.getLogger(__name__)

CACHE_BYTES = 16 * 10**9
"""Bytes of converted networks that stay on disk: four SD 1.5 in float32, twice as many in bfloat16 (stored as float16)."""

PART_SECONDS = 24 * 3600
"""A conversion that is half-written for so long was interrupted."""

Run = Callable[[list[Tensor]], Tensor]
"""A compiled network: float32 inputs in order, on the CPU, to a float32 output of its own memory."""


class Runtime(Protocol):
    """What is used of OpenVINO."""

    version: str

    def convert(self, traced: Any, shapes: list[list[int]]) -> Any:
        """A traced network, whose inputs have these shapes (-1 for any length), in OpenVINO's form."""

    def save(self, model: Any, path: Path, half: bool) -> None:
        """Write `model` to `path` (.xml, with its weights in a .bin beside it); `half` stores weights in float16."""

    def compile(self, path: Path, bfloat16: bool, threads: int) -> Run:
        """The network in a file, ready to run."""


class OpenVINO:
    """The installed OpenVINO.  Its front end is called directly: `convert_model` reports each use to a server."""

    def __init__(self) -> None:
        self._openvino = importlib.import_module("openvino")
        self._frontend = importlib.import_module("openvino.frontend")
        self._decoder = importlib.import_module("openvino.frontend.pytorch.ts_decoder")
        self.version = importlib.metadata.version("openvino")

    def convert(self, traced: Any, shapes: list[list[int]]) -> Any:
        front = self._frontend.FrontEndManager().load_by_framework("pytorch")
        decoder = self._decoder.TorchScriptPythonDecoder(traced)
        model = front.convert(front.load(decoder))
        for parameter, shape in zip(model.inputs, shapes, strict=True):
            parameter.get_node().set_partial_shape(self._openvino.PartialShape(shape))
        model.validate_nodes_and_infer_types()
        return model

    def save(self, model: Any, path: Path, half: bool) -> None:
        self._openvino.save_model(model, path, compress_to_fp16=half)

    def compile(self, path: Path, bfloat16: bool, threads: int) -> Run:
        how = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }
        compiled = self._openvino.Core().compile_model(path, "CPU", how)
        request = compiled.create_infer_request()

        def run(inputs: list[Tensor]) -> Tensor:
            request.infer([tensor.contiguous().numpy() for tensor in inputs], share_inputs=True)
            return torch.from_numpy(request.get_output_tensor(0).data).clone()

        return run


@dataclass(frozen=True)
class ConvertedNetworks:
    """Converted networks in a folder of their own, `limit` bytes of them and at least the last; the longest unused go first."""

    folder: Path
    limit: int = CACHE_BYTES

    def find(self, key: str) -> Path | None:
        """The file of this key, which counts as used now; None where there is none."""
        path = self.folder / key / "unet.xml"
        if not path.exists() or not path.with_suffix(".bin").exists():
            return None
        os.utime(path.parent)
        return path

    def add(self, key: str, write: Callable[[Path], None]) -> Path:
        """Have `write` make the file of this key, at once for all processes, and let old ones go.

        Raises:
            OSError: it cannot be written.
        """
        part = self.folder / f"{key}.{os.getpid()}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            write(part / "unet.xml")
            try:
                part.rename(self.folder / key)
            except OSError:
                if (there := self.find(key)) is None:
                    raise
                return there  # another process was first
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self._prune(key)
        return self.folder / key / "unet.xml"

    def discard(self, key: str) -> None:
        """Let one go that cannot be read."""
        shutil.rmtree(self.folder / key, ignore_errors=True)

    def _prune(self, newest: str) -> None:
        left = self.limit
        for folder in sorted(self.folder.iterdir(), key=lambda each: (each.name == newest, _used(each)), reverse=True):
            if folder.suffix == ".part":
                if time.time() - _used(folder) > PART_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            left -= sum(file.stat().st_size for file in folder.glob("*"))
            if left < 0 and folder.name != newest:
                shutil.rmtree(folder, ignore_errors=True)


def _used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


class _Traced(nn.Module):
    """A U-Net without a context, with its inputs in a row."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, vector: Tensor | None = None) -> Tensor:
        return self.unet(x, timesteps, context, None, vector)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class _Forward:
    run: Run

    def __call__(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        ctx: ForwardContext | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        """Rows without a context (`takeover.Takeover`)."""
        inputs = [x, timesteps, context] if vector is None else [x, timesteps, context, vector]
        return self.run([tensor.float() for tensor in inputs]).to(x.dtype)


@dataclass(frozen=True, eq=False)
class Converter:
    """Makes forwards by OpenVINO, from converted networks on disk where they are there (`takeover.Prepare`)."""

    runtime: Callable[[], Runtime]
    networks: ConvertedNetworks

    def __call__(self, unet: UNet, inputs: Inputs) -> UNetForward:
        runtime, half = self.runtime(), inputs[0].dtype == torch.bfloat16
        key = self._key(runtime, unet, half)
        if found := self.networks.find(key):
            try:
                return _Forward(runtime.compile(found, half, torch.get_num_threads()))
            except RuntimeError as error:
                log.warning("the converted network %s cannot be read and is made again: %s", found, error)
                self.networks.discard(key)

        path = self._converted(runtime, unet, inputs, key)
        return _Forward(runtime.compile(path, half, torch.get_num_threads()))

    def _converted(self, runtime: Runtime, unet: UNet, inputs: Inputs, key: str) -> Path:
        """The converted network's file; what it took in memory is free again.

        In float32: what OpenVINO 2026.4 makes of weights in bfloat16 gives NaN, or crashes.
        """
        half = inputs[0].dtype == torch.bfloat16
        model = runtime.convert(_traced(unet, inputs), _shapes(unet))
        return self.networks.add(key, lambda path: runtime.save(model, path, half))

    @staticmethod
    def _key(runtime: Runtime, unet: UNet, half: bool) -> str:
        known_by = unet.source or hashlib.sha256(os.urandom(16)).hexdigest()  # nothing is found for weights of unknown source
        parts = (known_by, unet.config, runtime.version, torch.__version__, half)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _traced(unet: UNet, inputs: Inputs) -> Any:
    """The graph of a forward in float32, on weights of its own in torch's plain layout."""
    twin = twin_of(unet)
    for parameter in twin.parameters():
        parameter.data = parameter.data.float().contiguous()
    tensors = tuple(tensor.float() for tensor in inputs if tensor is not None)
    with torch.no_grad():
        return torch.jit.trace(_Traced(twin), tensors, check_trace=False)  # type: ignore[no-untyped-call]


def _shapes(unet: UNet) -> list[list[int]]:
    """Those of the inputs, -1 for any length."""
    config = unet.config
    shapes = [[-1, config.in_channels, -1, -1], [-1], [-1, -1, config.context_dim]]
    return [*shapes, [-1, config.vector_inputs]] if config.vector_inputs else shapes


def by_openvino(folder: Path, runtime: Callable[[], Runtime] = OpenVINO) -> Accelerate:
    """Evaluate U-Nets with OpenVINO; converted ones lie in `folder`."""
    converter = Converter(runtime, ConvertedNetworks(folder))

    def accelerate(unet: UNet) -> UNetForward:
        takeover = Takeover(unet, "openvino", converter, example(unet), unet.title)
        takeover.begin()
        return takeover

    return accelerate


def openvino_missing(device: torch.device) -> str:
    """Why OpenVINO cannot be used on `device`, and what to do; empty when it can."""
    if device.type != "cpu":
        return f"it runs on CPUs here and the device is {device.type}; use --device cpu or --accelerator auto"
    if importlib.util.find_spec("openvino") is None:
        return f"it is not installed; run {sys.executable} -m pip install openvino, or use --accelerator auto"
    return ""
