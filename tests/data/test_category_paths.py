"""Category paths: names, order, labels, levels, rare categories and inconsistent trees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest

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
from rubro.data.raw_titles import CORRECTIONS
from rubro.data.splits import SPLITS
from rubro.data.subset import Subset, make_subset
from support.raw_titles import Row, raw_titles

Find = Callable[..., CategoryPaths]
Make = Callable[..., Subset]
# Rows of each path of a shop, from the root.
SHOP = {
    ("Bebidas", "Vinos", "Tintos"): 60,
    ("Bebidas", "Vinos", "Blancos"): 20,
    ("Bebidas", "Cervezas"): 30,
    ("Bebidas",): 2,
    ("Almacén", "Aceites", "Oliva"): 25,
    ("Almacén", "Aceites", "Girasol"): 25,
    ("Almacén", "Pastas", "Secas"): 40,
    ("Almacén", "Pastas", "Rellenas"): 10,
    ("Limpieza", "Lavado"): 30,
    ("Limpieza", "Pisos"): 15,
}
TREE = {" > ".join(path): path for path in SHOP}


@pytest.fixture(scope="module")
def params(make_params: Callable[..., Any]) -> Callable[..., tuple[DataParams, SubsetParams]]:
    """Return a function that makes parameters; keys of the sections data and subset are unique."""
    default = make_params()

    def make(**changes: Any) -> tuple[DataParams, SubsetParams]:
        changes = {"language": None, "top_categories": 0, "max_rows": 0} | changes
        sections = []
        for section in (default.data, default.subset):
            own = {key: value for key, value in changes.items() if key in section.model_dump()}
            sections.append(section.model_copy(update=own))
        return sections[0], sections[1]

    return make


@pytest.fixture(scope="module")
def find(params: Callable[..., tuple[DataParams, SubsetParams]]) -> Find:
    def run(
        rows: Mapping[str, int] | Collection[str], corrections: Collection[str] = (), **changes: Any
    ) -> CategoryPaths:
        counts = Counter(rows)
        changes = {"category_separator": " > ", "category_order": "root_first"} | changes
        return category_paths(counts, corrections, *params(**changes))

    return run


@pytest.fixture(scope="module")
def subset(params: Callable[..., tuple[DataParams, SubsetParams]]) -> Make:
    def make(rows: list[Row], **changes: Any) -> Subset:
        changes = {
            "category_separator": " > ",
            "validation_share": 0.2,
            "test_share": 0.2,
        } | changes
        data, of_subset = params(**changes)
        return make_subset(raw_titles(rows), of_subset, 1, data)

    return make


def many(sizes: Mapping[str, int], split: str = "") -> list[Row]:
    return [(f"{split} {name} {i}", name, split) for name, n in sizes.items() for i in range(n)]


def problems(found: CategoryPaths) -> dict[str, list[str]]:
    listed: dict[str, list[str]] = {}
    for problem, names, _ in found.problems:
        listed.setdefault(problem, []).append(names)
    return listed


# Names of a path


@pytest.mark.parametrize(
    ("separator", "values", "label"),
    [
        (" > ", ["A > B", "A>B", "A> B", "A  >B"], "A > B"),
        (">", ["A > B", "A>B"], "A>B"),
        ("|", ["A | B", "A|B"], "A|B"),
        (" / ", ["A / B"], "A / B"),
        ("/", ["A / B", "A/B"], "A/B"),
        (">>", ["A >> B"], "A>>B"),
        ("  ", ["A B"], "A B"),
        (" > ", ["A > > B", " > A > B", "A > B > "], "A > B"),
    ],
)
def test_white_space_around_a_separator_and_empty_names_are_ignored(
    find: Find, separator: str, values: list[str], label: str
) -> None:
    found = find(values, category_separator=separator)
    assert found.categories == dict.fromkeys(values, label)
    assert found.paths == {label: ("A", "B")}


@pytest.mark.parametrize(
    ("separator", "value", "path"),
    [
        (" - ", "Coca-Cola - Light", ("Coca-Cola", "Light")),
        (" - ", "Talles S- M -L - Azul", ("Talles S- M -L", "Azul")),
        (" / ", "Audio/Video / Radio", ("Audio/Video", "Radio")),
        (", ", "Pesas de 2,5 kg, Negras", ("Pesas de 2,5 kg", "Negras")),
    ],
)
def test_a_character_that_occurs_within_names_needs_its_white_space(
    find: Find, separator: str, value: str, path: tuple[str, ...]
) -> None:
    assert find([value], category_separator=separator).paths == {value: path}


def test_empty_names_are_reported(find: Find) -> None:
    found = find({"A > > B": 3, " > ": 2, "A > C": 1})
    assert found.categories[" > "] == ""
    assert set(problems(found)["empty_name"]) == {"A |  | B", " | "}
    assert found.counts["empty_name"] == 2


def test_null_like_names_are_dropped_if_their_categories_are(find: Find) -> None:
    rows = {"A > nan": 3, "A > B": 4, "nan": 1}
    kept, dropped = find(rows), find(rows, null_categories="drop")
    assert set(kept.paths) == {"A > nan", "A > B", "nan"}
    assert set(dropped.paths) == {"A", "A > B", "nan"}
    for found in (kept, dropped):
        assert problems(found)["null_category"] == ["nan"]


def test_columns_are_joined_by_a_separator_that_no_name_contains(find: Find) -> None:
    levels = {"category_column": ["a", "b"], "category_separator": None}
    found = find(["A\x1fB", "C"], **levels)
    assert found.paths == {"A > B": ("A", "B"), "C": ("C",)}
    found = find(["A > X\x1fB", "C"], **levels)
    assert found.paths == {"A > X | B": ("A > X", "B"), "C": ("C",)}
    found = find(["A\x1fB"], **(levels | {"category_separator": "/"}))
    assert found.paths == {"A/B": ("A", "B")}
    assert found.order == "root_first"


def test_a_correction_has_the_notation_of_the_labels_even_if_levels_are_in_columns(
    find: Find,
) -> None:
    rows = ["A\x1fB", "A > B", "A > New"]
    found = find(rows, ["A > B", "A > New"], category_column=["a", "b"], category_separator=None)
    assert found.categories == {"A\x1fB": "A > B", "A > B": "A > B", "A > New": "A > New"}
    assert found.paths["A > New"] == ("A", "New")


# Order of the names


def written(order: str, seed: int = 0) -> dict[str, int]:
    """Return the paths of the shop in an order of the names, with their numbers of rows."""
    random = Random(seed)
    rows = {}
    for path, n in SHOP.items():
        names = {
            "root_first": list(path),
            "leaf_first": list(path[::-1]),
            "unordered": random.sample(path, len(path)),
        }[order]
        rows[" > ".join(names)] = n
    return rows


@pytest.mark.parametrize("order", ["root_first", "leaf_first"])
def test_the_order_of_the_names_is_detected(find: Find, order: str) -> None:
    found = find(written(order), category_order="auto")
    assert found.order == order
    assert set(found.paths.values()) == {*SHOP}
    assert any(order in notice for notice in found.notices)
    assert all(value == label for value, label in found.categories.items())


def test_paths_that_are_sorted_by_the_alphabet_are_detected_as_unordered(find: Find) -> None:
    rows = {" > ".join(sorted(path)): n for path, n in SHOP.items()}
    found = find(rows, category_order="auto")
    assert found.order == "unordered"
    assert set(found.paths.values()) == {*SHOP}


@pytest.mark.parametrize("seed", range(5))
def test_a_tree_is_inferred_from_unordered_names(find: Find, seed: int) -> None:
    rows = written("unordered", seed)
    found = find(rows, category_order="unordered")
    assert found.paths == dict(zip(rows, SHOP, strict=True))
    assert all(value == label for value, label in found.categories.items())


def test_names_that_occur_under_unrelated_names_are_last(find: Find) -> None:
    rows = {}
    for path, n in SHOP.items():
        rows[" > ".join(sorted(path))] = n
        if len(path) == 3:
            rows[" > ".join(sorted((*path, "Orgánico")))] = 1 + n // 2
    found = find(rows, category_order="unordered")
    with_attribute = [path for path in found.paths.values() if "Orgánico" in path]
    assert with_attribute == [path for path in with_attribute if path[:-1] in SHOP]
    assert len(with_attribute) == 6


def test_the_most_frequent_notation_of_unordered_names_is_the_label(find: Find) -> None:
    rows = {"B > A": 7, "A > B": 2, "A > B > A": 4, "A": 9}
    found = find(rows, category_order="unordered")
    assert found.categories == {"B > A": "B > A", "A > B": "B > A", "A > B > A": "B > A", "A": "A"}
    assert found.paths["B > A"] == ("A", "B")


def test_the_shorter_of_two_names_with_equally_many_rows_is_the_parent(find: Find) -> None:
    rows = {"Bebidas > Tinto Seco > Vino": 5, "Aguas > Bebidas": 3}
    found = find(rows, category_order="unordered")
    assert found.paths["Bebidas > Tinto Seco > Vino"] == ("Bebidas", "Vino", "Tinto Seco")


@pytest.mark.parametrize(
    ("order", "expected"),
    [("root_first", "Bebidas > Vinos"), ("leaf_first", "Vinos > Bebidas")],
)
def test_paths_are_cut_off_at_a_level(find: Find, order: str, expected: str) -> None:
    rows = written(order)
    found = find(rows, category_order=order, category_level=2)
    assert set(found.paths.values()) == {path[:2] for path in SHOP}
    assert found.paths[expected] == ("Bebidas", "Vinos")
    assert found.categories["Bebidas"] == "Bebidas"
    roots = find(written("unordered"), category_order="unordered", category_level=1)
    assert set(roots.paths) == {"Bebidas", "Almacén", "Limpieza"}


def test_a_separator_that_no_category_contains_is_pointed_out(find: Find) -> None:
    found = find(["A|B", "A|C"], category_order="auto")
    assert set(found.paths) == {"A|B", "A|C"}
    assert any("' > '" in notice for notice in found.notices)
    assert not find(["A > B", "A"]).notices


# Similar names and inconsistent trees


def test_similar_names_of_siblings_are_merged_with_all_their_descendants(find: Find) -> None:
    rows = {"Cocina > Tazas > Té": 5, "Cocina > TAZAS > té": 2, "Baño > Taza": 3}
    kept = find(rows)
    merged = find(rows, similar_categories="merge")
    assert set(kept.paths) == {*rows}
    assert set(merged.paths) == {"Cocina > Tazas > Té", "Baño > Taza"}
    for found in (kept, merged):
        assert problems(found)["similar_categories"] == ["Tazas | TAZAS", "Té | té"]
        assert found.counts["similar_categories"] == 4


def test_similar_names_of_unordered_paths_are_merged_wherever_they_are(find: Find) -> None:
    rows = {"CERVEZA > Cerveza > Bebidas": 5, "Cerveza > Bebidas": 9, "Bebidas": 1}
    found = find(rows, category_order="unordered", similar_categories="merge")
    assert found.paths == {"Bebidas": ("Bebidas",), "Cerveza > Bebidas": ("Bebidas", "Cerveza")}
    assert "child_of_itself" not in found.counts


def test_inconsistent_trees_are_reported(find: Find) -> None:
    found = find(
        ["A > B", "B > A", "C > C > D", "E > F > E", "G > Otros", "H > Otros", "I > J"],
    )
    assert problems(found) == {
        "both_orders": ["A | B", "E | F"],
        "child_of_itself": ["C: C | C | D"],
        "repeated_name": ["E: E | F | E"],
        "name_with_several_parents": [
            *("A: (no parent), B", "B: (no parent), A", "C: (no parent), C"),
            *("E: (no parent), F", "Otros: G, H"),
        ],
    }
    assert found.counts["name_with_several_parents"] == 5
    assert found.paths["C > C > D"] == ("C", "C", "D")


def test_only_the_largest_problems_are_listed(find: Find) -> None:
    found = find({f"A{i} > > B": i + 1 for i in range(200)})
    assert len(problems(found)["empty_name"]) == 100
    assert found.counts["empty_name"] == 200
    assert problems(found)["empty_name"][0] == "A199 |  | B"


# Rare categories


def test_rare_categories_are_merged_into_their_parents_deepest_first(find: Find) -> None:
    rows = {"A > B > C": 2, "A > B > D": 2, "A > B > E": 9, "A > F": 3, "A > G": 1, "H": 1}
    target, paths = merge_rare_categories(rows, find(rows), 4)
    assert target == {
        "A > B > C": "A > B",
        "A > B > D": "A > B",
        "A > B > E": "A > B > E",
        "A > F": "A",
        "A > G": "A",
        "H": "H",
    }
    assert paths == {
        "A > B": ("A", "B"),
        "A > B > E": ("A", "B", "E"),
        "A": ("A",),
        "H": ("H",),
    }


@pytest.mark.parametrize(
    ("order", "rows", "parent"),
    [
        ("leaf_first", {"C > B > A": 1, "D > B > A": 2, "A": 5}, "B > A"),
        ("unordered", {"C > A > B": 1, "D > B > A": 2, "A": 5}, "B > A"),
    ],
)
def test_a_parent_is_named_in_the_notation_of_its_children(
    find: Find, order: str, rows: dict[str, int], parent: str
) -> None:
    found = find(rows, category_order=order)
    target, paths = merge_rare_categories(rows, found, 3)
    assert set(target.values()) == {parent, "A"}
    assert paths == {parent: ("A", "B"), "A": ("A",)}


def test_rows_of_rare_categories_follow_their_parent_in_every_split(subset: Make) -> None:
    rows = many({"A > B": 10, "A > C": 2, "D": 10, "E": 2}, "train")
    for split in ("validation", "test"):
        rows += many({"A > C": 2, "A > New": 1, "D": 2, "E": 1}, split)
    result = subset(rows, min_rows_per_category=2)
    assert result.labels == ["A > B", "A > C", "D", "E"]
    result = subset(rows, min_rows_per_category=3)
    assert result.labels == ["A > B", "D"]
    assert result.summary["dropped"]["category_too_rare"] == 2 + 2 + 2 * (3 + 1)
    result = subset([*rows, *many({"A": 1}, "train")], min_rows_per_category=3)
    assert result.labels == ["A", "A > B", "D"]
    for split, expected in (("train", 3), ("validation", 3), ("test", 3)):
        assert (result.splits[split]["category"] == "A").sum() == expected
    assert any("2 categories" in notice and "merged" in notice for notice in result.notices)


def test_rare_flat_categories_are_dropped(subset: Make) -> None:
    rows = many({"A": 30, "B": 30, "C": 4})
    result = subset(rows, category_separator=None, min_rows_per_category=5)
    assert result.labels == ["A", "B"]
    assert result.summary["dropped"]["category_too_rare"] == 4
    assert any("data.min_rows_per_category" in notice for notice in result.notices)


def test_the_error_names_the_parameter_that_drops_every_category(subset: Make) -> None:
    with pytest.raises(DataError, match=r"lower data\.min_rows_per_category"):
        subset(many({"A > B": 30, "C": 30}), min_rows_per_category=1000)


def test_rare_categories_are_merged_before_the_most_frequent_ones_are_selected(
    subset: Make,
) -> None:
    rows = many({f"A > {i}": 8 for i in range(5)} | {"B": 24, "C": 25})
    assert subset(rows, top_categories=2).labels == ["B", "C"]
    merged = subset(rows, top_categories=2, min_rows_per_category=10)
    assert merged.labels == ["A", "C"]


# Subsets


def test_the_subset_contains_the_tree_of_its_categories(subset: Make) -> None:
    result = subset(many(written("leaf_first")), top_categories=5)
    assert result.tree is not None
    assert list(result.tree.paths) == result.labels
    assert result.tree.order == "leaf_first"
    assert result.summary["tree"] == {
        "order": "leaf_first",
        "depth": 3,
        "nodes": {"1": 3, "2": 5, "3": 5},
    }


@pytest.mark.parametrize("changes", [{"category_separator": None}, {"category_level": 1}])
def test_flat_categories_have_no_tree(subset: Make, changes: dict[str, Any]) -> None:
    result = subset(many(written("root_first")), **changes)
    assert result.tree is None
    assert "tree" not in result.summary


def test_values_with_the_same_path_are_one_category(subset: Make) -> None:
    result = subset(many({"A > B": 20, "A>B": 20, "A > C": 20}))
    assert result.labels == ["A > B", "A > C"]
    assert sum((split["category"] == "A > B").sum() for split in result.splits.values()) == 40


def test_a_title_with_two_notations_of_a_path_is_not_conflicting(subset: Make) -> None:
    rows = [*many({"A > B": 20, "A > C": 20}), ("A > B 1", "A>B", "")]
    assert subset(rows).summary["doubtful_labels"].get("conflicting_titles", 0) == 0


def test_rows_without_a_name_are_dropped_and_reported(subset: Make) -> None:
    result = subset(many({"A > B": 20, "A > C": 20, " > ": 3}))
    assert result.summary["dropped"]["category_without_name"] == 3
    assert "empty_name" in set(result.label_problems["problem"])
    assert result.summary["doubtful_labels"]["empty_name"] == 1


def test_rows_whose_names_all_stand_for_a_missing_name_are_dropped(subset: Make) -> None:
    rows = many({"A > B": 20, "A > C": 20, "nan > N/A": 3, "null": 2})
    assert len(subset(rows).labels) == 4
    result = subset(rows, null_categories="drop")
    assert result.labels == ["A > B", "A > C"]
    assert result.summary["dropped"]["null_category"] == 5


def test_paths_with_the_same_words_are_not_similar(subset: Make) -> None:
    result = subset(many({"A > BC": 20, "AB > C": 20}), similar_categories="merge")
    assert result.labels == ["A > BC", "AB > C"]


def test_a_new_path_in_a_correction_is_a_new_category(subset: Make) -> None:
    corrections = [(f"new {i}", "A>New", CORRECTIONS) for i in range(3)]
    result = subset([*many({"A > B": 20, "A > C": 20}), *corrections])
    assert result.labels == ["A > B", "A > C", "A > New"]
    assert (result.splits["train"]["category"] == "A > New").sum() == 3


def test_corrections_of_paths_may_have_any_notation(subset: Make) -> None:
    rows = many({"A > B": 20, "A > C": 20})
    corrections = [("A > B 0", "A>C", CORRECTIONS), ("A > B 1", "A>B", CORRECTIONS)]
    result = subset([*rows, *corrections])
    assert list(result.corrections["result"]) == ["replaced", "already_right"]
    assert result.labels == ["A > B", "A > C"]
    found = {
        title: category
        for split in result.splits.values()
        for title, category in zip(split["title"], split["category"], strict=True)
    }
    assert (found[" A > B 0"], found[" A > B 1"]) == ("A > C", "A > B")


def test_corrections_of_levels_in_several_columns_use_the_notation_of_the_model(
    subset: Make,
) -> None:
    rows = many({"A\x1fB": 20, "A\x1fC": 20})
    corrections = [("A\x1fB 0", "A > C", CORRECTIONS), ("A\x1fB 1", "A\x1fC", CORRECTIONS)]
    columns = {"category_column": ["one", "two"], "category_separator": None}
    result = subset([*rows, *corrections], **columns)
    assert list(result.corrections["result"]) == ["replaced", "replaced"]
    assert result.labels == ["A > B", "A > C"]
    assert sum((split["category"] == "A > C").sum() for split in result.splits.values()) == 22


def test_a_correction_into_a_merged_category_is_used(subset: Make) -> None:
    rows = many({"A > B": 20, "A > C": 3, "A > D": 3, "E": 20})
    corrections = [("right", "A", CORRECTIONS), ("rare", "A > C", CORRECTIONS)]
    train = subset([*rows, *corrections], min_rows_per_category=4).splits["train"]
    assert set(train.loc[train["title"].isin(["right", "rare"]), "category"]) == {"A"}


def test_levels_in_several_columns_make_a_tree(subset: Make) -> None:
    rows = many({"\x1f".join(path): n for path, n in SHOP.items()})
    result = subset(rows, category_column=["a", "b", "c"], category_separator=None)
    assert result.tree is not None
    assert {label: tuple(path) for label, path in result.tree.paths.items()} == TREE


# Values that look like paths


@pytest.mark.parametrize(
    ("separator", "shown"),
    [(" > ", " > "), (">", ">"), ("/", "/"), (" / ", " / "), (" | ", " | "), (" - ", " - ")],
)
def test_values_that_look_like_paths_are_pointed_out(
    subset: Make, separator: str, shown: str
) -> None:
    rows = {separator.join(path): n for path, n in SHOP.items()}
    assert guessed_separator(rows) == shown
    result = subset(many(rows), category_separator=None)
    assert result.tree is None
    assert any(f'data.category_separator="{shown}"' in notice for notice in result.notices)


@pytest.mark.parametrize(
    "names",
    [
        ["Audio/Video", "Foto/Cine", "TV/Radio", "Cocina/Baño", "Luz/Gas", "Mesa/Sillas"],
        ["Coca-Cola", "Coca-Light", "Porta-Retrato", "Porta-Velas", "Mesas", "Sillas", "Camas"],
        ["A > B", "A > C", "A > D"],
        ["A > B", "A > C", "A > D", "A > E", "A > F", "G", "H", "I", "J", "K", "L"],
        ["A", "B", "C", "D", "E", "F"],
        [],
    ],
)
def test_flat_names_are_not_taken_for_paths(names: list[str]) -> None:
    assert guessed_separator(dict.fromkeys(names, 9)) is None


# Random paths

SEPARATORS = (" > ", ">", ">>", " - ", "/", " / ", "|", " ", ", ", "x", " > > ")
PIECES = (
    *("A", "B", "c", "é", "Ñ", ">", ">>", "/", "-", "|", " ", "", "nan", "N/A", "果物", "كتاب"),
    *("a>b", "Vino", "Vinos", "VINO", "\x00", "\xa0", "\u200b", "🍷", "x", '"', ",", "\u0301"),
)


class RandomPaths:
    """A table of random paths: cycles, up to 50 levels, empty names and separators in names."""

    def __init__(self, seed: int, params: Callable[..., tuple[DataParams, SubsetParams]]) -> None:
        random = Random(seed)
        separator = random.choice(SEPARATORS)
        is_list = random.random() < 0.25
        size = random.choice((1, 2, 5, 12, 40))
        names = ["".join(random.choices(PIECES, k=random.choice((1, 1, 2)))) for _ in range(size)]
        spaced = f" {separator.strip()} "
        joined = "\x1f" if is_list else random.choice((separator, spaced))
        depth = random.choice((1, 2, 3, 6, 50))
        paths = [
            random.choices(names, k=random.randint(is_list, depth))
            for _ in range(random.choice((2, 5, 30)))
        ]
        paths += [path[::-1] for path in paths if random.random() < 0.3]
        values = [joined.join(path) for path in paths]
        self.rows = [(f"title {i}", random.choice(values), "") for i in range(60)]
        for i in range(random.choice((0, 3))):
            name = " > ".join(random.choices(names, k=2))
            self.rows.append((f"correction {i}", name, CORRECTIONS))
        self.data, self.subset = params(
            category_separator=separator,
            category_column=["a", "b"] if is_list else "a",
            category_order=random.choice(("auto", "root_first", "leaf_first", "unordered")),
            category_level=random.choice(("leaf", "leaf", 1, 3)),
            min_rows_per_category=random.choice((1, 1, 2, 5)),
            similar_categories=random.choice(("keep", "merge")),
            null_categories=random.choice(("keep", "drop")),
        )

    def check_paths(self) -> CategoryPaths:
        """Check that each value has a category, and that trees are consistent after merging."""
        rows = Counter(category for _, category, _ in self.rows)
        ordinary = {category for _, category, split in self.rows if split != CORRECTIONS}
        found = category_paths(rows, {*rows} - ordinary, self.data, self.subset)
        assert set(found.categories) == set(rows)
        assert {category for category in found.categories.values() if category} == {*found.paths}
        assert len({*found.paths.values()}) == len(found.paths)
        counts = dict.fromkeys(found.paths, 0)
        for value, n in rows.items():
            if category := found.categories[value]:
                counts[category] += n
        target, paths = merge_rare_categories(counts, found, 3)
        assert set(target) == set(found.paths)
        merged = Counter[str]()
        for category, n in counts.items():
            merged[target[category]] += n
        assert all(n >= 3 or len(paths[category]) == 1 for category, n in merged.items())
        check_tree(replace(found, paths=paths))
        check_tree(found)
        return found

    def check_subset(self) -> None:
        """Check that each row is in a split or counted as dropped."""
        try:
            result = make_subset(raw_titles(self.rows), self.subset, 1, self.data)
        except DataError:
            return
        kept = sum(len(result.splits[name]) for name in SPLITS)
        nameless = (result.corrections["result"] == "unusable").sum()
        assert kept + nameless + sum(result.summary["dropped"].values()) == len(self.rows)
        for split in result.splits.values():
            assert set(split["category"]) <= set(result.labels)
        if result.tree:
            assert list(result.tree.paths) == result.labels


def check_tree(found: CategoryPaths) -> None:
    if not found.paths:
        return
    tree = CategoryTree(
        separator=found.separator,
        order=found.order,
        paths={category: list(path) for category, path in found.paths.items()},
    )
    for level in range(1, tree.depth + 1):
        nodes = tree.level(level).nodes
        assert all(nodes)
        assert len({*nodes}) == len(nodes)
    assert tree.level(tree.depth).nodes == [*tree.paths]


def test_random_paths_make_consistent_trees(
    params: Callable[..., tuple[DataParams, SubsetParams]],
) -> None:
    found = [RandomPaths(seed, params).check_paths() for seed in range(500)]
    assert {paths.order for paths in found} == {"root_first", "leaf_first", "unordered"}
    assert max(len(path) for paths in found for path in paths.paths.values()) >= 40
    seen = {problem for paths in found for problem, _, _ in paths.problems}
    assert seen == {
        *("empty_name", "repeated_name", "child_of_itself", "both_orders"),
        *("name_with_several_parents", "similar_categories", "null_category"),
    }


def test_no_row_with_a_random_path_is_lost(
    params: Callable[..., tuple[DataParams, SubsetParams]],
) -> None:
    for seed in range(25):
        RandomPaths(seed, params).check_subset()


@pytest.mark.slow
def test_ten_thousand_tables_of_random_paths(
    params: Callable[..., tuple[DataParams, SubsetParams]],
) -> None:
    for seed in range(10_000):
        paths = RandomPaths(1000 + seed, params)
        paths.check_paths()
        if seed % 20 == 0:
            paths.check_subset()


def test_paths_of_columns_need_several_columns(
    params: Callable[..., tuple[DataParams, SubsetParams]],
) -> None:
    for columns, expected in (("a", False), (["a"], False), (["a", "b"], True)):
        assert has_level_columns(params(category_column=columns)[0]) is expected
