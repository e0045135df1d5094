"""The walls between the rooms: import-linter's contracts, what the web process loads, what the set-up may use."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

import modules
from modules.settings import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HEAVY = ("torch", "transformers", "diffusers", "xformers")


def imported(file: Path) -> set[str]:
    """Top-level names of the packages that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


MOST_LINES = 80
"""Of one function: what is longer has several ideas, and each of them a name."""


def test_no_function_is_longer_than_a_page() -> None:
    lengths = {
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for file in sorted((ROOT / "modules").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno is not None
    }
    assert len(lengths) > 1000, "the walk found them"
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_contracts() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(command), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_module_imports_itself_through_others() -> None:
    """Imports within functions and for type checkers count too: a circle of those is a circle of what must be known."""
    graph = grimp.build_graph("modules", cache_dir=None)
    waits = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    with pytest.raises(CycleError):
        TopologicalSorter({"one": {"other"}, "other": {"one"}}).prepare()
    TopologicalSorter(waits).prepare()


@pytest.mark.parametrize(
    "names",
    [
        ("modules.cli", "modules.doctor", "modules.commands.serve", "modules.commands.generate", "modules.commands.check"),
        ("modules.app", "modules.api.server", "modules.server", "modules.ui.page", "modules.ui.tabs.txt2img"),
        (
            "modules.engine.launcher",
            "modules.engine.link",
            "modules.checkpoints.files",
            "modules.diffusion.samplers",
            "modules.diffusion.schedules",
        ),
    ],
    ids=["command line", "server", "shared rooms"],
)
def test_the_web_process_never_loads_torch(names: tuple[str, ...]) -> None:
    """Not by reading the sources, which lazy imports escape, but by importing for real in a fresh process."""
    script = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_parsing_needs_the_standard_library_alone() -> None:
    """--help answers before anything is installed: `-S -I` leaves no way to an installed package."""
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from modules import cli; cli.parse(['generate', 'a cat'])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "file", [ROOT / "webui.py", *sorted((ROOT / "modules" / "bootstrap").glob("*.py"))], ids=lambda f: f.name
)
def test_the_set_up_uses_the_standard_library_alone(file: Path) -> None:
    ours = {"modules", "modules.bootstrap", "modules.bootstrap.environment", "modules.bootstrap.install"}
    ours |= {"modules.bootstrap.terminal", "modules.locks"}
    for name in imported(file):
        assert name in ours or name.partition(".")[0] in sys.stdlib_module_names, f"{file.name} imports {name}"


def test_the_version_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == modules.__version__


def test_every_dependency_is_used() -> None:
    """A name in pyproject.toml that nothing imports is dead weight; "tomli" is Python 3.10's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    used = {name.partition(".")[0] for file in (ROOT / "modules").rglob("*.py") for name in imported(file)}
    named = {"pillow": "PIL", "argon2-cffi": "argon2", "PyYAML": "yaml"}
    for requirement in project["dependencies"]:
        package = requirement.split(";")[0].split("<")[0].split(">")[0].split("=")[0].strip()
        assert named.get(package, package) in used, f"nothing imports {package}"
        if ";" not in requirement:
            assert importlib.util.find_spec(named.get(package, package)) is not None
