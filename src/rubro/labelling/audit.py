"""Read the labelled titles of a subset, and make the tables of their audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from rubro.base.errors import DataError, remedied_by
from rubro.base.files import file_digests, require_file
from rubro.base.params import FeaturizeParams
from rubro.base.text import tokenise_with_spans
from rubro.data.labels import title_keys
from rubro.data.splits import SPLITS, SourceInfo, TitleTokens, load_labels, load_source, load_split
from rubro.features.featurizer import Featurizer, TitleFeatures, Tokens
from rubro.features.subwords import Subwords
from rubro.features.titles import LabelledTitles, labels_of
from rubro.features.vocabulary import count_subwords
from rubro.labelling.label_errors import LabelErrors

SUSPECTS, CATEGORIES = "suspects.csv", "categories.csv"
NEAR_DUPLICATES, SUMMARY = "near_duplicates.csv", "summary.json"
_RESERVED = (
    *("file", "line", "label", "suggested_category", "confidence", "label_confidence", "words"),
    "accept",
)
# Results in metrics/corrections.csv. A correction with one of them confirms a label if the label is equal
# to its category.
_HELD_OUT = "held_out"
_CONFIRMING = ("replaced", "new_row", "already_right", "repeated", _HELD_OUT)
_SEPARATORS = ",;\t"
_COVERAGE = 0.95  # of the intervals
_DECIMALS = 4


@dataclass(frozen=True)
class AuditedTitles:
    """All labelled titles of a subset, with their features.

    Attributes:
        table: Columns split, file, line, title, category and text.NAME of each title.
        classes: Categories by class index.
        source: Names of the columns in the raw files.
        titles: Features and labels.
        tokens: Distinct tokens.
        words: Word of each distinct token.
        subwords: Vocabulary and n-grams of the tokens.
    """

    table: pd.DataFrame
    classes: list[str]
    source: SourceInfo
    titles: LabelledTitles
    tokens: Tokens
    words: list[str]
    subwords: Subwords

    def joined_texts(self) -> list[str]:
        """Return the title of each row, followed by the texts of its further columns."""
        columns = [self.table[name] for name in _text_columns(self.source).values()]
        return [" ".join(texts) for texts in zip(*columns, strict=True)]


def load_audited_titles(folder: Path, params: FeaturizeParams) -> AuditedTitles:
    """Read the training, validation and test titles of a subset, and compute their features.

    Args:
        folder: Folder of the subset.
        params: Limits of tokens, and sizes of the vocabulary.

    Raises:
        DataError: A file is missing or damaged, or the name of a text column is reserved.
    """
    with remedied_by("Run `dvc repro subset`, which writes it"):
        classes, source = load_labels(folder), load_source(folder)
        names = [column.name for column in source.text_columns]
        for name in names:
            if name in _RESERVED:
                raise DataError(
                    f"data.text_columns: the name {name!r} is reserved for a column of the audit; "
                    "rename this column of the source"
                )
        texts = [f"text.{name}" for name in names]
        kept = ["title", "category", "file", "line", *texts]
        limits = [params.column_limit(name) for name in names]
        featurizer = Featurizer(params.max_tokens, params.bigram_buckets, limits)
        tables, parts = [], []
        for split in SPLITS:
            table = load_split(folder, split, (*kept, "label_quality", *source.token_columns))
            chunks = TitleTokens(table, source.token_columns).chunks()
            features = TitleFeatures.concatenated([featurizer(chunk) for chunk in chunks])
            labels = labels_of(table["category"], table["label_quality"], classes)
            parts.append(LabelledTitles(features, labels))
            tables.append(table[kept].assign(split=split, file=table["file"].astype("str")))
    titles = LabelledTitles.concatenated(parts)
    words = featurizer.words()
    subwords = count_subwords(words, titles.features.joined_tokens, params)
    table = pd.concat(tables, ignore_index=True)
    tokens = featurizer.tokens(subwords)
    return AuditedTitles(table, classes, source, titles, tokens, words, subwords)


def reviewed_labels(audited: AuditedTitles, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return which labels the corrections confirm, and which labels they decide.

    A label is confirmed if it is equal to the category of a correction. A correction that is skipped
    because its title is in validation or test (data.correct_held_out) decides a label even if it does
    not confirm it: the user has seen the label.

    Args:
        audited: Labelled titles.
        path: Table of the corrections that the stage subset found.

    Returns:
        Whether the label of each title is confirmed, and whether it is decided, bool (titles,).

    Raises:
        DataError: The file is missing.
    """
    with remedied_by("Run `dvc repro subset`, which writes it"):
        require_file(path)
    found = pd.read_csv(path, dtype=str, keep_default_na=False)
    keys, found_keys = title_keys(audited.table["title"]), title_keys(found["title"])
    confirms = found["result"].isin(_CONFIRMING).to_numpy()
    labels = pd.MultiIndex.from_arrays([keys, audited.table["category"]])
    named = pd.MultiIndex.from_arrays([found_keys[confirms], found["category"][confirms]])
    confirmed: np.ndarray = labels.isin(named)
    return confirmed, confirmed | np.isin(keys, found_keys[found["result"] == _HELD_OUT])


def suspects_table(
    audited: AuditedTitles,
    errors: LabelErrors,
    decided: np.ndarray,
    limit: int,
    min_confidence: float,
) -> pd.DataFrame:
    """List the titles whose label is less probable than another category, least probable first.

    Args:
        audited: Labelled titles.
        errors: How well the labels fit.
        decided: Whether a correction decides each label, bool (titles,); these titles are left out.
        limit: Maximum number of rows; 0 = all.
        min_confidence: Minimum probability of the suggested category.

    Returns:
        Columns of a corrections file: file, line, the title and the text columns under their names in
        the raw files, label, suggested_category, confidence, label_confidence, words (the words of
        the title that support the suggestion most) and accept, which is empty.
    """
    order = np.argsort(-errors.doubts, kind="stable")
    is_listed = (errors.leads > 0) & (errors.confidences >= min_confidence) & ~decided
    order = order[is_listed[order]][: limit or None]
    rows = audited.table.iloc[order]
    listed = pd.DataFrame({"file": rows["file"], "line": rows["line"]})
    for name, column in _text_columns(audited.source).items():
        listed[name] = rows[column]
    listed["label"] = rows["category"]
    listed["suggested_category"] = [audited.classes[n] for n in errors.suggestions[order]]
    listed["confidence"] = [f"{p:.{_DECIMALS}f}" for p in errors.confidences[order]]
    listed["label_confidence"] = [f"{p:.{_DECIMALS}f}" for p in errors.label_confidences[order]]
    listed["words"] = [
        _typed_words(audited, title, errors.words[title]) for title in order.tolist()
    ]
    return listed.assign(accept="").reset_index(drop=True)


def _text_columns(source: SourceInfo) -> dict[str, str]:
    """Return the column of a split for each column of the raw files with a title or text."""
    title = source.title_column
    texts = {column.name: f"text.{column.name}" for column in source.text_columns}
    is_reserved = title in (*_RESERVED, *texts)
    return {"title" if is_reserved else title: "title"} | texts


def _typed_words(audited: AuditedTitles, title: int, positions: Sequence[int]) -> str:
    """Return words of a title and numbers as typed, and words of further columns as they are read."""
    text = str(audited.table["title"].iat[title])
    features = audited.titles.features
    tokens = features.joined_tokens[title]
    first = title * features.columns
    lengths = [len(features.tokens[first + place]) for place in range(features.columns)]
    column_of = np.repeat(np.arange(features.columns), lengths)
    spans = tokenise_with_spans(text)
    words = []
    for position in positions:
        number = column_of[position]
        column = audited.source.text_columns[number - 1] if number else None
        if column is None:
            places = spans[position][1]
            words.append(text[places[0][0] : places[-1][1]])
        elif column.bounds is not None:  # the token of a number only names its bin
            cell = str(audited.table[f"text.{column.name}"].iat[title])
            words.append(f"{column.name} {cell.strip()}")
        else:
            words.append(audited.words[tokens[position]])
    return ", ".join(dict.fromkeys(words))


def with_decisions(suspects: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, int]:
    """Copy the decisions of an earlier audit to the same titles with the same labels.

    Rows with a decision that are not suspects any more are appended, so that no decision is lost.

    Args:
        suspects: Table from suspects_table.
        path: File of the earlier audit, which may be missing.

    Returns:
        Suspects with the earlier decisions in column accept, and the number of decisions.

    Raises:
        DataError: The file is not the table of an audit.
    """
    if not path.exists():
        return suspects, 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            header = file.readline()
        separator = max(_SEPARATORS, key=header.count)  # spreadsheets may have changed it
        earlier = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except ValueError as error:  # including wrong encodings and tables
        earlier, problem = pd.DataFrame(), f" ({error})"
    else:
        problem = ""
    if not {"label", "suggested_category", "accept"} <= {*earlier.columns}:
        raise DataError(
            f"{path}: not a table of `rubro audit`{problem}, so the decisions in it cannot be kept; "
            "move the file away, or choose another folder with --out"
        )
    decided = earlier[earlier["accept"].str.strip() != ""]
    keys = [name for name in suspects if name in decided and name not in _RESERVED] + ["label"]
    now, then = (pd.MultiIndex.from_frame(table[keys]) for table in (suspects, decided))
    decisions = dict(zip(then, decided["accept"], strict=True))
    suspects = suspects.assign(accept=[decisions.get(key, "") for key in now])
    gone = decided[~then.isin(now)].reindex(columns=suspects.columns, fill_value="")
    return pd.concat([suspects, gone], ignore_index=True), len(decided)


def categories_table(audited: AuditedTitles, errors: LabelErrors) -> pd.DataFrame:
    """Estimate the number of wrong labels of each category, in descending order of this number.

    Returns:
        Columns category, rows, checked (rows whose label could be checked), wrong, wrong_low and
        wrong_high (estimated number of wrong labels, with Wilson's 95 % interval), suggestion (most
        frequent right category of the wrong labels) and suggestion_rows. A category without an
        estimate, because too few of its labels are checked, has 0 wrong labels in an interval
        that contains all its labels.
    """
    targets, count = audited.titles.labels.targets, len(audited.classes)
    rows, checked, counted, wrong = (
        np.bincount(targets[where], minlength=count)
        for where in (slice(None), errors.checked, errors.counted, errors.errors)
    )
    wrong_rows = pd.DataFrame({"category": targets, "to": errors.suggestions})[errors.errors]
    pairs = wrong_rows.value_counts().sort_index(ascending=False).sort_values(kind="stable")
    names = pairs.reset_index("to").itertuples(name=None)
    best = {category: (audited.classes[to], n) for category, to, n in names}
    lines = []
    for category, name in enumerate(audited.classes):
        estimate = wrong_labels(int(wrong[category]), int(counted[category]), int(rows[category]))
        suggestion = best.get(category, ("", 0))
        lines.append((name, rows[category], checked[category], *estimate, *suggestion))
    columns = ["category", "rows", "checked", "wrong", "wrong_low", "wrong_high"]
    table = pd.DataFrame(lines, columns=[*columns, "suggestion", "suggestion_rows"])
    return table.sort_values(["wrong", "category"], ascending=[False, True], ignore_index=True)


def wrong_labels(wrong: int, counted: int, rows: int) -> tuple[float, float, float]:
    """Return an estimate of the number of wrong labels, and Wilson's 95 % interval of it.

    Args:
        wrong: Number of wrong labels among the counted labels.
        counted: Number of counted labels; if 0, nothing is known.
        rows: Number of labels that the estimate is for.
    """
    if not counted:
        return 0.0, 0.0, float(rows)
    interval = binomtest(wrong, counted).proportion_ci(_COVERAGE, "wilson")
    shares = (wrong / counted, float(interval.low), float(interval.high))
    low, estimate, high = sorted(round(share * rows, 1) for share in shares)
    return estimate, low, high


def near_duplicates_table(audited: AuditedTitles, groups: np.ndarray) -> pd.DataFrame:
    """List the titles of each group of near-duplicates whose labels differ, largest group first.

    Args:
        audited: Labelled titles.
        groups: Group of each title from near_duplicate_groups, (titles,).

    Returns:
        Columns group (from 1), rows (titles in the group), labels (different labels in the group),
        file, line, title and label.
    """
    table = audited.table[["file", "line", "title"]].assign(label=audited.table["category"])
    labels = table["label"].groupby(groups)
    table.insert(0, "labels", labels.transform("nunique"))
    table.insert(0, "rows", labels.transform("size"))
    table.insert(0, "group", groups)
    table = table[table["labels"] > 1]
    table = table.sort_values(["rows", "group"], ascending=[False, True], kind="stable")
    return table.assign(group=pd.factorize(table["group"])[0] + 1).reset_index(drop=True)


def audit_summary(
    audited: AuditedTitles,
    errors: LabelErrors,
    near_duplicates: pd.DataFrame,
    folder: Path,
    seed: int,
) -> dict[str, Any]:
    """Summarise an audit as values for JSON.

    Args:
        audited: Labelled titles.
        errors: How well the labels fit.
        near_duplicates: Table from near_duplicates_table.
        folder: Folder of the subset, whose digests identify the audited data.
        seed: Seed of the audit.

    Returns:
        Totals. "estimated" is the number of labels in the categories that have an estimate, and
        "wrong_share" is the share of these labels.
    """
    targets = audited.titles.labels.targets
    checked, suspects = int(errors.checked.sum()), int((errors.leads > 0).sum())
    estimated = int(np.isin(targets, targets[errors.counted]).sum())
    estimate = wrong_labels(int(errors.errors.sum()), int(errors.counted.sum()), estimated)
    shares = (round(number / max(estimated, 1), 6) for number in estimate)
    return {
        "rows": len(targets),
        "categories": len(audited.classes),
        "checked": checked,
        "suspects": suspects,
        "agreement": round(1 - suspects / max(checked, 1), 6),
        "estimated": estimated,
        "wrong_share": dict(zip(("estimate", "low", "high"), shares, strict=True)),
        "near_duplicates": {
            "groups": int(near_duplicates["group"].nunique()),
            "rows": len(near_duplicates),
        },
        "seed": seed,
        "data": file_digests(folder, [f"{name}.parquet" for name in SPLITS]),
    }
