"""Read labelled titles and compute their logits with a model."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rubro.base.console import console, say
from rubro.base.errors import DataError, remedied_by
from rubro.base.files import damaged, read_json
from rubro.base.text_columns import Product
from rubro.cli.runtime import progress_bar, require_readable
from rubro.tables.cells import category_name, text_or_empty
from rubro.tables.detection import find_column
from rubro.tables.inputs import CATEGORY_NAMES, Chunk, Input, Reading, column_values, open_input
from rubro.tables.streams import listed

if TYPE_CHECKING:
    import numpy as np

    from rubro.prediction.classifier import Classifier

_BATCH = 1024
_QUALITY_COLUMN = "label_quality"


@dataclass
class Labelled:
    """Rows of a file that have a title and a category, and the numbers of other rows.

    Attributes:
        titles: Title of each row.
        products: Product of each row as the classifier takes it.
        nodes: Index of the node of each row's category at each level, deepest level first, (n,
            levels); -1 if the model does not know the node.
        reliable: False for each row that the column label_quality marks as unreliable, bool (n,).
        logits: Logits of the titles, float32 (n, classes), in one array per batch.
        rows: Number of rows read.
        unreadable: Number of rows that cannot be read.
        uncategorised: Number of rows without a category.
        unknown: Number of rows of each category that the model does not know.
    """

    titles: list[str] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    nodes: list[tuple[int, ...]] = field(default_factory=list)
    reliable: list[bool] = field(default_factory=list)
    logits: list[np.ndarray] = field(default_factory=list)
    rows: int = 0
    unreadable: int = 0
    uncategorised: int = 0
    unknown: Counter[str] = field(default_factory=Counter)

    @property
    def targets(self) -> list[int]:
        """Class index of each row, (n,); -1 if the model does not know the category."""
        return [deepest for deepest, *_ in self.nodes]


def read_labelled(
    file: str,
    classifier: Classifier,
    title_column: str | None,
    category_column: str | None,
    kind: str | None,
    encoding: str | None,
    separator: str | None,
) -> Labelled:
    """Read the labelled titles of a file and compute their logits with a model.

    Rows that cannot be read and rows without a category are skipped and counted.

    Args:
        file: Path of the file, or "-" for standard input.
        classifier: Classifier that computes the logits.
        title_column: Name of the title column; None = detect it, as the arguments below.
        category_column: Name of the category column.
        kind: Format of the file.
        encoding: Python's name of the encoding.
        separator: Name of the character between fields, such as "comma".

    Raises:
        DataError: The file is missing or damaged, or none of its rows has a title and a category
            that the model knows.
    """
    require_readable(file)
    trained_on = classifier.title_column
    reading = Reading(
        *(kind, encoding, separator, title_column, trained_on, _BATCH, "--title-column"),
        text_columns=classifier.text_columns,
    )
    labelled = Labelled()
    nodes_of = _NodesOf(classifier)
    with open_input(file, reading) as source, progress_bar(console().is_terminal) as progress:
        first = list(itertools.islice(source.chunks, 1))
        columns = source.columns
        if columns is None:
            columns = list({key: None for chunk in first for row in chunk.rows for key in row})
        levels = _category_columns(source, columns, category_column, classifier)
        source.chunks = itertools.chain(first, source.chunks)
        for chunk in progress(source, "predicting"):
            products = []
            qualities: list[Any] = [None] * len(chunk.titles)
            if _QUALITY_COLUMN in columns:
                qualities = column_values(chunk, source.columns, _QUALITY_COLUMN)
            for title, product, error, name, quality in zip(
                *(chunk.titles, chunk.products, chunk.errors),
                *(_categories(source, chunk, levels, classifier), qualities),
                strict=True,
            ):
                if error:
                    labelled.unreadable += 1
                elif not name:
                    labelled.uncategorised += 1
                else:
                    nodes = nodes_of[name]
                    if nodes[0] < 0:
                        labelled.unknown[name] += 1
                    labelled.titles.append(title)
                    products.append(product)
                    labelled.nodes.append(nodes)
                    labelled.reliable.append(_name(quality) != "unreliable")
            labelled.rows += len(chunk.titles)
            labelled.products += products
            labelled.logits.append(classifier.logits(products))
    _report_odd_rows(source.name, ", ".join(levels), labelled)
    return labelled


class _NodesOf(dict[str, tuple[int, ...]]):
    """Index of the node of each category at each level, deepest level first; -1 if it is unknown."""

    def __init__(self, classifier: Classifier) -> None:
        nodes = zip(*(level.node_of.tolist() for level in classifier.levels), strict=True)
        super().__init__(zip(classifier.classes_, nodes, strict=True))
        self._tree = classifier.tree

    def __missing__(self, category: str) -> tuple[int, ...]:
        self[category] = tuple(self._tree.find(category)[::-1]) if self._tree else (-1,)
        return self[category]


def project_of_split(file: str, split: str) -> Path | None:
    """Return the folder of the project whose split a file is, or None if it is another file.

    Args:
        file: Path of the file, or "-" for standard input.
        split: Name of the split.
    """
    path = Path(os.path.normpath(Path(file).absolute()))  # keeps links, which DVC may use
    is_split = path.parts[-3:] == ("data", "subset", f"{split}.parquet")
    return path.parents[2] if is_split else None


def logits_before_final_fit(classifier: Classifier, project: Path, titles: int) -> np.ndarray:
    """Return the logits of a model for the validation titles of a project.

    The stages of a project store the logits of each member before its final fit on training and
    validation titles. Afterwards, its logits for these titles would be too good.

    Args:
        classifier: Classifier of a model that was trained by the project.
        project: Folder of the project.
        titles: Number of validation titles.

    Returns:
        Logits, float32 (titles, classes).

    Raises:
        DataError: The stored logits are missing or damaged, or belong to other titles or models.
    """
    from rubro.prediction.folder import ModelDescription
    from rubro.prediction.validation_logits import load_validation_logits

    names = classifier.description.members
    with remedied_by(
        "The final fit trained the model on validation titles too, so the command needs its logits "
        "from before the final fit. Run `dvc repro`, or name a file of labelled titles that the model "
        "was not trained on"
    ):
        shape = titles, len(classifier.classes_)
        members = load_validation_logits(names, project, shape)
        for name in names:
            file, path = f"{name}.safetensors", project / "models" / name / "model.json"
            trained = read_json(path, ModelDescription)
            if trained.files.get(file) != classifier.description.files.get(file):
                raise damaged(
                    path,
                    f"its {file} differs from the file in the model folder, so the stored validation "
                    "logits belong to another model",
                )
    return classifier.combine(members)


def _category_columns(
    source: Input, columns: list[str], wanted: str | None, classifier: Classifier
) -> list[str]:
    """Return the columns with the levels of a category, which are usually a single column."""
    names = [name for name in columns if name != source.title_column]
    trained_on = classifier.description.text.category_column
    levels = [trained_on] if isinstance(trained_on, str) else trained_on
    found = [find_column(names, [level]) for level in ([wanted] if wanted else levels)]
    if None in found and wanted is None:
        found = [find_column(names, CATEGORY_NAMES)]
    known = [column for column in found if column is not None]
    if len(known) < len(found):
        raise DataError(
            f"{source.name}: category column {wanted or ', '.join(levels)!r} does not exist "
            f"(found: {listed(columns)}); set --category-column"
        )
    shown = ", ".join(map(repr, known))
    say(f"{source.name}: titles from column {source.title_column!r}, categories from {shown}")
    if source.missing:
        say(source.missing)
    return known


def _categories(
    source: Input, chunk: Chunk, columns: list[str], classifier: Classifier
) -> list[str]:
    """Return the category of each row; "" if it has none."""
    levels = [map(_name, column_values(chunk, source.columns, column)) for column in columns]
    tree = classifier.description.tree
    separator = tree.separator if tree else " > "
    return [separator.join(filter(None, names)) for names in zip(*levels, strict=True)]


def _name(category: Any) -> str:
    return category_name(text_or_empty(category))


def _report_odd_rows(file: str, column: str, labelled: Labelled) -> None:
    if labelled.unreadable:
        say(f"{labelled.unreadable:,} of {labelled.rows:,} rows cannot be read")
    if labelled.uncategorised:
        say(f"{labelled.uncategorised:,} of {labelled.rows:,} rows have no text in {column!r}")
    if labelled.unknown:
        frequent = ", ".join(
            f"{name[:50]} {count:,}" for name, count in labelled.unknown.most_common(5)
        )
        say(
            f"{labelled.unknown.total():,} of {labelled.rows:,} rows have a category that the model "
            f"does not know ({len(labelled.unknown):,} categories): {frequent}"
        )
    if max(labelled.targets, default=-1) < 0:
        raise DataError(
            f"{file}: none of {labelled.rows:,} rows has a title and a category that the model "
            "knows; set --title-column and --category-column, or another --model"
        )
