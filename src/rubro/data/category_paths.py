"""Turn category paths, such as "Bebidas > Vinos > Vinos Tintos", into categories that form a tree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from itertools import chain, count, pairwise

import numpy as np

from rubro.base.category_tree import CategoryOrder, node_name, path_splitter
from rubro.base.params import DataParams, SubsetParams
from rubro.base.text import first_names
from rubro.data.labels import is_null_name, similar_names, similar_names_notice
from rubro.data.raw_titles import LEVEL_SEPARATOR

_DEFAULT_SEPARATOR = " > "
_GUESSED_SEPARATORS = (">>", ">", "|", "»", "→", "::", "\\", " / ", "/", " - ")
_MIN_GUESSED_PATHS = 5
_MIN_SHARED = 0.9  # share of the guessed paths that must have a name in common with another one
_MIN_ORDERED_SHARE = 0.75  # of the pairs of adjacent names, which shows the order of the names
# Two names are unrelated if they occur together in a smaller share of the rows of the rarer name.
_ALMOST_ALL = 0.8
# A name is an attribute if this share of its co-occurrences is with so many unrelated names.
_MIN_UNRELATED_SHARE = 0.4
_MIN_UNRELATED_NAMES = 3
_MAX_LISTED = 100  # inconsistencies of each kind
_Path = tuple[str, ...]


@dataclass(frozen=True)
class CategoryPaths:
    """Categories of a catalogue whose categories are paths.

    Attributes:
        separator: Text between the names in a category.
        order: Order of the names in a category.
        paths: Names from the root to the category, by category.
        categories: Category of each value that the catalogue contains; "" if the value has no name.
        problems: Inconsistencies, as rows for CheckedLabels.problems: similar_categories,
            null_category, empty_name, repeated_name, child_of_itself, both_orders and
            name_with_several_parents. Of each problem, the 100 with the most rows are listed.
        counts: Number of similar names, of null-like names and of each other inconsistency.
        notices: Sentences for the user.
    """

    separator: str
    order: CategoryOrder
    paths: dict[str, _Path]
    categories: dict[str, str]
    problems: list[tuple[str, str, int]]
    counts: dict[str, int]
    notices: list[str]


def category_paths(
    rows: Mapping[str, int], corrections: Collection[str], data: DataParams, subset: SubsetParams
) -> CategoryPaths:
    """Split the values of the category column into names, and order the names of each from the root.

    The order is inferred from the number of rows of each name if data.category_order is
    `unordered`: an ancestor occurs in almost every path of its descendants, so that it has at least
    as many rows as each of them. Names with equally many rows are ordered by their length. Names that
    occur with many names but are neither ancestors nor descendants of them, such as "Organic", are
    attributes: they are the last names of a path. `auto` counts the pairs of adjacent names in which
    the first name has more rows, or fewer: if one of them is at least 75 % of the pairs, the paths
    are root first or leaf first, and else unordered.

    Args:
        rows: Number of rows of each value. If data.category_column is a list, a value is
            the names in its columns, joined by LEVEL_SEPARATOR.
        corrections: Values that are categories in the notation of this function's result, even if
            data.category_column is a list.
        data: Separator and order of the names, and the level at which paths are cut off.
        subset: Whether similar names are merged, and names that stand for a missing name are dropped.
    """
    problems = _Problems()
    separator, names = _split_values(rows, corrections, data, subset, problems)
    order, notices = _order(_rows_of_paths(names, rows), data)
    if order == "leaf_first":
        names = {value: path[::-1] for value, path in names.items()}
    path_rows = _rows_of_paths(names, rows)

    groups, merged = _similar_names(path_rows, order)
    for group, n in groups:
        problems.add("similar_categories", " | ".join(group), n)
    if subset.similar_categories == "keep":
        merged = {path: path for path in path_rows}
    elif order == "unordered":
        merged = {path: tuple(dict.fromkeys(new)) for path, new in merged.items()}
    if groups:
        similar = [group for group, _ in groups]
        notices.append(similar_names_notice("names in category paths", similar, subset))

    merged_rows = Counter[_Path]()
    for path, n in path_rows.items():
        merged_rows[merged[path]] += n
    from_root = {path: path for path in merged_rows}
    if order == "unordered":
        from_root = _from_root(merged_rows)
    _find_inconsistencies(merged_rows, from_root, problems)

    level = None if data.category_level == "leaf" else data.category_level
    notations = defaultdict[_Path, Counter[str]](Counter)
    for path, n in merged_rows.items():
        node = from_root[path][:level]
        notations[node][node_name(node, order, separator, dict.fromkeys(path))] += n
    category = {
        node: min(found, key=lambda name: (-found[name], name)) for node, found in notations.items()
    }
    paths: dict[str, _Path] = {}
    for node in sorted(category):
        paths.setdefault(category[node], node)
    categories = {
        value: category[from_root[merged[path]][:level]] if path else ""
        for value, path in names.items()
    }
    notices += problems.notices()
    counts = problems.counts()
    if groups:
        counts["similar_categories"] = sum(len(group) for group, _ in groups)
    return CategoryPaths(separator, order, paths, categories, problems.listed(), counts, notices)


def _split_values(
    rows: Mapping[str, int],
    corrections: Collection[str],
    data: DataParams,
    subset: SubsetParams,
    problems: _Problems,
) -> tuple[str, dict[str, _Path]]:
    """Return the separator of the categories, and the names in each value; see category_paths."""
    values = sorted(rows)
    separator = data.category_separator or _DEFAULT_SEPARATOR
    split = path_splitter(separator)
    parts: dict[str, _Path] = {}
    if has_level_columns(data):
        parts = {
            value: tuple(name.strip() for name in value.split(LEVEL_SEPARATOR))
            for value in values
            if value not in corrections
        }
        separator, split = _unused_separator(separator, parts.values())
    names = {
        value: _names(parts.get(value) or split(value), rows[value], subset, problems)
        for value in values
    }
    if not has_level_columns(data):
        separator = _unambiguous_separator(separator, split, names.values())
    return separator, names


def _rows_of_paths(names: Mapping[str, _Path], rows: Mapping[str, int]) -> Counter[_Path]:
    """Return the number of rows of each path that has a name.

    Args:
        names: Path of each value.
        rows: Number of rows of each value.
    """
    found = Counter[_Path]()
    for value, path in names.items():
        if path:
            found[path] += rows[value]
    return found


def merge_rare_categories(
    rows: Mapping[str, int], found: CategoryPaths | None, minimum: int
) -> tuple[dict[str, str], dict[str, _Path]]:
    """Merge categories with too few training rows into their parents, the deepest categories first.

    Args:
        rows: Number of training rows of each category.
        found: Paths of the categories; None if they are not paths, so that none has a parent.
        minimum: Categories with fewer training rows are merged. A category without a parent stays.

    Returns:
        Category that each category is merged into, or the category itself; and the path of each
        category that remains.
    """
    paths = {name: found.paths[name] if found else (name,) for name in rows}
    category = {path: name for name, path in (found.paths if found else paths).items()}
    counts = Counter({paths[name]: n for name, n in rows.items()})
    parent = {}
    for level in range(max(map(len, paths.values()), default=0), 1, -1):
        rare = [path for path, n in counts.items() if len(path) == level and n < minimum]
        for path in sorted(rare, key=lambda path: (-counts[path], path)):
            parent[path] = path[:-1]
            counts[path[:-1]] += counts.pop(path)
            if path[:-1] not in category:
                assert found is not None
                names = category[path].split(found.separator)
                name = node_name(path[:-1], found.order, found.separator, names)
                category[path[:-1]] = name
    target = {}
    for name, path in paths.items():
        while path in parent:
            path = parent[path]
        target[name] = category[path]
    return target, {category[path]: path for path in counts}


def has_level_columns(data: DataParams) -> bool:
    """Return whether each level of a category is in a column of its own."""
    return len(data.category_columns) > 1


def guessed_separator(rows: Mapping[str, int]) -> str | None:
    """Return the separator of category names that look like paths; None if they do not.

    At least half of the names must contain the separator, and almost every one of these names must
    have a part in common with another name. Names such as "Audio/Video" have no part in common.

    Args:
        rows: Number of rows of each category name.
    """
    for separator in _GUESSED_SEPARATORS:
        split = path_splitter(separator)
        parts = [tuple(dict.fromkeys(split(name))) for name in rows]
        occurrences = Counter(chain.from_iterable(parts))
        paths = [path for path in parts if len(path) > 1]
        if len(paths) < max(_MIN_GUESSED_PATHS, len(rows) / 2):
            continue
        shared = sum(any(occurrences[name] > 1 for name in path) for path in paths)
        if shared >= _MIN_SHARED * len(paths):
            spaced = f" {separator.strip()} "
            return spaced if sum(spaced in name for name in rows) > len(paths) / 2 else separator
    return None


def _unused_separator(
    preferred: str, paths: Collection[_Path]
) -> tuple[str, Callable[[str], _Path]]:
    """Return a separator that no name contains, and the function that splits categories at it."""
    distinct = {tuple(name for name in path if name) for path in paths} - {()}

    def candidates() -> Iterator[str]:
        yield from (preferred, _DEFAULT_SEPARATOR, " | ", " / ", " » ")
        yield from (f" {'>' * length} " for length in count(2))

    for separator in candidates():
        split = path_splitter(separator)
        if all(split(separator.join(path)) == path for path in distinct):
            return separator, split
    raise AssertionError  # not reached, because a separator that is longer than all names fits


def _unambiguous_separator(
    separator: str, split: Callable[[str], _Path], paths: Collection[_Path]
) -> str:
    """Return the given separator, with spaces around it if categories would be ambiguous without.

    Joined by ">>", the names "A>" and "B" would be the same category as the names "A" and ">B".
    """
    core = " ".join(separator.split())
    if not core:
        return " "
    for candidate in (separator, f" {core} "):
        if all(split(candidate.join(path)) == path for path in {*paths} - {()}):
            return candidate
    return separator


def _names(parts: _Path, rows: int, subset: SubsetParams, problems: _Problems) -> _Path:
    """Return the names of a path without empty names, and report problems of the path itself."""
    names = tuple(filter(None, parts))
    if len(names) < len(parts):
        problems.add("empty_name", " | ".join(parts), rows)
    null_names = [name for name in names if is_null_name(name)]
    if null_names and len(names) > 1:
        for name in null_names:
            problems.add("null_category", name, rows)
        if subset.null_categories == "drop":
            names = tuple(name for name in names if not is_null_name(name)) or names[:1]
    return names


def _order(weights: Mapping[_Path, int], data: DataParams) -> tuple[CategoryOrder, list[str]]:
    """Return the order of the names in the paths, and notices for the user if it is detected."""
    if has_level_columns(data):
        return "root_first", []
    if max(map(len, weights), default=0) <= 1:
        notice = f"no category contains data.category_separator {data.category_separator!r}"
        return "root_first", [f"{notice}, so the categories have no levels"]
    if data.category_order != "auto":
        return data.category_order, []
    rows = Counter[str]()
    for path, n in weights.items():
        for name in {*path}:
            rows[name] += n
    pairs = {pair for path in weights for pair in pairwise(path)}
    falling = sum(rows[first] > rows[second] for first, second in pairs)
    rising = sum(rows[first] < rows[second] for first, second in pairs)
    limit = _MIN_ORDERED_SHARE * (falling + rising)
    order: CategoryOrder = "unordered"
    if falling >= limit or rising >= limit:
        order = "root_first" if falling >= limit else "leaf_first"
    reason = (
        f"the first of two adjacent names has more rows in {falling} of {falling + rising} pairs"
        if falling + rising
        else "the numbers of rows do not show an order"
    )
    return order, [
        f"the category paths are {order} ({reason}); set data.category_order if that is wrong"
    ]


def _similar_names(
    weights: Mapping[_Path, int], order: CategoryOrder
) -> tuple[list[tuple[list[str], int]], dict[_Path, _Path]]:
    """Group similar names with the same parent, or all similar names if paths are unordered.

    Args:
        weights: Number of rows by path, root first or unordered.
        order: Order of the names.

    Returns:
        Each group with its number of rows, and each path with the first names of the groups.
    """
    groups = []
    merged: dict[_Path, _Path] = dict.fromkeys(weights, ())
    depth = max(map(len, weights), default=0)
    unordered = order == "unordered"
    levels = [slice(None)] if unordered else [slice(k, k + 1) for k in range(depth)]
    for level in levels:
        siblings = defaultdict[_Path, Counter[str]](Counter)
        for path, n in weights.items():
            for name in path[level]:
                siblings[merged[path]][name] += n
        leader: dict[tuple[_Path, str], str] = {}
        for prefix, rows in siblings.items():
            if len(rows) > 1:
                for group in similar_names(rows):
                    groups.append((group, sum(rows[name] for name in group)))
                    leader |= {(prefix, name): group[0] for name in group}
        for path, prefix in merged.items():
            new = tuple(leader.get((prefix, name), name) for name in path[level])
            merged[path] = prefix + new
    return groups, merged


def _from_root(weights: Mapping[_Path, int]) -> dict[_Path, _Path]:
    """Order the different names of unordered paths from the root; see category_paths.

    Args:
        weights: Number of rows by path.
    """
    if not weights:
        return {}
    names = sorted({name for path in weights for name in path})
    index = {name: place for place, name in enumerate(names)}
    pairs, counts = [], []
    for path, n in weights.items():
        places = np.array([index[name] for name in {*path}], dtype=np.int64)
        pairs.append(np.add.outer(places * len(names), places).ravel())
        counts.append(np.full(len(places) ** 2, n))
    pair, inverse = np.unique(np.concatenate(pairs), return_inverse=True)
    first, second = np.divmod(pair, len(names))
    both = np.bincount(inverse, np.concatenate(counts))
    rows = both[first == second]
    other = first != second
    first, second, both = first[other], second[other], both[other]
    limit = _ALMOST_ALL * np.minimum(rows[first], rows[second])
    unrelated = both < limit
    total = np.bincount(first, both, len(names))
    share = np.bincount(first[unrelated], both[unrelated], len(names)) / np.maximum(total, 1)
    partners = np.bincount(first[unrelated], minlength=len(names))
    is_attribute = (share >= _MIN_UNRELATED_SHARE) & (partners >= _MIN_UNRELATED_NAMES)
    ordered = sorted(names, key=lambda x: (is_attribute[index[x]], -rows[index[x]], len(x), x))
    rank = {name: place for place, name in enumerate(ordered)}
    return {path: tuple(sorted({*path}, key=rank.__getitem__)) for path in weights}


def _find_inconsistencies(
    given: Mapping[_Path, int], from_root: Mapping[_Path, _Path], problems: _Problems
) -> None:
    """Report repeated names, names with several parents, and pairs of names in both orders."""
    parents = defaultdict[str, Counter[str]](Counter)
    for path, n in given.items():
        if len({*path}) < len(path):
            repeated = next(name for name in path if path.count(name) > 1)
            is_own_child = any(first == second for first, second in pairwise(path))
            problem = "child_of_itself" if is_own_child else "repeated_name"
            problems.add(problem, f"{repeated}: {' | '.join(path)}", n)
        for parent, name in pairwise(("", *from_root[path])):
            parents[name][parent] += n
    for name, found in parents.items():
        for parent in found:
            if parent < name and name in parents.get(parent, ()):
                problems.add(
                    "both_orders", f"{parent} | {name}", found[parent] + parents[parent][name]
                )
        if len(found) > 1:
            ordered = sorted(found, key=lambda parent: (-found[parent], parent))
            listed = first_names([parent or "(no parent)" for parent in ordered])
            problems.add("name_with_several_parents", f"{name}: {listed}", found.total())


class _Problems:
    """Collects inconsistencies of paths with their numbers of rows."""

    def __init__(self) -> None:
        self._rows = defaultdict[str, Counter[str]](Counter)

    def add(self, problem: str, names: str, rows: int) -> None:
        self._rows[problem][names] += rows

    def counts(self) -> dict[str, int]:
        found = {problem: len(rows) for problem, rows in sorted(self._rows.items())}
        if "null_category" in found:
            found["null_categories"] = found.pop("null_category")
        return found

    def listed(self) -> list[tuple[str, str, int]]:
        """Return the inconsistencies with the most rows of each problem."""
        return [
            (problem, names, rows)
            for problem, found in sorted(self._rows.items())
            for names, rows in nsmallest(
                _MAX_LISTED, found.items(), key=lambda item: (-item[1], item[0])
            )
        ]

    def notices(self) -> list[str]:
        """Return a notice about the inconsistencies of the tree; similar names have their own."""
        counts = {k: n for k, n in self.counts().items() if k != "similar_categories"}
        if not counts:
            return []
        listed = ", ".join(f"{problem} {n}" for problem, n in counts.items())
        return [f"inconsistent category paths: {listed}; metrics/label_problems.csv lists them"]
