"""Every route of the program as it is put together, found by walking it, so that a new one cannot be forgotten."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.settings import ROOT


@dataclass(frozen=True, order=True)
class Way:
    """One method of one route; a Mount counts as a GET of something below it."""

    path: str
    method: str

    def filled(self, **values: str) -> str:
        """The path with its parameters filled in; what is not given becomes "x"."""
        return re.sub(r"\{(\w+)(?::\w+)?\}", lambda m: values.get(m[1], "x"), self.path)


def all_ways(folder: Path) -> list[Way]:
    """Of the whole server with accounts, which has every route there is; in another process, as Gradio leaves loops open."""
    done = subprocess.run([sys.executable, "-m", __name__, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [Way(*pair) for pair in json.loads(done.stdout.splitlines()[-1])]


def _built(folder: Path) -> Any:
    from modules.accounts import Accounts, AccountStore
    from modules.api.guard.middleware import AccessConfig
    from modules.server import build_server
    from tests.ui.fake_app import FakeApp

    access = AccessConfig(accounts=Accounts(AccountStore(folder / "accounts.sqlite")))
    return build_server(FakeApp(folder), access)  # type: ignore[arg-type]


def walk(routes: Any, prefix: str = "") -> Iterator[Way]:
    for route in routes:
        inner = getattr(route, "original_router", None)  # FastAPI's wrapper of an included router
        if inner is not None:
            yield from walk(inner.routes, prefix + getattr(route.include_context, "prefix", ""))
            continue
        path = prefix + getattr(route, "path", "")
        methods = getattr(route, "methods", None)
        if methods:
            yield from (Way(path, method) for method in methods)
        elif (below := getattr(getattr(route, "app", None), "routes", None)) is not None:
            yield from walk(below, path)
        else:
            yield Way(f"{path}/{{rest}}", "GET")


if __name__ == "__main__":
    print(json.dumps(sorted({(way.path, way.method) for way in walk(_built(Path(sys.argv[1])).routes)})))
