"""The `rubro predict` command: rows in, the same rows with categories out."""

from __future__ import annotations

import itertools
import os
import stat
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rubro.base.console import console, say
from rubro.base.errors import DataError
from rubro.base.threads import cores_to_use
from rubro.cli.common import checked_encoding, load_model, progress_bar
from rubro.prediction.explanation import FOREIGN_SHARE
from rubro.tables.detection import SEPARATORS, kind_of
from rubro.tables.inputs import (
    Chunk,
    Input,
    Reading,
    given_titles,
    open_input,
    with_columns,
)
from rubro.tables.writers import Answers, open_output, output_kind

if TYPE_CHECKING:
    from rubro.prediction.classifier import Classifier
    from rubro.prediction.thresholds import Thresholds

EXIT_ROWS_WITH_ERRORS = 3
# A terminal shows so many rows as a table, and more as csv.
_SHOWN_ROWS = 50
_PROMPT_TOP = 5


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        titles: Titles, or the path of one file, or "-" for standard input; none = standard input,
            or a prompt where that is a terminal.
        model: Folder of the model.
        top: Number of categories for each title; None = 1, at the prompt 5.
        least_confidence: Confidence below which no category is predicted; None = any is.
        thresholds: File with such a confidence for each category; None = any is predicted.
        details: Whether to tell what share of each title is out of the vocabulary.
        output: File to write; None = standard output.
        output_format: Kind of output; None = the name of the output tells.
        input_format: Kind of input; None = it is guessed.
        column: Name of the column of titles; None = it is guessed.
        encoding: Name of the input's encoding; None = it is guessed.
        separator: Name of the character between the input's fields; None = it is guessed.
        batch: Number of titles computed at once.
        prefix: Text before the names of the new columns.
        processes: Number of processes that compute; None = one for each core, or for standard
            input, which may be a slow stream, 1.
    """

    titles: list[str]
    model: Path
    top: int | None
    least_confidence: float | None
    thresholds: Path | None
    details: bool
    output: Path | None
    output_format: str | None
    input_format: str | None
    column: str | None
    encoding: str | None
    separator: str | None
    batch: int
    prefix: str
    processes: int | None


def predict(options: Options) -> int:
    """Answer what the options ask.

    Returns:
        Exit code: 0, or 3 where rows have errors.

    Raises:
        DataError: The model, the input or the output cannot be used.
    """
    argument = _argument(options)
    kind = options.output_format
    if kind is None and options.output is not None:
        kind = output_kind(options.output)
    if kind == "parquet" and options.output is None and sys.stdout.isatty():
        raise DataError("parquet is not for a terminal; name a file with --output")
    if options.thresholds is not None and options.least_confidence is not None:
        raise DataError("--thresholds and --min-confidence exclude each other; give one of them")
    classifier = load_model(options.model)
    if argument is None and not options.titles:
        from rubro.cli.prompt import ask_for_titles

        ask_for_titles(classifier, options.top or _PROMPT_TOP)
        return 0
    how = Reading(
        options.input_format,
        checked_encoding(options.encoding),
        SEPARATORS.get(options.separator or ""),
        options.column,
        classifier.title_column,
        options.batch,
    )
    with ExitStack() as stack:
        if argument is None:
            source = given_titles(options.titles, options.batch)
        else:
            source = stack.enter_context(open_input(argument, how))
            if source.guess:
                say(source.guess)
        return _answer(options, classifier, source, kind)


def _argument(options: Options) -> str | None:
    """The path of the input or "-"; None = titles are given or will be typed."""
    titles = options.titles
    if not titles:
        written = options.output is not None or options.output_format is not None
        asked = sys.stdin.isatty() and sys.stdout.isatty() and not written
        return None if asked else "-"
    files = [title for title in titles if title == "-" or _exists(title)]
    if files and len(titles) == 1:
        if Path(files[0]).is_dir():
            raise DataError(f"{files[0]}: a folder; name a file in it, or pipe the title in")
        return files[0]
    if files:
        raise DataError(f"{files[0]}: a file stands alone; pipe titles in where it is one of them")
    for title in titles:
        if " " not in title and kind_of(Path(title)) is not None:
            raise DataError(f"{title}: no such file")
    return None


def _exists(text: str) -> bool:
    try:
        return bool(text) and Path(text).exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL in it
        return False


def _answer(options: Options, classifier: Classifier, source: Input, kind: str | None) -> int:
    answers = _Answers(options, classifier)
    if kind is None and sys.stdout.isatty():
        first = list(itertools.islice(source.chunks, 2))
        if len(first) < 2 and sum(len(chunk.titles) for chunk in first) <= _SHOWN_ROWS:
            return answers.show(first)
        source.chunks = itertools.chain(first, source.chunks)
    kind = kind or (source.kind if source.kind in ("csv", "tsv", "jsonl") else "csv")
    rows = errors = 0
    with ExitStack() as stack:
        chunks = stack.enter_context(
            progress_bar(_is_file_written(options) and console().is_terminal)
        )
        if source.columns is None and kind != "jsonl":
            whole = replace(source, chunks=chunks(source, "reading"))
            source = stack.enter_context(with_columns(whole))
        output = stack.enter_context(open_output(options.output, kind, source, answers.columns))
        for chunk, values in _answered(classifier, chunks(source, "predicting"), answers, options):
            output.write(chunk, values)
            rows += len(chunk.errors)
            errors += sum(map(bool, chunk.errors))
    if options.output is not None:
        say(f"{options.output}: {rows:,} rows")
    if errors:
        say(f"{errors:,} of {rows:,} rows have no answer; column {answers.error!r} says why")
    return EXIT_ROWS_WITH_ERRORS if errors else 0


def _answered(
    classifier: Classifier, chunks: Iterator[Chunk], answers: _Answers, options: Options
) -> Iterator[tuple[Chunk, Answers]]:
    """Yield each chunk with the values of its new columns."""
    from rubro.prediction.parallel import answered

    whole: deque[Chunk] = deque()

    def asked() -> Iterator[Chunk]:
        for chunk in chunks:
            whole.append(chunk)
            yield Chunk(titles=chunk.titles, errors=chunk.errors)  # all that other processes need

    processes = options.processes or (1 if _argument(options) == "-" else cores_to_use())
    for _, values in answered(classifier, asked(), answers, processes):
        yield whole.popleft(), values


def _is_file_written(options: Options) -> bool:
    """Whether no other program writes to the terminal meanwhile, as behind a pipe."""
    return options.output is not None or stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)


@dataclass(frozen=True)
class _Answer:
    """Best categories of a title, and the share of its tokens that are out of the vocabulary."""

    best: list[tuple[str, float]]
    out_of_vocabulary: float


class _Answers:
    """What a classifier says of rows, in new columns.

    Attributes:
        columns: Arrow type of each new column, by its name.
        error: Name of the column of errors.
    """

    def __init__(self, options: Options, classifier: Classifier) -> None:
        self._classifier = classifier
        self._top = min(options.top or 1, len(classifier.classes_))
        self._least = options.least_confidence
        self._details = options.details
        self._thresholds: Thresholds | None = None
        if options.thresholds is not None:
            from rubro.prediction.thresholds import Thresholds

            self._thresholds = Thresholds.load(options.thresholds, options.model)
        self._accepts_all = self._least is None and self._thresholds is None
        self.error = f"{options.prefix}error"
        columns = {"predicted_category": "string", "confidence": "double"}
        if not self._accepts_all:
            columns["best_guess"] = "string"
        if self._details:
            columns |= {"out_of_vocabulary": "double", "foreign": "string"}
        for place in range(2, self._top + 1):
            columns |= {f"predicted_category_{place}": "string", f"confidence_{place}": "double"}
        columns = {f"{options.prefix}{name}": kind for name, kind in columns.items()}
        self.columns = {**columns, self.error: "string"}

    def __call__(self, chunk: Chunk) -> Answers:
        """Return the values of the new columns for each row."""
        return [
            self._row(answer, error) if answer else [*[None] * (len(self.columns) - 1), error]
            for answer, error in zip(self._answers(chunk), chunk.errors, strict=True)
        ]

    def show(self, chunks: Sequence[Chunk]) -> int:
        """Print rows as a table; return the exit code."""
        from rubro.cli.terminal import show_answers

        titles = [title for chunk in chunks for title in chunk.titles]
        errors = [error for chunk in chunks for error in chunk.errors]
        answers = [answer for chunk in chunks for answer in self._answers(chunk)]
        best = [answer.best if answer else [] for answer in answers]
        accepted = [answer is not None and self._accepts(answer) for answer in answers]
        notes = [self._note(answer) for answer in answers]
        show_answers(titles, errors, best, accepted, notes)
        return EXIT_ROWS_WITH_ERRORS if any(errors) else 0

    def _answers(self, chunk: Chunk) -> list[_Answer | None]:
        """The answer of each row; None where it has an error."""
        readable = [
            title for title, error in zip(chunk.titles, chunk.errors, strict=True) if not error
        ]
        best = self._classifier.top(readable, self._top)
        unknown = [0.0] * len(readable)
        if self._details or self._thresholds is not None:
            unknown = self._classifier.out_of_vocabulary(readable).tolist()
        found = map(_Answer, best, unknown)
        return [None if error else next(found) for error in chunk.errors]

    def _note(self, answer: _Answer | None) -> str:
        if not self._details or answer is None or not answer.out_of_vocabulary:
            return ""
        foreign = "foreign: " if answer.out_of_vocabulary > FOREIGN_SHARE else ""
        return f"{foreign}{answer.out_of_vocabulary:.0%} unknown"

    def _accepts(self, answer: _Answer) -> bool:
        category, confidence = answer.best[0]
        if self._thresholds is not None:
            return self._thresholds.accepts(category, confidence, answer.out_of_vocabulary)
        return self._least is None or confidence >= self._least

    def _row(self, answer: _Answer, error: str) -> list[str | float | None]:
        (category, confidence), *others = answer.best
        values: list[str | float | None] = [category, round(confidence, 6)]
        if not self._accepts_all:
            values = [category if self._accepts(answer) else None, values[1], category]
        if self._details:
            is_foreign = answer.out_of_vocabulary > FOREIGN_SHARE
            values += [round(answer.out_of_vocabulary, 6), "yes" if is_foreign else None]
        for category, confidence in others:
            values += [category, round(confidence, 6)]
        return [*values, error or None]
