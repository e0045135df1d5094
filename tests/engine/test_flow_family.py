"""A family of another kind than any that is built in: a flow with joint attention, added by this file and a plugin alone.

Everything that the family is stands here; no part of the engine, the pipelines or the checkpoints room knows of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from modules.checkpoints.families import Defaults, Family, LatentFormat
from modules.checkpoints.files import scan
from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.header import Header
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.model_file import ModelFile
from modules.diffusion.attention import sdpa
from modules.diffusion.conditioning import Conditioning
from modules.diffusion.networks import Networks, NoiseProcess
from modules.diffusion.noise import Noise
from modules.diffusion.rows import Answer, Row, can_join
from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.schedules import TrainedSigmas, sigmas_for
from modules.errors import CheckpointError
from modules.hooks import HOOKS, hookimpl
from modules.pipelines.generate import generate
from modules.pipelines.guidance.zero import still
from modules.pipelines.ops import Report
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.request import Txt2Img
from tests.engine.conftest import Bench
from tests.tiny import drawn, tiny_checkpoint, write

PREFIX, WIDTH, CHANNELS, VOCABULARY, FACTOR = "tiny_flow.", 32, 6, 50, 8
LATENT = LatentFormat(channels=CHANNELS, scale=1.5, factor=FACTOR, shift=0.1)

# ---- the family


class JointBlock(nn.Module):
    """Text and image tokens attend to each other in one softmax (Esser et al. 2024, arXiv:2403.03206)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """`tokens` (B, S, D); `seen` (B, S) says which of them are no padding."""
        heads = (part.unflatten(-1, (4, -1)).transpose(1, 2) for part in self.qkv(self.norm(tokens)).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(*heads, attn_mask=seen[:, None, None, :])
        return tokens + self.out(mixed.transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.picture_in, self.time_in = nn.Linear(CHANNELS, WIDTH), nn.Linear(16, WIDTH)
        self.blocks = nn.ModuleList([JointBlock(), JointBlock()])
        self.velocity = nn.Linear(WIDTH, CHANNELS)
        self.to_rgb, self.from_rgb = nn.Linear(CHANNELS, 3), nn.Linear(3, CHANNELS)

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, seen: Tensor) -> Tensor:
        """The velocity (B, C, h, w) at x_t and 1000 t, under `context` (B, T, D), of which `seen` (B, T) is text."""
        angles = timesteps[:, None] / 1000 * 2.0 ** torch.arange(8)
        image = self.picture_in(x.flatten(2).mT) + self.time_in(torch.cat([angles.sin(), angles.cos()], dim=1))[:, None]
        tokens = torch.cat([context, image], dim=1)
        seen = torch.cat([seen, seen.new_ones(image.shape[:2])], dim=1)
        for block in self.blocks:
            tokens = block(tokens, seen)
        return self.velocity(tokens[:, context.shape[1] :]).mT.unflatten(2, x.shape[2:])


@dataclass(frozen=True)
class TotalLength:
    tokens: int

    def can_join(self, keys: Sequence[TotalLength]) -> bool:
        return len(keys) * max(key.tokens for key in keys) <= 64


@dataclass(frozen=True, eq=False)
class JointDenoiser:
    network: Transformer
    further_channels = 0

    def has(self, place: str) -> bool:
        return False

    def example(self, height: int, width: int) -> Conditioning:
        return Conditioning(torch.zeros(4, WIDTH))

    def join_key(self, row: Row) -> TotalLength:
        return TotalLength(row.conditioning.tokens)

    def collate(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Tensor, Tensor]:
        """Contexts padded to the longest, and what of them is text: copies would be further keys beside those of the image."""
        longest = max(row.conditioning.tokens for row in rows)
        lengths = torch.tensor([row.conditioning.tokens for row in rows])
        padded = [F.pad(row.conditioning.context, (0, 0, 0, longest - row.conditioning.tokens)) for row in rows]
        return rows, torch.stack(padded), torch.arange(longest) < lengths[:, None]

    def denoise(self, batch: tuple[Sequence[Row], Tensor, Tensor], noise: NoiseProcess) -> list[Answer]:
        rows, context, seen = batch
        x, sigmas = torch.stack([row.x for row in rows]), torch.tensor([row.sigma for row in rows])
        timesteps = torch.tensor([noise.model_timestep(row.sigma) for row in rows])
        output = self.network(noise.scale_input(x, sigmas), timesteps, context, seen)
        return [Answer(x0) for x0 in noise.denoised(output, x, sigmas)]


FLOW_SIGMAS = TrainedSigmas(tuple(k / (1000 - k) for k in range(1, 1000)))
"""Up to t = 0.999: no step starts at infinity, and one from far above loses digits in single precision."""


@dataclass(frozen=True)
class FlowNoise:
    """x_t = (1 - t) * x0 + t * noise, and the network's output is dx_t/dt (Liu et al. 2022, arXiv:2209.03003)."""

    trained: TrainedSigmas = FLOW_SIGMAS

    @property
    def facts(self) -> dict[str, str]:
        return {"prediction": "flow"}

    def model_timestep(self, sigma: float) -> float:
        return 1000 * sigma / (1 + sigma)

    def scale_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + sigma)[:, None, None, None]

    def denoised(self, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        t = (sigma / (1 + sigma))[:, None, None, None]
        return self.scale_input(x, sigma) - t * output

    def at_rest(self, x: Tensor, sigma: float) -> Tensor:
        return x / (1 + sigma)

    def read_as(self, prediction: str, zero_snr: bool, ignore_zero_snr: bool) -> FlowNoise:
        return self


@dataclass(frozen=True, eq=False)
class Words:
    """A text is its words, without windows: contexts are as long as their texts."""

    network: Transformer

    def tokenise(self, texts: Sequence[str], request: Txt2Img) -> WordTexts:
        return WordTexts({text: ids(text) for text in texts})

    def encode(self, pieces: Sequence[Any], clip_skip: int, vectors: Mapping[Any, Tensor], adapters: Any = ()) -> list[Tensor]:
        return [self.network.words(torch.tensor(piece)) for piece in pieces]


@dataclass(frozen=True, eq=False)
class WordTexts:
    words: dict[str, tuple[int, ...]]

    @property
    def vectors(self) -> dict[Any, Tensor]:
        return {}

    @property
    def said(self) -> dict[str, str]:
        return {}

    @property
    def pieces(self) -> tuple[tuple[int, ...], ...]:
        return tuple(dict.fromkeys(self.words.values()))

    def conditionings(
        self, sides: Sequence[Sequence[str]], negative: Sequence[str], encoded: Mapping[Any, Tensor]
    ) -> list[tuple[Conditioning, ...]]:
        return [tuple(Conditioning(encoded[self.words[text]]) for text in texts) for texts in (*sides, negative)]


def ids(text: str) -> tuple[int, ...]:
    return (0, *(1 + sum(word.encode()) % (VOCABULARY - 1) for word in text.split()))


@dataclass(frozen=True, eq=False)
class Pooled:
    """A latent position is the mean of its pixels, seen through a linear map."""

    network: Transformer
    channels, factor = CHANNELS, FACTOR

    def encode(self, images: Tensor) -> Tensor:
        return LATENT.scaled(self.network.from_rgb(F.avg_pool2d(images, FACTOR).movedim(1, -1)).movedim(-1, 1))

    def decode(self, latents: Tensor) -> Tensor:
        return F.interpolate(self.network.to_rgb(LATENT.raw(latents).movedim(1, -1)).movedim(-1, 1), scale_factor=FACTOR)

    def to_edit(self, latent: Tensor) -> Tensor:
        return LATENT.raw(latent)

    def linear_preview(self, latent: Tensor) -> Tensor:
        return torch.zeros(*latent.shape[1:], 3, dtype=torch.uint8)


@dataclass(frozen=True, kw_only=True)
class FlowFamily(Family):
    def detects(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        return f"{PREFIX}blocks.0.qkv.weight" in shapes

    def check(self, header: Header) -> None:
        with torch.device("meta"):
            missing = [name for name in Transformer().state_dict() if PREFIX + name not in header.tensors]
        if missing:
            raise CheckpointError(f"lacks {missing[0]!r} of its transformer; use another file")

    def load(self, file: ModelFile) -> Networks:
        def make() -> Transformer:
            with torch.device("meta"):
                network = Transformer()
            names = {name: PREFIX + name for name in network.state_dict()}
            file.fill(network, names, file.dtype, "transformer")
            return network

        network: Any = file.component("transformer", make)
        return Networks(JointDenoiser(network), Words(network), Pooled(network), FlowNoise())


class Plugin:
    @hookimpl
    def families(self) -> list[Family]:
        defaults = Defaults(width=64, height=64, sampler="Euler", schedule="Simple")
        return [FlowFamily(name="tiny-flow", title="Tiny flow", latent=LATENT, defaults=defaults)]


# ---- the tests


def flow_checkpoint(path: Path, without: str = "") -> Path:
    generator = torch.Generator().manual_seed(3)
    state = {PREFIX + name: drawn(name, tensor.shape, generator) for name, tensor in Transformer().state_dict().items()}
    return write(path, {name: tensor for name, tensor in state.items() if name != PREFIX + without})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    flow_checkpoint(folder / "flow.safetensors")
    flow_checkpoint(folder / "torn.safetensors", without="velocity.weight")
    tiny_checkpoint(folder / "tiny.safetensors")
    return folder


@pytest.fixture(autouse=True)
def plugin() -> Iterator[None]:
    with HOOKS.registered(Plugin(), "flow"):
        yield


@pytest.fixture
def manager(folder: Path, tmp_path: Path) -> ModelManager:
    return ModelManager([folder], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json", keep=2)


@pytest.fixture
def model(manager: ModelManager) -> ModelHandle:
    return manager.load("flow")


def rows(words: Sequence[str], model: ModelHandle) -> list[Row]:
    generator = torch.Generator().manual_seed(5)
    contexts = model.prompts.encode([ids(text) for text in words], 1, {})
    sigmas = (0.2, 1.0, 30.0, 999.0)
    return [
        Row(torch.randn(CHANNELS, 4, 5, generator=generator) * (1 + sigma), sigma, Conditioning(context))
        for sigma, context in zip(sigmas, contexts, strict=False)
    ]


def test_its_files_are_listed_while_the_plugin_is_registered(folder: Path) -> None:
    def listed() -> dict[str, tuple[str, str]]:
        return {info.name: (info.family, info.problem) for info in scan([folder])}

    assert listed()["flow"] == ("tiny-flow", "")
    assert listed()["tiny"] == ("sd1", "")
    assert listed()["torn"] == ("", "torn.safetensors lacks 'velocity.weight' of its transformer; use another file")
    HOOKS.unregister("flow")
    try:
        assert "is not a model that this version knows" in listed()["flow"][1]
    finally:
        HOOKS.register(Plugin(), "flow")
    assert listed()["flow"] == ("tiny-flow", "")


@torch.inference_mode()
def test_rows_of_any_length_are_together_what_they_are_alone(model: ModelHandle) -> None:
    some = rows(["a", "a b c d e f g", "", "two words"], model)
    assert can_join([model.denoiser.join_key(row) for row in some])
    for row, together in zip(some, model.denoise(some), strict=True):
        (alone,) = model.denoise([row])
        torch.testing.assert_close(together.x0, alone.x0, atol=1e-5 * (1 + row.sigma), rtol=1e-5)


@torch.inference_mode()
def test_repeating_a_context_as_cross_attention_may_would_be_another_answer(model: ModelHandle) -> None:
    (row, *_) = rows(["a cat"], model)
    twice = Row(row.x, row.sigma, Conditioning(row.conditioning.context.repeat(2, 1)))
    (once_answer,), (twice_answer,) = model.denoise([row]), model.denoise([twice])
    assert float((once_answer.x0 - twice_answer.x0).abs().max()) > 1e-3


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M", "Euler a", "Heun", "UniPC"])
def test_pictures_share_forwards_and_are_what_they_are_alone(manager: ModelManager, sampler: str) -> None:
    """Prompts of different lengths, from noise and from a picture, in one engine with an SD 1.x model."""
    bench = Bench(manager)
    picture = Image.effect_noise((64, 64), 80).convert("RGB")
    basics = {"checkpoint": "flow", "sampler": sampler, "schedule": "Simple", "steps": 4}
    requests: dict[str, dict[str, Any]] = {
        "short": {**basics, "prompt": "a cat"},
        "long": {**basics, "prompt": "one prompt of many more words", "negative_prompt": "blue", "seed": 2},
        "edited": {**basics, "prompt": "[one:several more words:2] AND red :0.5", "seed": 3},
        "from a picture": {**basics, "prompt": "", "source": picture, "denoising_strength": 0.7, "seed": 4},
    }
    for name, fields in requests.items():
        bench.submit(name, user=name, **fields)
    bench.submit("another family", checkpoint="tiny", sampler="Euler")
    bench.run()
    assert not bench.of("failed"), [message.data["error"] for message in bench.of("failed").values()]
    for name, fields in requests.items():
        assert np.abs(bench.pixels(name) - bench.alone(**fields)).max() <= 1, name
    assert len({bench.pixels(name).tobytes() for name in requests}) == len(requests)
    assert bench.of("done")["short"].data["facts"]["prediction"] == "flow"
    assert bench.engine.runner.rows > bench.engine.runner.forwards * 2.5


def test_rows_that_cannot_share_a_forward_are_asked_for_one_after_the_other(manager: ModelManager) -> None:
    bench = Bench(manager)
    many = " ".join(f"w{number}" for number in range(40))
    bench.submit(
        "many words", checkpoint="flow", prompt=many, negative_prompt="few", sampler="Euler", schedule="Simple", steps=2
    )
    bench.run()
    assert not bench.of("failed")
    assert (bench.engine.runner.forwards, bench.engine.runner.rows) == (4, 4), "41 + 2 tokens would be padded to 82"


def test_an_euler_step_is_the_textbook_s_for_flows(manager: ModelManager, model: ModelHandle) -> None:
    """x_next = x_t + (t_next - t) * velocity, from noise at t = 0.999 to the picture at 0, guided in velocities."""
    request = Txt2Img(prompt="a cat", negative_prompt="a blue dog", seed=7, steps=6, width=64, height=72, cfg_scale=3.0,
                      checkpoint="flow", sampler="Euler", schedule="Simple")  # fmt: skip
    reports: list[Report] = []
    pixels = run_reference(generate(stages_of(request)), manager, reports.append).pixels

    network: Any = model.denoiser.network  # type: ignore[attr-defined]
    times = [sigma / (1 + sigma) for sigma in sigmas_for("Simple", SAMPLERS["Euler"], model.noise.trained, 6)]
    assert times[0] == pytest.approx(0.999)
    assert times[-1] == 0.0
    with torch.inference_mode():
        x = Noise(7, (CHANNELS, 9, 8))()[None] * times[0]
        for t, t_next in pairwise(times):
            positive, negative = (
                network(
                    x, torch.tensor([1000 * t]), (c := network.words(torch.tensor([ids(text)]))), torch.ones(c.shape[:2]).bool()
                )
                for text in ("a cat", "a blue dog")
            )
            x = x + (t_next - t) * (negative + 3.0 * (positive - negative))
        picture = F.interpolate(network.to_rgb((x / 1.5 + 0.1).movedim(1, -1)).movedim(-1, 1), scale_factor=8)[0]
    torch.testing.assert_close(reports[-1].denoised[None], x, atol=2e-4, rtol=1e-4)
    shown = ((picture.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0)
    assert float((pixels.float() - shown).abs().max()) <= 1


def test_no_velocity_keeps_x_where_it_is_in_the_flow_s_form(model: ModelHandle) -> None:
    """CFG-Zero*'s first steps, by Euler from t = 0.9 to 0.5: x_t = x / (1 + sigma) does not change."""
    x_t = torch.randn(CHANNELS, 4, 4, generator=torch.Generator().manual_seed(1))
    x, sigma, sigma_next = x_t * 10, 9.0, 1.0
    with pytest.raises(StopIteration) as end:
        next(still(model.noise)(x, sigma))
    x = x + (x - end.value.value.guided) / sigma * (sigma_next - sigma)
    torch.testing.assert_close(x / (1 + sigma_next), x_t)


def test_what_it_cannot_do_fails_in_words_and_what_it_can_is_measured(manager: ModelManager, model: ModelHandle) -> None:
    bench = Bench(manager)
    bench.submit("pag", checkpoint="flow", sampler="Euler", pag_scale=1.0)
    bench.submit("edit", checkpoint="flow", sampler="Euler", prediction="v", zero_snr=True)
    bench.run()
    assert "no attention in the middle of its network" in bench.of("failed")["pag"].data["error"]
    assert model.run_as("v", zero_snr=True) is model, "eps, v and zero terminal SNR are no readings of a flow"
    assert "edit" in bench.of("done")
    with torch.inference_mode():
        measured = bench.engine.runner.measure(model, 4, 4)
    assert all(math.isfinite(seconds) for seconds in measured.values())
    assert 1 in measured
