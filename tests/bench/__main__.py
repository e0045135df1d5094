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

from tests import bench


def main(arguments: list[str]) -> int:
    known = sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Known: " + ", ".join(known))
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure [all]")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    options = parser.parse_args(arguments)
    if strange := set(options.names) - set(known):
        parser.error(f"no measurement {', '.join(sorted(strange))}; known are {', '.join(known)}")

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}", file=sys.stderr
    )
    for name in options.names or known:
        for figure in importlib.import_module(f"tests.bench.{name}").measure():
            if options.json:
                print(json.dumps({"bench": name, **asdict(figure)}), flush=True)
            else:
                how = f"  ({figure.how})" if figure.how else ""
                print(f"{name:<12} {figure.what:<48} {figure.value:>10.3f} {figure.unit}{how}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
