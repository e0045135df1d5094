"""Pictures of every program, in every kind of file that it writes, and what nobody meant to be read."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sd_parsers import ParserManager

from modules.errors import RequestError
from modules.images import exif
from modules.images.readers import ExtraNetwork, names
from modules.images.reading import Found, read_picture, read_text, user_comment
from modules.request import parse_request
from tests.images import foreign

KINDS = ["PNG", "JPEG", "WEBP", "AVIF"]


def told(found: Found, *names: str) -> tuple[Any, ...]:
    return tuple(found.fields.get(name) for name in names)


def a1111_file(kind: str, text: str) -> bytes:
    return foreign.png(parameters=text) if kind == "PNG" else foreign.commented(kind, text)


@pytest.mark.parametrize("kind", KINDS)
def test_a1111_in_every_kind_of_file(kind: str) -> None:
    found = read_picture(a1111_file(kind, foreign.A1111))
    assert (found.program, found.version, found.format) == ("A1111", "v1.10.1", kind)
    assert (found.width, found.height) == (64, 48)
    assert found.infotext == foreign.A1111
    assert found.fields["prompt"] == found.prompt == "a cat, <lora:fur:0.8>"
    assert told(found, "negative_prompt", "steps", "sampler", "schedule") == ("dog, bad_hands", 25, "DPM++ 2M", "Karras")
    assert told(found, "cfg_scale", "seed", "width", "height", "clip_skip") == (6.5, 123, 512, 768, 2)
    assert found.fields["rng"] == "GPU"
    assert found.checkpoints == ("6ce0161689", "v1-5-pruned")
    assert found.networks == (
        ExtraNetwork("lora", "fur", "0123456789ab"),
        ExtraNetwork("embedding", "bad_hands", "abcdef012345"),
    )
    assert list(found.items)[:3] == ["Steps", "Sampler", "Schedule type"]
    assert "Size-1" not in found.items
    assert parse_request(found.fields)


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize(
    ("code", "encoding"),
    [
        (b"UNICODE\0", "utf-16-be"),
        (b"UNICODE\0", "utf-16-le"),
        (b"UNICODE\0", "utf-16"),
        (b"ASCII\0\0\0", "ascii"),
        (bytes(8), "utf-8"),
        (b"", "utf-8"),
    ],
)
def test_comments_in_every_code(kind: str, code: bytes, encoding: str) -> None:
    assert read_picture(foreign.commented(kind, foreign.A1111, code, encoding)).infotext == foreign.A1111


def test_comments_of_other_scripts() -> None:
    for text in ("猫がいる " * 9 + "a", "кот на коврике", "שלום", "👩🏽‍🎨 a"):
        for order in ("utf-16-be", "utf-16-le"):
            assert user_comment(b"UNICODE\0" + ("cat, " + text).encode(order)) == "cat, " + text
    assert user_comment(b"JIS\0\0\0\0\0" + "猫".encode("iso2022_jp")) == "猫"


@pytest.mark.parametrize(
    ("text", "program"),
    [(foreign.FORGE, "Forge"), (foreign.SDNEXT, "SD.Next"), (foreign.A1111.replace("v1.10.1", "Atelier 0.1.0"), "Atelier")],
)
def test_who_wrote_the_text(text: str, program: str) -> None:
    assert read_picture(foreign.png(parameters=text)).program == program


@pytest.mark.parametrize(
    "make",
    [
        foreign.comfyui,
        lambda: foreign.comfyui_webp(foreign.COMFY),
        lambda: foreign.png(workflow=json.dumps(foreign.comfy_workflow(foreign.COMFY))),
        lambda: foreign.commented("JPEG", json.dumps(foreign.COMFY)),
        lambda: foreign.commented("JPEG", json.dumps({"prompt": foreign.COMFY, "workflow": {}})),
        lambda: foreign.with_exif("AVIF", {exif.MAKE: b"Prompt:" + json.dumps(foreign.COMFY).encode()}),
    ],
    ids=["png", "webp", "drawn alone", "comment", "in a comment", "another tag"],
)
def test_a_graph_of_comfyui(make: Callable[[], bytes]) -> None:
    found = read_picture(make())
    assert found.program == "ComfyUI"
    assert (found.prompt, found.negative_prompt) == ("a glass (bottle:1.2)", "text, watermark")
    assert told(found, "steps", "cfg_scale", "seed") == (20, 8.0, 156680208)
    assert told(found, "sampler", "schedule", "width", "height") == ("DPM++ 2M SDE", "Karras", 640, 512)
    assert told(found, "clip_skip", "rng", "emphasis") == (2, "CPU", "No norm")
    assert found.checkpoints == ("dream",)
    assert found.networks == (ExtraNetwork("lora", "fur"),)
    assert "denoising_strength" not in found.fields
    assert found.infotext.startswith("a glass (bottle:1.2)\nNegative prompt: text, watermark\nSteps: 20, Sampler: DPM++ 2M SDE")


def test_a_graph_in_parts_with_boxes_and_subgraphs() -> None:
    found = read_picture(foreign.comfyui(foreign.COMFY_CUSTOM))
    assert (found.prompt, found.negative_prompt) == ("a lighthouse BREAK at night", "")
    assert told(found, "seed", "steps", "cfg_scale", "sampler", "schedule") == (42, 12, 4.5, "Euler a", "SGM Uniform")
    assert told(found, "width", "height", "denoising_strength") == (768, 768, 0.6)
    assert found.checkpoints == ("flux1-dev",)


def test_a_graph_without_a_sampler_is_named() -> None:
    for texts in ({"workflow": '{"nodes": [], "links": []}'}, {"prompt": '{"1": {"class_type": "LoadImage", "inputs": {}}}'}):
        found = read_picture(foreign.png(**texts))
        assert (found.program, found.fields) == ("ComfyUI", {})
        assert "no sampler that is known here" in found.notes[0]


SD_PARSERS = {
    "ComfyUI": foreign.comfyui,
    "Fooocus": foreign.fooocus,
    "InvokeAI": foreign.invokeai,
    "InvokeAI 2": foreign.invokeai_2,
    "NovelAI": foreign.novelai,
    "A1111": lambda: foreign.png(parameters=foreign.A1111),
}


@pytest.mark.parametrize("program", SD_PARSERS)
def test_another_library_finds_the_same(program: str, tmp_path: Path) -> None:
    """That the pictures above are as those programs write them: sd-parsers 0.6 was made for the real ones."""
    path = tmp_path / "picture.png"
    path.write_bytes(SD_PARSERS[program]())
    theirs, ours = ParserManager().parse(path), read_picture(path.read_bytes())
    assert theirs is not None
    assert theirs.generator.value.replace("AUTOMATIC1111", "A1111") == ours.program
    (sampler,) = theirs.samplers
    assert names.sampler(sampler.name.removesuffix(" Karras"))[0] == ours.fields["sampler"]
    assert int(sampler.parameters["seed"]) == ours.fields["seed"]
    assert float(sampler.parameters.get("cfg_scale", ours.fields["cfg_scale"])) == ours.fields["cfg_scale"]
    assert int(sampler.parameters.get("steps", ours.fields["steps"])) == ours.fields["steps"]
    words = "".join(prompt.value for prompt in sampler.prompts)
    assert words in ours.prompt or program in ("NovelAI", "Fooocus")  # which we show weighted, and in full


def test_of_two_passes_the_first_is_shown() -> None:
    graph = copy.deepcopy(foreign.COMFY)
    graph["20"] = copy.deepcopy(graph["3"])
    graph["20"]["inputs"] |= {"latent_image": ["21", 0], "denoise": 0.5, "seed": 2, "steps": 8}
    graph["21"] = {"class_type": "LatentUpscale", "inputs": {"width": 1280, "height": 1024, "samples": ["3", 0]}}
    graph["8"]["inputs"]["samples"] = ["20", 0]
    found = read_picture(foreign.comfyui(graph))
    assert told(found, "seed", "steps", "width", "height") == (156680208, 20, 640, 512)
    assert "its graph samples 2 times; these are the settings of the first" in found.notes


def test_what_a_graph_asks_beyond_our_ranges_is_reported() -> None:
    graph = copy.deepcopy(foreign.COMFY)
    graph["3"]["inputs"] |= {"seed": 2**64, "steps": 999}
    graph["5"]["inputs"] |= {"width": 500}
    found = read_picture(foreign.comfyui(graph))
    assert "seed" not in found.fields
    assert "steps" not in found.fields
    assert found.fields["width"] == 504
    assert any("seed" in note and "18446744073709551616" in note for note in found.notes)
    assert any(note.startswith("width: 500 is painted as 504") for note in found.notes)
    assert found.items["Seed"] == str(2**64)


HOSTILE_GRAPHS: dict[str, Any] = {
    "a circle": {str(n): {"class_type": "KSampler", "inputs": {"steps": 1, "sampler_name": "euler", "model": [str(1 - n), 0],
        "positive": [str(1 - n), 0], "latent_image": [str(1 - n), 0], "seed": [str(n), 0]}} for n in range(2)},
    "a link to nowhere": {"1": {"class_type": "SaveImage", "inputs": {"images": ["99", 0]}}},
    "a long chain": {str(n): {"class_type": "Save", "inputs": {"images": [str(n + 1), 0]}} for n in range(9_000)},
    "all linked": {str(n): {"class_type": "Save", "inputs": {f"i{m}": [str(m), 0] for m in range(99)}} for n in range(99)},
    "sizes by long ways": {"0": {"class_type": "K", "inputs": {"steps": 1, "sampler_name": "x", "latent_image": ["1", 0]}}} | {
        str(n): {"class_type": "L", "inputs": {"width": [str(n + 1), 0], "height": [str(n + 1), 0]}} for n in range(1, 9_000)},
    "a sampler of lists": {"1": {"class_type": "K", "inputs": {"steps": [[]], "sampler_name": {}, "seed": [], "cfg": None}}},
    "no nodes": {"1": 5, "2": [], "3": {"class_type": 1, "inputs": 2}, "4": {"class_type": "K"}},
    "deep text": {"1": {"class_type": "KSampler", "inputs": {"steps": 1, "sampler_name": "x", "positive": ["1", 0]}}},
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE_GRAPHS)
def test_hostile_graphs_are_walked_to_an_end(case: str) -> None:
    found = read_picture(foreign.comfyui(HOSTILE_GRAPHS[case]))
    assert found.program in ("ComfyUI", "")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a":' * 100_000,
        '{"1":' + "9" * 100_000 + "}",
        '{"a": NaN}',
        "{}",
        "null",
        '{"c":1,"uc":2}',
        '"x"',
        "\0",
    ],
)
@pytest.mark.parametrize("keyword", ["prompt", "parameters", "invokeai_metadata", "sd_dash_metadata", "Dream", "Comment"])
def test_hostile_json_is_no_exception(text: str, keyword: str) -> None:
    read_picture(foreign.png(Software="NovelAI", **{keyword: text}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.data())
def test_any_value_in_any_place_is_no_exception(data: st.DataObject) -> None:
    """Every program's own object with some of its values replaced by others."""
    keyword, original = data.draw(
        st.sampled_from(
            [
                ("prompt", foreign.COMFY),
                ("prompt", foreign.COMFY_CUSTOM),
                ("workflow", foreign.comfy_workflow(foreign.COMFY)),
                ("invokeai_metadata", foreign.INVOKE),
                ("sd_dash_metadata", foreign.INVOKE_2),
                ("parameters", foreign.FOOOCUS),
                ("parameters", foreign.SWARM),
                ("Comment", foreign.NAI_COMMENT),
            ]
        )
    )
    changed = copy.deepcopy(original)
    for _ in range(data.draw(st.integers(1, 4))):
        place: Any = changed
        while place and isinstance(place, (dict, list)):
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[key], (dict, list)) or data.draw(st.booleans()):
                place[key] = data.draw(JSON)
                break
            place = place[key]
    found = read_picture(foreign.png(Software="NovelAI", **{keyword: json.dumps(changed)}))
    for name, value in found.fields.items():
        parse_request({"source": "0" * 64, name: value})


def test_invokeai_of_today() -> None:
    found = read_picture(foreign.invokeai())
    assert (found.program, found.version) == ("InvokeAI", "4.2.9")
    assert (found.prompt, found.negative_prompt) == ("a landscape", "low quality")
    assert told(found, "steps", "cfg_scale", "seed", "width", "height") == (50, 7.5, 356120443, 768, 432)
    assert told(found, "sampler", "schedule", "rng", "cfg_rescale", "clip_skip") == ("DPM++ 2M SDE", "Karras", "CPU", 0.5, 2)
    assert found.checkpoints == ("amixx",)
    assert found.networks == (ExtraNetwork("lora", "fur"),)


def test_invokeai_2_has_the_negative_prompt_in_brackets() -> None:
    found = read_picture(foreign.invokeai_2())
    assert (found.program, found.version) == ("InvokeAI", "2.3.5")
    assert (found.prompt, found.negative_prompt) == ("a castle", "ugly, grey")
    assert told(found, "steps", "seed", "width", "height", "sampler") == (30, 99, 640, 512, "LMS")
    assert found.checkpoints == ("cc6cb27103", "stable-diffusion-1.5")


def test_invokeai_1_has_a_command_line() -> None:
    found = read_picture(foreign.invokeai_1())
    assert (found.program, found.prompt, found.negative_prompt) == ("InvokeAI", "a castle", "ugly")
    assert told(found, "steps", "seed", "width", "height", "cfg_scale", "sampler") == (50, 4178962880, 512, 640, 7.5, "Euler a")


@pytest.mark.parametrize("make", [foreign.fooocus, foreign.fooocus_jpeg])
def test_fooocus_in_its_own_scheme(make: Callable[[], bytes]) -> None:
    found = read_picture(make())
    assert (found.program, found.version) == ("Fooocus", "Fooocus v2.5.5")
    assert (found.prompt, found.negative_prompt) == ("cinematic still a fox, a fox, sharp", "blur, noise")
    assert told(found, "steps", "cfg_scale", "seed", "width", "height") == (30, 4.0, 6245, 1152, 896)
    assert told(found, "sampler", "schedule", "clip_skip") == ("DPM++ 2M SDE", "Karras", 2)
    assert found.checkpoints == ("aeb7e9e689", "juggernautXL")
    assert found.networks == (ExtraNetwork("lora", "sd_xl_offset", "4852686128ff"),)


@pytest.mark.parametrize("make", [foreign.swarm, lambda: foreign.commented("JPEG", json.dumps(foreign.SWARM))])
def test_swarm(make: Callable[[], bytes]) -> None:
    found = read_picture(make())
    assert (found.program, found.version) == ("SwarmUI", "0.9.1.1")
    assert (found.prompt, found.negative_prompt) == ("a lighthouse", "fog")
    assert told(found, "steps", "cfg_scale", "seed", "width", "height") == (25, 7.0, 2042464333, 832, 1216)
    assert told(found, "sampler", "schedule", "rng") == ("DPM++ 2M", "Karras", "CPU")
    assert found.checkpoints == ("sd_xl_base_1.0",)
    assert found.networks == (ExtraNetwork("lora", "fur"),)


def test_fooocus_in_a1111_s_scheme() -> None:
    found = read_picture(foreign.fooocus_a1111())
    assert (found.program, found.prompt, found.negative_prompt) == ("Fooocus", "cinematic a fox", "blur")
    assert told(found, "sampler", "schedule", "seed", "width") == ("DPM++ 2M SDE", "Karras", 6245, 1152)
    assert found.checkpoints == ("aeb7e9e689", "juggernautXL")


@pytest.mark.parametrize(
    "data",
    [
        foreign.novelai(),
        foreign.hide(json.dumps(foreign.NAI)),
        foreign.with_exif("WEBP", {exif.USER_COMMENT: json.dumps(foreign.NAI).encode(), exif.SOFTWARE: b"NovelAI"}),
    ],
    ids=["chunks", "hidden", "webp"],
)
def test_novelai_open_and_hidden(data: bytes) -> None:
    found = read_picture(data)
    assert (found.program, found.version) == ("NovelAI", "Stable Diffusion XL C1E1DE52")
    assert (found.prompt, found.negative_prompt) == ("1girl, (smile:1.05), (hat:0.907)", "lowres")
    assert told(found, "steps", "cfg_scale", "seed", "width", "height") == (28, 5.0, 2468, 832, 1216)
    assert told(found, "sampler", "schedule", "cfg_rescale") == ("Euler a", "Karras", 0.2)
    assert told(found, "clip_skip", "ensd") == (2, 31337)
    assert found.checkpoints == ("C1E1DE52", "Stable Diffusion XL")


def test_novelai_4_has_a_structured_prompt() -> None:
    caption = {"base_caption": "two people", "char_captions": [{"char_caption": "a girl"}, {"char_caption": "{{a}} boy"}]}
    comment = {**foreign.NAI_COMMENT, "v4_prompt": {"caption": caption}}
    found = read_picture(foreign.png(Software="NovelAI", Comment=json.dumps(comment)))
    assert found.prompt == "two people, a girl, (a:1.1025) boy"


@pytest.mark.parametrize("place", ["png", "rgb"])
@pytest.mark.parametrize("packed", [True, False])
def test_a1111_s_text_hidden_in_pixels(place: str, packed: bool) -> None:
    found = read_picture(foreign.hide(foreign.A1111, place, packed))
    assert (found.program, found.infotext) == ("A1111", foreign.A1111)


def test_what_is_hidden_does_not_matter_where_something_is_reported() -> None:
    image = foreign.hide("x\nSteps: 1, Sampler: Euler, Seed: 9")
    assert read_picture(image).fields["seed"] == 9


def test_a_hidden_length_that_lies_is_nothing() -> None:
    mark = b"stealth_pnginfo" + (2**32 - 1).to_bytes(4, "big")
    image = foreign.picture("RGBA")
    bits = [byte >> shift & 1 for byte in mark for shift in range(7, -1, -1)]
    for at, bit in enumerate(bits):
        place = (at // image.height, at % image.height)
        red, green, blue, _ = image.getpixel(place)
        image.putpixel(place, (red, green, blue, 254 | bit))
    assert read_picture(foreign.png(image)).program == ""


@pytest.mark.parametrize(
    "data",
    [
        foreign.draw_things(),
        foreign.with_exif("JPEG", {}, foreign.draw_things_xmp().encode()),
        foreign.commented("JPEG", json.dumps(foreign.DRAW_THINGS)),
    ],
    ids=["png", "jpeg", "comment"],
)
def test_draw_things(data: bytes) -> None:
    found = read_picture(data)
    assert (found.program, found.prompt, found.negative_prompt) == ("Draw Things", "a boat & a <sail>", "blurry")
    assert told(found, "steps", "cfg_scale", "seed", "width", "height") == (24, 4.5, 777, 512, 640)
    assert told(found, "sampler", "schedule") == ("DPM++ 2M", "Karras")
    assert found.checkpoints == ("realistic_vision",)
    assert found.networks == (ExtraNetwork("lora", "fur_lora"),)


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_says_nothing(kind: str) -> None:
    data = foreign.png(Comment="my holiday") if kind == "PNG" else foreign.commented(kind, "my holiday")
    found = read_picture(data)
    assert (found.program, found.fields, found.infotext) == ("", {}, "")
    assert "my holiday" in found.texts.values()


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(50), foreign.png()[:60]])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(RequestError, match=r"^holiday\.png"):
        read_picture(data, "holiday.png")


def test_a_pasted_text() -> None:
    found = read_text(foreign.A1111)
    assert (found.program, found.fields["seed"], found.format) == ("A1111", 123, "")
    assert read_text("just a prompt").program == ""


def test_what_nobody_here_does_is_reported() -> None:
    text = foreign.A1111.replace(
        "Clip skip: 2", "Hires upscale: 2, Denoising strength: 0.5, Face restoration: CodeFormer, Tiling: True"
    )
    found = read_text(text)
    assert "made with face restoration, tiling, which is not taken over" in found.notes
    assert "denoising_strength" not in found.fields
    assert found.fields["hires"]["denoising_strength"] == 0.5, "a second pass is taken over"
    found = read_text(text.replace("Hires upscale: 2", "Hires upscale: 2, Hires upscaler: R-ESRGAN 4x+"))
    assert "made with face restoration, tiling, which is not taken over" in found.notes
    assert found.fields["hires"]["upscaler"] == "R-ESRGAN 4x+", "whether it is here is for the catalogue to say"


def test_hypernetworks_are_words_of_the_prompt() -> None:
    found = read_text("a <hypernet:film:1>\nSteps: 20, Sampler: Euler, Seed: 1, Hypernet: anime, Hypernet strength: 0.5")
    assert found.fields["prompt"] == "a <hypernet:film:1><hypernet:anime:0.5>"
    assert [(network.kind, network.name) for network in found.networks] == [("hypernetwork", "anime"), ("hypernetwork", "film")]
    assert found.notes == ()


def test_two_thousand_damaged_pictures_of_every_program() -> None:
    dice = random.Random(5)
    files = [
        a1111_file("PNG", foreign.A1111),
        a1111_file("JPEG", foreign.A1111),
        a1111_file("WEBP", foreign.A1111),
        a1111_file("AVIF", foreign.A1111),
        foreign.comfyui_webp(foreign.COMFY),
        foreign.draw_things(),
        foreign.fooocus_jpeg(),
    ]
    programs = set()
    for number in range(2_000):
        data = bytearray(files[number % len(files)])
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(min(len(data), 3_000))] = dice.randrange(256)
        try:
            programs.add(read_picture(bytes(data)).program)
        except RequestError:
            programs.add("refused")
    assert {"refused", "A1111", "ComfyUI", "Fooocus"} <= programs
