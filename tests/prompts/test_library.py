"""From a request to final words: styles, comments, draws, what is recorded about them, and the check that tells it all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.diffusion.samplers import SAMPLERS
from modules.errors import RequestError, UnknownName
from modules.prompts.check import MAX_STAGES, PromptCheck, check
from modules.prompts.chunks import Embedding
from modules.prompts.library import Library, infotext_items
from modules.prompts.styles import Style, write_styles
from modules.request import MAX_PROMPT, Txt2Img, parse_request

NONE = Library(None)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    write_styles(
        tmp_path / "styles.csv",
        [Style("Photo", "photo of {prompt} # true", "drawing"), Style("Two", "{red|blue}"), Style("Long", "x" * 30_000)],
    )
    (tmp_path / "wildcards").mkdir()
    (tmp_path / "wildcards" / "colour.txt").write_text("red\nblue\n#5 red\n5 #red\n")
    (tmp_path / "wildcards" / "long.txt").write_text("y" * 30_000 + "\n")
    return Library(tmp_path)


def test_a_plain_request_stays_as_it_is() -> None:
    request = Txt2Img(prompt="a (red:1.2) [cat|dog], {x}", negative_prompt=" b ", seed=4)
    assert NONE.finish(request).request == request


def test_the_order_is_styles_comments_draws(library: Library) -> None:
    request = Txt2Img(prompt="a {cat|dog} # no\n", negative_prompt="bad", seed=2, styles=("Photo", "Two"))
    finished = library.finish(request)
    assert finished.template == "photo of a {cat|dog} \n \n"
    assert finished.negative_template == "bad, drawing"
    assert finished.request.prompt in {f"photo of a {animal} \n \n" for animal in ("cat", "dog")}
    assert finished.request.styles == ()


def test_comments_can_be_kept() -> None:
    request = Txt2Img(prompt="a #fff sky", comments=False)
    assert NONE.finish(request).request.prompt == "a #fff sky"
    assert NONE.finish(request.model_copy(update={"comments": True})).request.prompt == "a \n"


def test_each_image_draws_its_own(library: Library) -> None:
    request = Txt2Img(prompt="__colour__ {1|2|3|4}", seed=7, count=20)
    prompts = {library.finish(request.image(index)).request.prompt for index in range(20)}
    assert len(prompts) > 5


def test_a_finished_request_replays_exactly(library: Library) -> None:
    """What a picture records is final: finishing it again changes nothing, also where a # was drawn."""
    for seed in range(30):
        request = Txt2Img(prompt="a __colour__ {cat|dog} # comment", negative_prompt="{x|y}", seed=seed, styles=("Photo",))
        once = library.finish(request).request
        assert library.finish(parse_request(once.model_dump(mode="json"))).request == once


def test_unknown_styles_are_refused_and_unknown_wildcards_told(library: Library) -> None:
    with pytest.raises(UnknownName, match=r"style 'Foto' is not here; did you mean 'Photo'\?"):
        library.finish(Txt2Img(styles=("Foto",)))
    with pytest.raises(UnknownName, match=r"style 'Photo'"):
        NONE.finish(Txt2Img(styles=("Photo",)))
    finished = library.finish(Txt2Img(prompt="__color__", negative_prompt="__colour__ __x__", seed=1))
    assert finished.unknown == ("color", "x")


def test_words_that_grow_too_many_are_refused(library: Library) -> None:
    for request in (Txt2Img(prompt="z" * 3_000, styles=("Long",)), Txt2Img(prompt="__long__ __long__")):
        with pytest.raises(RequestError, match=rf"prompt: with styles and wildcards .* at most {MAX_PROMPT:,}"):
            library.finish(request)


def test_a_damaged_styles_file_harms_only_who_uses_it(library: Library) -> None:
    assert library.styles_file is not None
    library.styles_file.write_text("what is this")
    assert library.finish(Txt2Img(prompt="a")).request.prompt == "a"
    with pytest.raises(RequestError, match=r"styles: .* no column 'name'"):
        library.finish(Txt2Img(prompt="a", styles=("Photo",)))


@pytest.mark.parametrize(
    ("fields", "items"),
    [
        ({"prompt": "a (b:1.2)"}, {}),
        ({"prompt": "a (b:1.2)", "emphasis": "No norm"}, {"Emphasis": "No norm"}),
        ({"prompt": "a b", "emphasis": "No norm"}, {}),
        ({"prompt": "a", "negative_prompt": "[b]", "emphasis": "None"}, {"Emphasis": "None"}),
        ({"prompt": "[a:b:.5]", "emphasis": "Ignore"}, {}),  # no brackets are left when the text is weighed
        ({"prompt": "[a:b:.5]", "old_prompt_editing": True}, {}),  # old and new agree on it
        ({"prompt": "[a:b:1.0]", "old_prompt_editing": True}, {"Old prompt editing timelines": "True"}),
        ({"prompt": "{a|a}"}, {"Template": "{a|a}"}),
        ({"prompt": "a", "negative_prompt": "{b|b}"}, {"Negative Template": "{b|b}"}),
        ({"prompt": "a # {b|c}"}, {}),
    ],
)
def test_what_a_pictures_text_says_about_its_prompts(fields: dict[str, Any], items: dict[str, str]) -> None:
    assert infotext_items(NONE.finish(Txt2Img(seed=1, **fields)), 20) == items


# ------------------------------------------------------------------------------------------------------------- the check


def checked(
    library: Library = NONE,
    networks: tuple[str, ...] = (),
    embeddings: Sequence[Embedding] = (),
    skipped: Mapping[str, str] = MappingProxyType({}),
    **fields: Any,
) -> PromptCheck:
    request = Txt2Img(**{"steps": 10, "sampler": "Euler", **fields})
    sampler = SAMPLERS[request.sampler]
    ends, steps = sampler.step_ends(request.steps), sampler.prompt_steps(request.steps)
    return check(request, library, ends, steps, networks, embeddings=embeddings, skipped=skipped)


def stages(made: PromptCheck, side: int = 0) -> list[tuple[int, int, str]]:
    return [(stage.first, stage.last, stage.text) for stage in made.sides[side].stages]


def test_weights_and_counts() -> None:
    made = checked(prompt="a (red:1.3) cat", negative_prompt="dog, " * 40)
    (stage,) = made.sides[0].stages
    assert [(piece.text, piece.weight) for piece in stage.pieces] == [("a ", 1.0), ("red", 1.3), (" cat", 1.0)]
    assert (made.tokens, made.limit) == (3, 75)
    assert (made.negative_tokens, made.negative_limit) == (80, 150)
    assert made.notes == ()


def test_stages_in_steps() -> None:
    assert stages(checked(prompt="[a:b:4]")) == [(1, 5, "a"), (6, 10, "b")]
    assert stages(checked(prompt="[a:b:.5]")) == [(1, 6, "a"), (7, 10, "b")]
    assert stages(checked(prompt="[a:b:9]")) == [(1, 10, "a")], "the switch comes after the last evaluation"
    assert stages(checked(prompt="[a|b]"))[:3] == [(1, 2, "a"), (3, 3, "b"), (4, 4, "a")]
    assert stages(checked(prompt="[a:b:.5]", sampler="Heun")) == [(1, 6, "a"), (6, 10, "b")]


def test_the_counter_is_that_of_the_longest_text() -> None:
    assert checked(prompt="[cat:cat cat cat:5] AND cat cat").tokens == 3


def test_sides_and_networks() -> None:
    made = checked(prompt="a <lora:ink:0.5> AND b :0.7", networks=("ink",))
    assert [side.weight for side in made.sides] == [1.0, 0.7]
    assert made.networks == ("<lora:ink:0.5>",)
    assert made.notes == ()
    assert checked(prompt="a <lora:ink:much>", networks=("ink",)).notes == (
        "<lora:ink:much>: what stands behind the name must be numbers; it is left out",
    )


def test_embeddings_are_counted_as_vectors_and_named() -> None:
    """The longest name at a place wins, whatever its case; what cannot be used is read as words, and said."""
    known = [Embedding("ink", 3), Embedding("ink wash", 5)]
    found = checked(prompt="a Ink Wash cat, ink", negative_prompt="blot", embeddings=known, skipped={"blot": "blot is skipped"})
    assert (found.tokens, found.negative_tokens) == (1 + 5 + 1 + 1 + 3, 1)
    assert found.networks == ("ink wash (5 vectors)", "ink (3 vectors)")
    assert found.notes == ("blot is skipped",)
    assert checked(prompt="a cat", embeddings=known).networks == ()


def test_an_embedding_that_does_not_fit_starts_a_new_chunk() -> None:
    found = checked(prompt="x " * 70 + "ink", embeddings=[Embedding("ink", 6)])
    assert (found.tokens, found.limit) == (75 + 6, 150)


@pytest.mark.parametrize(("name", "note"), [("ink", "write its name alone"), ("gone", "no embedding of this name is here")])
def test_comfyui_s_way_to_name_embeddings_is_reported(name: str, note: str) -> None:
    (said,) = checked(prompt=f"a embedding:{name}, cat", embeddings=[Embedding("ink", 6)]).notes
    assert note in said


def test_emphasis_modes() -> None:
    assert [piece.weight for piece in checked(prompt="a (b:2)", emphasis="Ignore").sides[0].stages[0].pieces] == [1.0, 1.0]
    assert [piece.text for piece in checked(prompt="a (b:2)", emphasis="None").sides[0].stages[0].pieces] == ["a (b:2)"]


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"prompt": "__color__"}, "__color__: there is no wildcard file"),
        ({"styles": ("Foto",)}, "style 'Foto' is not here"),
        ({"prompt": "<lora:ink:1>"}, "<lora:ink:1>: no network of the name 'ink' is here"),
        ({"prompt": "<lora:here:x>"}, "<lora:here:x>: what stands behind the name must be numbers"),
        ({"prompt": "<what:ever>"}, "'what' is no kind of network"),
        ({"negative_prompt": "<lora:here:1>"}, "networks in angle brackets do nothing in the negative prompt"),
        ({"negative_prompt": "a AND b"}, "AND does nothing in the negative prompt"),
        ({"prompt": "(a|b) [c:d:2]"}, "the prompt has a | outside of [a|b]: all of it"),
        ({"prompt": "[a:b:2] \\"}, "the prompt has a backslash at the end of a line"),
        ({"prompt": "x AND a|b [c:d:2]"}, "that side of AND"),
        ({"negative_prompt": "(a|b) [c:d:2]"}, "the negative prompt has a |"),
        ({"prompt": "ratio 16:9"}, "the weight 9 of the whole prompt"),
        ({"prompt": "(a BREAK b:1.2)"}, "BREAK inside weighted brackets"),
        ({"prompt": "[a|b|c|d|e|f]" + "x, " * 10_000}, "shorten the prompt"),
    ],
)
def test_what_is_noted(fields: dict[str, Any], note: str) -> None:
    notes = checked(networks=("here",), **fields).notes
    assert len(notes) == 1
    assert note in notes[0]


@pytest.mark.parametrize("prompt", ["a cat", "a|b", "a \\", "(a:1.2) BREAK b", "[a|b] [c:d:.5]", "{a|b}"])
def test_what_is_not_noted(prompt: str) -> None:
    assert checked(prompt=prompt, negative_prompt="a, b").notes == ()


def test_an_undecided_seed_shows_an_example(library: Library) -> None:
    assert checked(library, prompt="__colour__ {a|b}", seed=-1) == checked(library, prompt="__colour__ {a|b}", seed=0)


def test_long_alternations_are_cut_short() -> None:
    side = checked(prompt="[a|b]", steps=150).sides[0]
    assert len(side.stages) == MAX_STAGES
    assert side.more == 149 - MAX_STAGES


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([*"[]():|\\{}#", " AND ", "BREAK", "<lora:x>", "1.5", "a", "__x__", "2$$"]), max_size=20).map(
        "".join
    ),
    st.sampled_from(["Original", "No norm", "Ignore", "None"]),
    st.sampled_from(["Euler", "Heun"]),
)
def test_any_prompt_can_be_checked_and_told_as_json(prompt: str, emphasis: str, sampler: str) -> None:
    made = checked(prompt=prompt, negative_prompt=prompt, emphasis=emphasis, sampler=sampler)
    for side in (*made.sides, made.negative):
        assert side.stages[0].first == 1
        assert side.stages[-1].last == 10
    json.dumps(dataclasses.asdict(made))
