"""The report shows an audit of the labels if it describes the data of the run."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

import pytest

from rubro.base.errors import DataError
from rubro.base.files import file_digests, write_json
from rubro.report.charts import charts_of
from rubro.report.content import Content, read_audit, read_content
from rubro.report.page import render
from support.report_metrics import HOSTILE

pytest_plugins = ["support.report_metrics"]

FILES = ("train.parquet", "validation.parquet", "test.parquet")


@pytest.fixture
def content(metrics: Path) -> Content:
    return read_content(metrics, "test")


@pytest.fixture
def audit(tmp_path: Path) -> tuple[Path, Path]:
    """The folder of an audit, and the folder of the audited data."""
    folder, subset = tmp_path / "audit", tmp_path / "subset"
    folder.mkdir()
    subset.mkdir()
    for name in FILES:
        (subset / name).write_bytes(name.encode())
    summary = {
        "rows": 1000,
        "checked": 990,
        "suspects": 77,
        "estimated": 990,
        "agreement": 0.922,
        "wrong_share": {"estimate": 0.031, "low": 0.022, "high": 0.043},
        "near_duplicates": {"groups": 13, "rows": 30},
        "data": file_digests(subset, FILES),
    }
    write_json(folder / "summary.json", summary)
    lines = ["category,rows,checked,wrong,wrong_low,wrong_high,suggestion,suggestion_rows"]
    lines += [f"{HOSTILE},50,50,12.5,7.5,20.5,Mugs,9", "Mugs,70,70,0.0,0.0,3.5,,0"]
    (folder / "categories.csv").write_text("\n".join(lines) + "\n")
    return folder, subset


def test_the_audit_of_the_same_data_is_shown(content: Content, audit: tuple[Path, Path]) -> None:
    assert read_audit(content, *audit) is None
    page = render(content, charts_of(content))
    section = page[page.index('id="labels"') : page.index('id="data"')]
    facts = (
        "3.1 %",
        "990",
        "10 labels",
        "2.2 %",
        "4.3 %",
        "92.2 %",
        "77",
        "13",
        "12.5",
        "7.5 to 20.5",
    )
    for fact in (*facts, "Mugs"):
        assert fact in section
    assert escape(HOSTILE, quote=False).replace("_", "_<wbr>") in section
    assert HOSTILE not in page
    assert 'href="#labels"' in page


@pytest.mark.parametrize("is_deleted", [False, True])
def test_the_audit_of_other_data_is_left_out(
    content: Content, audit: tuple[Path, Path], is_deleted: bool
) -> None:
    if is_deleted:
        (audit[1] / "test.parquet").unlink()
    else:
        (audit[1] / "test.parquet").write_bytes(b"other")
    notice = read_audit(content, *audit)
    assert notice is not None and "rubro audit" in notice
    page = render(content, charts_of(content))
    assert "#labels" not in page and 'id="labels"' not in page


def test_a_missing_table_is_explained(content: Content, audit: tuple[Path, Path]) -> None:
    (audit[0] / "categories.csv").unlink()
    with pytest.raises(DataError, match=r"categories\.csv: no such file.*rubro audit"):
        read_audit(content, *audit)


def test_without_an_audit_nothing_is_said(content: Content, tmp_path: Path) -> None:
    assert read_audit(content, tmp_path / "audit", tmp_path) is None
    assert content.audit is None


def test_a_damaged_audit_is_an_error(content: Content, audit: tuple[Path, Path]) -> None:
    summary = json.loads((audit[0] / "summary.json").read_text())
    write_json(audit[0] / "summary.json", summary | {"rows": "many"})
    with pytest.raises(DataError, match=r"summary\.json.*rubro audit"):
        read_audit(content, *audit)
