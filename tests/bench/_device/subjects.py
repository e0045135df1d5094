"""Who is measured: this program with each accelerator, and diffusers eager and compiled, on the same random weights.

Ours are loaded as the engine loads them, from a file in Stable Diffusion 1.x layout; diffusers' networks get the tensors of the
same file.  Everything is made when it is first asked for.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.hashes import file_sha256
from modules.engine.setup import DTYPES, build_engine, choose
from modules.errors import AtelierError
from modules.jobs.worker import engine_configuration
from modules.settings import Settings
from tests.bench import Figure
from tests.bench._device.floor import TOKENS
from tests.bench._device.plan import Plan
from tests.bench._device.programs import Program
from tests.bench._device.turns import failure, timed
from tests.tiny import random_state

CHECKPOINT = "random"

THEIRS = "diffusers"
COMPILED = "diffusers compiled"
OPENVINO = "diffusers in OpenVINO"

SETTLING = {"graphs": 10.0, "compile": 70.0, "openvino": 100.0}
"""Seconds that an accelerator may take to become faster than the network itself, behind which it may work at first."""


@dataclass
class Subjects:
    """All programs of one run, in `folder`."""

    plan: Plan
    folder: Path
    open: ExitStack = field(default_factory=ExitStack)
    """Closes the programs that were started."""
    programs: dict[str, Program] = field(default_factory=dict)
    _ours: dict[str, ModelHandle] = field(default_factory=dict)
    _settled: set[Any] = field(default_factory=set)
    _refused: set[str] = field(default_factory=set)

    @cached_property
    def dtype(self) -> torch.dtype:
        """What `plan.dtype` means here."""
        if self.plan.dtype in DTYPES:
            return DTYPES[self.plan.dtype]
        return choose("auto", self.plan.dtype, "auto", "none").dtype

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The checkpoint's tensors on the device, in the number format of the U-Net (a file's is float16 on a GPU)."""
        drawn = random_state(self.plan.unet, self.plan.vae, self.plan.text, 0, self.plan.device)
        return {name: each.to(self.dtype) if each.is_floating_point() else each for name, each in drawn.items()}

    @property
    def _hashes(self) -> Path:
        return self.folder / "hashes.json"

    @cached_property
    def models(self) -> Path:
        """A models folder with the checkpoint in it."""
        folder = self.folder / "models"
        folder.mkdir()
        on_host = {name: tensor.cpu().contiguous() for name, tensor in self.state.items()}
        side = str(self.plan.side)
        file = folder / f"{CHECKPOINT}.safetensors"
        save_file(on_host, file, {"format": "pt", "atelier.native_size": f"{side}x{side}"})
        self.remember(file)
        return folder

    # ---- ours

    def settings(self, accelerator: str) -> Settings:
        """Of a run with folders of its own, which knows the hashes of the files."""
        models = self.models
        place = self.folder / f"{accelerator}-{len(list(self.folder.iterdir()))}"
        (place / "data").mkdir(parents=True)
        shutil.copyfile(self._hashes, place / "data" / self._hashes.name)
        return Settings(
            data_dir=place / "data",
            outputs_dir=place / "outputs",
            models_dirs=(models,),
            accelerator=accelerator,
            dtype=self.dtype_name,
        )

    def remember(self, file: Path) -> None:
        """Hash a file, which programs that are started from now on need not do."""
        file_sha256(file, self._hashes)

    def ours(self, accelerator: str) -> ModelHandle:
        """The model as an engine with this accelerator loads it.

        Raises:
            SettingsError: the accelerator does not run here.
        """
        if accelerator not in self._ours:
            engine, _ = build_engine(engine_configuration(self.settings(accelerator)), lambda message: None)
            self._ours[accelerator] = engine.manager.load(CHECKPOINT)
        return self._ours[accelerator]

    def program(self, accelerator: str) -> Program:
        """An App whose engine has this accelerator; it stays for the parts that come, and waits while others are measured."""
        if accelerator not in self.programs:
            program = self.programs[accelerator] = Program(self.plan, self.settings(accelerator), CHECKPOINT)
            self.open.callback(program.close)
        return self.programs[accelerator]

    def available(self, accelerators: tuple[str, ...]) -> Iterator[str | Figure]:
        """Those that run here; for the others, once, a line that says why not."""
        for name in accelerators:
            try:
                choose("auto", self.plan.dtype, "auto", name)
            except AtelierError as error:
                if name not in self._refused:
                    yield failure("left out", str(error), by=mine(name))
                self._refused.add(name)
            else:
                yield name

    def forward(self, accelerator: str, rows: int, side: int) -> Callable[[], Tensor]:
        """One forward of our U-Net, in inference mode as the engine runs it."""
        evaluate = self.ours(accelerator).denoiser.forward  # type: ignore[attr-defined]
        with torch.inference_mode():
            inputs = self._inputs(rows, side)

        def call() -> Tensor:
            with torch.inference_mode():
                out: Tensor = evaluate(*inputs)
            return out

        self._settle(accelerator, rows, side, call)
        return call

    def decode(self, accelerator: str, side: int) -> Callable[[], Tensor]:
        latent = self.ours(accelerator).latent
        with torch.inference_mode():
            x = self._latent(1, side).float()

        def call() -> Tensor:
            with torch.inference_mode():
                return latent.decode(x)

        return call

    def _settle(self, accelerator: str, rows: int, side: int, call: Callable[[], Tensor]) -> None:
        """Call until the accelerator has taken over, which may happen behind calls that still run the network itself.

        It has when calls take less than the second did, or where the first took so long that the work was done there.
        """
        if (accelerator, rows, side) in self._settled or accelerator not in SETTLING:
            return
        self._settled.add((accelerator, rows, side))
        end = time.monotonic() + min(SETTLING[accelerator], max(1.0, self.plan.left))
        first, second = timed(call, self.plan), timed(call, self.plan)
        for _ in range(6 if second < 0.2 else 2):
            call()
        if first > 20 * second:
            return
        while time.monotonic() < end and min(timed(call, self.plan) for _ in range(3)) > 0.85 * second:
            if accelerator == "graphs":
                end -= 1.0 + 20 * second  # captured in a tenth of a second, and not kept where it is no faster
            time.sleep(0.05)

    # ---- diffusers

    @cached_property
    def their_unet(self) -> Any:
        return self._unet()

    @cached_property
    def compiled_unet(self) -> Any:
        """As its documentation recommends for speed.  Compiled by the first calls, in about a minute."""
        network = self._unet().to(memory_format=torch.channels_last)
        return torch.compile(network, mode="reduce-overhead")

    @cached_property
    def their_vae(self) -> Any:
        from tests.diffusion import reference

        return reference.vae(self.plan.vae, self.state).to(self.plan.device, self.dtype)

    def their_forward(self, compiled: bool, rows: int, side: int) -> Callable[[], Tensor]:
        """One forward of their U-Net, called exactly as their pipeline does it, so that what is compiled here serves there."""
        network = self.compiled_unet if compiled else self.their_unet
        x, _, context = self._inputs(rows, side)
        timestep = torch.tensor(500.0, device=self.plan.device)
        rest = {"timestep_cond": None, "cross_attention_kwargs": None, "added_cond_kwargs": None, "return_dict": False}

        def call() -> Tensor:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                out: Tensor = network(x, timestep, encoder_hidden_states=context, **rest)[0]
            return out

        return call

    def openvino_forward(self, rows: int, side: int) -> Callable[[], Tensor]:
        """One forward of their U-Net, converted and compiled by OpenVINO for the CPU, in our number format."""
        import openvino

        x, timesteps, context = self._inputs(rows, side)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = openvino.convert_model(self.their_unet, example_input=(x, timesteps[0], context))
        precision = {torch.float32: "f32", torch.bfloat16: "bf16"}[self.dtype]
        core = openvino.Core()
        compiled = core.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": precision})
        inputs = [each.float().numpy() for each in (x, timesteps[0], context)]
        return lambda: torch.from_numpy(compiled(inputs)[0])

    def their_decode(self, side: int) -> Callable[[], Tensor]:
        x = self._latent(1, side)

        def call() -> Tensor:
            with torch.no_grad():
                out: Tensor = self.their_vae.decode(x / self.their_vae.config.scaling_factor, return_dict=False)[0]
            return out

        return call

    def their_picture(self, compiled: bool) -> Callable[[], Any]:
        """Their pipeline from encoded prompts to pixels in memory: no text encoder, no file."""
        from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
        from diffusers.utils import logging

        logging.set_verbosity_error()
        betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline = StableDiffusionPipeline(
                vae=self.their_vae,
                text_encoder=None,
                tokenizer=None,
                unet=self.compiled_unet if compiled else self.their_unet,
                scheduler=EulerDiscreteScheduler(**betas),
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
        pipeline.set_progress_bar_config(disable=True)
        prompt = torch.randn(1, TOKENS, self.plan.unet.context_dim, device=self.plan.device, dtype=self.dtype)
        size = {"width": self.plan.side, "height": self.plan.side, "num_inference_steps": self.plan.steps}
        return partial(
            quietly, pipeline, prompt_embeds=prompt, negative_prompt_embeds=prompt, guidance_scale=7.0, output_type="np", **size
        )

    # ---- inputs

    def _latent(self, rows: int, side: int) -> Tensor:
        return torch.randn(rows, self.plan.unet.in_channels, side // 8, side // 8, device=self.plan.device, dtype=self.dtype)

    def _inputs(self, rows: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(rows)
        context = torch.randn(rows, TOKENS, self.plan.unet.context_dim, device=self.plan.device, dtype=self.dtype)
        return self._latent(rows, side), torch.full((rows,), 500.0, device=self.plan.device), context

    def _unet(self) -> Any:
        from tests.diffusion import reference

        copied = {name: tensor.clone() for name, tensor in self.state.items()}  # channels_last must not reach the other
        return reference.unet(self.plan.unet, copied).to(self.plan.device, self.dtype)


def mine(accelerator: str) -> str:
    """How ours is called in figures."""
    return f"ours {'eager' if accelerator == 'none' else accelerator}"


def quietly(call: Callable[..., Any], **arguments: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(**arguments)
