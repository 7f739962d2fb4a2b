"""Which files of a source are read, and what their names mean."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rubro.base.errors import DataError
from rubro.data.raw_titles import RawTitles
from rubro.data.source_files import find_sources
from support.raw_titles import Read, all_rows, jsonl, titles_of, write_frame, write_text

pytest_plugins = ["support.raw_titles"]

TABLE = "title,category\na,A\nb,B\n"


def test_split_and_language_come_from_the_file_names(tmp_path: Path, read: Read) -> None:
    for language in ("spanish", "portuguese"):
        for split in ("train", "validation", "test"):
            record = {"title": f"{language} {split}", "category": "A"}
            write_text(tmp_path / f"{language}.{split}.jsonl", jsonl(record))
    write_text(tmp_path / "README.md", "not data")
    table = read(tmp_path).table.astype("str")
    assert len(table) == 6
    assert all(table["title"] == table["language"] + " " + table["split"])
    assert set(read(tmp_path, "Portuguese").table["language"]) == {"portuguese"}


@pytest.mark.parametrize(
    "names",
    [
        ["unlabelled.csv"],
        ["unlabeled.jsonl", "unlabelled_2.csv", "unlabelled-00001-of-00002.parquet"],
        ["spanish.unlabelled.csv", "shop_unlabelled.csv", "Unlabelled titles.tsv"],
    ],
)
@pytest.mark.parametrize("train", ["train.csv", "catalogue.csv", "shop_train.csv"])
def test_files_named_unlabelled_are_unlabelled(
    tmp_path: Path, read: Read, names: list[str], train: str
) -> None:
    write_text(tmp_path / train, TABLE)
    for name in names:
        write_frame(pd.DataFrame({"title": [f"title of {name}"], "price": [5]}), tmp_path / name)
    raw = read(tmp_path, "spanish")
    assert all_rows(raw) == [("a", "A"), ("b", "B")]
    assert sorted(titles_of(raw.unlabelled)) == sorted(f"title of {name}" for name in names)
    assert raw.without_category == {"category_missing": len(names)}
    assert raw.notices == []
    (notice,) = read(tmp_path, "spanish", unlabelled="ignore").notices
    assert all(name in notice for name in names)
    assert "data.unlabelled" in notice


def test_unlabelled_files_of_another_language_are_not_read(tmp_path: Path, read: Read) -> None:
    write_text(tmp_path / "train.csv", TABLE)
    write_text(tmp_path / "portuguese.unlabelled.csv", "title\nc\n")
    raw = read(tmp_path, "Spanish")
    assert raw.unlabelled is None
    (notice,) = raw.notices
    assert "subset.language: portuguese.unlabelled.csv" in notice


def test_a_folder_of_further_unlabelled_titles_is_read(tmp_path: Path, read: Read) -> None:
    source, folder = tmp_path / "shop.csv", tmp_path / "more"
    folder.mkdir()
    write_text(source, "nombre,rubro,idioma,marca\na,A,spanish,x\n")
    assert read_more(read, source, folder).unlabelled is None
    write_text(folder / "README.md", "nombre\nz\n")
    write_text(folder / "readme.txt", "z\n")
    write_text(folder / ".hidden.csv", "nombre\nz\n")
    write_text(folder / "old.csv", "nombre,rubro,marca\nb,B,y\n")
    write_text(folder / "list.txt", "c\nd\n")
    write_text(folder / "new.jsonl", jsonl({"nombre": "e", "rubro": "C"}))
    write_text(folder / "portuguese.train.csv", "nombre\nf\n")
    (folder / "table.xlsx").write_bytes(b"PK")
    raw = read_more(read, source, folder)
    assert all_rows(raw) == [("a", "A")]
    assert raw.unlabelled is not None
    found = raw.unlabelled[["title", "category", "text.marca", "file", "line"]].astype("object")
    assert found.to_numpy().tolist() == [
        ["c", "", "", "list.txt", 1],
        ["d", "", "", "list.txt", 2],
        ["e", "", "", "new.jsonl", 1],
        ["b", "", "y", "old.csv", 2],
    ]
    for fact in ("old.csv: its categories are ignored", "new.jsonl: its categories are ignored"):
        assert any(fact in notice for notice in raw.notices)
    for name in ("portuguese.train.csv", "table.xlsx"):
        assert any(name in notice for notice in raw.notices)


def read_more(read: Read, source: Path, folder: Path) -> RawTitles:
    columns = {"title_column": "nombre", "category_column": "rubro", "language_column": "idioma"}
    more = {"text_columns": ["marca"], "unlabelled_path": str(folder)}
    return read(source, "spanish", **columns, **more)


def test_a_single_file_of_further_unlabelled_titles_is_read(tmp_path: Path, read: Read) -> None:
    write_text(tmp_path / "x.csv", TABLE)
    write_text(tmp_path / "more.csv", "title\nc\n")
    raw = read(tmp_path / "x.csv", unlabelled_path=str(tmp_path / "more.csv"))
    assert titles_of(raw.unlabelled) == ["c"]
    with pytest.raises(DataError, match=r"no\.csv: no such file .*data\.unlabelled_path"):
        read(tmp_path / "x.csv", unlabelled_path=str(tmp_path / "no.csv"))
    write_text(tmp_path / "more.csv", "nombre\nc\n")
    with pytest.raises(DataError, match=r"more\.csv: no column 'title' \(found: nombre\); call"):
        read(tmp_path / "x.csv", unlabelled_path=str(tmp_path / "more.csv"))


@pytest.mark.parametrize(
    "names",
    ["train.csv train.csv.gz", "train.csv val.csv valid.csv", "train_1.csv train_1.tsv"],
)
def test_two_files_of_the_same_split_are_an_error(tmp_path: Path, read: Read, names: str) -> None:
    for name in names.split():
        write_text(tmp_path / name, TABLE)
    *_, one, other = names.split()
    with pytest.raises(DataError, match=rf"{one} and .*{other} .*same split.*remove one"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.csv", "valid.csv", "test.csv"], "train validation test"),
        (["train.csv", "val.tsv"], "train validation"),
        (["Train.CSV", "DEV.csv"], "train validation"),
        (["training.json", "validation.ndjson", "testing.csv"], "train validation test"),
        (["train_1.csv", "train_2.csv", "train_10.csv", "test.csv"], "train train train test"),
        (["train.csv", "train_2.csv"], "train train"),
        (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"], "train train"),
        (["train-00000-of-00001-a09b74b3ef9c3b56.parquet", "test.csv"], "train test"),
        (["spanish.train.part1.csv", "spanish.train.part2.csv"], "train train"),
        (["shop_train.csv", "shop-val.csv", "shop test_1.csv"], "train validation test"),
    ],
)
def test_usual_names_of_splits_and_parts_are_recognised(
    tmp_path: Path, read: Read, names: list[str], splits: str
) -> None:
    for number, name in enumerate(names):
        table = pd.DataFrame({"title": [f"title {number}"], "category": ["A"]})
        write_frame(table, tmp_path / name)
    raw = read(tmp_path)
    found = dict(zip(raw.table["title"], raw.table["split"], strict=True))
    assert found == {f"title {n}": split for n, split in enumerate(splits.split())}
    assert raw.notices == []


@pytest.mark.parametrize(
    ("others", "facts"),
    [
        (["old.csv"], ["old.csv"]),
        (["train.old.csv"], ["train.old.csv"]),
        (["more.xlsx"], ["more.xlsx"]),
        (
            ["portuguese.test.csv", "portuguese.train.csv"],
            ["subset.language", "portuguese.test.csv, portuguese.train.csv"],
        ),
        (["test-00000-of-00003.csv"], ["test: ", "1 of 3 parts"]),
        (["README.md", "train.csv.dvc", ".gitignore", "image.png", "._train.csv"], []),
    ],
)
def test_title_files_that_are_not_read_are_named(
    tmp_path: Path, read: Read, others: list[str], facts: list[str]
) -> None:
    for name in ["train.csv", *others]:
        write_text(tmp_path / name, TABLE)
    notices = read(tmp_path, "spanish").notices
    assert len(notices) == bool(facts)
    assert all(fact in notices[0] for fact in facts)


def test_hidden_files_are_not_titles(tmp_path: Path, read: Read) -> None:
    write_text(tmp_path / "catalogo.csv", TABLE)
    (tmp_path / "._catalogo.csv").write_bytes(b"\0\x05\x16\x07\0\x02\0\0Mac OS X")
    assert all_rows(read(tmp_path)) == [("a", "A"), ("b", "B")]
    with pytest.raises(DataError, match=r"\._catalogo\.csv is the macOS metadata"):
        read(tmp_path / "._catalogo.csv")


def test_files_are_always_listed_in_the_same_order(tmp_path: Path) -> None:
    for name in ("b.test.csv", "a.train.csv", "b.train.csv", "a.test.csv", "notes.txt"):
        write_text(tmp_path / name, "title,category\n")
    names = [source.path.name for source in find_sources(tmp_path, None)[0]]
    assert names == ["a.test.csv", "a.train.csv", "b.test.csv", "b.train.csv"]
