"""Extracting, merging and baking LoRAs: against plain arithmetic, against each other, and against painting with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lycoris.modules import DiagOFTModule, GLoRAModule, IA3Module, LoConModule, LohaModule, LokrModule
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modules.checkpoints import keys
from modules.checkpoints.files import scan
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.errors import RequestError
from modules.model_tools.merge_loras import canonical
from modules.model_tools.svd import low_rank
from tests.engine.conftest import Bench
from tests.engine.test_loras import SPELLINGS, changes
from tests.model_tools.conftest import Do
from tests.sdxl import sdxl_checkpoint
from tests.tiny import TINY_METADATA, write

U = keys.UNET
Q = "middle_block.1.transformer_blocks.0.attn1.to_q"
"""A linear layer of the tiny U-Net."""


def loaded(folder: Path, name: str) -> dict[str, Tensor]:
    return load_file(folder / f"{name}.safetensors")


def lora(folder: Path, name: str, seed: int, rank: int = 4, spelling: str = "kohya", alpha: float | None = None) -> None:
    """A LoRA for every layer of the tiny networks."""
    spell, down, up = SPELLINGS[spelling]
    tensors = {}
    for part, layers in changes(seed, rank).items():
        for place, (left, right) in layers.items():
            tensors |= {spell(part, place) + down: left, spell(part, place) + up: right}
            if alpha is not None:
                tensors[spell(part, place) + ".alpha"] = torch.tensor(alpha)
    save_file(tensors, folder / "loras" / f"{name}.safetensors")


def test_a_lora_of_full_rank_makes_one_of_the_other(do: Do, models: Path) -> None:
    """To 1e-5: what fp32 keeps of a sum of products."""
    do(tool="extract", base="a", tuned="b", rank=4096, conv_rank=4096, rest=True, dtype="fp32", output="diff")
    do(tool="bake", checkpoint="a", loras=[{"name": "diff"}], output="again")
    a, b, again = (loaded(models, name) for name in ("a", "b", "again"))
    for name, tensor in b.items():
        if name.startswith(keys.VAE) or "embeddings" in name:
            assert torch.equal(again[name], a[name]), "no LoRA changes these"
        else:
            assert torch.allclose(again[name], tensor, atol=1e-5), (name, float((again[name] - tensor).abs().max()))


def test_without_the_rest_every_attention_is_still_b(do: Do, models: Path) -> None:
    work = do(tool="extract", base="a", tuned="b", rank=64, output="diff", dtype="fp32")
    assert any("word embeddings" in note for note in work.notes)
    do(tool="bake", checkpoint="a", loras=[{"name": "diff"}], output="again")
    b, again = loaded(models, "b"), loaded(models, "again")
    names = [name for name in b if ".attn1.to_q.weight" in name or ".self_attn.q_proj.weight" in name]
    assert len(names) > 3
    for name in names:
        assert torch.allclose(again[name], b[name], atol=1e-5)
    assert not torch.allclose(again[U + "out.2.weight"], b[U + "out.2.weight"], atol=1e-3)


def test_the_file_is_kohyas(do: Do, models: Path) -> None:
    do(tool="extract", base="a", tuned="b", rank=8, conv_rank=2, alpha=4, text=False, output="small")
    found = loaded(models / "loras", "small")
    assert not any(name.startswith("lora_te") for name in found)
    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    assert found[f"{stem}.lora_down.weight"].shape == (8, 64)
    assert found[f"{stem}.lora_up.weight"].dtype == torch.float16
    assert float(found[f"{stem}.alpha"]) == 4.0
    conv = "lora_unet_mid_block_resnets_0_conv1"
    assert found[f"{conv}.lora_down.weight"].shape == (2, 64, 3, 3)
    assert found[f"{conv}.lora_up.weight"].shape == (64, 2, 1, 1)
    assert float(found[f"{conv}.alpha"]) == 1.0, "the same scale as elsewhere"
    with safe_open(models / "loras" / "small.safetensors", "pt") as file:
        said = file.metadata()
    assert (said["ss_network_module"], said["ss_network_dim"], said["ss_network_alpha"]) == ("networks.lora", "8", "4")
    assert (said["ss_base_model_version"], said["modelspec.architecture"]) == ("sd_v1", "stable-diffusion-v1/lora")
    assert len(said["sshs_model_hash"]) == 64
    assert json.loads(said["atelier.recipe"])["sources"]["tuned"]["file"] == "b.safetensors"


def test_low_rank_is_the_best_there_is() -> None:
    generator = torch.Generator().manual_seed(3)
    for shape in ((24, 60), (60, 24)):
        matrix = torch.randn(shape, generator=generator)
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        for rank in (1, 5, 24):
            up, down = low_rank(matrix, rank)
            best = left[:, :rank] * values[:rank] @ right[:rank]
            assert torch.allclose(up @ down, best, atol=1e-3)
            assert torch.isclose((matrix - up @ down).norm(), (matrix - best).norm(), atol=1e-4)
            assert torch.allclose(up.norm(), down.norm(), rtol=1e-4)
    low = torch.randn(20, 3, generator=generator) @ torch.randn(3, 30, generator=generator)
    up, down = low_rank(low, 20)
    assert torch.allclose(up @ down, low, atol=1e-5)
    assert bool(torch.cat([up.flatten(), down.flatten()]).isfinite().all())
    up, down = low_rank(matrix, 5, clamp=0.9)
    free = torch.cat([each.flatten() for each in low_rank(matrix, 5)])
    assert float(up.max()) <= np.quantile(free.numpy(), 0.9) + 1e-6
    assert torch.equal(low_rank(torch.zeros(4, 6), 2)[0] @ low_rank(torch.zeros(4, 6), 2)[1], torch.zeros(4, 6))


@pytest.mark.parametrize("spelling", ["kohya", "peft", "ldm"])
def test_merging_by_concatenation_is_exact(do: Do, models: Path, spelling: str) -> None:
    """One file at strength 0.5 and another, spelled otherwise, at -0.7: baked as one they are what both baked are."""
    lora(models, "one", 1, rank=4, alpha=2)
    lora(models, "two", 2, rank=3, spelling=spelling)
    both = [{"name": "one", "strength": 0.5}, {"name": "two", "strength": -0.7, "text_strength": 0.3}]
    do(tool="merge-loras", loras=both, checkpoint="a", dtype="fp32", output="both")
    found = loaded(models / "loras", "both")
    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    assert found[f"{stem}.lora_down.weight"].shape[0] == 7
    do(tool="bake", checkpoint="a", loras=both, output="baked")
    do(tool="bake", checkpoint="a", loras=[{"name": "both"}], output="merged")
    baked, merged, a = (loaded(models, name) for name in ("baked", "merged", "a"))
    for name, tensor in baked.items():
        assert torch.allclose(merged[name].float(), tensor.float(), atol=1e-5), name
    assert not torch.allclose(baked[f"{U}{Q}.weight"], a[f"{U}{Q}.weight"], atol=1e-3)


def test_names_are_brought_together_without_a_checkpoint(do: Do, models: Path) -> None:
    """SD 1.x's own blocks in ldm's and diffusers' spelling are one layer."""
    place = ("unet", "output_blocks_5_1_transformer_blocks_0_attn2_to_k")
    assert canonical(place) == canonical(("unet", "up_blocks_1_attentions_2_transformer_blocks_0_attn2_to_k"))
    one = {"down": torch.randn(2, 8), "up": torch.randn(6, 2)}
    other = {"down": torch.randn(3, 8), "up": torch.randn(6, 3)}
    for name, stem, factors in (
        ("one", f"lora_unet_{place[1]}", one),
        ("two", "lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_attn2_to_k", other),
    ):
        save_file({f"{stem}.lora_{k}.weight": v for k, v in factors.items()}, models / "loras" / f"{name}.safetensors")
    do(tool="merge-loras", loras=[{"name": "one"}, {"name": "two", "strength": 2.0}], dtype="fp32", output="both")
    found = loaded(models / "loras", "both")
    assert len(found) == 3
    down, up, alpha = (next(t for n, t in found.items() if n.endswith(k)) for k in ("down.weight", "up.weight", "alpha"))
    expected = one["up"] @ one["down"] + 2.0 * other["up"] @ other["down"]
    assert torch.allclose(up @ down * (float(alpha) / len(down)), expected, atol=1e-5)


def test_merging_by_singular_values(do: Do, models: Path) -> None:
    lora(models, "one", 1, rank=4)
    lora(models, "two", 2, rank=3)
    both = [{"name": "one"}, {"name": "two", "strength": 0.5}]
    do(tool="merge-loras", loras=both, method="svd", rank=7, dtype="fp32", output="exact")
    do(tool="merge-loras", loras=both, method="svd", rank=2, dtype="fp32", output="cut")
    do(tool="merge-loras", loras=both, dtype="fp32", output="whole")
    exact, cut, whole = (loaded(models / "loras", name) for name in ("exact", "cut", "whole"))
    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"

    def product(found: dict[str, Tensor]) -> Tensor:
        return found[f"{stem}.lora_up.weight"] @ found[f"{stem}.lora_down.weight"]

    assert torch.allclose(product(exact), product(whole), atol=1e-5)
    assert cut[f"{stem}.lora_down.weight"].shape[0] == 2
    values = torch.linalg.svdvals(product(whole))
    assert torch.isclose((product(cut) - product(whole)).norm(), values[2:].norm(), rtol=1e-3)


KINDS: dict[str, tuple[type, dict[str, Any]]] = {
    "lora": (LoConModule, {"lora_dim": 4, "alpha": 2}),
    "loha": (LohaModule, {"lora_dim": 4, "alpha": 2}),
    "lokr": (LokrModule, {"lora_dim": 2, "alpha": 2, "factor": 4}),
    "glora": (GLoRAModule, {"lora_dim": 4, "alpha": 2}),
    "ia3": (IA3Module, {"train_on_input": True}),
    "oft": (DiagOFTModule, {"lora_dim": 4, "alpha": 1, "constraint": 0}),
    "dora": (LoConModule, {"lora_dim": 4, "weight_decompose": True, "wd_on_out": True}),
}


def of_kind(folder: Path, name: str, kind: str, weight: Tensor, stem: str) -> Callable[[Tensor], Tensor]:
    """A file with one layer's change of a LyCORIS kind; how that kind changes the layer's output."""
    made, options = KINDS[kind]
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data.copy_(weight)
    module = made("proj", layer, multiplier=1.0, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)) * 0.2)
    tensors = {f"{stem}.{key}": value.detach().clone() for key, value in module.state_dict().items()}
    save_file(tensors, folder / "loras" / f"{name}.safetensors")
    module.apply_to()
    return lambda x: module(x).detach()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_baked_as_lycoris_computes_it(do: Do, models: Path, kind: str) -> None:
    a = loaded(models, "a")
    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    name = f"{U}{Q}.weight"
    weight = a[name]
    expected = of_kind(models, "kind", kind, weight, stem)
    do(tool="bake", checkpoint="a", loras=[{"name": "kind"}], output="baked")
    baked, x = loaded(models, "baked"), torch.randn(5, weight.shape[1])
    assert torch.allclose(x @ baked[name].T, expected(x), atol=1e-4), kind
    assert not torch.allclose(baked[name], weight, atol=1e-3)
    assert all(torch.equal(baked[n], t) for n, t in a.items() if n != name), "nothing else changed"


def test_kinds_that_depend_on_the_weights_merge_with_a_checkpoint(do: Do, models: Path) -> None:
    name = f"{U}{Q}.weight"
    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    weight = loaded(models, "a")[name]
    for kind in ("loha", "ia3", "lora"):
        of_kind(models, kind, kind, weight, stem)
    three = [{"name": "loha"}, {"name": "ia3", "strength": 0.5}, {"name": "lora", "strength": -1.0}]
    with pytest.raises(RequestError, match="name the checkpoint"):
        do(tool="merge-loras", loras=three, output="x")
    do(tool="merge-loras", loras=three, checkpoint="a", dtype="fp32", output="sum")
    assert list(loaded(models / "loras", "sum")) == [f"{stem}.diff"]
    do(tool="merge-loras", loras=three, checkpoint="a", method="svd", rank=64, dtype="fp32", output="svd")
    do(tool="bake", checkpoint="a", loras=three, output="baked")
    for merged in ("sum", "svd"):
        do(tool="bake", checkpoint="a", loras=[{"name": merged}], output=f"by-{merged}")
        assert torch.allclose(loaded(models, f"by-{merged}")[name], loaded(models, "baked")[name], atol=1e-5)


def test_sdxl_with_fused_attention_and_two_encoders(do: Do, models: Path) -> None:
    sdxl_checkpoint(models / "xl1.safetensors", seed=0)
    sdxl_checkpoint(models / "xl2.safetensors", seed=1)
    do(tool="extract", base="xl1", tuned="xl2", rank=4096, conv_rank=4096, rest=True, dtype="fp32", output="xl")
    names = loaded(models / "loras", "xl")
    assert {name.split("_")[1] for name in names} == {"unet", "te1", "te2"}
    assert any(name.startswith("lora_unet_input_blocks_") for name in names), "kohya's names for SDXL are ldm's"
    assert any(name.startswith("lora_te2_text_model_encoder_layers_0_self_attn_q_proj") for name in names)
    do(tool="bake", checkpoint="xl1", loras=[{"name": "xl"}], output="again")
    again, b = loaded(models, "again"), loaded(models, "xl2")
    for name, tensor in b.items():
        if "embedding" not in name and not name.startswith(keys.VAE) and not keys.IGNORED.match(name):
            assert torch.allclose(again[name], tensor, atol=1e-5), name
    assert next(info for info in scan([models]) if info.name == "again").problem == ""


def test_what_fits_no_layer_is_refused_and_the_rest_is_said(do: Do, models: Path) -> None:
    sdxl_checkpoint(models / "xl.safetensors")
    lora(models, "one", 1)
    foreign = {"lora_unet_nowhere.lora_down.weight": torch.ones(2, 4), "lora_unet_nowhere.lora_up.weight": torch.ones(4, 2)}
    save_file(foreign, models / "loras" / "foreign.safetensors")
    save_file({**foreign, **loaded(models / "loras", "one")}, models / "loras" / "mixed.safetensors")
    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    save_file(
        {f"{stem}.lora_down.weight": torch.ones(2, 9), f"{stem}.lora_up.weight": torch.ones(9, 2)},
        models / "loras" / "misfit.safetensors",
    )
    for name, message in (("foreign", "fits no layer of a.safetensors"), ("misfit", "this one has"), ("gone", "is not here")):
        with pytest.raises(RequestError, match=message):
            do(tool="bake", checkpoint="a", loras=[{"name": name}], output="x")
    work = do(tool="bake", checkpoint="a", loras=[{"name": "mixed"}], output="x")
    assert "mixed.safetensors: 2 tensors ('lora_unet_nowhere" in work.notes[0]
    with pytest.raises(RequestError, match="do not differ"):
        do(tool="extract", base="a", tuned="a", output="none")
    with pytest.raises(RequestError, match="one family"):
        do(tool="extract", base="a", tuned="xl", output="none")
    write(models / "nan.safetensors", {n: t * float("nan") for n, t in loaded(models, "b").items() if t.ndim}, TINY_METADATA)
    with pytest.raises(Exception, match="NaN"):
        do(tool="extract", base="a", tuned="nan", output="none")
    assert not list(models.rglob(".*.part"))


def test_baking_is_painting_with_the_lora(do: Do, models: Path) -> None:
    """Within 1/255, with strengths of their own for the text encoder and the U-Net."""
    lora(models, "ink", 1, alpha=2)
    do(tool="bake", checkpoint="a", loras=[{"name": "ink", "strength": 0.8, "text_strength": 0.5}], output="baked")
    manager = ModelManager([models], torch.device("cpu"), torch.float32, sdpa, models / "hashes.json", 2)
    bench = Bench(manager)
    bench.submit("lora", prompt="a cat <lora:ink:0.5:0.8>", checkpoint="a")
    bench.submit("baked", prompt="a cat ", checkpoint="baked")
    bench.submit("plain", prompt="a cat ", checkpoint="a")
    bench.run()
    assert int(np.abs(bench.pixels("lora") - bench.pixels("baked")).max()) <= 1
    assert int(np.abs(bench.pixels("lora") - bench.pixels("plain")).max()) > 20, "the test can fail"
