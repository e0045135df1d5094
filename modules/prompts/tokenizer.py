"""CLIP's byte-pair tokenizer, from the vocabulary that ships with this file.

CLIP's own tokenizer repairs texts with ftfy first (curly quotes, full-width letters, ligatures, HTML entities, mojibake), and
so does A1111's; ComfyUI's does not.  The vocabulary is OpenAI's `bpe_simple_vocab_16e6` (MIT, as distributed with open_clip);
the rules for splitting text are CLIP's.  Built on the `tokenizers` library and free of torch, so that the web process can count
tokens as well.
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path

from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

BOS = 49406
"""<|startoftext|>"""
EOS = 49407
"""<|endoftext|>; CLIP-L pads with it as well."""
VOCABULARY_SIZE = 49408

_FILE = Path(__file__).parent / "data" / "bpe_simple_vocab_16e6.txt.gz"
_MERGES = VOCABULARY_SIZE - 2 - 2 * 256
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokenizer:
    """Text to CLIP token ids; `raw` leaves the text as it is.

    >>> Tokenizer().encode("a red apple")
    [320, 736, 3055]
    >>> Tokenizer().encode("“red”") == Tokenizer().encode('"red"') != Tokenizer(raw=True).encode("“red”")
    True
    """

    def __init__(self, raw: bool = False) -> None:
        self._backend, self.raw = _backend(), raw

    def encode(self, text: str) -> list[int]:
        """Ids of `text` without start and end marks; any length."""
        text = text if self.raw else repaired(text)
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`, lower-case and normalised as CLIP sees it."""
        pieces = [self._backend.id_to_token(i) or "" for i in ids]
        text = "".join(pieces).replace("</w>", " ")
        back = _bytes_of_characters()
        return bytes(back.get(c, 32) for c in text).decode("utf-8", errors="replace").strip()


def repaired(text: str) -> str:
    """`text` as A1111's tokenizer (transformers' CLIPTokenizer with ftfy) reads it.

    >>> repaired("Tom’s ｒｅｄ ﬁsh &amp; “chips”")
    'Tom\\'s red fish & "chips"'
    """
    import ftfy  # loaded with the first prompt: no start needs it

    return ftfy.fix_text(text)


@lru_cache(maxsize=1)
def _backend() -> Backend:
    lines = gzip.decompress(_FILE.read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 1 + _MERGES]]
    characters = list(_byte_characters().values())
    words = characters + [c + "</w>" for c in characters] + [a + b for a, b in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    backend = Backend(
        BPE(vocabulary, [(a, b) for a, b in merges], end_of_word_suffix="</w>", continuing_subword_prefix="", fuse_unk=False)
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    # Written out in a prompt they are the marks themselves, as in CLIP's own tokenizer and in transformers'
    backend.add_special_tokens([AddedToken("<|startoftext|>", special=True), AddedToken("<|endoftext|>", special=True)])
    return backend


def _byte_characters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte, in the order in which CLIP's vocabulary lists them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    characters = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in characters:
            characters[byte] = chr(256 + len(characters) - len(printable))
    return characters


@lru_cache(maxsize=1)
def _bytes_of_characters() -> dict[str, int]:
    return {character: byte for byte, character in _byte_characters().items()}
