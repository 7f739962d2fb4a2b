"""`rubro audit` as its users call it, from the catalogue to the corrected labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from support.keyword_model import assert_refused, called
from support.tiny_project import run_here

ROOT = Path(__file__).resolve().parents[2]
WORDS = {
    "Hogar > Velas": "vela aromatica cera perfumada vainilla pabilo soja",
    "Hogar > Tazas": "taza ceramica cafe desayuno mug porcelana asa",
    "Ropa > Camisas": "camisa algodon manga cuello botones hombre slim",
    "Ropa > Zapatos": "zapato cuero suela cordones taco talle nobuk",
}
FILLERS = [
    "oferta",
    "nuevo",
    "original",
    "envio",
    "gratis",
    "premium",
    "pack",
    "promo",
    "importado",
    "nacional",
]
Project = Callable[..., Path]


def catalogue(titles: int = 400, wrong: int = 20, **columns: list[str]) -> pd.DataFrame:
    """Return distinct titles of four categories; the labels of the first `wrong` rows are wrong."""
    random = np.random.default_rng(3)
    names, lines = list(WORDS), []
    for number in range(titles):
        category = names[number % len(names)]
        words = [
            *random.choice(WORDS[category].split(), 3, replace=False),
            *random.choice(FILLERS, 2, replace=False),
        ]
        label = names[(number + 1) % len(names)] if number < wrong else category
        title = f"{' '.join(words)} {'abcdefghij'[number % 10] * 2}{number}".title()
        lines.append({"title": title, "category": label, "right": category})
    table = pd.DataFrame(lines)
    return table.assign(
        **{name: values * (titles // len(values)) for name, values in columns.items()}
    )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Function that writes a catalogue, params.yaml and the outputs of the stage subset."""

    def make(table: pd.DataFrame, **data: Any) -> Path:
        params = YAML(typ="safe").load(ROOT / "params.yaml")
        params["data"] |= {"path": "catalogue.csv", "text_columns": [], **data}
        params["subset"] |= {"language": None}
        table.drop(columns="right").to_csv(tmp_path / "catalogue.csv", index=False)
        YAML().dump(params, tmp_path / "params.yaml")
        for name in ("corrections", "unlabelled", "pretrained"):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        code, messages = run_here(tmp_path, "subset")
        assert code == 0, messages
        return tmp_path

    return make


def suspects_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "audit/suspects.csv", dtype=str, keep_default_na=False)


def labels_of_titles(folder: Path) -> dict[str, str]:
    splits = (pd.read_parquet(path) for path in (folder / "data/subset").glob("t*.parquet"))
    others = pd.read_parquet(folder / "data/subset/validation.parquet")
    table = pd.concat([*splits, others])
    return dict(zip(table["title"], table["category"], strict=True))


def test_wrong_labels_are_listed_first_and_accepting_them_corrects_them(project: Project) -> None:
    table = catalogue()
    folder = project(table, category_separator=" > ")
    done = called(folder, "audit")
    assert done.returncode == 0, done.stderr
    suspects = suspects_of(folder)
    assert list(suspects) == [
        *("file", "line", "title", "label", "suggested_category"),
        *("confidence", "label_confidence", "words", "accept"),
    ]
    wrong = table[:20]
    assert set(suspects["title"][:20]) == set(wrong["title"])
    by_title = suspects[:20].set_index("title")
    assert by_title["suggested_category"].to_dict() == dict(
        zip(wrong["title"], wrong["right"], strict=True)
    )
    assert by_title["label"].to_dict() == dict(zip(wrong["title"], wrong["category"], strict=True))
    assert (suspects["file"] == "catalogue.csv").all()
    lines = {title: str(line) for line, title in enumerate(table["title"], start=2)}
    assert by_title["line"].to_dict() == {title: lines[title] for title in by_title.index}
    for row in suspects[:20].to_dict("records"):
        words = row["words"].lower().split(", ")
        assert all(word in row["title"].lower() for word in words)
        assert {*words} & {*WORDS[row["suggested_category"]].split()}
    assert (by_title["confidence"].astype(float) > by_title["label_confidence"].astype(float)).all()

    # One edit per line: accept the first suggestion, confirm a label, name another category.
    first, second, third = suspects["title"][:3]
    suspects.loc[[0, 1, 2], "accept"] = ["yes", "no", "Hogar > Velas"]
    suspects.to_csv(folder / "data/corrections/suspects.csv", index=False)
    before = labels_of_titles(folder)
    assert run_here(folder, "subset")[0] == 0
    after = labels_of_titles(folder)
    assert after[first] == suspects["suggested_category"][0]
    assert after[second] == before[second]
    assert after[third] == "Hogar > Velas"
    changed = {title for title in after if after[title] != before[title]}
    assert changed <= {first, third}


def test_the_summary_and_the_estimates_describe_the_data(project: Project) -> None:
    folder = project(catalogue(wrong=40))
    done = called(folder, "audit")
    summary = json.loads((folder / "audit/summary.json").read_text())
    assert (summary["rows"], summary["categories"], summary["checked"]) == (400, 4, 400)
    assert summary["wrong_share"]["low"] <= 0.1 <= summary["wrong_share"]["high"]
    assert 0.5 < summary["agreement"] < 0.95
    assert f"{summary['agreement']:.1%} of the labels" in done.stderr
    categories = pd.read_csv(folder / "audit/categories.csv")
    assert categories["rows"].sum() == 400
    assert (categories["wrong_low"] <= categories["wrong"]).all()
    assert (categories["wrong"] <= categories["wrong_high"]).all()
    names = list(WORDS)
    for row in categories.to_dict("records"):
        assert row["suggestion"] == names[names.index(row["category"]) - 1]
        assert row["wrong_low"] <= 10 <= row["wrong_high"]


def small_categories(count: int) -> pd.DataFrame:
    """Return three titles for each category; the first word, which no other category has, names it."""
    random = np.random.default_rng(5)
    rows = [
        (
            f"{'abcdefghij'[n % 10]}{'klmnopqrst'[n // 10]}so {' '.join(random.choice(FILLERS, 3))} {k}",
            n,
        )
        for n in range(count)
        for k in "xyz"
    ]
    names = [f"Raro {n}" for _, n in rows]
    return pd.DataFrame({"title": [title for title, _ in rows], "category": names, "right": names})


def test_categories_with_few_labels_have_no_estimate(project: Project) -> None:
    small = small_categories(40)
    folder = project(pd.concat([catalogue(wrong=40), small], ignore_index=True))
    assert called(folder, "audit").returncode == 0
    summary = json.loads((folder / "audit/summary.json").read_text())
    assert (summary["rows"], summary["estimated"]) == (520, 400)
    assert summary["wrong_share"]["low"] <= 0.1 <= summary["wrong_share"]["high"] < 0.2
    categories = pd.read_csv(folder / "audit/categories.csv").set_index("category")
    few = categories.loc[small["category"].unique()]
    assert (few["wrong"] == 0).all() and (few["wrong_high"] == few["rows"]).all()

    folder = project(small)
    done = called(folder, "audit")
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "audit/summary.json").read_text())["estimated"] == 0
    assert "%" not in done.stderr and "20 labels" in done.stderr


def test_an_audit_is_reproducible_and_keeps_decisions(project: Project) -> None:
    folder = project(catalogue())
    assert called(folder, "audit").returncode == 0
    first = {path.name: path.read_bytes() for path in (folder / "audit").iterdir()}
    assert called(folder, "audit").returncode == 0
    assert {path.name: path.read_bytes() for path in (folder / "audit").iterdir()} == first
    suspects = suspects_of(folder)
    suspects.loc[[0, 5], "accept"] = ["yes", "no"]
    gone = suspects.iloc[[0]].assign(title="Not in the catalogue", accept="no")
    edited = pd.concat([suspects, gone])
    # As some spreadsheets write it.
    edited.to_csv(folder / "audit/suspects.csv", index=False, sep=";", encoding="utf-8-sig")
    assert called(folder, "audit", "--limit", "3").returncode == 0
    again = suspects_of(folder)
    assert again["accept"].tolist() == ["yes", "", "", "no", "no"]
    assert again["title"].tolist() == [*suspects["title"][:3], suspects["title"][5], *gone["title"]]


@pytest.mark.parametrize("correct_held_out", [True, False])
def test_labels_that_a_correction_decides_are_not_listed_again(
    project: Project, correct_held_out: bool
) -> None:
    table = catalogue()
    table["split"] = ["train", "train", "train", "train", "validation", "test"] * 66 + ["train"] * 4
    folder = project(table, correct_held_out=correct_held_out)
    assert called(folder, "audit").returncode == 0
    # Confirm the first labels, which are wrong, and replace the next ones by another wrong category.
    suspects = suspects_of(folder)[:20]
    wrong = table.set_index("title").loc[suspects["title"]]
    third = [[*WORDS][[*WORDS].index(right) - 1] for right in wrong["right"]]
    suspects["accept"] = ["no"] * 8 + third[8:16] + [""] * 4
    suspects.to_csv(folder / "data/corrections/team.csv", index=False)
    shutil.rmtree(folder / "audit")
    assert run_here(folder, "subset")[0] == 0
    done = called(folder, "audit")
    assert done.returncode == 0, done.stderr
    assert "data/corrections" in done.stderr
    listed = set(suspects_of(folder)["title"])
    assert not listed & set(suspects["title"][:16])
    assert listed >= set(suspects["title"][16:])
    is_held_out = table.set_index("title").loc[suspects["title"][8:16], "split"] != "train"
    still_wrong = 4 + (0 if correct_held_out else is_held_out.sum())
    summary = json.loads((folder / "audit/summary.json").read_text())
    assert summary["wrong_share"]["estimate"] * 400 == pytest.approx(still_wrong, abs=2)
    assert called(folder, "audit", "--limit", "2", "--out", "two").returncode == 0
    assert len(pd.read_csv(folder / "two/suspects.csv")) == 2


def test_suspects_can_be_limited_by_number_and_confidence(project: Project) -> None:
    folder = project(catalogue(wrong=40))
    assert called(folder, "audit", "--limit", "7", "--out", "seven").returncode == 0
    assert len(pd.read_csv(folder / "seven/suspects.csv")) == 7
    assert called(folder, "audit", "--min-confidence", "0.9", "--out", "sure").returncode == 0
    assert called(folder, "audit", "--out", "all").returncode == 0
    sure, everything = (pd.read_csv(folder / name / "suspects.csv") for name in ("sure", "all"))
    assert len(sure) == (everything["confidence"] >= 0.9).sum() < len(everything)
    done = called(folder, "audit", "--min-confidence", "1")
    assert "no suspects" in done.stderr and "accept" not in done.stderr


def test_text_columns_are_read_and_written(project: Project) -> None:
    table = catalogue()
    # The titles say nothing; the further column contains the words.
    table = table.assign(descripcion=table["title"], nombre=[f"articulo {n}" for n in range(400)])
    table["nombre"] = table["nombre"].str.replace(
        r"\d", lambda m: "abcdefghij"[int(m[0])], regex=True
    )
    folder = project(
        table.drop(columns="title"), title_column="nombre", text_columns=["descripcion"]
    )
    assert called(folder, "audit").returncode == 0
    suspects = suspects_of(folder)
    assert list(suspects)[:5] == ["file", "line", "nombre", "descripcion", "label"]
    found = set(suspects["descripcion"][:20]) & set(table["descripcion"][:20])
    assert len(found) >= 18
    suspects["accept"] = ["yes", *[""] * (len(suspects) - 1)]
    suspects.to_csv(folder / "data/corrections/suspects.csv", index=False)
    assert run_here(folder, "subset")[0] == 0
    assert labels_of_titles(folder)[suspects["nombre"][0]] == suspects["suggested_category"][0]


def test_the_words_of_a_suspect_show_its_number(project: Project) -> None:
    # Only the prices of the categories differ.
    right = [*WORDS] * 100
    table = pd.DataFrame({"title": [f"articulo {'abcde'[n % 5]} {n}" for n in range(400)]})
    table = table.assign(right=right, category=right, price=[10 ** (n % 4) for n in range(400)])
    table.loc[:3, "category"] = [*WORDS][1:] + [*WORDS][:1]
    folder = project(table, text_columns=["price"], number_columns=["price"])
    assert called(folder, "audit").returncode == 0
    suspects = suspects_of(folder)
    rows = suspects[suspects["title"].isin(table["title"][:4])].to_dict("records")
    assert len(rows) == 4
    for row in rows:
        assert f"price {row['price']}" in row["words"].split(", ")


def test_a_copied_wrong_label_does_not_confirm_itself(project: Project) -> None:
    table = catalogue(wrong=1)
    copies = pd.concat([table[:1]] * 12, ignore_index=True)
    copies["title"] = [f"{title} {n}" for n, title in enumerate(copies["title"])]
    folder = project(pd.concat([table, copies], ignore_index=True))
    assert called(folder, "audit").returncode == 0
    assert set(suspects_of(folder)["title"][:13]) == {*copies["title"], table["title"][0]}


def test_near_duplicates_with_different_labels_are_listed(project: Project) -> None:
    table = catalogue(wrong=0)
    twin = table.iloc[[7]].assign(title=table["title"][7] + "!", category=next(iter(WORDS)))
    folder = project(pd.concat([table, twin], ignore_index=True))
    assert called(folder, "audit").returncode == 0
    found = pd.read_csv(folder / "audit/near_duplicates.csv")
    assert {table["title"][7], twin["title"].iloc[0]} <= set(found["title"])
    assert (found.groupby("group")["label"].nunique() > 1).all()


@pytest.mark.parametrize(("titles", "categories"), [(30, 4), (12, 2)])
def test_small_catalogues_are_audited(project: Project, titles: int, categories: int) -> None:
    table = catalogue(titles * 4 // categories, wrong=0)
    table = table[table["category"].isin(list(WORDS)[:categories])]
    folder = project(table)
    done = called(folder, "audit")
    assert done.returncode == 0, done.stderr
    summary = json.loads((folder / "audit/summary.json").read_text())
    assert summary["rows"] == len(labels_of_titles(folder))


def test_categories_that_no_other_fold_contains_are_not_suspected(project: Project) -> None:
    table = catalogue(120, wrong=0)
    single = pd.DataFrame({"title": ["Unico Ejemplar"], "category": ["Raro"], "right": ["Raro"]})
    table = pd.concat([table, single], ignore_index=True)
    table["split"] = ["train", "train", "train", "validation", "test", "train"] * 20 + ["train"]
    folder = project(table)
    done = called(folder, "audit")
    assert "1 label" in done.stderr
    assert "Raro" not in set(suspects_of(folder)["label"])
    categories = pd.read_csv(folder / "audit/categories.csv").to_dict("records")
    (rare,) = (row for row in categories if row["category"] == "Raro")
    assert (rare["checked"], rare["wrong_low"], rare["wrong_high"]) == (0, 0, 1)


def test_wrong_input_gives_one_message(project: Project) -> None:
    folder = project(catalogue(120))
    assert_refused(called(folder, "audit", "--limit", "-1"), "--limit")
    (folder / "file").write_text("")
    assert_refused(called(folder, "audit", "--out", "file"), "file")
    (folder / "audit").mkdir()
    (folder / "audit/suspects.csv").write_text("title\nmine\n")
    assert_refused(called(folder, "audit"), "audit/suspects.csv", "--out")
    assert (folder / "audit/suspects.csv").read_text() == "title\nmine\n"
    (folder / "metrics/corrections.csv").unlink()
    assert_refused(called(folder, "audit"), "metrics/corrections.csv", "dvc repro subset")
    shutil.rmtree(folder / "data/subset")
    assert_refused(called(folder, "audit"), "data/subset", "dvc repro subset")


def test_a_text_column_with_a_reserved_name_is_refused(project: Project) -> None:
    table = catalogue(120).assign(label="x")
    assert_refused(called(project(table, text_columns=["label"]), "audit"), "'label'")


def test_nearly_equal_titles_only_are_refused(project: Project) -> None:
    table = pd.DataFrame({"title": [f"vela {n % 10}" for n in range(40)], "right": "a"})
    table["category"] = ["a", "b"] * 20
    assert_refused(called(project(table), "audit"), "nearly the same")
