"""The stage "wording": the text encoder of a finished file learns to read over words that name nothing.

Distillation (Hinton et al. 2015, arXiv:1503.02531) through the U-Net's cross-attention: what its layers read of a caption
within free wording, and of other ways to say the same (`retelling`), with queries of real denoising loops, is to be what they
read of the caption alone, of the encoder as it was. The U-Net is not evaluated in training, so it takes minutes on a CPU; its
weights and the autoencoder's stay.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from modules.checkpoints import shapes
from modules.checkpoints.families.sd1 import CLIP_L
from modules.diffusion.clip import CLIPText
from modules.training import retelling
from modules.training.captions import Vocabulary, caption
from modules.training.cases import resolved
from modules.training.export import replace_part
from modules.training.lexicon import Lexicon
from modules.training.linear_start import zero
from modules.training.loop import Budget, Rate, Trainer, fingerprint, generator, rng
from modules.training.retelling import Retelling
from modules.training.scenes import SceneSampler
from modules.training.starter import HEADS, Starter, load
from modules.training.wording import FUNCTION, IDIOMS, FreeWording

BATCH = 64  # texts
RATE = 6e-4  # of Adam
RETOLD, NOTHING, DISLIKED = 0.5, 0.06, 0.03  # shares of `Retelling`'s texts; captions are the rest
PLAIN = 0.2  # share of captions without free wording, that they go on being read as before
AROUND = 0.35  # share of retold ones that get free wording too
SHORT, WHOLE = 28, 5  # tokens; steps: see `shortened`
QUERIES = 32  # of a layer, for each text
LAYERS = 3  # of the U-Net's, drawn anew for each step
DEPTH = 8  # layers of the text encoder: sentences need more than captions
POOL = 48  # prompts whose denoising loops give queries
POOL_STEPS = 6
SHOWS_NOTHING = " A word that names none of them gives a question mark."  # of the file's description
TABLE = "embeddings.token_embedding.weight"


@dataclass(frozen=True)
class Layer:
    """A cross-attention layer of the U-Net: keys and values (heads * d, D) of a context; queries (N, heads * d) of loops."""

    keys: Tensor
    values: Tensor
    queries: Tensor

    def read(self, context: Tensor, chosen: Tensor) -> Tensor:
        """What the queries `chosen` (B, Q) read of contexts (B, T, D): (B, heads, Q, d)."""
        q, k, v = (_heads(x) for x in (self.queries[chosen], context @ self.keys.T, context @ self.values.T))
        return F.scaled_dot_product_attention(q, k, v)


def _heads(x: Tensor) -> Tensor:
    return x.view(*x.shape[:-1], HEADS, -1).transpose(1, 2)


def layers(starter: Starter, prompts: Sequence[str], seed: int = 0) -> list[Layer]:
    """The cross-attention layers of a file, with queries out of the denoising loops of `prompts`."""
    modules = {name: module for name, module in starter.unet.named_modules() if name.endswith("attn2")}
    found: dict[str, list[Tensor]] = {name: [] for name in modules}
    gen = generator(seed, 0)
    with _listening(modules, found, gen):
        for start in range(0, len(prompts), 8):
            part = prompts[start : start + 8]
            starter.sample(part, range(start, start + len(part)), starter.cfg_scale, POOL_STEPS)
    return [
        Layer(module.to_k.weight, module.to_v.weight, torch.cat(found[name]) @ module.to_q.weight.T)
        for name, module in modules.items()
    ]


@contextmanager
def _listening(modules: dict[str, nn.Module], found: dict[str, list[Tensor]], gen: torch.Generator) -> Iterator[None]:
    """Keep a few of the positions that each module is given."""

    def keep(name: str, x: Tensor) -> None:
        rows = x.detach().float().flatten(0, -2)
        found[name].append(rows[torch.randint(len(rows), (QUERIES,), generator=gen).to(rows.device)])

    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: keep(name, args[0])) for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def short(text: CLIPText, vocabulary: Vocabulary) -> CLIPText:
    """The encoder with the rows of a vocabulary alone, and row 0, of zeros, for every other word."""
    rows = text.state_dict()[TABLE][torch.tensor(vocabulary.tokens)]
    return _with_table(text, torch.cat([torch.zeros_like(rows[:1]), rows]))


def deep(text: CLIPText, lexicon: Lexicon) -> CLIPText:
    """The encoder with the rows of a lexicon, and `DEPTH` layers; those that it had not pass on what they are given."""
    student = _with_table(text, text.state_dict()[TABLE][lexicon.examples()], DEPTH)
    with torch.no_grad():
        for name, module in student.encoder.layers[len(text.encoder.layers) :].named_modules():
            if name.endswith(("out_proj", "fc2")):
                zero(module)
    return student


def _with_table(text: CLIPText, table: Tensor, layers: int = 0) -> CLIPText:
    state = text.state_dict()
    config = shapes.text_config({name: tuple(value.shape) for name, value in state.items()}, CLIP_L)
    made = CLIPText(replace(config, vocabulary=len(table), layers=max(config.layers, layers)))
    made.load_state_dict(made.state_dict() | state | {TABLE: table})
    return made.to(table.device)


def context_of(text: CLIPText, rows: Tensor) -> Tensor:
    """Contexts (B, 77, D) of rows (B, 77) of a vocabulary."""
    return text.final_layer_norm(text(rows)[-1])  # type: ignore[no-any-return]


def words() -> set[str]:
    """The words that the stage teaches."""
    return {word for text in (*retelling.words(), *FUNCTION, *IDIOMS) for word in text.split(" ")}


class Batches:
    """Captions, and other texts that are to be read as they are, by step number: rows (B, 77) of the two vocabularies."""

    def __init__(self, names: Sequence[str], vocabularies: tuple[Vocabulary, Lexicon], size: int, seed: int) -> None:
        self.sampler, self.free, self.vocabularies = SceneSampler(names), FreeWording(names), vocabularies
        self.retelling = Retelling(names, self.free.filler)
        self.size, self.seed = size, seed

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        rand = rng(self.seed, step)
        plain, free = zip(*(self.sound_pair(rand) for _ in range(self.size)), strict=True)
        first, second = self.vocabularies
        return torch.from_numpy(first.rows(plain)).int(), torch.from_numpy(second.rows(free)).int()

    def sound_pair(self, rand: random.Random) -> tuple[str, str]:
        """A pair whose words do not happen to name more."""
        while self.free.adds(*(pair := self.pair(rand))):
            pass
        return pair

    def pair(self, rand: random.Random) -> tuple[str, str]:
        kind = rand.choices(
            ("retold", "nothing", "disliked", ""), (RETOLD, NOTHING, DISLIKED, 1 - RETOLD - NOTHING - DISLIKED)
        )[0]
        if kind == "nothing":
            return self.retelling.nothing(rand)
        if kind == "disliked":
            return self.retelling.disliked(rand)
        if kind == "retold":
            plain, told = self.retelling.draw(rand)
            return plain, self.free.around(told, rand) if rand.random() < AROUND else told
        text = caption(self.sampler.draw(rand), rand)
        return text, text if rand.random() < PLAIN else self.free.around(text, rand)


def shortened(plain: Tensor, free: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """The texts of a step that have at most `SHORT` tokens, cut there; in every `WHOLE`th step all of them with all 77.

    Texts are short and the end mark fills the other positions: most of the arithmetic would be theirs.
    """
    if step % WHOLE == 0:
        return plain, free
    short_enough = torch.ones(len(plain), dtype=torch.bool)
    for rows in (plain, free):
        short_enough &= (rows[:, SHORT - 1 :] == rows[:, -1:]).all(1)
    if not short_enough.any():
        return plain, free
    return plain[short_enough, :SHORT], free[short_enough, :SHORT]


def teach(starter: Starter, work: Path, budget: Budget, teacher: CLIPText | None = None, seed: int = 4) -> CLIPText:
    """The text encoder of `starter`, with all of its vocabulary, after training; the state lives in `work`.

    `teacher` is the encoder that captions are read by: None for that of `starter`, as it is.
    """
    torch.manual_seed(seed)
    names, device = resolved(starter.motifs), starter.device
    vocabularies = Vocabulary(names), Lexicon(names, words())
    right, student = short(teacher or starter.text, vocabularies[0]), deep(starter.text, vocabularies[1])
    right.requires_grad_(False).eval()
    sampler = SceneSampler(names)
    read = layers(starter, [caption(sampler.draw(rand), rand) for rand in (rng(seed, -1 - i) for i in range(POOL))], seed)
    batches = Batches(names, vocabularies, BATCH, seed)
    optimiser = torch.optim.Adam(student.parameters(), RATE)
    state = work / f"wording-{fingerprint(starter.text)}.pt"  # of this encoder: training another one begins anew
    trainer = Trainer(student, optimiser, Rate(RATE, 100), state, ema=0.995, title="wording")
    trainer.resume()

    def loss_of(step: int, used: float) -> Tensor:
        plain, free = (rows.to(device) for rows in shortened(*batches.at(step), step))
        gen = generator(seed, step)
        chosen = [read[index] for index in torch.randperm(len(read), generator=gen)[:LAYERS].tolist()]
        with torch.autocast(device.type, torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            with torch.no_grad():
                wanted = context_of(right, plain)
            context, losses = context_of(student, free), []
            for layer in chosen:
                queries = torch.randint(len(layer.queries), (len(plain), QUERIES), generator=gen).to(device)
                with torch.no_grad():
                    known = layer.read(wanted, queries).float()
                losses.append((layer.read(context, queries).float() - known).square().mean() / known.var())
        return torch.stack(losses).mean()

    trainer.run(loss_of, budget)
    student.load_state_dict(trainer.average)
    rows = student.embeddings.token_embedding.weight.detach()
    return _with_table(student, rows[vocabularies[1].every.to(device)])


def metadata(before: Mapping[str, str]) -> dict[str, str]:
    """What a file says of itself after the stage: more words are known, and what it shows for a thing that it does not know."""
    more = {word for word in words() if word[0].isalpha()}
    known = json.loads(before.get("atelier.words", "[]"))
    said = {**before, "atelier.words": json.dumps(sorted(more.union(known)))}
    if retelling.NOTHING in json.loads(before.get("atelier.motifs", "[]")):
        about = before.get("atelier.description", "").removesuffix(SHOWS_NOTHING)
        said |= {"atelier.description": about + SHOWS_NOTHING, "atelier.unknown": retelling.NOTHING}
    return said


def reword(file: Path, work: Path, budget: Budget, device: torch.device, teacher: Path | None = None) -> None:
    """Teach the text encoder of `file`, and write the file anew, whole or not at all, all other tensors as they are.

    `teacher` is a file of before this stage, where `file` went through it already and is to learn further.

    Raises:
        CheckpointError: the file cannot be read, or it is no miniature of Stable Diffusion 1.x.
    """
    starter = load(file, device)
    taught = teach(starter, work, budget, load(teacher, device).text if teacher else None)
    replace_part(file, "text", taught, metadata(starter.metadata))
