"""Choose the unlabelled titles whose labels would help most.

The chosen titles are those that the model is uncertain about and that represent many other uncertain
titles. No two of them are nearly the same. Titles that already have a category, in the file or in
data/subset, are left out. Foreign titles, whose words mostly occur in no labelled title, are chosen only
if there are not enough others. Without a trained model, titles that represent the catalogue are chosen.

The output is a csv with an empty category column and five suggestions for each title. Fill in categories
and save the file in data/corrections; the next `dvc repro` learns from it.

\b
rubro next               # rows without a category
rubro next titles.csv --budget 100 -o monday.csv

Requires the training packages: pip install 'rubro[train]'.

Exit codes: 0 if the file is written, 2 if the input, the model or an option is wrong, 130 if interrupted,
128 + N if ended by signal N.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rubro.base.console import console, say
from rubro.base.errors import DataError, remedied_by
from rubro.base.outputs import output_path
from rubro.base.parallel import cores_to_use
from rubro.base.text import tokenise
from rubro.cli import options
from rubro.cli.runtime import load_model, progress_bar, reported_input, require_readable
from rubro.prediction.explanation import FOREIGN_SHARE
from rubro.tables.cells import text_or_empty
from rubro.tables.detection import find_column
from rubro.tables.inputs import CATEGORY_NAMES, Chunk, Input, Reading, column_values, open_input
from rubro.tables.writers import open_output, output_kind

if TYPE_CHECKING:
    from rubro.labelling.active_learning import Candidate
    from rubro.prediction.classifier import Classifier

_SUBSET = Path("data/subset")
_UNLABELLED = _SUBSET / "unlabelled.parquet"
_SUGGESTIONS = 5
_DIGITS = 4
_BATCH = 1024
# For each title to choose, as many candidates are kept while the file is read.
_CANDIDATES = 20
_MIN_CANDIDATES = 2000
_SAMPLE = 10_000  # random titles that the chosen titles should represent


def main(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE | -",
            help="Titles: .csv, .tsv, .json, .jsonl, .txt (each also .gz) or .parquet; or - for "
            "standard input. Default: data/subset/unlabelled.parquet.",
        ),
    ] = None,
    budget: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="N", help="Number of titles to choose.")
    ] = 200,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "--out",
            "-o",
            metavar="FILE | -",
            help="File to write: .csv or .tsv; or - for standard output.",
        ),
    ] = Path("next.csv"),
    model: options.ModelFolder = options.DEFAULT_MODEL,
    objective: options.ServedObjective = None,
    column: options.TitleColumn = None,
    input_format: options.InputFormat = None,
    encoding: options.Encoding = None,
    separator: options.Separator = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of worker processes. Default: OMP_NUM_THREADS, or the number of cores.",
        ),
    ] = None,
) -> None:
    if file is None:
        _require_unlabelled()
        column = "title"
    path = file or str(_UNLABELLED)
    require_readable(path)
    is_stream = str(output) == "-"
    kind = "csv" if is_stream else output_kind(output)
    if kind not in ("csv", "tsv"):
        raise DataError(f"{output}: the file is meant to be edited; use a name that ends with .csv")
    classifier = None
    if model != options.DEFAULT_MODEL or (model / "model.json").exists():
        classifier = load_model(model, objective)
    columns = _columns(classifier)
    if not is_stream:
        output_path(output)
        _require_no_labels(output, path, columns)
    rows = _Rows(columns)
    reading = Reading(
        *(input_format, encoding, separator, column, columns.title, _BATCH),
        text_columns=columns.texts,
    )
    with ExitStack() as stack:
        source = stack.enter_context(reported_input(path, reading))
        progress = stack.enter_context(progress_bar(console().is_terminal))
        chunks = progress(source, "predicting" if classifier else "reading")
        batches: Iterator[list[Candidate]] = (rows.candidates(source, chunk) for chunk in chunks)
        if classifier:
            batches = _predicted(classifier, batches, processes or cores_to_use())
        else:
            say(
                f"{model}: no model in this folder, so titles that represent the whole file "
                "are chosen, instead of titles that the model is uncertain about"
            )
        found = _chosen(batches, classifier is not None, budget)
    if rows.read and not found:
        raise DataError(f"{path}: none of {rows.read:,} rows is a title to label{rows.left_out}")
    _write(None if is_stream else output, kind, source, columns, found)
    name = "standard output" if is_stream else str(output)
    say(f"{name}: {len(found):,} of {rows.read:,} titles{rows.left_out}")
    if len(found) < min(budget, rows.candidate_count):
        others = rows.candidate_count - len(found)
        say(f"{others:,} further titles are left out, because most are nearly the same as these")
    foreign = sum(each.is_foreign for each in found)
    if classifier and foreign:
        say(f"{foreign:,} of them are foreign: most of their words occur in no labelled title")
    if classifier and found:
        say(
            f"write categories into {' and '.join(map(repr, columns.categories))}, save the file in "
            "data/corrections, and run `dvc repro`"
        )


def _require_unlabelled() -> None:
    """Raise DataError if the subset has no file of titles without a category."""
    if _UNLABELLED.is_file():
        return
    if not (_SUBSET / "train.parquet").is_file():
        raise DataError(
            f"{_UNLABELLED}: no such file; name a file of titles, or run `dvc repro subset`"
        )
    raise DataError(
        f"{_UNLABELLED}: no such file, because the catalogue has no rows without a category or too few, "
        "or because data.unlabelled is ignore; name a file of titles, or add rows without a category "
        "and run `dvc repro`"
    )


@dataclass(frozen=True)
class _Columns:
    """Names of the columns of the catalogue.

    Attributes:
        title: Name of the title column.
        texts: Names of the text columns.
        categories: Name of the category column, or names of the columns with its levels.
    """

    title: str
    texts: Sequence[str]
    categories: Sequence[str]


def _columns(classifier: Classifier | None) -> _Columns:
    """Return the names of the columns of the model, or of params.yaml if there is no model."""
    if classifier is not None:
        category = classifier.description.text.category_column
        title, texts = classifier.title_column, classifier.text_columns
    elif Path("params.yaml").is_file():
        from rubro.base.params_file import load_params

        data = load_params("params.yaml").data
        title, texts, category = data.title_column, data.text_columns, data.category_column
    else:
        title, texts, category = "title", [], "category"
    return _Columns(title, texts, [category] if isinstance(category, str) else category)


def _require_no_labels(output: Path, source: str, columns: _Columns) -> None:
    """Raise DataError if the output is the input, or a file in which categories are filled in."""
    if not output.is_file() or not output.stat().st_size:
        return
    if source != "-" and output.samefile(source):
        raise DataError(f"{output}: this is the input; name another file with --output")
    reading = Reading(None, None, None, None, columns.title, _BATCH)
    labels = 0
    with open_input(str(output), reading) as existing:
        for chunk in existing.chunks:
            labels += sum(map(bool, _labels(existing, chunk, columns)))
    if labels:
        raise DataError(
            f"{output}: {labels:,} rows of this file have a category, which would be lost; move the "
            "file to data/corrections, or name another file with --output"
        )


def _labels(source: Input, chunk: Chunk, columns: _Columns) -> list[str]:
    """Return the category of each row of a chunk; "" if it has none."""
    names: list[str] = list(columns.categories)
    if source.columns is not None:
        others = [name for name in source.columns if name != source.title_column]
        usual = CATEGORY_NAMES if len(names) == 1 else ()
        found = [find_column(others, (name, *usual)) for name in names]
        names = [name for name in found if name is not None]
    labels = [""] * len(chunk.titles)
    for name in names:
        values = column_values(chunk, source.columns, name)
        labels = [
            label or text_or_empty(each).strip() for label, each in zip(labels, values, strict=True)
        ]
    return labels


class _Rows:
    """Turns the rows of an input into candidates, and counts those that are left out.

    Args:
        columns: Names of the columns.

    Attributes:
        read: Number of rows read.
    """

    def __init__(self, columns: _Columns) -> None:
        from rubro.data.labels import title_keys
        from rubro.data.splits import SPLITS, load_split

        self._columns = columns
        self.read = self._unreadable = self._with_category = 0
        self._keys: set[int] = set()  # hashes of the labelled titles of the project
        self._words: set[str] = set()
        for name in SPLITS:
            if (_SUBSET / f"{name}.parquet").is_file():
                with remedied_by("Run `dvc repro subset`, which writes it"):
                    table = load_split(_SUBSET, name, ("title", "tokens"))
                self._keys.update(title_keys(table["title"]).tolist())
                self._words.update(*map(str.split, table["tokens"]))

    @property
    def candidate_count(self) -> int:
        """Number of titles without a category."""
        return self.read - self._unreadable - self._with_category

    @property
    def left_out(self) -> str:
        """End of a sentence about the rows that were left out; "" if there are none."""
        counts = {"have a category": self._with_category, "cannot be read": self._unreadable}
        parts = [f"{count:,} that {reason}" for reason, count in counts.items() if count]
        return f"; left out: {', '.join(parts)}" if parts else ""

    def candidates(self, source: Input, chunk: Chunk) -> list[Candidate]:
        """Return the rows of a chunk that are titles without a category."""
        import pandas as pd

        from rubro.data.labels import title_keys
        from rubro.labelling.active_learning import Candidate

        taken = {self._columns.title, *self._columns.texts, *self._columns.categories}
        names = {"file", "line"}.intersection(source.columns or ()) - taken
        places = {name: column_values(chunk, source.columns, name) for name in sorted(names)}
        keys = title_keys(pd.Series(chunk.titles, dtype="str")).tolist()
        labels = _labels(source, chunk, self._columns)
        self.read += len(keys)
        found = []
        for row, (title, key) in enumerate(zip(chunk.titles, keys, strict=True)):
            if chunk.errors[row]:
                self._unreadable += 1
            elif labels[row] or key in self._keys:
                self._with_category += 1
            else:
                texts = chunk.texts[row] if chunk.texts else {}
                place = {name: values[row] for name, values in places.items()}
                found.append(Candidate(title, texts, place, (), self._is_foreign(title), key))
        return found

    def _is_foreign(self, title: str) -> bool:
        """Return whether most words of a title occur in no labelled title."""
        tokens = tokenise(title)
        unknown = sum(token not in self._words for token in tokens)
        return bool(self._words) and unknown > FOREIGN_SHARE * len(tokens)


def _predicted(
    classifier: Classifier, batches: Iterable[list[Candidate]], processes: int
) -> Iterator[list[Candidate]]:
    """Yield batches of candidates with their most probable categories."""
    from rubro.prediction.answers import answers
    from rubro.prediction.parallel import answered

    count = min(_SUGGESTIONS, len(classifier.classes_))

    def predicted(batch: list[Candidate]) -> list[Candidate]:
        products = [each.texts or each.title for each in batch]
        found = answers(classifier, products, count, details=True)
        return [
            replace(candidate, best=own.best, is_foreign=candidate.is_foreign or own.is_foreign)
            for candidate, own in zip(batch, found, strict=True)
        ]

    for _, batch in answered(classifier, filter(None, batches), predicted, processes):
        yield batch


def _chosen(batches: Iterable[list[Candidate]], has_model: bool, budget: int) -> list[Candidate]:
    """Return the candidates to label, in the order of choice.

    With a model, only the most uncertain candidates can be chosen; foreign ones are chosen only if
    there are not enough others. Without a model, any candidates of a random sample can be chosen.
    """
    import numpy as np

    from rubro.labelling.active_learning import (
        BestCandidates,
        by_key,
        by_uncertainty,
        titles_to_label,
    )

    sample = BestCandidates(by_key, max(_SAMPLE, 2 * budget))
    uncertain = BestCandidates(by_uncertainty, max(_CANDIDATES * budget, _MIN_CANDIDATES))
    for batch in batches:
        sample.add(batch)
        if has_model:
            uncertain.add(batch)
    represented = sample.best()
    candidates, weights = represented, np.ones(len(represented))
    if has_model:
        candidates = uncertain.best()
        known = [each for each in candidates if not each.is_foreign]
        candidates = known if len(known) >= budget else candidates
        weights = np.array([1 - each.margin for each in represented])
    titles, others = ([each.title for each in part] for part in (candidates, represented))
    return [candidates[place] for place in titles_to_label(titles, others, weights, budget)]


def _write(
    path: Path | None,
    kind: str,
    source: Input,
    columns: _Columns,
    found: Sequence[Candidate],
) -> None:
    """Write the chosen titles in the dialect of the input, with empty category columns."""
    places = list(found[0].place) if found else []
    names = [columns.title, *columns.texts, *columns.categories]
    names += [f"suggestion_{place}" for place in range(1, _SUGGESTIONS + 1)]
    table = Input(
        *(source.name, source.kind, [*names, "confidence", *places], columns.title, iter(())),
        delimiter=source.delimiter,
        decimal_comma=source.decimal_comma,
    )
    # Excel needs the mark; any encoding other than UTF-8 may lack letters of the categories.
    needs_mark = source.has_mark or not source.encoding.startswith("utf-8")
    encoding = "utf-8-sig" if needs_mark else "utf-8"
    with open_output(path, kind, table, {}, encoding) as writer:
        rows = [[*_cells(each, columns), *(each.place[name] for name in places)] for each in found]
        writer.write(Chunk(rows=rows), [[]] * len(rows))


def _cells(candidate: Candidate, columns: _Columns) -> list[object]:
    suggestions = [name for name, _ in candidate.best]
    return [
        candidate.title,
        *(candidate.texts.get(name, "") for name in columns.texts),
        *("" for _ in columns.categories),
        *suggestions,
        *[""] * (_SUGGESTIONS - len(suggestions)),
        round(candidate.best[0][1], _DIGITS) if candidate.best else "",
    ]
