"""Calls into extensions: what they raise is caught and named, and what is not theirs passes through."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

from modules.errors import ExtensionFailed, NotFinite, OutOfMemory
from modules.extensions import lines
from modules.extensions.isolation import ISOLATION, Failure, Picture, blamed, call, made, making, program
from modules.hooks import HOOKS


@pytest.fixture
def failures() -> Iterator[list[Failure]]:
    heard: list[Failure] = []
    end = ISOLATION.listen(heard.append)
    yield heard
    end()
    ISOLATION.declare("glow", "without")


def bad() -> int:
    raise ValueError("no light")


def test_what_raises_is_named_and_left_out(failures: list[Failure], caplog: pytest.LogCaptureFixture) -> None:
    assert call("glow", "samplers", bad, lambda: 5) == 5
    assert failures == [Failure("glow", "samplers", "ValueError: no light")]
    assert "no light" in caplog.text
    assert caplog.records[0].name == "atelier.extension.glow"


def test_sys_exit_is_caught_and_what_is_built_in_raises(failures: list[Failure]) -> None:
    def leaves() -> int:
        raise SystemExit(3)

    assert call("glow", "samplers", leaves, lambda: 5) == 5
    with HOOKS.registered(object(), "ours"):
        HOOKS._built_in.add("ours")
        with pytest.raises(ValueError, match="no light"):
            call("ours", "samplers", bad, lambda: 5)
    assert len(failures) == 1


def test_memory_is_nobodys_fault(failures: list[Failure]) -> None:
    def large() -> int:
        raise OutOfMemory("too large")

    with pytest.raises(OutOfMemory):
        call("glow", "samplers", large, lambda: 5)
    assert failures == []


def test_in_a_picture_it_fails_once_and_its_record_says_so(failures: list[Failure]) -> None:
    picture = Picture()
    for _ in range(3):
        with making(picture):
            assert call("glow", "steps", bad, lambda: 5) == 5
    assert len(failures) == 1
    assert list(picture.notes) == ["the extension glow failed in steps: ValueError: no light; the picture was made without it"]
    with making(Picture()):
        call("glow", "steps", bad, lambda: 5)
    assert len(failures) == 2


def test_a_picture_fails_where_the_manifest_says_so(failures: list[Failure]) -> None:
    ISOLATION.declare("glow", "fail")
    assert call("glow", "steps", bad, lambda: 5) == 5, "there is no picture that could fail"
    picture = Picture()
    with making(picture), pytest.raises(ExtensionFailed, match="glow failed in steps: ValueError: no light; it says"):
        call("glow", "steps", bad, lambda: 5)
    assert (len(failures), picture.notes) == (2, {})


def test_what_is_in_use_is_shown_from_its_first_call_to_the_end_of_the_picture(failures: list[Failure]) -> None:
    shown: list[list[str]] = []
    ISOLATION.show_uses(shown.append)
    picture, other = Picture(), Picture()
    for each in (picture, other, picture):
        with making(each):
            call("dusk", "steps", lambda: 1, lambda: 2)
    made(picture)
    shown_with_both = ["dusk" in names for names in shown]
    made(other)
    call("dusk", "load", lambda: 1, lambda: 2)
    ISOLATION.show_uses(lambda names: None)
    assert shown_with_both == [False, True]
    assert ["dusk" in names for names in shown] == [False, True, False, True, False]


def test_the_longest_call_is_known_while_it_runs() -> None:
    assert ISOLATION.longest() == ("", 0.0)
    name, seconds = call("glow", "steps", ISOLATION.longest, lambda: ("", 0.0))
    assert name == "glow"
    assert seconds >= 0
    assert ISOLATION.longest() == ("", 0.0)


def inner() -> Generator[str, int, str]:
    return f"inner {(yield 'ask')}"


def run(generator: Generator[Any, Any, Any], *answers: Any) -> Any:
    """The result of a generator that gets these answers; an exception is thrown in."""
    op = next(generator)
    assert op == "ask"
    try:
        for answer in answers:
            generator.throw(answer) if isinstance(answer, BaseException) else generator.send(answer)
    except StopIteration as end:
        return end.value
    raise AssertionError("it goes on")


def test_a_generator_runs_and_one_that_raises_is_begun_anew_without_it(failures: list[Failure]) -> None:
    def outer() -> Generator[str, int, str]:
        return f"outer {(yield from inner())}"

    def breaks() -> Generator[str, int, str]:
        yield from inner()
        raise ValueError("no light")

    assert run(program("glow", "denoiser", outer, inner), 1) == "outer inner 1"
    assert run(program("glow", "denoiser", breaks, inner), 1, 2) == "inner 2"
    assert [failure.error for failure in failures] == ["ValueError: no light"]


@pytest.mark.parametrize("error", [ValueError("from the device"), NotFinite("a NaN")])
def test_what_is_thrown_in_passes_unblamed(failures: list[Failure], error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        run(program("glow", "denoiser", inner, inner), error)
    assert failures == []


def test_an_error_of_ours_below_it_passes_unblamed(failures: list[Failure]) -> None:
    def ours() -> Generator[str, int, str]:
        yield "ask"
        raise NotFinite("a NaN")

    with pytest.raises(NotFinite):
        run(program("glow", "denoiser", lambda: (yield from ours()), inner), 1)
    assert failures == []


def test_closing_closes_it() -> None:
    closed: list[bool] = []

    def outer() -> Generator[str, int, str]:
        try:
            yield "ask"
        finally:
            closed.append(True)
        return ""

    generator = program("glow", "denoiser", outer, inner)
    next(generator)
    generator.close()
    assert closed == [True]


def module(name: str, source: str) -> ModuleType:
    made = ModuleType(name)
    exec(compile(source, name, "exec"), made.__dict__)
    return made


def caught(function: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as info:  # noqa: PT011
        function()
    return info.value


def test_the_deepest_code_that_is_ours_or_an_extensions_is_to_blame() -> None:
    theirs = module("atelier_extensions.glow.engine", "import json\ndef bad(): json.loads('{')\ndef calls(one): return one()")
    ours = module("modules.pretended", "def bad(): raise ValueError(1)\ndef calls(one): return one()")
    assert blamed(caught(theirs.bad)) == "glow", "the library that it called is not"
    assert blamed(caught(lambda: ours.calls(theirs.bad))) == "glow"
    assert blamed(caught(lambda: theirs.calls(ours.bad))) == ""
    assert blamed(caught(bad)) == ""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def logged() -> Iterator[tuple[list[str], Clock]]:
    """What a handler of the root logger gets, with at most three lines of an extension in a minute.

    To be entered within a test: pytest puts streams of its own in place before one.
    """
    seen: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    handler, clock = Handler(), Clock()
    logging.getLogger().addHandler(handler)
    end = lines.install(lines.Lines(3, 60, clock))
    try:
        yield seen, clock
    finally:
        end()
        logging.getLogger().removeHandler(handler)


def test_lines_carry_the_name_however_they_are_logged(capfd: pytest.CaptureFixture[str]) -> None:
    def speaks() -> int:
        print("printed", 5)
        logging.getLogger("some.library").warning("by a library")
        return 0

    with logged() as (seen, _):
        logging.getLogger("atelier.extension.dusk").warning("100%% of %s", "it")
        logging.getLogger("atelier_extensions.dusk.web").warning("by its module")
        call("glow", "steps", speaks, lambda: 1)
        print("ours")
        logging.getLogger("atelier").warning("ours too")
    assert seen == [
        "extension dusk: 100% of it",
        "extension dusk: by its module",
        "extension glow: printed 5",
        "extension glow: by a library",
        "ours too",
    ]
    assert capfd.readouterr().out == "ours\n"


def test_a_flood_is_cut_and_said() -> None:
    def floods() -> int:
        for number in range(1000):
            print(number)
        return 0

    with logged() as (seen, clock):
        call("glow", "steps", floods, lambda: 1)
        logging.getLogger("atelier.extension.dusk").warning("another one speaks")
        clock.now = 61
        call("glow", "steps", floods, lambda: 1)
    assert seen == [
        *(f"extension glow: {number}" for number in range(3)),
        "extension dusk: another one speaks",
        "extension glow: 0 (997 lines of it were left out before this one)",
        "extension glow: 1",
        "extension glow: 2",
    ]


def test_one_endless_line_is_cut() -> None:
    def speaks() -> int:
        print("a" * 100_000, end="")
        return 0

    with logged() as (seen, _):
        call("glow", "steps", speaks, lambda: 1)
    assert [len(line) < 2100 for line in seen] == [True] * 3


def test_one_that_does_not_come_back_has_failed(failures: list[Failure]) -> None:
    going_on = threading.Event()

    def hangs() -> int:
        going_on.wait(120)
        return 1

    picture = Picture()
    with making(picture):
        assert call("glow", "image_hooks", hangs, lambda: 2, seconds=0.1) == 2
        assert call("glow", "image_hooks", lambda: 3, lambda: 4, seconds=60) == 4, "it failed in this picture"
    assert "it did not come back" in str(picture.notes)
    with making(Picture()):
        assert call("glow", "image_hooks", lambda: 3, lambda: 4, seconds=60) == 3
        assert call("glow", "image_hooks", bad, lambda: 4, seconds=60) == 4
    assert [failure.error.partition(":")[0] for failure in failures] == ["DidNotReturn", "ValueError"]
    going_on.set()
