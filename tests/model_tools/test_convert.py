"""Pickles as safetensors: what becomes of each kind, and that nothing runs of what others would run."""

from __future__ import annotations

import collections
import json
import pickle
import struct
import tarfile
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from modules.checkpoints.companions import scan_embeddings
from modules.checkpoints.files import scan
from modules.errors import CheckpointError
from modules.model_tools import limits
from modules.model_tools.pickles import inspect
from modules.model_tools.places import Places
from modules.model_tools.process import Outcome, ToolFailed, ToolProcess
from modules.model_tools.requests import parse
from modules.model_tools.tools import carry_out
from modules.model_tools.work import Work

Convert = Callable[[str], Outcome]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def convert(folder: Path, tmp_path: Path) -> Convert:
    """Converts a file as the server does, in a process of its own."""

    def run(name: str, **fields: Any) -> Outcome:
        order = Places([folder]).order(parse({"tool": "convert", "file": name, **fields}), "run", tmp_path / "hashes.json")
        return ToolProcess(order).run(lambda doing, progress: None)

    return run


@pytest.fixture
def convert_here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Convert]:
    """As `convert`, in this process and without the limits of the other one, for harmless files: what becomes of them is the
    same, and torch is there already."""
    monkeypatch.setattr(limits, "limit", lambda size: None)
    threads = torch.get_num_threads()

    def run(name: str, **fields: Any) -> Outcome:
        order = Places([folder]).order(parse({"tool": "convert", "file": name, **fields}), "run", tmp_path / "hashes.json")
        work = Work(order)
        with torch.inference_mode():
            carry_out(work)
        return Outcome(work.made or order.target.name, tuple(work.notes))

    yield run
    torch.set_num_threads(threads)


def said(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


@pytest.fixture
def lightning() -> Iterator[type]:
    """pytorch_lightning's class that old checkpoints carry, for as long as one is written."""
    import sys

    names = ["pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"]
    made = {name: types.ModuleType(name) for name in names}
    kind = type("ModelCheckpoint", (), {"__module__": names[-1]})
    made[names[-1]].ModelCheckpoint = kind  # type: ignore[attr-defined]
    sys.modules.update(made)
    yield kind
    for name in names:
        del sys.modules[name]


def test_a_checkpoint_of_2022(folder: Path, convert: Convert, tiny_files: Path, lightning: type) -> None:
    """Weights under state_dict in half precision, two tensors of one storage, and everything that trainers left around them."""
    state = {name: t.half() if t.is_floating_point() else t for name, t in load_file(tiny_files / "a.safetensors").items()}
    both = torch.randn(2, 8)
    state |= {"model_ema.one": both[0], "model_ema.two": both[1], "model_ema.turned": both.T}
    whole = {
        "state_dict": collections.OrderedDict(state),
        "global_step": np.float64(470000),
        "callbacks": {lightning: {"best": np.zeros(3)}, "one": lightning()},
        "optimizer_states": [torch.randn(4)],
    }
    torch.save(whole, folder / "old.ckpt")
    outcome = convert("old.ckpt")
    assert outcome.file == "old.safetensors"
    assert outcome.notes[1] == "3 entries that are no weights were left out"
    found = load_file(folder / "old.safetensors")
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype
    info = next(info for info in scan([folder]) if info.path.suffix == ".safetensors")
    assert info.problem == "", "the list has it at once"
    assert json.loads(said(folder / "old.safetensors")["atelier.recipe"])["sources"]["file"]["file"] == "old.ckpt"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_tables_of_weights(folder: Path, convert_here: Convert, zipped: bool) -> None:
    tensors = {"conv_first.weight": torch.randn(4, 3, 3, 3), "step": torch.tensor(7)}
    torch.save({"params_ema": tensors, "params": {}}, folder / "x4.pth", _use_new_zipfile_serialization=zipped)
    torch.save(tensors, folder / "vae.pt", _use_new_zipfile_serialization=zipped)
    for name in ("x4.pth", "vae.pt"):
        convert_here(name)
        found = load_file(folder / Path(name).with_suffix(".safetensors"))
        assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())


@pytest.mark.parametrize("old", [True, False], ids=["ParameterDict", "dict"])
def test_an_embedding_of_a1111(folder: Path, convert_here: Convert, old: bool) -> None:
    """Textual inversions of torch 1.11's time hold a ParameterDict, whose class is not needed."""
    vectors = torch.randn(3, 768)
    table: Any = {"*": vectors}
    if old:
        table = torch.nn.ParameterDict()
        table.__dict__["_parameters"] = collections.OrderedDict({"*": torch.nn.Parameter(vectors)})
    (folder / "embeddings").mkdir()
    data = {"string_to_token": {"*": 265}, "string_to_param": table, "name": "ink", "step": 500, "sd_checkpoint_name": None}
    torch.save(data, folder / "embeddings" / "ink.pt")
    assert convert_here("embeddings/ink.pt").notes[0] == "an embedding with 1 tensors"
    assert torch.equal(load_file(folder / "embeddings" / "ink.safetensors")["emb_params"], vectors)
    metadata = said(folder / "embeddings" / "ink.safetensors")
    assert (metadata["name"], metadata["step"]) == ("ink", "500")
    usable = [info for info in scan_embeddings([folder]) if not info.problem]
    assert [(info.name, info.vectors, info.width) for info in usable] == [("ink", 3, 768)]


def test_an_embedding_of_diffusers(folder: Path, convert_here: Convert) -> None:
    torch.save({"<cat-toy>": torch.ones(768)}, folder / "learned_embeds.bin")
    convert_here("learned_embeds.bin")
    assert list(load_file(folder / "learned_embeds.safetensors")) == ["<cat-toy>"]


def test_a_hypernetwork(folder: Path, convert_here: Convert) -> None:
    def network() -> dict[str, Tensor]:
        return {f"linear.{n}.{kind}": torch.randn(4) for n in (0, 2) for kind in ("weight", "bias")}

    networks = {768: (network(), network()), 320: (network(), {"linear1.weight": torch.ones(2), "linear2.bias": torch.ones(3)})}
    texts = {
        "step": 100,
        "name": "anime",
        "layer_structure": [1, 2, 1],
        "activation_func": "relu",
        "is_layer_norm": False,
        "weight_init": "Normal",
    }
    torch.save({**networks, **texts}, folder / "anime.pt")
    convert_here("anime.pt")
    found, metadata = load_file(folder / "anime.safetensors"), said(folder / "anime.safetensors")
    assert torch.equal(found["768.1.linear.2.weight"], networks[768][1]["linear.2.weight"])
    assert torch.equal(found["320.1.linear.1.bias"], torch.ones(3))
    assert len(found) == 14
    assert {key: metadata[key] for key in (*texts, "activate_output")} == {
        "step": "100",
        "name": "anime",
        "layer_structure": "[1, 2, 1]",
        "activation_func": "relu",
        "is_layer_norm": "false",
        "weight_init": "Normal",
        "activate_output": "true",
    }


# ---- files that would do harm


class Evil:
    def __init__(self, mark: Path, how: str) -> None:
        self.mark, self.how = mark, how

    def __reduce__(self) -> tuple[Any, ...]:
        import os
        import subprocess

        return {
            "system": (os.system, (f"touch {self.mark}",)),
            "popen": (subprocess.Popen, (["touch", str(self.mark)],)),
            "eval": (eval, (f"open({str(self.mark)!r}, 'w').close()",)),
            "exec": (exec, (f"open({str(self.mark)!r}, 'w').close()",)),
            "open": (open, (str(self.mark), "w")),
            "map": (map, (os.system, [f"touch {self.mark}"])),
        }[self.how]


def zipped(path: Path, data: bytes, extra: dict[str, bytes] | None = None, compress: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        for name, content in (extra or {}).items():
            archive.writestr(name, content)


HOSTILE = ["raw system", "zip system", "legacy system", "beside system", "raw eval", "zip popen", "legacy exec", "beside popen"]
HOSTILE += ["zip open", "zip map", "raw protocol 4", "zip protocol 4", "raw protocol 0"]


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_runs(folder: Path, tmp_path: Path, convert: Convert, name: str) -> None:
    mark, path = tmp_path / "PWNED", folder / "evil.ckpt"
    container, _, how = name.partition(" ")
    protocol = int(how[-1]) if how.startswith("protocol") else 2
    evil = Evil(mark, "system" if how.startswith("protocol") else how)
    data = pickle.dumps(evil, protocol)
    if container == "raw":
        path.write_bytes(data)
    elif container == "zip":
        zipped(path, data)
    else:
        weights = {"state_dict": {"w": torch.ones(2), **({"evil": evil} if container == "legacy" else {})}, "callbacks": evil}
        torch.save(weights, path, _use_new_zipfile_serialization=container == "beside")
    with pytest.raises(ToolFailed, match=r"evil\.ckpt is refused: opening it would run programs \("):
        convert("evil.ckpt")
    assert not mark.exists()
    assert [each.name for each in folder.iterdir()] == ["evil.ckpt"]
    if how not in ("open", "map", "popen") and container in ("raw", "zip"):
        pickle.loads(data)  # what it does where it is opened
        assert wait_for(mark), "the test can fail"


def wait_for(file: Path) -> bool:
    import time

    end = time.monotonic() + 20
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return file.exists()


def test_what_the_restricted_unpickler_itself_refuses(folder: Path, convert: Convert) -> None:
    """Beyond the list of globals: a file that the look-through takes for harmless."""
    data = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(X\x01\x00\x00\x00ati}tR."  # arguments that fit no tensor
    zipped(folder / "odd.ckpt", data)
    with pytest.raises(ToolFailed, match=r"odd\.ckpt cannot be opened safely|not a pickle"):
        convert("odd.ckpt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unknown", r"needs code.*\(some\.package\.Thing\)"),
        ("tar", "tar archive"),
        ("script", "TorchScript"),
        ("names", r"its archive holds 'archive/\.\./\.\./evil'"),
        ("bomb", "compressed entries"),
        ("twice", "two of one name"),
        ("cut", "damaged|not a pickle|cannot be opened"),
        ("text", "not a pickle"),
        ("empty", "not a pickle"),
        ("safe", "safetensors file already"),
        ("nothing", "holds no tensors"),
        ("list", "no weights: it is a list"),
        ("views", "would become"),
    ],
)
def test_what_is_no_model_is_refused_with_the_reason(
    folder: Path, convert: Convert, convert_here: Convert, name: str, message: str
) -> None:
    path = folder / "odd.ckpt"
    harmless = pickle.dumps({}, 2)
    if name == "unknown":
        zipped(path, b"\x80\x02csome.package\nThing\n)R.")
    elif name == "tar":
        with tarfile.open(path, "w") as archive:
            archive.addfile(tarfile.TarInfo("sys_info"))
    elif name == "script":
        zipped(path, harmless, {"archive/code/__torch__.py": b"import os"})
    elif name == "names":
        zipped(path, harmless, {"archive/../../evil": b"x"})
    elif name == "bomb":
        zipped(path, harmless, {"archive/data/0": b"\0" * 10_000_000}, zipfile.ZIP_DEFLATED)
    elif name == "twice":
        with pytest.warns(UserWarning, match="Duplicate"):
            zipped(path, harmless, {"archive/data.pkl": harmless})
    elif name == "cut":
        torch.save({"w": torch.randn(1000)}, path)
        path.write_bytes(path.read_bytes()[:-700])
    elif name == "text":
        path.write_text("This is not a model at all.", encoding="utf-8")
    elif name == "empty":
        path.write_bytes(b"")
    elif name == "safe":
        header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
    elif name == "nothing":
        torch.save({"epoch": 3}, path)
    elif name == "list":
        torch.save([1, 2], path)
    else:
        wide = torch.ones(100_000)
        torch.save({f"{number}": wide.expand(50, -1) for number in range(40)}, path)
    opened = name in ("nothing", "list", "views")
    with pytest.raises(CheckpointError if opened else ToolFailed, match=message):
        (convert_here if opened else convert)("odd.ckpt")
    assert [each.name for each in folder.iterdir()] == ["odd.ckpt"]


def test_only_the_look_through_runs_before_the_limits(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`inspect`, in this very process, opens nothing: with every way to unpickle taken away it still answers."""
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, None)
    monkeypatch.setattr(torch, "load", None)
    zipped(folder / "evil.pt", b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.")
    with pytest.raises(CheckpointError, match=r"posix\.system"):
        inspect(folder / "evil.pt")


def test_the_limits_hold_in_the_child(folder: Path, tmp_path: Path) -> None:
    """No further process, no larger file, no more memory than the file can need."""
    import subprocess
    import sys

    script = """
import os, resource
from modules.model_tools import limits
limits.limit(1000)
failed = []
try:
    bytearray(8 << 30)
except MemoryError:
    failed.append("memory")
try:
    with open(os.environ["BIG"], "wb") as file:
        for _ in range(200):
            file.write(bytes(1 << 20))
except OSError:
    failed.append("file")
try:
    for _ in range(100):
        os.open("/dev/null", os.O_RDONLY)
except OSError:
    failed.append("files")
print(failed, resource.getrlimit(resource.RLIMIT_NPROC)[1], resource.getrlimit(resource.RLIMIT_CORE)[1])
"""
    if sys.platform != "linux":
        pytest.skip("these limits are Linux's")
    import os

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "BIG": str(tmp_path / "big")}
    )
    assert done.stdout.strip() == "['memory', 'file', 'files'] 0 0", done.stderr


def test_pickles_are_listed_by_their_place(folder: Path, tmp_path: Path) -> None:
    (folder / "embeddings" / "old").mkdir(parents=True)
    for name in ("x.ckpt", "embeddings/old/y.pt", "z.txt", ".hidden.pt"):
        (folder / name).write_bytes(b"123")
    (folder / "x.safetensors").write_bytes(b"1")
    found = Places([folder]).pickles()
    assert [(each.name, each.size, each.converted) for each in found] == [
        ("embeddings/old/y.pt", 3, False),
        ("x.ckpt", 3, True),
    ]
    from modules.errors import RequestError

    for name in ("../models/x.ckpt", str(folder / "x.ckpt"), "x.safetensors", "/etc/passwd", "embeddings/old/../old/y.pt"):
        with pytest.raises(RequestError, match="is not here"):
            Places([folder]).order(parse({"tool": "convert", "file": name}), "run", tmp_path / "h.json")
    with pytest.raises(RequestError, match=r"x\.safetensors already"):
        Places([folder]).order(parse({"tool": "convert", "file": "x.ckpt"}), "run", tmp_path / "h.json")
