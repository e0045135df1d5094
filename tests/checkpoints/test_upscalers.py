"""Upscaler files: known by their tensors under every name, refused where they are torn or of another kind; loaded, let go."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from modules.checkpoints import upscalers
from modules.checkpoints.header import read_header
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.upscaler_networks import UpscalerHandle, Upscalers
from modules.checkpoints.upscalers import find_upscaler, layout_of, scan_upscalers
from modules.diffusion.attention import sdpa
from modules.diffusion.upscaler_config import CompactConfig, RRDBConfig
from modules.diffusion.upscalers import upscaler
from modules.errors import CheckpointError, OutOfMemory, UnknownName
from modules.model_tools.convert import contents_of
from tests.tiny import tiny_checkpoint
from tests.tiny_upscalers import TINY_COMPACT, TINY_RRDB, old_names, state_of, tiny_upscaler, trunk_names


def saved(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata)
    return path


def manager_of(folder: Path, budget: int | None = None) -> ModelManager:
    return ModelManager([folder], torch.device("cpu"), torch.float32, sdpa, cache=folder / "hashes.json", budget=budget)


CONFIGS: dict[str, Any] = {
    "x1": RRDBConfig(8, 2, 4, 0),
    "x2": RRDBConfig(8, 2, 4, 1),
    "x4": TINY_RRDB,
    "x8": RRDBConfig(8, 1, 4, 3),
    "wide": RRDBConfig(12, 3, 8, 2),
    "folded x2": RRDBConfig(8, 2, 4, 2, unshuffle=2),
    "folded x1": RRDBConfig(8, 2, 4, 2, unshuffle=4),
    "plus": RRDBConfig(8, 2, 4, 2, plus=True),
}


@pytest.mark.parametrize("names", ["new", "trunk", "old"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_rrdbnets_are_known_under_all_their_names(tmp_path: Path, config: RRDBConfig, names: str) -> None:
    state = state_of(config)
    if names == "old":
        state = old_names(state, config.blocks, config.doublings)
    elif names == "trunk":
        state = trunk_names(state)
    folder = tmp_path / "models"
    saved(folder / "ESRGAN" / "one.safetensors", state)
    (info,) = scan_upscalers([folder])
    assert (info.problem, info.scale, info.kind) == ("", config.scale, "ESRGAN+" if config.plus else "ESRGAN")
    handle = manager_of(folder).upscaler("one")
    network = upscaler(config)
    network.load_state_dict(state_of(config))
    picture = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(handle.enlarge(picture), network(picture))


@pytest.mark.parametrize("config", [CompactConfig(8, 1, 4), CompactConfig(8, 3, 1), CompactConfig(4, 2, 3, "relu")])
def test_compact_networks_are_known_with_their_sizes(tmp_path: Path, config: CompactConfig) -> None:
    path = tiny_upscaler(tmp_path / "RealESRGAN" / "c.safetensors", config)
    assert layout_of(read_header(path)).config == config
    assert scan_upscalers([tmp_path])[0].kind == "Real-ESRGAN compact"


def test_a_leaky_activation_is_told_by_the_metadata(tmp_path: Path) -> None:
    config = CompactConfig(4, 1, 2, "leakyrelu")
    path = tiny_upscaler(tmp_path / "upscalers" / "c.safetensors", config, metadata={"act_type": "leakyrelu"})
    assert layout_of(read_header(path)).config == config


@pytest.mark.parametrize("prefix", ["params_ema.", "params.", "module."])
def test_what_a_training_wraps_around_the_names_is_no_matter(tmp_path: Path, prefix: str) -> None:
    path = saved(tmp_path / "w.safetensors", {prefix + name: tensor for name, tensor in state_of(TINY_COMPACT).items()})
    assert layout_of(read_header(path)).config == TINY_COMPACT


def test_the_averaged_weights_go_before_the_others(tmp_path: Path) -> None:
    both = {f"params.{name}": tensor for name, tensor in state_of(TINY_COMPACT, seed=1).items()}
    both |= {f"params_ema.{name}": tensor for name, tensor in state_of(TINY_COMPACT, seed=2).items()}
    saved(tmp_path / "ESRGAN" / "w.safetensors", both)
    network: Any = manager_of(tmp_path).upscaler("w").network
    assert torch.equal(network.body[0].weight, state_of(TINY_COMPACT, seed=2)["body.0.weight"])


@pytest.mark.parametrize("wrapper", ["params_ema", "params", "state_dict"])
def test_a_converted_pickle_is_an_upscaler(tmp_path: Path, wrapper: str) -> None:
    """What the tool "convert" takes out of a `.pth` is what is known here."""
    found = contents_of({wrapper: old_names(state_of(TINY_RRDB), 2, 2)}, tmp_path / "x.pth")
    path = saved(tmp_path / "x.safetensors", found.tensors)
    assert layout_of(read_header(path)).config == TINY_RRDB


def broken(change: str) -> dict[str, Tensor]:
    state = state_of(TINY_RRDB)
    if change == "lacks a tensor":
        del state["body.1.rdb2.conv3.bias"]
    elif change == "a tensor of another size":
        state["conv_hr.weight"] = torch.zeros(8, 9, 3, 3)
    elif change == "one too many":
        state["attention.weight"] = torch.zeros(1)
    elif change == "grey pictures":
        state["conv_first.weight"] = torch.zeros(8, 1, 3, 3)
    elif change == "a vector for a convolution":
        state["conv_first.weight"] = torch.zeros(8)
    elif change == "whole numbers":
        state["conv_last.bias"] = torch.zeros(3, dtype=torch.int32)
    elif change == "odd doublings":
        state = {**old_names(state, 2, 2), "model.11.weight": torch.zeros(1)}
    elif change == "no upscaler":
        state = {"a": torch.zeros(1)}
    elif change == "absurdly deep":
        state = {f"body.{2 * number}.weight": torch.zeros(12, 3 if not number else 12, 1, 1) for number in (0, 4000)}
    return state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("lacks a tensor", "lacks the tensor 'body.1.rdb2.conv3.bias'"),
        ("a tensor of another size", "has the tensor 'conv_hr.weight' of size 8x9x3x3, expected 8x8x3x3"),
        ("one too many", "another form, with the tensor 'attention.weight'"),
        ("grey pictures", "pictures of 1 channels"),
        ("a vector for a convolution", "of size 8, which no convolution has"),
        ("whole numbers", "stores the tensor 'conv_last.bias' as I32"),
        ("odd doublings", "12 layers"),
        ("no upscaler", "is no upscaler of a kind that is known here"),
        ("absurdly deep", "at most 256 are read"),
    ],
)
def test_other_files_are_refused_by_name_and_never_listed_as_usable(tmp_path: Path, change: str, words: str) -> None:
    saved(tmp_path / "ESRGAN" / "bad.safetensors", broken(change))
    (info,) = scan_upscalers([tmp_path])
    assert info.problem.startswith("bad.safetensors ")
    assert words in info.problem
    with pytest.raises(CheckpointError, match=r"bad\.safetensors"):
        find_upscaler([tmp_path], "bad")


def test_names_are_a1111_s(tmp_path: Path) -> None:
    """The file's stem, in any case, or its name for a published file; of equal names the first folder counts."""
    tiny_upscaler(tmp_path / "ESRGAN" / "4x-Ultra.safetensors", TINY_RRDB)
    tiny_upscaler(tmp_path / "upscale_models" / "deep" / "RealESRGAN_x4plus.safetensors", TINY_RRDB)
    tiny_upscaler(tmp_path / "RealESRGAN" / "4x-ultra.safetensors")
    names = [info.name for info in scan_upscalers([tmp_path])]
    assert names == ["4x-Ultra", "RealESRGAN_x4plus"]
    for asked, found in [("4X-ULTRA", "4x-Ultra"), ("4x-Ultra.safetensors", "4x-Ultra"), ("R-ESRGAN 4x+", "RealESRGAN_x4plus")]:
        assert find_upscaler([tmp_path], asked).name == found
    with pytest.raises(UnknownName, match=r"'nothing' is not here\. Known: 4x-Ultra, Lanczos, Nearest, None, RealESRGAN"):
        find_upscaler([tmp_path], "nothing")


def test_a_model_is_loaded_once_and_anew_when_its_file_changes(tmp_path: Path) -> None:
    path = tiny_upscaler(tmp_path / "ESRGAN" / "a.safetensors")
    manager = manager_of(tmp_path)
    first = manager.upscaler("a")
    assert manager.upscaler("A") is first
    assert manager.holds(first)
    path.unlink()
    tiny_upscaler(path, CompactConfig(8, 2, 4))
    assert manager.upscaler("a").scale == 4


def test_upscalers_are_let_go_of_as_other_components(tmp_path: Path) -> None:
    for name in "abc":
        tiny_upscaler(tmp_path / "ESRGAN" / f"{name}.safetensors", seed=ord(name))
    manager = manager_of(tmp_path)
    a, b = manager.upscaler("a"), manager.upscaler("b")
    lease = manager.lease(a)
    manager.upscaler("c")
    assert not manager.holds(a), "the last two are kept"
    assert manager.holds(b)
    assert len(manager.cache.components) == 3, "what is leased stays all the same"
    lease.release()
    assert len(manager.cache.components) == 2
    assert manager.make_room(manager.upscaler("c"))
    assert [handle.info.name for handle in manager.upscalers.loaded] == ["c"]
    manager.let_go()
    assert not manager.cache.components


def test_a_budget_of_bytes_holds_for_upscalers_too(tmp_path: Path) -> None:
    for name in "ab":
        tiny_upscaler(tmp_path / "ESRGAN" / f"{name}.safetensors", seed=ord(name))
    manager = manager_of(tmp_path, budget=1)
    manager.upscaler("a")
    manager.upscaler("b")
    assert [handle.info.name for handle in manager.upscalers.loaded] == ["b"], "only the last one, however small the budget"


def test_where_the_device_is_full_what_is_not_in_use_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    tiny_upscaler(tmp_path / "ESRGAN" / "one.safetensors")
    manager = manager_of(tmp_path)
    made = Upscalers._made

    def where_there_is_room(self: Upscalers, *about: Any) -> UpscalerHandle:
        if manager.loaded:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return made(self, *about)

    monkeypatch.setattr(Upscalers, "_made", where_there_is_room)
    in_use = manager.lease(manager.load("tiny"))
    with pytest.raises(OutOfMemory, match="cpu has not enough free memory for the upscaler 'one'"):
        manager.upscaler("one")
    assert [model.info.name for model in manager.loaded] == ["tiny"], "a picture is painted with it"
    in_use.release()
    assert manager.upscaler("one").info.name == "one"
    assert manager.loaded == []


def test_tiles_follow_memory_and_are_never_absurd(tmp_path: Path) -> None:
    tiny_upscaler(tmp_path / "ESRGAN" / "a.safetensors", TINY_RRDB)
    handle = manager_of(tmp_path).upscaler("a")
    assert handle.tiles().side == 256, "a small network on a CPU"
    assert handle.tiles(free=8 * 2**20).side < 128, "as little as is free"
    assert handle.tiles(free=1).side == max(64, handle.tiles().margin * 2 + 8)


def test_spandrel_reads_what_is_not_known_here_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in: it needs torchvision, and is not here."""
    saved(tmp_path / "ESRGAN" / "dat.safetensors", {"before_RG.1.weight": torch.full((3,), 2.0)})
    assert "install spandrel" in scan_upscalers([tmp_path])[0].problem
    seen: dict[str, Tensor] = {}

    class Twice(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[2] % 16 == x.shape[3] % 16 == 0, "padded to what it takes"
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    class ModelLoader:
        def __init__(self, device: torch.device) -> None: ...

        def load_from_state_dict(self, state: dict[str, Tensor]) -> Any:
            seen.update(state)
            size = SimpleNamespace(multiple_of=16, minimum=0, square=False)
            return SimpleNamespace(model=Twice(), scale=2, input_channels=3, output_channels=3, size_requirements=size)

    module: Any = ModuleType("spandrel")
    module.ModelLoader = ModelLoader
    monkeypatch.setitem(sys.modules, "spandrel", module)
    monkeypatch.setattr(upscalers, "can_read_others", lambda: True)
    (info,) = scan_upscalers([tmp_path])
    assert (info.problem, info.kind) == ("", "spandrel")
    picture = torch.rand(1, 3, 20, 12)
    with torch.inference_mode():
        made = manager_of(tmp_path).upscaler("dat").enlarge(picture)
    assert made.shape == (1, 3, 40, 24)
    assert torch.equal(made[:, :, ::2, ::2], picture)
    assert set(seen) == {"before_RG.1.weight"}


def test_the_one_that_ships_is_small_and_says_what_it_is() -> None:
    path = Path(__file__).parents[2] / "models" / "ESRGAN" / "atelier-2x.safetensors"
    header = read_header(path)
    assert path.stat().st_size <= 2 * 2**20
    assert header.metadata["modelspec.license"] == "Apache-2.0"
    assert layout_of(header).config.scale == 2
    assert all(tensor.dtype == torch.float16 for tensor in load_file(path).values())
