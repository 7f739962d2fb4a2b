"""Predict the categories of product titles.

Each row of the input becomes one row of the output, in the same order and with all its columns,
followed by predicted_category, confidence (0 to 1) and error. A row that cannot be read is kept in
its place, and its error column gives the reason. If the model's categories are paths, column
predicted_level contains the number of names of the predicted category. With --min-confidence or
thresholds, the predicted category is then the deepest node of the category tree that is accepted.
If the model folder contains thresholds.json, answers below its thresholds have no category.

\b
rubro predict "Auriculares Bluetooth" --top 3
rubro predict catalogue.csv -o answers.csv
rubro predict catalogue.parquet --column nombre \\
  --min-confidence 0.6 -o answers.parquet
zcat titles.jsonl.gz | rubro predict --format csv | head

Exit codes: 0 if every row has an answer, 2 if the input or an option is wrong, 3 if some rows have an
error, 130 if interrupted, 128 + N if ended by signal N.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rubro.base.console import console, say
from rubro.base.errors import DataError
from rubro.base.outputs import output_path
from rubro.base.parallel import cores_to_use
from rubro.cli import options
from rubro.cli.runtime import (
    load_model,
    load_thresholds,
    progress_bar,
    refuse_both,
    reported_input,
    require_readable,
)
from rubro.tables.detection import kind_of, unreadable_by_name
from rubro.tables.inputs import Chunk, Input, Reading, given_titles, with_columns
from rubro.tables.writers import Answers, open_output, output_kind

if TYPE_CHECKING:
    from rubro.prediction.answers import Answer
    from rubro.prediction.classifier import Classifier
    from rubro.prediction.thresholds import Thresholds

EXIT_ROWS_WITH_ERRORS = 3
# Suffixes of other files, which predict does not read.
_OTHER_SUFFIX = re.compile(
    r"\.(accdb|avro|bak|dat|dbf|docx?|dta|gz|h5|ini|jpe?g|log|lz4|lzma|md|mdb|np[yz]|numbers|od[pt]|"
    r"parq|pdf|png|pptx?|pq|psv|rds|rtf|sav|sql|tab|toml|xltx?|ya?ml|zstd)$",
    re.IGNORECASE,
)
# Beginnings of absolute and relative paths and of addresses.
_PATH_START = re.compile(r"(/|~/|\.{1,2}/|[a-z]:\\|\w+://)\S", re.IGNORECASE)
# A terminal shows up to this many rows as a table, and more rows as csv.
_MAX_TABLE_ROWS = 50
_PROMPT_TOP = 5


def main(
    titles: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TITLE... | FILE | -",
            help="Titles; or a file: .csv, .tsv, .json, .jsonl, .txt (each also .gz) or .parquet; or - "
            "for standard input. Default: standard input if it is piped, else a prompt for titles.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write: .csv, .tsv, .jsonl (each also .gz) or .parquet. It appears only "
            "when it is complete. Default: standard output.",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="K",
            help="Number of categories for each title, best first. Default: 1, or 5 at the prompt.",
        ),
    ] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="P",
            help="Leave the predicted category empty if its confidence is lower than this; column "
            "best_guess still shows it. Replaces the thresholds of the model folder.",
        ),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File written by rubro thresholds: leave the predicted category empty if its "
            "confidence is below its threshold or the title is foreign. Default: thresholds.json in the "
            "model folder, if it exists.",
        ),
    ] = None,
    no_thresholds: options.NoThresholds = False,
    level: options.AnswerLevel = None,
    details: Annotated[
        bool,
        typer.Option(
            "--details",
            help="Add columns out_of_vocabulary, the share of the title's words that the model does "
            "not know, foreign, which is yes if this share is more than half, and with thresholds "
            "threshold, the confidence that the category had to reach.",
        ),
    ] = False,
    model: options.ModelFolder = options.DEFAULT_MODEL,
    objective: options.ServedObjective = None,
    column: options.TitleColumn = None,
    input_format: options.InputFormat = None,
    format: Annotated[
        Literal["csv", "tsv", "jsonl", "parquet"] | None,
        typer.Option(
            help="Format of the output. Default: detected from the output file name, else the format "
            "of the input.",
        ),
    ] = None,
    encoding: options.Encoding = None,
    separator: options.Separator = None,
    output_encoding: options.OutputEncoding = None,
    escape_formulas: Annotated[
        bool,
        typer.Option(
            "--escape-formulas",
            help="Write an apostrophe before csv and tsv cells that a spreadsheet would take for a "
            "formula, because they begin with =, +, -, @, a tab or a line break.",
        ),
    ] = False,
    prefix: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Prefix of the names of the new columns, for inputs that already have such columns.",
        ),
    ] = "",
    batch: Annotated[
        int,
        typer.Option(min=1, max=2**16, metavar="N", help="Number of titles computed at once."),
    ] = 1024,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of worker processes. Default: 1 for standard input, else OMP_NUM_THREADS, or "
            "the number of cores.",
        ),
    ] = None,
) -> int:
    titles = titles or []
    path = _input_path(titles, output is not None or format is not None)
    kind = _kind_of_output(output, format, path)
    has_minimum = min_confidence is not None
    refuse_both(thresholds, min_confidence=has_minimum, no_thresholds=no_thresholds)
    classifier = load_model(model, objective, level)
    if path is None and not titles:
        from rubro.cli.prompt import ask_for_titles

        ask_for_titles(classifier, top or _PROMPT_TOP, level)
        return 0
    loaded = None
    if not has_minimum and not no_thresholds:
        loaded = load_thresholds(thresholds, model, classifier.description)
    top = min(top or 1, len(classifier.level(level).nodes))
    columns = _NewColumns(classifier, top, min_confidence, loaded, level, details, prefix)
    trained_on = classifier.title_column
    reading = Reading(
        *(input_format, encoding, separator, column, trained_on, batch),
        text_columns=classifier.text_columns,
    )
    with ExitStack() as stack:
        source = (
            given_titles(titles, batch)
            if path is None
            else stack.enter_context(reported_input(path, reading))
        )
        if kind is None and sys.stdout.isatty():
            counts = _show_few_rows(source, columns)
            if counts is not None:
                _say_rejected(loaded, counts)
                return counts.exit_code
        kind = kind or (source.kind if source.kind in ("csv", "tsv", "jsonl") else "csv")
        # Another program may write to the terminal if the output goes to a pipe.
        is_file = output is not None or stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)
        progress = stack.enter_context(progress_bar(is_file and console().is_terminal))
        if source.columns is None and kind != "jsonl":
            source = replace(source, chunks=progress(source, "reading"))
            source = stack.enter_context(with_columns(source))
        if kind in ("csv", "tsv") and output is None and sys.stdout.isatty():
            output_encoding = "utf-8"  # the terminal gets its own encoding
        writer = stack.enter_context(
            open_output(output, kind, source, columns.types, output_encoding, escape_formulas)
        )
        processes = processes or (1 if path == "-" else cores_to_use())
        counts = _Counts()
        for chunk, values in _answered(columns, progress(source, "predicting"), processes):
            writer.write(chunk, values)
            counts.rows += len(chunk.errors)
            counts.errors += sum(map(bool, chunk.errors))
            counts.rejected += sum(category is None and not error for category, *_, error in values)
    if not counts.rows:
        say(f"{source.name}: the input has no rows")
    if output is not None:
        say(f"{output}: {counts.rows:,} rows")
    for note in writer.notes:
        say(note)
    _say_rejected(loaded, counts)
    if counts.errors:
        say(
            f"{counts.errors:,} of {counts.rows:,} rows have no answer; column {f'{prefix}error'!r} "
            "gives the reasons"
        )
    return counts.exit_code


@dataclass
class _Counts:
    """Numbers of rows.

    Attributes:
        rows: All rows.
        errors: Rows with an error.
        rejected: Rows whose answer is not accepted.
    """

    rows: int = 0
    errors: int = 0
    rejected: int = 0

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return EXIT_ROWS_WITH_ERRORS if self.errors else 0


def _show_few_rows(source: Input, columns: _NewColumns) -> _Counts | None:
    """Show the answers as a table if the input has few rows; otherwise, keep its rows and return None."""
    first = list(itertools.islice(source.chunks, 2))
    if len(first) != 1 or len(first[0].titles) > _MAX_TABLE_ROWS:
        source.chunks = itertools.chain(first, source.chunks)
        return None
    rejected = columns.show(first[0])
    return _Counts(len(first[0].titles), sum(map(bool, first[0].errors)), rejected)


def _kind_of_output(output: Path | None, format: str | None, path: str | None) -> str | None:
    """Return the format of the output; None = it depends on the input.

    Args:
        output: File to write; None = standard output.
        format: Format given by the user.
        path: Input file, if there is one.

    Raises:
        DataError: The output cannot be written in this format, or it is the input file.
    """
    if output is not None:
        output_path(output)
        return format or output_kind(output)
    _require_other_output(path)
    if format == "parquet" and sys.stdout.isatty():
        raise DataError("parquet cannot be shown in a terminal; write it to a file with --output")
    return format


def _say_rejected(thresholds: Thresholds | None, counts: _Counts) -> None:
    if thresholds is not None and counts.rejected:
        say(
            f"{counts.rejected:,} of {counts.rows:,} rows have no category, because their confidence is below the "
            f"threshold for a precision of {thresholds.precision:.4g}, or most of their words are "
            "unknown; --no-thresholds accepts every answer"
        )


def _input_path(titles: Sequence[str], is_written: bool) -> str | None:
    """Return the input file ("-" for standard input), or None if titles are given or typed."""
    if not titles:
        is_prompt = not is_written and sys.stdin.isatty() and sys.stdout.isatty()
        return None if is_prompt else "-"
    files = [title for title in titles if title == "-" or os.path.lexists(title)]
    if files and len(titles) == 1:
        require_readable(files[0])
        return files[0]
    if files:
        raise DataError(
            f"{files[0]}: a file must be the only argument; if it is meant as a title, pipe the "
            "titles in"
        )
    for title in titles:
        if _looks_like_a_path(title):
            raise DataError(f"{title}: no such file; if it is meant as a title, pipe the title in")
    return None


def _looks_like_a_path(text: str) -> bool:
    """Return whether a text, such as data/new or my catalogue.csv, looks more like a path than a title."""
    text = text.strip().strip("\"'")
    path = Path(text.rstrip("~"))
    for name in (path, Path(path.stem)):  # the second one of catalogue.csv.part
        if kind_of(name) or unreadable_by_name(name) or _OTHER_SUFFIX.search(name.name):
            return True
    if _PATH_START.match(text):
        return True
    is_word = not any(map(str.isspace, text))
    folder = str(path.parent)
    return "/" in text and (is_word or (folder != "/" and os.path.lexists(folder)))


def _require_other_output(path: str | None) -> None:
    """Raise DataError if standard output is the input file, which would then grow forever."""
    if path is None:
        return
    source = os.fstat(0) if path == "-" else Path(path).stat()
    if stat.S_ISREG(source.st_mode) and os.path.samestat(source, os.fstat(1)):
        raise DataError(
            "standard output is the input file; write to another file, or name it with --output, "
            "which replaces it when all rows are answered"
        )


def _answered(
    columns: _NewColumns, chunks: Iterator[Chunk], processes: int
) -> Iterator[tuple[Chunk, Answers]]:
    """Yield each chunk of input rows with the values of its prediction columns."""
    from rubro.prediction.parallel import answered

    pending: deque[Chunk] = deque()

    def questions() -> Iterator[Chunk]:
        for chunk in chunks:
            pending.append(chunk)
            # Workers need only these.
            yield Chunk(titles=chunk.titles, errors=chunk.errors, texts=chunk.texts)

    for _, values in answered(columns.classifier, questions(), columns.values, processes):
        yield pending.popleft(), values


@dataclass(frozen=True)
class _NewColumns:
    """Columns with predictions that are added to the rows of the input.

    Attributes:
        classifier: Classifier that computes their values.
        top: Number of categories for each title.
        min_confidence: Minimum confidence of an accepted answer; None = accept any confidence.
        thresholds: Minimum confidence for each category; None = accept any confidence.
        level: The only level of the category tree to answer at; None = the deepest accepted level.
        details: Whether to add out_of_vocabulary and foreign.
        prefix: Prefix of the column names.
    """

    classifier: Classifier
    top: int
    min_confidence: float | None
    thresholds: Thresholds | None
    level: int | None
    details: bool
    prefix: str

    @property
    def types(self) -> dict[str, str]:
        """Arrow type of each added column, by its name."""
        types = {"predicted_category": "string", "confidence": "double"}
        if self.classifier.tree:
            types["predicted_level"] = "int64"
        if not self._accepts_all:
            types["best_guess"] = "string"
        if self.details:
            types |= {"out_of_vocabulary": "double", "foreign": "string"}
            if self.thresholds is not None:
                types["threshold"] = "double"
        for place in range(2, self.top + 1):
            types |= {f"predicted_category_{place}": "string", f"confidence_{place}": "double"}
        types["error"] = "string"
        return {f"{self.prefix}{name}": kind for name, kind in types.items()}

    def values(self, chunk: Chunk) -> Answers:
        """Return the values of the added columns for each row."""
        empty = [None] * (len(self.types) - 1)
        return [
            [*(self._values_of(answer) if answer else empty), error or None]
            for answer, error in zip(self._answers(chunk), chunk.errors, strict=True)
        ]

    def show(self, chunk: Chunk) -> int:
        """Print the predictions for the rows of a chunk as a table.

        Returns:
            Number of answers that are not accepted.
        """
        from rubro.cli.terminal import show_answers

        rows: list[tuple[str, str, list[tuple[str, float]], bool, str]] = []
        for title, error, answer in zip(
            chunk.titles, chunk.errors, self._answers(chunk), strict=True
        ):
            if answer is None:
                rows.append((title, error, [], False, ""))
                continue
            notes = []
            is_rejected = self.thresholds is not None and answer.category is None
            if answer.out_of_vocabulary and (self.details or (is_rejected and answer.is_foreign)):
                foreign = "foreign: " if answer.is_foreign else ""
                notes.append(f"{foreign}{answer.out_of_vocabulary:.0%} unknown")
            if is_rejected and not answer.is_foreign and answer.threshold is not None:
                notes.append(f"below {answer.threshold:.0%}")
            note = ", ".join(notes)
            rows.append((title, error, _shown(answer), answer.category is not None, note))
        show_answers(rows, self.classifier.tree)
        return sum(not error and not is_accepted for _, error, _, is_accepted, _ in rows)

    @property
    def _accepts_all(self) -> bool:
        return self.min_confidence is None and self.thresholds is None

    def _answers(self, chunk: Chunk) -> list[Answer | None]:
        """Return the answer for each row, or None if the row has an error."""
        from rubro.prediction.answers import answers

        readable = [
            product
            for product, error in zip(chunk.products, chunk.errors, strict=True)
            if not error
        ]
        found = iter(
            answers(
                self.classifier,
                readable,
                self.top,
                min_confidence=self.min_confidence or 0.0,
                thresholds=self.thresholds,
                level=self.level,
                details=self.details,
            )
        )
        return [None if error else next(found) for error in chunk.errors]

    def _values_of(self, answer: Answer) -> list[str | float | None]:
        values: list[str | float | None] = [answer.category, round(answer.confidence, 6)]
        if self.classifier.tree:
            values.append(answer.level or None)
        if not self._accepts_all:
            values.append(answer.best[0][0])
        if self.details:
            unknown = answer.out_of_vocabulary or 0.0
            values += [round(unknown, 6), "yes" if answer.is_foreign else None]
            if self.thresholds is not None:
                values.append(answer.threshold)
        for category, confidence in answer.best[1:]:
            values += [category, round(confidence, 6)]
        return values


def _shown(answer: Answer) -> list[tuple[str, float]]:
    """Return an accepted category before the best categories, in which it may be an upper node."""
    if answer.category in (None, answer.best[0][0]):
        return answer.best
    return [(answer.category, answer.confidence), *answer.best[1:]]
