"""The commands answer at the deepest level of a category tree that keeps the promise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rubro.base.category_tree import CategoryTree
from support.keyword_model import assert_refused, called, command, in_terminal, write_model

pytest_plugins = ["support.keyword_model"]

# The path of the category of each keyword.
PATHS = {
    "mesa": "HOME > TABLES",
    "silla": "HOME > CHAIRS",
    "lampara": "SHOP > LAMPS",
    "taza": "SHOP > CUPS > MUGS",
}
WORDS = list(PATHS)
TREE = CategoryTree(
    separator=" > ",
    order="root_first",
    paths={path: path.split(" > ") for path in PATHS.values()},
)


def run(name: str, tree_model: Path, folder: Path, *arguments: str) -> Any:
    return called(folder, name, "--model", str(tree_model), *arguments)


@pytest.fixture(scope="module")
def tree_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model whose categories are the paths of TREE."""
    folder = tmp_path_factory.mktemp("models") / "svm"
    return write_model(folder, labels=list(PATHS.values()), tree=TREE)


def titles(random: np.random.Generator, count: int) -> Iterator[dict[str, str]]:
    """Yield titles whose category is certain, whose root is certain, or whose root is not certain."""
    for _ in range(count):
        home, shop = random.permutation(WORDS[:2]), random.permutation(WORDS[2:])
        same = home if random.random() < 0.5 else shop
        kind = random.random()
        words = [same[0]] if kind < 0.5 else same if kind < 0.8 else [home[0], shop[0]]
        yield {"title": " ".join(words), "category": PATHS[random.choice(words)]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tree_model: Path) -> Path:
    """Write validation and test titles, and thresholds chosen on the validation titles."""
    folder = tmp_path_factory.mktemp("titles")
    random = np.random.default_rng(2)
    for name in ("validation", "test"):
        pd.DataFrame(titles(random, 3000)).to_csv(folder / f"{name}.csv", index=False)
    done = run("thresholds", tree_model, folder, "validation.csv", "--precision", "0.95")
    assert done.returncode == 0, done.stderr
    for line in ("level 3", "level 1"):
        assert line in done.stdout
    return folder


def answers_to(folder: Path, tree_model: Path, *arguments: str) -> pd.DataFrame:
    done = run("predict", tree_model, folder, *arguments, "-o", "answers.csv")
    assert done.returncode == 0, done.stderr
    return pd.read_csv(folder / "answers.csv")


def test_each_level_has_a_threshold_and_its_answers(folder: Path) -> None:
    written = json.loads((folder / "thresholds.json").read_text())
    assert not {"single", "together", "categories"} & written.keys()
    assert [each["level"] for each in written["levels"]] == [3, 2, 1]
    assert all(each["titles"] == 3000 for each in (written["all"], *written["levels"]))
    kept = [each["kept"] for each in written["levels"]]
    assert written["all"]["kept"] == sum(kept)
    assert np.array(kept) / 3000 == pytest.approx([0.125, 0.375, 0.3], abs=0.03)
    assert all(each["low"] >= 0.95 for each in written["levels"])


def test_the_promise_holds_at_each_level_on_other_titles(folder: Path, tree_model: Path) -> None:
    table = answers_to(folder, tree_model, "test.csv", "--thresholds", "thresholds.json")
    accepted = table.dropna(subset="predicted_category")
    is_right = [
        f"{row.category} > ".startswith(f"{row.predicted_category} > ")
        for row in accepted.itertuples()
    ]
    precision = pd.Series(is_right, accepted.index).groupby(accepted["predicted_level"]).mean()
    assert set(precision.index) == {1, 2, 3}
    assert (precision >= 0.95).all()
    assert 0.75 < len(accepted) / len(table) < 0.85
    lengths = accepted["predicted_category"].str.count(" > ") + 1
    assert (accepted["predicted_level"] == lengths).all()
    assert table["predicted_level"].isna().equals(table["predicted_category"].isna())
    assert set(table["best_guess"]) == set(PATHS.values())
    checked = run("thresholds", tree_model, folder, "test.csv", "--check", "thresholds.json")
    assert f"{len(accepted) / len(table):.1%}" in checked.stdout


def test_evaluate_counts_titles_that_some_level_answers(folder: Path, tree_model: Path) -> None:
    done = run("evaluate", tree_model, folder, "validation.csv", "--tables", "tables")
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(folder / "tables/automation.csv").set_index("goal").loc[0.95]
    expected = json.loads((folder / "thresholds.json").read_text())["all"]
    assert found["coverage"] == pytest.approx(expected["kept"] / expected["titles"], abs=1e-6)
    assert found["precision"] == pytest.approx(expected["right"] / expected["kept"], abs=1e-6)


def test_the_known_ancestors_of_an_unknown_category_count(folder: Path, tree_model: Path) -> None:
    """DESKS are unknown, but the model knows that they belong to HOME."""
    new = pd.DataFrame({"title": "mesa silla", "category": ["HOME > DESKS"] * 400})
    pd.concat([pd.read_csv(folder / "validation.csv"), new]).to_csv(folder / "new.csv")
    options = "--check", "thresholds.json"
    done = run("thresholds", tree_model, folder, "new.csv", *options)
    assert done.returncode == 0, done.stderr
    old = run("thresholds", tree_model, folder, "validation.csv", *options)

    def right_at_root(text: str) -> tuple[int, str]:
        (line,) = [line for line in text.splitlines() if line.strip().startswith("level 1 ")]
        *_, titles, share, precision, _ = line.split()
        return round(int(titles.replace(",", "")) * float(share.strip("%")) / 100), precision

    before, after = map(right_at_root, (old.stdout, done.stdout))
    assert after[0] == pytest.approx(before[0] + 400, abs=4)
    assert after[1] == before[1]


def test_a_minimum_confidence_chooses_the_level(folder: Path, tree_model: Path) -> None:
    titles = "silla", "mesa silla", "silla taza"
    table = answers_to(folder, tree_model, *titles, "--min-confidence", "0.7")
    assert table["predicted_category"].fillna("").tolist() == ["HOME > CHAIRS", "HOME", ""]
    assert table["predicted_level"].fillna(0).tolist() == [2, 1, 0]
    assert table["best_guess"].tolist() == ["HOME > CHAIRS", "HOME > TABLES", "HOME > CHAIRS"]
    assert (table["confidence"] > 0.7).tolist() == [True, True, False]


def test_answers_can_be_limited_to_a_level(folder: Path, tree_model: Path) -> None:
    table = answers_to(folder, tree_model, "silla", "taza", "--level", "1", "--top", "9")
    assert table["predicted_category"].tolist() == ["HOME", "SHOP"]
    assert table["predicted_category_2"].tolist() == ["SHOP", "HOME"]
    assert "predicted_category_3" not in table
    without = answers_to(folder, tree_model, "silla", "taza")
    assert without["predicted_category"].tolist() == [PATHS["silla"], PATHS["taza"]]
    assert without["predicted_level"].tolist() == [2, 3]
    done = run("explain", tree_model, folder, "silla", "--level", "1")
    explained = json.loads(done.stdout)
    assert (explained["category"], explained["other"]) == ("HOME", "SHOP")


def test_a_terminal_shows_the_separators_of_a_path_dimly(folder: Path, tree_model: Path) -> None:
    code, text = in_terminal(folder, command(tree_model, ["taza"]))
    assert code == 0
    assert "SHOP \x1b[2m>\x1b[0m CUPS \x1b[2m>\x1b[0m MUGS" in text
    keys = [("title:", b"silla\r"), ("HOME.*title:", b"q\r")]
    code, text = in_terminal(folder, command(tree_model, ["--level", "1"]), keys)
    assert code == 0
    assert "CHAIRS" not in text


@pytest.mark.parametrize("name", ["predict", "explain"])
def test_a_level_must_exist(folder: Path, tree_model: Path, model: Path, name: str) -> None:
    arguments = "silla", "--level", "4"
    assert_refused(run(name, tree_model, folder, *arguments), "level is 4", "1 and 3")
    assert_refused(run(name, model, folder, *arguments), "category_separator")


def test_thresholds_of_a_flat_model_have_no_levels(folder: Path, model: Path) -> None:
    flat = pd.DataFrame({"title": ["silla", "mesa"] * 200, "category": ["CHAIRS", "TABLES"] * 200})
    flat.to_csv(folder / "flat.csv")
    assert run("thresholds", model, folder, "flat.csv", "-o", "flat.json").returncode == 0
    assert "levels" not in json.loads((folder / "flat.json").read_text())


def test_thresholds_must_have_the_levels_of_the_model(folder: Path, tree_model: Path) -> None:
    written = json.loads((folder / "thresholds.json").read_text())
    written["levels"] = written["levels"][:1]
    (folder / "wrong.json").write_text(json.dumps(written))
    done = run("predict", tree_model, folder, "silla", "--thresholds", "wrong.json")
    assert_refused(done, "wrong.json", "`rubro thresholds --model")
