"""Server and command line against each other on one accounts file: each sees at once what the other did, and nothing of either
is lost or comes back, whether the server stops in order or is killed."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from modules import cli
from modules.accounts import AccountStore, AccountsUnavailable
from modules.accounts import store as store_module
from modules.accounts.store import FILE_NAME
from modules.settings import ROOT
from tests.security.instance import RunningInstance, Visitor

CODE = re.compile(r"[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}")
PASSWORD = "correct horse"
PAGE = [("Accept", "text/html")]

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def locks_of(pid: int, path: Path) -> list[str]:
    """The lines of /proc/locks about this file and process (proc(5): ... kind, mode, pid, device:inode, start, end)."""
    inode = f":{path.stat().st_ino}"
    lines = (line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines())
    # Without their number, which counts the locks of the whole machine
    return [" ".join(line[1:]) for line in lines if line[1] == "POSIX" and line[4] == str(pid) and line[5].endswith(inode)]


@linux
def test_a_store_keeps_its_locks_when_another_is_opened_and_closed(tmp_path: Path) -> None:
    with closing(AccountStore(tmp_path / FILE_NAME)) as store:
        store.accounts()
        held = locks_of(os.getpid(), tmp_path / FILE_NAME)
        assert held, "a connection in WAL mode holds a lock on the file for as long as it is open"
        AccountStore(tmp_path / FILE_NAME).close()
        assert locks_of(os.getpid(), tmp_path / FILE_NAME) == held


class Terminal:
    """The command line in another process than the server's: this one."""

    def __init__(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data, self._capsys = data, capsys

    def run(self, *arguments: str) -> str:
        self._capsys.readouterr()
        assert cli.run(cli.parse(["accounts", *arguments, "--data-dir", str(self.data)])) == 0, self._capsys.readouterr().err
        return self._capsys.readouterr().out

    def code(self, *arguments: str) -> str:
        found = CODE.search(self.run(*arguments))
        assert found
        return found[0]

    def names(self) -> list[str]:
        return [line.partition(":")[0] for line in self.run("list").splitlines() if not line.startswith("open code")]


def joined(instance: RunningInstance, name: str, code: str) -> Visitor:
    visitor = Visitor(instance)
    reply = visitor.fill_in("/invite", code=code, name=name, password=PASSWORD)
    assert reply.status == 303, reply.text
    return visitor


def status(visitor: Visitor) -> int:
    return visitor.ask("/internal/jobs").status


@pytest.fixture
def place(tmp_path: Path) -> Iterator[list[RunningInstance]]:
    """The instances that a test opened, to be closed whatever happens."""
    opened: list[RunningInstance] = []
    yield opened
    for instance in opened:
        instance.close(signal.SIGKILL)


@linux
def test_server_and_command_line_lose_nothing_of_each_other(
    tmp_path: Path, place: list[RunningInstance], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal(tmp_path / "data", capsys)
    (tmp_path / "data").mkdir()
    (tmp_path / "models").mkdir()
    first = terminal.code("invite", "--role", "administrator")

    def start() -> RunningInstance:
        place.append(RunningInstance(tmp_path, tmp_path / "models", "--require-token"))
        return place[-1]

    instance = start()
    assert locks_of(instance.process.pid, tmp_path / "data" / FILE_NAME), "the server holds its lock right after the start"
    opened = [os.readlink(file) for file in Path(f"/proc/{instance.process.pid}/fd").iterdir() if file.is_symlink()]
    assert opened.count(str(tmp_path / "data" / FILE_NAME)) == 1, "one connection to the file"

    ada = joined(instance, "Ada", first)
    bob, carol = (joined(instance, name, terminal.code("invite")) for name in ("Bob", "Carol"))
    token = terminal.run("tokens", "Carol", "--new", "Krita").strip()
    program = Visitor(instance, [("Authorization", f"Bearer {token}")])
    assert [status(visitor) for visitor in (ada, bob, carol, program)] == [200] * 4

    terminal.run("remove", "Bob")
    assert status(bob) == 401, "a removed account's session ends with the next request"
    terminal.run("tokens", "Carol", "--revoke", terminal.run("tokens", "Carol").split()[0])
    assert status(program) == 401
    code = terminal.code("reset", "Carol")
    assert Visitor(instance).fill_in("/invite", code=code, name="Carol", password="another horse").status == 303
    assert status(carol) == 401, "a new password ends the sessions of the old one"
    assert ada.fill_in("/account/invitations", role="user", hours="24").status == 303
    shown = CODE.search(ada.ask("/account", headers=PAGE).text)
    assert shown
    dora = joined(instance, "Dora", shown[0])
    assert terminal.names() == ["Ada", "Carol", "Dora"], "what was made on the page is there for the command line"
    assert not [link for link in map(os.readlink, Path(f"/proc/{instance.process.pid}/fd").iterdir()) if "(deleted)" in link]

    instance.close(signal.SIGKILL)
    assert terminal.names() == ["Ada", "Carol", "Dora"]
    instance = start()
    late = [Visitor(instance), Visitor(instance)]
    for visitor, before in zip(late, (dora, bob), strict=True):
        visitor.cookies = {f"sid_{instance.port}": secret for secret in before.cookies.values()}
    assert [status(visitor) for visitor in late] == [200, 401], "nobody was lost, nobody came back"
    joined(instance, "Eve", terminal.code("invite"))
    terminal.run("remove", "Dora")
    assert status(late[0]) == 401
    instance.close()
    assert terminal.names() == ["Ada", "Carol", "Eve"], "nothing comes back with an orderly stop"


def test_a_file_that_was_removed_or_replaced_ends_every_login(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with closing(AccountStore(path)) as store:
        ada = store.redeem(store.add_code("invite", "administrator", 60), "Ada", "hash")
        secret = store.add_session(ada.id, "", "")
        aside = path.rename(tmp_path / "aside")
        with pytest.raises(AccountsUnavailable, match="removed or replaced"):
            store.session(secret)
        path.write_bytes(b"")
        with pytest.raises(AccountsUnavailable, match="removed or replaced"):
            store.add_code("invite", "user", 60)
        aside.replace(path)
        assert store.session(secret) is not None, "put back, it serves again"


def test_a_file_system_without_hard_links_has_accounts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(store_module.os, "link", refuse)
    AccountStore(tmp_path / FILE_NAME).close()
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert os.name == "nt" or (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


OPENERS = {"open", "read_bytes", "read_text", "write_bytes", "write_text", "touch", "copyfile", "copy", "copy2", "mknod"}
OTHER_FILES = {
    ("modules/accounts/store.py", "_make"): "a new file, before it has its name",
    ("modules/queue/place.py", "_flush"): "a folder",
    ("modules/commands/verify.py", "state_of"): "pictures",
    ("modules/commands/verify.py", "_verdicts"): "pictures",
    ("modules/commands/verify.py", "compare"): "pictures",
}
"""Functions near a database that open something else."""


def functions(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Each function of a file, and what it calls that could open a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            calls = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
            names = [call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls]
            yield node.name, [name for name in names if name in OPENERS]


def test_no_code_near_a_database_opens_files() -> None:
    """Closing any descriptor of a file drops the process's POSIX locks on it, so nothing but SQLite may open one."""
    near = {file for file in (ROOT / "modules").rglob("*.py") if ".sqlite" in file.read_text(encoding="utf-8")}
    near |= {file for room in ("accounts", "queue") for file in (ROOT / "modules" / room).glob("*.py")}
    used = set()
    for file in sorted(near):
        name = file.relative_to(ROOT).as_posix()
        for function, calls in functions(file):
            if calls:
                assert (name, function) in OTHER_FILES, f"{name}: {function} calls {', '.join(calls)}"
                used.add((name, function))
    assert used == set(OTHER_FILES), "the list of exceptions is no longer than it must be"


SCRIPT = """
import sys
from pathlib import Path

def watch(event, arguments):
    if event in ("open", "os.open") and str(arguments[0]).endswith(".sqlite"):
        raise AssertionError(f"{arguments[0]} was opened otherwise than by SQLite")

sys.addaudithook(watch)  # SQLite's own library raises no such event
from modules import cli
from modules.queue.store import JobStore
from modules.request import Txt2Img

data = Path(sys.argv[1])
for arguments in (["invite"], ["list"]):
    assert cli.run(cli.parse(["accounts", *arguments, "--data-dir", str(data)])) == 0
for life in range(2):
    store = JobStore(data / "jobs.sqlite")
    store.recover()
    store.add(Txt2Img(checkpoint="x", seed=1), "me")
    assert cli.run(cli.parse(["verify", "--data-dir", str(data), "--outputs-dir", str(data)])) == 0
    (data / "jobs.sqlite").rename(data / f"aside-{life}")
    store.add(Txt2Img(checkpoint="x", seed=2), "me")
    store.close()
try:
    open(data / "jobs.sqlite")
except AssertionError:
    print("guarded")
"""


def test_no_database_is_opened_otherwise_than_by_sqlite(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("guarded\n"), "and the watch works"
