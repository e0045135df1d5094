"""The metadata of an exported file can be changed, and nothing else of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open

from modules.checkpoints.header import read_header
from modules.errors import CheckpointError
from modules.training.export import rewrite_metadata
from tests.tiny import TINY_METADATA, tiny_checkpoint


def tensor_bytes(path: Path) -> bytes:
    return path.read_bytes()[read_header(path).data_start :]


@pytest.mark.parametrize("value", ["", "x", "naïve 虎 \u2028", "y" * 100_001])
def test_only_the_header_changes(tmp_path: Path, value: str) -> None:
    path = tiny_checkpoint(tmp_path / "tiny.safetensors")
    path.chmod(0o640)
    header, data = read_header(path), tensor_bytes(path)
    rewrite_metadata(path, {"atelier.words": value, "modelspec.title": "Other"})
    after = read_header(path)
    assert after.metadata == {**TINY_METADATA, "atelier.words": value, "modelspec.title": "Other"}
    assert list(after.tensors.items()) == list(header.tensors.items())
    assert tensor_bytes(path) == data
    assert after.data_start % 8 == 0
    assert path.stat().st_mode & 0o777 == 0o640
    with safe_open(str(path), "pt") as handle:
        assert handle.metadata()["modelspec.title"] == "Other"
        assert set(handle.keys()) == set(header.tensors)
    assert list(tmp_path.iterdir()) == [path]


def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.safetensors"
    path.write_text("no model at all, only a few words")
    with pytest.raises(CheckpointError, match="a text file"):
        rewrite_metadata(path, {"a": "b"})
    assert path.read_text() == "no model at all, only a few words"
