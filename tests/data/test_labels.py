"""Names of categories that look the same, names of nothing, titles with several categories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from rubro.data.labels import CheckedLabels, check_labels, is_null_name, similar_names, title_keys
from rubro.tables.values import category_name

Check = Callable[..., CheckedLabels]


@pytest.fixture
def check(make_params: Callable[..., Any]) -> Check:
    def run(rows: list[tuple[str, str]], **changes: str) -> CheckedLabels:
        params = make_params({f"subset.{key}": value for key, value in changes.items()})
        table = pd.DataFrame(rows, columns=["title", "category"])
        table = table.assign(category=table["category"].astype("category"))
        table = table.assign(key=title_keys(table["title"]))
        return check_labels(table, table["title"], params.subset)

    return run


@pytest.mark.parametrize(
    "names",
    [
        ["JARDÍN", "Jardin", "jardín"],
        ["Home & Garden", "Home &amp; Garden", "home  garden"],
        ["CPU", "CPUs"],
        ["Camión", "Camiones"],
        ["Cámara digital", "Cámaras Digitales"],
        ["Coche", "Coches"],
        ["Mueble", "muebles"],
        ["Mobile Phone", "Mobile Phones", "mobilephones"],
        ["Note books", "Notebook", "note-books"],
    ],
)
def test_names_that_look_the_same_are_one_group(names: list[str]) -> None:
    rows = {name: len(names) - place for place, name in enumerate(names)}
    assert similar_names({**rows, "Otra cosa": 9}) == [names]


@pytest.mark.parametrize(
    "names",
    [
        ["Gas", "Ga"],
        ["TV", "TVS X"],
        ["Mesa", "Misa"],
        ["果物", "色"],
        ["कला", "कील"],
        ["&", "-"],
        ["USB 2", "USB 3"],
    ],
)
def test_other_names_are_not(names: list[str]) -> None:
    assert similar_names(dict.fromkeys(names, 1)) == []


@pytest.mark.parametrize("name", ["nan", "NULL", " None ", "N/A", "#N/A", "-", "undefined"])
def test_names_of_nothing_are_known(name: str) -> None:
    assert is_null_name(name)


@pytest.mark.parametrize("name", ["Nanas", "Nulos", "A", "Otros", "0"])
def test_other_names_are_something(name: str) -> None:
    assert not is_null_name(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Jardi\u0301n", "Jardín"),
        (" \u00a0Audio \t y\nVideo ", "Audio y Video"),
        ("Home &amp; Garden", "Home &amp; Garden"),
        ("A", "A"),
    ],
)
def test_a_category_has_one_unicode_form_and_single_blanks(text: str, name: str) -> None:
    assert category_name(text) == name


ROWS = [
    ("bota roja", "Calzado"),
    ("bota azul", "calzado"),
    ("bota gris", "Calzado"),
    ("olla", "Cocina"),
    ("Olla", "Ofertas"),
    ("sartén", "NULL"),
]


def test_doubtful_labels_are_listed_and_kept(check: Check) -> None:
    checked = check(ROWS)
    assert list(checked.problems.itertuples(index=False, name=None)) == [
        ("similar_categories", "Calzado | calzado", 3),
        ("null_category", "NULL", 1),
        ("conflicting_title", "olla: Cocina | Ofertas", 2),
    ]
    assert checked.counts == {
        "similar_categories": 2,
        "null_categories": 1,
        "conflicting_titles": 1,
    }
    assert len(checked.table) == len(ROWS)
    assert [notice.partition(";")[0] for notice in checked.notices] == [
        "2 names of 1 category differ only in case, accents, plural or spaces (Calzado | calzado)",
        "categories named as if there were none: NULL",
        "1 title has several categories",
    ]


@pytest.mark.parametrize(
    ("changes", "categories", "dropped"),
    [
        (
            {"similar_categories": "merge"},
            ["Calzado", "Calzado", "Calzado", "Cocina", "Ofertas", "NULL"],
            {"null_category": 0, "conflicting_title": 0},
        ),
        (
            {"null_categories": "drop"},
            ["Calzado", "calzado", "Calzado", "Cocina", "Ofertas"],
            {"null_category": 1, "conflicting_title": 0},
        ),
        (
            {"conflicting_titles": "first"},
            ["Calzado", "calzado", "Calzado", "Cocina", "NULL"],
            {"null_category": 0, "conflicting_title": 1},
        ),
        (
            {"conflicting_titles": "drop"},
            ["Calzado", "calzado", "Calzado", "NULL"],
            {"null_category": 0, "conflicting_title": 2},
        ),
    ],
)
def test_doubtful_labels_are_merged_or_dropped_where_asked(
    check: Check, changes: dict[str, str], categories: list[str], dropped: dict[str, int]
) -> None:
    checked = check(ROWS, **changes)
    assert list(checked.table["category"]) == categories
    assert checked.dropped == dropped


def test_merged_names_are_no_conflict(check: Check) -> None:
    rows = [("bota", "CPU"), ("bota", "CPUs"), ("mesa", "B")]
    assert check(rows).counts["conflicting_titles"] == 1
    assert check(rows, similar_categories="merge").counts["conflicting_titles"] == 0


def test_the_table_lists_the_titles_with_most_rows(check: Check) -> None:
    rows = [(f"t{n}", "AB"[i % 2]) for n in range(150) for i in range(2 + n % 3)]
    problems = check(rows).problems
    assert len(problems) == 100
    assert list(problems["rows"]) == sorted(problems["rows"], reverse=True)
    assert problems["rows"].iloc[0] == 4


def test_rows_without_doubt_say_nothing(check: Check) -> None:
    checked = check([("bota", "Calzado"), ("mesa", "Muebles")])
    assert checked.problems.empty
    assert checked.notices == []
    assert list(checked.problems.columns) == ["problem", "names", "rows"]
