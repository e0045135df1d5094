"""The stage "denoiser": the U-Net and its text encoder, trained together on cached latents and their captions.

The loss is the noise prediction of DDPM (Ho et al. 2020) with SD 1.x's schedule, weighted as `schedule.loss_weights` says.
Offset noise (Guttenberg 2023) and white as the unnamed ground make named colours obeyed: without them the network reads the
ground off the noise's mean.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from modules.diffusion.attention import Attend, sdpa
from modules.diffusion.clip import CLIPText
from modules.diffusion.unet import UNet
from modules.training.captions import Vocabulary
from modules.training.data import Scenes, empty_rows
from modules.training.linear_start import zero
from modules.training.loop import Budget, Rate, Trainer, generator
from modules.training.muon import optimiser
from modules.training.normalise import TrainingKernels, channels_last
from modules.training.recipe import Recipe
from modules.training.schedule import alphas_cumprod, loss_weights

EMPTY = 0.1  # share of captions dropped, for classifier-free guidance
OFFSET, OFFSET_SHARE = 0.5, 0.6  # how far the noise's channel means wander, and in how many pictures
ALONE = 0.25  # the share of the budget in which scenes of one glyph come more often: names are learned from them soonest


class Denoiser(nn.Module):
    """Noisy latents and a prompt's rows to the predicted noise. The text encoder's vocabulary is the short one."""

    def __init__(self, recipe: Recipe, vocabulary: int, attend: Attend = sdpa) -> None:
        super().__init__()
        self.unet = UNet(recipe.unet, attend, TrainingKernels())
        self.text = CLIPText(recipe.text(vocabulary))
        self._start()
        channels_last(self)

    def forward(self, x: Tensor, timesteps: Tensor, rows: Tensor) -> Tensor:
        """Noise like x (B, 4, h, w) in float32; rows (B, 77)."""
        context = self.encode(rows)
        if torch.is_autocast_enabled(x.device.type):
            context = context.to(torch.get_autocast_dtype(x.device.type))  # once, not in each layer that reads it
        return self.unet(x, timesteps, context).float()  # type: ignore[no-any-return]

    def encode(self, rows: Tensor) -> Tensor:
        """Contexts (B, 77, D)."""
        return self.text.final_layer_norm(self.text(rows)[-1])  # type: ignore[no-any-return]

    @torch.no_grad()
    def _start(self) -> None:
        """Residual branches and the output begin at zero; row 0 of the embedding is zero and gets no gradient."""
        for name, module in self.unet.named_modules():
            if name.endswith(("out_layers.3", "proj_out", "out.2")):
                zero(module)
        embeddings = self.text.embeddings
        embeddings.token_embedding.weight.normal_(0, 0.05)
        embeddings.token_embedding.weight[0] = 0
        embeddings.token_embedding.padding_idx = 0
        embeddings.position_embedding.weight.normal_(0, 0.02)


def einsum_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The textbook formula. With heads of 12 channels it trains 2.7 times as fast as torch's fused kernel on a CPU."""
    weights = torch.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k).softmax(-1).to(v.dtype)
    out: Tensor = torch.einsum("bhqk,bkhd->bqhd", weights, v)
    return out


class Batches:
    """Training batches by step number, made on the device: everything that they need lies there."""

    def __init__(
        self, scenes: Scenes, latents: Tensor, vocabulary: Vocabulary, size: int, seed: int, device: torch.device
    ) -> None:
        self.size, self.seed, self.device = size, seed, device
        self.latents = latents.to(device)
        self.rows = torch.from_numpy(scenes.rows).to(device)
        self.alone = torch.from_numpy(scenes.alone).to(device)
        self.empty = torch.from_numpy(empty_rows(vocabulary)).to(device)

    def at(self, step: int, used: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Clean latents (B, 4, h, w), rows (B, 77), timesteps (B,), noise like the latents."""
        gen, device, size = generator(self.seed, step, self.device), self.device, self.size

        def whole(high: int, count: int = size) -> Tensor:
            return torch.randint(0, high, (count,), generator=gen, device=device)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=gen, device=device)

        index = whole(len(self.latents))
        alone = int(size * 0.5 * max(0.0, 1 - used / ALONE)) if len(self.alone) else 0
        if alone:
            index[:alone] = self.alone[whole(len(self.alone), alone)]
        latents = self.latents[index].float()
        rows = self.rows[index, whole(self.rows.shape[1])]
        rows = torch.where((uniform(size) < EMPTY)[:, None], self.empty[whole(len(self.empty))], rows).int()
        noise = draw_noise(latents, gen)
        return latents, rows, draw_timesteps(size, gen, device), noise


def draw_noise(latents: Tensor, gen: torch.Generator) -> Tensor:
    """Noise like latents (B, 4, h, w), some of it offset."""
    size, channels, device = len(latents), latents.shape[1], latents.device
    offsets = torch.randn(size, channels, 1, 1, generator=gen, device=device)
    offsets = OFFSET * offsets * (torch.rand(size, 1, 1, 1, generator=gen, device=device) < OFFSET_SHARE)
    return torch.randn(latents.shape, generator=gen, device=device) + offsets


class NoiseLoss:
    """The weighted error of predicted noise."""

    def __init__(self, device: torch.device) -> None:
        alphas = alphas_cumprod()
        self.alphas, self.weights = alphas.to(device), loss_weights(alphas).to(device)

    def __call__(self, predict: Callable[[Tensor, Tensor], Tensor], clean: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """A scalar; `predict` takes noisy latents (B, 4, h, w) and timesteps (B,), in bfloat16 arithmetic."""
        x = self.noised(clean, timesteps, noise)
        with torch.autocast(clean.device.type, torch.bfloat16):
            predicted = predict(x, timesteps)
        return self.error(predicted, noise, timesteps)

    def noised(self, clean: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        alpha = self.alphas[timesteps][:, None, None, None]
        return (alpha.sqrt() * clean + (1 - alpha).sqrt() * noise).contiguous(memory_format=torch.channels_last)

    def error(self, predicted: Tensor, wanted: Tensor, timesteps: Tensor) -> Tensor:
        errors = (predicted - wanted).square().mean((1, 2, 3))
        loss: Tensor = (errors * self.weights[timesteps]).mean()
        return loss


def draw_timesteps(count: int, gen: torch.Generator, device: torch.device) -> Tensor:
    """Half of them in the noisy 45 %, the others logit-normal around the middle (Esser et al. 2024)."""
    noisy = 0.55 + 0.45 * torch.rand(count, generator=gen, device=device)
    middle = torch.sigmoid(torch.randn(count, generator=gen, device=device) + 0.35)
    chosen = torch.where(torch.rand(count, generator=gen, device=device) < 0.5, noisy, middle)
    return (chosen * 1000).long().clamp(0, 999)


def make(recipe: Recipe, vocabulary: int, device: torch.device) -> Denoiser:
    return Denoiser(recipe, vocabulary, einsum_attention if device.type == "cpu" else sdpa).to(device)


def train(
    recipe: Recipe, scenes: Scenes, latents: Tensor, file: Path, budget: Budget, device: torch.device, seed: int = 2,
    stop_at: int | None = None,
) -> Denoiser:  # fmt: skip
    """Train until the budget is used up; the state lives in `file`. Returns the averaged weights."""
    torch.manual_seed(seed)
    vocabulary = Vocabulary(recipe.names)
    model = make(recipe, len(vocabulary), device)
    ends = {model.unet.input_blocks[0][0].weight, model.unet.out[2].weight}  # type: ignore[index]
    ends |= {module.weight for module in model.text.modules() if isinstance(module, nn.Embedding)}
    muon = optimiser(model, ends, recipe.rate, recipe.gain)
    trainer = Trainer(model, muon, Rate(recipe.rate, recipe.warmup), file, ema=0.9985, title="denoiser")
    trainer.resume()
    batches = Batches(scenes, latents, vocabulary, recipe.batch, seed, device)
    loss = NoiseLoss(device)
    print(f"denoiser: step {trainer.step}, {len(vocabulary)} rows of words, {len(latents)} latents", flush=True)

    def loss_of(step: int, used: float) -> Tensor:
        clean, rows, timesteps, noise = batches.at(step, used)
        return loss(lambda x, t: model(x, t, rows), clean, timesteps, noise)

    trainer.run(loss_of, budget, stop_at)
    model.load_state_dict(trainer.average)
    return model.eval()


def load(recipe: Recipe, file: Path, device: torch.device) -> Denoiser:
    """The averaged weights of an earlier or running `train`."""
    model = make(recipe, len(Vocabulary(recipe.names)), device)
    model.load_state_dict(torch.load(file, weights_only=True, map_location=device)["average"])
    return model.eval()
