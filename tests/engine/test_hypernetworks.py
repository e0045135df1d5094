"""Hypernetworks named in prompts: against A1111's module written with torch.nn, per row of a forward, and bad files."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modules.catalogue import Catalogue
from modules.checkpoints.companions import scan_hypernetworks
from modules.checkpoints.hypernetworks import Hypernetworks
from modules.diffusion.adapters import Adapter, LowRank
from modules.diffusion.forward import Linear, context_for, name_layers
from modules.diffusion.graphs import GraphedUNet
from modules.diffusion.layers import CrossAttention
from modules.diffusion.networks import AdaptableNetwork
from modules.diffusion.unet import UNet
from modules.errors import CheckpointError
from modules.prompts.library import Library
from tests.diffusion.test_graphs import CONFIG, Again
from tests.engine.test_loras import apart, bench, changes, lora_file
from tests.tiny import TINY_UNET, randomised, tiny_checkpoint, write

CPU = torch.device("cpu")
WIDTHS = sorted({TINY_UNET.context_dim, *TINY_UNET.channels})


def reference(
    width: int, structure: Sequence[float], activation: type[nn.Module] | None, norm: bool, last: bool, dropout: bool = False
) -> nn.Sequential:
    """A1111's HypernetworkModule (facts: order of modules, activation not behind the last unless `activate_output`)."""
    modules: list[nn.Module] = []
    for number in range(len(structure) - 1):
        out = int(width * structure[number + 1])
        modules.append(nn.Linear(int(width * structure[number]), out))
        if activation is not None and (number < len(structure) - 2 or last):
            modules.append(activation())
        if norm:
            modules.append(nn.LayerNorm(out))
        if dropout and number < len(structure) - 3:
            modules.append(nn.Dropout(0.3))
    made = nn.Sequential(*modules).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.4)
    return made


Pair = tuple[nn.Sequential, nn.Sequential]


def hypernetwork_file(path: Path, made: dict[int, Pair], **metadata: str) -> Path:
    tensors = {
        f"{width}.{side}.linear.{name}": tensor
        for width, pair in made.items()
        for side, network in enumerate(pair)
        for name, tensor in network.state_dict().items()
    }
    path.parent.mkdir(exist_ok=True)
    return write(path, tensors, metadata)


def read(folder: Path, network: nn.Module, name: str = "anime") -> Adapter:
    layers: Any = {place: layer for place, layer in network.named_modules() if isinstance(layer, Linear)}
    adaptable = AdaptableNetwork(layers, {}, CPU, torch.float32)
    return Hypernetworks([folder]).read(name, {"unet": adaptable}, network).parts["unet"]


FORMS: dict[str, tuple[tuple[float, ...], type[nn.Module] | None, str, bool, bool | None, bool]] = {
    "linear": ((1, 2, 1), None, "linear", False, True, False),
    "not said": ((1, 2, 1), None, "", False, None, False),
    "relu": ((1, 2, 1), nn.ReLU, "relu", False, False, False),
    "relu at the end": ((1, 2, 1), nn.ReLU, "relu", False, None, False),
    "norms": ((1, 1.5, 1.5, 1), nn.Hardswish, "swish", True, False, False),
    "norms and dropout": ((1, 2, 4, 2, 1), nn.LeakyReLU, "leakyrelu", True, True, True),
    "tanh": ((1, 2, 1), nn.Tanh, "tanh", False, False, False),
    "mish": ((1, 2, 1), nn.Mish, "mish", False, True, False),
    "rrelu": ((1, 2, 1), nn.RReLU, "rrelu", False, True, False),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cross", [True, False], ids=["attn2", "attn1"])
@torch.no_grad()
def test_keys_and_values_are_those_of_a1111_s_modules(form: str, cross: bool, tmp_path: Path) -> None:
    torch.manual_seed(3)
    structure, activation, said, norm, last, dropout = FORMS[form]
    width = 12 if cross else 16
    network = nn.ModuleDict({"attn": CrossAttention(16, 12 if cross else 16, 4)})
    attention: Any = network["attn"]
    name_layers(network)
    pair = tuple(reference(width, structure, activation, norm, last is not False, dropout) for _ in range(2))
    metadata = {"layer_structure": str(list(structure)), "is_layer_norm": str(norm)}
    metadata |= {"activation_func": said} if said else {}
    metadata |= {"activate_output": str(last)} if last is not None else {}
    hypernetwork_file(tmp_path / "hypernetworks" / "anime.safetensors", {width: pair}, **metadata)  # type: ignore[dict-item]
    adapter = read(tmp_path, network)
    x, context = torch.randn(3, 6, 16), torch.randn(3, 7, 12) if cross else None
    source = x if context is None else context
    rows = [[(adapter, 0.7)], [], [(adapter, -0.3)]]
    out = attention(x, context, context_for(rows, [()] * 3, None, CPU))
    for number, strength in ((0, 0.7), (1, 0.0), (2, -0.3)):
        one = source[number : number + 1]
        q = attention.to_q(x[number : number + 1])
        k = attention.to_k(one + strength * pair[0](one))
        v = attention.to_v(one + strength * pair[1](one))
        heads = [each.unflatten(-1, (4, -1)) for each in (q, k, v)]
        expected = attention.to_out(attention.attend(*heads).flatten(-2))
        torch.testing.assert_close(out[number : number + 1], expected, rtol=1e-4, atol=1e-5)
    assert float((out[0] - attention(x, context)[0]).abs().max()) > 0.01, "the test can fail"


@torch.no_grad()
def test_several_work_one_behind_the_other_in_the_order_of_each_row_and_loras_behind_them() -> None:
    torch.manual_seed(1)
    attention = CrossAttention(16, 12, 4)
    name_layers(nn.ModuleDict({"attn": attention}))
    first, second = (nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 12)) for _ in range(2))
    places = "attn.to_k", "attn.to_v"
    a, b = (Adapter(name, {}, dict.fromkeys(places, made)) for name, made in (("a", first), ("b", second)))
    lora = Adapter("lora", {place: LowRank(torch.randn(2, 12), torch.randn(16, 2)) for place in places})
    rows: list[list[tuple[Adapter, float]]] = [[(a, 1.0), (b, 0.5)], [(b, 0.5), (a, 1.0)], [(b, 1.0), (lora, 0.3)], []]
    x, context = torch.randn(4, 6, 16), torch.randn(4, 7, 12)
    together = attention(x, context, context_for(rows, [()] * 4, None, CPU))
    for number, row in enumerate(rows):
        alone = attention(x[number : number + 1], context[number : number + 1], context_for([row], [()], None, CPU))
        torch.testing.assert_close(together[number : number + 1], alone, rtol=1e-4, atol=1e-5)
    k = context[0] + first(context[0])
    expected = k + 0.5 * second(k)
    ctx = context_for(rows, [()] * 4, None, CPU)
    assert ctx is not None
    torch.testing.assert_close(ctx.changed_input("attn.to_k", context)[0], expected, rtol=1e-4, atol=1e-5)
    assert float((together[0] - together[1]).abs().max()) > 0


@torch.inference_mode()
def test_a_recording_has_them_by_identity_and_strengths_by_row() -> None:
    unet = randomised(UNet(CONFIG), seed=5).requires_grad_(False).eval()
    graphed = GraphedUNet(unet, Again())
    drawn = nn.Linear(16, 16).requires_grad_(False)
    places = [name for name, layer in unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))]
    one, other = (Adapter(name, {}, dict.fromkeys(places, drawn)) for name in "ab")
    generator = torch.Generator().manual_seed(0)
    x, context, vector = (torch.randn(shape, generator=generator) for shape in ((2, 4, 6, 10), (2, 77, 16), (2, 24)))
    asked: list[list[list[tuple[Adapter, float]]]] = [[[], []]] * 3 + [[[(one, 1.0)], []]] * 3
    asked += [[[], [(one, 0.4)]], [[(one, 0.5), (other, 1.0)], [(other, 2.0)]]] + [
        [[(one, 0.5), (other, 1.0)], [(other, 2.0)]]
    ] * 2
    for rows in asked:
        ctx = context_for(rows, [()] * 2, None, CPU)
        arguments = x, torch.tensor([20.0, 700.0]), context, ctx, vector
        torch.testing.assert_close(graphed(*arguments), unet(*arguments), rtol=1e-5, atol=1e-5)
    assert graphed.replays >= 5


# ---- in pictures


@pytest.fixture
def models(tmp_path: Path) -> Path:
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    torch.manual_seed(2)
    for name in ("anime", "film"):
        with torch.no_grad():
            made = {width: (reference(width, (1, 2, 1), nn.ReLU, False, False),) * 2 for width in WIDTHS}
        hypernetwork_file(
            tmp_path / "hypernetworks" / f"{name}.safetensors", made, activation_func="relu", activate_output="False"
        )
    return tmp_path


def test_pictures_with_different_hypernetworks_painted_together_equal_those_alone(models: Path) -> None:
    lora_file(models / "loras" / "ink.safetensors", changes(1))
    prompts = {
        "one": "a cat <hypernet:anime:0.6>",
        "two": "a cat <hypernet:film:0.5><hypernet:Anime:0.3>",
        "other way": "a cat <hypernet:anime:0.3><hypernet:film:0.5>",
        "lora": "a cat <hypernet:film> <lora:ink:0.5>",
        "later": "a cat [<hypernet:anime:1>:1]",
        "old name": "a cat <hypernet:anime(1a2b3c4d):0.6>",
        "none": "a cat",
    }
    together = bench(models)
    for name, prompt in prompts.items():
        together.submit(name, user=name, prompt=prompt)
    together.run()
    for name, prompt in prompts.items():
        assert apart(together.pixels(name), together.alone(prompt=prompt)) <= 1, name
    assert apart(together.pixels("one"), together.pixels("none")) > 5, "the test can fail"
    assert apart(together.pixels("one"), together.pixels("old name")) <= 1
    done = together.of("done")["one"].data
    assert "Lora hashes" not in done["extras"]
    assert "notes" not in done["facts"]


def test_weight_0_is_free_and_what_is_not_here_is_said(models: Path) -> None:
    (models / "hypernetworks" / "old.pt").write_bytes(pickle.dumps({768: ()}))
    on = bench(models)
    on.submit("a", prompt="a cat <hypernet:anime:0><hypernet:old:1><hypernet:gone:1><hypernet:anime:much>")
    on.submit("plain", prompt="a cat ")
    on.run()
    assert apart(on.pixels("a"), on.pixels("plain")) <= 1
    done = on.of("done")["a"].data
    assert done["extras"]["Networks left out"] == "<hypernet:old:1> <hypernet:gone:1> <hypernet:anime:much>"
    assert "old.pt is a pickle, which can run programs when it is read" in done["facts"]["notes"]
    assert "python3 webui.py models convert old.pt" in done["facts"]["notes"]
    assert "hypernetwork 'gone' is not here" in done["facts"]["notes"]
    catalogue = Catalogue([models], Library(None), lambda: None)
    made = catalogue.prompts.check({"prompt": "a <hypernet:ANIME:1><hypernet:gone:1><hypernet:old:1>", "checkpoint": "tiny"})
    assert [note.split(":", 3)[3][:24] for note in made.notes] == [" no hypernetwork of the ", " old.pt is a pickle, whi"]


# ---- files


def layer(width: int = 16) -> dict[str, Tensor]:
    return {
        f"{width}.{side}.linear.0.{what}": torch.zeros((width, width) if what == "weight" else (width,))
        for side in (0, 1)
        for what in ("weight", "bias")
    }


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        (layer(999), {}, "contexts of width 999"),
        ({**layer(), "16.0.linear.0.weight": torch.full((16, 16), float("nan"))}, {}, "has NaN or infinity"),
        ({**layer(), "16.0.linear.0.weight": torch.zeros(16, 8)}, {}, "do not go together"),
        ({**layer(), "16.0.linear.2.weight": torch.zeros(16, 16)}, {}, "has no bias"),
        ({**layer(), "16.0.linear.0.weight": torch.zeros(16)}, {}, "neither a linear layer nor a norm"),
        ({name: tensor for name, tensor in layer().items() if ".0.linear" in name}, {}, "for K alone"),
        ({**layer(), "other": torch.zeros(1)}, {}, "it has a tensor 'other'"),
        (layer(), {"activation_func": "softmax"}, "activation 'softmax' is not known"),
    ],
    ids=["width", "nan", "shape", "bias", "vector", "half", "foreign", "activation"],
)
def test_what_cannot_be_right_is_refused_with_the_reason(
    tensors: dict[str, Tensor], metadata: dict[str, str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "hypernetworks").mkdir()
    write(tmp_path / "hypernetworks" / "anime.safetensors", tensors, metadata)
    network = nn.ModuleDict({"attn": CrossAttention(16, 16, 4)})
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path, network)


def test_files_are_listed_with_their_widths_or_their_problem(tmp_path: Path) -> None:
    folder = tmp_path / "hypernetworks"
    folder.mkdir()
    write(folder / "a.safetensors", layer(16) | layer(32))
    write(folder / "b.safetensors", {"x": torch.zeros(1)})
    for name in ("a.pt", "c.pt"):
        (folder / name).write_bytes(b"")
    infos = {info.name: info for info in scan_hypernetworks([tmp_path])}
    assert infos.keys() == {"a", "b", "c"}
    assert (infos["a"].widths, infos["a"].problem) == ((16, 32), ""), "it goes before the pickle of its name"
    assert "b.safetensors is no hypernetwork" in infos["b"].problem
    assert "python3 webui.py models convert c.pt" in infos["c"].problem
