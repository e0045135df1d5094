"""The evaluation: the release gates of a starter file, measured on its pictures.

Verdicts are kept per case in one JSON file, written after every batch, so that a run that was stopped goes on where it was and
groups can be measured apart. `gates` sums them up.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch
from PIL import Image
from torch import Tensor

from modules.training.cases import Case, Facts
from modules.training.composition import to_unit
from modules.training.judge import Blob, Judge, blob, border, evenness, nearest_colour
from modules.training.loop import replaced
from modules.training.motifs import MOTIFS
from modules.training.scenes import Scene, SceneSampler, arrays
from modules.training.starter import Starter

CLEAN_DISTANCE = 42.0  # RMS of 255 up to which a thing is a clean glyph: see `is_clean`
CLEAN_GROUND = 0.97
OFFSET = 0.1  # of the picture's edge, from which a thing's centre counts as left, right, up or down
SMALL, BIG = 0.56, 0.83  # edges: trained are 0.38, 0.74 (unnamed) and 0.92
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}


class Verdict(TypedDict, total=False):
    """`right`: all that the group asks for is there. `motif`, `top5`: the named motif is nearest, or among the five nearest;
    `ground`: it has the named colour."""

    right: bool
    motif: bool
    top5: bool
    ground: bool
    seen: str


@dataclass
class Results:
    """Verdicts by group and case, and figures by name, of one file; kept in `path`."""

    path: Path
    sha256: str
    settings: dict[str, Any] = field(default_factory=dict)
    verdicts: dict[str, dict[str, Verdict]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, file: Path, settings: dict[str, Any]) -> Results:
        """What `path` holds of this very file drawn with these settings; empty where it is of another."""
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        results = cls(path, digest, settings)
        if path.exists():
            kept = json.loads(path.read_text())
            if kept["sha256"] == digest and kept["settings"] == settings:
                results.verdicts, results.figures = kept["verdicts"], kept["figures"]
        return results

    def save(self) -> None:
        data = {"sha256": self.sha256, "settings": self.settings, "figures": self.figures, "verdicts": self.verdicts}
        with replaced(self.path) as partial:
            partial.write_text(json.dumps(data, indent=1, ensure_ascii=False))


def measure(
    starter: Starter, judge: Judge, wanted: Sequence[Case], results: Results, batch: int = 8, keep: Path | None = None
) -> None:
    """Draw and judge the cases that `results` lacks; pictures go into the folder `keep` where one is given."""
    missing = [case for case in wanted if case.key not in results.verdicts.get(case.group, {})]
    for start in range(0, len(missing), batch):
        part = missing[start : start + batch]
        pictures = starter.draw(
            [case.prompt for case in part],
            [case.seed for case in part],
            results.settings["cfg_scale"],
            results.settings["steps"],
        )
        for case, picture in zip(part, pictures, strict=True):
            results.verdicts.setdefault(case.group, {})[case.key] = verdict(judge, picture, case.facts)
            if keep is not None:
                _keep(picture, keep / case.group, case.key)
        results.save()
        here = [results.verdicts[case.group][case.key]["right"] for case in part]
        print(f"{part[0].group}: {start + len(part)} of {len(missing)}, {sum(here)} of {len(here)} right", flush=True)


def verdict(judge: Judge, picture: Tensor, facts: Facts) -> Verdict:
    """Whether a picture (3, H, W) in bytes shows the facts; nothing asked means: some clean thing on a clean ground."""
    if not facts.motifs:
        clean = is_clean(judge, picture)
        return {"right": clean, "seen": judge.ranked(picture[None], 1)[0][0] if clean else "no clean sticker"}
    found = _two(judge, picture, facts) if len(facts.motifs) == 2 else _one(judge, picture, facts)
    if facts.ground:
        ground = nearest_colour(border(picture[None])[0])
        found["ground"] = ground == facts.ground
        found["right"] &= found["ground"]
        found["seen"] += f" on {ground}"
    return found


def _one(judge: Judge, picture: Tensor, facts: Facts) -> Verdict:
    name = facts.motifs[0]
    nearest = judge.ranked(picture[None])[0]
    found: Verdict = {"right": nearest[0] == name, "motif": nearest[0] == name, "top5": name in nearest, "seen": nearest[0]}
    if facts.count > 1:
        colour = None if facts.colour == MOTIFS[name].colour else facts.colour
        number = judge.count(picture, (name, colour))
        return {"right": number == facts.count, "seen": str(number)}
    if facts.colour:
        own = MOTIFS[name].colour
        choices = [(name, None if colour == own else colour) for colour in MOTIFS[name].colours]
        colour = judge.best_of(picture, choices)[1] or own or ""
        return {"right": colour == facts.colour, "seen": colour}
    if facts.place or facts.size:
        where = blob(picture)
        found["right"] = (not facts.place or _lies(where, facts.place)) and (not facts.size or _is_sized(where, facts.size))
        found["seen"] = f"{nearest[0]} at {where.x:.2f}, {where.y:.2f}, edge {where.edge:.2f}"
    return found


def _two(judge: Judge, picture: Tensor, facts: Facts) -> Verdict:
    half = picture.shape[-1] // 2
    parts = (picture[:, :half], picture[:, half:]) if facts.order == "stack" else (picture[..., :half], picture[..., half:])
    seen = tuple(judge.ranked(part[None], 1)[0][0] for part in parts)
    right = seen == facts.motifs or (facts.order == "any" and seen[::-1] == facts.motifs)
    return {"right": right, "motif": right, "seen": " + ".join(seen)}


def _lies(where: Blob, place: str) -> bool:
    x, y = DIRECTIONS[place]
    return (where.x - 0.5) * x + (where.y - 0.5) * y > OFFSET


def _is_sized(where: Blob, size: str) -> bool:
    return where.edge < SMALL if size == "small" else where.edge > BIG


def is_clean(judge: Judge, picture: Tensor) -> bool:
    """Whether a picture shows glyphs on an even ground: it, or its halves, thirds or quarters, are near to clean ones."""
    if evenness(picture[None])[0] < CLEAN_GROUND or not 0.01 < blob(picture).area < 0.95:
        return False
    return fit(judge, picture) <= CLEAN_DISTANCE


def fit(judge: Judge, picture: Tensor) -> float:
    """The distance to clean glyphs (RMS of 255), for the best of several ways to divide the picture into cells."""
    best = float("inf")
    for rows, columns in ((1, 1), (1, 2), (2, 1), (1, 3), (2, 2)):
        strips = picture.chunk(rows, dim=1)
        cells = [cell for strip in strips for cell in strip.chunk(columns, dim=2)]
        best = min(best, sum(judge.distance(_square(cell)) for cell in cells) / len(cells))
    return best


def _square(cell: Tensor) -> Tensor:
    """A cell as a square on its own ground, so that cutting out does not stretch it."""
    if cell.shape[1] == cell.shape[2]:
        return cell
    long = max(cell.shape[1:])
    square = border(cell[None])[0].round().to(torch.uint8)[:, None, None].expand(3, long, long).clone()
    top, left = (long - cell.shape[1]) // 2, (long - cell.shape[2]) // 2
    square[:, top : top + cell.shape[1], left : left + cell.shape[2]] = cell
    return square


def decoder_psnr(starter: Starter, judge: Judge, count: int = 32) -> float:
    """Mean peak signal-to-noise ratio in dB of composed scenes through encoder and decoder (peak to peak 255)."""
    rng, sampler = random.Random(23), SceneSampler(judge.names)
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = sampler.draw(rng)
        if all(placed.variant in judge.composer.numbers for placed in scene.placed):
            scenes.append(scene)
    x = to_unit(judge.composer.compose(*arrays(scenes, judge.composer.numbers, rng)).round()).to(starter.device)
    ratios = []
    for part in torch.split(x, 4):
        error = (starter.reconstruct(part).clamp(-1, 1) - part).square().mean((1, 2, 3)) / 4
        ratios.append(-10 * error.log10())
    return torch.cat(ratios).mean().item()


def seconds_per_picture(starter: Starter, cfg_scale: float, steps: int, threads: int = 2) -> float:
    """One picture alone in float32, the best of three (the machine may be shared)."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    times = []
    for seed in range(3):
        began = time.perf_counter()
        starter.draw(["a rocket"], [seed], cfg_scale, steps)
        times.append(time.perf_counter() - began)
    torch.set_num_threads(before)
    return min(times)


@dataclass(frozen=True)
class Gate:
    """A release gate: what is asked, and how the figure comes from verdicts; None where its group was not measured."""

    name: str
    least: float
    figure: Callable[[Results], tuple[float, int] | None]
    most: bool = False  # whether `least` is an upper bound

    def passed(self, value: float) -> bool:
        return value <= self.least if self.most else value >= self.least


def share(group: str, key: str = "right") -> Callable[[Results], tuple[float, int] | None]:
    def figure(results: Results) -> tuple[float, int] | None:
        verdicts = [v for v in results.verdicts.get(group, {}).values() if key in v]
        return (100 * sum(bool(v[key]) for v in verdicts) / len(verdicts), len(verdicts)) if verdicts else None  # type: ignore[literal-required]

    return figure


def _figure(name: str) -> Callable[[Results], tuple[float, int] | None]:
    return lambda results: (results.figures[name], 1) if name in results.figures else None


def _lost(group: str, plain_group: str) -> Callable[[Results], tuple[float, int] | None]:
    """Points that handwritten prompts lose against plain ones of the same facts and seeds, where both were drawn."""

    def figure(results: Results) -> tuple[float, int] | None:
        free, bare = results.verdicts.get(group, {}), results.verdicts.get(plain_group, {})
        by_seed = {key.partition(" ")[0]: verdict["right"] for key, verdict in bare.items()}
        both = [
            (verdict["right"], by_seed[seed]) for key, verdict in free.items() if (seed := key.partition(" ")[0]) in by_seed
        ]
        return (100 * sum(plain - own for own, plain in both) / len(both), len(both)) if both else None

    return figure


GATES = (
    Gate("nearest glyph to a motif's name, top-1, %", 95, share("motifs", "motif")),
    Gate("... top-5, %", 99, share("motifs", "top5")),
    Gate("named ground right, %", 95, share("grounds", "ground")),
    Gate("motif right on a named ground, % (no gate)", 0, share("grounds", "motif")),
    Gate("named colour of the object right, %", 90, share("colours")),
    Gate("both of two objects right, %", 85, share("pairs")),
    Gate("two or three of them right, %", 80, share("counts")),
    Gate("left, right, top, bottom right, %", 90, share("places")),
    Gate("small, big right, %", 90, share("sizes")),
    Gate("handwritten prompts right, % (no gate)", 0, share("paraphrases")),
    Gate("points that they lose against plain ones", 5, _lost("paraphrases", "plain"), most=True),
    Gate("later handwritten prompts right, % (no gate)", 0, share("later")),
    Gate("points that these lose", 5, _lost("later", "later plain"), most=True),
    Gate("unknown words give a clean sticker, %", 95, share("unknown")),
    Gate("decoder, dB", 30, _figure("decoder_db")),
    Gate("seconds a picture, two threads", 3, _figure("seconds"), most=True),
)


def table(results: Results) -> list[dict[str, Any]]:
    """The gates with what was asked, what was reached on how many pictures, and whether it passes (None: not measured)."""
    rows: list[dict[str, Any]] = []
    for gate in GATES:
        found = gate.figure(results)
        value, count = found if found else (None, 0)
        rows.append(
            {"gate": gate.name, "asked": gate.least, "reached": value, "of": count,
             "passed": None if value is None else gate.passed(value)}
        )  # fmt: skip
    return rows


def printed(rows: Sequence[dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = ["| gate | asked | reached | of | |", "|---|---|---|---|---|"]
    for row in rows:
        sign = {True: "pass", False: "MISS", None: "not measured"}[row["passed"]]
        reached = "" if row["reached"] is None else f"{row['reached']:.1f}"
        lines.append(f"| {row['gate']} | {row['asked']:g} | {reached} | {row['of']} | {sign} |")
    return "\n".join(lines)


def misses(results: Results) -> dict[str, list[str]]:
    """What was asked and what was seen instead, by group."""
    return {
        group: [f"{key} -> {v['seen']}" for key, v in verdicts.items() if not v["right"]]
        for group, verdicts in results.verdicts.items()
    }


def _keep(picture: Tensor, folder: Path, key: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = "".join(c if c.isalnum() else "-" for c in key)[:120]
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{name}.png")
