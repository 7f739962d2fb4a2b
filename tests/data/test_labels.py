"""Near-duplicate names, null-like names and titles with several categories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from rubro.data.labels import CheckedLabels, check_labels, is_null_name, similar_names, title_keys
from rubro.tables.cells import category_name

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
def test_names_that_look_alike_are_grouped(names: list[str]) -> None:
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
def test_different_names_are_not_grouped(names: list[str]) -> None:
    assert similar_names(dict.fromkeys(names, 1)) == []


def test_null_like_names_are_recognised() -> None:
    assert all(map(is_null_name, ["nan", "NULL", " None ", "N/A", "#N/A", "-", "undefined"]))
    assert not any(map(is_null_name, ["Nanas", "Nulos", "A", "Otros", "0"]))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Jardi\u0301n", "Jardín"),
        (" \u00a0Audio \t y\nVideo ", "Audio y Video"),
        ("Home &amp; Garden", "Home &amp; Garden"),
        ("A", "A"),
    ],
)
def test_a_category_name_is_normalised(text: str, name: str) -> None:
    assert category_name(text) == name


ROWS = [
    ("bota roja", "Calzado"),
    ("bota azul", "calzado"),
    ("bota gris", "Calzado"),
    ("olla", "Cocina"),
    ("Olla", "Ofertas"),
    ("sartén", "NULL"),
]


def test_suspicious_labels_are_listed_and_kept(check: Check) -> None:
    checked = check(ROWS)
    assert list(checked.problems.itertuples(index=False, name=None)) == [
        ("similar_categories", "Calzado | calzado", 3),
        ("null_category", "NULL", 1),
        ("conflicting_title", "olla: Cocina | Ofertas", 2),
    ]
    counts = {"similar_categories": 2, "null_categories": 1, "conflicting_titles": 1}
    assert checked.counts == counts
    assert len(checked.table) == len(ROWS)
    facts = [
        ["2 names of 1 category", "Calzado | calzado", "subset.similar_categories=merge"],
        ["NULL", "subset.null_categories=drop"],
        ["1 title", "subset.conflicting_titles=first"],
    ]
    for notice, expected in zip(checked.notices, facts, strict=True):
        assert all(fact in notice for fact in expected)


@pytest.mark.parametrize(
    ("changes", "categories", "dropped"),
    [
        ({"similar_categories": "merge"}, "Calzado Calzado Calzado Cocina Ofertas NULL", (0, 0)),
        ({"null_categories": "drop"}, "Calzado calzado Calzado Cocina Ofertas", (1, 0)),
        ({"conflicting_titles": "first"}, "Calzado calzado Calzado Cocina NULL", (0, 1)),
        ({"conflicting_titles": "drop"}, "Calzado calzado Calzado NULL", (0, 2)),
    ],
)
def test_suspicious_labels_can_be_merged_or_dropped(
    check: Check, changes: dict[str, str], categories: str, dropped: tuple[int, int]
) -> None:
    checked = check(ROWS, **changes)
    assert list(checked.table["category"]) == categories.split()
    found = {reason: len(rows) for reason, rows in checked.dropped.items()}
    assert (found.get("null_category", 0), found.get("conflicting_title", 0)) == dropped


def test_merged_names_do_not_conflict(check: Check) -> None:
    rows = [("bota", "CPU"), ("bota", "CPUs"), ("mesa", "B")]
    assert check(rows).counts["conflicting_titles"] == 1
    assert check(rows, similar_categories="merge").counts["conflicting_titles"] == 0


def test_the_most_frequent_conflicting_titles_are_listed(check: Check) -> None:
    rows = [(f"t{n}", "AB"[i % 2]) for n in range(150) for i in range(2 + n % 3)]
    problems = check(rows).problems
    assert len(problems) == 100
    assert list(problems["rows"]) == sorted(problems["rows"], reverse=True)
    assert problems["rows"].iloc[0] == 4


def test_good_labels_give_no_notice(check: Check) -> None:
    checked = check([("bota", "Calzado"), ("mesa", "Muebles")])
    assert checked.problems.empty
    assert checked.notices == []
    assert list(checked.problems.columns) == ["problem", "names", "rows"]
