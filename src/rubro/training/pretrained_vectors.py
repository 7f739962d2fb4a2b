"""Read the vectors of pretrained word vectors that a vocabulary uses."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedReader, RawIOBase
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from rubro.base.console import file_progress
from rubro.base.errors import DataError
from rubro.base.text import first_names, tokenise
from rubro.features.ngrams import ngram_bounds, ngram_buckets
from rubro.features.subwords import Subwords
from rubro.training.gensim_files import read_gensim

_FORMATS = "fastText's .bin, word2vec's .bin, .vec or .txt, or gensim's .kv or .model"
_CHANGE = "set embed.pretrained in params.yaml to another file, or to an empty folder for none"
_OTHER_FILES = (".md", ".dvc")
_GZIP_START, _PICKLE_START = b"\x1f\x8b", b"\x80"
_FASTTEXT_START = struct.pack("<i", 793712314)
_FASTTEXT_VERSIONS = (11, 12)
_SUPERVISED = 3
_HEADER = re.compile(rb"\s*(\d{1,18})\s+(\d{1,9})\s*")
# A word, which may contain spaces, and numbers, of which the last one may be cut off.
_TEXT_ROW = re.compile(rb"[^\n]*?( [-+.,\deEnaif]+)+\s*", re.IGNORECASE)
_LONGEST = 2**20  # bytes of a word or a line
_BLOCK = 2**16


@dataclass(frozen=True)
class PretrainedVectors:
    """Initial vectors of the embedding rows that a file of pretrained vectors knows.

    Attributes:
        file: Name of the file.
        vectors: Vectors in the order of the embedding rows, float32 (rows, vector size); 0 in
            rows that the file does not know.
        known: Whether the file knows a row, bool (rows,).
        words: Number of words of the vocabulary that the file contains.
        ngram_buckets: Number of buckets that contain an n-gram with a vector in the file.
    """

    file: str
    vectors: np.ndarray
    known: np.ndarray
    words: int
    ngram_buckets: int


def read_pretrained_vectors(
    setting: Path, subwords: Subwords, vector_size: int
) -> PretrainedVectors | None:
    """Read the vectors of the words and n-grams in use from a file of pretrained vectors.

    The format is detected from the content, which may be gzipped. A word is looked up in its
    normalised form. If the file does not contain it, the first word counts whose normal form it is,
    because files list frequent words first. If the file has vectors of n-grams (fastText), they are
    assigned to the hash buckets of this vocabulary. A bucket of several n-grams starts from their mean,
    weighted by the number of titles. Words that such a file does not contain start from the mean of
    their n-grams.

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
    rows = _Rows(path, subwords, vector_size)
    with file_progress(path) as raw, _read_errors(path):
        is_gzip = raw.peek(2).startswith(_GZIP_START)
        unpacked = cast(RawIOBase, gzip.GzipFile(fileobj=raw) if is_gzip else raw)
        file: BufferedReader[Any] = BufferedReader(unpacked, _BLOCK)
        start = file.peek(4)
        if not start:
            raise DataError(f"{path}: the file is empty; {_CHANGE}")
        if start.startswith(_FASTTEXT_START):
            _read_fasttext(file, rows, None if is_gzip else path.stat().st_size)
        elif start.startswith(_PICKLE_START):
            _read_gensim_matrix(file, rows)
        else:
            _read_word2vec(file, rows)
    if not rows.known.any():
        raise DataError(
            f"{path}: it contains none of the {len(subwords.vocabulary):,} words of the titles, "
            f"such as {first_names([*subwords.vocabulary])}; {_CHANGE}"
        )
    ngram_buckets = int(rows.known[len(subwords.vocabulary) :].sum())
    return PretrainedVectors(path.name, rows.vectors, rows.known, rows.word_count, ngram_buckets)


def _only_file(setting: Path) -> Path | None:
    """Return the file of vectors that embed.pretrained names, or None if it is an empty folder."""
    if setting.is_file():
        return setting
    if not setting.is_dir():
        raise DataError(f"{setting}: no such file or folder; {_CHANGE}")
    found = [
        path
        for path in sorted(setting.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.suffix not in _OTHER_FILES
    ]
    # gensim stores large arrays of shop.kv in files such as shop.kv.vectors.npy.
    main = [path for path in found if path.suffix != ".npy"] or found
    if len(main) > 1:
        names = first_names([path.name for path in main])
        raise DataError(
            f"{setting}: it contains {len(main)} files of word vectors ({names}); set "
            "embed.pretrained in params.yaml to the path of one of them"
        )
    return main[0] if main else None


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except EOFError:
        problem = "the file ends early (a truncated download?)"
    except (gzip.BadGzipFile, zlib.error) as error:
        problem = f"not a valid gzip file ({error})"
    except PermissionError:
        raise DataError(f"{path}: permission denied; make the file readable") from None
    else:
        return
    raise DataError(f"{path}: {problem}; fetch it again")


class _Rows:
    """Embedding rows of a vocabulary, which are filled from the words and n-grams of a file."""

    def __init__(self, path: Path, subwords: Subwords, vector_size: int) -> None:
        self.path = path
        self.subwords = subwords
        self.vectors = np.zeros((subwords.row_count, vector_size), np.float32)
        self.known = np.zeros(subwords.row_count, bool)
        self._row = {word: row for row, word in enumerate(subwords.vocabulary)}
        self._found: dict[int, bool] = {}

    @property
    def word_count(self) -> int:
        return len(self._found)

    def damaged(self, problem: str) -> DataError:
        """Return the error for a file that contradicts itself."""
        return DataError(f"{self.path}: {problem}; the file is damaged, fetch or save it again")

    def check_size(self, size: int) -> None:
        """Raise DataError if the vectors of the file do not have embed.vector_size numbers."""
        if size != self.vectors.shape[1]:
            raise DataError(
                f"{self.path}: its vectors have {size} numbers, but embed.vector_size is "
                f"{self.vectors.shape[1]}; set embed.vector_size in params.yaml to {size}, or "
                f"{_CHANGE}"
            )

    def wanted_row(self, word: str) -> int | None:
        """Return the row that starts from the next word of the file, or None.

        The row is returned again if a later word is the row's word itself instead of another
        spelling of it.
        """
        row = self._row.get(word)
        is_exact = row is not None
        if row is None:
            tokens = tokenise(word)
            row = self._row.get(tokens[0]) if len(tokens) == 1 else None
        if row is None or (row in self._found and (self._found[row] or not is_exact)):
            return None
        self._found[row] = is_exact
        return row

    def finite(self, vector: np.ndarray, name: str) -> np.ndarray:
        """Return a vector; raise DataError if it contains NaN or infinity."""
        if not np.isfinite(vector).all():
            raise self.damaged(f"{name} contains NaN or infinity")
        return vector

    def put(self, row: int, vector: np.ndarray, name: str) -> None:
        """Let a row start from a vector."""
        self.vectors[row] = self.finite(vector, name)
        self.known[row] = True

    def places(self, words: Iterable[str]) -> dict[int, int]:
        """Return the place in the file of the word that each row starts from.

        Args:
            words: All words of the file, in its order.
        """
        places = {}
        for place, word in enumerate(words):
            row = self.wanted_row(word)
            if row is not None:
                places[row] = place
        return places

    def fill(
        self,
        places: dict[int, int],
        first: int,
        ngrams: tuple[int, int, int],
        read: Callable[[int], np.ndarray],
    ) -> None:
        """Fill the rows from a matrix of words and n-grams.

        Args:
            places: Row in the matrix of each row's word.
            first: Row in the matrix of the first bucket of n-grams.
            ngrams: Lengths of the shortest and longest n-grams, and number of buckets; the matrix
                contains no n-grams if one of them is 0.
            read: Function from the number of a row of the matrix to the vector.
        """
        # Each target row is the mean, weighted by titles, of its source rows in the matrix.
        targets, sources = array("q", places), array("q", places.values())
        titles = array("q", [1]) * len(places)
        sizes, buckets_from = self.subwords.params, len(self.subwords.vocabulary)
        ours = (sizes.min_n, sizes.max_n)
        for row, (word, count) in enumerate(
            self.subwords.vocabulary.items() if all(ngrams) else ()
        ):
            theirs = [first + bucket for bucket in ngram_buckets(word, *ngrams)]
            pairs = [] if row in places else [(row, source) for source in theirs]
            if sizes.max_n:
                source_at = dict(zip(ngram_bounds(word, *ngrams[:2]), theirs, strict=True))
                own = ngram_buckets(word, *ours, sizes.buckets)
                pairs += [
                    (buckets_from + bucket, source_at[bounds])
                    for bounds, bucket in zip(ngram_bounds(word, *ours), own, strict=True)
                    if bounds in source_at
                ]
            for target, source in pairs:
                targets.append(target)
                sources.append(source)
                titles.append(count)
        self._mix(np.array(targets), np.array(sources), np.array(titles), read)

    def _mix(
        self,
        targets: np.ndarray,
        sources: np.ndarray,
        titles: np.ndarray,
        read: Callable[[int], np.ndarray],
    ) -> None:
        """Set each target row to the weighted mean of its source rows, read in ascending order."""
        row_count = len(self.known)
        pairs, pair_of = np.unique(sources * row_count + targets, return_inverse=True)
        weights = np.bincount(pair_of, titles)
        sources, targets = np.divmod(pairs, row_count)
        shares = (weights / np.bincount(targets, weights)[targets]).astype(np.float32)
        starts = np.flatnonzero(np.diff(sources, prepend=-1)).tolist()
        for start, end in zip(starts, [*starts[1:], len(pairs)], strict=True):
            source = int(sources[start])
            vector = self.finite(read(source), f"vector {source + 1:,}")
            self.vectors[targets[start:end]] += shares[start:end, None] * vector
        self.known[targets] = True


class _Scanner:
    """Reader of words that end with a mark, and of numbers after them.

    Args:
        file: Open file; the scanner begins at its current position.
    """

    def __init__(self, file: BufferedReader[Any]) -> None:
        self._file = file
        self._block = b""
        self._at = 0
        self._block_start = file.tell()

    @property
    def position(self) -> int:
        """Position in the file of the next byte."""
        return self._block_start + self._at

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        while len(self._block) < self._at + size:
            self._read(size)
        self._at += size
        return self._block[self._at - size : self._at]

    def until(self, mark: bytes) -> bytes | None:
        """Return the bytes before a mark and skip the mark; None if the text is too long."""
        while (end := self._block.find(mark, self._at)) < 0:
            if len(self._block) - self._at > _LONGEST:
                return None
            self._read(_BLOCK)
        word = self._block[self._at : end]
        self._at = end + 1
        return word

    def numbers(self, layout: str) -> tuple[Any, ...]:
        """Return the next numbers, in the notation of struct."""
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}")))

    def has_more(self) -> bool:
        """Return whether more than a line break follows."""
        return bool((self._block[self._at :] + self._file.read(2)).strip())

    def _read(self, size: int) -> None:
        more = self._file.read(max(size, _BLOCK))
        if not more:
            raise EOFError
        self._block_start += self._at
        self._block = self._block[self._at :] + more
        self._at = 0


def _read_fasttext(file: BufferedReader[Any], rows: _Rows, file_size: int | None) -> None:
    """Read a model of the program fastText.

    Args:
        file: Content of the file, at its start.
        rows: Rows to fill.
        file_size: Number of bytes of the content; None if it is unknown.
    """
    scanner = _Scanner(file)
    _, version, size, *_, model, buckets, min_n, max_n, _, _ = scanner.numbers("14id")
    if version not in _FASTTEXT_VERSIONS:
        raise DataError(f"{rows.path}: unknown version {version} of fastText's format; {_CHANGE}")
    rows.check_size(size)
    entries, words, _, _, pruned = scanner.numbers("3i2q")
    if not (0 <= words <= entries and buckets >= 0 and 0 <= min_n <= max(min_n, max_n)):
        raise rows.damaged("its header has impossible numbers")
    places = rows.places(_fasttext_words(scanner, words, rows))
    for _ in range(entries - words):  # labels of a classifier
        scanner.until(b"\0")
        scanner.take(9)
    if pruned > 0 or scanner.take(1) != b"\0":
        raise DataError(f"{rows.path}: quantised vectors (.ftz) are not supported; {_CHANGE}")
    shape, start = scanner.numbers("2q"), scanner.position
    if shape != (words + buckets, size):
        raise rows.damaged(
            f"it has {shape[0]:,} vectors of {shape[1]} numbers for {words:,} words and "
            f"{buckets:,} buckets of n-grams"
        )
    if file_size is not None and file_size < start + 4 * shape[0] * size:
        raise EOFError

    def read(row: int) -> np.ndarray:
        file.seek(start + 4 * size * row)
        content = file.read(4 * size)
        if len(content) < 4 * size:
            raise EOFError
        return np.frombuffer(content, "<f4")

    if version == _FASTTEXT_VERSIONS[0] and model == _SUPERVISED:
        buckets = 0  # this version stored lengths of n-grams that it did not use
    rows.fill(places, words, (min_n, max_n if max_n >= min_n else 0, buckets), read)


def _fasttext_words(scanner: _Scanner, count: int, rows: _Rows) -> Iterator[str]:
    for number in range(1, count + 1):
        word = scanner.until(b"\0")
        if word is None:
            raise rows.damaged(f"word {number:,} does not end")
        scanner.take(9)  # number of occurrences and kind
        yield word.decode("utf-8", "replace")


def _read_gensim_matrix(file: BufferedReader[Any], rows: _Rows) -> None:
    """Read vectors that gensim saved."""
    found = read_gensim(rows.path, file)
    words = len(found.words)
    rows.check_size(found.vectors.shape[1])

    def read(row: int) -> np.ndarray:
        return np.asarray(found.vectors[row] if row < words else found.ngrams[row - words])

    rows.fill(rows.places(found.words), words, (found.min_n, found.max_n, len(found.ngrams)), read)


def _read_word2vec(file: BufferedReader[Any], rows: _Rows) -> None:
    """Read the text format of word2vec, fastText and GloVe, or the binary format of word2vec."""
    line = file.readline(_LONGEST).removeprefix(b"\xef\xbb\xbf")
    header = _HEADER.fullmatch(line)
    if header is None:  # GloVe's files begin with the first word
        if not line.endswith(b"\n") or not _TEXT_ROW.fullmatch(line):
            raise DataError(
                f"{rows.path}: not word vectors in a known format ({_FORMATS}); {_CHANGE}"
            )
        rows.check_size(len(line.split()) - 1)
        _read_text_rows(chain([line], file), rows, None, 1)
        return
    count = int(header[1])
    rows.check_size(int(header[2]))
    sample = file.peek(_BLOCK).partition(b"\n")[0]
    if sample and not _TEXT_ROW.fullmatch(sample):
        _read_binary_rows(file, rows, count)
    else:
        _read_text_rows(iter(partial(file.readline, _LONGEST), b""), rows, count, 2)


def _read_text_rows(
    lines: Iterable[bytes], rows: _Rows, count: int | None, first_line: int
) -> None:
    """Read lines with a word, which may contain spaces, and the numbers of its vector.

    Args:
        lines: Lines with vectors.
        rows: Rows to fill.
        count: Number of vectors in the header; None if there is no header.
        first_line: Number of the first line.
    """
    size = rows.vectors.shape[1]
    number = first_line - 1
    for number, line in enumerate(islice(lines, count), first_line):
        text = line.rstrip()
        if text.count(b" ") < size:
            raise rows.damaged(f"line {number:,} does not have a word and {size} numbers")
        word = text.rsplit(b" ", size)[0]
        row = rows.wanted_row(word.decode("utf-8", "replace"))
        if row is not None:
            try:
                vector = np.array([*map(float, text[len(word) + 1 :].split(b" "))], np.float32)
            except ValueError as error:
                raise rows.damaged(f"line {number:,}: {error}") from None
            rows.put(row, vector, f"line {number:,}")
    found = number + 1 - first_line
    if count is not None and found < count:
        raise rows.damaged(f"it has {found:,} words, but {count:,} according to its first line")


def _read_binary_rows(file: BufferedReader[Any], rows: _Rows, count: int) -> None:
    """Read a word and the bytes of its vector, as often as the header says."""
    scanner, size = _Scanner(file), rows.vectors.shape[1]
    for number in range(1, count + 1):
        word = scanner.until(b" ")
        if word is None:
            raise rows.damaged(f"word {number:,} does not end")
        content = scanner.take(4 * size)
        row = rows.wanted_row(word.lstrip(b"\n").decode("utf-8", "replace"))
        if row is not None:
            rows.put(row, np.frombuffer(content, "<f4"), f"vector {number:,}")
    if scanner.has_more():
        raise rows.damaged(f"it continues after the {count:,} words of its first line")
