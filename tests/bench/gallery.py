"""The gallery with 100,000 pictures, over HTTP: the first page, pages further down, searches as they are typed, counts, and a
scan of real files.  The goals: the first page in 200 ms, a search in 50 ms."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin
from starlette.testclient import TestClient

from modules.api.server import build_api
from modules.app import App
from modules.gallery.described import Described, Stamp
from modules.gallery.index import Index
from modules.gallery.schema import Entry, Written
from modules.settings import Settings
from tests.bench import Figure
from tests.scripted import ScriptedLink

PICTURES = 100_000
FILES = 300
BEGIN = 1_700_000_000
_WORDS = (
    "red blue green golden silver dark bright old young tall fox cat dog owl "
    "castle tower river forest mountain lake sea ship portrait landscape watercolour oil painting photo "
    "sketch ink neon light shadow rain snow winter summer evening morning crowd street detailed "
    "masterpiece cinematic macro wide angle bokeh film grain pastel vivid minimal ornate "
)
WORDS = _WORDS.split()
RARE = "zeppelin"
MODELS = ("dreamshaper_8", "v1-5-pruned", "juggernaut", "stickers", "anything-v3")
SAMPLERS = ("Euler a", "DPM++ 2M", "DDIM", "UniPC")
SIZES = ((512, 512), (512, 768), (768, 512), (1024, 1024), (1344, 768))


def measure() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as place:
        folder = Path(place)
        seconds = _fill(folder)
        yield Figure("rows written", PICTURES / seconds, "rows/s", f"{PICTURES:,} rows, without files")
        size = sum(path.stat().st_size for path in (folder / "data").glob("gallery.sqlite*"))
        yield Figure("index", size / 1e6, "MB", f"{PICTURES:,} rows")
        yield from _server(folder)
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as place:
        yield from _scan(Path(place))


def _fill(folder: Path) -> float:
    """Seconds that it took to put the rows into an index."""
    draw = random.Random(1)
    start, index = time.perf_counter(), Index(folder / "data" / "gallery.sqlite")
    (folder / "data").mkdir(parents=True)
    for first in range(0, PICTURES, 1000):
        index.put(_row(draw, number) for number in range(first, min(first + 1000, PICTURES)))
    index.close()
    return time.perf_counter() - start


def _row(draw: random.Random, number: int) -> Entry:
    width, height = draw.choice(SIZES)
    prompt = ", ".join(" ".join(draw.choices(WORDS, k=3)) for _ in range(12)) + (f", {RARE}" if number % 997 == 0 else "")
    said = Described(
        Stamp(500_000, (BEGIN + number * 300) * 10**9), f"{number:064x}", width, height, "PNG", str(draw.randrange(2**32)),
        draw.choice(MODELS), draw.choice(SAMPLERS), "A1111", prompt, "bad hands, blurry, watermark, low quality",
        ("ink",) if number % 7 == 0 else (),
    )  # fmt: skip
    written = Written(number % 50 == 0, number % 6 if number % 10 == 0 else 0, ("kept",) if number % 100 == 0 else ())
    return Entry(f"day{number // 500}/{number}.png", "owner" if number % 3 else "other", said, written)


def _server(folder: Path) -> Iterator[Figure]:
    """The rows have no files: the folder cannot be listed, so that the scan leaves them as they are."""
    settings = Settings(data_dir=folder / "data", outputs_dir=folder / "outputs")
    app = App(settings, ScriptedLink(), durable=True)
    (folder / "outputs").rmdir()
    try:
        with TestClient(build_api(app), base_url="http://127.0.0.1:7860") as client:
            yield Figure("first page", _ask(client)[0] * 1000, "ms", "cold: the first question to the server")
            yield _median("first page, again", lambda: _ask(client)[0], 20)
            yield _median("page by page", _walk(client), 50)
            for sort in ("oldest", "rating", "name", "largest"):
                yield _median(f"first page by {sort}", lambda sort=sort: _ask(client, sort=sort)[0], 20)
            typed = "red castle zeppelin"
            searches = [_ask(client, q=typed[:end])[0] * 1000 for end in range(1, len(typed) + 1)]
            yield Figure(
                "search as typed", statistics.median(searches), "ms", f"longest of {len(searches)} {max(searches):.1f}"
            )
            for q in (RARE, "red -blue", '"dark fox"', "seed:12345", "model:juggernaut red", "lora:ink owl", "rating:>=4 red",
                      "size:>768 fox", "date:2024-01 red", "tag:kept is:favourite", "nothinglikethis"):  # fmt: skip
                yield _median(f"search {q}", lambda q=q: _ask(client, q=q)[0], 10)
            yield _median("count of all", lambda: _timed(client, "/internal/gallery/count"), 10)
            yield _median("count of a word", lambda: _timed(client, "/internal/gallery/count", q="red"), 10)
            yield _median("facets", lambda: _timed(client, "/internal/gallery/facets"), 10)
            owners = frozenset(("owner",))
            yield _median("page of one of two users", lambda: _spent(lambda: app.gallery.page("red", owners)), 20)
    finally:
        app.close()


def _scan(folder: Path) -> Iterator[Figure]:
    """Real files, new and then unchanged."""
    draw, outputs = random.Random(2), folder / "outputs" / "2026-01-01"
    outputs.mkdir(parents=True)
    for number in range(FILES):
        info = PngImagePlugin.PngInfo()
        info.add_itxt(
            "parameters", f"{' '.join(draw.choices(WORDS, k=20))}\nSteps: 20, Sampler: Euler a, Seed: {number}, Size: 512x512"
        )
        Image.effect_noise((512, 512), 60).convert("RGB").save(outputs / f"{number}.png", pnginfo=info, compress_level=1)
    app = App(Settings(data_dir=folder / "data", outputs_dir=folder / "outputs"), ScriptedLink(), durable=True)
    try:
        yield Figure("scan of new files", FILES / _spent(lambda: app.gallery.rescan(None)), "files/s", f"{FILES} of 512x512")
        yield Figure("scan without news", _spent(lambda: app.gallery.rescan(None)) * 1000, "ms", f"{FILES} files")
        entries = app.gallery.page("", None, limit=100).entries
        yield _median("thumbnail, made", iter_of(entries, lambda entry: _spent(lambda: app.gallery.thumbnail(entry))), 50)
        yield _median("thumbnail, kept", iter_of(entries, lambda entry: _spent(lambda: app.gallery.thumbnail(entry))), 50)
    finally:
        app.close()


def iter_of(entries: tuple[Entry, ...], act: Callable[[Entry], float]) -> Callable[[], float]:
    """`act` with one after the other."""
    remaining = iter(entries)
    return lambda: act(next(remaining))


def _median(what: str, act: Callable[[], float], times: int) -> Figure:
    taken = [act() * 1000 for _ in range(times)]
    return Figure(what, statistics.median(taken), "ms", f"longest of {times} {max(taken):.1f}")


def _walk(client: TestClient) -> Callable[[], float]:
    cursor = ""

    def step() -> float:
        nonlocal cursor
        seconds, page = _ask(client, cursor=cursor, limit=120)
        cursor = page["next"]
        return seconds

    return step


def _ask(client: TestClient, **query: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = client.get("/internal/gallery", params=query)
    seconds = time.perf_counter() - start
    answer.raise_for_status()
    return seconds, answer.json()


def _timed(client: TestClient, path: str, **query: Any) -> float:
    return _spent(lambda: client.get(path, params=query).raise_for_status())


def _spent(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
