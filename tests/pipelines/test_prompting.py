"""The conditioning of every evaluation: prompt editing, AND, emphasis and long prompts, from request to rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from modules.diffusion.clip_prompts import CLIPPrompts
from modules.diffusion.noise import Noise
from modules.diffusion.prediction import DiscreteNoise
from modules.diffusion.rows import Answer, Row
from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.schedules import TrainedSigmas, sigmas_for
from modules.diffusion.text import EncodedWindow, TextEncoders
from modules.diffusion.unet_denoiser import UNetDenoiser
from modules.errors import RequestError
from modules.pipelines.guidance import Guidance
from modules.pipelines.ops import Check, DeviceOp, Encode, Host, Predict, Program, Report
from modules.pipelines.prompting import AT_ONCE, Prompted, prompted
from modules.pipelines.sampling import sample, starting_point
from modules.prompts.chunks import Chunk
from modules.prompts.tokenizer import Tokenizer
from modules.request import Txt2Img

LEVELS = TrainedSigmas.scaled_linear()
TOKENIZER = Tokenizer()
LONG = " ".join(f"{number} apples" for number in range(1_000))
MODEL: Any = SimpleNamespace(
    prompts=CLIPPrompts(cast(TextEncoders, SimpleNamespace(widths=(2,)))), denoiser=UNetDenoiser, noise=DiscreteNoise()
)


def encoding(chunk: Chunk) -> Tensor:
    """A stand-in for the encoder: token ids as vectors (77, 2), never with a mean of zero."""
    ids = torch.tensor(chunk.tokens, dtype=torch.float32)
    return torch.stack([ids, ids * 0 + 1.0], dim=1)


@dataclass
class Network:
    """Answers a pipeline's device ops and keeps what it was asked; predictions are the first number of the context."""

    encodes: list[Encode] = field(default_factory=list)
    rows: list[tuple[Row, ...]] = field(default_factory=list)

    def serve(self, program: Program[Any]) -> Any:
        answer: Any = None
        while True:
            try:
                work: DeviceOp = program.send(answer)
            except StopIteration as finished:
                return finished.value
            if isinstance(work, Encode):
                self.encodes.append(work)
                assert all(chunk.is_neutral for chunk in work.chunks), "the encoder never sees weights"
                answer = [EncodedWindow(encoding(chunk)) for chunk in work.chunks]
            elif isinstance(work, Predict):
                self.rows.append(work.rows)
                answer = [Answer(row.x * 0.5 + float(row.conditioning.context[1, 0]) / 50_000) for row in work.rows]
            elif isinstance(work, Host):
                answer = work.call()
            else:
                assert isinstance(work, Report | Check)
                answer = None

    def prompt(self, **fields: Any) -> Prompted:
        request = Txt2Img(**{"steps": 6, "sampler": "Euler", **fields})
        result: Prompted = self.serve(prompted(MODEL, request, SAMPLERS[request.sampler]))
        return result

    def words(self, rows: tuple[Row, ...]) -> list[str]:
        """What the rows' contexts say, read back from the encoding."""
        return [TOKENIZER.decode([int(i) for i in row.conditioning.context[1:, 0] if i < 49406]) for row in rows]

    def run(self, **fields: Any) -> list[list[str]]:
        """The prompts of each evaluation of a whole run."""
        request = Txt2Img(**{"steps": 6, "sampler": "Euler", **fields})
        sampler, noise = SAMPLERS[request.sampler], Noise(1, (4, 8, 8))
        sigmas = sigmas_for("Automatic", sampler, LEVELS, request.steps)
        x = starting_point(sampler, sigmas, noise)
        denoise = self.prompt(**fields).guided(MODEL, Guidance(request.cfg_scale))
        self.serve(sample(MODEL, sampler, x, sigmas, noise, denoise))
        return [self.words(rows) for rows in self.rows]


@pytest.fixture
def network() -> Network:
    return Network()


def test_a_plain_prompt_counts_at_every_evaluation(network: Network) -> None:
    assert network.run(prompt="a cat", negative_prompt="blue") == [["a cat", "blue"]] * 6


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("[cat:dog:2]", ["cat"] * 3 + ["dog"] * 3),
        ("[cat:dog:.5]", ["cat"] * 4 + ["dog"] * 2),
        ("[cat:dog:1]", ["cat"] * 2 + ["dog"] * 4),
        ("[cat:dog:1.0]", ["cat"] * 6),
        ("[cat:dog:0]", ["dog"] * 6),
        ("[cat|dog]", ["cat", "cat", "dog", "cat", "dog", "cat"]),
        ("[cat|dog|red]", ["cat", "cat", "dog", "red", "cat", "dog"]),
        ("[cat:[dog:red:4]:2]", ["cat"] * 3 + ["dog"] * 2 + ["red"]),
        ("[cat:dog:2] | red", ["[ cat : dog : 2 ] | red"] * 6),
    ],
)
def test_prompt_editing_changes_the_conditioning(network: Network, prompt: str, expected: list[str]) -> None:
    assert network.run(prompt=prompt, negative_prompt="x", emphasis="None") == [[text, "x"] for text in expected]


def test_the_negative_prompt_is_edited_too(network: Network) -> None:
    assert network.run(prompt="x", negative_prompt="[cat:dog:3]") == [["x", "cat"]] * 4 + [["x", "dog"]] * 2


def test_second_order_samplers_count_evaluations_not_steps(network: Network) -> None:
    """Heun with 6 steps evaluates 11 times and works prompts out for 12: half is 6, and `[a:b:2]` is over after 3 of 11."""
    asked = [rows[0] for rows in network.run(prompt="[cat:dog:.5]", sampler="Heun")]
    assert asked == ["cat"] * 7 + ["dog"] * 4
    asked = [rows[0] for rows in Network().run(prompt="[cat:dog:2]", sampler="Heun")]
    assert asked == ["cat"] * 3 + ["dog"] * 8


def test_old_prompt_editing(network: Network) -> None:
    asked = [rows[0] for rows in network.run(prompt="[cat:dog:2.0]", old_prompt_editing=True)]
    assert asked == ["cat"] * 3 + ["dog"] * 3
    assert [rows[0] for rows in Network().run(prompt="[cat:dog:2.0]")] == ["cat"] * 6


def test_sides_of_and_share_a_forward_and_are_edited_each(network: Network) -> None:
    asked = network.run(prompt="cat AND [dog:red:2] :0.5", negative_prompt="x")
    assert asked == [["cat", "dog", "x"]] * 3 + [["cat", "red", "x"]] * 3


def contexts(prompts: Prompted, evaluation: int = 0) -> list[Tensor]:
    return [side.at(evaluation).context for side, _ in prompts.sides]


@pytest.mark.parametrize("cfg_scale", [0.0, 1.0, 1.5, 7.0])
@pytest.mark.parametrize("weights", [(1.0,), (0.4, 0.6), (1.0, -0.5, 2.0), (0.0, 1.0), (0.0,)])
def test_and_is_a_weighted_sum_of_directions(cfg_scale: float, weights: tuple[float, ...]) -> None:
    """x = u + sum cfg * w * (c - u), whatever is left out of the forward because it has no weight."""
    words = ["cat", "dog", "red"]
    text = " AND ".join(f"{word} :{weight}" for word, weight in zip(words, weights, strict=False))
    network = Network()
    prompts = network.prompt(prompt=text, negative_prompt="x")
    assert tuple(weight for _, weight in prompts.sides) == weights
    x = torch.ones(4, 8, 8)
    result = network.serve(prompts.guided(MODEL, Guidance(cfg_scale))(x, 1.0)).guided

    def predicted(context: Tensor) -> Tensor:
        return x * 0.5 + float(context[1, 0]) / 50_000

    u = predicted(prompts.negative.at(0).context)
    expected = u + sum(cfg_scale * w * (predicted(c) - u) for c, w in zip(contexts(prompts), weights, strict=True))
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)


def test_rows_without_weight_are_not_computed() -> None:
    for prompt, cfg_scale, rows in [("a", 1.0, 1), ("a", 0.0, 1), ("a:0 AND b", 5.0, 2), ("a AND b", 1.0, 3), ("a:0", 5.0, 1)]:
        network = Network()
        network.serve(network.prompt(prompt=prompt).guided(MODEL, Guidance(cfg_scale))(torch.ones(4, 8, 8), 1.0))
        assert [len(work) for work in network.rows] == [rows], prompt


def test_two_runs_of_one_prompt_do_not_share_their_count(network: Network) -> None:
    prompts = network.prompt(prompt="[cat:dog:0]")
    first, second = prompts.guided(MODEL, Guidance(1.0)), prompts.guided(MODEL, Guidance(1.0))
    prompts = network.prompt(prompt="[cat:dog:1]")
    first, second = prompts.guided(MODEL, Guidance(1.0)), prompts.guided(MODEL, Guidance(1.0))
    for denoise in (first, first, first, second):
        network.serve(denoise(torch.ones(4, 8, 8), 1.0))
    assert [network.words(rows) for rows in network.rows] == [["cat"], ["cat"], ["dog"], ["cat"]]


def test_each_window_is_encoded_once_and_long_prompts_in_parts(network: Network) -> None:
    prompts = network.prompt(prompt="[cat|(cat:1.5)|dog] " + LONG, negative_prompt="cat")
    asked = [chunk for work in network.encodes for chunk in work.chunks]
    assert len(asked) == len(set(asked)) > AT_ONCE
    assert max(len(work.chunks) for work in network.encodes) <= AT_ONCE
    assert len(contexts(prompts)[0]) % 77 == 0
    assert len(contexts(prompts)[0]) > 77 * AT_ONCE


def test_weights_scale_tokens_and_leave_the_mean(network: Network) -> None:
    plain = contexts(network.prompt(prompt="a red cat"))[0]
    for emphasis, factor in (("No norm", 1.0), ("Original", None)):
        strong = contexts(network.prompt(prompt="a (red:1.5) cat", emphasis=emphasis))[0]
        scaled = plain.clone()
        scaled[2] *= 1.5
        if factor is None:
            scaled *= plain.mean() / scaled.mean()
            torch.testing.assert_close(strong.mean(), plain.mean())
        torch.testing.assert_close(strong, scaled)


def test_ignored_weights_and_brackets_as_words(network: Network) -> None:
    plain = contexts(network.prompt(prompt="a red cat"))[0]
    assert torch.equal(contexts(network.prompt(prompt="a (red:1.5) cat", emphasis="Ignore"))[0], plain)
    words = network.prompt(prompt="a (red:1.5) BREAK cat", emphasis="None")
    assert TOKENIZER.decode([int(i) for i in contexts(words)[0][1:, 0] if i < 49406]) == "a ( red : 1 . 5 ) break cat"


def test_original_emphasis_is_common_to_a_timeline(network: Network) -> None:
    """A1111 encodes all texts of a timeline together and brings their common mean back: the plain one moves as well."""
    prompts = network.prompt(prompt="[cat:(cat:1.5):2]", steps=6)
    side = prompts.sides[0][0]
    cat = encoding(Chunk.of(TOKENIZER.encode("cat")))
    strong = cat.clone()
    strong[1] *= 1.5
    factor = (2 * cat.mean()) / (cat.mean() + strong.mean())
    torch.testing.assert_close(side.at(0).context, cat * factor)
    torch.testing.assert_close(side.at(5).context, strong * factor)


def test_how_often_a_text_counts_weighs_its_mean(network: Network) -> None:
    """`[a|b|b]` over 6 evaluations stands as 2 a and 4 b."""
    side = network.prompt(prompt="[cat|(cat:1.5)|(cat:1.5)]", steps=6).sides[0][0]
    cat = encoding(Chunk.of(TOKENIZER.encode("cat")))
    strong = cat.clone()
    strong[1] *= 1.5
    factor = 6 * cat.mean() / (2 * cat.mean() + 4 * strong.mean())
    torch.testing.assert_close(side.at(0).context, cat * factor)


def test_shorter_texts_of_a_timeline_are_filled_with_empty_windows(network: Network) -> None:
    side = network.prompt(prompt="[cat:cat BREAK dog:2]").sides[0][0]
    assert [len(side.at(evaluation).context) for evaluation in (0, 5)] == [154, 154]
    assert torch.equal(side.at(0).context[77:], encoding(Chunk.of([])))


def test_shorter_sides_of_and_repeat_their_last_vector(network: Network) -> None:
    short, long = contexts(network.prompt(prompt="cat AND dog BREAK red"))
    assert len(short) == len(long) == 154
    assert torch.equal(short[77:], short[76:77].expand(77, -1))


def test_clip_skip_reaches_the_encoder(network: Network) -> None:
    network.prompt(prompt="a cat", clip_skip=2)
    assert {work.clip_skip for work in network.encodes} == {2}


@pytest.mark.parametrize(
    "prompt", ["[a|b] " + "c, " * 10_000 + "[d|e|f][g|h|i|j]", "".join(map(chr, range(0x4E00, 0xC000))) + "[a|b]"]
)
def test_prompts_that_would_keep_the_encoder_for_minutes_are_refused(network: Network, prompt: str) -> None:
    with pytest.raises(RequestError, match=r"(different|windows) .* shorten the prompt"):
        network.prompt(prompt=prompt, steps=150)
    assert not network.encodes
