"""What scripts make of a request: cells, their order and seeds, and errors that name the axis, the value or the line."""

from __future__ import annotations

from typing import Any

import pytest

from modules.errors import RequestError
from modules.request import GenerationRequest, parse_request
from modules.scripts.axes import find_axis
from modules.scripts.parsing import plan_of
from modules.scripts.plan import Plan, ScriptError
from tests.scripts.test_axes import NAMES

BASE: dict[str, Any] = {"prompt": "a cat", "steps": 4, "seed": 7, "width": 64, "height": 64}


def prepared(fields: dict[str, Any]) -> GenerationRequest:
    return parse_request({name: value for name, value in fields.items() if value is not None})


def plan(name: str, base: dict[str, Any] = BASE, **options: Any) -> Plan:
    return plan_of({"name": name, **options}, base, NAMES, prepared)


def plot(base: dict[str, Any] = BASE, **options: Any) -> Plan:
    return plan("xyz", base, **options)


def each(found: Plan, name: str) -> list[Any]:
    return [found.fields(number).get(name) for number in range(len(found.cells))]


def test_cells_go_along_x_then_y_then_z() -> None:
    found = plot(x_type="Steps", x_values="1-3", y_type="CFG Scale", y_values="5, 7", z_type="Size", z_values="64x64, 128x64")
    assert (len(found.columns), len(found.rows), len(found.sheets)) == (3, 2, 2)
    assert each(found, "steps") == [1, 2, 3] * 4
    assert each(found, "cfg_scale") == [5, 5, 5, 7, 7, 7] * 2
    assert each(found, "width") == [64] * 6 + [128] * 6
    assert [heading[0][0] for heading in found.columns] == ["Steps: 1", "Steps: 2", "Steps: 3"]
    assert found.sheets == ("Size: 64x64", "Size: 128x64")
    assert found.submitted == tuple(range(12))
    assert all(found.fields(number)["prompt"] == "a cat" for number in range(12))


def test_the_dearest_axis_changes_least_often() -> None:
    found = plot(
        x_type="Checkpoint name",
        x_values="tiny, sub/other",
        y_type="VAE",
        y_values="Automatic, None",
        z_type="Steps",
        z_values="1,2",
    )
    models = [found.fields(number)["checkpoint"] for number in found.submitted]
    assert models == ["tiny"] * 4 + ["sub/other"] * 4
    vaes = [found.fields(number)["vae"] for number in found.submitted[:4]]
    assert vaes == ["Automatic", "Automatic", "None", "None"]
    assert sorted(found.submitted) == list(range(8))


def test_seeds_are_drawn_once_unless_they_are_to_stay_random() -> None:
    random = {**BASE, "seed": -1}
    fixed = plot(random, x_type="Steps", x_values="1,2")
    assert len(set(each(fixed, "seed"))) == 1
    assert each(fixed, "seed")[0] >= 0
    kept = plot(random, x_type="Steps", x_values="1,2", no_fixed_seeds=True)
    assert each(kept, "seed") == [-1, -1]
    seeds = plot(x_type="Seed", x_values="-1,-1,5")
    assert each(seeds, "seed")[2] == 5
    assert min(each(seeds, "seed")) >= 0
    assert seeds.items["X Values"] == "-1, -1, 5"
    assert seeds.items["Fixed X Values"] == ", ".join(map(str, each(seeds, "seed")))


def test_cells_that_vary_the_seed_share_the_variation() -> None:
    found = plot(x_type="Var. strength", x_values="0, 0.2, 0.4")
    assert len(set(each(found, "variation_seed"))) == 1
    assert each(found, "variation_seed")[0] >= 0
    kept = plot(x_type="Var. strength", x_values="0.2", no_fixed_seeds=True)
    assert each(kept, "variation_seed") == [None]


def test_seeds_vary_along_axes_as_in_a1111() -> None:
    found = plot(x_type="Steps", x_values="1,2", y_type="CFG Scale", y_values="5,6", z_type="Size", z_values="64x64,128x64",
                 vary_seeds_x=True, vary_seeds_z="True")  # fmt: skip
    assert each(found, "seed") == [7, 8, 7, 8, 9, 10, 9, 10]


def test_search_and_replace_along_two_axes() -> None:
    base = {**BASE, "prompt": "a cat on grass"}
    found = plot(base, x_type="Prompt S/R", x_values="cat, dog", y_type="Prompt S/R", y_values='grass, "snow, at night"')
    assert each(found, "prompt") == ["a cat on grass", "a dog on grass", "a cat on snow, at night", "a dog on snow, at night"]
    assert found.items["Y Values"] == 'grass, "snow, at night"'


@pytest.mark.parametrize(
    ("options", "place", "words"),
    [
        ({"x_type": "Sampler", "x_values": "Euler, Euler z"}, "x_values", "X, Sampler: sampler 'Euler z' is not here"),
        ({"y_type": "Prompt S/R", "y_values": "wolf, dog"}, "y_values", "Y, Prompt S/R: 'wolf' is in neither prompt"),
        ({"x_type": "Steps", "x_values": " "}, "x_values", "X, Steps: no values are given"),
        ({"x_type": "Steps", "x_values": "1, 200"}, "x_values", "X, Steps '200': steps: "),
        ({"x_type": "Steps", "x_values": "0, 1"}, "x_values", "X, Steps '0': steps: "),
        ({"z_type": "Weather", "z_values": "rain"}, "z_type", "Z: axis 'Weather' is not here"),
        ({"x_type": "Steps", "x_values": "1-5", "y_type": "Steps", "y_values": "1"}, "y_type", "X and Y are both Steps"),
        (
            {"x_type": "Seed", "x_values": "1-100", "y_type": "Steps", "y_values": "1-20"},
            "",
            "2,000 cells, and 1,000 is the most",
        ),
        ({"x_type": "Size", "x_values": "2048x2048", "y_type": "Seed", "y_values": "1-40"}, "", "megapixels"),
        ({"x_type": "Steps", "x_values": "1", "margin_size": 501}, "margin_size", "the margin is 0 to 500"),
        ({"x_type": "Hires steps", "x_values": "1"}, "x_values", "there is no second pass"),
    ],
)
def test_errors_name_axis_and_value(options: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(ScriptError) as error:
        plot(**options)
    assert words in str(error.value)
    assert error.value.place == place


def test_an_error_of_the_form_is_none_of_an_axis() -> None:
    with pytest.raises(RequestError, match="cfg_scale") as error:
        plot({**BASE, "cfg_scale": 900.0}, x_type="Steps", x_values="1,2")
    assert not isinstance(error.value, ScriptError)


def test_a_grid_of_grids_that_is_too_large_is_split_and_said() -> None:
    found = plot({**BASE, "width": 1024, "height": 1024}, x_type="Seed", x_values="1-8", y_type="Steps", y_values="1-8",
                 z_type="CFG Scale", z_values="1-3")  # fmt: skip
    assert "so there is a grid for each value of Z" in found.notes[0]


def test_a_picture_from_a_picture_has_its_own_axes() -> None:
    base = {**BASE, "source": "0" * 64}
    found = plot(base, x_type="Denoising", x_values="0.2, 0.4")
    assert each(found, "denoising_strength") == [0.2, 0.4]
    assert find_axis("Denoising", False).key == "hires.denoising_strength"


# ---- prompt matrix


def test_a_matrix_has_every_combination() -> None:
    found = plan("matrix", {**BASE, "prompt": "a cat | red | at [day|night] "})
    assert each(found, "prompt") == ["a cat", "a cat, red", "a cat, at [day|night]", "a cat, red, at [day|night]"]
    assert found.columns == ((("red", False),), (("red", True),))
    assert found.rows == ((("at [day|night]", False),), (("at [day|night]", True),))
    assert each(found, "seed") == [7] * 4


def test_commas_around_the_parts_of_a_matrix_are_not_doubled() -> None:
    found = plan("matrix", {**BASE, "prompt": "a cat | red, | , at night"})
    assert each(found, "prompt") == ["a cat", "a cat, red", "a cat, at night", "a cat, red, at night"]


def test_a_matrix_as_it_is_asked_for() -> None:
    base = {**BASE, "negative_prompt": "blurry|dark|old"}
    options = {"put_at_start": True, "different_seeds": True, "prompt_type": "negative", "variations_delimiter": "space"}
    found = plan("matrix", base, **options)
    assert each(found, "negative_prompt") == ["blurry", "dark blurry", "old blurry", "dark old blurry"]
    assert each(found, "seed") == [7, 8, 9, 10]


@pytest.mark.parametrize(
    ("prompt", "words"), [("a cat", "has no |"), ("|".join("abcdefghijkl"), "2,048 combinations; 9 parts")]
)
def test_a_matrix_says_what_is_wrong_with_its_prompt(prompt: str, words: str) -> None:
    with pytest.raises(ScriptError) as error:
        plan("matrix", {**BASE, "prompt": prompt})
    assert words in str(error.value)
    assert error.value.place == "prompt"


# ---- prompts from a text


def test_lines_are_prompts_or_flags() -> None:
    text = (
        'an apple\n\n--prompt "a red cat" --negative_prompt "dark, old" --steps 9 --width 135 --sampler_name "Euler a"\n'
        "--prompt two words --seed -1 --n_iter 2 --batch_size 3 --restore_faces false --sd_model tiny"
    )
    found = plan("prompts", {**BASE, "prompt": ""}, prompts=text)
    assert each(found, "prompt") == ["an apple", "a red cat", "two words"]
    assert [found.fields(1)[name] for name in ("negative_prompt", "steps", "width", "sampler")] == [
        "dark, old",
        9,
        128,
        "Euler a",
    ]
    assert found.fields(2)["count"] == 6
    assert found.fields(2)["seed"] == -1
    assert found.fields(2)["checkpoint"] == "tiny"
    assert not found.draw_sheet


def test_where_a_lines_prompt_stands() -> None:
    prompts = {
        position: each(plan("prompts", prompts="red", prompt_position=position), "prompt")
        for position in ("start", "end", "none")
    }
    assert prompts == {"start": ["red a cat"], "end": ["a cat red"], "none": ["red"]}


def test_seeds_of_lines() -> None:
    random = {**BASE, "seed": -1}
    assert each(plan("prompts", random, prompts="a\nb"), "seed") == [-1, -1]
    same = each(plan("prompts", random, prompts="a\nb", same_seed=True), "seed")
    assert same[0] == same[1] >= 0
    assert each(plan("prompts", {**BASE, "count": 2}, prompts="a\nb", iterate_seed=True), "seed") == [7, 9]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--outpath_samples /tmp/x", "line 2: --outpath_samples cannot be followed: pictures go into the outputs folder"),
        ("--steps many", "line 2: --steps: must be a whole number, 'many' was given"),
        ("--steps 900", "line 2: steps: "),
        ("--colour red", "line 2: --colour: there is no such flag"),
        ("--prompt", "line 2: --prompt has no value"),
        ('--prompt "a', "line 2: its quotes do not match"),
        ("--tiling true", "line 2: --tiling: seamless tiling is not built"),
        ("--sampler_name Nobody", "line 2: --sampler_name: sampler 'Nobody'"),
        ("--steps 4 5", "'5' belongs to no flag"),
    ],
)
def test_errors_of_lines_have_their_number(line: str, words: str) -> None:
    with pytest.raises(ScriptError) as error:
        plan("prompts", prompts=f"fine\n{line}")
    assert words in str(error.value)
    assert error.value.place == "prompts"


def test_no_lines_are_refused() -> None:
    with pytest.raises(ScriptError, match="there are no prompts"):
        plan("prompts", prompts=" \n")


# ---- loopback


def test_loops_start_from_one_another() -> None:
    base = {**BASE, "source": "0" * 64, "denoising_strength": 0.2, "count": 2}
    found = plan("loopback", base, loops=3, final_denoising_strength=0.8, denoising_curve="Linear")
    assert each(found, "denoising_strength") == [0.2, 0.5, 0.8] * 2
    assert [cell.after for cell in found.cells] == [None, 0, 1, None, 3, 4]
    assert each(found, "seed") == [7, 8, 9, 10, 11, 12]
    assert each(found, "count") == [1] * 6
    assert found.items["Final denoising strength"] == "0.8"


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"loops": 0}, "loops"),
        ({"loops": 2.5}, "loops"),
        ({"final_denoising_strength": 2}, "final_denoising_strength"),
        ({"denoising_curve": "Steep"}, "denoising_curve"),
    ],
)
def test_loops_that_make_no_sense(options: dict[str, Any], place: str) -> None:
    with pytest.raises(ScriptError) as error:
        plan("loopback", {**BASE, "source": "0" * 64}, **options)
    assert error.value.place == place


def test_words_alone_are_not_looped() -> None:
    with pytest.raises(ScriptError, match="starts from a picture"):
        plan("loopback")


def test_a_script_that_is_not_here() -> None:
    with pytest.raises(ScriptError, match="there is no script 'sd upscale'"):
        plan("sd upscale")
