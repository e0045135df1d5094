"""Which function carries out which request.  Imports torch: a child process runs it (`__main__`), or a test."""

from __future__ import annotations

from modules.errors import OutputError
from modules.model_tools.bake import bake
from modules.model_tools.extract import extract
from modules.model_tools.merge import merge
from modules.model_tools.merge_loras import merge_loras
from modules.model_tools.requests import BakeLoras, ConvertPickle, ExtractLora, MergeCheckpoints, MergeLoras
from modules.model_tools.work import Work


def carry_out(work: Work) -> None:
    """Make the file that the order asks for; when this returns it is whole, under its name and on disk.

    Raises:
        AtelierError: it cannot be made; nothing of it is left.
    """
    request, folder = work.order.request, work.order.target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}; check the folder") from None
    if isinstance(request, MergeCheckpoints):
        merge(request, work)
    elif isinstance(request, BakeLoras):
        bake(request, work)
    elif isinstance(request, ExtractLora):
        extract(request, work)
    elif isinstance(request, ConvertPickle):
        from modules.model_tools.convert import convert

        convert(request, work)
    elif isinstance(request, MergeLoras):
        merge_loras(request, work)
    else:
        from modules.model_tools.get import get

        get(request, work)
