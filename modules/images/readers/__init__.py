"""Readers of what other programs write into pictures: a small file each, tried in this order."""

from collections.abc import Callable

from modules.images.readers import a1111, comfyui, drawthings, easydiffusion, fooocus, invokeai, novelai, swarm
from modules.images.readers.file_texts import ExtraNetwork, FileTexts, Reading

__all__ = ["READERS", "ExtraNetwork", "FileTexts", "Reading"]

READERS: tuple[Callable[[FileTexts], Reading | None], ...] = (
    fooocus.read,
    swarm.read,
    a1111.read,
    invokeai.read,
    novelai.read,
    drawthings.read,
    easydiffusion.read,
    comfyui.read,
)
"""Fooocus and SwarmUI before A1111, whose keyword they share; ComfyUI last: its graph stands
in pictures of programs built upon it too."""
