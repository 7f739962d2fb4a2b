"""`rubro next` writes the titles whose labels would help most."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest

from support.keyword_model import assert_refused, called

pytest_plugins = ["support.keyword_model"]

# The model is certain about the first two titles, and does not know the last one.
TITLES = ["mesa mesa", "silla silla", "mesa silla", "lampara taza", "mesa taza gris", "qwerty uiop"]


def rows(text: str, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


def written(folder: Path, *arguments: str) -> list[dict[str, str]]:
    done = called(folder, "next", *arguments)
    assert done.returncode == 0, done.stderr
    return rows((folder / "next.csv").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "titles.csv").write_text("\n".join(["title", *TITLES, ""]))
    return tmp_path


def test_uncertain_titles_come_with_suggestions(folder: Path, model: Path) -> None:
    found = written(folder, "titles.csv", "--model", str(model), "--budget", "2")
    assert {row["title"] for row in found} <= {"mesa silla", "lampara taza", "mesa taza gris"}
    names = ["title", "category", *(f"suggestion_{place}" for place in range(1, 6)), "confidence"]
    assert list(found[0]) == names
    by_title = {row["title"]: row for row in found}
    row = by_title.get("mesa silla", found[0])
    assert row["category"] == ""
    assert {row["suggestion_1"], row["suggestion_2"]} <= {"TABLES", "CHAIRS", "LAMPS", "MUGS"}
    assert row["suggestion_4"] and not row["suggestion_5"]  # the model has four categories
    assert 0 < float(row["confidence"]) < 0.7


def test_foreign_titles_fill_the_list_only_if_there_are_no_others(
    folder: Path, model: Path
) -> None:
    few = written(folder, "titles.csv", "--model", str(model), "--budget", "5")
    assert "qwerty uiop" not in {row["title"] for row in few}
    done = called(folder, "next", "titles.csv", "--model", str(model), "--budget", "50")
    assert done.returncode == 0
    assert len(rows((folder / "next.csv").read_text())) == len(TITLES)
    assert "1 of them are foreign" in done.stderr


def test_titles_are_foreign_if_their_words_are_in_no_labelled_title(
    folder: Path, model: Path
) -> None:
    """The vocabulary of a model contains the words of unlabelled titles, too."""
    subset = folder / "data" / "subset"
    subset.mkdir(parents=True)
    row = {"title": ["mesa gris"], "tokens": ["mesa gris"]}
    pd.DataFrame(row).to_parquet(subset / "train.parquet")
    found = written(folder, "titles.csv", "--model", str(model), "--budget", "3")
    assert "lampara taza" not in {row["title"] for row in found}


def test_the_same_titles_are_chosen_in_every_run_and_by_any_number_of_processes(
    folder: Path, model: Path
) -> None:
    letters = "abcdefghij"
    titles = [f"mesa silla{a} azul{b} gris{c}" for a in letters for b in letters for c in letters]
    (folder / "titles.csv").write_text("\n".join(["title", *titles, *titles, ""]))
    found = [
        written(folder, "titles.csv", "--model", str(model), "--budget", "9", "--processes", count)
        for count in ("1", "2")
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 9


def test_labelled_titles_are_left_out(folder: Path, model: Path) -> None:
    subset = folder / "data" / "subset"
    subset.mkdir(parents=True)
    row = {"title": ["MESA  silla"], "tokens": ["mesa silla"]}
    pd.DataFrame(row).to_parquet(subset / "validation.parquet")
    table = [["mesa silla", ""], ["lampara taza", "LAMPS"], ["mesa taza gris", " "]]
    pd.DataFrame(table, columns=["title", "categoria"]).to_csv(folder / "titles.csv", index=False)
    done = called(folder, "next", "titles.csv", "--model", str(model), "-o", "-")
    assert [row["title"] for row in rows(done.stdout)] == ["mesa taza gris"]
    assert "1 of 3 titles; left out: 2 that have a category" in done.stderr


def test_titles_that_are_nearly_the_same_are_counted(folder: Path, model: Path) -> None:
    (folder / "titles.csv").write_text("title\nmesa alta 1\nMESA  alta 1\nmesa alta 2\nsilla\n")
    for budget, notice in (("4", "2 further titles"), ("3", "2 further titles"), ("2", "")):
        done = called(folder, "next", "titles.csv", "--model", str(model), "--budget", budget)
        assert "2 of 4 titles" in done.stderr
        assert notice in done.stderr and ("further" in done.stderr) == bool(notice)


def test_without_a_model_titles_represent_the_catalogue(folder: Path) -> None:
    titles = [f"zapatilla {n}" for n in "abcdef"] + [f"heladera {n}" for n in "ghijk"] + ["raro"]
    (folder / "titles.txt").write_text("\n".join(titles))
    done = called(folder, "next", "titles.txt", "--budget", "2", "-o", "-")
    assert done.returncode == 0
    assert "no model" in done.stderr
    found = rows(done.stdout)
    assert [row["title"].split()[0] for row in found] == ["zapatilla", "heladera"]
    assert {row["suggestion_1"] + row["confidence"] for row in found} == {""}


def test_a_missing_model_that_is_asked_for_is_an_error(folder: Path) -> None:
    done = called(folder, "next", "titles.csv", "--model", "models/mlp")
    assert_refused(done, "models/mlp", "no model")


def test_the_unlabelled_rows_of_the_project_are_the_default(tmp_path: Path, model: Path) -> None:
    subset = tmp_path / "data" / "subset"
    subset.mkdir(parents=True)
    place = {"file": ["a.csv", "b.csv"], "line": [3, 17]}
    titles = {"title": ["mesa silla", "lampara taza"], "tokens": ["mesa silla", "lampara taza"]}
    pd.DataFrame(titles | place).to_parquet(subset / "unlabelled.parquet")
    found = written(tmp_path, "--model", str(model))
    assert {row["title"]: (row["file"], row["line"]) for row in found} == {
        "mesa silla": ("a.csv", "3"),
        "lampara taza": ("b.csv", "17"),
    }


def test_without_unlabelled_rows_a_file_must_be_named(tmp_path: Path, model: Path) -> None:
    done = called(tmp_path, "next", "--model", str(model))
    assert_refused(done, "unlabelled.parquet", "name a file")
    assert "no rows without a category" not in done.stderr  # unknown without a subset
    subset = tmp_path / "data" / "subset"
    subset.mkdir(parents=True)
    titles = {"title": ["mesa silla"], "tokens": ["mesa silla"]}
    pd.DataFrame(titles).to_parquet(subset / "train.parquet")
    done = called(tmp_path, "next", "--model", str(model))
    assert_refused(done, "no rows without a category")


def test_a_damaged_subset_is_explained(folder: Path, model: Path) -> None:
    (folder / "data" / "subset").mkdir(parents=True)
    (folder / "data" / "subset" / "test.parquet").write_bytes(b"PAR1")
    done = called(folder, "next", "titles.csv", "--model", str(model))
    assert_refused(done, "test.parquet", "dvc repro subset")


def test_text_columns_and_names_of_the_catalogue(tmp_path: Path, shop_model: Path) -> None:
    lines = ["nombre;marca;precio;otra", "Mesa;Silla;9,5;ñandú", "Taza;;20;y", ""]
    (tmp_path / "titles.csv").write_bytes("\n".join(lines).encode("cp1252"))
    done = called(tmp_path, "next", "titles.csv", "--model", str(shop_model))
    assert done.returncode == 0, done.stderr
    found = rows((tmp_path / "next.csv").read_text("utf-8-sig"), ";")
    assert list(found[0])[:4] == ["nombre", "marca", "precio", "category"]
    texts = {row["nombre"]: (row["marca"], row["precio"]) for row in found}
    assert texts == {"Mesa": ("Silla", "9,5"), "Taza": ("", "20")}
    assert "Luz > Techo > Lámparas" in {row["suggestion_1"] for row in found}


@pytest.mark.parametrize("name", ["titles.jsonl", "titles.json", "titles.tsv", "titles.parquet"])
def test_every_format_can_be_read(tmp_path: Path, model: Path, name: str) -> None:
    table = pd.DataFrame({"title": TITLES[2:5], "sku": [1, 2, 3]})
    if name.endswith("parquet"):
        table.to_parquet(tmp_path / name)
    elif name.endswith("tsv"):
        table.to_csv(tmp_path / name, sep="\t", index=False)
    else:
        lines = [json.dumps(row) for row in table.to_dict("records")]
        content = "\n".join(lines) if name.endswith("jsonl") else f"[{','.join(lines)}]"
        (tmp_path / name).write_text(content)
    done = called(tmp_path, "next", name, "--model", str(model), "-o", "-")
    assert done.returncode == 0, done.stderr
    assert {row["title"] for row in rows(done.stdout)} == set(TITLES[2:5])


def test_a_file_with_labels_is_not_overwritten(folder: Path, model: Path) -> None:
    arguments = ("titles.csv", "--model", str(model))
    written(folder, *arguments)
    written(folder, *arguments)  # no category has been filled in
    table = pd.read_csv(folder / "next.csv")
    table["category"] = ["TABLES", *[""] * (len(table) - 1)]
    table.to_csv(folder / "next.csv", index=False)
    done = called(folder, "next", *arguments)
    assert_refused(done, "next.csv: 1 rows", "data/corrections")
    assert "TABLES" in (folder / "next.csv").read_text()


def test_bad_arguments_are_explained(folder: Path, model: Path) -> None:
    arguments = ("--model", str(model))
    assert_refused(called(folder, "next", "other.csv", *arguments), "other.csv")
    assert_refused(called(folder, "next", "titles.csv", *arguments, "-o", "titles.csv"), "input")
    assert_refused(called(folder, "next", "titles.csv", *arguments, "-o", "x.parquet"), ".csv")
    (folder / "labelled.csv").write_text("title,category\nmesa,TABLES\n")
    done = called(folder, "next", "labelled.csv", *arguments)
    assert_refused(done, "labelled.csv", "1 that have a category")
