"""Teaching the text encoder of a starter to read over words that name nothing."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from modules.prompts.tokenizer import Tokenizer
from modules.training import rewording, starter
from modules.training.captions import Vocabulary
from modules.training.lexicon import KINDS, Lexicon
from modules.training.loop import Budget
from modules.training.motifs import MOTIFS, plurals
from modules.training.recipe import SMOKE
from modules.training.wording import FUNCTION, FreeWording

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less at a time: the loops that queries are taken from are most of it."""
    monkeypatch.setattr(rewording, "POOL", 8)
    monkeypatch.setattr(rewording, "BATCH", 24)
    monkeypatch.setattr(rewording, "DEPTH", 2)


def test_free_wording_leaves_the_caption_and_names_nothing() -> None:
    free = FreeWording(tuple(MOTIFS))
    named = {name for motif in MOTIFS.values() for name in (*motif.names, *plurals(motif))}
    rand, seen = random.Random(1), set[str]()
    for _ in range(300):
        text = free.around("a trumpet on a red background", rand)
        words = re.findall(r"[a-z']+", text)
        caption = iter(["trumpet", "on", "a", "red", "background"])
        assert next(caption) in words
        left = [word for word in words if word not in {"a", "trumpet", "on", "red", "background"}]
        assert not named.intersection(left) - set(FUNCTION), text
        seen.update(left)
    assert len(seen) > 500
    assert {"hot", "leg", "winner", "winter"} <= set(free.parts), "words of names and of scenery that alone are none"
    assert seen & set(free.parts)
    known = Vocabulary(tuple(MOTIFS))
    unknown = [word for word in free.words if not set(Tokenizer(raw=True).encode(word)) & set(known.tokens)]
    assert len(unknown) > 20_000, "words of the tokenizer that no caption has"


def test_a_layer_reads_what_the_u_net_reads(smoke: Path) -> None:
    """The projected output of the U-Net's own module, for the positions that it was asked at."""
    model = starter.load(smoke)
    module: Any = next(m for name, m in model.unet.named_modules() if name.endswith("attn2"))
    asked: list[Tensor] = []
    answered: list[Tensor] = []
    hook = module.to_out[0].register_forward_pre_hook(lambda _, args: answered.append(args[0]))
    before = module.register_forward_pre_hook(lambda _, args: asked.append(args[0]))
    context = model.encode(["a fox", "two cars on a red background"])
    with torch.no_grad():
        model.unet(torch.randn(2, 4, 8, 8), torch.tensor([500, 20]), context)
    hook.remove()
    before.remove()
    x = asked[0].flatten(0, -2)
    layer = rewording.Layer(module.to_k.weight, module.to_v.weight, x @ module.to_q.weight.T)
    each = len(x) // 2
    read = layer.read(context, torch.arange(2 * each).view(2, each))
    assert torch.allclose(read.transpose(1, 2).flatten(2), answered[0].reshape(2, each, -1), atol=1e-5)


def test_free_wording_becomes_nearer_to_the_caption_and_the_rest_of_the_file_stays(smoke: Path, tmp_path: Path) -> None:
    file = tmp_path / "starter.safetensors"
    file.write_bytes(smoke.read_bytes())
    before, first = load_file(file), starter.load(file)
    rewording.reword(file, tmp_path, Budget(steps=150), CPU)
    after, second = load_file(file), starter.load(file)
    with safe_open(str(file), "pt") as handle:
        said = handle.metadata()
    assert said == rewording.metadata(first.metadata)
    assert rewording.metadata(said) == said
    assert {"painted", "behind", "blurry"} <= set(json.loads(said["atelier.words"])), "which the prompt check knows from now on"
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(starter.PREFIXES["text"]) for name in changed)
    assert all(after[name].dtype == value.dtype and after[name].shape == value.shape for name, value in before.items())
    assert {name for name in after if name not in before} == {
        name.replace(".0.", ".1.") for name in after if ".layers.0." in name
    }

    free, rand = FreeWording(SMOKE.names), random.Random(9)  # other words than those of the training
    captions = ["a fox", "two cars", "an apple on a red background", "a rocket and a tree"] * 6
    texts = [free.around(text, rand) for text in captions]
    layers = rewording.layers(first, ["a fox", "a car"])
    chosen = torch.randint(96, (len(captions), 40), generator=torch.Generator().manual_seed(0))

    def distance(model: starter.Starter, wording: list[str]) -> float:
        wanted, found = first.encode(captions), model.encode(wording)
        return sum(float((one.read(found, chosen) - one.read(wanted, chosen)).square().mean()) for one in layers)

    assert distance(second, texts) < 0.5 * distance(first, texts)
    assert distance(second, captions) < 0.1 * distance(first, texts), "captions are read as they were"

    table = after[starter.PREFIXES["text"] + rewording.TABLE]
    lexicon = Lexicon(SMOKE.names, rewording.words())
    rows = [table[lexicon.every == row] for row in range(len(lexicon))]
    assert all((one == one[0]).all() for one in rows), "words of one kind, which are not known, stay alike"
    kinds = [rows[0], *rows[len(lexicon.tokens) + 1 :]]
    assert len({one[0].numpy().tobytes() for one in kinds}) == len(KINDS), "and those of two kinds do not"


def test_more_layers_begin_with_what_the_encoder_read(smoke: Path) -> None:
    model, lexicon = starter.load(smoke), Lexicon(SMOKE.names, rewording.words())
    deep = rewording.deep(model.text, lexicon)
    assert len(deep.encoder.layers) == len(model.text.encoder.layers) + 1
    texts = ["a fox on a red background", "whatever blorgs"]
    rows = torch.from_numpy(lexicon.rows(texts)).int()
    assert torch.allclose(rewording.context_of(deep, rows), model.encode(texts), atol=1e-5)


def test_a_stage_takes_up_its_own_state_and_another_encoder_begins_anew(smoke: Path, tmp_path: Path) -> None:
    model = starter.load(smoke)
    first = rewording.teach(model, tmp_path, Budget(steps=2)).state_dict()
    again = rewording.teach(model, tmp_path, Budget(steps=2)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first), "finished: nothing is trained again"
    further = rewording.teach(model, tmp_path, Budget(steps=4)).state_dict()
    assert any(not torch.equal(first[name], further[name]) for name in first)
    [state] = tmp_path.glob("wording-*.pt")
    assert torch.load(state, weights_only=True)["step"] == 4
    with torch.no_grad():
        model.text.final_layer_norm.weight.mul_(1.01)
    rewording.teach(model, tmp_path, Budget(steps=1))
    assert len(list(tmp_path.glob("wording-*.pt"))) == 2
