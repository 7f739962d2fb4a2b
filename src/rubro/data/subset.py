"""Select rows and categories of raw titles, and create the splits that are missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rubro.base.category_tree import CategoryTree
from rubro.base.errors import DataError
from rubro.base.params import DataParams, SubsetParams
from rubro.data.category_paths import (
    CategoryPaths,
    category_paths,
    guessed_separator,
    has_level_columns,
    merge_rare_categories,
)
from rubro.data.corrections import (
    AppliedCorrections,
    apply_corrections,
    corrections_report,
    no_corrections,
    with_unlabelled_texts,
)
from rubro.data.labels import CheckedLabels, check_labels, rows_by_category, title_keys, titles_at
from rubro.data.raw_titles import (
    CORRECTIONS,
    EMPTY_ROW,
    LEVEL_SEPARATOR,
    REMEDY_BY_REASON,
    RawTitles,
)
from rubro.data.splits import SPLITS

# Reasons for dropping rows if categories are paths or rare categories are merged.
_PATH_DROP_REASONS = {
    "category_without_name": "with a category path that contains no name",
    "category_too_rare": "of categories with fewer training rows than data.min_rows_per_category",
}
# All reasons for dropping usable rows, with descriptions for the user.
DROP_REASONS = {
    EMPTY_ROW: "with neither a title nor a category, such as variants of a product",
    "other_language": "in another language than subset.language",
    "null_category": "with a category such as nan (subset.null_categories)",
    "conflicting_title": "with a title that has several categories (subset.conflicting_titles)",
    "duplicate_of_other_split": "with a title that also occurs in a later split",
    "over_max_held_out_rows": "of validation and test beyond subset.max_held_out_rows",
    "over_max_rows": "beyond subset.max_rows",
    "category_not_selected": "of categories beyond subset.top_categories",
    "category_not_in_train": "of categories without training rows",
    "thinned_to_zipf": "removed by subset.zipf_exponent",
    **_PATH_DROP_REASONS,
}
_MIN_ROWS_PER_CLASS = 3
_HELD_OUT = ("validation", "test")
# Fewer unlabelled titles than this share of the training rows cannot improve a model.
_MIN_UNLABELLED_SHARE = 0.01
_PLACE = ("file", "line")  # columns with the place of a row in the raw files


@dataclass(frozen=True)
class Subset:
    """Selected rows, divided into splits.

    Attributes:
        splits: Tables train, validation and test with columns title, category, label_quality, file,
            line (see RawTitles) and text.NAME for each text column.
        labels: Sorted categories; the position is the class index.
        summary: Values for JSON: rows of each split, number of classes, dropped rows by reason,
            suspicious labels by problem, and class balance.
        label_problems: Table of suspicious labels; see CheckedLabels.problems.
        notices: Sentences for the user about dropped rows and suspicious labels.
        corrections: Table of the corrections, with what happened to each of them; see
            AppliedCorrections.results.
        tree: Tree of the categories if they are paths and some of them has several names.
        unlabelled: Table of titles without categories, with columns title, file, line and text.NAME;
            None if no such title is used. The titles differ from each other and from all titles that
            have a category.
    """

    splits: dict[str, pd.DataFrame]
    labels: list[str]
    summary: dict[str, Any]
    label_problems: pd.DataFrame
    notices: list[str]
    corrections: pd.DataFrame
    tree: CategoryTree | None = None
    unlabelled: pd.DataFrame | None = None


def make_subset(
    raw: RawTitles, params: SubsetParams, seed: int, data: DataParams | None = None
) -> Subset:
    """Select rows and categories, and create the splits that the source does not have.

    The most frequent categories are selected on the training rows only. Rows whose titles have the
    same normal form are drawn for the same split. If the source has such titles in several splits,
    only the rows in the last of train, validation and test are kept. Corrections replace the categories
    of rows with the same titles after the splits are drawn, so that they move no row to another split.
    To measure robustness, training rows can be thinned to a Zipf-shaped imbalance, and a share of their
    labels can be replaced by wrong ones. Validation and test stay unchanged.

    Titles without categories are used if there are enough of them. Row limits do not apply to them.

    Args:
        raw: Usable rows of a source.
        params: Language, number of categories, row limits, shares of the splits, imbalance and
            share of wrong labels.
        seed: Seed of all random choices.
        data: Separator, order and level of category paths, and the number of training rows below
            which a category is merged into its parent; None = categories are not paths, and none is
            merged.

    Raises:
        DataError: No row has the language, fewer than two categories remain, or a split is empty.
    """
    titles, *texts = (
        raw.table[name].astype("str").reset_index(drop=True)
        for name in map(str, raw.table)
        if name == "title" or name.startswith("text.")
    )
    random = np.random.default_rng(seed)
    drops = _DropCounts(raw, has_texts=bool(texts))
    # Titles and texts are added again once their rows are selected, which saves memory.
    text_names = ["title", *(text.name for text in texts)]
    places = {name: raw.table[name].array for name in _PLACE}
    columns = raw.table.drop(columns=[*text_names, *_PLACE]).reset_index(drop=True)
    columns = columns.astype("category")
    columns["is_correction"] = columns["split"] == CORRECTIONS
    table = _rows_in_language(columns, params.language)
    drops.count("other_language", columns, table)
    keys = title_keys(titles)
    unlabelled, unlabelled_rows = _unlabelled(raw, keys, params.language)
    table = table.assign(key=keys[table.index])
    del keys
    corrected = _corrected_rows(table, titles, texts, raw, params, data, random)
    checked, paths = corrected.checked, corrected.paths
    for reason, rows in checked.dropped.items():
        drops.count(reason, rows, rows[:0])  # all of them
    splits, labels, path_of, rare_notices = _selected_rows(corrected, params, data, random, drops)
    notices = drops.notices()
    repeats = len(checked.table) - len(np.unique(checked.table["key"]))
    if repeats:
        notices.append(
            f"{repeats} {'row repeats' if repeats == 1 else 'rows repeat'} the title of another row "
            "(ignoring case, accents and spaces); rows with the same title are in the same split"
        )
    _stop_if_unusable(splits, notices)
    held_out = {name: splits[name].index for name in _HELD_OUT}
    splits = {
        name: _with_texts(split, titles, corrected.texts, places) for name, split in splits.items()
    }
    if unlabelled is not None and len(unlabelled) < max(
        _MIN_UNLABELLED_SHARE * len(splits["train"]), 1
    ):
        unlabelled = None
    notices += _unlabelled_notices(raw, unlabelled_rows, unlabelled is not None)
    if unlabelled is None:
        drops.by_reason.update(raw.without_category)
    tree = _tree(paths, {label: path_of[label] for label in labels}) if paths else None
    problems, problem_counts = _label_problems(checked, paths)
    summary = {
        "rows": {**{name: len(split) for name, split in splits.items()}, "total": _total(splits)},
        "classes": len(labels),
        "dropped": dict(drops.by_reason),
        "doubtful_labels": problem_counts,
        "reliable_share": {
            name: round(float((split["label_quality"] == "reliable").mean()), 6)
            for name, split in splits.items()
        },
        "balance": _balance(splits["train"]),
    }
    if unlabelled is not None:
        summary["unlabelled"] = unlabelled_rows
    if tree:
        nodes = {str(number): len(level.nodes) for number, level in enumerate(tree.levels, 1)}
        summary["tree"] = {"order": tree.order, "depth": tree.depth, "nodes": nodes}
    if drops.by_reason["other_language"]:
        others = columns["language"].value_counts() - table["language"].value_counts()
        found = ", ".join(f"{name} {n}" for name, n in others.nlargest(5).items() if n)
        notices.append(
            f"languages other than subset.language={params.language}: {found}; set "
            "subset.language=null to keep all rows, or data.language_column=null"
        )
    corrections = no_corrections()
    if corrected.corrections:
        corrections, summary["corrections"], corrections_notices = corrections_report(
            corrected.corrections, drops.lost_corrections, DROP_REASONS, held_out, labels
        )
        notices += corrections_notices
    notices += _unmeasured_notices(splits, len(labels))
    notices = [*corrected.notices, *rare_notices, *notices, *checked.notices]
    return Subset(splits, labels, summary, problems, notices, corrections, tree, unlabelled)


class _DropCounts:
    """Counts the rows that are not used by reason.

    Args:
        raw: Rows of a source. Its rejected and empty rows are counted first.
        has_texts: Whether the source has text columns.

    Attributes:
        by_reason: Number of dropped and rejected rows by reason.
        lost_corrections: Reason for dropping each dropped correction, by row number.
    """

    def __init__(self, raw: RawTitles, has_texts: bool) -> None:
        # These reasons are written only if rows are dropped for them.
        unwritten = [*_PATH_DROP_REASONS, *([] if has_texts else ["text_not_text"])]
        reasons = [name for name in (*REMEDY_BY_REASON, *DROP_REASONS) if name not in unwritten]
        self.by_reason = Counter(dict.fromkeys(reasons, 0))
        self.by_reason.update(raw.quarantine["reason"])
        self.by_reason[EMPTY_ROW] = raw.empty_rows
        self.lost_corrections: dict[int, str] = {}

    def count(self, reason: str, before: pd.DataFrame, after: pd.DataFrame) -> None:
        """Count the rows that were dropped for a reason, given the rows before and after."""
        if count := len(before) - len(after):
            self.by_reason[reason] += count
        corrected = before.index[before["is_correction"]]
        lost = corrected.difference(after.index[after["is_correction"]])
        self.lost_corrections.update(dict.fromkeys(lost, reason))

    def notices(self) -> list[str]:
        """Return a sentence for the user for each reason in DROP_REASONS."""
        return [
            f"{self.by_reason[reason]} {'row' if self.by_reason[reason] == 1 else 'rows'} dropped: {description}"
            for reason, description in DROP_REASONS.items()
            if self.by_reason[reason]
        ]


@dataclass(frozen=True)
class _CorrectedRows:
    """Rows with checked and corrected categories.

    Attributes:
        checked: Rows with checked categories, and the problems that were found.
        paths: Paths of the categories; None if they are not paths.
        split_of: Split of each row, by row number.
        texts: Text of each row for each text column. The texts of corrections may come from
            unlabelled rows with the same titles.
        corrections: Corrections and their results; None if the user has none.
        notices: Sentences for the user about the paths.
    """

    checked: CheckedLabels
    paths: CategoryPaths | None
    split_of: pd.Series
    texts: list[pd.Series]
    corrections: AppliedCorrections | None
    notices: list[str]


def _corrected_rows(
    table: pd.DataFrame,
    titles: pd.Series,
    texts: list[pd.Series],
    raw: RawTitles,
    params: SubsetParams,
    data: DataParams | None,
    random: np.random.Generator,
) -> _CorrectedRows:
    """Check the categories, draw the splits, and then apply the corrections.

    With corrections, the categories are checked twice, because the splits do not depend on them.
    """
    ordinary = table[~table["is_correction"]] if raw.corrections.rows else table
    checked, paths, notices = _checked(ordinary, titles, params, data)
    split_of = _split_of(checked.table, params, random)
    if not (raw.corrections.rows or raw.corrections.skipped):
        return _CorrectedRows(checked, paths, split_of, texts, None, notices)
    all_paths, _ = _paths(table, params, data)
    applied = apply_corrections(
        table,
        titles,
        texts,
        raw.corrections,
        all_paths.categories if all_paths else None,
        split_of,
        params,
        data is None or data.correct_held_out,
    )
    if raw.unlabelled is not None:
        texts = with_unlabelled_texts(texts, titles, applied.new_rows, raw.unlabelled)
    checked, paths, notices = _checked(applied.table, titles, params, data)
    split_of = _with_corrections(split_of, checked.table)
    return _CorrectedRows(checked, paths, split_of, texts, applied, notices)


def _selected_rows(
    corrected: _CorrectedRows,
    params: SubsetParams,
    data: DataParams | None,
    random: np.random.Generator,
    drops: _DropCounts,
) -> tuple[dict[str, pd.DataFrame], list[str], dict[str, tuple[str, ...]], list[str]]:
    """Select the rows of each split, without shared titles and with the selected categories.

    Args:
        corrected: Rows with checked and corrected categories.
        params: Limits, number of categories, imbalance and share of wrong labels.
        data: Number of training rows that a category needs; None = 1.
        random: Generator of all random choices.
        drops: Counts, to which the dropped rows are added.

    Returns:
        Rows of each split, selected categories in ascending order, path of each category (possibly
        empty if categories are not paths), and a notice about merged categories.
    """
    paths = corrected.paths
    rare_notices: list[str] = []
    kept = corrected.checked.table[["category", "label_quality", "key", "is_correction"]]
    splits = {name: kept[(corrected.split_of == name).to_numpy()] for name in SPLITS}
    for name, split in _without_shared_titles(splits).items():
        drops.count("duplicate_of_other_split", splits[name], split)
        splits[name] = split

    limits = {"train": params.max_rows, **dict.fromkeys(_HELD_OUT, params.max_held_out_rows)}
    for name, split in splits.items():
        splits[name] = _sampled(split, limits[name], random)
        reason = "over_max_held_out_rows" if name in _HELD_OUT else "over_max_rows"
        drops.count(reason, split, splits[name])

    path_of = paths.paths if paths else {}
    if data and data.min_rows_per_category > 1:
        before = splits
        splits, path_of, rare_notices = _without_rare(splits, paths, data.min_rows_per_category)
        for name, split in before.items():
            drops.count("category_too_rare", split, splits[name])
    known = splits["train"]["category"].unique()
    labels = _most_frequent(splits["train"], params.top_categories)
    for name, split in splits.items():
        of_known = split[split["category"].isin(known)]
        splits[name] = of_known[of_known["category"].isin(labels)]
        drops.count("category_not_in_train", split, of_known)
        drops.count("category_not_selected", of_known, splits[name])
    train = _thinned_to_zipf(splits["train"], labels, params.zipf_exponent, random)
    drops.count("thinned_to_zipf", splits["train"], train)
    splits["train"] = _with_flipped_labels(train, labels, params.flipped_label_share, random)
    return splits, labels, path_of, rare_notices


def _unlabelled(
    raw: RawTitles, labelled_keys: np.ndarray, language: str | None
) -> tuple[pd.DataFrame | None, dict[str, int]]:
    """Select the titles without a category that are in a language and that no other row has.

    Args:
        raw: Rows of a source.
        labelled_keys: Hash of each title that has a category.
        language: Language of the titles; None = all.

    Returns:
        Titles, and the numbers of selected and dropped titles; None and no numbers if all rows have
        categories, or if rows without a category are ignored.
    """
    if raw.unlabelled is None:
        return None, {}
    table = raw.unlabelled.reset_index(drop=True)
    kept = np.full(len(table), True)
    if language is not None:
        kept = table["language"].isin(["", language.lower()]).to_numpy()
    keys = pd.Series(title_keys(table["title"].astype("str")))[kept]
    # A hash table of all labelled titles would need much more memory.
    shared = labelled_keys[pd.Series(labelled_keys).isin(keys)]
    keys = keys[~keys.isin(shared)].drop_duplicates()
    texts = [name for name in map(str, table) if name.startswith("text.")]
    titles = table.loc[keys.index, ["title", *texts, *_PLACE]].reset_index(drop=True)
    counts = {
        "titles": len(titles),
        "other_language": int((~kept).sum()),
        "repeated_title": int(kept.sum()) - len(titles),
    }
    return titles, counts


def _unlabelled_notices(raw: RawTitles, rows: dict[str, int], is_used: bool) -> list[str]:
    """Report the number of rows without a category, and whether they are used.

    Args:
        raw: Rows of a source.
        rows: Numbers of selected and dropped titles from _unlabelled.
        is_used: Whether the selected titles are used.
    """
    count = raw.without_category.total()
    if not count:
        return []
    notice = f"{count:,} {'row has' if count == 1 else 'rows have'} no category: "
    if not rows:
        return [f"{notice}left out, because data.unlabelled is ignore"]
    reasons = {
        "other_language": "in another language than subset.language",
        "repeated_title": "with the title of another row",
    }
    dropped = ", ".join(
        f"{rows[name]:,} {reason}" for name, reason in reasons.items() if rows[name]
    )
    titles = f"{rows['titles']:,} {'title' if rows['titles'] == 1 else 'titles'}"
    left_out = f"; dropped: {dropped}" if dropped else ""
    if is_used:
        return [f"{notice}used as unlabelled titles ({titles}{left_out})"]
    share = f"{_MIN_UNLABELLED_SHARE:.0%} of the training rows"
    return [f"{notice}left out, because {titles} would be fewer than {share}{left_out}"]


def _checked(
    table: pd.DataFrame, titles: pd.Series, params: SubsetParams, data: DataParams | None
) -> tuple[CheckedLabels, CategoryPaths | None, list[str]]:
    """Return the rows with checked categories, the paths of the categories, and notices about them."""
    paths, notices = _paths(table, params, data)
    named = table
    if paths:
        categories = table["category"].map(paths.categories).astype("category")
        named = table.assign(category=categories)[categories != ""]
    checked = check_labels(named, titles, params, are_paths=paths is not None)
    if len(named) < len(table):
        unnamed = table[~table.index.isin(named.index)]
        checked.dropped = {"category_without_name": unnamed, **checked.dropped}
    return checked, paths, notices


def _paths(
    table: pd.DataFrame, params: SubsetParams, data: DataParams | None
) -> tuple[CategoryPaths | None, list[str]]:
    """Return the categories as paths, or None if they are not paths, and notices for the user."""
    if data is None:
        return None, []
    rows = rows_by_category(table)
    if data.category_separator is None and not has_level_columns(data):
        separator = guessed_separator(rows)
        if separator is None:
            return None, []
        example = max(rows, key=lambda name: name.count(separator))
        notice = (
            f"many categories look like paths, such as {example[:200]!r}, but are read as flat "
            f'names; set data.category_separator="{separator}" to read them as a tree'
        )
        return None, [notice]
    ordinary = table.loc[~table["is_correction"], "category"].unique()
    corrections = {value for value in {*rows} - {*ordinary} if LEVEL_SEPARATOR not in value}
    paths = category_paths(rows, corrections, data, params)
    return paths, list(paths.notices)


def _without_rare(
    splits: dict[str, pd.DataFrame], paths: CategoryPaths | None, minimum: int
) -> tuple[dict[str, pd.DataFrame], dict[str, tuple[str, ...]], list[str]]:
    """Merge categories with too few training rows into their parents; drop those without parents.

    Args:
        splits: Rows of each split.
        paths: Paths of the categories; None if they are not paths.
        minimum: Number of training rows that a category needs.

    Returns:
        Remaining rows of each split, the path of each remaining category, and a notice.
    """
    names = {str(name) for split in splits.values() for name in split["category"].unique()}
    rows = dict.fromkeys(sorted(names), 0) | rows_by_category(splits["train"])
    target, path_of = merge_rare_categories(rows, paths, minimum)
    count = Counter[str]()
    for name, n in rows.items():
        count[target[name]] += n
    kept = [name for name, n in count.items() if n >= minimum]
    merged = sum(target[name] != name and target[name] in kept for name in rows)
    remaining = {}
    for name, split in splits.items():
        split = split.assign(category=split["category"].map(target).astype("category"))
        remaining[name] = split[split["category"].isin(kept)]
    notices = []
    if merged:
        notices.append(
            f"{merged} {'category' if merged == 1 else 'categories'} with fewer than {minimum} "
            "training rows merged into a parent (data.min_rows_per_category)"
        )
    return remaining, path_of, notices


def _label_problems(
    checked: CheckedLabels, paths: CategoryPaths | None
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the table of suspicious labels, including the problems of paths, and their counts."""
    if paths is None:
        return checked.problems, checked.counts
    listed = [*paths.problems, *checked.problems.itertuples(index=False, name=None)]
    problems = pd.DataFrame(listed, columns=checked.problems.columns)
    return problems, dict(Counter(checked.counts) + Counter(paths.counts))


def _tree(paths: CategoryPaths, path_of: dict[str, tuple[str, ...]]) -> CategoryTree | None:
    """Return the tree of the selected categories; None if each of them has only one name."""
    if max(map(len, path_of.values()), default=1) == 1:
        return None
    lists = {category: list(path) for category, path in path_of.items()}
    return CategoryTree(separator=paths.separator, order=paths.order, paths=lists)


def _rows_in_language(table: pd.DataFrame, language: str | None) -> pd.DataFrame:
    if language is None:
        return table
    # Rows without a language count as rows in the wanted language.
    kept = table[table["language"].isin(["", language.lower()])]
    if kept.empty:
        found = ", ".join(f"{name} ({n})" for name, n in table["language"].value_counts().items())
        raise DataError(
            f"no row is in language {language!r}; languages found: {found}; set subset.language"
        )
    return kept


def _split_of(table: pd.DataFrame, params: SubsetParams, random: np.random.Generator) -> pd.Series:
    """Return the split of each row, and draw the splits that the source does not have."""
    names = [*SPLITS, ""]  # one byte per row instead of a name
    column = table["split"].cat.set_categories(names).cat.codes.to_numpy(copy=True)
    shares = dict(zip(_HELD_OUT, (params.validation_share, params.test_share), strict=True))
    missing = [name for name in shares if not (column == names.index(name)).any()]
    train = names.index("train")
    column[column == names.index("")] = train
    rows = np.flatnonzero(column == train)
    rest = random.permutation(rows)
    # The first row of each title is drawn, and its other rows follow it.
    keys = table["key"].to_numpy()[rows]
    _, first, title = np.unique(keys, return_index=True, return_inverse=True)
    is_first = np.zeros(len(column), dtype=bool)
    is_first[rows[first]] = True
    rest = rest[is_first[rest]]
    if params.max_held_out_rows:
        largest = params.max_held_out_rows / max(len(rows), 1)
        shares = {name: min(share, largest) for name, share in shares.items()}
    categories = table["category"].iloc[rest].reset_index(drop=True)
    groups = categories.groupby(categories, observed=True)
    place, size = (
        numbers.to_numpy(np.int32) for numbers in (groups.cumcount(), groups.transform("size"))
    )
    taken = np.zeros(len(rest), dtype=np.int32)
    # If a category has at least 3 titles, each split gets at least one of them.
    minimum = (size > len(missing)).astype(np.int8)
    for position, name in enumerate(missing, start=1):
        maximum = np.maximum(size - 1 - taken - (len(missing) - position) * minimum, 0)
        wanted = np.clip(np.rint(size * shares[name]), minimum, maximum).astype(np.int32)
        column[rest[(place >= taken) & (place < taken + wanted)]] = names.index(name)
        taken += wanted
    column[rows] = column[rows[first]][title]
    return pd.Series(pd.Categorical.from_codes(column, pd.Index(SPLITS)), table.index)


def _with_corrections(split_of: pd.Series, table: pd.DataFrame) -> pd.Series:
    """Return the split of each row of a corrected table.

    Args:
        split_of: Split of each row before the corrections.
        table: Corrected rows. Rows without a split, such as new rows, keep the split of the source, or
            are training rows.
    """
    given = table["split"].cat.set_categories(SPLITS)
    return split_of.reindex(table.index).fillna(given).fillna("train")


def _without_shared_titles(splits: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    seen = np.zeros(0, dtype=np.uint64)
    kept = {}
    for name in reversed(SPLITS):
        keys = splits[name]["key"]
        kept[name] = splits[name][~keys.isin(seen)].drop(columns="key")
        seen = np.concatenate([seen, keys.to_numpy()])
    return {name: kept[name] for name in SPLITS}


def _sampled(split: pd.DataFrame, limit: int, random: np.random.Generator) -> pd.DataFrame:
    """Return at most `limit` random rows in their order, or all rows if the limit is 0."""
    if not limit or len(split) <= limit:
        return split
    return split.iloc[np.sort(random.permutation(len(split))[:limit])]


def _most_frequent(train: pd.DataFrame, count: int) -> list[str]:
    rows = rows_by_category(train)
    ordered = sorted(rows, key=lambda name: (-rows[name], name))
    return sorted(ordered[: count or None])


def _with_texts(
    split: pd.DataFrame,
    titles: pd.Series,
    texts: list[pd.Series],
    places: dict[str, Any],
) -> pd.DataFrame:
    columns = split[["category", "label_quality"]].reset_index(drop=True)
    columns.insert(0, "title", titles_at(titles, split.index))
    of_split = {name: values.take(split.index) for name, values in places.items()}
    of_texts = {str(text.name): titles_at(text, split.index) for text in texts}
    return columns.assign(**of_split, **of_texts)


def _thinned_to_zipf(
    train: pd.DataFrame, labels: list[str], exponent: float, random: np.random.Generator
) -> pd.DataFrame:
    """Keep about n / rank ** exponent rows of each class, where n is the size of the largest.

    Each class has a random rank.
    """
    if exponent == 0.0 or train.empty:
        return train
    order = random.permutation(len(labels))
    rank = {labels[position]: place for place, position in enumerate(order, 1)}
    rows = random.permutation(len(train))
    categories = train["category"].iloc[rows].reset_index(drop=True)
    groups = categories.groupby(categories, observed=True)
    ranks = categories.map(rank).astype(int)
    wanted = groups.transform("size").max() / ranks**exponent
    kept = groups.cumcount() < wanted.round().clip(lower=_MIN_ROWS_PER_CLASS)
    return train.iloc[np.sort(rows[kept])]


def _with_flipped_labels(
    train: pd.DataFrame, labels: list[str], share: float, random: np.random.Generator
) -> pd.DataFrame:
    """Replace the class of a random share of the training rows with another random class."""
    if share == 0.0 or len(labels) < 2:
        return train
    rows = random.permutation(len(train))[: round(share * len(train))]
    class_of = {label: index for index, label in enumerate(labels)}
    classes = train["category"].map(class_of).astype(int).to_numpy(copy=True)
    classes[rows] = (classes[rows] + random.integers(1, len(labels), len(rows))) % len(labels)
    return train.assign(category=pd.Categorical.from_codes(classes, pd.Index(labels)))


def _total(splits: dict[str, pd.DataFrame]) -> int:
    return sum(len(split) for split in splits.values())


def _balance(train: pd.DataFrame) -> dict[str, float]:
    """Return the largest, median and smallest class size, and the relative entropy of the sizes."""
    counts = train["category"].value_counts().to_numpy()
    counts = counts[counts > 0]
    shares = counts / counts.sum()
    return {
        "largest_class": int(counts.max()),
        "median_class": float(np.median(counts)),
        "smallest_class": int(counts.min()),
        "entropy": round(float(-(shares * np.log(shares)).sum() / np.log(len(counts))), 6),
    }


def _unmeasured_notices(splits: dict[str, pd.DataFrame], classes: int) -> list[str]:
    """Report how many categories a split does not measure, because it contains no row of them."""
    missing = {name: classes - splits[name]["category"].nunique() for name in _HELD_OUT}
    return [
        f"{name} has no row of {count} of {classes} categories, so its metrics do not measure them"
        for name, count in missing.items()
        if count
    ]


def _stop_if_unusable(splits: dict[str, pd.DataFrame], notices: list[str]) -> None:
    """Raise DataError, which also contains the notices, if nothing can be trained or measured."""
    reasons = "".join(f"\n  {notice}" for notice in notices)
    categories = splits["train"]["category"].nunique()
    if categories < 2:
        raise DataError(
            f"{categories} category in the training rows, but a classifier needs at least two; "
            "raise subset.top_categories, lower data.min_rows_per_category or add more "
            f"data{reasons}"
        )
    for name, split in splits.items():
        if split.empty:
            raise DataError(
                f"the {name} split has no row of the selected categories; add more different titles "
                f"of each category, or a {name} file{reasons}"
            )
