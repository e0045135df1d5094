"""Installing: what is fetched lies aside and is shown, hostile zips are refused, and nothing is half-written."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modules.errors import ExtensionError
from modules.extensions import git, inspecting
from modules.extensions.git import checked_address
from modules.extensions.service import Extensions
from tests.extensions.writing import EMPTY, write_extension

RAISES = "import pathlib\npathlib.Path(__file__).with_name('it_ran').touch()\n" + EMPTY


@pytest.fixture
def extensions(tmp_path: Path) -> Iterator[Extensions]:
    extensions = Extensions([tmp_path / "ext"], tmp_path / "data", packages=False)
    extensions.start()
    yield extensions
    extensions.close()


def zipped(folder: Path, top: str = "") -> bytes:
    """A zip of the files of a folder, below `top`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{top}{path.relative_to(folder).as_posix()}")
    return buffer.getvalue()


def left_over(extensions: Extensions) -> list[str]:
    """What lies in the staging folder, and half-written among the extensions."""
    staged = extensions.staging.folder / "staging"
    parts = [path.name for path in extensions.folders[0].glob(".*")] if extensions.folders[0].is_dir() else []
    return [path.name for path in staged.iterdir()] + parts if staged.is_dir() else parts


def test_a_zip_is_shown_then_installed_and_off(extensions: Extensions, tmp_path: Path) -> None:
    source = write_extension(tmp_path / "made", "glow", RAISES, title="Glow", python=["pillow", "nobody-has-this"])
    (source / "install.py").write_text("raise SystemExit")
    (source / "fast.so").write_bytes(b"\x7fELF")
    proposal = extensions.propose_zip(zipped(source, "glow-main/"))
    assert (proposal.manifest.title, proposal.address, proposal.replaces, proposal.changes) == ("Glow", "", "", ())
    assert [path for path, _ in proposal.files] == ["extension.toml", "fast.so", "install.py", "web.py"]
    assert dict(proposal.files)["fast.so"] == 4
    assert [need.verdict for need in proposal.needs] == ["met", "missing"]
    text = " ".join(proposal.warnings)
    assert "all rights of Atelier" in proposal.warnings[0]
    assert "compiled code, which cannot be read: fast.so" in text
    assert "install.py will not be run" in text
    assert "nobody-has-this, which is not installed" in text
    assert extensions.list() == []

    view = extensions.install(proposal.token)
    assert view.state == "refused"
    place = tmp_path / "ext" / "glow"
    (place / "extension.toml").write_text((place / "extension.toml").read_text().replace(', "nobody-has-this"', ""))
    assert extensions.find("glow").state == "off"
    assert not list(tmp_path.rglob("it_ran"))
    assert left_over(extensions) == []
    assert extensions.enable("glow").state == "on"
    assert (place / "it_ran").exists()
    with pytest.raises(ExtensionError, match="not here any more"):
        extensions.install(proposal.token)


def test_a_newer_zip_replaces_it_and_the_old_files_are_in_the_trash(extensions: Extensions, tmp_path: Path) -> None:
    old = write_extension(tmp_path / "old", "glow", EMPTY)
    (old / "gone.txt").write_text("old")
    extensions.install(extensions.propose_zip(zipped(old)).token)
    extensions.enable("glow")
    new = write_extension(tmp_path / "new", "glow", EMPTY + "# newer", version="2.0")
    (new / "more.txt").write_text("new")
    proposal = extensions.propose_zip(zipped(new))
    assert proposal.replaces == "1.0.0"
    assert dict(proposal.changes) == {
        "extension.toml": "changed", "web.py": "changed", "more.txt": "new", "gone.txt": "removed",
    }  # fmt: skip
    view = extensions.install(proposal.token)
    assert (view.version, view.state) == ("2.0", "on")
    assert sorted(path.name for path in (tmp_path / "ext" / "glow").glob("*.txt")) == ["more.txt"]
    trash = list((extensions.staging.folder / "trash").iterdir())
    assert [(path.name.split("-")[0], (path / "gone.txt").read_text()) for path in trash] == [("glow", "old")]


def test_files_that_were_changed_after_they_were_shown_are_not_installed(extensions: Extensions, tmp_path: Path) -> None:
    proposal = extensions.propose_zip(zipped(write_extension(tmp_path / "made", "glow", EMPTY)))
    (staged,) = extensions.staging.folder.rglob("web.py")
    staged.write_text(RAISES)
    with pytest.raises(ExtensionError, match="not those that were shown"):
        extensions.install(proposal.token)
    assert extensions.list() == []
    extensions.discard(proposal.token)
    assert left_over(extensions) == []


@pytest.mark.parametrize("token", ["", "..", "../../etc", "a" * 32, "A" * 32])
def test_tokens_name_proposals_and_nothing_else(extensions: Extensions, token: str) -> None:
    with pytest.raises(ExtensionError):
        extensions.install(token)


def with_entries(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("extension.toml", 'name = "glow"\nversion = "1"\nweb = "web"')
        archive.writestr("web.py", EMPTY)
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("passwords")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (lambda: with_entries(("../outside.py", b"x")), "leads elsewhere"),
        (lambda: with_entries(("/etc/outside.py", b"x")), "leads elsewhere"),
        (lambda: with_entries(("a/../../outside.py", b"x")), "leads elsewhere"),
        (lambda: with_entries(("a\\..\\outside.py", b"x")), "leads elsewhere"),
        (lambda: with_entries(("C:outside.py", b"x")), "leads elsewhere"),
        (lambda: with_entries(("nul.txt", b"x")), "leads elsewhere"),
        (lambda: with_entries(("a" * 300, b"x")), "leads elsewhere"),
        (lambda: with_entries(("back\u202eyp.py", b"x")), "leads elsewhere"),
        (lambda: with_entries(("a/./b", b"x")), "leads elsewhere"),
        (lambda: with_entries((link(), b"/etc/passwd")), "a link or no file"),
        (lambda: with_entries(("WEB.py", b"x")), "it has both"),
        (lambda: with_entries(*[(f"{number}.txt", b"") for number in range(5000)]), "5000 are the most"),
        (lambda: b"PK\x03\x04 and no more", "no zip that can be read"),
        (lambda: with_entries()[:-30], "no zip that can be read"),
        (lambda: bytes((64 << 20) + 1), "larger than 64 MiB"),
    ],
)
def test_hostile_zips_are_refused_and_leave_nothing(
    extensions: Extensions, tmp_path: Path, data: Callable[[], bytes], says: str
) -> None:
    with pytest.raises(ExtensionError, match=says):
        extensions.propose_zip(data())
    assert left_over(extensions) == []
    assert not list(tmp_path.rglob("outside.py"))


def test_a_bomb_is_refused_by_what_it_states(extensions: Extensions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspecting, "MAX_BYTES", 1 << 20)
    with pytest.raises(ExtensionError, match="more than 1 MiB when it is unpacked"):
        extensions.propose_zip(with_entries(("bomb", bytes(2 << 20))))
    assert left_over(extensions) == []


def test_a_zip_that_lies_about_its_sizes_is_cut(extensions: Extensions, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes out counts, not what the directory of the zip says."""
    monkeypatch.setattr(inspecting, "MAX_BYTES", 1000)
    data = bytearray(with_entries(("bomb", bytes(5000))))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    with pytest.raises(ExtensionError, match=r"more than 0 MiB|no zip that can be read"):
        extensions.propose_zip(bytes(data))
    assert left_over(extensions) == []


@pytest.mark.parametrize(
    ("manifest", "says"),
    [(None, "it has no extension.toml, so it is no extension of Atelier"), ('name = "glow"', "does not say its version")],
)
def test_what_is_no_extension_is_refused(extensions: Extensions, manifest: str | None, says: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("scripts/thing.py", "x")
        if manifest is not None:
            archive.writestr("extension.toml", manifest)
    with pytest.raises(ExtensionError, match=says):
        extensions.propose_zip(buffer.getvalue())


# ---- git


def git_in(folder: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = write_extension(tmp_path / "repository", "glow", EMPTY)
    git_in(folder, "init", "--quiet", "--initial-branch=main")
    git_in(folder, "add", ".")
    git_in(folder, "commit", "--quiet", "-m", "first")
    return folder


def test_a_repository_is_installed_pinned_and_updated(extensions: Extensions, repository: Path, tmp_path: Path) -> None:
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch it_ran\n")
    hook.chmod(0o755)
    proposal = extensions.propose(str(repository), local=True)
    assert proposal.commit == git_in(repository, "rev-parse", "HEAD")
    assert [path for path, _ in proposal.files] == ["extension.toml", "web.py"]
    view = extensions.install(proposal.token)
    assert view.source == str(repository)
    state = extensions.states.get("glow")
    assert (state.commit, state.sha256, state.enabled) == (proposal.commit, proposal.sha256, False)
    assert extensions.update("glow").changes == ()

    (repository / "more.py").write_text("x = 1")
    git_in(repository, "add", ".")
    git_in(repository, "commit", "--quiet", "-m", "second")
    proposal = extensions.update("glow")
    assert proposal.changes == (("more.py", "new"),)
    assert proposal.commit != state.commit
    extensions.install(proposal.token)
    assert extensions.states.get("glow").commit == proposal.commit
    assert not list(tmp_path.rglob("it_ran"))
    assert not (tmp_path / "ext" / "glow" / ".git").exists()


def test_a_repository_with_a_link_or_another_name_is_refused(extensions: Extensions, repository: Path) -> None:
    extensions.install(extensions.propose(str(repository), local=True).token)
    toml = repository / "extension.toml"
    toml.write_text(toml.read_text().replace("glow", "other"))
    git_in(repository, "commit", "--quiet", "-a", "-m", "renamed")
    with pytest.raises(ExtensionError, match="there is now an extension 'other', not 'glow'"):
        extensions.update("glow")
    if sys.platform != "win32":
        toml.write_text(toml.read_text().replace("other", "glow"))
        (repository / "passwords").symlink_to("/etc/passwd")
        git_in(repository, "add", ".")
        git_in(repository, "commit", "--quiet", "-m", "a link")
        content = dict(extensions.propose(str(repository), local=True).files)
        assert content["passwords"] == len("/etc/passwd"), "git wrote where it leads to into a file, and nothing was followed"


@pytest.mark.parametrize(
    "address",
    [
        "", "glow", "-u", "--upload-pack=touch it_ran", "ext::sh -c 'touch it_ran'", "file:///etc", "ssh://host/x", "git@h:x",
        "http://host/x", "https://user:secret@host/x", "https://host/x y", "https://host/x\ny", "https://-host/x", "https://host",
        "https://host/x#-branch", "https://host/x#a..b", "https://host/x;touch", "https://host/$(touch)", "https://host/`x`",
        "git://host/x", "/etc", ".",
    ],
)  # fmt: skip
def test_addresses_that_are_not_fetched_from(extensions: Extensions, address: str) -> None:
    with pytest.raises(ExtensionError, match=r"no address of a repository|no branch or tag"):
        extensions.propose(address)
    assert left_over(extensions) == []


def test_a_folder_that_is_no_repository(extensions: Extensions, tmp_path: Path) -> None:
    with pytest.raises(ExtensionError, match="is no repository of git"):
        extensions.propose(str(write_extension(tmp_path / "own", "glow", EMPTY)), local=True)
    with pytest.raises(ExtensionError, match="there is no folder"):
        extensions.propose(str(tmp_path / "none"), local=True)


def test_addresses_that_are() -> None:
    assert checked_address(" https://example.org/some-one/glow.git#v1.0 ", local=False) == (
        "https://example.org/some-one/glow.git", "v1.0", "https",
    )  # fmt: skip
    assert checked_address("https://example.org:8443/a/b", local=True)[1:] == ("", "https")


def test_git_is_told_to_run_nothing(extensions: Extensions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that would fetch over the network: protocols, hooks, prompts, and where the address stands."""
    seen: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], environment: dict[str, str], seconds: float, folder: Path) -> str:
        seen.append((command, environment))
        raise ExtensionError("stop here")

    monkeypatch.setattr(git, "_run", run)
    monkeypatch.setattr(git.shutil, "which", lambda name: "/usr/bin/git")
    monkeypatch.setenv("GIT_SSH_COMMAND", "touch it_ran")
    monkeypatch.setenv("HF_TOKEN", "secret")
    with pytest.raises(ExtensionError, match="stop here"):
        extensions.propose("https://example.org/a/b#main")
    ((command, environment),) = seen
    assert command[-3:-1] == ["--", "https://example.org/a/b"]
    text = " ".join(command)
    for option in ("protocol.allow=never", "protocol.https.allow=always", f"core.hooksPath={os.devnull}", "--depth=1"):
        assert option in text
    assert "--no-recurse-submodules" in command
    assert "--branch=main" in command
    assert (environment["GIT_ALLOW_PROTOCOL"], environment["GIT_TERMINAL_PROMPT"]) == ("https", "0")
    assert not {"GIT_SSH_COMMAND", "HF_TOKEN"} & set(environment)


# ---- names and removing


def test_the_names_of_others_are_taken(tmp_path: Path) -> None:
    from modules.settings import ROOT

    extensions = Extensions([tmp_path / "ext", ROOT / "extensions"], tmp_path / "data", packages=False)
    data = zipped(write_extension(tmp_path / "made", "freeu", EMPTY))
    with pytest.raises(ExtensionError, match="the name 'freeu' is taken: an extension that is built in has it"):
        extensions.propose_zip(data)
    with pytest.raises(ExtensionError, match="comes with Atelier and cannot be removed"):
        extensions.remove("freeu")


def test_one_that_is_removed_lies_in_the_trash_and_is_forgotten(extensions: Extensions, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "glow", EMPTY)
    extensions.disable("glow")
    place = extensions.remove("glow")
    assert (place / "web.py").is_file()
    assert place.parent == tmp_path / "data" / "extensions" / "trash"
    assert (extensions.list(), extensions.states.all()) == ([], {})
    with pytest.raises(ExtensionError, match="there is no extension 'glow'"):
        extensions.remove("glow")


def test_a_place_that_cannot_be_written_leaves_what_was_there(
    extensions: Extensions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extensions.install(extensions.propose_zip(zipped(write_extension(tmp_path / "old", "glow", EMPTY))).token)
    proposal = extensions.propose_zip(zipped(write_extension(tmp_path / "new", "glow", EMPTY, version="2.0")))

    def refuse(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "rename", refuse)
        with pytest.raises(ExtensionError, match=r"No space left on device; nothing was installed"):
            extensions.install(proposal.token)
    assert extensions.find("glow").version == "1.0.0"
    assert [name for name in left_over(extensions) if name.startswith(".")] == []
