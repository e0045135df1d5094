"""The command line: what is understood, what is said when it is not, and pictures and pages from real processes."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from modules import cli
from modules.commands import check, folders, generate, serve
from modules.errors import OutputError, RequestError, SettingsError
from modules.images.encoding import Form
from modules.images.infotext import GenerationInfo
from modules.jobs.views import JobView
from modules.request import Txt2Img
from modules.settings import ROOT, TABLE, Setting, Settings
from tests.tiny import tiny_checkpoint

PATIENCE = 240
"""Seconds after which a process that should have said something is given up; nothing is measured."""


# ---- what is understood


def test_serve_is_the_default() -> None:
    assert cli.parse([]).command == "serve"
    assert cli.parse(["--port", "8000", "--no-browser"]).flags["port"] == "8000"


@pytest.mark.parametrize("setting", TABLE, ids=lambda s: s.name)
def test_settings_stand_before_and_after_the_command(setting: Setting) -> None:
    flag = [setting.flag] if setting.is_switch else [setting.flag, "7"]
    expected: Any = ["7"] if setting.repeatable else "7"
    if setting.is_switch:
        expected = setting.default == "false"
    for arguments in ([*flag, "doctor"], ["doctor", *flag], flag):
        assert cli.parse(arguments).flags[setting.name] == expected
    assert cli.parse(["doctor"]).flags[setting.name] is None


def test_a_switch_can_be_taken_back() -> None:
    assert cli.parse(["--exact", "serve", "--no-exact"]).flags["exact"] is False
    assert cli.parse(["--browser"]).flags["browser"] is True


def test_the_nearer_flag_wins_and_folders_add_up() -> None:
    options = cli.parse(["--port", "1", "--models-dir", "a", "--models-dir", "b", "serve", "--port", "2", "--models-dir", "c"])
    assert options.flags["port"] == "2"
    assert options.flags["models_dir"] == ["a", "b", "c"]


def test_the_settings_file() -> None:
    assert cli.parse(["--settings", "a.toml"]).file == "a.toml"
    assert cli.parse(["--settings", "a.toml", "doctor", "--settings", "b.toml"]).file == "b.toml"


@pytest.mark.parametrize(
    ("arguments", "command", "rest"),
    [
        (["test"], "test", []),
        (["test", "-k", "samplers", "-x", "tests/test_cli.py"], "test", ["-k", "samplers", "-x", "tests/test_cli.py"]),
        (["--data-dir", "test", "test", "--port"], "test", ["--port"]),
        (["--data-dir", "test", "serve"], "serve", None),
        (["--exact", "test", "-q"], "test", ["-q"]),
        (["generate", "test"], "generate", None),
        (["generate", "--negative", "test", "a cat"], "generate", None),
        (["--data-dir", "test"], "serve", None),
    ],
)
def test_what_follows_test_is_pytests(arguments: list[str], command: str, rest: list[str] | None) -> None:
    options = cli.parse(arguments)
    assert options.command == command
    assert getattr(options.values, "pytest", None) == rest
    assert options.extras == (["test"] if command == "test" else [])


@pytest.mark.parametrize(
    "arguments",
    [
        ["paint"],
        ["--prot", "1"],
        ["--por", "1"],
        ["serve", "--seed", "1"],
        ["generate", "a", "b"],
        ["doctor", "--port"],
        ["generate", "--from"],
    ],
)
def test_slips_are_one_line_and_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.parse(arguments)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("atelier: ")
    assert said.count("\n") == 1
    assert "--help" in said


@pytest.mark.parametrize("command", [[], ["serve"], ["generate"], ["doctor"], ["test"]], ids=lambda c: c[0] if c else "none")
def test_help_everywhere(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.parse([*command, "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert all(f"--{setting.name.replace('_', '-')}" in said and setting.variable in said for setting in TABLE)


# ---- what is refused


def run(*arguments: str) -> int:
    before = signal.getsignal(signal.SIGTERM)
    try:
        return cli.run(cli.parse(arguments))
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve", "--port", "http"], "--port: port 'http' cannot be used"),
        (["serve", "--host", "0.0.0.0"], "accounts"),
        (["--device", "tpu"], "auto, cpu, cuda or cuda:N"),
        (["--settings", "/nowhere/settings.toml"], "does not exist"),
    ],
)
def test_senseless_settings(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_stray_variables_are_mentioned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("ATELIER_PROT", "1")
    run("generate", "--data-dir", str(tmp_path))
    assert "did you mean ATELIER_PORT?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "say what to see"),
        (["a cat", "--size", "big"], "write WIDTHxHEIGHT"),
        (["a cat", "--size", "512"], "write WIDTHxHEIGHT"),
        (["a cat", "--size", "63x64"], "width: must be a multiple of 8 from 64 to 8192"),
        (["a cat", "--size", "64x100000"], "height: must be a multiple of 8"),
        (["a cat", "--steps", "0"], "steps: "),
        (["a cat", "--steps=-1"], "steps: "),
        (["a cat", "--steps", "1000000"], "steps: "),
        (["a cat", "--steps", "abc"], "steps: "),
        (["a cat", "--cfg", "nan"], "cfg_scale: "),
        (["a cat", "--seed", "-2"], "seed: "),
        (["a cat", "--count", "0"], "count: "),
        (["a cat", "--sampler", "Eular"], "did you mean 'Euler'"),
        (["a cat", "--schedule", "Kerras"], "did you mean 'Karras'"),
        (["a cat", "--checkpoint", "nothing"], "checkpoint 'nothing'"),
        (["x" * 30_000 + "y" * 3_000], "at most 32,768 characters"),
        (["a cat", "--output", "cat.gif"], "pictures are saved as .png, .jpg, .webp, .avif, .jpeg; use a name"),
        (["a cat", "--output", "cat.png", "--count", "2"], "name a folder"),
        (["--from", "/nowhere/cat.png"], "cat.png cannot be read"),
    ],
)
def test_requests_that_make_no_sense(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, models: Path
) -> None:
    """Each ends before an engine is started."""
    folders = ["--data-dir", str(tmp_path / "data"), "--outputs-dir", str(tmp_path / "outputs"), "--models-dir", str(models)]
    assert run("generate", *arguments, *folders) == 1
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not list((tmp_path / "outputs").rglob("*.png"))


# ---- where pictures go


def test_output_names_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert generate.target(str(tmp_path / "there"), None).folder == tmp_path / "there"
    assert generate.target(str(tmp_path / "new"), "3").folder == tmp_path / "new"
    assert generate.target(f"{tmp_path}/a.b/", "3").folder == tmp_path / "a.b"
    one = generate.target(str(tmp_path / "there" / "cat.png"), "1")
    assert (one.folder, one.name) == (tmp_path / "there", "cat.png")


def test_pictures_in_a_folder_are_named_by_their_words_unless_private(tmp_path: Path) -> None:
    outputs = generate.target(str(tmp_path), "3", Form("webp"))
    names = []
    for fields in ({}, {}, {"private": True}):
        info = GenerationInfo(Txt2Img(prompt="a red fox", seed=7, **fields), "", "", "Karras", "Atelier")
        names.append(outputs.save(bytes(64 * 64 * 3), 64, 64, info, "", 0).path.name)
    assert names == ["a-red-fox-7.webp", "a-red-fox-7-2.webp", "picture.webp"]


def test_output_never_replaces_and_needs_its_folder(tmp_path: Path) -> None:
    (tmp_path / "cat.png").touch()
    with pytest.raises(OutputError, match="exists and is not overwritten"):
        generate.target(str(tmp_path / "cat.png"), None)
    with pytest.raises(RequestError, match="there is no folder"):
        generate.target(str(tmp_path / "nowhere" / "cat.png"), None)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("output", ["x" * 260 + ".png", "y" * 260])
def test_an_output_with_a_name_that_is_too_long_is_one_sentence(output: str) -> None:
    with pytest.raises(RequestError, match=r"--output .{60}\.\.\. cannot be used: file name too long; choose another name"):
        generate.target(output, None)


@pytest.mark.parametrize("place", ["--data-dir", "--outputs-dir"])
def test_a_folder_that_cannot_be_written(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=f"not a folder is in the way; choose another folder with {place}"):
        folders.check_writable(tmp_path / "file", place)
    with pytest.raises(SettingsError, match=place):
        folders.check_writable(tmp_path / "file" / "below", place)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_folder_on_a_system_that_refuses() -> None:
    with pytest.raises(SettingsError, match="cannot write to /proc/atelier"):
        folders.check_writable(Path("/proc/atelier"), "--outputs-dir")


# ---- the port


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_taken_port(busy: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "GREETING_SECONDS", 0.2)
    assert run("serve", "--port", str(busy), "--data-dir", str(tmp_path / "data")) == 2
    said = capsys.readouterr().err
    other = re.fullmatch(rf"atelier: port {busy} is in use by another program; use --port (\d+) or stop that program\n", said)
    assert other
    assert int(other[1]) > busy
    assert not (tmp_path / "data").exists(), "the port is looked at first"


class _Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok", "engine": "ready"}')

    def log_message(self, *_: Any) -> None:
        pass


def test_a_port_taken_by_another_of_us() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Health) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(SettingsError, match=rf"another Atelier is at http://127\.0\.0\.1:{other.server_port}"):
            serve.check_port("127.0.0.1", other.server_port)
        other.shutdown()


def test_a_free_port_stays_free() -> None:
    serve.check_port("127.0.0.1", 0)
    serve.check_port("localhost", 0)


# ---- checks


def test_a_failing_check_shows_what_it_said_and_a_passing_one_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.passes(check.Check("good", (sys.executable, "-c", "print('chatter')")))
    assert not check.passes(check.Check("bad", (sys.executable, "-c", "print('the reason'); raise SystemExit(3)")))
    said = capsys.readouterr().out
    assert re.search(r"^good: passed", said, re.MULTILINE)
    assert re.search(r"^bad: FAILED", said, re.MULTILINE)
    assert "the reason" in said
    assert "chatter" not in said


def test_a_check_beside_the_tests_speaks_only_when_it_fails(capsys: pytest.CaptureFixture[str]) -> None:
    good = check.started(check.Check("good", (sys.executable, "-c", "print('chatter')")))
    bad = check.started(check.Check("bad", (sys.executable, "-c", "print('the reason' * 9999); raise SystemExit(3)")))
    assert good()
    assert not bad()
    said = capsys.readouterr().out
    assert said.startswith("bad: FAILED\nthe reason")
    assert "chatter" not in said


@pytest.mark.parametrize(("good", "code"), [(True, 0), (True, 5), (False, 0)])
def test_the_verdict(
    good: bool, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """All well: the tests' summary is the last line.  Else: what failed is."""
    monkeypatch.setattr(check, "passes", lambda check: good)
    monkeypatch.setattr(check, "started", lambda check: lambda: good)
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!{sys.executable}\nprint('3 passed'); raise SystemExit({code})\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    verdict = run("test")
    said = capfd.readouterr().out.rstrip().splitlines()
    assert verdict == (code or (0 if good else 1))
    assert said[-1] == "3 passed" if good else "FAILED: format, lint, layers, types" in said


# ---- progress


def view(**fields: Any) -> JobView:
    basics: dict[str, Any] = {
        "id": "1",
        "state": "running",
        "position": 0,
        "count": 1,
        "done": 0,
        "step": 0,
        "steps": 20,
        "progress": 0.0,
        "eta_s": None,
        "rev": 1,
        "error": "",
        "created": 0.0,
        "request": Txt2Img(),
        "pictures": (),
    }
    return JobView(**{**basics, **fields})


def test_no_more_workers_are_started_than_there_are_pictures() -> None:
    settings = Settings(workers=3)
    assert [generate.with_workers(settings, count).workers for count in (None, "1", "2", 8, "many", "-3")] == [1, 1, 2, 3, 1, 1]


def test_progress_says_where_it_is() -> None:
    assert generate.progress_text(view(), "Loading starter …") == "Loading starter …"
    half = generate.progress_text(view(step=10, progress=0.5, eta_s=3.2), "")
    assert half == "█" * 12 + "░" * 12 + "  50%  step 10 of 20, 3 s left"
    second = view(step=35, steps=50, stage=2, stages=2, stage_step=5, stage_steps=20, progress=0.7)
    assert generate.progress_text(second, "").endswith("  70%  second pass, step 5 of 20")
    assert "picture 3 of 4, " in generate.progress_text(view(count=4, done=2, progress=0.6), "")


# ---- real processes


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    return folder


def command(tmp_path: Path, models: Path, *arguments: str) -> list[str]:
    folders = ["--data-dir", str(tmp_path / "data"), "--outputs-dir", str(tmp_path / "outputs"), "--models-dir", str(models)]
    return [sys.executable, "-m", "modules.cli", *arguments, *folders, "--device", "cpu"]


def test_a_picture_and_the_same_again(tmp_path: Path, models: Path) -> None:
    asked = ["generate", "a cat", "--checkpoint", "tiny", "--seed", "7", "--count", "2", "--size", "64x64", "--steps", "3"]
    done = subprocess.run(command(tmp_path, models, *asked, "--json"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["seeds"] == [7, 8]
    assert said["seconds"] > 0
    files = [Path(file) for file in said["files"]]
    assert [file.parent.parent for file in files] == [tmp_path / "outputs"] * 2
    with Image.open(files[1]) as second:
        assert second.size == (64, 64)
        assert second.info["parameters"] == said["infotext"][1]

    again = ["generate", "--from", str(files[1]), "--output", str(tmp_path / "again.png")]
    done = subprocess.run(command(tmp_path, models, *again), cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'again.png'}\n"), done.stderr
    with Image.open(files[1]) as first, Image.open(tmp_path / "again.png") as second:
        pairs = zip(first.tobytes(), second.tobytes(), strict=True)
        assert max(abs(a - b) for a, b in pairs) <= 1  # two at once and one alone may round differently


_HEARING_CTRL_C = "import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
"""Runs what follows as from a terminal: tests that were started in the background have inherited to ignore Ctrl-C."""


class Process:
    """A command on a terminal of its own; `until` waits for something that it prints."""

    def __init__(self, arguments: list[str]) -> None:
        import pty

        ours, theirs = pty.openpty()
        self.fd, self.said = ours, ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _HEARING_CTRL_C, *arguments],
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            close_fds=True,
        )
        os.close(theirs)

    def until(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self.said)):
            assert time.monotonic() < deadline, f"never said {pattern!r}: {self.said}"
            if not self._read():
                raise AssertionError(f"ended without saying {pattern!r}: {self.said}")
        return match

    def _read(self) -> bool:
        if not select.select([self.fd], [], [], 1.0)[0]:
            return True
        try:
            chunk = os.read(self.fd, 4096)
        except OSError:  # what Linux says when the other end is closed
            return False
        self.said += chunk.decode(errors="replace")
        return bool(chunk)

    def end(self, number: signal.Signals) -> int:
        """Send the whole group a signal, as a terminal does, and wait."""
        os.killpg(self.process.pid, number)
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read()
        return self.process.wait(timeout=1)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.fd)


@contextlib.contextmanager
def running(arguments: list[str]) -> Iterator[Process]:
    process = Process(arguments)
    try:
        yield process
    finally:
        process.close()


posix = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX terminal")


@posix
def test_interrupting_a_generation_leaves_nothing_torn(tmp_path: Path, models: Path) -> None:
    asked = ["generate", "a cat", "--checkpoint", "tiny", "--count", "100", "--steps", "150", "--size", "64x64"]
    with running(command(tmp_path, models, *asked)) as process:
        process.until(r"step \d+ of 150")
        assert process.end(signal.SIGINT) == 130
    for file in (tmp_path / "outputs").rglob("*"):
        if file.is_file():
            with Image.open(file) as picture:
                picture.load()
            assert str(file) in process.said


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_serving_until_a_signal(number: signal.Signals, code: int, tmp_path: Path, models: Path) -> None:
    with running(command(tmp_path, models, "serve", "--port", "0", "--no-browser")) as process:
        address = process.until(r"Atelier is at (http://127\.0\.0\.1:\d+)")[1]
        for choice in (
            "device: cpu",
            "dtype: (float32|bfloat16)",
            "attention: ",
            "kernels: plain",
            "accelerator: (none|packed)",
        ):
            process.until(choice)
        with urllib.request.urlopen(address, timeout=PATIENCE) as page:
            assert page.status == 200
        assert process.end(number) == code, process.said
        assert "Traceback" not in process.said


def test_a_request_that_is_refused_says_so(models: Path) -> None:
    """`given_fields` hands over text; whether it is a number is for the request to say."""
    options = cli.parse(["generate", "a cat", "--size", "64X96", "--steps", "5"])
    assert generate.given_fields(options.values) == {"prompt": "a cat", "steps": "5", "width": "64", "height": "96"}
    with pytest.raises(RequestError):
        generate.given_fields(cli.parse(["generate", "a cat", "--size", "6.4x9"]).values)
