"""What the networks of several stages say in a picture's text."""

from __future__ import annotations

from modules.pipelines.extra_networks import both_said


def test_lists_of_two_stages_are_one_list() -> None:
    first = {"Lora hashes": "glow: 0123456789ab, ink: aaaaaaaaaaaa", "Networks left out": "<lora:gone:1>"}
    second = {
        "Lora hashes": "ink: aaaaaaaaaaaa, my lace: bbbbbbbbbbbb",
        "Networks left out": "<lora:gone:1> <hypernet:far away:0.5>",
        "TI hashes": "frog: 0123",
    }
    assert both_said(first, second) == {
        "Lora hashes": "glow: 0123456789ab, ink: aaaaaaaaaaaa, my lace: bbbbbbbbbbbb",
        "Networks left out": "<lora:gone:1> <hypernet:far away:0.5>",
        "TI hashes": "frog: 0123",
    }


def test_of_anything_else_the_last_stage_decides() -> None:
    assert both_said({"Emphasis": "No norm", "a": "1"}, {"a": "2"}) == {"Emphasis": "No norm", "a": "2"}
