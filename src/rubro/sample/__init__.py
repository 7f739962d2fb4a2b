"""Create a SYNTHETIC Spanish catalogue in the layout of a course's MeLi Data Challenge 2019.

No row comes from Mercado Libre. Every title is composed from hand-written word lists, so scores on
this catalogue mean nothing for the challenge. It lets the pipeline and its tests run without the
real data, and it imitates the difficulties of real titles: missing accents, typos, abbreviations,
selling noise, missing nouns, wrong labels, duplicates across splits, rows in another language and a
few broken lines.

The same `rows` and `seed` give the same lines on every supported Python version.
"""

from __future__ import annotations

import gzip
import json
import zlib
from array import array
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import accumulate, chain
from pathlib import Path
from random import Random
from typing import Any

from rubro.base.outputs import replacing
from rubro.sample.titles import TitleMaker, strip_accents, tokenize_title
from rubro.sample.words import LexiconEntry, Shared, load_words

_SPLITS = ("train", "validation", "test")
_MINIMUM_ROWS = 1_000
_BROKEN_LINES = 15

_EXPONENT = 0.6  # of Zipf's law: the popularity of a category is rank ** -exponent
_TAIL = (3, 2, 2, 1, 1)  # training rows of the rarest categories
_UNSEEN_SHARE = 0.0015  # share of validation and test in a category without training rows
_UNRELIABLE = 0.8  # share of unreliable labels in train and validation
_WRONG = 0.08  # share of wrong labels among the unreliable ones
_WRONG_NEIGHBOUR = 0.85  # share of wrong labels that name a neighbour
_PORTUGUESE_SHARE = 0.075  # Portuguese rows for each Spanish row
_FOREIGN_SHARE = 0.0025  # share of Portuguese rows in spanish.train
_REPEAT_SHARE = 0.00625  # share of training titles that repeat an earlier one
_LEAK_SHARE = 0.03  # share of validation and test titles that repeat a training title
_LEAK_VARIED = 0.3  # share of these titles that are spelled differently
_KEEP_EVERY = 40  # every 40th training title may be repeated
_COMPRESSION = 6

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _split_sizes(language: str, rows: int) -> dict[str, int]:
    total = rows if language == "spanish" else round(rows * _PORTUGUESE_SHARE)
    held_out = total // 10
    return dict(zip(_SPLITS, (total - 2 * held_out, held_out, held_out), strict=True))


def file_sizes(rows: int) -> dict[str, int]:
    """Return the number of lines of each file of a catalogue, in writing order.

    Args:
        rows: Number of Spanish rows in the three splits, including broken lines.

    Raises:
        ValueError: `rows` is below 1,000.
    """
    if rows < _MINIMUM_ROWS:
        raise ValueError(f"rows must be at least {_MINIMUM_ROWS:,} to fill every split, got {rows}")
    return {
        f"{language}.{split}.jsonl.gz": size
        for language in ("spanish", "portuguese")
        for split, size in _split_sizes(language, rows).items()
    }


def broken_positions(rows: int) -> list[int]:
    """Return the positions (from 0) of broken lines in spanish.train, spread over the file."""
    size = _split_sizes("spanish", rows)["train"]
    return [(2 * k + 1) * size // (2 * _BROKEN_LINES) for k in range(_BROKEN_LINES)]


def _apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Divide a total into integers in proportion to weights, by the largest remainder method."""
    whole = sum(weights)
    exact = [total * weight / whole for weight in weights]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


class _Corpus:
    """Generates the catalogue lines of one language.

    The splits must be generated in order, because later splits reuse titles of train.
    """

    def __init__(
        self,
        language: str,
        rows: int,
        seed: int,
        shared: Shared,
        lexicon: Mapping[str, LexiconEntry],
    ) -> None:
        spanish = language == "spanish"
        self.language = language
        self.names = [name for name in sorted(lexicon) if spanish or lexicon[name].portuguese]
        self._stop_words = frozenset(shared.stop_words)
        self._sizes = _split_sizes(language, rows)
        draw = self._draw = Random(2 * seed + (0 if spanish else 1)).random
        # Checksums of names: an order that looks arbitrary and survives new categories.
        order = sorted(range(len(self.names)), key=lambda i: zlib.crc32(self.names[i].encode()))
        rare = len(_TAIL) + 1 if spanish else 0
        self._ranked = order[: len(order) - rare]
        self._rare = order[len(order) - rare :]
        self._weights = [(rank + 1) ** -_EXPONENT for rank in range(len(self._ranked))]
        self._cumulative = list(accumulate(self._weights))
        ranked, index = set(self._ranked), {name: i for i, name in enumerate(self.names)}
        self._neighbours = [
            [index[n] for n in lexicon[name].neighbours if n in index and index[n] in ranked]
            for name in self.names
        ]
        self._titles = TitleMaker(language, self.names, shared, lexicon, draw)
        self._foreign = [i for i in self._ranked if spanish and lexicon[self.names[i]].portuguese]
        self._foreign_titles = TitleMaker(
            "portuguese", [self.names[i] for i in self._foreign], shared, lexicon, draw
        )
        self._kept: list[tuple[str, int]] = []
        self._tokens: dict[str, int] = {}

    def _plan(self, split: str, total: int) -> array[int]:
        """Return a code per row in random order: a category index, or a marker of other rows.

        The markers are the numbers after the last category index. They stand for repeated titles
        and for titles in a foreign language.
        """
        repeat, foreign = len(self.names), len(self.names) + 1
        fixed: dict[int, int] = {}
        if split == "train":
            fixed.update(zip(self._rare, _TAIL, strict=False))
            fixed[repeat] = round(total * _REPEAT_SHARE)
            fixed[foreign] = round(total * _FOREIGN_SHARE) if self._foreign else 0
        else:
            fixed.update({i: max(2, round(total * _UNSEEN_SHARE)) for i in self._rare[-1:]})
            fixed[repeat] = round(total * _LEAK_SHARE)
        counts = _apportion(total - sum(fixed.values()), self._weights)
        plan = array("H")
        for code, count in chain(zip(self._ranked, counts, strict=True), fixed.items()):
            plan.extend(array("H", [code]) * count)
        for i in range(len(plan) - 1, 0, -1):
            j = int(self._draw() * (i + 1))
            plan[i], plan[j] = plan[j], plan[i]
        return plan

    def _popular_rank(self) -> int:
        """Return the rank of a random category, drawn with a probability equal to its popularity."""
        rank = bisect(self._cumulative, self._draw() * self._cumulative[-1])
        return min(rank, len(self._ranked) - 1)

    def _unreliable_label(self, truth: int) -> int:
        """Return the category index that an unreliable seller chooses, which is usually `truth`."""
        draw = self._draw
        if draw() >= _WRONG or truth in self._rare:
            return truth
        neighbours = self._neighbours[truth]
        if neighbours and draw() < _WRONG_NEIGHBOUR:
            return neighbours[int(draw() * len(neighbours))]
        rank = self._popular_rank()
        if self._ranked[rank] == truth:
            rank = (rank + 1) % len(self._ranked)
        return self._ranked[rank]

    def _repeated_title(self, vary: bool) -> tuple[str, int]:
        """Return a training title and its category index; if `vary`, its case may change."""
        draw = self._draw
        if not self._kept:
            index = self._ranked[self._popular_rank()]
            return self._titles.title(index), index
        title, truth = self._kept[int(draw() * len(self._kept))]
        if vary and draw() < _LEAK_VARIED:
            title = title.lower() if draw() < 0.5 else strip_accents(title).upper()
        return title, truth

    def lines(self, split: str, broken: Sequence[int]) -> Iterator[bytes]:
        """Yield the lines of a split, with broken lines at the positions in `broken`."""
        draw, repeat, is_train = self._draw, len(self.names), split == "train"
        number = 0
        for at, code in enumerate(self._plan(split, self._sizes[split] - len(broken))):
            if number < len(broken) and at + number == broken[number]:
                yield self._broken_line(number)
                number += 1
            language, truth = self.language, code
            if code < repeat:
                title = self._titles.title(code)
            elif code == repeat:
                title, truth = self._repeated_title(vary=not is_train)
            else:
                pick = int(draw() * len(self._foreign))
                language, truth = "portuguese", self._foreign[pick]
                title = self._foreign_titles.title(pick)
            label, quality = truth, "reliable"
            if split != "test" and draw() < _UNRELIABLE:
                label, quality = self._unreliable_label(truth), "unreliable"
            if is_train and at % _KEEP_EVERY == 0 and truth not in self._rare:
                self._kept.append((title, truth))
            tokens = tokenize_title(title, self._stop_words)
            if is_train:
                for token in tokens:
                    self._tokens.setdefault(token, len(self._tokens) + 1)
            yield _encode(self._record(language, quality, title, label, split, tokens)).encode()

    def _record(
        self, language: str, quality: str, title: str, label: int, split: str, tokens: list[str]
    ) -> dict[str, Any]:
        return {
            "language": language,
            "label_quality": quality,
            "title": title,
            "category": self.names[label],
            "split": split,
            "tokenized_title": tokens,
            "data": [self._tokens.get(token, 0) for token in tokens],
            "target": label,
            "n_labels": len(self.names),
            "size": self._sizes[split],
        }

    def _broken_line(self, number: int) -> bytes:
        """Return a line with one of the faults of scraped files; `number` selects the fault."""
        index = self._ranked[7 * number % len(self._ranked)]
        title, category = self._titles.title(index), self.names[index]
        tokens = tokenize_title(title, self._stop_words)
        record = self._record(self.language, "unreliable", title, index, "train", tokens)

        def changed(**values: object) -> str:
            return _encode({**record, **values})

        def without(name: str) -> str:
            return _encode({key: value for key, value in record.items() if key != name})

        sound = _encode(record)
        lines = [
            f"{title};{category}",
            sound[: len(sound) // 2],
            without("title"),
            changed(title=""),
            changed(title="   \t "),
            changed(title=None),
            changed(title=4815),
            without("category"),
            changed(category=None),
            _encode([title, category]),
            "",
            changed(title=f"{title} Promoción Año"),
            changed(title=title.replace(" ", "\x00", 2)),
            changed(title=" ".join([title] * 3_000)[:3_000]),
            changed(category=""),
        ]
        return lines[number].encode("latin-1" if number == 11 else "utf-8", "replace")


def catalogue_files(rows: int, seed: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the files of a catalogue in writing order; read the lines of each before the next.

    Args:
        rows: Number of Spanish rows in the three splits, including broken lines; Portuguese rows
            add 7.5 %.
        seed: Seed of every random choice.

    Yields:
        Name of a file, and its lines without line ends.

    Raises:
        ValueError: `rows` is below 1,000.
    """
    shared, lexicon = load_words()
    for name in file_sizes(rows):
        language, split, *_ = name.split(".")
        if split == "train":
            corpus = _Corpus(language, rows, seed, shared, lexicon)
        broken = broken_positions(rows) if name == "spanish.train.jsonl.gz" else []
        yield name, corpus.lines(split, broken)


def write_catalogue(folder: Path, rows: int = 20_000, seed: int = 20_190) -> dict[str, int]:
    """Write the six files of a catalogue; existing files are replaced once all are complete.

    Args:
        folder: Path of the folder; it is created if missing.
        rows: Number of Spanish rows; see `catalogue_files`.
        seed: Seed of every random choice.

    Returns:
        Number of lines of each file, by file name.

    Raises:
        ValueError: `rows` is below 1,000.
        OSError: A file cannot be written.
    """
    with ExitStack() as stack:
        for name, lines in catalogue_files(rows, seed):
            partial = stack.enter_context(replacing(folder / name))
            # Without name and time in the header, the same lines give the same bytes.
            with (
                open(partial, "wb") as raw,
                gzip.GzipFile("", "wb", compresslevel=_COMPRESSION, fileobj=raw, mtime=0) as packed,
            ):
                packed.writelines(line + b"\n" for line in lines)
    return file_sizes(rows)
