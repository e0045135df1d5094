"""What was understood of a request's prompts, without painting: weights, texts over time, chunks, and what is not here.

For the page and the API: quick, without torch, and never failing on any text.  Everything is plain data for JSON.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType

from modules.errors import RequestError
from modules.prompts.chunks import Embedding, Embeddings, Encodes, chunk
from modules.prompts.compose import ExtraNetwork, split_and, take_networks
from modules.prompts.emphasis import weigh
from modules.prompts.library import Library
from modules.prompts.limits import MAX_NETWORKS, check_affordable, check_windows
from modules.prompts.plan import Plan, plan
from modules.prompts.scanner import complaint
from modules.prompts.t5_tokenizer import MAX_TOKENS, weighted_tokens
from modules.prompts.timeline import Timeline
from modules.prompts.tokenizer import Tokenizer
from modules.prompts.vocabulary import Vocabulary
from modules.request import GenerationRequest

MAX_STAGES = 60
"""Texts of one timeline that are returned."""
MAX_PIECES = 200
"""Weighted pieces of one text that are returned."""

_COMFY_NAME = re.compile(r"\bembedding:([\w.-]{1,100})")

MAX_SHOWN = 200
"""Characters of a network in a sentence about it."""

NETWORK_KINDS = ("lora", "lyco", "hypernet")


@dataclass(frozen=True)
class WeightedText:
    """Text and weight as the encoder will take them; the text BREAK of weight -1 begins a new chunk."""

    text: str
    weight: float


@dataclass(frozen=True)
class EditedText:
    """One text of a timeline: what counts in steps `first` to `last`, counted from 1, and how it is cut.

    A sampler with two evaluations per step may change the text in the middle of one; that step belongs to both stages.
    """

    first: int
    last: int
    text: str
    pieces: tuple[WeightedText, ...]
    tokens: int
    limit: int


@dataclass(frozen=True)
class CheckedSide:
    """One side of AND.  `more` stages are not returned, because they are too many."""

    weight: float
    stages: tuple[EditedText, ...]
    more: int = 0


@dataclass(frozen=True)
class PromptCheck:
    """`tokens` of `limit` is the counter next to a prompt: that of its longest text.  `notes` are sentences for the user.
    `second` is what a second pass makes of its own prompts, or of `[a:b:when]` in the first one's; None where it is the same.
    """

    prompt: str
    negative_prompt: str
    sides: tuple[CheckedSide, ...]
    negative: CheckedSide
    tokens: int
    limit: int
    negative_tokens: int
    negative_limit: int
    networks: tuple[str, ...]
    notes: tuple[str, ...]
    second: PromptCheck | None = None


def check(
    request: GenerationRequest,
    library: Library,
    step_ends: Sequence[int],
    prompt_steps: int,
    networks: Collection[str] = (),
    hypernetworks: Mapping[str, str] = MappingProxyType({}),
    tokenizer: Encodes | None = None,
    whole: Encodes | None = None,
    embeddings: Collection[Embedding] = (),
    skipped: Mapping[str, str] = MappingProxyType({}),
    vocabulary: Vocabulary | None = None,
    steps_before: int | None = None,
) -> PromptCheck:
    """Read the prompts of `request` as the image with its seed would be painted (seed -1: as an example, with 0).

    Args:
        request: need not be resolved; styles that are not here are noted and left out.
        library: the styles and wildcards of this instance.
        step_ends: after how many evaluations of the network each step is over, `Sampler.step_ends(steps)`.
        prompt_steps: what prompts are worked out for, `Sampler.prompt_steps(steps)`.
        networks: names of the LoRAs that are here.
        hypernetworks: names of those that are here, each with what its file's problem is, "" for none.
        tokenizer: of the checkpoint; CLIP's when left out.
        whole: of T5, where the checkpoint has one, which reads texts whole: its tokens are counted then.
        embeddings: those that the checkpoint can use.
        skipped: embeddings that are here and cannot be used, each with a sentence why.
        vocabulary: the words that the checkpoint was trained on, where they are few enough to be listed.
        steps_before: where it is a second pass, the `prompt_steps` of the first, from which `[a:b:when]` goes on counting.
    """
    request, notes = _finished(request, library)
    passes = (prompt_steps, None) if steps_before is None else (steps_before, prompt_steps)
    planned = plan(request.prompt, request.negative_prompt, *passes, old=request.old_prompt_editing)
    notes += [*_reading_notes(request, planned), *network_notes(planned.networks, networks, hypernetworks)]
    tokenizer = tokenizer or Tokenizer(request.raw_text)
    try:
        check_affordable(planned)
        check_windows(planned, tokenizer, request.emphasis)
    except RequestError as error:
        notes.append(str(error))
        planned = plan("", "", prompt_steps)

    reader = _Reader(request, step_ends, tokenizer, Embeddings(embeddings, tokenizer), whole)
    texts = [text for timeline in planned.timelines for text in timeline.distinct]
    written = _embeddings_in(texts, [*embeddings, *(Embedding(name, 1) for name in skipped)], tokenizer)
    notes += [skipped[embedding.name] for embedding in written if embedding.name in skipped]
    notes += _foreign_notes(texts, embeddings)
    if vocabulary is not None:
        positive = dict.fromkeys(text for side in planned.sides for text in side.timeline.distinct)
        notes += vocabulary.notes(_bare(text, request, written) for text in positive)
    used = [
        f"{each.name} ({each.vectors} {'vectors' if each.vectors > 1 else 'vector'})" for each in written if each in embeddings
    ]
    count, limit = reader.count([side.timeline for side in planned.sides])
    negative_count, negative_limit = reader.count([planned.negative])
    for title, number, most in (("prompt", count, limit), ("negative prompt", negative_count, negative_limit)):
        if number > most:
            notes.append(f"the {title} has {number} tokens, of which T5 reads the first {most}")
    return PromptCheck(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        sides=tuple(reader.side(side.timeline, side.weight) for side in planned.sides),
        negative=reader.side(planned.negative, 1.0),
        tokens=count,
        limit=limit,
        negative_tokens=negative_count,
        negative_limit=negative_limit,
        networks=(*map(str, planned.networks), *used),
        notes=tuple(dict.fromkeys(notes)),
    )


@dataclass(frozen=True)
class _Reader:
    """Tells timelines as the encoder and the user will see them."""

    request: GenerationRequest
    step_ends: Sequence[int]
    tokenizer: Encodes
    embeddings: Embeddings
    whole: Encodes | None

    def count(self, timelines: list[Timeline]) -> tuple[int, int]:
        """Tokens and limit of the longest text."""
        texts = dict.fromkeys(text for timeline in timelines for text in timeline.distinct)
        return max(self._tokens(text) for text in texts)

    def side(self, timeline: Timeline, weight: float) -> CheckedSide:
        runs = [list(run) for _, run in groupby(range(self.step_ends[-1]), timeline.at)]
        stages = [self._stage(timeline.at(run[0]), run[0], run[-1]) for run in runs[:MAX_STAGES]]
        return CheckedSide(weight, tuple(stages), max(0, len(runs) - MAX_STAGES))

    def _stage(self, text: str, first: int, last: int) -> EditedText:
        tokens, limit = self._tokens(text)
        first, last = (bisect_right(self.step_ends, evaluation) + 1 for evaluation in (first, last))
        return EditedText(first, last, text, tuple(self._pieces(text)), tokens, limit)

    def _pieces(self, text: str) -> Iterator[WeightedText]:
        if self.request.emphasis == "None":
            yield WeightedText(text, 1.0)
            return
        for piece in weigh(text)[:MAX_PIECES]:
            ignored = self.request.emphasis == "Ignore" and not piece.is_break
            yield WeightedText(piece.text, 1.0 if ignored else piece.weight)

    def _tokens(self, text: str) -> tuple[int, int]:
        if self.whole is not None:
            return len(weighted_tokens(text, self.whole, self.request.emphasis)[0]), MAX_TOKENS
        chunks = chunk(text, self.tokenizer, self.request.emphasis, self.embeddings)
        return chunks.count, chunks.limit


def _finished(request: GenerationRequest, library: Library) -> tuple[GenerationRequest, list[str]]:
    """The request with final prompts, as far as they can be made, and what is to be said about that."""
    request = request.model_copy(update={"seed": max(0, request.seed)})
    try:
        finished = library.finish(request)
    except RequestError as error:
        return request, [str(error)]
    notes = [
        f"__{name}__: there is no wildcard file of this name; it stays in the prompt as it is" for name in finished.unknown
    ]
    return finished.request, notes


def _reading_notes(request: GenerationRequest, planned: Plan) -> Iterator[str]:
    """What surprises people about how A1111, and so this program, reads prompts."""
    sides = split_and(take_networks(request.prompt)[0])
    for words, texts in (("the prompt", [side.text for side in sides]), ("the negative prompt", [request.negative_prompt])):
        if cause := next(filter(None, map(complaint, texts)), ""):
            whole = "all of it" if len(texts) == 1 else "that side of AND"
            yield f"{words} has {cause}: {whole} is taken literally, and its [a:b:when] and [a|b] do nothing"
    if len(planned.sides) == 1 and planned.sides[0].weight != 1.0:
        weight = f"{planned.sides[0].weight:g}"
        yield f"the prompt ends in a colon and a number: it is read as the weight {weight} of the whole prompt, as before AND"
    if take_networks(request.negative_prompt)[1]:
        yield "networks in angle brackets do nothing in the negative prompt: they are words there"
    if len(split_and(request.negative_prompt)) > 1:
        yield "AND does nothing in the negative prompt: it is a word there"
    if request.emphasis not in ("None", "Ignore") and any(
        _weighs_break(t) for line in planned.timelines for t in line.distinct
    ):
        yield "BREAK inside weighted brackets begins no new chunk: it is a word there"


def _weighs_break(text: str) -> bool:
    return "BREAK" in text and any("BREAK" in piece.text and piece.weight < 0 and not piece.is_break for piece in weigh(text))


def network_notes(
    networks: Iterable[ExtraNetwork],
    known: Collection[str] = (),
    hypernetworks: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Sentences about the networks that will be left out.  `known` are the names that are here, of LoRAs and of hypernetworks;
    these with their problem, "" for none."""
    loras = {name.casefold(): "" for name in known}
    hypernets = {name.casefold(): problem for name, problem in hypernetworks.items()}
    left_out, seen = dict[ExtraNetwork, str](), set[object]()
    for network in networks:
        if reason := _unusable(network, hypernets if network.kind == "hypernet" else loras):
            left_out[network] = reason
            continue
        seen.add((network.kind, network.name.casefold(), network.options()))
        if len(seen) > MAX_NETWORKS:
            left_out[network] = too_many_networks()
    return left_out_notes(left_out)


def too_many_networks() -> str:
    return f"{MAX_NETWORKS} different networks are the most of one picture"


def left_out_notes(left_out: Mapping[ExtraNetwork, str]) -> list[str]:
    """A sentence for each reason, with the networks that are left out for it."""
    by_reason: dict[str, list[str]] = {}
    for network, reason in left_out.items():
        by_reason.setdefault(reason, []).append(str(network)[:MAX_SHOWN])
    notes = []
    for reason, names in by_reason.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        notes.append(f"{', '.join(names[:3])}{more}: {reason}; {'they are' if len(names) > 1 else 'it is'} left out")
    return notes


def _unusable(network: ExtraNetwork, known: Mapping[str, str]) -> str:
    network = network.spelled(lambda name: name.casefold() in known)
    if problem := network_problem(network):
        return problem
    what = "hypernetwork" if network.kind == "hypernet" else "network"
    return known.get(network.name.casefold(), f"no {what} of the name {network.name!r} is here")


def network_problem(network: ExtraNetwork) -> str:
    """Why a network cannot be used, whichever files are here; "" where it may be."""
    if network.kind not in NETWORK_KINDS:
        return f"{network.kind!r} is no kind of network"
    try:
        network.multipliers()
        network.options()
        network.window()
    except ValueError as error:
        return str(error)
    return ""


def _embeddings_in(texts: Iterable[str], known: Iterable[Embedding], tokenizer: Encodes) -> list[Embedding]:
    """Those of `known` whose names stand in the texts, in order."""
    names = Embeddings(known, tokenizer)
    windows = (window for text in texts for window in chunk(text, tokenizer, embeddings=names).windows)
    return list(dict.fromkeys(place.embedding for window in windows for place in window.inserts))


def _bare(text: str, request: GenerationRequest, embeddings: Sequence[Embedding]) -> str:
    """The words of a text alone, as a vocabulary reads them: without weights, and without the names of embeddings."""
    if request.emphasis != "None":
        text = " ".join("," if piece.is_break else piece.text for piece in weigh(text))
    for embedding in embeddings:
        text = re.sub(re.escape(embedding.name), ",", text, flags=re.IGNORECASE)
    return text


def _foreign_notes(texts: Iterable[str], embeddings: Collection[Embedding]) -> list[str]:
    """ComfyUI's way to name an embedding means nothing here."""
    known = {embedding.name.casefold() for embedding in embeddings}
    written = dict.fromkeys(name for text in texts for name in _COMFY_NAME.findall(text))
    here = {True: "write its name alone", False: "no embedding of this name is here, and names are written alone"}
    return [f"embedding:{name}: {here[name.casefold() in known]}" for name in written]
