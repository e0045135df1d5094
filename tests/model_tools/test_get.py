"""Getting models from an imitation of a hub on loopback; nothing leaves this machine."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from modules.errors import AtelierError, CheckpointError, OutputError, RequestError
from modules.model_tools import connections, disk, fetch
from modules.model_tools.get import get
from modules.model_tools.look import look
from modules.model_tools.origins import Link, Repository, parse_source
from modules.model_tools.places import Places
from modules.model_tools.process import ToolProcess
from modules.model_tools.requests import parse
from modules.model_tools.runs import ToolRuns
from modules.model_tools.work import Work
from modules.settings import ROOT
from tests.model_tools.hub_server import HubServer

BIG = 300_000


def safetensors(tensors: dict[str, list[int]], fill: int = 7) -> bytes:
    header, end = {}, 0
    for name, shape in tensors.items():
        size = 4
        for each in shape:
            size *= each
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes([fill]) * end


LORA = safetensors({"lora_unet_x.lora_down.weight": [4, 100], "lora_unet_x.lora_up.weight": [100, 4]})
CHECKPOINT = safetensors({"model.diffusion_model.input_blocks.0.0.weight": [BIG // 4]})
EMBEDDING = safetensors({"emb_params": [2, 768]})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    import huggingface_hub
    from huggingface_hub import constants

    hub = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    monkeypatch.setattr(fetch, "PAUSES", (0.0, 0.0, 0.0))
    yield hub
    hub.close()
    huggingface_hub.close_session()


@pytest.fixture
def links(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The imitation as a host that is not the hub."""
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    return server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "models"
    made.mkdir()
    return made


Got = Callable[..., Work]


@pytest.fixture
def got(folder: Path, tmp_path: Path) -> Got:
    """Carries out a request in this process."""

    def run(source: str, public_only: bool = False, **fields: Any) -> Work:
        request = parse({"tool": "get", "source": source, **fields})
        work = Work(Places([folder], public_only=public_only).order(request, "run", tmp_path / "hashes.json"))
        get(request, work)  # type: ignore[arg-type]
        return work

    return run


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def seen(folder: Path) -> list[str]:
    return [name for name in files(folder) if not name.startswith(".")]


# ---- what a source means


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("ada/ink", Repository("ada/ink")),
        ("ada/ink@v2", Repository("ada/ink", "v2")),
        ("ada/ink/sub/a.safetensors", Repository("ada/ink", "", "sub/a.safetensors")),
        ("https://huggingface.co/ada/ink", Repository("ada/ink")),
        ("https://huggingface.co/ada/ink/blob/main/a.safetensors", Repository("ada/ink", "main", "a.safetensors")),
        ("https://huggingface.co/ada/ink/resolve/v2/b/a.ckpt?download=true", Repository("ada/ink", "v2", "b/a.ckpt")),
        ("https://huggingface.co/ada/ink/tree/main", Repository("ada/ink", "main")),
        ("https://example.org/a.safetensors?token=1", Link("https://example.org/a.safetensors?token=1")),
    ],
)
def test_sources_in_all_forms(text: str, meant: object) -> None:
    assert parse_source(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        *("ink", "file:///etc/passwd", "ftp://example.org/a.ckpt", "https://ada:secret@example.org/a.ckpt", "../x", "ada/.."),
        *("ada/ink/../../a.safetensors", "ada/ink/.hidden", "ada/ink/a\\b.ckpt", "https://huggingface.co/datasets/a/b"),
        *("https://example.org/a b", "https://", "ada/ink/con.safetensors", "https://huggingface.co/a/b/resolve/main/%2e%2e/c"),
    ],
)
def test_what_is_no_source_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="source: "):
        parse({"tool": "get", "source": text})


# ---- whole files


def test_a_repository_of_one_lora_goes_into_its_folder(server: HubServer, got: Got, folder: Path) -> None:
    (folder / "Lora").mkdir()
    server.repos["ada/ink"] = {
        "README.md": b"x",
        "pytorch_lora_weights.safetensors": LORA,
        "pytorch_lora_weights.bin": b"x" * 99,
    }
    assert got("ada/ink").made == "Lora/ink.safetensors", "the file's own name says nothing, the repository's does"
    assert files(folder) == ["Lora/ink.safetensors"]
    assert (folder / "Lora" / "ink.safetensors").read_bytes() == LORA
    (listing,) = server.of("/api/")
    assert len(server.asked) == 3, "the listing, the file's address and the file; nothing else was asked"
    assert listing.token == ""


def test_kinds_by_their_tensors_or_as_asked(server: HubServer, got: Got, folder: Path) -> None:
    server.repos["ada/many"] = {"a.safetensors": CHECKPOINT, "e.safetensors": EMBEDDING, "deep/e2.safetensors": EMBEDDING}
    assert got("ada/many/a.safetensors").made == "a.safetensors"
    assert got("ada/many", file="e.safetensors").made == "embeddings/e.safetensors"
    odd = got("ada/many/deep/e2.safetensors", to="loras", output="mine")
    assert odd.made == "loras/mine.safetensors"
    assert odd.notes == ["its tensors say that it is an embedding; it was put into loras as asked"]


def test_several_files_are_offered_with_their_sizes(server: HubServer, got: Got, folder: Path) -> None:
    server.repos["ada/two"] = {"a.safetensors": CHECKPOINT, "b.safetensors": CHECKPOINT, "model_index.json": b"{}"}
    with pytest.raises(RequestError) as refused:
        got("ada/two")
    assert "a.safetensors (0 MB), b.safetensors (0 MB), model_index.json (the whole pipeline)" in str(refused.value)
    with pytest.raises(RequestError, match=r"file: ada/two has no model file c\.safetensors; choose one"):
        got("ada/two", file="c.safetensors")
    assert files(folder) == []


def test_the_fp16_twin_is_taken_only_when_asked(server: HubServer, got: Got) -> None:
    server.repos["ada/twins"] = {"a.safetensors": CHECKPOINT, "a.fp16.safetensors": LORA}
    assert got("ada/twins").made == "a.safetensors"
    assert got("ada/twins", fp16=True).made == "loras/a.fp16.safetensors"


PIPELINE = {
    "model_index.json": b'{"unet": ["diffusers", "UNet2DConditionModel"]}',
    "README.md": b"words",
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": CHECKPOINT,
    "unet/diffusion_pytorch_model.fp16.safetensors": LORA,
    "unet/diffusion_pytorch_model.non_ema.safetensors": CHECKPOINT,
    "unet/diffusion_pytorch_model.bin": b"x" * 2000,
    "vae/config.json": b"{ }",
    "vae/diffusion_pytorch_model.safetensors": EMBEDDING,
    "vae/model.onnx": b"x" * 2000,
    "tokenizer/tokenizer_config.json": b"{}",
    "tokenizer/merges.txt": b"a b",
    "scheduler/scheduler_config.json": b"{}",
    "safety_checker/config.json": b"{}",
    "safety_checker/model.safetensors": CHECKPOINT,
    "text_encoder/flax_model.msgpack": b"x" * 2000,
}


@pytest.mark.parametrize("fp16", [False, True])
def test_a_pipeline_comes_as_a_folder(server: HubServer, got: Got, folder: Path, fp16: bool) -> None:
    server.repos["ada/pipe"] = PIPELINE
    work = got("ada/pipe", fp16=fp16)
    assert work.made == "pipe"
    weights = "unet/diffusion_pytorch_model" + (".fp16" if fp16 else "") + ".safetensors"
    assert files(folder / "pipe") == sorted(
        [
            *("model_index.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt", "tokenizer/tokenizer_config.json"),
            *("unet/config.json", weights, "vae/config.json", "vae/diffusion_pytorch_model.safetensors"),
            "safety_checker/config.json",
        ]
    )
    assert files(folder) == [f"pipe/{name}" for name in files(folder / "pipe")], "nothing else is left"
    with pytest.raises(RequestError, match="there is a file pipe already"):
        got("ada/pipe")
    got("ada/pipe", replace=True)


def test_a_changed_small_file_of_a_pipeline_is_noticed(
    server: HubServer, got: Got, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.repos["ada/pipe"] = dict(PIPELINE)
    monkeypatch.setattr("tests.model_tools.hub_server.git", lambda data: "0" * 40)
    with pytest.raises(CheckpointError, match="git's hash differs"):
        got("ada/pipe")
    assert files(folder) == []


# ---- interrupted, resumed, changed


def test_an_interrupted_download_goes_on_where_it_was(server: HubServer, got: Got, folder: Path) -> None:
    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT}
    server.cut = [200_000]
    got("ada/big")
    assert [each.range for each in server.of("/cdn/")] == ["", "bytes=200000-"]
    assert server.sent == len(CHECKPOINT), "no byte came twice"
    assert (folder / "big.safetensors").read_bytes() == CHECKPOINT


def test_a_later_run_goes_on_too(server: HubServer, got: Got, folder: Path) -> None:
    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT}
    server.cut = [100_000, 0, 0, 0, 0]
    with pytest.raises(connections.Unreachable, match=r"broke .*start it again, and it goes on there"):
        got("ada/big")
    assert seen(folder) == [], "what is not whole has no name"
    server.cut = []
    got("ada/big")
    assert server.sent == len(CHECKPOINT)
    assert files(folder) == ["big.safetensors"]


@pytest.mark.parametrize("source", ["repository", "link"])
def test_a_file_that_changed_meanwhile_begins_anew(
    server: HubServer, got: Got, folder: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = safetensors({"model.diffusion_model.input_blocks.0.0.weight": [BIG // 4]}, fill=9)
    name = "ada/big"
    if source == "link":
        name = f"{server.url}/link/big.safetensors"
        monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")  # so that the link is none of its pages
    server.repos["ada/big"], server.links["/link/big.safetensors"] = {"big.safetensors": CHECKPOINT}, CHECKPOINT
    server.cut = [100_000, 0, 0, 0, 0]
    with pytest.raises(connections.Unreachable):
        got(name)
    server.repos["ada/big"], server.links["/link/big.safetensors"] = {"big.safetensors": newer}, newer
    server.cut = []
    got(name)
    assert (folder / "big.safetensors").read_bytes() == newer


def test_a_link_goes_on_while_it_is_the_same(links: HubServer, got: Got, folder: Path) -> None:
    links.links["/big.safetensors"] = CHECKPOINT
    links.cut = [100_000, 0, 0, 0, 0]
    with pytest.raises(connections.Unreachable):
        got(f"{links.url}/big.safetensors")
    links.cut = []
    got(f"{links.url}/big.safetensors")
    assert (links.asked[-1].range, links.sent) == ("bytes=100000-", len(CHECKPOINT))
    assert (folder / "big.safetensors").read_bytes() == CHECKPOINT


def test_a_server_without_ranges_sends_all_of_it_again(server: HubServer, got: Got, folder: Path) -> None:
    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT}
    server.ranges, server.cut = False, [100_000]
    got("ada/big")
    assert (folder / "big.safetensors").read_bytes() == CHECKPOINT


# ---- what must not become a model


def test_a_wrong_sha256_leaves_nothing(server: HubServer, got: Got, folder: Path) -> None:
    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT}
    server.lies["big.safetensors"] = "0" * 64
    with pytest.raises(CheckpointError, match=r"came with the sha256 .* and 000000000000… was expected"):
        got("ada/big")
    assert files(folder) == []


def test_a_torn_safetensors_file_gets_no_name(server: HubServer, got: Got, folder: Path) -> None:
    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT[:-100]}
    with pytest.raises(CheckpointError, match="incomplete"):
        got("ada/big")
    assert files(folder) == []


def test_a_pickle_comes_with_a_word_and_a_malicious_one_not(server: HubServer, got: Got, folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, ("true",)

    server.repos["ada/old"] = {"old.pt": pickle.dumps({"a": list(range(500))}, protocol=2)}
    work = got("ada/old", to="embeddings")
    assert work.made == "embeddings/old.pt"
    assert "is a pickle" in work.notes[0]
    assert "convert" in work.notes[0]
    server.repos["ada/evil"] = {"evil.pt": pickle.dumps({"a": Evil(), "b": "x" * 2000}, protocol=2)}
    with pytest.raises(CheckpointError, match="would run programs"):
        got("ada/evil")
    assert files(folder) == ["embeddings/old.pt"]


def test_a_name_that_is_taken_is_refused_before_anything_comes(server: HubServer, got: Got, folder: Path) -> None:
    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT}
    (folder / "big.safetensors").write_bytes(b"mine")
    with pytest.raises(RequestError, match=r"there is a file big\.safetensors already"):
        got("ada/big")
    assert server.of("/cdn/") == []
    assert (folder / "big.safetensors").read_bytes() == b"mine"
    got("ada/big", replace=True)
    assert (folder / "big.safetensors").read_bytes() == CHECKPOINT


def test_a_repository_writes_nothing_outside(server: HubServer, got: Got, folder: Path) -> None:
    server.repos["ada/bad"] = {"../../evil.safetensors": LORA, "/tmp/evil.safetensors": LORA, "a\\..\\b.safetensors": LORA}
    with pytest.raises(RequestError, match="has no model file"):
        got("ada/bad")
    assert files(folder.parent) == []


# ---- disks


def test_a_disk_without_room_is_noticed_before(
    server: HubServer, got: Got, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT}
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: type("usage", (), {"free": disk.MARGIN})())
    with pytest.raises(OutputError, match="make room"):
        got("ada/big")
    assert seen(folder) == []


def test_a_disk_that_fills_in_the_middle_keeps_what_came(
    server: HubServer, got: Got, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT}
    real = Path.open

    def full(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        file = real(self, mode, *rest, **more)
        return _Full(file) if mode == "ab" else file

    class _Full:
        def __init__(self, file: Any) -> None:
            self.file, self.room = file, 100_000

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

        def write(self, data: bytes) -> int:
            if len(data) > self.room:
                self.file.write(data[: self.room])
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room -= len(data)
            return int(self.file.write(data))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OutputError, match=r"is full; make room and start again .*the next start goes on there"):
            got("ada/big")
    assert seen(folder) == []
    got("ada/big")
    assert [each.range for each in server.of("/cdn/")] == ["", "bytes=100000-"]
    assert (folder / "big.safetensors").read_bytes() == CHECKPOINT


# ---- refusals, and nobody there


def test_refusals_are_sentences(server: HubServer, got: Got, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.repos["ada/shut"] = {"a.safetensors": CHECKPOINT}
    resolve = f"/ada/shut/resolve/{'c' * 40}/a.safetensors"
    for path, answer, source, words in (
        ("", None, "ada/nowhere", "is not there, or private: check the name, or set HF_TOKEN"),
        ("/api/models/ada/shut", (403, "GatedRepo"), "ada/shut", "is gated: accept its terms on its page"),
        ("/api/models/ada/shut", (503, ""), "ada/shut", "answered 503; start it again later"),
        (resolve, (403, "GatedRepo"), "ada/shut", "is gated"),
        (resolve, (401, ""), "ada/shut", r"is not given to everybody \(401\)"),
        (resolve, (404, ""), "ada/shut", r"is not there \(404\)"),
        (resolve, (429, ""), "ada/shut", "asked too often"),
        (resolve, (500, ""), "ada/shut", "answered 500"),
    ):
        server.answers = {path: answer} if answer else {}
        with pytest.raises(RequestError, match=words) as refused:
            got(source)
        assert "hf_secret" not in str(refused.value)


def test_offline_says_so_in_one_line(server: HubServer, got: Got, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    for source in ("ada/ink", f"http://localhost:{port}/a.safetensors"):
        with pytest.raises(
            connections.Unreachable, match=r"^(127\.0\.0\.1|localhost) cannot be reached \(.*\); is this machine online\?$"
        ):
            got(source)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(connections.Unreachable, match="HF_HUB_OFFLINE is set"):
        got(f"http://localhost:{port}/a.safetensors")


# ---- tokens, redirects, private networks


def test_the_token_goes_to_the_hub_alone(server: HubServer, got: Got, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT}
    got("ada/big")
    assert {each.token for each in server.asked if each.host.startswith("127.0.0.1")} == {"Bearer hf_secret"}
    assert [each.token for each in server.asked if each.host.startswith("localhost")] == [""]


def test_a_link_and_its_names(links: HubServer, got: Got, folder: Path) -> None:
    links.links["/a/ink.safetensors"] = links.links["/download/123"] = LORA
    work = got(f"{links.url}/a/ink.safetensors?token=s3cret")
    assert work.made == "loras/ink.safetensors"
    assert "without a checksum" in work.notes[0]
    for said, name in (
        ('attachment; filename="../../evil.safetensors"', "evil.safetensors"),
        ("attachment; filename*=UTF-8''t%C3%BCr%2F..%2Fx.safetensors", "x.safetensors"),
        ('attachment; filename="C:\\\\x\\\\.hidden"', "hidden.safetensors"),
        ('attachment; filename="nul.safetensors"', "_nul.safetensors"),
    ):
        links.headers = {"Content-Disposition": said}
        assert got(f"{links.url}/download/123").made == f"loras/{name}"
    assert all(name.startswith("loras/") for name in files(folder))


def test_a_links_sha256(links: HubServer, got: Got, folder: Path) -> None:
    links.links["/ink.safetensors"] = LORA
    with pytest.raises(CheckpointError, match="was asked for; it was removed"):
        got(f"{links.url}/ink.safetensors", sha256="1" * 64)
    assert files(folder) == []
    assert got(f"{links.url}/ink.safetensors", sha256=hashlib.sha256(LORA).hexdigest()).notes == []


def test_pages_and_archives_are_no_models(links: HubServer, got: Got, folder: Path) -> None:
    links.links.update({"/login": b"<html>", "/a.zip": b"PK" * 2000, "/b.safetensors": b"<html>" * 900})
    for path, words, kind in (
        ("/a.zip", r"a\.zip is no model file", "application/zip"),
        ("/b.safetensors", "HTML page", "application/octet-stream"),
        ("/login", "is a web page and not a model", "text/html; charset=utf-8"),
    ):
        links.headers = {"Content-Type": kind}
        with pytest.raises(AtelierError, match=words):
            got(links.url + path)
    assert files(folder) == []


def test_redirects_are_bounded_and_stay_with_http(links: HubServer, got: Got) -> None:
    links.redirects = {"/loop": "/loop2", "/loop2": "/loop", "/file": "file:///etc/passwd", "/user": "http://a:b@localhost/x"}
    links.redirects |= {f"/{number}": f"/{number + 1}" for number in range(20)}
    for path in ("/loop", "/0", "/file", "/user"):
        with pytest.raises(RequestError):
            got(links.url + path)
    assert len(links.of("/1")) <= connections.REDIRECTS + 5
    made = connections._Redirects(lambda request: None)
    with pytest.raises(RequestError, match="from https to http"):
        made.redirect_request(
            __import__("urllib.request").request.Request("https://a.example/x"), None, 302, "", {}, "http://a.example/y"
        )  # type: ignore[arg-type]


def test_a_shared_server_reaches_into_no_private_network(
    server: HubServer, got: Got, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    server.links["/ink.safetensors"] = LORA
    server.redirects["/away"] = f"http://localhost:{server.port}/ink.safetensors"
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    hosts = ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254")
    for host in (*hosts, "10.0.0.1", "192.168.0.1", "100.64.0.1", "[fe80::1]"):
        with pytest.raises(RequestError, match="private network"):
            got(f"http://{host}:{server.port}/ink.safetensors", public_only=True)
    assert server.asked == []
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.repos["ada/small"] = {"e.safetensors": safetensors({"emb_params": [1, 8]})}
    got("ada/small", public_only=True)
    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT}
    with pytest.raises(RequestError, match="localhost is in a private network"):
        got("ada/big", public_only=True)
    assert server.of("/cdn/") == []


# ---- processes and restarts


def until(runs: ToolRuns, run: str, *states: str) -> Any:
    end = time.monotonic() + 90
    while (view := runs.run(run, "ada")) is None or view.state not in states:
        assert time.monotonic() < end, view
        time.sleep(0.02)
    return view


def test_a_restart_in_the_middle_goes_on_there(server: HubServer, folder: Path, tmp_path: Path) -> None:
    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT}
    server.hold = threading.Event()
    first = ToolRuns(tmp_path / "tools.sqlite", [folder], tmp_path / "hashes.json")
    first.begin()
    run = first.start({"tool": "get", "source": "ada/big"}, "ada")
    with pytest.raises(RequestError, match="another run downloads this already"):
        first.start({"tool": "get", "source": "ada/big", "output": "other"}, "ada")
    assert server.reached.wait(90)
    half = len(CHECKPOINT) // 2
    part = next(folder.glob(".get-*.part"))
    while not (there := part / "files" / "big.safetensors").exists() or there.stat().st_size < half:
        time.sleep(0.02)
    first.close()
    assert seen(folder) == []
    server.hold.set()
    server.hold = None
    second = ToolRuns(tmp_path / "tools.sqlite", [folder], tmp_path / "hashes.json")
    second.begin()
    try:
        view = until(second, run.id, "done", "failed")
        assert (view.state, view.file, view.error) == ("done", "big.safetensors", "")
        assert server.of("/cdn/")[-1].range == f"bytes={half}-"
        assert files(folder) == ["big.safetensors"]
    finally:
        second.close()


def test_cancelling_leaves_nothing(server: HubServer, folder: Path, tmp_path: Path) -> None:
    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT}
    server.hold = threading.Event()
    runs = ToolRuns(tmp_path / "tools.sqlite", [folder], tmp_path / "hashes.json")
    runs.begin()
    try:
        run = runs.start({"tool": "get", "source": "ada/big"}, "ada")
        assert server.reached.wait(90)
        assert runs.cancel(run.id, "ada")
        assert list(folder.iterdir()) == []
    finally:
        runs.close()


def test_a_failed_run_keeps_its_bytes_until_it_is_removed(
    server: HubServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT}
    server.answers[f"/ada/big/resolve/{'c' * 40}/big.safetensors"] = (500, "")
    runs = ToolRuns(tmp_path / "tools.sqlite", [folder], tmp_path / "hashes.json")
    run = runs.start({"tool": "get", "source": "ada/big"}, "ada")
    part = runs.places.order(run.request, run.id, tmp_path).part
    (part / "files").mkdir(parents=True)
    (part / "files" / "big.safetensors").write_bytes(CHECKPOINT[:1000])
    (part / "files" / ".big.safetensors.json").write_text(json.dumps({"known": hashlib.sha256(CHECKPOINT).hexdigest()}))
    runs.begin()
    try:
        assert "answered 500" in until(runs, run.id, "failed").error
        assert (part / "files" / "big.safetensors").stat().st_size == 1000
        assert runs.forget(run.id, "ada")
        assert list(folder.iterdir()) == []
    finally:
        runs.close()


def test_two_programs_do_not_write_the_same(server: HubServer, got: Got, folder: Path, tmp_path: Path) -> None:
    from modules.model_tools.get import Staging

    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT}
    request = parse({"tool": "get", "source": "ada/big"})
    held = Staging(Places([folder]).order(request, "x", tmp_path).part)
    with pytest.raises(RequestError, match="downloaded already, by another run or program"):
        got("ada/big")
    held.leave()
    got("ada/big")


def test_the_command_line(server: HubServer, folder: Path, tmp_path: Path) -> None:
    server.repos["ada/ink"] = {"ink.safetensors": LORA}
    settings = ["--data-dir", str(tmp_path / "data"), "--models-dir", str(folder), "--outputs-dir", str(tmp_path / "out")]

    def webui(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "modules.cli", "models", "get", *arguments, *settings]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    done = webui("ada/ink", "--output", "mine")
    assert (done.returncode, done.stdout) == (0, f"{folder / 'loras' / 'mine.safetensors'}: made\n"), done.stderr
    assert (folder / "loras" / "mine.safetensors").read_bytes() == LORA
    failed = webui("ada/nothing")
    assert failed.returncode == 1
    assert "is not there, or private" in failed.stderr


def test_a_look_shows_what_there_is(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.repos["ada/pipe"] = {**PIPELINE, "all.safetensors": CHECKPOINT, "all.ckpt": b"x" * 3000}
    found = look("ada/pipe")
    assert found["files"] == [
        {"name": "all.ckpt", "size": 3000, "pickle": True},
        {"name": "all.safetensors", "size": len(CHECKPOINT), "pickle": False},
    ]
    assert found["pipeline"]["fp16"] < found["pipeline"]["size"] < 2 * len(CHECKPOINT)
    with pytest.raises(RequestError, match="is not there, or private"):
        look("ada/nowhere")
    with pytest.raises(RequestError, match="source: must be"):
        look("nowhere")
    asked = len(server.asked)
    assert look("https://example.org/a.safetensors?x=1") == {
        "name": "https://example.org/a.safetensors", "files": [], "pipeline": None, "file": "", "link": True
    }  # fmt: skip
    assert len(server.asked) == asked


def test_a_process_that_is_ended_keeps_what_came(server: HubServer, folder: Path, tmp_path: Path) -> None:
    server.repos["ada/big"] = {"big.safetensors": CHECKPOINT}
    server.hold = threading.Event()
    order = Places([folder]).order(parse({"tool": "get", "source": "ada/big"}), "x", tmp_path / "hashes.json")
    process = ToolProcess(order)

    def run() -> None:
        with suppress(AtelierError):
            process.run(lambda doing, progress: None)

    thread = threading.Thread(target=run)
    thread.start()
    assert server.reached.wait(90)
    process.end()
    thread.join(60)
    assert order.part.is_dir()
