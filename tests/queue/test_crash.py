"""kill -9 at every place of a save and of a transaction: nothing acknowledged is lost, nothing torn, nothing doubled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("ATELIER_CRASH_ROUNDS", "100"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_an_app_that_is_killed_again_and_again(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.queue.crash_rounds", str(tmp_path), str(ROUNDS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    # The rounds got somewhere, and every job that was ever accepted has all its pictures, once each.
    assert report["done"] >= ROUNDS // 6
    assert report["acknowledged"] >= ROUNDS // 6
    assert report["pictures"] == 3 * report["done"]
