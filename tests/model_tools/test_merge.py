"""Merging checkpoints against plain arithmetic on whole files, and what a merge refuses, keeps and says of itself."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modules.checkpoints import keys
from modules.checkpoints.files import scan
from modules.errors import OutputError, RequestError
from modules.model_tools import disk, tensors
from modules.model_tools.blocks import block_names, block_of, weights_of
from modules.model_tools.requests import parse
from tests.model_tools.conftest import Do
from tests.sdxl import sdxl_checkpoint
from tests.tiny import TINY_METADATA, TINY_UNET, make_checkpoint, random_state, write

U = keys.UNET


def loaded(folder: Path, name: str) -> dict[str, Tensor]:
    return load_file(folder / f"{name}.safetensors")


def metadata(folder: Path, name: str) -> dict[str, str]:
    with safe_open(folder / f"{name}.safetensors", "pt") as file:
        return dict(file.metadata())


def same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-6) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(found[name].float(), tensor.float(), atol=tolerance, rtol=tolerance), name


def test_a_weighted_sum_equals_plain_arithmetic(do: Do, models: Path) -> None:
    do(tool="merge", a="a", b="b", multiplier=0.3, vae="merge", output="ab")
    a, b = loaded(models, "a"), loaded(models, "b")
    expected = {n: t + 0.3 * (b[n] - t) if t.is_floating_point() else t for n, t in a.items()}
    same(loaded(models, "ab"), expected)
    assert not torch.allclose(expected[U + "out.2.bias"], a[U + "out.2.bias"]), "the test can fail"


def test_add_difference_in_half_precision(do: Do, models: Path) -> None:
    do(tool="merge", a="a", b="b", c="c", method="difference", multiplier=0.7, dtype="fp16", output="abc")
    a, b, c, found = (loaded(models, name) for name in ("a", "b", "c", "abc"))
    for name, tensor in a.items():
        change = 0.7 * (b[name] - c[name]) if tensor.is_floating_point() and not name.startswith(keys.VAE) else 0
        assert torch.allclose(found[name].float(), (tensor + change).float(), atol=2e-3, rtol=2e-3), name
        assert found[name].dtype == (torch.float16 if tensor.is_floating_point() else tensor.dtype)


@pytest.mark.parametrize(("parts", "changed"), [("unet", U), ("text", keys.TEXT)])
def test_only_one_part_is_merged(do: Do, models: Path, parts: str, changed: str) -> None:
    do(tool="merge", a="a", b="b", multiplier=1.0, parts=parts, output="part")
    a, b = loaded(models, "a"), loaded(models, "b")
    same(loaded(models, "part"), {name: b[name] if name.startswith(changed) else tensor for name, tensor in a.items()})


def test_weights_by_block(do: Do, models: Path) -> None:
    do(tool="merge", a="a", b="b", multiplier=0.0, blocks="BASE=0.25, IN01=0.5, OUT00=1", output="blocks")
    a, b = loaded(models, "a"), loaded(models, "b")

    def weight(name: str) -> float:
        if name.startswith(keys.TEXT):
            return 0.25
        return {"input_blocks.1.": 0.5, "output_blocks.0.": 1.0}.get(name.removeprefix(U)[: len("output_blocks.0.")], 0.0) or (
            0.5 if name.startswith(U + "input_blocks.1.") else 0.0
        )

    same(
        loaded(models, "blocks"),
        {n: t + weight(n) * (b[n] - t) if t.is_floating_point() else t for n, t in a.items()},
    )


def test_the_blocks_of_sd1_and_sdxl_are_those_of_the_convention() -> None:
    sd1 = [f"input_blocks.{n}.0.x" for n in range(12)] + [f"output_blocks.{n}.0.x" for n in range(12)]
    names = block_names(sd1)
    assert len(names) == 26
    assert names[:2] + names[12:15] + names[-1:] == ["BASE", "IN00", "IN11", "M00", "OUT00", "OUT11"]
    sdxl = block_names([f"input_blocks.{n}.0.x" for n in range(9)] + [f"output_blocks.{n}.0.x" for n in range(9)])
    assert len(sdxl) == 20
    assert block_of("out.2.weight", names) == "OUT11"
    assert block_of("label_emb.0.0.weight", sdxl) == "IN00"
    assert weights_of(",".join(["0.5"] * 26), names, 0)["OUT11"] == 0.5


@pytest.mark.parametrize(
    ("blocks", "message"),
    [("0.1, 0.2", "2 numbers were given, and this model has"), ("IN11=1", "no block IN11"), ("x", "numbers from -2 to 3")],
)
def test_wrong_block_weights_are_refused(do: Do, blocks: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        do(tool="merge", a="a", b="b", blocks=blocks, output="x")


def test_the_autoencoder_of_b_or_of_a_file(do: Do, models: Path) -> None:
    b = loaded(models, "b")
    (models / "vae").mkdir()
    c = {name.removeprefix(keys.VAE): tensor for name, tensor in loaded(models, "c").items() if name.startswith(keys.VAE)}
    write(models / "vae" / "fine.safetensors", c)
    do(tool="merge", a="a", b="b", multiplier=0, vae="b", output="with-b")
    do(tool="merge", a="a", b="b", multiplier=0, vae="fine", output="with-c")
    a = loaded(models, "a")
    same(loaded(models, "with-b"), {n: b[n] if n.startswith(keys.VAE) else t for n, t in a.items()})
    same(loaded(models, "with-c"), {n: c.get(n.removeprefix(keys.VAE), t) for n, t in a.items()})


def inpainting(path: Path, seed: int = 5) -> None:
    make_checkpoint(path, unet=replace(TINY_UNET, in_channels=9), seed=seed, metadata=TINY_METADATA)


@pytest.mark.parametrize("method", ["weighted", "difference"])
def test_an_inpainting_model_as_a_keeps_its_further_channels(do: Do, models: Path, method: str) -> None:
    inpainting(models / "paint.safetensors")
    third = {"c": "c"} if method == "difference" else {}
    do(tool="merge", a="paint", b="b", **third, method=method, multiplier=0.5, output="out")
    a, b, c, found = (loaded(models, name)[U + "input_blocks.0.0.weight"] for name in ("paint", "b", "c", "out"))
    assert torch.equal(found[:, 4:], a[:, 4:])
    change = b - c if method == "difference" else b - a[:, :4]
    assert torch.allclose(found[:, :4], a[:, :4] + 0.5 * change, atol=1e-6)
    assert json.loads(metadata(models, "out")["sd_merge_recipe"])["is_inpainting"] is True
    assert next(info for info in scan([models]) if info.name == "out").problem == ""


def test_what_does_not_go_together_is_refused(do: Do, models: Path, tmp_path: Path) -> None:
    inpainting(models / "paint.safetensors")
    sdxl_checkpoint(models / "xl.safetensors")
    write(
        models / "v.safetensors",
        loaded(models, "b"),
        {**TINY_METADATA, "modelspec.prediction_type": "v"},
    )
    wide = TINY_UNET.__class__(channels=(32, 96), res_blocks=1, transformer_depth=(0, 1), context_dim=32)
    make_checkpoint(models / "wide.safetensors", unet=wide)
    for b, message in (
        ("paint", "make the one with more channels A"),
        ("xl", "only checkpoints of one family"),
        ("v", "predicts v"),
        ("wide", "not of the same form"),
        ("nowhere", "b: checkpoint 'nowhere' is not here"),
    ):
        with pytest.raises(RequestError, match=message):
            do(tool="merge", a="a", b=b, output="never")
    assert not (models / "never.safetensors").exists()
    assert not list(models.glob(".*.part"))


def test_nothing_is_replaced_unless_that_is_asked(do: Do, models: Path) -> None:
    with pytest.raises(RequestError, match=r"there is a file c\.safetensors already"):
        do(tool="merge", a="a", b="b", output="c")
    do(tool="merge", a="a", b="b", multiplier=1.0, output="other")
    do(tool="merge", a="a", b="b", multiplier=0.0, output="other", replace=True)
    same(loaded(models, "other"), loaded(models, "a"))
    with pytest.raises(RequestError, match="one of the sources"):
        do(tool="merge", a="a", b="b", output="b", replace=True)


def test_a_file_made_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "x.safetensors"
    with tensors.ModelWriter(tmp_path / ".x.part", {"w": ("F32", (2,))}, {}) as writer:
        writer.add("w", torch.ones(2))
        target.write_bytes(b"another")
        with pytest.raises(RequestError, match="already"):
            writer.publish(target, replace=False)
    assert target.read_bytes() == b"another"
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_what_is_written_can_be_read_by_the_library(tmp_path: Path) -> None:
    """Odd sizes of several formats, one tensor left out, one without numbers."""
    plan = {
        "half": ("F16", (3,)),
        "left out": ("F32", (1000,)),
        "long": ("I64", (1,)),
        "single": ("F32", (5,)),
        "none": ("BF16", (0, 4)),
    }
    values = {"half": torch.arange(3.0), "long": torch.tensor([7]), "single": torch.arange(5.0), "none": torch.empty(0, 4)}
    with tensors.ModelWriter(tmp_path / ".p", plan, {"ä": "ö" * 100}) as writer:
        assert writer.order[0] == "long"
        for name in writer.order:
            if name in values:
                writer.add(name, values[name])
        writer.publish(tmp_path / "x.safetensors", replace=False, hash_tensors=True)
    found = load_file(tmp_path / "x.safetensors")
    same(found, values)
    said = metadata(tmp_path, "x")
    raw = (tmp_path / "x.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    assert said == {"ä": "ö" * 100, "sshs_model_hash": hashlib.sha256(raw[start:]).hexdigest()}


def test_a_full_disk_is_noticed_before_anything_is_written(do: Do, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: type("usage", (), {"free": 10 << 20})())
    with pytest.raises(OutputError, match="make room"):
        do(tool="merge", a="a", b="b", output="big")
    assert not list(models.glob(".*"))


def test_numbers_that_do_not_fit_are_refused(do: Do, models: Path) -> None:
    state = random_state_of(models, "b")
    state[U + "out.2.bias"] = state[U + "out.2.bias"] * 0 + 1e6
    write(models / "large.safetensors", state, TINY_METADATA)
    with pytest.raises(OutputError, match=r"out\.2\.bias.*does not fit the number format F16"):
        do(tool="merge", a="a", b="large", dtype="fp16", output="x")
    assert not list(models.glob(".*"))


def random_state_of(folder: Path, name: str) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in loaded(folder, name).items()}


def test_the_recipe_is_in_the_metadata(do: Do, models: Path) -> None:
    do(tool="merge", a="a", b="b", multiplier=0.3, output="first")
    do(tool="merge", a="first", b="c", multiplier=0.4, output="second")
    said = metadata(models, "second")
    sha = {name: hashlib.sha256((models / f"{name}.safetensors").read_bytes()).hexdigest() for name in ("a", "b", "c", "first")}
    recipe = json.loads(said["sd_merge_recipe"])
    assert recipe["primary_model_hash"] == sha["first"]
    assert recipe["secondary_model_hash"] == sha["c"]
    assert (recipe["interp_method"], recipe["multiplier"]) == ("Weighted sum", 0.4)
    merged = json.loads(said["sd_merge_models"])
    assert set(merged) == set(sha.values()), "what went into a source is there too"
    assert json.loads(merged[sha["first"]]["sd_merge_recipe"])["multiplier"] == 0.3
    assert json.loads(said["atelier.recipe"])["sources"]["a"] == {"file": "first.safetensors", "sha256": sha["first"]}
    assert said["modelspec.architecture"] == "stable-diffusion-v1"
    assert said["modelspec.title"] == "second"
    assert said["atelier.native_size"] == "64x64", "how A is run best is said of the merge"


def test_the_averaged_copy_of_training_is_left_out(do: Do, models: Path) -> None:
    state = random_state_of(models, "a")
    state["model_ema.diffusion_modelout2bias"] = torch.ones(4)
    write(models / "ema.safetensors", state, TINY_METADATA)
    do(tool="merge", a="ema", b="b", output="out")
    assert loaded(models, "out").keys() == loaded(models, "a").keys()


class Live(TorchDispatchMode):
    """Bytes of the tensors that operations have made and that are not gone, at their most."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()
        self.sizes: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        import weakref

        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.numel():
                storage = tensor.untyped_storage()
                place, size = storage.data_ptr(), storage.nbytes()
                self.counts[place] += 1
                self.sizes[place] = size
                weakref.finalize(tensor, self._gone, place)
        self.peak = max(self.peak, sum(self.sizes[place] for place in self.counts))
        return out

    def _gone(self, place: int) -> None:
        self.counts[place] -= 1
        if not self.counts[place]:
            del self.counts[place]


def test_memory_is_a_few_tensors_however_large_the_file(do: Do, models: Path) -> None:
    wide = replace(TINY_UNET, channels=(128, 256))
    for seed, name in enumerate(("one", "two")):
        make_checkpoint(models / f"{name}.safetensors", unet=wide, seed=seed, metadata=TINY_METADATA)
    with Live() as live:
        do(tool="merge", a="one", b="two", vae="merge", output="both")
    largest = max(tensor.numel() * 4 for tensor in loaded(models, "both").values())
    whole = (models / "one.safetensors").stat().st_size
    assert live.peak > largest, "it was counted"
    assert live.peak <= 5 * largest
    assert whole > 7 * largest, "one of the files as a whole would not pass"


def test_odd_requests_are_refused_in_words() -> None:
    good = {"tool": "merge", "a": "a", "b": "b", "output": "x"}
    for fields, message in (
        ({"tool": "mrege"}, "tool: must be one of merge"),
        ({"tool": "merge"}, "a: is needed"),
        ({**good, "multiplier": 9}, "multiplier: input should be less than or equal to 3; 9 was given"),
        ({**good, "multiplier": float("nan")}, "multiplier: .*nan was given"),
        ({**good, "method": "difference"}, "needs a third checkpoint"),
        ({**good, "c": "c"}, "takes two checkpoints"),
        ({**good, "output": "../x"}, "without folders"),
        ({**good, "output": "con"}, "Windows"),
        ({**good, "output": ".hidden"}, "dot"),
        ({**good, "output": "a\nb"}, "without folders"),
        ({**good, "output": ""}, "output: must be the name"),
        ({**good, "output": "x" * 500}, "150 characters"),
        ({**good, "path": "/etc/passwd"}, "path: there is no such field"),
        ({"tool": "extract", "base": "a", "tuned": "b", "output": "x", "rank": 0}, "rank: .*greater than or equal to 1"),
        ({"tool": "bake", "checkpoint": "a", "loras": [], "output": "x"}, "loras: .*at least 1"),
    ):
        with pytest.raises(RequestError, match=message):
            parse(fields)


def test_random_states_of_two_seeds_differ() -> None:
    """What all the comparisons above stand on."""
    from tests.tiny import TINY_TEXT, TINY_VAE

    one, other = (random_state(TINY_UNET, TINY_VAE, TINY_TEXT, seed) for seed in (0, 1))
    assert not torch.equal(one[U + "out.2.bias"], other[U + "out.2.bias"])
