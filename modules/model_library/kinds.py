"""The kinds of model files that are listed, the folders that hold each, and what one writes to use one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SAFE = ".safetensors"
PICKLES = (".pt", ".pth", ".bin", ".ckpt")
"""Suffixes of PyTorch pickles, which are listed and never opened."""


@dataclass(frozen=True)
class Kind:
    """A kind of model file.

    `folders` are the names, in any case, of the folders of a models folder that hold it; checkpoints are in all others.
    `used`: whether this version can paint with it.
    """

    name: str
    title: str
    folders: frozenset[str] = frozenset()
    used: bool = True


def _kind(name: str, title: str, *folders: str, used: bool = True) -> Kind:
    return Kind(name, title, frozenset(folders), used)


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        _kind("checkpoint", "checkpoint"),
        _kind("vae", "VAE", "vae", "vaes"),
        _kind("taesd", "TAESD", "vae_approx", "vae-approx", "taesd"),
        _kind("lora", "LoRA", "lora", "loras", "lycoris", "locon"),
        _kind("embedding", "embedding", "embeddings"),
        _kind("hypernetwork", "hypernetwork", "hypernetworks", "hypernetwork"),
        _kind("controlnet", "ControlNet", "controlnet", "control_net", used=False),
        _kind("upscaler", "upscaler", "esrgan", "realesrgan", "upscale_models", "upscalers"),
    )
}
"""By name, in the order in which they are shown."""

UNUSED = "not used by this version yet"


def insert(kind: str, name: str, weight: float | None) -> str:
    """What to write into a prompt to use a model of this name, "" for what is selected elsewhere.

    >>> insert("lora", "ink", None), insert("embedding", "worst", None), insert("hypernetwork", "h", 0.5)
    ('<lora:ink:1>', 'worst', '<hypernet:h:0.5>')
    """
    if kind == "embedding":
        return name
    tag = {"lora": "lora", "hypernetwork": "hypernet"}.get(kind)
    return f"<{tag}:{name}:{1.0 if weight is None else weight:g}>" if tag else ""
