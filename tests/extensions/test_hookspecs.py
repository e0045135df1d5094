"""The hooks' own rules: each is documented, tested, and used by what is built in or shipped."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from modules.extensions import hookspecs_engine, hookspecs_web
from modules.hooks import HOOKS
from modules.settings import ROOT

SPECIFICATIONS = {
    name: function
    for holder in (hookspecs_web.Shared, hookspecs_web.Web, hookspecs_engine.Engine)
    for name, function in vars(holder).items()
    if not name.startswith("_")
}
SCREEN = 80
"""Lines."""
SHIPPED = ("freeu", "slideshow")


def implemented(*folders: Path) -> dict[str, set[str]]:
    """The hooks that functions marked with `hookimpl` implement, and the files that have them."""
    found: dict[str, set[str]] = {}
    for file in (file for folder in folders for file in sorted(folder.rglob("*.py"))):
        for node in _functions(file):
            if any(
                getattr(mark, "id", getattr(getattr(mark, "func", None), "id", "")) == "hookimpl"
                for mark in node.decorator_list
            ):
                found.setdefault(node.name, set()).add(file.relative_to(ROOT).as_posix())
    return found


def _functions(file: Path) -> Iterator[ast.FunctionDef]:
    text = file.read_text("utf-8")
    if "hookimpl" in text:
        yield from (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))


def test_there_are_as_many_as_the_registry_knows() -> None:
    assert len(SPECIFICATIONS) == 15
    for name in SPECIFICATIONS:
        assert getattr(HOOKS._manager.hook, name).spec is not None


@pytest.mark.parametrize("module", [hookspecs_web, hookspecs_engine], ids=["web", "engine"])
def test_a_screen_shows_all_of_a_half(module: object) -> None:
    assert len(Path(str(vars(module)["__file__"])).read_text("utf-8").splitlines()) <= SCREEN


def test_every_hook_has_a_sentence_a_test_and_a_user_of_ours() -> None:
    ours = implemented(ROOT / "modules", *(ROOT / "extensions" / name for name in SHIPPED))
    tested = implemented(ROOT / "tests")
    tutorial = (ROOT / "extensions" / "README.md").read_text("utf-8")
    for name, specification in SPECIFICATIONS.items():
        said = (specification.__doc__ or "").split("\n")[0]
        assert len(said) > 40, f"{name} lacks documentation"
        assert re.search(rf"^\| `{name}` \|", tutorial, re.MULTILINE), (
            f"the table of hooks in extensions/README.md lacks {name}"
        )
        assert name in tested, f"no test implements {name}"
        assert name in ours, f"nothing that is built in or shipped implements {name}"
    assert set(ours) == set(SPECIFICATIONS), "and nothing implements what is no hook"


def test_what_a_specification_names_is_there() -> None:
    """`pipelines.wrappers.Wrapper` and its like are classes of that module."""
    for name, specification in SPECIFICATIONS.items():
        for place in re.findall(r"`((?:[a-z_]+\.)+[A-Z]\w+)`", specification.__doc__ or ""):
            module, _, wanted = place.rpartition(".")
            if module == "fastapi":
                continue
            path = ROOT / "modules" / module.replace(".", "/")
            files = [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else sorted(path.glob("*.py"))
            assert any(re.search(rf"^class {wanted}\b", file.read_text("utf-8"), re.MULTILINE) for file in files), (name, place)
