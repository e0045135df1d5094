"""Stage 4, the denoiser: the U-Net and its text encoder, trained together on cached latents and fresh captions.

The loss is the noise prediction of DDPM with SD 1.x's schedule, weighted by min-SNR-5 (Hang et al. 2023) and by an emphasis
on the noisy half, where it is decided which motif appears on which ground. Offset noise and white as the unnamed ground
make named colours obeyed: without them the network reads the ground off the noise's mean.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from modules.diffusion.unet import UNet, UNetConfig
from modules.prompts.tokenizer import BOS, EOS, Tokenizer
from modules.training import parallel
from modules.training.captions import caption, fragments
from modules.training.latents import Cache, recombine
from modules.training.loop import Budget, Rate, Trainer, generator, rng
from modules.training.muon import Muon
from modules.training.normalise import channels_last, use_fast_norms

UNET = UNetConfig(channels=(64, 96, 160), res_blocks=1, transformer_depth=(0, 1, 1), context_dim=64)
TEXT_LAYERS = 3
TOKENS = 77
BATCH = 64  # shared among the workers
EMPTY = 0.1  # share of captions dropped, for classifier-free guidance
UNSEEN = -1  # stands for any token outside the trained vocabulary


class Vocabulary:
    """The tokens that captions use, as rows of a small embedding; row 0 is every other token and stays zero."""

    def __init__(self) -> None:
        tokenizer = Tokenizer()
        used = {token for fragment in fragments() for token in tokenizer.encode(fragment)}
        self.tokens = [UNSEEN, *sorted(used), BOS, EOS]
        self._rows = {token: row for row, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """(B, 77) rows for lists of token ids, with start and end marks, padded with the end mark as CLIP-L does."""
        rows = torch.full((len(prompts), TOKENS), self._rows[EOS])
        rows[:, 0] = self._rows[BOS]
        for row, prompt in zip(rows, prompts, strict=True):
            known = [self._rows.get(token, 0) for token in prompt[: TOKENS - 2]]
            row[1 : 1 + len(known)] = torch.tensor(known, dtype=row.dtype)
        return rows


class Denoiser(nn.Module):
    """Noisy latents and a prompt's rows to the predicted noise."""

    def __init__(self, vocabulary: int, unet: UNetConfig = UNET, layers: int = TEXT_LAYERS) -> None:
        super().__init__()
        self.unet = UNet(unet, attend=einsum_attention)
        self.text = CLIPTextModel(text_config(vocabulary, unet.context_dim, layers))
        use_fast_norms(self.unet)
        self._start()
        channels_last(self)

    def forward(self, x: Tensor, timesteps: Tensor, rows: Tensor) -> Tensor:
        return self.unet(x, timesteps, self.encode(rows)).float()  # type: ignore[no-any-return]

    def encode(self, rows: Tensor) -> Tensor:
        """(B, 77, D) contexts; equal prompts of a batch are encoded once."""
        distinct, where = torch.unique(rows, dim=0, return_inverse=True)
        return self.text(input_ids=distinct).last_hidden_state[where]  # type: ignore[no-any-return]

    @torch.no_grad()
    def _start(self) -> None:
        """Residual branches and the output begin at zero; row 0 of the embedding is zero and gets no gradient."""
        for name, module in self.unet.named_modules():
            if name.endswith(("out_layers.3", "proj_out", "out.2")) and isinstance(module, nn.Conv2d):
                for parameter in module.parameters():
                    parameter.zero_()
        embedding = self.text.embeddings.token_embedding.weight
        embedding.normal_(0, 0.05)
        embedding[0] = 0
        embedding.register_hook(_without_first_row)  # type: ignore[no-untyped-call]


def _without_first_row(gradient: Tensor) -> Tensor:
    gradient = gradient.clone()
    gradient[0] = 0
    return gradient


def text_config(vocabulary: int, width: int, layers: int) -> CLIPTextConfig:
    """CLIP's text model, narrow. One head per 64 channels, as SD's encoders have."""
    return CLIPTextConfig(  # type: ignore[call-arg]  # attn_implementation is taken by the base class
        vocab_size=vocabulary, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64), max_position_embeddings=TOKENS, hidden_act="quick_gelu",
        bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1, attn_implementation="eager",
    )  # fmt: skip


def einsum_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The textbook formula. With heads of 12 channels it trains 2.7 times as fast as torch's fused kernel on a CPU."""
    weights = torch.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k).softmax(-1).to(v.dtype)
    out: Tensor = torch.einsum("bhqk,bkhd->bqhd", weights, v)
    return out


def alphas_cumprod() -> Tensor:
    """SD 1.x's schedule: betas linear in their square roots from .00085 to .012, 1000 steps."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def loss_weights(alphas: Tensor) -> Tensor:
    """Per timestep: min(1/alpha, 8) stresses the noisy half, min-SNR-5 keeps the clean end from dominating."""
    return torch.minimum((1 / alphas).clamp_max(8.0), 5 * (1 - alphas) / alphas)


class Batches:
    """Training batches by step number: latents with their captions' rows, timesteps and noise."""

    def __init__(self, cache: Cache, vocabulary: Vocabulary, size: int = BATCH, seed: int = 2) -> None:
        self.cache, self.vocabulary, self.size, self.seed = cache, vocabulary, size, seed
        self.twins = cache.twins
        self.tokenizer = Tokenizer()

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Clean latents (B, 4, h, w), rows (B, 77), timesteps (B,), noise like the latents."""
        rand, gen = rng(self.seed, step), generator(self.seed, step)
        pictures = [self._picture(rand) for _ in range(self.size)]
        latents = torch.stack([latent for latent, _ in pictures])
        rows = self.vocabulary.rows([tokens for _, tokens in pictures])
        return latents, rows, draw_timesteps(self.size, gen), offset_noise(latents, gen)

    def _picture(self, rand: random.Random) -> tuple[Tensor, list[int]]:
        index = rand.randrange(len(self.cache.scenes))
        latent, scene = self.cache.latents[index], self.cache.scenes[index]
        if scene.layout == "pair":
            partner = rand.choice(self.twins[scene.ground])
            if self.cache.scenes[partner].objects[1].concept != scene.objects[0].concept:
                latent, scene = recombine(self.cache, index, partner)
        tokens = [] if rand.random() < EMPTY else self.tokenizer.encode(caption(scene, rand))
        return latent, with_unseen(tokens, rand)


def with_unseen(tokens: list[int], rand: random.Random) -> list[int]:
    """Now and then, words that the model does not know, anywhere: they must be ignored, in a negative prompt as well."""
    if rand.random() < (0.12 if tokens else 0.4):
        for _ in range(rand.randint(1, 8)):
            tokens.insert(rand.randint(0, len(tokens)), UNSEEN)
    return tokens


def draw_timesteps(count: int, gen: torch.Generator) -> Tensor:
    """Half of them in the noisy 45 %, the others logit-normal around the middle."""
    noisy = 0.55 + 0.45 * torch.rand(count, generator=gen)
    middle = torch.sigmoid(torch.randn(count, generator=gen) + 0.35)
    chosen = torch.where(torch.rand(count, generator=gen) < 0.5, noisy, middle)
    return (chosen * 1000).long().clamp(0, 999)


def offset_noise(like: Tensor, gen: torch.Generator) -> Tensor:
    """Gaussian noise whose channel means wander in 60 % of the pictures (Guttenberg 2023)."""
    batch, channels = like.shape[:2]
    offsets = torch.randn(batch, channels, 1, 1, generator=gen) * (torch.rand(batch, 1, 1, 1, generator=gen) < 0.6)
    return torch.randn(like.shape, generator=gen) + 0.5 * offsets


def make_trainer(model: Denoiser, file: Path, peak: float = 1e-3) -> Trainer:
    """Muon on the hidden matrices; Adam on the embeddings, the first and last convolution, norms and biases."""
    ends = {model.unet.input_blocks[0][0].weight, model.unet.out[2].weight}  # type: ignore[index]
    ends |= {module.weight for module in model.text.modules() if isinstance(module, nn.Embedding)}
    matrices = [p for p in model.parameters() if p.ndim > 1 and p not in ends]
    others = [p for p in model.parameters() if p.ndim <= 1 or p in ends]
    return Trainer(model, Muon(matrices, others, peak), Rate(peak, warmup=100), file)


def train(cache: Cache, file: Path, budget: Budget, seed: int = 2, stop_at: int | None = None, batch: int = BATCH) -> Denoiser:
    """Train until the budget is used up; the state lives in `file`. Returns the averaged weights."""
    torch.manual_seed(seed)
    vocabulary = Vocabulary()
    model = Denoiser(len(vocabulary))
    trainer = make_trainer(model, file)
    trainer.resume()
    batches = Batches(cache, vocabulary, batch // parallel.size(), seed)
    alphas = alphas_cumprod()
    weights = loss_weights(alphas)
    if parallel.rank() == 0:
        print(f"denoiser: step {trainer.step}, {len(vocabulary)} tokens, {len(cache.scenes)} latents", flush=True)

    def loss_of(step: int) -> Tensor:
        latents, rows, timesteps, noise = batches(step * parallel.size() + parallel.rank())
        alpha = alphas[timesteps][:, None, None, None]
        noisy = (alpha.sqrt() * latents + (1 - alpha).sqrt() * noise).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = model(noisy, timesteps, rows)
        errors = (predicted - noise).square().mean((1, 2, 3))
        loss: Tensor = (errors * weights[timesteps]).mean()
        return loss

    trainer.run(loss_of, budget, stop_at)
    model.load_state_dict(trainer.average)
    return model


def load(file: Path) -> Denoiser:
    """The averaged weights of an earlier or running `train`."""
    model = Denoiser(len(Vocabulary()))
    model.load_state_dict(torch.load(file, weights_only=True)["average"])
    return model.eval()
