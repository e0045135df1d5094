"""The set-up: from a bare Python to a running `modules.cli` in an environment of its own.

Standard library only, like all of this package.  It makes `.venv` in the project's folder, has pip install what pyproject.toml
names, remembers that it did, and starts the program again inside.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from modules.bootstrap.environment import ROOT, Environment, SetupError
from modules.bootstrap.install import set_up


def main(arguments: Sequence[str]) -> int:
    """Set up if need be, then run the command line inside the environment.  Returns the exit code."""
    from modules import cli  # parses before anything is installed: --help and slips of the pen need no set-up

    options = cli.parse(arguments)
    environment = Environment(ROOT / ".venv")
    ready = environment.ready(options.extras)
    if ready and environment.inside():
        return cli.run(options)
    try:
        if not ready:
            set_up(environment, options.extras)
    except SetupError as error:
        if options.command != "doctor":
            print(f"atelier: {error}", file=sys.stderr)
            return 1
        return cli.run(options, problem=str(error))  # the doctor is for machines where things do not work
    except KeyboardInterrupt:
        print("\natelier: the set-up was interrupted; start again to go on", file=sys.stderr)
        return 130
    return _restart(environment.python, [str(ROOT / "webui.py"), *arguments])


def _restart(python: Path, arguments: Sequence[str]) -> int:
    """Go on as `python arguments`: the same process where the system can, else a child whose exit code is ours.

    Bytecode is written, whatever the environment says of it (images of Docker commonly forbid it): the packages were installed
    without any, and each process would spend seconds on compiling Gradio and torch again.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if os.name != "nt":
        _exec(python, arguments, environment)
    child = subprocess.Popen([str(python), *arguments], env=environment)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the child got it too and decides
            continue


def _exec(python: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    os.execve(python, [str(python), *arguments], environment)
