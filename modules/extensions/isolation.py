"""Calls into extensions: what one raises is caught, named and counted, and everything else goes on without it.

    denoiser = isolation.call(owner, "denoisers", lambda: wrap(denoiser), without=lambda: denoiser)

`call` is for functions, `program` for generators.  What is built in is called as any other code.  While a picture is made, a
`Picture` is in force (`making`): an extension that failed in it is not called again for it, and sentences for its record are
kept there.  Who counts and disables listens (`ISOLATION.listen`): the web process does, the engine passes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from modules.errors import AtelierError, ExtensionFailed, OutOfMemory
from modules.extensions.lines import logger_of, speaking
from modules.extensions.manifest import OnFailure
from modules.hooks import HOOKS, error_text

PACKAGE = "atelier_extensions"
"""The name under which the modules of extensions are imported: `atelier_extensions.NAME.MODULE`."""
MAX_TEXT = 300
"""Characters of an error that are shown."""

T = TypeVar("T")
Y = TypeVar("Y")


@dataclass
class Picture:
    """What extensions did while one picture was made.

    `used` are those that were called for it, `failed` those that failed in it, `notes` the sentences for its record, in order.
    """

    used: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    notes: dict[str, None] = field(default_factory=dict)


class DidNotReturn(TimeoutError):
    """Code of an extension did not come back in time."""


@dataclass(frozen=True)
class Failure:
    """An extension raised in a hook: `error` in one line."""

    extension: str
    hook: str
    error: str

    @property
    def sentence(self) -> str:
        return f"the extension {self.extension} failed in {self.hook}: {self.error}"


_picture: ContextVar[Picture | None] = ContextVar("atelier_picture", default=None)


class Isolation:
    """What is known of the extensions of this process.  Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Failure], None]] = []
        self._on_failure: dict[str, OnFailure] = {}
        self._uses: dict[str, int] = {}
        self._show_uses: Callable[[list[str]], None] = lambda names: None
        self._inside: dict[int, tuple[str, float]] = {}
        """By thread: the extension whose code runs there, and since when on the monotonic clock."""

    def declare(self, name: str, on_failure: OnFailure) -> None:
        """What becomes of pictures in which the extension `name` fails."""
        self._on_failure[name] = on_failure

    def fails(self, name: str) -> bool:
        """Whether a picture fails when this extension does."""
        return self._on_failure.get(name) == "fail"

    def listen(self, listener: Callable[[Failure], None]) -> Callable[[], None]:
        """Have `listener` called with each failure, on the thread where it happened.  Returns how to end that."""
        with self._lock:
            self._listeners.append(listener)

        def end() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return end

    def failed(self, owner: str, hook: str, error: BaseException | str, logged: bool = False) -> Failure:
        """Name a failure in the log, unless it is `logged`, and in the record of the picture that is being made, and tell who
        listens."""
        failure = Failure(extension_of(owner), hook, _line(error))
        raised = error if isinstance(error, BaseException) else None
        if not logged:
            logger_of(failure.extension).error("failed in %s: %s", hook, failure.error, exc_info=raised)
        if (picture := _picture.get()) is not None:
            picture.failed.add(failure.extension)
            if not self.fails(failure.extension):
                picture.notes[f"{failure.sentence}; the picture was made without it"] = None
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(failure)
        return failure

    # ---- which extensions run now

    def show_uses(self, show: Callable[[list[str]], None]) -> None:
        """Have `show` called with the names of the extensions that are in use now, whenever those change; under a lock."""
        with self._lock:
            self._show_uses = show
            show(sorted(self._uses))

    def begin(self, names: Iterable[str]) -> None:
        """These are in use from now on, once more."""
        with self._lock:
            before = len(self._uses)
            for name in names:
                self._uses[name] = self._uses.get(name, 0) + 1
            if len(self._uses) != before:
                self._show_uses(sorted(self._uses))

    def end(self, names: Iterable[str]) -> None:
        """Each of these is in use once less."""
        with self._lock:
            before = len(self._uses)
            for name in names:
                if self._uses.get(name, 0) > 1:
                    self._uses[name] -= 1
                else:
                    self._uses.pop(name, None)
            if len(self._uses) != before:
                self._show_uses(sorted(self._uses))

    def longest(self) -> tuple[str, float]:
        """The extension whose code runs the longest without coming back, and for how many seconds; ("", 0) for none."""
        inside = min(list(self._inside.values()), key=lambda one: one[1], default=None)
        return ("", 0.0) if inside is None else (inside[0], time.monotonic() - inside[1])

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """This thread runs code of the extension `name` inside of the block."""
        thread, picture = threading.get_ident(), _picture.get()
        if picture is None or name not in picture.used:
            self.begin([name])
            if picture is not None:
                picture.used.add(name)  # until the picture is over, see `made`
        before = self._inside.get(thread)
        self._inside[thread] = name, time.monotonic()
        try:
            with speaking(name):
                yield
        finally:
            if before is None:
                self._inside.pop(thread, None)
            else:
                self._inside[thread] = before
            if picture is None:
                self.end([name])


ISOLATION = Isolation()
"""The extensions of this process: like `HOOKS`, there is one."""


def extension_of(owner: str) -> str:
    """The extension that a plugin of this name in `HOOKS` belongs to."""
    return owner.partition(":")[0]


@contextmanager
def making(picture: Picture) -> Iterator[None]:
    """What extensions do inside of the block, on this thread, they do for `picture`; there may be many blocks for one."""
    token = _picture.set(picture)
    try:
        yield
    finally:
        _picture.reset(token)


def made(picture: Picture) -> None:
    """The picture is over: the extensions that were used for it are not any more."""
    used, picture.used = picture.used, set()
    ISOLATION.end(used)


def call(owner: str, hook: str, function: Callable[[], T], without: Callable[[], T], seconds: float | None = None) -> T:
    """`function()`, code of the plugin `owner`; `without()` where that raises or has failed in this picture before.

    With `seconds` it runs on a thread of its own, and has failed when it did not come back by then.

    Raises:
        ExtensionFailed: it raised while a picture was made, and says that such pictures fail.
        OutOfMemory, torch.OutOfMemoryError, MemoryError: as `function`; those are nobody's fault.
    """
    if HOOKS.is_built_in(owner):
        return function()
    name = extension_of(owner)
    if _has_failed(name):
        return without()
    try:
        with ISOLATION.inside(name):
            return (
                function() if seconds is None else within(seconds, function, f"it did not come back in {seconds:.0f} seconds")
            )
    except (Exception, SystemExit) as error:
        if _is_memory(error):
            raise
        _give_up(owner, hook, error)
    return without()


def within(seconds: float, function: Callable[[], T], text: str) -> T:
    """What `function` returns, or raises, on a thread of its own.

    Raises:
        DidNotReturn: it has not ended after `seconds`, with `text`; it runs on, and nobody hears of it.
    """
    ended: list[tuple[bool, Any]] = []

    def run() -> None:
        try:
            ended.append((True, function()))
        except BaseException as error:
            ended.append((False, error))

    thread = threading.Thread(target=copy_context().run, args=(run,), name="extension", daemon=True)
    thread.start()
    thread.join(seconds)
    if not ended:
        raise DidNotReturn(text)
    done, value = ended[0]
    if not done:
        raise value
    return value  # type: ignore[no-any-return]


def program(
    owner: str,
    hook: str,
    start: Callable[[], Generator[Y, Any, T]],
    without: Callable[[], Generator[Y, Any, T]],
) -> Generator[Y, Any, T]:
    """The generator `start()`, code of the plugin `owner`; from its begin `without()` where that raises.

    What comes from outside passes through unblamed: an error that was thrown in, and one of ours from a generator that it runs.

    Raises:
        ExtensionFailed: as `call`; and everything that passes through.
    """
    if HOOKS.is_built_in(owner):
        return (yield from start())
    name = extension_of(owner)
    if _has_failed(name):
        return (yield from without())
    thrown: BaseException | None = None
    answer: Any = None
    running: Generator[Y, Any, T] | None = None
    while True:
        try:
            with ISOLATION.inside(name):
                if running is None:
                    running = start()
                op = running.send(answer) if thrown is None else running.throw(thrown)
        except StopIteration as end:
            value: T = end.value
            return value
        except (Exception, SystemExit) as error:
            if error is thrown or _is_memory(error) or (isinstance(error, AtelierError) and blamed(error) != name):
                raise
            _give_up(owner, hook, error)
            break
        try:
            answer, thrown = (yield op), None
        except GeneratorExit:
            with ISOLATION.inside(name):
                running.close()
            raise
        except BaseException as error:
            thrown = error
    return (yield from without())


def blamed(error: BaseException) -> str:
    """The extension in whose code `error` was raised, also through libraries that it called; "" where it was in ours."""
    frame: TracebackType | None = error.__traceback__
    found = ""
    while frame is not None:
        module = str(frame.tb_frame.f_globals.get("__name__", ""))
        if module.startswith(f"{PACKAGE}."):
            found = module.split(".")[1]
        elif module.partition(".")[0] == "modules":
            found = ""
        frame = frame.tb_next
    return found


def _has_failed(name: str) -> bool:
    picture = _picture.get()
    return picture is not None and name in picture.failed


def _give_up(owner: str, hook: str, error: BaseException) -> None:
    failure = ISOLATION.failed(owner, hook, error)
    if _picture.get() is not None and ISOLATION.fails(failure.extension):
        raise ExtensionFailed(f"{failure.sentence}; it says that pictures fail then; disable it to go without") from error


def _is_memory(error: BaseException) -> bool:
    """Whether memory ran out, which is answered elsewhere.  torch's error is known by its name: this file imports no torch."""
    return isinstance(error, OutOfMemory | MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _line(error: BaseException | str) -> str:
    text = error if isinstance(error, str) else error_text(error)
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _asked_in_vain(owner: str, hook: str, error: BaseException) -> None:
    ISOLATION.failed(owner, hook, error, logged=True)


HOOKS.entering = lambda owner: ISOLATION.inside(extension_of(owner))
HOOKS.on_failure = _asked_in_vain
