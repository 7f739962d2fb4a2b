"""Write and read the files of the three splits and their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow.parquet import ParquetFile, ParquetWriter
from pydantic import Field

from rubro.base.category_tree import CategoryTree
from rubro.base.files import damaged, read_json, require_file, write_json
from rubro.base.memory import is_memory_error
from rubro.base.outputs import replacing
from rubro.base.parallel import mapped, thread_count
from rubro.base.schema import Positive, Section
from rubro.base.text import tokenise
from rubro.base.text_columns import Product, TextColumn

SPLITS = ("train", "validation", "test")
# Name of the table with titles that have no category.
UNLABELLED = "unlabelled"
_COLUMNS = ("title", "tokens", "category", "label_quality")
_TYPES = {"file": pa.dictionary(pa.int32(), pa.string()), "line": pa.int32()}
_TITLES_PER_CHUNK = 2**14
_ROWS_PER_GROUP = 2**17  # rows held in memory as Python strings


class SourceInfo(Section):
    """Properties of the raw data that source.json in a model folder records.

    Attributes:
        title_column: Name of the title column in the raw files.
        category_column: Name of the category column in the raw files, or names of the columns with
            the levels of a category.
        max_title_length: Maximum number of characters in a title; longer ones are quarantined.
        text_columns: Columns that are read in addition to the title.
    """

    title_column: str
    category_column: str | list[str]
    max_title_length: Positive
    text_columns: list[TextColumn] = Field(default_factory=list)

    @property
    def token_columns(self) -> tuple[str, ...]:
        """Names of the columns of a split that contain tokens, first the column of the titles."""
        return ("tokens", *(f"tokens.{column.name}" for column in self.text_columns))


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table to a CSV file without its index, replacing the file atomically.

    Args:
        path: Path of the file. Its folder is created if it is missing.
        table: Rows and columns of the file.
    """
    with replacing(path) as partial:
        table.to_csv(partial, index=False)


def save_splits(
    folder: Path,
    splits: dict[str, pd.DataFrame],
    labels: list[str],
    info: SourceInfo,
    tree: CategoryTree | None = None,
) -> None:
    """Write a parquet file for each split, labels.json, source.json and, if given, tree.json.

    Args:
        folder: Path of the folder; it is created if missing. Its file of unlabelled titles is deleted
            if there are no such titles.
        splits: Table with columns title, category, label_quality, file, line and, for each text
            column of the source, text.NAME, of each split, by its name. The file and line of the
            titles may be missing. The split UNLABELLED has no categories and label qualities.
            Columns with the tokens of each title and text, joined by spaces, are added to the files:
            tokens and tokens.NAME.
        labels: Categories, ordered by class index.
        info: Properties of the raw data.
        tree: Tree of the categories, if they are paths.
    """
    (folder / f"{UNLABELLED}.parquet").unlink(missing_ok=True)
    for name, split in splits.items():
        _write_split(folder / f"{name}.parquet", split, info.text_columns)
    write_json(folder / "labels.json", labels)
    write_json(folder / "source.json", info.model_dump(exclude_defaults=True))
    if tree is not None:
        write_json(folder / "tree.json", tree.model_dump())


def _write_split(path: Path, split: pd.DataFrame, text_columns: Sequence[TextColumn]) -> None:
    added = [f"{kind}.{column.name}" for column in text_columns for kind in ("text", "tokens")]
    columns = [
        column
        for column in (*_COLUMNS, *_TYPES, *added)
        if column in split or column.startswith("tokens")
    ]
    schema = pa.schema([(column, _TYPES.get(column, pa.string())) for column in columns])
    texts = {column: "str" for column in columns if column not in _TYPES}

    def row_group(start: int) -> pa.Table:
        rows = split.iloc[start : start + _ROWS_PER_GROUP]
        tokens = {"tokens": [" ".join(tokenise(title)) for title in rows["title"]]}
        for column in text_columns:
            tokens[f"tokens.{column.name}"] = [
                " ".join(column.tokens(text)) for text in rows[f"text.{column.name}"]
            ]
        rows = rows.assign(**tokens)[columns].astype(texts)
        return pa.Table.from_pandas(rows, schema, preserve_index=False)

    with (
        replacing(path) as partial,
        ParquetWriter(partial, schema, compression="zstd") as writer,
    ):
        starts = range(0, max(len(split), 1), _ROWS_PER_GROUP)
        for _, table in mapped(row_group, starts, thread_count()):
            writer.write_table(table)


def load_split(folder: Path, name: str, columns: tuple[str, ...] = _COLUMNS) -> pd.DataFrame:
    """Read a split written by save_splits.

    Args:
        folder: Path of the folder.
        name: Name of the split: train, validation, test, or UNLABELLED if has_unlabelled is true.
        columns: Names of the columns to read. Column file is categorical, line is int32, and the
            others are text.

    Raises:
        DataError: The file is missing or damaged.
    """
    path = folder / f"{name}.parquet"
    require_file(path)
    try:
        # Not pandas.read_parquet, which waits forever if memory for another thread is missing.
        with ParquetFile(path) as file:
            schema = file.schema_arrow
            stored = [column for column in columns if column in schema.names]
            table: pd.DataFrame = file.read(stored, use_threads=False).to_pandas(use_threads=False)
    except Exception as error:
        if is_memory_error(error):
            raise
        raise damaged(path, f"not a readable parquet file ({error})") from None
    texts = (pa.string(), pa.large_string())
    for column in columns:
        if column not in stored or column not in table:
            raise damaged(path, f"no column '{column}'")
        types = (_TYPES[column],) if column in _TYPES else texts
        if schema.field(column).type not in types:
            raise damaged(path, f"column '{column}' is not {_TYPES.get(column, 'text')}")
        if table[column].isna().any():
            raise damaged(path, f"column '{column}' has missing values")
    return table


def has_unlabelled(folder: Path) -> bool:
    """Return whether a folder written by save_splits contains unlabelled titles."""
    return (folder / f"{UNLABELLED}.parquet").exists()


def load_source(folder: Path) -> SourceInfo:
    """Read the properties of the raw data.

    Raises:
        DataError: source.json is missing or damaged.
    """
    return read_json(folder / "source.json", SourceInfo)


class TitleTokens:
    """Iterate over the tokens of each text in a split, which are stored joined by spaces.

    The texts are the first title, the texts in its further columns, the second title and so on.

    Args:
        table: Split from load_split.
        columns: Names of the columns with the tokens; see SourceInfo.token_columns.
        column_limits: Number of tokens after which the text of each further column is cut off; empty
            = no limits. Titles are never cut off.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        columns: Sequence[str] = ("tokens",),
        column_limits: Sequence[int] = (),
    ) -> None:
        self._joined = [table[column] for column in columns]
        no_limits: list[int | None] = [None] * len(columns)
        self._limits = [None, *column_limits] if column_limits else no_limits

    def __len__(self) -> int:
        return len(self._joined) * len(self._joined[0])

    def __iter__(self) -> Iterator[list[str]]:
        for chunk in self.chunks():
            yield from chunk

    def chunks(self) -> Iterator[list[list[str]]]:
        """Yield lists with the tokens of the texts of several thousand titles at a time."""
        for start in range(0, len(self._joined[0]), _TITLES_PER_CHUNK):
            columns = [joined.iloc[start : start + _TITLES_PER_CHUNK] for joined in self._joined]
            yield [
                tokens.split()[:limit]
                for row in zip(*columns, strict=True)
                for tokens, limit in zip(row, self._limits, strict=True)
            ]


def load_products(folder: Path, name: str) -> list[Product]:
    """Read the products of a split as a classifier takes them.

    If the source has text columns, a product is a dictionary from column names to texts. Otherwise
    it is a title.

    Raises:
        DataError: A file is missing or damaged.
    """
    info = load_source(folder)
    texts = {column.name: f"text.{column.name}" for column in info.text_columns}
    table = load_split(folder, name, ("title", *texts.values()))
    if not texts:
        return table["title"].to_list()
    table.columns = [info.title_column, *texts]
    products: list[Product] = table.to_dict("records")  # type: ignore[assignment]
    return products


def load_tree(folder: Path) -> CategoryTree | None:
    """Read the tree of the categories; None if the categories are not paths.

    Raises:
        DataError: The file is damaged, or its categories differ from labels.json.
    """
    path = folder / "tree.json"
    if not path.exists():
        return None
    tree = read_json(path, CategoryTree)
    if list(tree.paths) != load_labels(folder):
        raise damaged(path, "its categories differ from labels.json")
    return tree


def load_labels(folder: Path) -> list[str]:
    """Read the class names, ordered by class index.

    Raises:
        DataError: The file is missing, or a name occurs twice.
    """
    path = folder / "labels.json"
    labels = read_json(path, list[str])
    if len(set(labels)) < len(labels):
        raise damaged(path, "a label is listed twice")
    return labels
