"""Header validation: every file that is not a whole safetensors file is refused by name and kind, quickly, and no other."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from modules.checkpoints.header import DTYPE_BITS, MAX_HEADER_BYTES, TensorEntry, read_header
from modules.errors import CheckpointError
from tests.checkpoints.corpus import BAD_HEADERS, F32, NOT_SAFETENSORS
from tests.tiny import TINY_METADATA, raw_safetensors

CORPUS = {**NOT_SAFETENSORS, **BAD_HEADERS}


@pytest.mark.parametrize("kind", CORPUS)
def test_bad_files_are_refused_with_their_name_and_what_they_are(kind: str, tmp_path: Path, tiny_file: Path) -> None:
    make, message = CORPUS[kind]
    path = tmp_path / "model.safetensors"
    make(path, tiny_file)
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith("model.safetensors")


def test_truncation_tells_both_sizes(tmp_path: Path, tiny_file: Path) -> None:
    whole = tiny_file.read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=rf"ends after {len(whole) // 2:,} of {len(whole):,} bytes"):
        read_header(tmp_path / "half.safetensors")


def test_a_good_header_is_read_as_the_safetensors_library_reads_it(tiny_file: Path) -> None:
    header = read_header(tiny_file)
    with safe_open(tiny_file, "pt") as theirs:
        assert header.metadata == theirs.metadata() == TINY_METADATA
        assert set(header.tensors) == set(theirs.keys())
        for name in theirs.keys():  # noqa: SIM118 (it is no dict)
            part = theirs.get_slice(name)
            assert (list(header.tensors[name].shape), header.tensors[name].dtype) == (part.get_shape(), part.get_dtype())
    assert header.data_start + max(entry.end for entry in header.tensors.values()) == tiny_file.stat().st_size


def test_all_dtypes_of_torch_are_known(tmp_path: Path) -> None:
    names = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "int32", "int16", "int8"]
    names += ["uint8", "bool", "complex64"]
    save_file({name: torch.zeros(4, dtype=getattr(torch, name)) for name in names}, tmp_path / "a.safetensors")
    tensors = read_header(tmp_path / "a.safetensors").tensors
    assert {entry.dtype for entry in tensors.values()} <= set(DTYPE_BITS)
    assert len(tensors) == len(names)


def test_empty_tensors_scalars_and_values_that_are_no_text_in_metadata_are_allowed(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"title": "x", "count": 3},
        "empty": {"dtype": "F32", "shape": [0, 5], "data_offsets": [0, 0]},
        "scalar": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
    }
    read = read_header(raw_safetensors(tmp_path / "a.safetensors", header, bytes(4)))
    assert read.metadata == {"title": "x"}
    assert read.tensors["scalar"] == TensorEntry("F32", (), 0, 4)


def test_the_largest_allowed_header_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    text = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    fitting = text + b" " * (MAX_HEADER_BYTES - len(text) - 1) + b"}"
    assert "a" in read_header(raw_safetensors(tmp_path / "a.safetensors", fitting, bytes(8))).tensors
    with pytest.raises(CheckpointError, match="announce a header of 16,777,217 bytes"):
        read_header(raw_safetensors(tmp_path / "b.safetensors", b" " + fitting, bytes(8)))


def test_missing_files_folders_pipes_and_forbidden_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^gone\.safetensors does not exist any more"):
        read_header(tmp_path / "gone.safetensors")
    with pytest.raises(CheckpointError, match=r"is not a regular file|is a folder"):
        read_header(tmp_path)
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(CheckpointError, match="is not a regular file"):
        read_header(tmp_path / "pipe.safetensors")  # would block for ever if it were opened naively
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    with pytest.raises(CheckpointError, match="is a link to itself"):
        read_header(tmp_path / "loop.safetensors")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_the_right_to_read_says_so(tmp_path: Path) -> None:
    path = raw_safetensors(tmp_path / "a.safetensors", {"a": F32}, bytes(8))
    path.chmod(0)
    with pytest.raises(CheckpointError, match="permission denied"):
        read_header(path)


def test_damaged_files_never_get_past_the_gate_by_another_error(tmp_path: Path) -> None:
    """600 random mutations of a small file: a header or a CheckpointError, nothing else."""
    good = raw_safetensors(
        tmp_path / "good.safetensors", {"a": F32, "bc": {**F32, "data_offsets": [8, 16]}}, bytes(16)
    ).read_bytes()
    dice = random.Random(7)
    path, accepted = tmp_path / "bad.safetensors", 0
    for _ in range(600):
        data = bytearray(good)
        for _ in range(dice.randint(1, 3)):
            place = dice.randrange(len(data))
            data[place] = dice.choice([dice.randrange(256), *b'{}[]",:0123456789eE.-'])
        if dice.random() < 0.2:
            del data[dice.randrange(len(data)) :]
        path.write_bytes(data)
        try:
            read_header(path)
            accepted += 1
        except CheckpointError:
            continue
    assert 0 < accepted < 600


def test_length_is_not_trusted_before_the_size_is_known(tmp_path: Path) -> None:
    """A header length just below the limit in a file of a few bytes must not make us allocate it."""
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", MAX_HEADER_BYTES - 1) + b"{}")
    with pytest.raises(CheckpointError, match="ends after 10 of at least"):
        read_header(tmp_path / "a.safetensors")
