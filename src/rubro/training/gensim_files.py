"""Read word vectors that gensim saved, without running code that the file may contain."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from rubro.base.errors import DataError

# The only functions that a file may call; they create arrays. Pickle looks them up by these names.
_ARRAY_MODULES = {"numpy", "numpy.core.multiarray", "numpy._core.multiarray"}
_ARRAY_MODULES |= {"numpy.core.numeric", "numpy._core.numeric"}
_ARRAY_NAMES = {"ndarray", "dtype", "_reconstruct", "_frombuffer"}
# Exceptions that pickle raises if a file is damaged, besides UnpicklingError.
_DAMAGED = (
    *(ArithmeticError, AttributeError, ImportError, LookupError, TypeError, ValueError),
    MemoryError,  # a size in the file is impossible
)


class _State(dict[Any, Any]):
    """Attributes of an object in a pickle; it replaces every class except numpy's arrays."""

    def __init__(self, *_: Any) -> None:
        """Ignore the arguments of the class that this object replaces."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            vars(self).update(state)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _ARRAY_MODULES and name in _ARRAY_NAMES:
            return super().find_class(module, name)
        return _State


@dataclass(frozen=True)
class GensimVectors:
    """Vectors of words, and of n-grams if a FastText model was saved.

    Attributes:
        words: Words in the order of their rows.
        vectors: Vectors of the words, (words, vector size).
        ngrams: Vectors of the hash buckets of n-grams, (buckets, vector size); (0, vector
            size) if there are none.
        min_n: Length of the shortest n-grams.
        max_n: Length of the longest n-grams.
    """

    words: list[str]
    vectors: np.ndarray
    ngrams: np.ndarray
    min_n: int
    max_n: int


def read_gensim(path: Path, file: IO[bytes]) -> GensimVectors:
    """Read a file that gensim's KeyedVectors, Word2Vec or FastText saved.

    Arrays in separate files, such as `shop.kv.vectors.npy`, are mapped into memory.

    Args:
        path: Path of the file.
        file: Content of the file.

    Raises:
        DataError: The file or one of its arrays is damaged, is missing or contains no vectors.
        EOFError: The file ends early.
    """
    try:
        saved = _Unpickler(file).load()
        state, prefix = vars(saved), path.name
        if isinstance(state.get("wv"), _State):
            state, prefix = vars(state["wv"]), f"{path.name}.wv"
        words = state.get("index_to_key", state.get("index2word"))
        stored_apart = [str(name) for name in state.get("__numpys", ())]
        arrays = {name: _array(path, f"{prefix}.{name}.npy") for name in stored_apart}
        state = state | arrays
        has_ngrams = "vectors_vocab" in state and state.get("compatible_hash") is True
        vectors = state["vectors_vocab" if has_ngrams else "vectors"]
        ngrams = state["vectors_ngrams"] if has_ngrams else vectors[:0]
        sizes = int(state.get("min_n", 0)), int(state.get("max_n", 0))
    except pickle.UnpicklingError as error:
        raise _unusable(path, str(error)) from None
    except _DAMAGED as error:
        raise _unusable(path, f"{type(error).__name__}: {error}") from None
    if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        raise _unusable(path, "its words are not a list of text")
    for array in (vectors, ngrams):
        if not (isinstance(array, np.ndarray) and array.ndim == 2 and array.dtype.kind == "f"):
            raise _unusable(path, "its vectors are not a matrix of numbers")
    if len(vectors) != len(words) or ngrams.shape[1] != vectors.shape[1]:
        raise _unusable(path, f"it has {len(words):,} words, but {len(vectors):,} vectors")
    return GensimVectors(words, vectors, ngrams, *sizes)


def _unusable(path: Path, problem: str) -> DataError:
    return DataError(
        f"{path}: not a complete file of gensim's word vectors ({problem}); save the vectors again "
        "with `model.wv.save`, and copy the .npy files of the same name along with it"
    )


def _array(path: Path, name: str) -> np.ndarray:
    """Map an array that gensim stored beside a file."""
    companion = path.parent / name
    if not companion.is_file():
        raise DataError(
            f"{companion}: no such file; copy it, because gensim stored some vectors of "
            f"{path.name} in it"
        )
    try:
        array: np.ndarray = np.load(companion, mmap_mode="r", allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise DataError(
            f"{companion}: not a complete array ({error}); copy the file again"
        ) from None
    return array
