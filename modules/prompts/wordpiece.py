"""BERT's tokenizer (uncased English), from the vocabulary that ships with this file: what latent diffusion's first text models
read.  No torch.
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import normalizers, pre_tokenizers
from tokenizers.models import WordPiece

from modules.prompts.chunks import EMPTY as CLIP_EMPTY
from modules.prompts.chunks import NO_EMBEDDINGS, Chunk, chunk
from modules.prompts.tokenizer import BOS as CLIP_BOS
from modules.prompts.tokenizer import EOS as CLIP_EOS
from modules.request import Emphasis

PAD, UNKNOWN, START, END = 0, 100, 101, 102
"""[PAD], [UNK], [CLS] and [SEP]."""
VOCABULARY_SIZE = 30_522

_FILE = Path(__file__).parent / "data" / "bert_uncased_vocab.txt.gz"


class WordPieces:
    """Text to BERT's token ids.

    >>> WordPieces().encode("A Virus-monster, painted")
    [1037, 7865, 1011, 6071, 1010, 4993]
    """

    def encode(self, text: str) -> list[int]:
        """Ids of `text` without start and end marks; any length."""
        return list(_backend().encode(text, add_special_tokens=False).ids)


@lru_cache(maxsize=1)
def _backend() -> Backend:
    words = gzip.decompress(_FILE.read_bytes()).decode("utf-8").splitlines()
    backend = Backend(WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


EMPTY = Chunk((START, END, *[PAD] * (len(CLIP_EMPTY.tokens) - 2)))


def windows(text: str, emphasis: Emphasis = "Original") -> tuple[Chunk, ...]:
    """A text's windows of 77 of BERT's tokens with their weights, cut as A1111 cuts prompts for CLIP (`chunks.chunk`).

    A text of at most 75 tokens is one window, which latent diffusion's scripts make as well; they cut longer ones off.
    """
    return tuple(_marked(each) for each in chunk(text, WordPieces(), emphasis, NO_EMBEDDINGS).windows)


def _marked(window: Chunk) -> Chunk:
    """A window with BERT's marks and padding in the place of CLIP's, which are no ids of BERT's."""
    end = window.tokens.index(CLIP_EOS)
    assert window.tokens[0] == CLIP_BOS
    tokens = (START, *window.tokens[1:end], END, *[PAD] * (len(window.tokens) - end - 1))
    return Chunk(tokens, window.multipliers)
