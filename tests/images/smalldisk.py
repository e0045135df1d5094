"""Saves onto a real tiny disk until it is full, then onto a read-only one: run by test_outputs in a mount namespace."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from modules.errors import OutputError
from modules.images.outputs import Outputs
from tests.images.conftest import make_info
from tests.picture_files import read_pixels


def main(disk: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", disk], check=True)
    outputs = Outputs(Path(disk))
    names = []
    try:
        for index in range(100):
            pixels = random.Random(index).randbytes(64 * 64 * 3)
            names.append(outputs.save(pixels, 64, 64, make_info(), "job", index).path)
    except OutputError as error:
        print(f"FULL {len(names)} {error}")
    found = sorted(path for path in Path(disk).rglob("*") if path.is_file())
    assert found == sorted(names), found
    for path in found:
        read_pixels(path)
    try:
        outputs.check_writable()
    except OutputError as error:
        print(f"CHECK {error}")

    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        outputs.save(bytes(64 * 64 * 3), 64, 64, make_info(), "job", 200)
    except OutputError as error:
        print(f"READONLY {error}")


if __name__ == "__main__":
    main(sys.argv[1])
