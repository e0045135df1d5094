"""One of several processes that save at the same time: run by test_outputs.  Prints "name sha256" for each picture saved."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from modules.images.outputs import Outputs
from tests.images.conftest import make_info


def main(folder: str, job: str, count: int) -> None:
    outputs, info = Outputs(Path(folder)), make_info()
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(count):
        pixels = random.Random(f"{job}{number}").randbytes(64 * 64 * 3)
        # All processes want the very same name for each number.
        saved = outputs.save(pixels, 64, 64, info, job, number, 1_786_000_000.0)
        print(saved.name, saved.sha256, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
