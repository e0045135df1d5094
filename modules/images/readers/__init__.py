"""Readers of what other programs write into pictures: a small file each, tried in this order."""

from modules.hooks import HOOKS, Listing, hookimpl
from modules.images.readers import a1111, comfyui, drawthings, easydiffusion, fooocus, invokeai, novelai, swarm
from modules.images.readers.file_texts import ExtraNetwork, FileTexts, Reader, Reading

__all__ = ["READERS", "ExtraNetwork", "FileTexts", "Reader", "Reading"]


class _BuiltIn:
    """Fooocus and SwarmUI before A1111, whose keyword they share; ComfyUI last: its graph stands in pictures of programs built
    upon it too."""

    @hookimpl
    def readers(self) -> tuple[Reader, ...]:
        return (
            Reader("Fooocus", fooocus.read),
            Reader("SwarmUI", swarm.read),
            Reader("AUTOMATIC1111", a1111.read),
            Reader("InvokeAI", invokeai.read),
            Reader("NovelAI", novelai.read),
            Reader("Draw Things", drawthings.read),
            Reader("Easy Diffusion", easydiffusion.read),
            Reader("ComfyUI", comfyui.read),
        )


READERS: Listing[Reader] = Listing(HOOKS, "readers", "reader", lambda reader: (reader.name,))
"""Every reader in the order in which they are tried, those of extensions last."""

HOOKS.register(_BuiltIn(), "atelier.readers", built_in=True)
