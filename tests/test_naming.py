"""Patterns of file names: A1111's tags, and names that no file system refuses and that lead nowhere else."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.naming import DEFAULT_FOLDER, DEFAULT_NAME, MAX_BYTES, TAGS, Facts, folder_pattern, name_pattern, safe_name

WHEN = datetime(2026, 8, 6, 12, 34, 56, tzinfo=timezone.utc).timestamp()
FACTS = Facts(
    when=WHEN, job="0123456789abcdef", index=1, count=3, seed=8, first_seed=7, last_seed=9, steps=20, cfg=7.5, width=512,
    height=768, sampler="Euler a", schedule="Karras", model_name="sub/model", model_hash="0123456789", vae="None", clip_skip=2,
    prompt="photo of a Cat, on: a mat", negative_prompt="dog", own_prompt="a Cat", styles=("photo", "mat"), denoising=0.75,
    user="owner", image_hash=lambda: "ab" * 32,
)  # fmt: skip
LOCAL = datetime.fromtimestamp(WHEN)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("[seed]-[prompt_spaces]", "8-photo of a Cat, on_ a mat"),
        ("[Seed]x[SEED_FIRST]x[seed_last]", "8x7x9"),
        ("[steps]-[cfg]-[width]x[height]", "20-7.5-512x768"),
        ("[sampler] [scheduler] [sampler_scheduler]", "Euler a Karras Euler a Karras"),
        ("[model_name]@[model_hash]", "model@0123456789"),
        ("[prompt]", "photo_of_a_Cat,_on__a_mat"),
        ("[prompt_no_styles]", "a Cat"),
        ("[prompt_words]", "photo of a Cat on a mat"),
        ("[prompt_hash][negative_prompt_hash<4>]", sha(FACTS.prompt)[:8] + sha("dog")[:4]),
        ("[full_prompt_hash<64>]", sha(f"{FACTS.prompt} dog")),
        ("[image_hash<6>]", "ababab"),
        ("[styles]", "photo, mat"),
        ("[batch_number] of [batch_size], [generation_number]", "2 of 3, 2"),
        ("[hasprompt<cat|none><dog|no dog><bird>]", "catno dog"),
        ("[seed]-d[denoising]", "8-d0.75"),
        ("[clip_skip][none][user]", "2owner"),
        ("[date] [job_timestamp]", f"{LOCAL:%Y-%m-%d %Y%m%d%H%M%S}"),
        ("[datetime]", f"{LOCAL:%Y%m%d%H%M%S}"),
        ("[datetime<%Y-%m-%d %H.%M><Asia/Tokyo>]", "2026-08-06 21.34"),
        ("[datetime<%Y/%m>]-[vae_filename]", "2026_08-None"),
    ],
)
def test_a1111s_tags(pattern: str, name: str) -> None:
    assert name_pattern(pattern).render(FACTS) == [name]


def test_what_does_not_apply_takes_the_text_before_it_along() -> None:
    alone = replace(FACTS, index=0, count=1, denoising=None)
    assert name_pattern("[seed]-n[batch_number] d[denoising]-[steps]").render(alone) == ["8-20"]


def test_the_defaults_are_the_names_of_always() -> None:
    assert name_pattern(DEFAULT_NAME).render(FACTS) == [f"{LOCAL:%H%M%S}-01234567-001-8"]
    assert folder_pattern(DEFAULT_FOLDER).render(FACTS) == [f"{LOCAL:%Y-%m-%d}"]


def test_folders() -> None:
    hostile = replace(FACTS, prompt="../../x", model_name="..")
    assert folder_pattern("a/[seed]\\[steps]").render(FACTS) == ["a", "8", "20"]
    assert folder_pattern("[prompt]/[model_name]//").render(hostile) == ["_.._.._x"]
    assert folder_pattern("").render(FACTS) == []


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("[sead]", r"\[sead\] is none; did you mean \[seed\]"),
        ("[zzzz]", r"\[zzzz\] is none; known are \[basename\]"),
        ("[seed", "enclose one tag each"),
        ("[seed]]", "enclose one tag each"),
        ("[seed<3>]", r"\[seed\] is followed by nothing"),
        ("[datetime<%Q>]", "not %Q"),
        ("[datetime<%>]", "not %"),
        ("[datetime<%Y><../../etc/passwd>]", "a time zone such as"),
        ("[datetime<a><b><c>]", "a format and a time zone"),
        ("[hasprompt]", r"\[hasprompt<word"),
        ("[prompt_hash<0>]", "from 1 to 64"),
        ("x" * 501, "at most 500"),
        ("../[seed]", "without '..'"),
        ("a/" * 9, "at most 8 folders"),
        ("[seed]\n", "can be seen"),
        ("[counter]/[date]", r"\[counter\] is not: it counts files"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_set(pattern: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        folder_pattern(pattern)


def test_a_name_has_no_folders_and_at_least_one_tag() -> None:
    with pytest.raises(ValueError, match="belong into output_folder"):
        name_pattern("[seed]/[steps]")
    with pytest.raises(ValueError, match="with a tag"):
        name_pattern("picture")
    assert name_pattern("[counter]-[seed]").counts
    assert not name_pattern("[seed]").counts
    for pattern in ("[seed]-[counter]", "x[counter]", "[counter]-[counter]"):
        with pytest.raises(ValueError, match="comes first, and once"):
            name_pattern(pattern)


@given(st.text(), st.text(max_size=20), st.sampled_from(sorted(TAGS)))
def test_no_text_makes_a_dangerous_name(prompt: str, literal: str, tag: str) -> None:
    facts = replace(FACTS, prompt=prompt, own_prompt=prompt, model_name=prompt, sampler=prompt, styles=(prompt,), user=prompt)
    for name in (
        safe_name(literal + prompt),
        *name_pattern(f"[{tag}][prompt]" if tag != "hasprompt" else "[prompt]").render(facts),
    ):
        assert len(name.encode()) <= MAX_BYTES
        assert not re.search(r'[<>:"/\\|?*\x00-\x1f]', name)
        assert not name.startswith((".", " "))
        assert not name.endswith((".", " "))
        assert name.partition(".")[0].strip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}
