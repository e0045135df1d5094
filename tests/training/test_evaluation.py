"""The measure itself: clean pictures of what was asked for are right, whatever the group; others are not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from modules.training import cases, evaluation
from modules.training.__main__ import main
from modules.training.cases import Case, Facts
from modules.training.composition import Composer
from modules.training.evaluation import Results, measure, table, verdict
from modules.training.glyphs import FONT, coloured_glyphs, drawn_glyphs, read_glyphs
from modules.training.judge import Judge, blob, border, nearest_colour
from modules.training.motifs import COLOURS, MOTIFS
from modules.training.scenes import BIG, CENTRED, GRID, HALF, SLOTS, SMALL
from modules.training.schedule import karras, timestep_of
from tests.tiny import tiny_checkpoint

needs_font = pytest.mark.skipif(not FONT.exists(), reason="fonts-noto-color-emoji is not installed")
NAMES = ("apple", "fox", "cat", "star", "rocket", "tree", "crown", "pizza")


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(Composer(*coloured_glyphs(drawn_glyphs(NAMES)), 96, torch.device("cpu")), NAMES)


def shown(judge: Judge, facts: Facts) -> Tensor:
    """The clean picture of some facts, in bytes."""
    colour = None if not facts.motifs or facts.colour == MOTIFS[facts.motifs[0]].colour else facts.colour
    numbers = [float(judge.composer.numbers[name, colour]) for name in facts.motifs]
    places: Sequence[tuple[float, float, float]]
    if len(numbers) == 2:
        places = [(0.5, 0.26, HALF), (0.5, 0.74, HALF)] if facts.order == "stack" else [(0.26, 0.5, HALF), (0.74, 0.5, HALF)]
    elif facts.count > 1:
        edge, centres = GRID[facts.count]
        numbers, places = numbers * facts.count, [(x, y, edge) for x, y in centres]
    else:
        dx, dy = evaluation.DIRECTIONS.get(facts.place, (0, 0))
        edge = HALF if facts.place else {"small": SMALL, "big": BIG}.get(facts.size, CENTRED)
        places = [(0.5 + dx / 4, 0.5 + dy / 4, edge)]
    slots = np.full((1, SLOTS, 4), -1, np.float32)
    for index, (number, place) in enumerate(zip(numbers, places, strict=False)):
        slots[0, index] = (number, *place)
    ground = COLOURS[facts.ground or "white"]
    return judge.composer.compose(slots, np.array([[*ground, *ground, 2.0]], np.float32))[0].round().byte()


ASKED = [
    Facts(("fox",)), Facts(("fox",), ground="blue"), Facts(("fox", "star")), Facts(("fox", "star"), order="stack"),
    Facts(("cat",), colour="blue"), Facts(("star",), count=2), Facts(("star",), count=3), Facts(("tree",), place="left"),
    Facts(("tree",), place="right"), Facts(("tree",), place="top"), Facts(("tree",), place="bottom"),
    Facts(("rocket",), size="small"), Facts(("rocket",), size="big"), Facts(("pizza",), ground="black", place="top"),
]  # fmt: skip


@pytest.mark.parametrize("facts", ASKED, ids=cases.plain)
def test_clean_pictures_are_right_and_no_others(judge: Judge, facts: Facts) -> None:
    """A picture answers its own facts, and none of those that it contradicts."""
    picture = shown(judge, facts)
    assert verdict(judge, picture, facts)["right"]
    wrong = {
        "motifs": [Facts(("rocket",) * len(facts.motifs), **_others(facts))],
        "ground": [Facts(facts.motifs, ground="pink", place=facts.place)],
        "colour": [Facts(facts.motifs, colour="green")] if facts.colour else [],
        "count": [Facts(facts.motifs, count=5 - facts.count)] if facts.count > 1 else [],
        "place": [Facts(facts.motifs, place=p) for p in evaluation.DIRECTIONS if p != facts.place] if facts.place else [],
        "size": [Facts(facts.motifs, size="big" if facts.size == "small" else "small")] if facts.size else [],
        "order": [Facts(facts.motifs[::-1], order=facts.order)] if len(facts.motifs) == 2 else [],
    }
    if facts.colour or facts.count > 1 or facts.place or facts.size:
        wrong["motifs"] = []  # those groups measure their own fact
    for kind, planted in wrong.items():
        for other in planted:
            assert not verdict(judge, picture, other)["right"], kind


def _others(facts: Facts) -> dict[str, str | None]:
    return {"ground": facts.ground, "order": facts.order}  # type: ignore[dict-item]


def test_either_order_is_right_where_none_is_asked(judge: Judge) -> None:
    picture = shown(judge, Facts(("fox", "star")))
    assert verdict(judge, picture, Facts(("star", "fox"), order="any"))["right"]
    assert not verdict(judge, picture, Facts(("star", "fox")))["right"]


@pytest.mark.parametrize(
    "facts", [Facts(("fox",)), Facts(("fox", "star")), Facts(("star",), count=4), Facts(("tree",), place="top")]
)
def test_clean_stickers_are_clean(judge: Judge, facts: Facts) -> None:
    assert verdict(judge, shown(judge, facts), Facts())["right"]


def test_pale_parts_do_not_decide_where_a_thing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steam that is hardly darker than a white ground is within the box of the glyph, and not within that of its picture."""
    glyphs = torch.zeros(2, 4, 64, 64, dtype=torch.uint8)
    glyphs[:, :, 36:62] = torch.tensor([220, 140, 60, 255], dtype=torch.uint8)[:, None, None]
    glyphs[0, :, 2:36, 20:44] = torch.tensor([234, 234, 234, 255], dtype=torch.uint8)[:, None, None]
    composer = Composer([("pie", None), ("bread", None)], glyphs, 64, torch.device("cpu"))
    slots = np.full((1, SLOTS, 4), -1, np.float32)
    slots[0, 0] = (0, 0.5, 0.5, 0.74)
    picture = composer.compose(slots, np.array([[255.0] * 6 + [2.0]], np.float32)).round().byte()
    picture[picture == 234] = 238
    names = ("pie", "bread")
    assert Judge(composer, names).ranked(picture) == [["pie", "bread"]]
    monkeypatch.setattr("modules.training.judge.FAINTLY", 60)
    assert Judge(composer, names).ranked(picture) == [["bread", "pie"]], "as it would be by what differs clearly alone"


def test_blots_are_not_clean(judge: Judge) -> None:
    gen = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (3, 96, 96), generator=gen, dtype=torch.uint8)
    smear = torch.full((3, 96, 96), 250, dtype=torch.uint8)
    smear[:, 30:70, 20:80] = torch.nn.functional.interpolate(
        torch.rand(1, 3, 4, 6, generator=gen) * 255, (40, 60), mode="bilinear"
    )[0].byte()
    for picture in (noise, smear, torch.full((3, 96, 96), 250, dtype=torch.uint8)):
        found = verdict(judge, picture, Facts())
        assert found == {"right": False, "seen": "no clean sticker"}


class Painter:
    """Draws every case's facts cleanly, except those of `planted`, where it draws a rocket; notes what it was asked."""

    def __init__(self, judge: Judge, wanted: Sequence[Case], planted: Sequence[str] = (), fails_after: int = 10**9) -> None:
        self.judge, self.planted, self.left, self.asked = judge, planted, fails_after, list[str]()
        self.facts = {case.prompt: case.facts for case in wanted}

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], cfg_scale: float, steps: int) -> Tensor:
        if self.left <= 0:
            raise KeyboardInterrupt
        self.left -= len(prompts)
        self.asked += prompts
        facts = [Facts(("rocket",)) if prompt in self.planted else self.facts[prompt] for prompt in prompts]
        return torch.stack([shown(self.judge, each) for each in facts])


@pytest.fixture
def results(tmp_path: Path) -> Results:
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"x")
    return Results.open(tmp_path / "x.json", file, {"cfg_scale": 3.0, "steps": 20})


def test_a_planted_error_is_found(judge: Judge, results: Results) -> None:
    wanted = cases.motif_cases(NAMES, 1) + cases.ground_cases(NAMES) + cases.pair_cases(NAMES, 10)
    measure(Painter(judge, wanted), judge, wanted, results)  # type: ignore[arg-type]
    assert [row["reached"] for row in table(results) if row["reached"] is not None] == [100.0] * 5
    assert not any(evaluation.misses(results).values())

    results.verdicts.clear()
    measure(Painter(judge, wanted, planted=["a fox"]), judge, wanted, results)  # type: ignore[arg-type]
    rows = {row["gate"]: row for row in table(results)}
    assert rows["nearest glyph to a motif's name, top-1, %"] | {"of": 8} == {
        "gate": "nearest glyph to a motif's name, top-1, %", "asked": 95, "reached": 87.5, "of": 8, "passed": False,
    }  # fmt: skip
    assert evaluation.misses(results)["motifs"] == ["1001 a fox -> rocket"]
    assert "87.5 | 8 | MISS" in evaluation.printed(list(rows.values()))
    assert rows["decoder, dB"]["passed"] is None


def test_an_interrupted_evaluation_goes_on(judge: Judge, results: Results, tmp_path: Path) -> None:
    wanted = cases.motif_cases(NAMES, 1)
    with pytest.raises(KeyboardInterrupt):
        measure(Painter(judge, wanted, fails_after=3), judge, wanted, results, batch=3)  # type: ignore[arg-type]
    file = tmp_path / "x.safetensors"
    again = Results.open(results.path, file, results.settings)
    painter = Painter(judge, wanted)
    measure(painter, judge, wanted, again, batch=3)  # type: ignore[arg-type]
    assert painter.asked == [case.prompt for case in wanted[3:]]
    assert len(again.verdicts["motifs"]) == 8
    assert not Results.open(results.path, file, {"cfg_scale": 4.0, "steps": 20}).verdicts  # other settings, other pictures
    file.write_bytes(b"y")
    assert not Results.open(results.path, file, results.settings).verdicts


def test_paraphrases_are_compared_with_plain_prompts_of_the_same_facts(judge: Judge, results: Results) -> None:
    names = list(MOTIFS)
    free, bare = cases.paraphrase_cases(names), cases.plain_cases(names)
    assert len(free) == len(bare) == 200
    assert all(a.facts == b.facts and a.seed == b.seed and a.prompt != b.prompt for a, b in zip(free, bare, strict=True))
    results.verdicts = {
        "paraphrases": {case.key: {"right": index % 4 > 0} for index, case in enumerate(free[:100])},
        "plain": {case.key: {"right": True} for case in bare[:80]},
    }
    rows = {row["gate"]: row for row in table(results)}
    lost = rows["points that they lose against plain ones"]
    assert (lost["reached"], lost["of"], lost["passed"]) == (25.0, 80, False)
    assert rows["points that these lose"]["reached"] is None
    assert json.loads(json.dumps(list(rows.values())))
    free, bare = cases.paraphrase_cases(names, "later"), cases.plain_cases(names, "later")
    assert len(free) == len(bare) == 64
    results.verdicts |= {
        "later": {case.key: {"right": index > 15} for index, case in enumerate(free)},
        "later plain": {case.key: {"right": index > 7} for index, case in enumerate(bare)},
    }
    rows = {row["gate"]: row for row in table(results)}
    lost = rows["points that these lose"]
    assert (lost["reached"], lost["of"], lost["passed"]) == (12.5, 64, False)
    assert rows["later handwritten prompts right, % (no gate)"]["reached"] == 75.0


def test_names_of_other_files_are_understood() -> None:
    assert cases.resolved(["red apple", "fox", "burger", "red heart", "no such thing"]) == [
        "apple",
        "fox",
        "hamburger",
        "heart",
    ]


def test_every_group_asks_for_what_the_gates_say() -> None:
    names = list(MOTIFS)
    assert len(cases.motif_cases(names, 3)) == 3 * len(names)
    for group, make in cases.GROUPS.items():
        found = make(names)
        assert found == make(names)
        assert {case.group for case in found} == {group}
        assert len({case.key for case in found}) == len(found) >= 20
    prompts = {case.prompt for case in cases.count_cases(names)}
    assert all(prompt.startswith(("two ", "three ")) for prompt in prompts)


def test_a_blob_knows_where_it_is(judge: Judge) -> None:
    where = blob(shown(judge, Facts(("star",), place="left")))
    assert where.x == pytest.approx(0.25, abs=0.05)
    assert where.y == pytest.approx(0.5, abs=0.05)


def test_karras_spacing_spans_the_schedule() -> None:
    sigmas = karras(20)
    assert len(sigmas) == 21
    assert sigmas[0] == pytest.approx(14.61, abs=0.01)
    assert sigmas[-2] == pytest.approx(0.0292, abs=1e-3)
    assert timestep_of(sigmas[0]) == pytest.approx(999)
    assert timestep_of(sigmas[-2]) == pytest.approx(0, abs=1e-6)


@needs_font
def test_the_fonts_own_glyphs_are_retrieved_among_all_motifs() -> None:
    names = list(MOTIFS)
    judge = Judge(Composer(*coloured_glyphs(read_glyphs(), ()), 128, torch.device("cpu")), names)
    for index, name in enumerate(names[::18]):
        facts = Facts((name,), ground=("white", "blue")[index % 2], size="small" if index % 3 else "")
        picture = shown(judge, facts)
        assert judge.ranked(picture[None], 1)[0] == [name]
        assert nearest_colour(border(picture[None])[0]) == facts.ground


@needs_font
def test_a_file_is_evaluated_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file with random weights nothing is right but what anything would be; a second run draws nothing again."""
    monkeypatch.setattr("modules.training.__main__.PROMPTS", ("a cat", "two apples"))
    file, results = tiny_checkpoint(tmp_path / "tiny.safetensors"), tmp_path / "results.json"
    groups = ["--groups", "motifs", "pairs", "decoder"]
    arguments = ["evaluate", str(file), *groups, "--seeds", "1", "--quick", "--results", str(results), "--device", "cpu"]
    assert main([*arguments, "--sheet", str(tmp_path / "sheet.png"), "--pictures", str(tmp_path / "pictures"), "--json"]) == 0
    rows = {row["gate"]: row for row in json.loads(capsys.readouterr().out.splitlines()[-1])}
    assert rows["nearest glyph to a motif's name, top-1, %"]["of"] == 2
    assert rows["both of two objects right, %"]["of"] == 25
    assert rows["decoder, dB"]["passed"] is False
    assert rows["named ground right, %"]["reached"] is None
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (1280, 174)
    assert len(list((tmp_path / "pictures" / "motifs").iterdir())) == 2

    monkeypatch.setattr("modules.training.starter.Starter.draw", None)
    assert main(["evaluate", str(file), "--groups", "motifs", "pairs", *arguments[6:]]) == 0
    assert "| 25 | MISS |" in capsys.readouterr().out


def test_an_evaluation_without_a_font_or_a_file_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny_checkpoint(tmp_path / "tiny.safetensors")
    assert main(["evaluate", str(file), "--font", str(tmp_path / "none.ttf"), "--device", "cpu"]) == 1
    assert "none.ttf is missing; install it" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "none.safetensors"), "--device", "cpu"]) == 1
    assert "no safetensors file that can be read" in capsys.readouterr().err
