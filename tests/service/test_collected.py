"""Test that `rubro serve --corrections` stores corrections that the pipeline reads."""

from __future__ import annotations

import csv
import os
import resource
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rubro.base.params import Params
from rubro.data.raw_titles import read_titles
from rubro.data.subset import make_subset
from rubro.service.collected import CollectedCorrections
from support.keyword_model import write_model
from support.raw_titles import write_frame
from support.serving import Server, running, start

pytest_plugins = ["support.keyword_model", "support.serving"]

STRANGE = [
    'mesa "12", negra',
    "mesa\tcon;todo|roja",
    "=1+1 mesa",
    "'mesa",
    "mesa 🍵 ñandú",
    "#mesa",
]


def correct(server: Server, title: str, category: str = "MUGS", **texts: str) -> Any:
    return server.ask("/corrections", {"title": title, "category": category, **texts})


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def read_rows(folder: Path) -> list[tuple[str, ...]]:
    """Return the rows that all files contain."""
    tables = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in files(folder)]
    return [tuple(row) for table in tables for row in table.itertuples(index=False)]


def test_the_pipeline_reads_the_collected_corrections(
    collecting: Server, tmp_path: Path, make_params: Callable[..., Params]
) -> None:
    folder, shop = tmp_path / "corrections", tmp_path / "shop.csv"
    names = ["TABLES", "MUGS"]
    rows = [(f"{name.lower()} {i}", name) for name in names for i in range(12)]
    titles = [*STRANGE, "mugs 0"]
    write_frame(pd.DataFrame([*rows, *((t, "MUGS") for t in STRANGE)], columns=["title", "category"]), shop)  # fmt: skip
    for line, title in enumerate(titles, 2):
        answer = correct(collecting, title, "TABLES")
        today = datetime.now(UTC).date()
        assert answer.status == 201
        assert answer.json["line"] == line
        days = [today, today - timedelta(days=1)]  # a day may have ended meanwhile
        assert answer.json["file"] in [f"corrections-{day}.csv" for day in days]
    values = {"data.path": str(shop), "data.corrections": str(folder), "subset.language": None}
    params = make_params({**values, "subset.top_categories": 0})
    subset = make_subset(read_titles(params.data, None), params.subset, 1, params.data)
    found = subset.corrections.set_index("line")
    assert found["result"].to_dict() == dict.fromkeys(range(2, 2 + len(titles)), "replaced")
    assert found["title"].tolist() == [" ".join(title.split()) for title in titles]


def test_a_correction_can_be_removed(collecting: Server, tmp_path: Path) -> None:
    folder = tmp_path / "corrections"
    for title, category in [("a", "MUGS"), ("b", "MUGS"), ("a", "LAMPS"), ("a", "MUGS")]:
        correct(collecting, title, category)
    content = {"title": " a ", "category": "MUGS"}
    assert collecting.ask("/corrections", content, "DELETE").json["line"] == 5
    assert collecting.ask("/corrections", content, "DELETE").json["line"] == 2
    again = collecting.ask("/corrections", content, "DELETE")
    assert (again.status, again.json) == (200, {"file": None, "line": None})
    assert read_rows(folder) == [("b", "MUGS"), ("a", "LAMPS")]
    assert collecting.metric('rubro_corrections_total{action="added"}') == 4
    assert collecting.metric('rubro_corrections_total{action="removed"}') == 2


def test_a_removed_correction_may_be_in_an_edited_file_of_another_day(tmp_path: Path) -> None:
    folder = tmp_path / "corrections"
    collected = CollectedCorrections(folder)
    old = folder / "corrections-2026-01-02.csv"
    old.write_bytes(b'title,category\r\n"a\r\nb",MUGS\r\nc,MUGS\r\nd,MUGS')
    (folder / "corrections-by-hand.csv").write_text("title,category\nc,MUGS\n")
    found = collected.remove({"title": "c", "category": "MUGS", "marca": ""})
    assert found == (old.name, 4)
    assert old.read_bytes() == b'title,category\r\n"a\r\nb",MUGS\r\nd,MUGS'
    assert collected.remove({"title": "c", "category": "MUGS"}) is None


def test_two_services_write_complete_lines_into_one_folder(model: Path, tmp_path: Path) -> None:
    option = ("--corrections", str(tmp_path / "corrections"))
    titles = [f"mesa {n} " + "x" * (n % 500) for n in range(200)]
    with running(model, *option) as one, running(model, *option) as other:
        servers = [one, other] * 100
        with ThreadPoolExecutor(8) as threads:
            answers = [*threads.map(correct, servers, titles)]
    assert {answer.status for answer in answers} == {201}
    assert sorted(title for title, _ in read_rows(tmp_path / "corrections")) == sorted(
        title.strip() for title in titles
    )
    places = {(answer.json["file"], answer.json["line"]) for answer in answers}
    assert len(places) == len(titles)


def test_further_columns_and_other_columns_of_a_day(shop_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corrections"
    link = tmp_path / "model"
    shutil.copytree(shop_model, link)
    with running(link, "--corrections", str(folder)) as server:
        first = correct(server, "Mesa", "Vajilla", marca="Río, Sur").json
        correct(server, "Silla", "Vajilla")
    with running(write_model(tmp_path / "other"), "--corrections", str(folder)) as server:
        second = correct(server, "Taza").json
        third = correct(server, "Taza 2").json
    name = first["file"].removesuffix(".csv")
    assert (folder / first["file"]).read_text(encoding="utf-8").splitlines() == [
        "nombre,marca,precio,category",
        'Mesa,"Río, Sur",,Vajilla',
        "Silla,,,Vajilla",
    ]
    assert second == {"file": f"{name}_2.csv", "line": 2}
    assert third == {"file": f"{name}_2.csv", "line": 3}
    assert [path.name for path in files(folder)] == [first["file"], second["file"]]


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ({"category": "MUGS"}, "title"),
        ({"title": " ", "category": "MUGS"}, "title"),
        ({"title": "\0", "category": "MUGS"}, "title"),
        ({"title": "Mesa", "category": "\0"}, "category"),
        ({"title": "Mesa"}, "category"),
        ({"title": "Mesa", "category": "\n"}, "category"),
        ({"title": "Mesa", "category": 5}, "category"),
        ({"title": "Mesa", "category": "\ud800"}, "surrogate"),
        ({"title": "\ud800", "category": "MUGS"}, "surrogate"),
        ({"title": "Mesa", "category": "MUGS", "color": "rojo"}, "color"),
        ({"title": ["Mesa"], "category": "MUGS"}, "title"),
        ({"title": "x" * 10_001, "category": "MUGS"}, "10,000"),
        (["Mesa"], "body"),
    ],
)
def test_a_wrong_correction_is_refused(collecting: Server, content: Any, fact: str) -> None:
    answer = collecting.ask("/corrections", content)
    assert answer.status == 422
    assert fact in answer.json["detail"]


def test_corrections_are_refused_without_a_folder(server: Server) -> None:
    for method in ("POST", "DELETE"):
        answer = server.ask("/corrections", {"title": "Mesa", "category": "MUGS"}, method)
        assert answer.status == 404
        assert "--corrections" in answer.json["detail"]
    assert server.ask("/model").json["collects_corrections"] is False


def test_a_path_with_two_methods_allows_both(server: Server) -> None:
    answer = server.ask("/corrections", method="GET")
    assert (answer.status, answer.headers["Allow"]) == (405, "DELETE, POST")


def test_the_page_learns_that_corrections_are_collected(collecting: Server) -> None:
    answer = collecting.ask("/model").json
    assert answer["model"] == collecting.ask("/version").json["model"]
    assert (answer["categories"], answer["collects_corrections"]) == (4, True)
    description = collecting.ask("/openapi.json").json["components"]["schemas"]["Correction"]
    assert {*description["properties"]} == {"title", "category"}


def test_a_full_disk_loses_only_the_new_correction(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corrections"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    with start(model, "--corrections", str(folder), preexec_fn=limit) as server:
        assert correct(server, "Mesa").status == 201
        answer = correct(server, "x" * 100)
        assert answer.status == 503
        assert "cannot be stored" in answer.json["detail"]
        assert correct(server, "Silla").json["line"] == 3
        assert [line["event"] for line in server.stop()] == ["refuse_correction", "stop"]
    assert read_rows(folder) == [("Mesa", "MUGS"), ("Silla", "MUGS")]


def test_a_line_that_was_cut_does_not_damage_the_next_one(tmp_path: Path) -> None:
    collected = CollectedCorrections(tmp_path)
    place = collected.add({"title": "a", "category": "b"})
    with open(tmp_path / place.file, "ab") as file:
        file.write(b"c")
    assert collected.add({"title": "d", "category": "e"}).line == 4
    assert read_rows(tmp_path)[-1] == ("d", "e")


def test_a_line_that_was_cut_in_a_quoted_text_is_removed(tmp_path: Path) -> None:
    collected = CollectedCorrections(tmp_path)
    place = collected.add({"title": 'a "b", c', "category": "d"})
    with open(tmp_path / place.file, "ab") as file:
        file.write(b'"e ""f"", g')
    assert collected.add({"title": "h", "category": "i"}).line == 3
    assert read_rows(tmp_path) == [('a "b", c', "d"), ("h", "i")]


def test_a_damaged_file_does_not_prevent_a_removal(tmp_path: Path) -> None:
    damaged = tmp_path / "corrections-9999-01-01.csv"
    damaged.write_text('title,category\n"' + "x" * csv.field_size_limit() + "\n")
    collected = CollectedCorrections(tmp_path)
    place = collected.add({"title": "a", "category": "b"})
    assert collected.remove({"title": "a", "category": "b"}) == place
    assert (tmp_path / place.file).read_text() == "title,category\n"


@pytest.mark.skipif(os.name == "nt", reason="folders have other permissions")
def test_a_folder_that_cannot_be_written_is_an_error(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with (
        pytest.raises(AssertionError, match="--corrections"),
        start(model, "--corrections", str(file / "folder")),
    ):
        pass
