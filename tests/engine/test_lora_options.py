"""LoRAs whose strength changes while a picture is made, and LoRAs with weights of blocks or a cap of ranks."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.lora_options import block_of
from modules.diffusion.rows import Row
from modules.prompts.compose import take_networks
from tests.engine.conftest import Bench
from tests.engine.test_loras import apart, bench, changes, lora_file
from tests.tiny import tiny_checkpoint


@pytest.fixture
def models(tmp_path: Path) -> Path:
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    lora_file(tmp_path / "loras" / "ink.safetensors", changes(1))
    lora_file(tmp_path / "loras" / "oil.safetensors", changes(2))
    return tmp_path


def rows_of(on: Bench, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> list[list[Row]]:
    """The rows of each evaluation of a picture."""
    seen: list[list[Row]] = []
    denoise = ModelHandle.denoise
    with monkeypatch.context() as patch:
        patch.setattr(ModelHandle, "denoise", lambda model, rows: seen.append(list(rows)) or denoise(model, rows))
        on.submit("a", sampler="Euler", schedule="Normal", steps=6, **fields)
        on.run()
    assert "a" in on.of("done")
    return seen


@pytest.mark.parametrize(
    ("prompt", "strengths"),
    [
        ("a cat [<lora:ink:0:1>:2]", [(), (), (), (1.0,), (1.0,), (1.0,)]),
        ("a cat [<lora:ink:0:0.7>::2]", [(0.7,), (0.7,), (0.7,), (), (), ()]),
        ("a cat [<lora:ink:0:1>:<lora:ink:0:-0.5>:2]", [(1.0,)] * 3 + [(-0.5,)] * 3),
        ("a cat <lora:ink:0:0.25>[<lora:ink:0:0.5>:2]", [(0.25,)] * 3 + [(0.75,)] * 3),
        ("a cat [<lora:ink:0:1>:<lora:ink:0:0>:2]", [(1.0,)] * 3 + [()] * 3),
    ],
)
def test_the_strength_on_the_network_changes_at_that_step(
    models: Path, monkeypatch: pytest.MonkeyPatch, prompt: str, strengths: list[tuple[float, ...]]
) -> None:
    seen = rows_of(bench(models), monkeypatch, prompt=prompt)
    assert [{tuple(strength for _, strength in row.adapters) for row in rows} for rows in seen] == [{one} for one in strengths]


def test_the_text_encoder_s_strength_follows_too(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the step the contexts are those without, behind it those with the LoRA; of the negative prompt as well."""
    on = bench(models)
    changing = rows_of(on, monkeypatch, prompt="a [cat:dog:3] [<lora:ink:0.8:0>:1]", negative_prompt="bad")
    without = rows_of(on, monkeypatch, prompt="a [cat:dog:3] ", negative_prompt="bad")
    with_it = rows_of(on, monkeypatch, prompt="a [cat:dog:3] <lora:ink:0.8:0>", negative_prompt="bad")
    for step, (rows, before, after) in enumerate(zip(changing, without, with_it, strict=True)):
        expected, other = (before, after) if step <= 1 else (after, before)
        for row, same, different in zip(rows, expected, other, strict=True):
            torch.testing.assert_close(row.conditioning.context, same.conditioning.context, rtol=1e-4, atol=1e-4)
            assert float((row.conditioning.context - different.conditioning.context).abs().max()) > 0.01


def test_pictures_whose_loras_change_painted_together_equal_those_alone(models: Path) -> None:
    prompts = {
        "in": "a cat [<lora:ink:1>:1]",
        "swap": "a cat [<lora:ink:1>:<lora:oil:0.5>:0.4]",
        "turns": "a cat [<lora:ink:1>|<lora:oil:1>]",
        "none": "a cat",
    }
    together = bench(models)
    for name, prompt in prompts.items():
        together.submit(name, user=name, prompt=prompt)
    together.run()
    for name, prompt in prompts.items():
        assert apart(together.pixels(name), together.alone(prompt=prompt)) <= 1, name
    assert together.of("done")["turns"].data["extras"]["Lora hashes"].count(":") == 2


def test_too_many_encodings_of_a_prompt_are_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modules.prompts.limits.MAX_ENCODINGS", 3)
    on = bench(models)
    on.submit("a", prompt="a cat [<lora:ink:1>:1]")
    on.submit("b", prompt="a cat [<lora:ink:0:1>:1]")
    on.run()
    assert "under 2 different strengths of networks are 4 encodings" in str(on.of("failed")["a"].data)
    assert "b" in on.of("done")


# ---- blocks and ranks


def names_of_blocks() -> tuple[list[str], list[str]]:
    """All blocks of the tiny network in their order, and those with attention."""
    places = changes(1)["unet"]
    order = {"I": 0, "M": 1, "O": 2}
    every = sorted({block_of(place) for place in places} - {""}, key=lambda block: (order[block[0]], block))
    attentive = {block_of(place) for place in places if ".transformer_blocks." in place}
    return every, [block for block in every if block in attentive]


def weighted(factors: dict[str, float]) -> dict[str, Any]:
    """The changes of "ink" times the weights of their blocks."""
    made = changes(1)
    for part, layers in made.items():
        for place, (low, high) in layers.items():
            layers[place] = low, high * factors.get(block_of(place) if part == "unet" else "BASE", 1.0)
    return made


@pytest.mark.parametrize("which", ["attention", "all", "named"])
def test_weights_of_blocks_paint_what_the_weighted_file_paints(models: Path, which: str) -> None:
    every, attentive = names_of_blocks()
    named = {"named": [attentive[0], "MID"], "all": ["BASE", *every], "attention": ["BASE", *attentive]}[which]
    numbers = [1.0 if which == "named" else (number % 4) / 2 - 0.5 for number in range(len(named))]
    factors = dict.fromkeys(("BASE", *every), 0.0) | dict(zip(named, numbers, strict=True))
    lora_file(models / "loras" / "made.safetensors", weighted(factors))
    tag = ",".join(named if which == "named" else map(str, numbers))
    both = bench(models)
    both.submit("tag", prompt=f"a cat <lora:ink:0.8:lbw={tag}>")
    both.submit("file", prompt="a cat <lora:made:0.8>")
    both.submit("whole", prompt="a cat <lora:ink:0.8>")
    both.run()
    assert apart(both.pixels("tag"), both.pixels("file")) <= 1
    assert apart(both.pixels("tag"), both.pixels("whole")) > 20, "the test can fail"
    assert apart(both.pixels("tag"), both.alone(prompt=f"a cat <lora:ink:0.8:lbw={tag}>")) <= 1
    assert both.of("done")["tag"].data["extras"]["Lora hashes"] == both.of("done")["whole"].data["extras"]["Lora hashes"]


def test_a_wrong_count_is_left_out_and_said(models: Path) -> None:
    every, attentive = names_of_blocks()
    on = bench(models)
    on.submit("a", prompt="a cat <lora:ink:1:lbw=1,0,1>")
    on.submit("plain", prompt="a cat ")
    on.run()
    assert apart(on.pixels("a"), on.pixels("plain")) <= 1
    done = on.of("done")["a"].data
    counts = f"{1 + len(attentive)} (blocks with attention) or {1 + len(every)} (all blocks)"
    assert f"lbw: it has 3 numbers, this checkpoint takes {counts}" in done["facts"]["notes"]
    assert done["extras"]["Networks left out"] == "<lora:ink:1:lbw=1,0,1>"


def test_blocks_of_weight_0_have_no_side_paths_and_equal_options_are_one_object(models: Path) -> None:
    model = bench(models).manager.load("tiny")
    whole = model.adapter("ink")
    (network,) = take_networks("<lora:ink:1:lbw=MID>")[1]
    one = model.adjusted(whole, network.options())
    assert {block_of(place) for place in one.parts["unet"].deltas} == {"MID", ""}
    assert "text" not in one.parts
    assert model.adjusted(whole, network.options()) is one
    assert one.version != whole.version


def test_a_cap_of_ranks_paints_what_the_file_with_so_many_paints(models: Path) -> None:
    cut = {
        part: {place: (a[:2].clone(), b[:, :2].clone()) for place, (a, b) in layers.items()}
        for part, layers in changes(1).items()
    }
    lora_file(models / "loras" / "made.safetensors", cut, alpha=1.0)  # of 2 ranks what 2 of 4 are
    both = bench(models)
    both.submit("tag", prompt="a cat <lora:ink:0.8:0.8:2>")
    both.submit("file", prompt="a cat <lora:made:0.8>")
    both.submit("more", prompt="a cat <lora:ink:0.8:dyn=100>")
    both.submit("whole", prompt="a cat <lora:ink:0.8>")
    both.run()
    assert apart(both.pixels("tag"), both.pixels("file")) <= 1
    assert apart(both.pixels("more"), both.pixels("whole")) <= 1
    assert apart(both.pixels("tag"), both.pixels("whole")) > 20, "the test can fail"


def test_a_name_with_colons_and_brackets(models: Path) -> None:
    lora_file(models / "loras" / "style: ink [v2] (x).safetensors", changes(1))
    both = bench(models)
    both.submit("odd", prompt="a cat <lora:style: ink [v2] (x):0.8>")
    both.submit("plain", prompt="a cat <lora:ink:0.8>")
    both.run()
    assert apart(both.pixels("odd"), both.pixels("plain")) <= 1
    assert "notes" not in both.of("done")["odd"].data["facts"]


def test_a_file_that_is_deleted_before_the_picture_is_left_out_and_said(models: Path) -> None:
    on = bench(models)
    (models / "loras" / "ink.safetensors").unlink()
    on.submit("a", prompt="a cat <lora:ink:1>")
    on.run()
    assert "<lora:ink:1>: network 'ink' is not here" in on.of("done")["a"].data["facts"]["notes"]


def test_a_thousand_in_one_prompt_are_one_sentence_and_eight_are_read(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        lora_file(models / "loras" / f"n{number}.safetensors", changes(number, rank=1))
    on = bench(models)
    looked: list[str] = []
    knows = ModelHandle.knows_network
    monkeypatch.setattr(ModelHandle, "knows_network", lambda m, kind, name: looked.append(name) or knows(m, kind, name))
    on.submit("a", prompt="a cat " + "".join(f"<lora:n{number}:0.1>" for number in range(1000)))
    on.run()
    done = on.of("done")["a"].data
    notes = done["facts"]["notes"]
    assert (
        "<lora:n8:0.1>, <lora:n9:0.1>, <lora:n10:0.1> and 989 more: 8 different networks are the most of one picture" in notes
    )
    assert len(notes) < 300
    assert looked == [f"n{number}" for number in range(8)], "the others' files are not looked for"


def test_files_that_cannot_be_loras_are_left_out_and_said(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (models / "loras" / "evil.safetensors").write_bytes(pickle.dumps({"lora_unet_x.lora_down.weight": [0.0] * 100}))
    (models / "loras" / "short.safetensors").write_bytes((models / "loras" / "ink.safetensors").read_bytes()[:-10])
    large = models / "loras" / "large.safetensors"
    large.write_bytes((models / "loras" / "ink.safetensors").read_bytes())
    monkeypatch.setattr("modules.checkpoints.loras.MAX_FILE", large.stat().st_size - 1)
    on = bench(models)
    on.submit("a", prompt="a cat <lora:evil:1><lora:short:1><lora:large:1>")
    on.submit("plain", prompt="a cat ")
    on.run()
    assert apart(on.pixels("a"), on.pixels("plain")) <= 1
    notes = on.of("done")["a"].data["facts"]["notes"]
    assert "<lora:evil:1>: evil.safetensors" in notes
    assert "pickle" in notes
    assert "<lora:short:1>: short.safetensors" in notes
    assert "<lora:large:1>: it is no LoRA: it has 0.0 GB, at most" in notes
