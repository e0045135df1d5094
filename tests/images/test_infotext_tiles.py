"""The key of tiled diffusion: as the extension writes it, in all the notations in which it was written."""

from __future__ import annotations

import pytest

from modules.images.infotext import GenerationInfo, parse, render, request_fields
from modules.images.reading import _beyond
from modules.request import Txt2Img

FIELDS = {"tiled_diffusion": True, "tile_width": 768, "tile_height": 512, "tile_overlap": 384, "tile_batch": 2}
HEAD = "a cat\nSteps: 20, Sampler: Euler a, Seed: 7, Size: 1024x1024, "
OBJECT = (
    '{"Method": "Mixture of Diffusers", "Tile tile width": 96, "Tile tile height": 64, '
    '"Tile Overlap": 48, "Tile batch size": 2}'
)  # fmt: skip
QUOTED = '"' + OBJECT.replace('"', '\\"') + '"'
PYTHONS = '"' + OBJECT.replace('"', "'") + '"'


def test_a_picture_in_windows_says_so_and_is_read_again() -> None:
    request = Txt2Img(prompt="a cat", seed=7, width=1024, height=1024, **FIELDS)
    text = render(GenerationInfo(request, "m", "0" * 10, "Automatic", "Atelier 0.1.0"))
    said = parse(text)["Tiled Diffusion"]
    assert '"Method": "MultiDiffusion", "Tile tile width": 96, "Tile tile height": 64, "Tile Overlap": 48' in said
    found = request_fields(parse(text), Txt2Img)
    assert {name: found[name] for name in FIELDS} == FIELDS
    plain = render(GenerationInfo(Txt2Img(prompt="a", seed=1), "m", "0" * 10, "Automatic", "Atelier 0.1.0"))
    assert "Tiled" not in plain


@pytest.mark.parametrize("value", [OBJECT, QUOTED, PYTHONS], ids=["bare", "quoted", "python"])
def test_the_extensions_notations_are_read(value: str) -> None:
    parsed = parse(f"{HEAD}Tiled Diffusion: {value}, Version: v1.9.4")
    assert parsed["Version"] == "v1.9.4"
    found = request_fields(parsed)
    assert {**FIELDS, "tile_method": "Mixture of Diffusers"}.items() <= found.items()
    assert _beyond(parsed, False) == ()


def test_what_of_it_is_not_here_is_said() -> None:
    more = OBJECT.replace("}", ', "NoiseInv": true, "Region control": {"Region 1": {"prompt": "a"}}}')
    (said,) = _beyond(parse(f"{HEAD}Tiled Diffusion: {more}"), False)
    assert "inverted noise" in said
    assert "regions with words of their own" in said
    (said,) = _beyond(parse(f"{HEAD}Tiled Diffusion: {OBJECT.replace('Mixture of Diffusers', 'DemoFusion')}"), False)
    assert "a picture in tiles" in said
    assert not request_fields(parse(f'{HEAD}Tiled Diffusion: "{{{"x" * 9000}"')).get("tiled_diffusion")
