"""Corrections from several files, their use, and the report about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rubro.base.errors import DataError
from rubro.base.params import Params
from rubro.data.corrections_files import correction_files
from rubro.data.raw_titles import RawTitles, read_titles
from rubro.data.subset import Subset, make_subset
from support.raw_titles import write_frame, write_text

TITLES = [(f"mesa {i}", "TABLES") for i in range(12)] + [(f"taza {i}", "MUGS") for i in range(12)]


class Corrected:
    """A shop with corrections in a folder.

    Args:
        folder: Temporary folder.
        make_params: Fixture that changes params.yaml.
    """

    def __init__(self, folder: Path, make_params: Callable[..., Params]) -> None:
        self.folder = folder / "corrections"
        self.folder.mkdir()
        self.source = folder / "shop.csv"
        self.make_params = make_params
        self.sell(pd.DataFrame(TITLES, columns=["title", "category"]))

    def sell(self, table: pd.DataFrame) -> None:
        """Replace the rows of the shop."""
        write_frame(table, self.source)

    def write(self, name: str, text: str) -> None:
        """Write a file with corrections."""
        write_text(self.folder / name, text)

    def params(self, **data: Any) -> Params:
        """Return the parameters, with changes of the block data."""
        values: dict[str, Any] = {"path": str(self.source), "corrections": str(self.folder), **data}
        values = {f"data.{key}": value for key, value in values.items()}
        return self.make_params({**values, "subset.language": None, "subset.top_categories": 0})

    def read(self, **data: Any) -> RawTitles:
        """Read the rows of the shop and the corrections."""
        return read_titles(self.params(**data).data, None)

    def subset(self, **data: Any) -> Subset:
        """Read, correct and split the rows of the shop."""
        params = self.params(**data)
        return make_subset(read_titles(params.data, None), params.subset, 1, params.data)


@pytest.fixture
def shop(tmp_path: Path, make_params: Callable[..., Params]) -> Corrected:
    return Corrected(tmp_path, make_params)


def categories(subset: Subset) -> dict[str, str]:
    """Return the category of each title in any split."""
    return {
        title: category
        for split in subset.splits.values()
        for title, category in zip(split["title"], split["category"], strict=True)
    }


def results(subset: Subset) -> list[tuple[str, int, str]]:
    """Return the file, line and result of each correction."""
    table = subset.corrections
    return list(zip(table["file"], table["line"], table["result"], strict=True))


# Files


def test_files_of_a_folder_are_read_in_the_order_of_their_names(shop: Corrected) -> None:
    shop.write("b.csv", "title;category\nmesa 0;MUGS\n")
    shop.write("a.tsv", "title\tcategory\nmesa 1\tMUGS\n")
    shop.write("c.jsonl", json.dumps({"title": "mesa 2", "category": "MUGS"}) + "\n")
    for ignored in ("README.md", ".hidden.csv", "b.csv.dvc"):
        shop.write(ignored, "no table")
    subset = shop.subset()
    assert results(subset) == [
        ("a.tsv", 2, "replaced"),
        ("b.csv", 2, "replaced"),
        ("c.jsonl", 1, "replaced"),
    ]
    assert [categories(subset)[f"mesa {i}"] for i in range(4)] == ["MUGS"] * 3 + ["TABLES"]
    assert subset.summary["corrections"]["files"] == 3


@pytest.mark.parametrize("content", [None, "README.md"])
def test_an_empty_folder_changes_nothing(shop: Corrected, content: str | None) -> None:
    if content:
        shop.write(content, "Put files here.\n")
    subset = shop.subset()
    assert "corrections" not in subset.summary
    assert subset.corrections.empty
    assert not any("correction" in notice for notice in subset.notices)


def test_a_single_file_may_be_named(shop: Corrected, tmp_path: Path) -> None:
    write_text(tmp_path / "one.csv", "title,category\nmesa 0,MUGS\n")
    assert results(shop.subset(corrections=str(tmp_path / "one.csv"))) == [
        ("one.csv", 2, "replaced")
    ]


def test_files_that_are_not_read_are_reported(shop: Corrected) -> None:
    shop.write("notes.txt", "Ask Ana.\n")
    write_text(Path(f"{shop.folder}.csv"), "title,category\nmesa 0,MUGS\n")
    notices = correction_files(shop.folder)[1]
    assert [any(name in notice for notice in notices) for name in ("notes.txt", ".csv")] == [
        True,
        True,
    ]
    shop.write("team.xlsx", "")
    with pytest.raises(DataError, match=r"team\.xlsx is a spreadsheet"):
        correction_files(shop.folder)


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("name,category", "'title'"),
        ("title,label", "'category'"),
        ("title,category,category", "listed twice"),
        ("title,suggested_category,accept", "'label'"),
    ],
)
def test_a_file_without_the_columns_is_an_error(shop: Corrected, header: str, missing: str) -> None:
    shop.write("bad.csv", f"{header}\n" + ",".join("abc"[: header.count(",") + 1]) + "\n")
    with pytest.raises(DataError, match=rf"bad\.csv: .*{missing}"):
        shop.read()


@pytest.mark.parametrize("columns", [["nombre", "rubro"], ["title", "category"]])
def test_columns_may_have_the_names_of_the_source(shop: Corrected, columns: list[str]) -> None:
    shop.sell(pd.DataFrame(TITLES, columns=["nombre", "rubro"]))
    shop.write("a.csv", f"{columns[1]},other,{columns[0]}\nMUGS,x,mesa 0\n")
    subset = shop.subset(title_column="nombre", category_column="rubro")
    assert categories(subset)["mesa 0"] == "MUGS"


@pytest.mark.parametrize(
    "text", ["title,a,b\nmesa 0,Home,MUGS\n", "title,category\nmesa 0,Home > MUGS\n"]
)
def test_levels_may_be_in_several_columns(shop: Corrected, text: str) -> None:
    rows = [(title, "Home", category) for title, category in TITLES]
    shop.sell(pd.DataFrame(rows, columns=["title", "a", "b"]))
    shop.write("a.csv", text)
    subset = shop.subset(category_column=["a", "b"])
    assert results(subset) == [("a.csv", 2, "replaced")]
    assert categories(subset)["mesa 0"] == "Home > MUGS"
    assert subset.labels == ["Home > MUGS", "Home > TABLES"]


def test_unusable_corrections_are_listed_and_do_not_make_the_source_unusable(
    shop: Corrected,
) -> None:
    shop.write("a.csv", "title,category\n\xa0,MUGS\nmesa 0,MUGS,x\nmesa 0,MUGS\n")
    assert shop.read(max_quarantined_share=0.0).quarantine.empty
    subset = shop.subset()
    assert results(subset) == [
        ("a.csv", 4, "replaced"),
        ("a.csv", 2, "unusable"),
        ("a.csv", 3, "unusable"),
    ]
    assert ["'title'" in detail for detail in subset.corrections["detail"]] == [False, True, False]
    (notice,) = (notice for notice in subset.notices if "cannot be used: 2" in notice)
    assert "a.csv:2" in notice


def test_a_file_may_contain_only_unusable_corrections(shop: Corrected) -> None:
    shop.write("a.csv", "title,category\n\xa0,MUGS\nmesa 0,\n")
    assert [result for _, _, result in results(shop.subset())] == ["unusable", "undecided"]


# Audit and labelling files

AUDIT = "file,line,title,label,suggested_category,confidence,label_confidence,words,accept\n"


def audit(*rows: tuple[str, str, str, str]) -> str:
    """Return an audit file with some titles, labels, suggestions and answers."""
    return AUDIT + "".join(
        f"shop.csv,2,{title},{label},{suggestion},0.9,0.1,mesa,{accept}\n"
        for title, label, suggestion, accept in rows
    )


@pytest.mark.parametrize(
    ("accept", "category"),
    [
        *dict.fromkeys(("yes", "Y", "TRUE", "1", "x", "si", " Sí ", "VERDADERO"), "MUGS").items(),
        *dict.fromkeys(("no", "N", "FALSE", "0", "FALSO", ""), "TABLES").items(),
        *dict.fromkeys(("LAMPS", "lámp", "lamps"), "LAMPS").items(),
    ],
)
def test_the_column_accept_decides(shop: Corrected, accept: str, category: str) -> None:
    rows = [*TITLES, *((f"luz {i}", "LAMPS") for i in range(12))]
    shop.sell(pd.DataFrame(rows, columns=["title", "category"]))
    shop.write("suspects.csv", audit(("mesa 0", "TABLES", "MUGS", accept)))
    subset = shop.subset()
    assert categories(subset)["mesa 0"] == category
    expected = {"TABLES": "already_right" if accept else "undecided"}.get(category, "replaced")
    assert results(subset) == [("suspects.csv", 2, expected)]
    assert subset.summary["corrections"][expected] == 1


def test_another_answer_in_accept_is_an_error_with_a_similar_name(shop: Corrected) -> None:
    shop.write("suspects.csv", audit(("mesa 0", "TABLES", "MUGS", "TABELS")))
    with pytest.raises(DataError, match=r"'TABELS'.*did you mean 'TABLES'") as error:
        shop.subset()
    assert str(error.value).startswith(f"{shop.folder / 'suspects.csv'}:2: ")


@pytest.mark.parametrize("name", ["X", "NO", "1", "SI"])
def test_a_category_may_be_called_like_an_answer(shop: Corrected, name: str) -> None:
    rows = [*TITLES, *((f"luz {i}", name) for i in range(12))]
    shop.sell(pd.DataFrame(rows, columns=["title", "category"]))
    shop.write(
        "suspects.csv", audit(("mesa 0", "TABLES", name, "yes"), ("luz 0", name, "MUGS", "no"))
    )
    found = categories(shop.subset())
    assert (found["mesa 0"], found["luz 0"]) == (name, name)


@pytest.mark.parametrize(
    ("row", "column"),
    [
        (("mesa 0", "TABLES", "", "yes"), "suggested_category"),
        (("mesa 0", "", "MUGS", "no"), "label"),
    ],
)
def test_an_answer_without_a_category_is_unusable(
    shop: Corrected, row: tuple[str, str, str, str], column: str
) -> None:
    shop.write("suspects.csv", audit(row))
    subset = shop.subset()
    assert results(subset) == [("suspects.csv", 2, "unusable")]
    (notice,) = (notice for notice in subset.notices if "suspects.csv:2" in notice)
    assert all(f"'{name}'" in notice for name in ("accept", column))


def test_a_confirmed_label_that_the_source_does_not_have_any_more_is_used(shop: Corrected) -> None:
    """The user has said that this category is right, and the source has another one by now."""
    shop.write("suspects.csv", audit(("mesa 0", "MUGS", "LAMPS", "no")))
    subset = shop.subset()
    assert results(subset) == [("suspects.csv", 2, "replaced")]
    assert categories(subset)["mesa 0"] == "MUGS"


def test_rows_without_a_category_are_undecided(shop: Corrected) -> None:
    shop.write(
        "next.csv",
        "title,category,suggestion_1,confidence\nmesa 0,,MUGS,0.5\nmesa 1,MUGS,MUGS,0.5\n,,,\n",
    )
    subset = shop.subset()
    assert results(subset) == [("next.csv", 3, "replaced"), ("next.csv", 2, "undecided")]
    assert subset.summary["dropped"]["category_empty"] == 0
    assert any("undecided 1" in notice for notice in subset.notices)


def test_a_confirmed_label_overrules_earlier_corrections(shop: Corrected) -> None:
    shop.write("1.csv", "title,category\nmesa 0,MUGS\nmesa 1,MUGS\n")
    rows = ("mesa 0", "MUGS", "TABLES", "no"), ("mesa 1", "TABLES", "MUGS", "no")
    shop.write("2.csv", audit(*rows))
    subset = shop.subset()
    assert [result for _, _, result in results(subset)] == [
        "repeated",
        "overruled",
        "replaced",
        "already_right",
    ]
    assert (categories(subset)["mesa 0"], categories(subset)["mesa 1"]) == ("MUGS", "TABLES")


# Several corrections of a title


def test_the_last_of_contradicting_corrections_wins(shop: Corrected) -> None:
    shop.write("ana.csv", "title,category\nmesa 0,MUGS\nmesa 1,MUGS\nMESA  1,MUGS\n")
    shop.write("beto.csv", "title,category\nmesa 0,LAMPS\nmesa 1,MUGS\nmesa 0,CUPS\n")
    subset = shop.subset()
    assert results(subset) == [
        ("ana.csv", 2, "overruled"),
        ("ana.csv", 3, "repeated"),
        ("ana.csv", 4, "repeated"),
        ("beto.csv", 2, "overruled"),
        ("beto.csv", 3, "replaced"),
        ("beto.csv", 4, "replaced"),
    ]
    assert list(subset.corrections["detail"][:4]) == [
        "beto.csv:4",
        "beto.csv:3",
        "beto.csv:3",
        "beto.csv:4",
    ]
    assert categories(subset)["mesa 0"] == "CUPS"
    found = subset.summary["corrections"]
    assert (found["overruled"], found["repeated"], found["replaced_rows"]) == (2, 2, 2)
    (notice,) = (notice for notice in subset.notices if "disagree" in notice)
    assert "ana.csv:2" in notice and "beto.csv:4" in notice


def test_all_rows_with_the_title_are_corrected_and_new_titles_are_added(shop: Corrected) -> None:
    rows = [*TITLES, ("Mesa 0", "TABLES"), ("mesa 0", "MUGS")]
    shop.sell(pd.DataFrame(rows, columns=["title", "category"]))
    shop.write("a.csv", "title,category\nmesa 0,MUGS\nmesa 1,TABLES\nlampara,LAMPS\n")
    subset = shop.subset()
    table = subset.corrections
    assert list(table["result"]) == ["replaced", "already_right", "new_row"]
    assert list(table["rows"]) == [2, 0, 0]
    found = categories(subset)
    assert (found["Mesa 0"], found["mesa 0"]) == ("MUGS", "MUGS")
    assert "lampara" in list(subset.splits["train"]["title"])
    assert subset.summary["doubtful_labels"]["conflicting_titles"] == 0
    assert sum(len(split) for split in subset.splits.values()) == len(rows) + 1


# Texts


def priced(*brands: str) -> pd.DataFrame:
    rows = [(title, category, "Bora") for title, category in TITLES]
    rows += [("mesa", "TABLES", brand) for brand in brands]
    return pd.DataFrame(rows, columns=["title", "category", "brand"])


def by_brand(subset: Subset) -> dict[str, str]:
    """Return the category of the title "mesa" for each brand."""
    tables = (split[split["title"] == "mesa"] for split in subset.splits.values())
    return {
        brand: category
        for table in tables
        for brand, category in zip(table["text.brand"], table["category"], strict=True)
    }


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["mesa,MUGS,acme"], {"Acme": "MUGS", "Cima": "TABLES", "": "TABLES"}),
        (["mesa,MUGS,"], dict.fromkeys(("Acme", "Cima", ""), "MUGS")),
        (["mesa,LAMPS,", "mesa,MUGS,Acme"], {"Acme": "MUGS", "Cima": "LAMPS", "": "LAMPS"}),
        (["mesa,MUGS,Acme", "mesa,LAMPS,"], dict.fromkeys(("Acme", "Cima", ""), "LAMPS")),
    ],
)
def test_texts_of_a_correction_must_be_the_same_unless_all_are_empty(
    shop: Corrected, rows: list[str], expected: dict[str, str]
) -> None:
    shop.sell(priced("Acme", "Cima", ""))
    shop.write("a.csv", "\n".join(["title,category,brand", *rows, ""]))
    assert by_brand(shop.subset(text_columns=["brand"])) == expected


def test_files_may_have_different_text_columns(shop: Corrected) -> None:
    table = pd.DataFrame(TITLES, columns=["title", "category"]).assign(brand="Bora", row="x")
    table.loc[[0, 1, 2], ["title", "brand", "row"]] = [
        ("mesa", "Acme", "a"),
        ("mesa", "Acme", "b"),
        ("mesa", "Cima", "b"),
    ]
    shop.sell(table)
    shop.write("1.csv", "title,category\nmesa,LAMPS\n")
    shop.write("2.csv", "title,category,brand\nmesa,MUGS,Acme\n")
    shop.write("3.csv", "title,category,row\nmesa,CUPS,b\n")
    subset = shop.subset(text_columns=["brand", "row"])
    assert results(subset) == [
        ("1.csv", 2, "overruled"),
        ("2.csv", 2, "replaced"),
        ("3.csv", 2, "replaced"),
    ]
    assert list(subset.corrections["rows"]) == [0, 1, 2]
    assert subset.corrections["detail"][0] in ("2.csv:2", "3.csv:2")


def test_a_correction_of_other_texts_is_a_new_row(shop: Corrected) -> None:
    splits = ["train", *["validation", "test", *["train"] * 4] * 4][: len(TITLES)]
    shop.sell(priced().assign(split=splits))
    shop.write("a.csv", "title,category,brand\nmesa 0,MUGS,Zeta\n")
    subset = shop.subset(text_columns=["brand"])
    (notice,) = (notice for notice in subset.notices if "other texts" in notice)
    assert "a.csv:2" in notice
    assert "other texts" in subset.corrections["detail"][0]
    train = subset.splits["train"]
    rows = train.loc[train["title"] == "mesa 0", ["category", "text.brand"]]
    assert rows.to_numpy().tolist() == [["TABLES", "Bora"], ["MUGS", "Zeta"]]


def test_corrections_label_unlabelled_titles(shop: Corrected) -> None:
    rows = [*TITLES, *((f"luz {i}", "") for i in range(3)), ("Luz 0", "")]
    table = pd.DataFrame(rows, columns=["title", "category"])
    table["brand"] = [f"brand {i}" for i in range(len(table))]
    shop.sell(table)
    shop.write("a.csv", "title,category\nluz 0,LAMPS\n")
    shop.write("b.csv", "title,category,brand\nluz 1,LAMPS,\nLUZ 2,LAMPS,Acme\n")
    subset = shop.subset(text_columns=["brand"])
    assert list(subset.corrections["result"]) == ["new_row"] * 3
    train = subset.splits["train"]
    labelled = train.loc[train["category"] == "LAMPS", ["title", "text.brand"]]
    assert labelled.to_numpy().tolist() == [
        ["luz 0", f"brand {len(TITLES)}"],
        ["luz 1", f"brand {len(TITLES) + 1}"],
        ["LUZ 2", "Acme"],
    ]
    assert subset.unlabelled is None or subset.unlabelled.empty


# New categories, held-out titles


@pytest.mark.parametrize(
    ("name", "similar"), [("mug", "MUGS"), ("TABELS", "TABLES"), ("CUPBOARDS", None)]
)
def test_new_categories_are_announced_with_similar_names(
    shop: Corrected, name: str, similar: str | None
) -> None:
    shop.write("a.csv", f"title,category\nlampara,{name}\nluz,{name}\n")
    subset = shop.subset()
    assert name in subset.labels
    assert subset.summary["corrections"]["new_categories"] == 1
    (notice,) = (notice for notice in subset.notices if "new categ" in notice)
    details = list(subset.corrections["detail"])
    assert name in notice
    assert all("new category" in detail for detail in details)
    if similar:
        assert similar in notice
        assert similar in details[0]
    else:
        assert not any(known in notice + details[0] for known in ("MUGS", "TABLES"))


def test_many_new_categories_have_one_short_notice(shop: Corrected) -> None:
    rows = "".join(f"new {i},OTHER {i}\nnewer {i},MUGS{'!' * (i + 1)}\n" for i in range(50))
    shop.write("a.csv", f"title,category\n{rows}")
    subset = shop.subset()
    assert subset.summary["corrections"]["new_categories"] == 100
    (notice,) = (notice for notice in subset.notices if "new categ" in notice)
    assert "MUGS! (similar to MUGS)" in notice
    assert "95 more" in notice


def test_similar_names_that_are_merged_are_not_new(shop: Corrected) -> None:
    shop.write("a.csv", "title,category\nlampara,mug\n")
    params = shop.params()
    merged = params.subset.model_copy(update={"similar_categories": "merge"})
    subset = make_subset(shop.read(), merged, 1, params.data)
    assert subset.summary["corrections"]["new_categories"] == 0
    assert categories(subset)["lampara"] == "MUGS"


def test_corrections_of_held_out_titles_can_be_skipped(shop: Corrected) -> None:
    splits = [*["train"] * 8, "validation", "validation", "test", "test"] * 2
    table = pd.DataFrame(TITLES, columns=["title", "category"]).assign(split=splits)
    shop.sell(table)
    shop.write("a.csv", "title,category\nmesa 8,MUGS\nmesa 10,MUGS\nmesa 0,MUGS\n")
    used, skipped = shop.subset(), shop.subset(correct_held_out=False)
    assert [result for _, _, result in results(used)] == ["replaced"] * 3
    assert [result for _, _, result in results(skipped)] == ["held_out", "held_out", "replaced"]
    assert used.summary["corrections"]["replaced_validation_rows"] == 1
    assert used.summary["corrections"]["replaced_test_rows"] == 1
    assert skipped.summary["corrections"]["held_out"] == 2
    assert (categories(skipped)["mesa 8"], categories(skipped)["mesa 0"]) == ("TABLES", "MUGS")
    assert any("data.correct_held_out" in notice for notice in skipped.notices)


@pytest.mark.parametrize("rows", [3, 5])
def test_corrections_of_rare_categories_name_the_parameter_that_drops_them(
    shop: Corrected, rows: int
) -> None:
    shop.write("a.csv", "title,category\n" + "".join(f"luz {i},LAMPS\n" for i in range(rows)))
    subset = shop.subset(min_rows_per_category=5)
    notices = [notice for notice in subset.notices if "are not used" in notice]
    if rows < 5:
        assert "3 of 3" in notices[0]
        assert "data.min_rows_per_category" in notices[0]
        assert "top_categories" not in notices[0]
    else:
        assert not notices


def test_a_correction_resolves_conflicts_and_null_categories(shop: Corrected) -> None:
    rows = [*TITLES, ("vaso", "TABLES"), ("vaso", "MUGS"), ("jarra", "nan")]
    shop.sell(pd.DataFrame(rows, columns=["title", "category"]))
    shop.write("a.csv", "title,category\nvaso,MUGS\njarra,MUGS\n")
    params = shop.params()
    strict = {"conflicting_titles": "drop", "null_categories": "drop"}
    subset = make_subset(shop.read(), params.subset.model_copy(update=strict), 1, params.data)
    assert categories(subset)["vaso"] == "MUGS"
    assert categories(subset)["jarra"] == "MUGS"
    assert subset.summary["dropped"]["conflicting_title"] == 0
