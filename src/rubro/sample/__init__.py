"""A SYNTHETIC Spanish catalogue, in the layout of a course's version of the MeLi Data Challenge 2019.

No row comes from Mercado Libre: every title is composed from hand-written word lists, so scores on
it say nothing about the challenge. The pipeline and its tests run on it without the real data. It
imitates the difficulties of real titles: missing accents, typos, abbreviations, selling noise,
missing nouns, wrong labels, duplicates across splits, rows in another language, and a few broken
lines.

The same `rows` and `seed` give the same lines on every supported Python.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import zlib
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import NamedTuple

from .titles import TitleMaker, WeightedChoice, strip_accents, tokenize_title
from .words import Category, LexiconError, Shared, load_words

__all__ = [
    "LexiconError",
    "broken_positions",
    "catalogue_lines",
    "file_sizes",
    "tokenize_title",
    "write_catalogue",
]

SPLITS = ("train", "validation", "test")
MINIMUM_ROWS = 1_000
BROKEN_LINES = 15

_EXPONENT = 0.6
_TAIL = (3, 2, 2, 1, 1)  # training rows of the rarest categories
_UNSEEN_SHARE = 0.0015  # of validation and of test: the category that is in neither train file
_UNRELIABLE = 0.8
_WRONG = 0.08
_WRONG_NEIGHBOUR = 0.85
_PORTUGUESE_SHARE = 0.075  # Portuguese rows for each Spanish one
_FOREIGN_SHARE = 0.0025  # of spanish.train: rows in Portuguese
_REPEAT_SHARE = 0.00625  # of train: titles seen earlier in train
_LEAK_SHARE = 0.03  # of validation and of test: titles seen in train
_LEAK_VARIED = 0.3
_KEEP_EVERY = 40
_COMPRESSION = 6
_CHUNK = 2_000

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class _Row(NamedTuple):
    """A row before it becomes JSON; `truth` is the category from which its title was made."""

    language: str
    quality: str
    title: str
    label: int
    truth: int


def _split_sizes(total: int) -> dict[str, int]:
    held_out = total // 10
    return dict(zip(SPLITS, (total - 2 * held_out, held_out, held_out), strict=True))


def file_sizes(rows: int) -> dict[str, int]:
    """Return the number of lines of each file of a catalogue.

    Args:
        rows: Number of Spanish rows in the three splits, broken lines included.

    Returns:
        Numbers of lines by file name, in writing order.

    Raises:
        ValueError: `rows` is below 1,000.
    """
    if rows < MINIMUM_ROWS:
        raise ValueError(f"rows must be at least {MINIMUM_ROWS:,} to fill every split, got {rows}")
    totals = {"spanish": rows, "portuguese": round(rows * _PORTUGUESE_SHARE)}
    return {
        f"{language}.{split}.jsonl.gz": size
        for language, total in totals.items()
        for split, size in _split_sizes(total).items()
    }


def broken_positions(rows: int) -> list[int]:
    """Return the positions of the broken lines of spanish.train.

    Args:
        rows: Number of Spanish rows; see `catalogue_lines`.

    Returns:
        Line numbers from 0, evenly spread over the file.

    Raises:
        ValueError: `rows` is below 1,000.
    """
    size = file_sizes(rows)["spanish.train.jsonl.gz"]
    return [(2 * k + 1) * size // (2 * BROKEN_LINES) for k in range(BROKEN_LINES)]


def _apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Return integers in proportion to weights with a given total (largest remainders)."""
    whole = sum(weights)
    exact = [total * weight / whole for weight in weights]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


class _Corpus:
    """Rows of one language. The splits must be read in order: train feeds the later ones."""

    def __init__(
        self, language: str, rows: int, seed: int, shared: Shared, lexicon: dict[str, Category]
    ) -> None:
        spanish = language == "spanish"
        self.language = language
        self.names = [name for name in sorted(lexicon) if spanish or lexicon[name].portuguese]
        self.stop_words = frozenset(shared.stop_words)
        self._sizes = _split_sizes(rows if spanish else round(rows * _PORTUGUESE_SHARE))
        self._random = Random(2 * seed + (0 if spanish else 1))
        draw = self._random.random
        # A checksum of the name: popularity that looks arbitrary and outlives new categories.
        order = sorted(range(len(self.names)), key=lambda i: zlib.crc32(self.names[i].encode()))
        rare = len(_TAIL) + 1 if spanish else 0
        self._ranked = order[: len(order) - rare]
        self._rare = order[len(order) - rare :]
        self._weights = [(rank + 1) ** -_EXPONENT for rank in range(len(self._ranked))]
        self._by_popularity = WeightedChoice(self._weights)
        ranked, index = set(self._ranked), {name: i for i, name in enumerate(self.names)}
        self._neighbours = [
            [index[n] for n in lexicon[name].neighbours if n in index and index[n] in ranked]
            for name in self.names
        ]
        self._titles = TitleMaker(language, self.names, shared, lexicon, draw)
        foreign = [i for i in self._ranked if lexicon[self.names[i]].portuguese] if spanish else []
        self._foreign = foreign
        self._foreign_titles = TitleMaker(
            "portuguese", [self.names[i] for i in foreign], shared, lexicon, draw
        )
        self._kept: list[tuple[str, int]] = []

    def _plan(self, split: str, total: int) -> array[int]:
        """Return a code for each row, shuffled: a category, or one of two codes of special rows."""
        repeat, foreign = len(self.names), len(self.names) + 1
        fixed: dict[int, int] = {}
        if split == "train":
            fixed.update(zip(self._rare, _TAIL, strict=False))
            fixed[repeat] = round(total * _REPEAT_SHARE)
            fixed[foreign] = round(total * _FOREIGN_SHARE) if self._foreign else 0
        else:
            fixed.update({i: max(2, round(total * _UNSEEN_SHARE)) for i in self._rare[-1:]})
            fixed[repeat] = round(total * _LEAK_SHARE)
        counts = dict(
            zip(
                self._ranked,
                _apportion(total - sum(fixed.values()), self._weights),
                strict=True,
            )
        )
        plan = array("H")
        for code, count in {**counts, **fixed}.items():
            plan.extend(array("H", [code]) * count)
        draw = self._random.random
        for i in range(len(plan) - 1, 0, -1):
            j = int(draw() * (i + 1))
            plan[i], plan[j] = plan[j], plan[i]
        return plan

    def _label(self, truth: int) -> int:
        """Return the category that an unreliable seller gives, mostly the right one."""
        draw = self._random.random
        if draw() >= _WRONG or truth in self._rare:
            return truth
        neighbours = self._neighbours[truth]
        if neighbours and draw() < _WRONG_NEIGHBOUR:
            return neighbours[int(draw() * len(neighbours))]
        at = self._by_popularity(draw())
        if self._ranked[at] == truth:
            at = (at + 1) % len(self._ranked)
        return self._ranked[at]

    def _again(self, vary: bool) -> tuple[str, int]:
        """Return a title that is already in train, perhaps in another spelling."""
        draw = self._random.random
        if not self._kept:
            index = self._ranked[self._by_popularity(draw())]
            return self._titles.title(index), index
        title, truth = self._kept[int(draw() * len(self._kept))]
        if vary and draw() < _LEAK_VARIED:
            title = title.lower() if draw() < 0.5 else strip_accents(title).upper()
        return title, truth

    def rows(self, split: str) -> Iterator[_Row]:
        """Yield the sound rows of a split, in file order."""
        total = self._sizes[split]
        if split == "train" and self._foreign:
            total -= BROKEN_LINES
        draw, repeat, train = self._random.random, len(self.names), split == "train"
        for at, code in enumerate(self._plan(split, total)):
            language, truth = self.language, code
            if code < repeat:
                title = self._titles.title(code)
            elif code == repeat:
                title, truth = self._again(vary=not train)
            else:
                pick = int(draw() * len(self._foreign))
                language, truth = "portuguese", self._foreign[pick]
                title = self._foreign_titles.title(pick)
            label, quality = truth, "reliable"
            if split != "test" and draw() < _UNRELIABLE:
                label, quality = self._label(truth), "unreliable"
            if train and at % _KEEP_EVERY == 0 and truth not in self._rare:
                self._kept.append((title, truth))
            yield _Row(language, quality, title, label, truth)

    def spare(self, number: int) -> _Row:
        """Return a row outside the plan, to make a broken line from."""
        index = self._ranked[number % len(self._ranked)]
        return _Row(self.language, "unreliable", self._titles.title(index), index, index)


class _Encoder:
    """Turns rows of one language into lines; only train adds to the dictionary of tokens."""

    def __init__(self, corpus: _Corpus) -> None:
        self._corpus = corpus
        self._tokens: dict[str, int] = {}

    def lines(self, split: str, size: int, broken: Sequence[int] = ()) -> Iterator[bytes]:
        rows = self._corpus.rows(split)
        start = 0
        for number, position in enumerate(broken):
            for row in islice(rows, position - start):
                yield self._line(row, split, size)
            yield self._broken(number, size)
            start = position + 1
        for row in rows:
            yield self._line(row, split, size)

    def _line(self, row: _Row, split: str, size: int) -> bytes:
        known = self._tokens
        tokens = tokenize_title(row.title, self._corpus.stop_words)
        if split == "train":
            data = [known.setdefault(token, len(known) + 1) for token in tokens]
        else:
            data = [known.get(token, 0) for token in tokens]
        # By hand, at twice the speed of the encoder: tokens are letters, names are A to Z.
        quoted = '"' + '","'.join(tokens) + '"' if tokens else ""
        return (
            f'{{"language":"{row.language}","label_quality":"{row.quality}",'
            f'"title":{_encode(row.title)},"category":"{self._corpus.names[row.label]}",'
            f'"split":"{split}","tokenized_title":[{quoted}],"data":[{",".join(map(str, data))}],'
            f'"target":{row.label},"n_labels":{len(self._corpus.names)},"size":{size}}}'
        ).encode()

    def _broken(self, number: int, size: int) -> bytes:
        """Return a broken line of one of the kinds that occur in scraped files."""
        row = self._corpus.spare(7 * number)
        tokens = tokenize_title(row.title, self._corpus.stop_words)
        record: dict[str, object] = {
            "language": row.language,
            "label_quality": row.quality,
            "title": row.title,
            "category": self._corpus.names[row.label],
            "split": "train",
            "tokenized_title": tokens,
            "data": [self._tokens.get(token, 0) for token in tokens],
            "target": row.label,
            "n_labels": len(self._corpus.names),
            "size": size,
        }
        sound = _encode(record)
        changes: dict[int, dict[str, object]] = {
            3: {"title": ""},
            4: {"title": "   \t "},
            5: {"title": None},
            6: {"title": 4815},
            8: {"category": None},
            12: {"title": row.title.replace(" ", "\x00", 2)},
            13: {"title": " ".join([row.title] * 3_000)[:3_000]},
            14: {"category": ""},
        }
        if number in changes:
            return _encode({**record, **changes[number]}).encode()
        if number in (2, 7):
            del record["title" if number == 2 else "category"]
            return _encode(record).encode()
        if number == 11:
            return _encode({**record, "title": f"{row.title} Promoción Año"}).encode(
                "latin-1", "replace"
            )
        others = {
            0: f"{row.title};{self._corpus.names[row.label]}",
            1: sound[: len(sound) // 2],
            9: _encode([row.title, self._corpus.names[row.label]]),
            10: "",
        }
        return others[number].encode()


def _files(rows: int, seed: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    sizes = file_sizes(rows)
    shared, lexicon = load_words()
    for language in ("spanish", "portuguese"):
        encoder = _Encoder(_Corpus(language, rows, seed, shared, lexicon))
        for split in SPLITS:
            name = f"{language}.{split}.jsonl.gz"
            broken = broken_positions(rows) if name == "spanish.train.jsonl.gz" else []
            yield name, encoder.lines(split, sizes[name], broken)


def catalogue_lines(rows: int = 20_000, seed: int = 20190) -> Iterator[tuple[str, bytes]]:
    """Yield the lines of a catalogue.

    Args:
        rows: Number of Spanish rows in the three splits, broken lines included; Portuguese rows add
            7.5 %.
        seed: Seed of every random choice.

    Yields:
        Name of a file and a line of it without line end, file by file in writing order.

    Raises:
        ValueError: `rows` is below 1,000.
        LexiconError: A word list of the package breaks its format.
    """
    for name, lines in _files(rows, seed):
        for line in lines:
            yield name, line


def write_catalogue(folder: Path, rows: int = 20_000, seed: int = 20190) -> dict[str, int]:
    """Write the six files of a catalogue; existing files are replaced once all are complete.

    Args:
        folder: Path of the folder, created if missing.
        rows: Number of Spanish rows; see `catalogue_lines`.
        seed: Seed of every random choice.

    Returns:
        Numbers of lines by file name.

    Raises:
        ValueError: `rows` is below 1,000.
        LexiconError: A word list of the package breaks its format.
        OSError: A file cannot be written.
    """
    sizes = file_sizes(rows)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix=".catalogue-", dir=folder) as scratch:
        for name, lines in _files(rows, seed):
            written[name] = _write(Path(scratch) / name, lines)
        for name in sizes:
            (Path(scratch) / name).replace(folder / name)
    return written


def _write(path: Path, lines: Iterator[bytes]) -> int:
    count = 0
    # No name and no time in the header, so that the same lines give the same bytes.
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=_COMPRESSION, fileobj=raw, mtime=0) as packed,
    ):
        while chunk := list(islice(lines, _CHUNK)):
            count += len(chunk)
            packed.write(b"\n".join(chain(chunk, (b"",))))
    return count
