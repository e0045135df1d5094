"""What is said beforehand of samplers and schedules is what a request is refused for, for every family, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules.catalogue import Catalogue
from modules.checkpoints.families import FAMILIES, Family
from modules.checkpoints.fitting import unfit
from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.schedules import SCHEDULES
from modules.errors import RequestError
from modules.prompts.library import Library
from tests import joint


def families(*names: str) -> list[Family]:
    return [family for family in FAMILIES if family.name in names]


def test_what_does_not_fit_is_what_is_refused_and_what_is_offered_fits() -> None:
    for family in FAMILIES:
        named = {(one.field, name): one for one in unfit(family) for name in one.names}
        best = family.defaults
        assert not family.refuses(best.sampler, best.schedule), family.name
        for name in SAMPLERS:
            why = family.refuses(name, "Automatic" if family.refuses_schedule("Karras") == "" else "Simple")
            one = named.get(("sampler", name))
            assert bool(why) == (one is not None), (family.name, name, why)
            if one is not None:
                assert why == f"sampler: {name} does not fit {family.title}: {one.reason}; choose {one.instead}"
                assert not family.refuses(one.instead, best.schedule)
        for label in SCHEDULES:
            one = named.get(("schedule", label))
            assert bool(family.refuses("Euler", label)) == (one is not None), (family.name, label)


def test_which_families_do_without_guidance_and_what_that_means_for_samplers_with_two_answers() -> None:
    without = {family.name for family in FAMILIES if family.unguided}
    assert {"flux", "flux-schnell", "flux-fill", "ldm-unconditional", "ldm-map"} <= without
    assert without.isdisjoint({"sd1", "sdxl", "sd3", "sd3.5", "ldm-text", "ldm-class", "ldm-layout"})
    for family in families("flux", "flux-schnell", "ldm-unconditional"):
        assert family.refuses("Euler CFG++", "Simple")
    for family in families("sd3", "ldm-class", "sdxl"):
        assert not family.refuses("Euler CFG++", "Simple")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    folder: Path = tmp_path_factory.mktemp("models")
    joint.checkpoint(folder / "sd35.safetensors", joint.SD35_MEDIUM)
    return Catalogue([folder], Library(None), lambda: None)


def test_automatic_is_a_schedule_that_fits_in_both_passes(catalogue: Catalogue) -> None:
    """A1111's clients send it; for DPM++ 2M it is Karras, which would be refused."""
    fields = {"checkpoint": "sd35", "prompt": "a cat", "sampler": "DPM++ 2M", "schedule": "Automatic"}
    hires = {"width": 128, "height": 128, "sampler": "DPM++ 2M SDE", "schedule": "Automatic"}
    request = catalogue.complete({**fields, "hires": hires})
    assert request.schedule == "Simple"
    assert request.hires is not None
    assert request.hires.schedule == "Simple"
    assert catalogue.complete({**fields, "sampler": "Euler"}).schedule == "Automatic", "which is Uniform there"


def test_the_refused_field_is_named_also_where_it_is_the_second_pass_s(catalogue: Catalogue) -> None:
    fields = {"checkpoint": "sd35", "prompt": "a cat", "sampler": "Euler", "schedule": "Simple"}
    hires = {"width": 128, "height": 128}
    for given, beginning in (
        ({"sampler": "DDIM"}, "sampler: DDIM does not fit Stable Diffusion 3.5"),
        ({"schedule": "Karras"}, "schedule: Karras does not fit"),
        ({"hires": {**hires, "sampler": "LCM"}}, "hires.sampler: LCM does not fit"),
        ({"hires": {**hires, "schedule": "Turbo"}}, "hires.schedule: Turbo does not fit"),
    ):
        with pytest.raises(RequestError) as refused:
            catalogue.complete({**fields, **given})
        assert str(refused.value).startswith(beginning)
