"""Test that the page escapes names, loads nothing and is accessible."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from html import escape, unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from rubro.report.charts import charts_of
from rubro.report.content import ReportedRun, read_content
from rubro.report.page import render
from support.report_metrics import HOSTILE, HOSTILE_NAMES, HOSTILE_PATHS, write_metrics

pytest_plugins = ["support.report_metrics"]

EMPTY = {"meta", "link", "input", "br", "wbr"}


class Page(HTMLParser):
    """Parsed page: its tags with their attributes, its open tags and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(metrics: Path, split: str = "test") -> Page:
    content = read_content(metrics, split)
    return Page(render(content, charts_of(content)))


@pytest.fixture(scope="module")
def page(original_metrics: Path) -> Page:
    return page_of(original_metrics)


@pytest.fixture(scope="module")
def tree_page(original_tree_metrics: Path) -> Page:
    return page_of(original_tree_metrics)


@pytest.mark.parametrize(("fixture", "sections"), [("page", 10), ("tree_page", 12)])
def test_every_tag_is_closed_and_every_id_is_unique(
    request: pytest.FixtureRequest, fixture: str, sections: int
) -> None:
    page: Page = request.getfixturevalue(fixture)
    assert page.open == []
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert set(ids.values()) == {1}
    for _, attributes in page.tags:
        for name in ("aria-labelledby", "aria-controls", "aria-describedby", "for"):
            assert attributes.get(name, "search") in ids
    links = [link["href"] or "" for link in page.all("a")]
    assert sum(not re.fullmatch(r"#c\d+", link) for link in links) == sections
    assert all(link.startswith("#") and link[1:] in ids for link in links)


def test_names_and_titles_are_escaped(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.html.count("alert(1)") > 20
    for name in HOSTILE_NAMES:
        assert name in page.text
    assert f"{HOSTILE} {HOSTILE} " in page.text


def test_the_page_loads_nothing_and_allows_only_its_own_script(page: Page) -> None:
    [policy] = [meta["content"] or "" for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; ")
    assert "script-src 'sha256-" in policy
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "poster", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), tag
    assert "url(http" not in page.html and "@import" not in page.html


def test_tables_headings_charts_and_scrolling_regions_are_accessible(page: Page) -> None:
    assert len(page.all("caption")) == len(page.all("table")) >= 10
    assert {header.get("scope") for header in page.all("th")} == {"row", "col"}
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    charts = page.all("svg")
    assert len(charts) == 15
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    regions = [region for region in page.all("div") if "scroll" in (region.get("class") or "")]
    assert regions
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)


def test_the_page_shows_the_metrics(page: Page, original_metrics: Path) -> None:
    content = read_content(original_metrics, "test")
    best = content.models["ensemble"]
    for value in (best.balanced_accuracy, best.balanced_accuracy_low, best.ece, best.loss):
        assert f"{value:.4f}" in page.text
    for row in (content.automation[-1], content.promised[content.automation[-1].goal]):
        assert f"{100 * row.coverage:.1f} %" in page.text
        assert f"{100 * row.low:.1f} % to {100 * row.high:.1f} %" in page.text
    assert "coverage of 90.0 %" in page.text
    assert "optimistic" not in page.text
    assert "optimistic" in page_of(original_metrics, "validation").text


def test_the_page_shows_how_many_categories_were_measured(metrics: Path) -> None:
    assert "no titles" not in page_of(metrics).text
    path = metrics / "subset.json"
    subset = json.loads(path.read_text())
    path.write_text(json.dumps({**subset, "classes": 1200}))
    names = ["BOATS", HOSTILE, *(f"CARS {number}" for number in range(1190))]
    rows = "".join(f"{name},{5000 - number}\n" for number, name in enumerate(names))
    path = metrics / "evaluation/test/unmeasured.csv"
    path.write_text(f"category,train_titles\n{rows}", encoding="utf-8")
    text = page_of(metrics).text
    assert "1,192 of the 1,200 categories have no titles" in text
    assert f"BOATS, {HOSTILE}, CARS 0 and 1,189 more" in text


def test_a_category_lists_its_mistakes_and_other_tables_link_to_them(
    page: Page, original_metrics: Path
) -> None:
    mistakes = read_content(original_metrics, "test").mistakes
    lists = dict(re.findall(r'<ul id="(c\d+)">(.*?)</ul></details>', page.html, re.DOTALL))
    listed = [
        unescape(title) for each in lists.values() for title in re.findall("<q>(.*?)</q>", each)
    ]
    assert sorted(listed) == sorted(mistake.title for mistake in mistakes)
    pairs = page.html.partition("Most confused pairs")[2].partition("</table>")[0]
    assert set(re.findall(r'href="#(\w+)"', pairs)) <= lists.keys()
    more = sum(map(int, re.findall(r"<li>and (\d+) more", page.html)))
    errors = sum(row.errors for row in read_content(original_metrics, "test").categories)
    assert len(mistakes) + more == errors


def test_categories_without_titles_are_in_the_table(metrics: Path) -> None:
    path = metrics / "evaluation/test/unmeasured.csv"
    path.write_text("category,train_titles\nBOATS,1234\n", encoding="utf-8")
    page = page_of(metrics)
    row = page.html.partition('<tr id="unmeasured">')[2].partition("</tr>")[0]
    assert re.findall("<t[hd][^>]*>(.*?)</t", row) == ["BOATS", "-", "0", "-", "-", "-", "1,234"]
    assert "#unmeasured" in [link["href"] for link in page.all("a")]


def test_the_page_shows_validation_and_test_side_by_side(
    page: Page, original_metrics: Path
) -> None:
    table = page.html.partition('id="models"')[2].partition("</table>")[0]
    content = read_content(original_metrics, "test")
    rows = re.findall(r'<th scope="row">(\w+)</th><td>(\w+)</td><td class="number">([\d.]+)', table)
    assert rows == [
        (model, split, f"{content.splits[split][model].accuracy:.4f}")
        for model in content.models
        for split in ("test", "validation")
    ]
    tiles = page.html.partition("<dl")[2].partition('class="note"')[0]
    assert f"validation: {content.splits['validation']['ensemble'].accuracy:.4f}" in tiles


@pytest.mark.parametrize("is_worse", [True, False])
def test_the_page_shows_if_calibration_made_the_error_larger(metrics: Path, is_worse: bool) -> None:
    path = metrics / "evaluate.json"
    values = json.loads(path.read_text())
    for model in values["test"].values():
        if "ece" in model:
            model |= {"ece": 0.2, "ece_before_calibration": 0.3}
    values["test"]["svm"]["ece_before_calibration"] = 0.1234 if is_worse else 0.2
    path.write_text(json.dumps(values))
    section = page_of(metrics).text.partition("Reliability before")[2]
    assert ("error of svm worse on test: 0.1234 before, 0.2000 after" in section) == is_worse
    assert "error of mlp worse" not in section


def test_the_page_shows_its_commit_date_and_model(metrics: Path) -> None:
    content = read_content(metrics, "test")
    for is_changed in (False, True):
        content.run = ReportedRun("0123456789abcdef", "2026-03-31", is_changed, "fedcba9876543210")
        header = render(content, {}).partition("</header>")[0]
        for fact in ("0123456789ab<", "2026-03-31", "fedcba987654<"):
            assert fact in header
        assert ("not committed" in header) == is_changed


def test_a_goal_that_validation_does_not_have_is_shown(metrics: Path) -> None:
    header = "goal,coverage,precision,low,high\n"
    (metrics / "evaluation/validation/ensemble/automation.csv").write_text(header)
    table = metrics / "evaluation/test/ensemble/automation.csv"
    table.write_text(f"{header}0.9,0.85,0.94,0.91,0.96\n0.98,0.75,0.99,0.985,0.995\n")
    assert "coverage at 90 % precision" in page_of(metrics).text
    section = page_of(metrics).html.partition('id="coverage"')[2].partition("</section>")[0]
    row = section.partition('<th scope="row">98 %</th>')[2].partition("</tr>")[0]
    assert re.findall("<td[^>]*>(.*?)</td>", row) == [
        "",
        "",
        "",
        "75.0 %",
        "99.0 %",
        "98.5 % to 99.5 %",
    ]


def test_missing_files_are_named_in_their_section(metrics: Path) -> None:
    shutil.rmtree(metrics / "curves")
    (metrics / "evaluation/test/ensemble/classes.csv").unlink()
    page = page_of(metrics)
    assert "Missing: " in page.text
    curves, classes = page.text.split("Missing: ")[1:]
    assert "curves/mlp/plots" in curves
    assert "and 13 more. " in curves and "dvc pull" in curves and "dvc repro" in curves
    assert classes.partition(" ")[0].endswith("classes.csv.")
    assert page.all("svg")


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", ["evaluate.json", "subset.json", "featurize.json", "evaluation/description.json"]
)
def test_a_page_is_rendered_without_a_summary_file(metrics: Path, file: str) -> None:
    (metrics / file).unlink()
    page = page_of(metrics)
    assert f"{file}. " in page.text
    assert page.open == []


@pytest.mark.slow
def test_the_page_of_632_categories_is_small_and_complete(tmp_path: Path) -> None:
    names = [f"A_LONG_NAME_OF_A_CATEGORY_OF_A_SHOP_{n:03}" for n in range(632)]
    write_metrics(tmp_path, names, titles=5_000)
    page = page_of(tmp_path)
    assert len(page.html.encode()) < 3_000_000
    assert all(name in page.text for name in names)


@pytest.mark.parametrize("objective", ["accuracy", "macro_f1", "balanced_accuracy"])
def test_the_objective_comes_first(tmp_path: Path, objective: str) -> None:
    write_metrics(tmp_path, HOSTILE_NAMES, objective=objective)
    html = page_of(tmp_path).html
    caption = objective.replace("_", " ").replace("f1", "F1")
    for first in ("<dl", '<th scope="col">model</th>', "<svg"):
        names = re.findall(
            r"balanced accuracy|\baccuracy|macro F1", html.partition(first)[2], re.IGNORECASE
        )
        assert names[0].casefold() == caption.casefold(), first
    content = read_content(tmp_path, "test")
    charts = charts_of(content)
    curves = [name for name in charts if name.startswith("curve_mlp_")]
    assert curves[0] == f"curve_mlp_{objective}"
    best, [difference] = content.models["ensemble"], content.differences.values()
    for name, values in (("models", best), ("differences", difference)):
        for end in ("", "_low", "_high"):
            assert f"{getattr(values, objective + end):.3f}" in charts[name].alternative
    assert f"{getattr(difference, objective + '_low'):+.4f}" in html


def test_the_page_shows_models_left_out_and_a_final_fit(metrics: Path) -> None:
    path = metrics / "evaluation" / "description.json"
    description = json.loads(path.read_text())
    for left_out, final_fit in ((["svm"], True), (["mlp", "cnn"], False), ([], True)):
        changed = description | {"left_out": left_out, "final_fit": final_fit}
        path.write_text(json.dumps(changed))
        header = page_of(metrics).html.partition("</header>")[0]
        assert ("does not contain" in header) == bool(left_out)
        assert " and ".join(left_out) in header
        assert ("trained once more" in header) == final_fit


# Category paths and text columns


def test_the_page_shows_the_metrics_of_each_level(
    tree_page: Page, original_tree_metrics: Path
) -> None:
    best = read_content(original_tree_metrics, "test").models["ensemble"]
    levels = tree_page.html.partition('id="levels"')[2].partition("</section>")[0]
    assert list(best.levels) == [1, 2, 3, 4, 5]
    for values in best.levels.values():
        for value in (values.accuracy, values.balanced_accuracy, values.weighted_f1):
            assert f"{value:.4f}" in levels
    assert best.hierarchical_f1 and f"{best.hierarchical_f1:.4f}" in levels
    assert best.mean_weighted_f1 and f"{best.mean_weighted_f1:.4f}" in levels


def test_the_tree_nests_each_node_below_its_parent(
    tree_page: Page, original_tree_metrics: Path
) -> None:
    html = tree_page.html.partition('<div class="tree">')[2].partition("</div>\n</section>")[0]
    found: list[tuple[str, ...]] = []
    path: list[str] = []
    for close, name in re.findall(r'(</li>)|class="name" dir="auto">(.*?)</span>', html):
        if close:
            path.pop()
        else:
            path.append(unescape(name.replace("<wbr>", "")))
            found.append(tuple(path))
    expected = {
        tuple(names[:level])
        for names in (path.split(" > ") for path in HOSTILE_PATHS)
        for level in range(1, len(names) + 1)
    }
    assert set(found) == expected and len(found) == len(expected)
    nodes = read_content(original_tree_metrics, "test").nodes
    assert [row.name for row in nodes] == [path[-1] for path in found]
    assert f"{nodes[0].recall:.3f}" in html


def test_the_last_name_of_a_path_stands_out(tree_page: Page, page: Page) -> None:
    assert "Drinks &gt; <wbr><b>Water</b></span>" in tree_page.html
    assert "漢字 &gt; <wbr>漢字 &gt; <wbr>a &gt; <wbr>b &gt; <wbr><b>c</b></span>" in tree_page.html
    assert '<span class="path">' not in page.html


def test_names_of_paths_are_escaped(tree_page: Page) -> None:
    assert len(tree_page.all("script")) == 1
    assert not any(name.startswith("on") for _, each in tree_page.tags for name in each)
    for path in HOSTILE_PATHS:
        assert path in tree_page.text


def test_pairs_that_cross_the_top_level_come_first(
    tree_page: Page, original_tree_metrics: Path
) -> None:
    pairs = read_content(original_tree_metrics, "test").pairs
    levels = [pair.level for pair in pairs if pair.level is not None]
    assert levels[0] == 0 and len(levels) == len(pairs)
    assert levels == sorted(levels)
    table = tree_page.html.partition("Most confused pairs")[2].partition("</table>")[0]
    shown = re.findall(r'</td><td class="number">(\d+)</td><td class="number">\d+</td>', table)
    assert [*map(int, shown)] == levels


def test_the_page_shows_what_each_column_brings(tree_page: Page, page: Page) -> None:
    section = tree_page.html.partition('id="columns"')[2].partition("</section>")[0]
    assert re.findall(r'dir="auto">(.*?)</th>', section) == ["none", escape(HOSTILE)]
    values = re.findall(r'<td class="number">([\d.]+)</td>', section)
    assert values == ["0.7500", "0.6250", "0.5625", "0.5000", "0.5000", "0.5000"]
    assert 'id="columns"' not in page.html


def test_a_long_path_is_shortened_to_its_last_names(tmp_path: Path) -> None:
    names = [f"A ROOT WITH A LONG NAME > A CHILD WITH A LONG NAME > LEAF {n}" for n in range(4)]
    write_metrics(tmp_path, names, separator=" > ")
    svg = charts_of(read_content(tmp_path, "test"))["worst_categories"].svg
    assert all(f"LEAF {number}" in svg for number in range(4))
    assert "A ROOT" not in svg
