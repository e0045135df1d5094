"""The stage "practice": the U-Net of a finished file learns things that it misses.

On scenes of these the loss is the denoiser's; on others, as many, what the U-Net predicted before is what it is to predict
(learning without forgetting: Li & Hoiem 2016, arXiv:1606.09282). The text encoder and the cross-attention's queries, keys and
values stay, so that what the stage "wording" taught, before or beside, is read as before.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from modules.diffusion.attention import sdpa
from modules.diffusion.unet import UNet
from modules.errors import SettingsError
from modules.training.captions import caption
from modules.training.cases import resolved
from modules.training.composition import Composer, to_unit
from modules.training.denoiser import EMPTY, NoiseLoss, draw_noise, draw_timesteps, einsum_attention
from modules.training.export import replace_part
from modules.training.loop import Budget, Rate, Trainer, fingerprint, generator, replaced, rng
from modules.training.muon import optimiser
from modules.training.normalise import TrainingKernels, channels_last
from modules.training.scenes import Scene, SceneSampler, arrays
from modules.training.starter import Starter, load

BATCH = 24
RATE = 1e-4
STAY = ("attn2.to_q", "attn2.to_k", "attn2.to_v")


def scenes_of(names: Sequence[str], missed: Sequence[str], count: int, rand: random.Random) -> list[Scene]:
    """Every other one of the motifs `missed` alone."""
    samplers = SceneSampler(missed), SceneSampler(names)
    return [samplers[index % 2].draw(rand) for index in range(count)]


@torch.no_grad()
def latents_of(starter: Starter, composer: Composer, scenes: Sequence[Scene], rand: random.Random) -> Tensor:
    """Scaled latents (N, 4, h, w) of the scenes' pictures, in float16."""
    slots, grounds = arrays(scenes, composer.numbers, rand)
    parts, began = [], time.monotonic()
    for start in range(0, len(scenes), 16):
        x = to_unit(composer.compose(slots[start : start + 16], grounds[start : start + 16]).round())
        parts.append(starter.latents(x).half())
        if start % 1024 == 0:
            print(f"practice: {start} of {len(scenes)} scenes encoded, {time.monotonic() - began:.0f} s", flush=True)
    return torch.cat(parts)


def _kept_latents(file: Path, starter: Starter, composer: Composer, scenes: Sequence[Scene], rand: random.Random) -> Tensor:
    """Those of an earlier run of the same practice, where there was one."""
    if file.exists():
        return torch.load(file, weights_only=True, map_location=starter.device)  # type: ignore[no-any-return]
    made = latents_of(starter, composer, scenes, rand)
    with replaced(file) as partial:
        torch.save(made, partial)
    return made


def train(
    starter: Starter, composer: Composer, missed: Sequence[str], work: Path, budget: Budget, count: int, seed: int = 6
) -> UNet:
    """The U-Net of `starter` after training; the state lives in `work`, and is of this U-Net and these motifs."""
    torch.manual_seed(seed)
    rand, device = rng(seed, -1), starter.device
    scenes = scenes_of(resolved(starter.motifs), missed, count, rand)
    state = work / f"practice-{fingerprint(starter.unet, *missed, str(count))}.pt"
    latents = _kept_latents(state.with_suffix(".latents"), starter, composer, scenes, rand)
    unet = UNet(starter.unet.config, einsum_attention if device.type == "cpu" else sdpa, TrainingKernels()).to(device)
    unet.load_state_dict(starter.unet.state_dict())
    channels_last(unet)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(not any(part in name for part in STAY))
    ends: set[Tensor] = {unet.input_blocks[0][0].weight, unet.out[2].weight}  # type: ignore[index, arg-type]
    trainer = Trainer(unet, optimiser(unet, ends, RATE, 1.0), Rate(RATE, 100), state, ema=0.998, title="practice")
    trainer.resume()
    loss = NoiseLoss(device)

    def loss_of(step: int, used: float) -> Tensor:
        words, gen = rng(seed, step), generator(seed, step, device)
        index = torch.randint(0, len(latents), (BATCH,), generator=gen, device=device)
        texts = ["" if words.random() < EMPTY else caption(scenes[number], words) for number in index.tolist()]
        clean = latents[index].float()
        noise, timesteps = draw_noise(clean, gen), draw_timesteps(BATCH, gen, device)
        context, x = starter.encode(texts).bfloat16(), loss.noised(clean, timesteps, noise)
        known, wanted = index % 2 == 1, noise.clone()
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                wanted[known] = starter.unet(x[known], timesteps[known], context[known]).float()
            predicted = unet(x, timesteps, context).float()
        return loss.error(predicted, wanted, timesteps)

    trainer.run(loss_of, budget)
    unet.load_state_dict(trainer.average)
    return unet.eval()


def practise(
    file: Path, composer: Composer, missed: Sequence[str], work: Path, budget: Budget, device: torch.device, count: int
) -> None:
    """Train the U-Net of `file` on `count` scenes, every other one of the motifs `missed`, and write the file anew, whole or
    not at all, all else as it is.

    Raises:
        CheckpointError: the file cannot be read, or it is no miniature of Stable Diffusion 1.x.
        SettingsError: it does not draw one of the motifs.
    """
    starter = load(file, device, bfloat16=True)
    if unknown := set(missed) - set(resolved(starter.motifs)):
        raise SettingsError(f"{file} names no motif {', '.join(sorted(unknown))}; its list is in its metadata, atelier.motifs.")
    replace_part(file, "unet", train(starter, composer, missed, work, budget, count), starter.metadata)
