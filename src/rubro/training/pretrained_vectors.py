"""Read the vectors of pretrained word vectors that a vocabulary uses."""

from __future__ import annotations

import gzip
import pickle
import re
import struct
import zlib
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from scipy import sparse

from rubro.base.console import file_progress
from rubro.base.errors import DataError
from rubro.base.text import first_names, tokenise
from rubro.features.ngrams import ngram_bounds, ngram_buckets
from rubro.features.subwords import Subwords

_CHANGE = "set embed.pretrained in params.yaml to another file, or to an empty folder for none"
_GZIP_START, _PICKLE_START = b"\x1f\x8b", b"\x80"
_FASTTEXT_START = struct.pack("<i", 793712314)
_FASTTEXT_VERSION = 12
_TEXT_HEADER = re.compile(rb"(\xef\xbb\xbf)?\s*(\d{1,18})\s+(\d{1,9})\s*")
_LONGEST = 2**20  # bytes of a word or a line
# The only functions that a pickle may call; they create arrays. Pickle looks them up by these names.
_ARRAY_MODULES = {"numpy", "numpy.core.multiarray", "numpy._core.multiarray"}
_ARRAY_MODULES |= {"numpy.core.numeric", "numpy._core.numeric"}
_ARRAY_NAMES = {"ndarray", "dtype", "_reconstruct", "_frombuffer"}


@dataclass(frozen=True)
class PretrainedVectors:
    """Initial vectors of the embedding rows that a file of pretrained vectors knows.

    Attributes:
        file: Name of the file.
        vectors: Vectors in the order of the embedding rows, float32 (rows, vector size); 0 in
            rows that the file does not know.
        known: Whether the file knows a row, bool (rows,).
        words: Number of words of the vocabulary that the file contains.
        ngram_buckets: Number of buckets of n-grams that start from vectors of the file.
    """

    file: str
    vectors: np.ndarray
    known: np.ndarray
    words: int
    ngram_buckets: int


class _VectorFile(NamedTuple):
    """Content of a file: vectors of words, then vectors of hash buckets of n-grams.

    Attributes:
        words: Words in the order of their vectors.
        read: Function from the number of a vector to the vector.
        ngrams: Lengths of the shortest and longest n-grams, and number of their buckets, which is 0
            if there are only words.
    """

    words: list[str]
    read: Callable[[int], np.ndarray]
    ngrams: tuple[int, int, int] = (1, 0, 0)


def read_pretrained_vectors(
    setting: Path, subwords: Subwords, vector_size: int
) -> PretrainedVectors | None:
    """Read the vectors of the words and n-grams in use from a file of pretrained vectors.

    The format is detected from the content, which may be gzipped. A word is looked up in its
    normalised form. If the file does not contain it, the first word counts whose normal form it is,
    because files list frequent words first. If the file has vectors of n-grams (fastText), they are
    assigned to the hash buckets of this vocabulary. A bucket of several n-grams starts from their mean,
    weighted by the number of titles. Words that such a file does not contain start from the mean of
    their n-grams. If the file has only words, a bucket starts from the mean vector of the words with
    one of its n-grams.

    Source: Bojanowski et al. 2017, Enriching Word Vectors with Subword Information; its program
    fastText for the hashes and the file format.

    Args:
        setting: Path of the file, or of a folder that contains at most one such file.
        subwords: Vocabulary and n-grams in use.
        vector_size: Dimensions of the token vectors.

    Returns:
        Vectors, or None if the folder contains no such file.

    Raises:
        DataError: There are several files, the file is missing, damaged or in another format, its
            vectors have another size, or it contains no word of the vocabulary.
    """
    path = _only_file(setting)
    if path is None:
        return None
    try:
        with file_progress(path) as raw:
            vectors, known, words = _read(path, raw, subwords, vector_size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, f"not a complete gzip file ({error})") from None
    buckets = int(known[len(subwords.vocabulary) :].sum())
    return PretrainedVectors(path.name, vectors, known, words, buckets)


def _read(
    path: Path, raw: BufferedReader[Any], subwords: Subwords, vector_size: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return vectors, known rows and number of known words of PretrainedVectors."""
    is_gzip = raw.peek(2).startswith(_GZIP_START)
    file: BufferedReader[Any] = BufferedReader(
        cast(RawIOBase, gzip.GzipFile(fileobj=raw) if is_gzip else raw)
    )
    start = file.peek(4)
    is_fasttext, is_pickle = start.startswith(_FASTTEXT_START), start.startswith(_PICKLE_START)
    read_file = _fasttext if is_fasttext else _gensim if is_pickle else _text
    found = read_file(path, file, vector_size)
    places = _places(found.words, subwords)
    if not places:
        raise DataError(
            f"{path}: it contains none of the {len(subwords.vocabulary):,} words of the titles, "
            f"such as {first_names([*subwords.vocabulary])}; {_CHANGE}"
        )
    shares = _shares(found, places, subwords)
    vectors = np.zeros((subwords.row_count, vector_size), np.float32)
    for source in np.flatnonzero(np.diff(shares.indptr)).tolist():
        vector = found.read(source)
        if not np.isfinite(vector).all():
            raise _damaged(path, f"vector {source + 1:,} contains NaN or infinity")
        own = slice(*shares.indptr[source : source + 2])
        vectors[shares.indices[own]] += shares.data[own, None] * vector
    return vectors, np.bincount(shares.indices, minlength=len(vectors)) > 0, len(places)


def _only_file(setting: Path) -> Path | None:
    """Return the file of vectors that embed.pretrained names, or None if it is an empty folder."""
    if setting.is_file():
        return setting
    if not setting.is_dir():
        raise DataError(f"{setting}: no such file or folder; {_CHANGE}")
    files = [path for path in sorted(setting.rglob("*")) if path.is_file()]
    for path in files:
        if path.suffix == ".dvc" and not path.with_suffix("").exists():
            raise DataError(f"{path.with_suffix('')}: no such file; run `dvc pull {path}`")
    # gensim stores large arrays of shop.kv in files such as shop.kv.vectors.npy.
    others = (".md", ".dvc", ".npy")
    found = [path for path in files if path.name[0] != "." and path.suffix not in others]
    if len(found) > 1:
        names = first_names([path.name for path in found])
        raise DataError(
            f"{setting}: it contains {len(found)} files of word vectors ({names}); set "
            "embed.pretrained in params.yaml to the path of one of them"
        )
    return found[0] if found else None


def _damaged(path: Path, problem: str) -> DataError:
    return DataError(f"{path}: {problem}; the file is damaged, fetch or save it again")


def _check_size(path: Path, size: int, vector_size: int) -> None:
    """Raise DataError if the vectors of a file do not have embed.vector_size numbers."""
    if size != vector_size:
        raise DataError(
            f"{path}: its vectors have {size} numbers, but embed.vector_size is {vector_size}; set "
            f"embed.vector_size in params.yaml to {size}, or {_CHANGE}"
        )


def _places(words: Iterable[str], subwords: Subwords) -> dict[str, int]:
    """Return the place in the file of the word that each word of the vocabulary starts from."""
    same: dict[str, int] = {}
    similar: dict[str, int] = {}
    for place, word in enumerate(words):
        if word in subwords:
            same.setdefault(word, place)
        elif len(tokens := tokenise(word)) == 1 and tokens[0] in subwords:
            similar.setdefault(tokens[0], place)
    return similar | same


def _shares(found: _VectorFile, places: dict[str, int], subwords: Subwords) -> sparse.csc_matrix:
    """Return the share of each vector of a file in each row, float32 (rows, vectors of the file).

    Rows are means of vectors, weighted by the number of titles.
    """
    pairs = array("q")  # row, number of the vector and number of titles
    sizes, first = subwords.params, len(subwords.vocabulary)
    ours = sizes.min_n, sizes.max_n
    words = list(subwords.vocabulary)
    our_buckets = ngram_buckets(words, *ours, sizes.buckets)
    their_buckets = ngram_buckets(words, *found.ngrams) if found.ngrams[2] else None
    for row, (word, titles) in enumerate(subwords.vocabulary.items()):
        place = places.get(word)
        buckets = (first + our_buckets[row]).tolist()
        own = [] if place is None else [(row, place)]
        if their_buckets:
            theirs = (len(found.words) + their_buckets[row]).tolist()
            own = own or [(row, source) for source in theirs]
            source_at = dict(zip(ngram_bounds(word, *found.ngrams[:2]), theirs, strict=True))
            bounds = ngram_bounds(word, *ours)
            pairs_of_ngrams = zip(buckets, map(source_at.get, bounds), strict=True)
            own += [(bucket, source) for bucket, source in pairs_of_ngrams if source is not None]
        elif place is not None:
            own += [(bucket, place) for bucket in {*buckets}]
        for pair in own:
            pairs.extend((*pair, titles))
    rows, sources, weights = np.array(pairs).reshape(-1, 3).T
    shape = subwords.row_count, len(found.words) + found.ngrams[2]
    matrix = sparse.csr_matrix((weights.astype(np.float64), (rows, sources)), shape=shape)
    totals = np.maximum(matrix.sum(axis=1).A1, 1)
    shares: sparse.csc_matrix = (sparse.diags(1 / totals) @ matrix).tocsc().astype(np.float32)
    return shares


def _text(path: Path, file: BufferedReader[Any], vector_size: int) -> _VectorFile:
    """Read the text format of word2vec and fastText."""
    header = _TEXT_HEADER.fullmatch(file.readline(_LONGEST))
    if header is None:
        raise DataError(
            f"{path}: not word vectors in a known format (fastText's .bin or .vec, or gensim's .kv); "
            f"convert the file with gensim, or {_CHANGE}"
        )
    _check_size(path, int(header[3]), vector_size)
    words, starts = [], array("q", [file.tell()])
    for number in range(2, int(header[2]) + 2):
        line = file.readline(_LONGEST)
        word, *numbers = line.rstrip().rsplit(b" ", vector_size)  # a word may contain spaces
        if len(numbers) < vector_size:
            raise _damaged(path, f"line {number:,} is not a word and {vector_size} numbers")
        words.append(word.decode("utf-8", "replace"))
        starts.append(starts[-1] + len(line))

    def read(place: int) -> np.ndarray:
        file.seek(starts[place])
        numbers = file.readline().rstrip().rsplit(b" ", vector_size)[1:]
        try:
            return np.array([*map(float, numbers)], np.float32)
        except ValueError as error:
            raise _damaged(path, f"line {place + 2:,}: {error}") from None

    return _VectorFile(words, read)


def _fasttext(path: Path, file: BufferedReader[Any], vector_size: int) -> _VectorFile:
    """Read a model of the program fastText."""

    def numbers(layout: str) -> tuple[Any, ...]:
        try:
            return struct.unpack(f"<{layout}", file.read(struct.calcsize(f"<{layout}")))
        except struct.error:
            raise _damaged(path, "it ends early") from None

    def word() -> str:
        content = bytearray()
        while (byte := file.read(1)) != b"\0":
            content += byte
            if not byte or len(content) > _LONGEST:
                raise _damaged(path, "one of its words does not end")
        numbers("qb")  # number of occurrences and kind
        return content.decode("utf-8", "replace")

    _, version, size, *_, buckets, min_n, max_n, _, _ = numbers("14id")
    if version != _FASTTEXT_VERSION:
        raise DataError(f"{path}: unknown version {version} of fastText's format; {_CHANGE}")
    _check_size(path, size, vector_size)
    entries, count, _, _, pruned = numbers("3i2q")
    words = [word() for _ in range(entries)][:count]  # the other entries are labels
    if pruned > 0 or numbers("?") != (False,):
        raise DataError(f"{path}: quantised vectors (.ftz) are not supported; {_CHANGE}")
    if numbers("2q") != (len(words) + buckets, size) or buckets < 0:
        raise _damaged(path, "its numbers of words and vectors differ")
    start = file.tell()

    def read(place: int) -> np.ndarray:
        file.seek(start + 4 * size * place)
        return np.array(numbers(f"{size}f"), np.float32)

    read(len(words) + buckets - 1)  # find out whether the file is complete
    return _VectorFile(words, read, (max(min_n, 1), max_n, buckets if max_n > 0 else 0))


class _State(dict[Any, Any]):
    """Attributes of an object in a pickle; it replaces every class except numpy's arrays."""

    def __init__(self, *_: Any) -> None:
        """Ignore the arguments of the class that this object replaces."""

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            vars(self).update(state)


class _Unpickler(pickle.Unpickler):
    """Unpickler that runs no code of the file, because word vectors are often downloaded."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _ARRAY_MODULES and name in _ARRAY_NAMES:
            return super().find_class(module, name)
        return _State


def _gensim(path: Path, file: IO[bytes], vector_size: int) -> _VectorFile:
    """Read a file that gensim's KeyedVectors, Word2Vec or FastText saved.

    Arrays in separate files, such as `shop.kv.vectors.npy`, are mapped into memory.
    """
    try:
        state, prefix = vars(_Unpickler(file).load()), path.name
        if "wv" in state:
            state, prefix = vars(state["wv"]), f"{path.name}.wv"
        for name in state.get("__numpys", ()):
            companion = path.with_name(f"{prefix}.{name}.npy")
            state[name] = np.load(companion, mmap_mode="r", allow_pickle=False)
        words, has_ngrams = list(map(str, state["index_to_key"])), "vectors_vocab" in state
        vectors = np.asanyarray(state["vectors_vocab" if has_ngrams else "vectors"])
        ngrams = np.asanyarray(state["vectors_ngrams"] if has_ngrams else vectors[:0])
        sizes = (max(int(state["min_n"]), 1), int(state["max_n"])) if has_ngrams else (1, 0)
        problem = "" if vectors.dtype.kind == ngrams.dtype.kind == "f" else "not numbers"
        if len(vectors) != len(words) or vectors.shape[1:] != ngrams.shape[1:]:
            problem = f"{len(words):,} words, but vectors of the shape {vectors.shape}"
        size = vectors.shape[1]
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: no such file; copy it, it belongs to {path}") from None
    except Exception as error:  # noqa: BLE001 (a damaged pickle can raise any exception)
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise DataError(
            f"{path}: not a complete file of gensim's word vectors ({problem}); save the vectors again "
            "with `model.wv.save`, and copy the .npy files of the same name along with it"
        )
    _check_size(path, size, vector_size)

    def read(place: int) -> np.ndarray:
        return np.asarray(vectors[place] if place < len(words) else ngrams[place - len(words)])

    return _VectorFile(words, read, (*sizes, len(ngrams) if sizes[1] else 0))
