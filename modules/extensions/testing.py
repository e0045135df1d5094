"""For tests of extensions: one is loaded as the program does.  Nothing of the program uses it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from modules.extensions.loading import load, unload
from modules.extensions.manifest import Half, Manifest, read_manifest


@contextmanager
def loaded(folder: Path, halves: Sequence[Half] = ()) -> Iterator[Manifest]:
    """The extension in `folder` is loaded inside of the block: these `halves`, or all that it has.

    Raises:
        ExtensionError: it has no manifest that makes sense, or a half cannot be loaded; says why.
    """
    manifest = read_manifest(folder)
    with ExitStack() as stack:
        for half in halves or manifest.halves:
            load(manifest, folder, half)
            stack.callback(unload, manifest.name, half)
        yield manifest
