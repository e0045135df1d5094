"""Run all measurements, or those that are named, and print their figures."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import sys
from dataclasses import asdict
from pathlib import Path

from tests import bench


def main(arguments: list[str]) -> int:
    known = sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Known: " + ", ".join(known))
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure [all]")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--save", metavar="FILE", type=Path, help="add the figures to FILE too, one JSON object per line")
    options = parser.parse_args(arguments)
    if strange := set(options.names) - set(known):
        parser.error(f"no measurement {', '.join(sorted(strange))}; known are {', '.join(known)}")

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}", file=sys.stderr
    )
    for name in options.names or known:
        for figure in importlib.import_module(f"tests.bench.{name}").measure():
            line = json.dumps({"bench": name, **asdict(figure)})
            if options.save:
                with options.save.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
            print(line if options.json else _text(name, figure), flush=True)
    return 0


def _text(name: str, figure: bench.Figure) -> str:
    what = f"{figure.what}: {figure.by}" if figure.by else figure.what
    how = f"  ({figure.how})" if figure.how else ""
    return f"{name:<12} {what:<48} {figure.value:>10.3f} {figure.unit}{how}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
