"""Static word embeddings: the 256-dimensional weights that the package wordllama ships, read without its loader.

Its loader imports a tokenizer of 22 MB and copies the matrix to float32. Here the matrix stays a memory map of the
file (16 MB, of which only the rows of words that occur are read), and words are cut into pieces as the tokenizer does
it: again and again the pair whose union has the lowest number is joined. Nothing is downloaded.
"""

import re
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

N_DIMENSIONS: Final = 256
EMBEDDING_VERSION: Final = "wordllama-l2-supercat-256"
_LEVELS = np.float32(127)
# Larger than the number of any piece.
_NO_PIECE = 1 << 30
_WORD_STARTS = "\u2581"
_WORD = re.compile(r"[a-z][a-z_]+|[0-9]+(?:\.[0-9]+)*")


class MissingWeightsError(Exception):
    """The package wordllama is not installed, or not with the files that are expected."""


class _Model(Struct):
    vocab: dict[str, int]


class _Tokenizer(Struct):
    model: _Model


class _Tensor(Struct):
    shape: tuple[int, int]
    data_offsets: tuple[int, int]


def words_of(text: str) -> list[str]:
    """The words and numbers of a text in lower case, in their order."""
    return _WORD.findall(text.lower())


def embedding_of(words: list[str]) -> NDArray[np.int8]:
    """The mean of the words' vectors, scaled so that the largest component is 127; zeros when none has a vector.

    Integers make every cosine exact, whatever the order in which a machine adds.
    """
    total = np.zeros(N_DIMENSIONS, dtype=np.float32)
    for word in words:
        total += _vector(word)
    largest = np.abs(total).max()
    if largest > 0:
        total *= _LEVELS / largest
    return np.rint(total).astype(np.int8)


@lru_cache(maxsize=16_384)
def _vector(word: str) -> NDArray[np.float32]:
    pieces = _pieces(word)
    if not pieces:
        return np.zeros(N_DIMENSIONS, dtype=np.float32)
    vector: NDArray[np.float32] = np.add.reduce(_matrix().take(pieces, axis=0).astype(np.float32))
    return vector


def _pieces(word: str) -> list[int]:
    number_of = _vocabulary().get
    parts = list(_WORD_STARTS + word)
    joined = [number_of(a + b, _NO_PIECE) for a, b in pairwise(parts)]
    while joined and (best := min(joined)) != _NO_PIECE:
        at = joined.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        # Only the pairs on either side of what was joined are others now.
        del joined[at]
        if at < len(joined):
            joined[at] = number_of(parts[at] + parts[at + 1], _NO_PIECE)
        if at:
            joined[at - 1] = number_of(parts[at - 1] + parts[at], _NO_PIECE)
    return [number for part in parts if (number := number_of(part, _NO_PIECE)) != _NO_PIECE]


@lru_cache(maxsize=1)
def _matrix() -> NDArray[np.float16]:
    path = _folder() / "weights" / "l2_supercat_256.safetensors"
    try:
        with path.open("rb") as file:
            n_header = int.from_bytes(file.read(8), "little")
            tensor = msgspec.json.decode(file.read(n_header), type=dict[str, _Tensor])["embedding.weight"]
    except (OSError, KeyError, msgspec.MsgspecError) as error:
        raise MissingWeightsError(str(path)) from error
    start = 8 + n_header + tensor.data_offsets[0]
    mapped = np.memmap(path, dtype=np.float16, mode="r", offset=start, shape=tensor.shape)
    # The same memory without the subclass, whose every slice costs ten microseconds.
    return mapped.view(np.ndarray)


@lru_cache(maxsize=1)
def _vocabulary() -> dict[str, int]:
    path = _folder() / "tokenizers" / "l2_supercat_tokenizer_config.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Tokenizer).model.vocab
    except (OSError, msgspec.MsgspecError) as error:
        raise MissingWeightsError(str(path)) from error


def _folder() -> Path:
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise MissingWeightsError("the package wordllama is not installed")
    return Path(spec.origin).parent
