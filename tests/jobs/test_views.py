"""What the outside sees of requests and pictures."""

from __future__ import annotations

from modules.images.infotext import GenerationInfo, render
from modules.jobs.views import changed_settings, painted_words
from modules.request import Img2Img, Txt2Img, parse_request


def test_every_field_counts_that_is_not_at_its_default() -> None:
    assert changed_settings(Txt2Img(prompt="x", steps=3, cfg_scale=2.0, seed=4, sampler="Euler")) == []
    values = {"pag_scale": 3.0, "apg": True, "rng": "NV", "eta": 0.5, "comments": False, "clip_skip": 2}
    told = dict(changed_settings(Txt2Img.model_validate(values)))
    assert told["PAG scale"] == "3"
    assert (told["Eta"], told["Noise source"], told["Comments"]) == ("0.5", "NV", "off")
    assert len(told) == len(values)
    request = parse_request(
        {"source": "a" * 64, "box": (1, 2, 30, 40), "soft_inpainting": True, "soft_bias": 2.0, "mask_round": False}
    )
    assert isinstance(request, Img2Img)
    told = dict(changed_settings(request))
    assert told["Box"] == "1, 2, 30, 40"
    assert told["Soft bias"] == "2", "a field without a label of its own is named as it is"
    assert told["Mask round"] == "off"


def test_painted_words_are_those_that_were_written_into_the_text() -> None:
    for prompt, negative in (("a", ""), ("", "b"), ("", ""), ("a\nb, c: d", "e\nf"), ('"q", Steps: 3', "x")):
        info = GenerationInfo(Txt2Img(prompt=prompt, negative_prompt=negative, seed=1), "m", "", "Karras", "v1")
        assert painted_words(render(info)) == (prompt, negative)
    assert painted_words("") is None
    assert painted_words("whatever") is None
