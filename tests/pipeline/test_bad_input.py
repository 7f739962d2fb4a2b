"""The subset stage with bad input: one clear message, exit code 2, never a traceback."""

from __future__ import annotations

import gzip
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from rubro.data.raw_titles import REMEDY_BY_REASON

HEADER = "title,category\n"
BODY = "".join(f"titulo {i},{'ABC'[i % 3]}\n" for i in range(60))
GOOD = HEADER + BODY


GZIPPED = gzip.compress(GOOD.encode())
NOT_GZIP = ["raw/x.csv.gz: not a valid gzip file"]


def jsonl(count: int = 60, **extra: Any) -> str:
    records = ({"title": f"titulo {i}", "category": "ABC"[i % 3], **extra} for i in range(count))
    return "".join(json.dumps(record) + "\n" for record in records)


def parquet(**columns: Any) -> bytes:
    buffer = BytesIO()
    pd.DataFrame(columns).to_parquet(buffer)
    return buffer.getvalue()


@dataclass
class Project:
    """A folder with params.yaml and raw data, in which the stage runs."""

    folder: Path
    run: Callable[[], tuple[int, str]]  # returns the exit code and the standard error

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def summary(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "metrics/subset.json").read_text())
        return content

    @property
    def quarantine(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "data/subset/quarantine.csv", keep_default_na=False)

    def repair(self, files: dict[str, str | bytes], changes: Any) -> None:
        """Write raw files, and change parameters if changes is a dictionary."""
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            (self.raw / name).write_bytes(data)
        params = YAML().load(self.folder / "params.yaml")
        for key, value in changes.items() if isinstance(changes, dict) else ():
            section, name = key.split("__")
            params[section][name] = value
        YAML().dump(params, self.folder / "params.yaml")

    def split(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / f"data/subset/{name}.parquet")


MakeProject = Callable[..., Project]


@pytest.fixture
def project(
    tmp_path: Path,
    project_root: Path,
    make_params: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> MakeProject:
    """Return a function that creates a project; its stage script runs in this process."""

    def run() -> tuple[int, str]:
        script = project_root / "stages" / "subset.py"
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(script)])
        monkeypatch.syspath_prepend(str(script.parent))
        stderr = TextIOWrapper(BytesIO(), "utf-8", errors="backslashreplace", write_through=True)
        monkeypatch.setattr(sys, "stderr", stderr)
        code = 0
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        return code, stderr.buffer.getvalue().decode()

    def make(files: dict[str, str | bytes], **changes: Any) -> Project:
        values: dict[str, Any] = {
            "data__path": "raw",
            "data__unlabelled_path": "unlabelled",
            "data__corrections": "corrections",
            "subset__language": None,
            "subset__top_categories": 0,
        }
        values |= {"data__max_quarantined_share": 0.05, **changes}
        params = make_params().model_dump()
        for key, value in values.items():  # the stage validates them
            section, name = key.split("__")
            assert name in params[section], f"params.yaml has no {section}.{name}"
            params[section][name] = value
        YAML().dump(params, tmp_path / "params.yaml")
        (tmp_path / "raw").mkdir()
        (tmp_path / "unlabelled").mkdir()
        (tmp_path / "corrections").mkdir()
        made = Project(tmp_path, run)
        made.repair(files, {})
        return made

    return make


def fails(project: Project, *fragments: str) -> str:
    """Check that the stage exits with 2 and one error with all fragments, and writes no split."""
    code, stderr = project.run()
    assert code == 2, stderr
    _, mark, message = stderr.rpartition("error: ")
    assert mark
    assert "Traceback" not in stderr
    for fragment in fragments:
        assert fragment in message
    written = [path for path in (project.folder / "data").rglob("*") if path.is_file()]
    assert [path.name for path in written] in ([], ["quarantine.csv"])
    assert not (project.folder / "metrics").exists()
    return stderr


def succeeds(project: Project) -> str:
    code, stderr = project.run()
    assert code == 0, stderr
    assert "error" not in stderr
    return stderr


CASES: dict[str, tuple[dict[str, str | bytes], dict[str, Any], list[str]]] = {
    "a missing path": ({}, {"data__path": "no/x.csv"}, ["no/x.csv: no such file", "set data.path"]),
    "a file of an unknown kind": (
        {"x.dat": b"\0\1"},
        {"data__path": "raw/x.dat"},
        ["raw/x.dat: no table with columns 'title' and 'category'", ".jsonl", ".parquet"],
    ),
    "an empty folder": ({}, {}, ["raw: no title files (found nothing)", ".csv", ".parquet"]),
    "only unlabelled titles": (
        {"unlabelled.csv": GOOD, "README.md": "x"},
        {},
        ["raw: only files for unlabelled titles (unlabelled.csv)", "rename"],
    ),
    "an unusable folder": ({"notes.txt": "x", "image.png": b"x"}, {}, ["raw/notes.txt: no table"]),
    "files without split": ({"a.csv": GOOD, "b.csv": GOOD}, {}, ["a.csv, b.csv", "set data.path"]),
    "an empty file": ({"x.csv": b""}, {}, ["raw/x.csv: the file is empty"]),
    "an empty gzip file": ({"x.csv.gz": b""}, {}, ["raw/x.csv.gz: the file is empty"]),
    "an empty file in gzip": (
        {"x.csv.gz": gzip.compress(b"")},
        {},
        ["x.csv.gz: the file is empty"],
    ),
    "only blank lines": ({"x.jsonl": "\n \n\n"}, {}, ["raw: the source has no rows"]),
    "a header without rows": ({"x.csv": HEADER}, {}, ["raw: the source has no rows"]),
    "a file that is not gzip": ({"x.csv.gz": GOOD}, {}, NOT_GZIP),
    "a flipped gzip checksum": ({"x.csv.gz": GZIPPED[:-8] + b"12345678"}, {}, NOT_GZIP),
    "damaged gzip content": ({"x.csv.gz": GZIPPED[:12] + b"\xff" * 200}, {}, NOT_GZIP),
    "a file that is not parquet": ({"x.parquet": GOOD}, {}, ["x.parquet: not a readable parquet"]),
    "a missing category column": (
        {"x.tsv": "title\tlabel\na\tA\n"},
        {},
        ["raw/x.tsv: no column 'category' (found: title, label)", "set data.category_column"],
    ),
    "a different separator than the one set": (
        {"x.csv": GOOD.replace(",", ";")},
        {"data__separator": "comma"},
        ["raw/x.csv: no column 'title' (found: title;category)"],
    ),
    "an unknown separator": (
        {},
        {"data__separator": ";"},
        ["data.separator: ", "'comma'", "'pipe'"],
    ),
    "an unknown encoding": (
        {},
        {"data__encoding": "utf-9"},
        ["data.encoding: ", "'utf-9'", "utf-8"],
    ),
    "utf-16 read as utf-8": (
        {"x.csv": GOOD.encode("utf-16")},
        {"data__encoding": "utf-8"},
        ["raw/x.csv", "is it utf-8 text? Set data.encoding"],
    ),
    "ascii bytes read as utf-16": (
        {"x.csv": b"abc"},
        {"data__encoding": "utf-16"},
        ["raw/x.csv: not utf-16 text", "set data.encoding"],
    ),
    "a language without files": (
        {"spanish.train.jsonl": jsonl()},
        {"subset__language": "english"},
        ["language 'english'", "found: spanish", "set subset.language"],
    ),
    "a folder without training file": ({"test.csv": GOOD}, {}, ["raw: no training file", "none"]),
    "too many unusable rows": (
        {"x.jsonl": jsonl() + "no json\n" * 4},
        {},
        ["raw: 4 of 64 rows (6.2%)", "max_quarantined_share (5.0%)", "not_json 4", "x.jsonl:61: "],
    ),
    "only unusable rows": (
        {"x.jsonl": '{"title": "", "category": "A"}\n'},
        {},
        ["1 of 1 rows (100.0%)", "x.jsonl:1: "],
    ),
    "a header with an open quote": ({"x.csv": '"' + GOOD}, {}, ["raw/x.csv:1: "]),
    "a header with a stray quote": ({"x.csv": '"ti"tle,category\n' + BODY}, {}, ["raw/x.csv:1: "]),
    "JSON with other keys": (
        {"x.json": json.dumps([{"descripcion": "Mesa", "rubro": "A"}] * 60)},
        {},
        ["descripcion, rubro", "set data.title_column"],
    ),
    "JSON with categories that are objects": (
        {"x.json": json.dumps([{"title": "Mesa", "category": {"id": 7, "name": "A"}}] * 60)},
        {},
        ["'name': 'A'", "write the name instead of an object"],
    ),
    "bytes that are not text in parquet": (
        {"x.parquet": parquet(title=[b"caf\xe9"] * 60, category=["A"] * 60)},
        {},
        ["b'caf\\xe9'", "as UTF-8 text"],
    ),
    "the answer of an API": (
        {"x.json": json.dumps({"paging": 1, "results": [{"title": "Mesa", "category": "A"}]})},
        {},
        ["paging, results", '[{"title": "...", "category": "..."}, ...]'],
    ),
    "a header of nine megabytes": ({"x.csv": "x" * 9_000_000 + GOOD}, {}, ["raw/x.csv:1: "]),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gives_one_message_with_file_value_and_remedy(
    project: MakeProject, case: str
) -> None:
    files, changes, fragments = CASES[case]
    fails(project(files, **changes), *fragments)


# Remedies

BAD = 10


def bad_lines(**changed: Any) -> str:
    """Return good rows as JSON lines, followed by rows with changed values."""
    return jsonl() + (json.dumps({"title": "Mesa", "category": "A", **changed}) + "\n") * BAD


def table(line: str) -> str:
    """Return good rows as CSV, followed by some copies of a line."""
    return GOOD + line * BAD


# For each reason of the quarantine: content of a file, words of the remedy, and the content or the
# parameters of a user who follows the remedy.
FOLLOWED: dict[str, tuple[str | bytes, str, str | bytes | dict[str, Any]]] = {
    "not_json": (jsonl() + "{no\n" * BAD, "mend", jsonl()),
    "not_an_object": (jsonl() + '["Mesa", "A"]\n' * BAD, "an object", bad_lines()),
    "not_csv": (table('"TV 32" LED",A\n'), "double each quote", table('"TV 32"" LED",A\n')),
    "wrong_field_count": (table("Mesa, roja,A\n"), "quote fields", table('"Mesa, roja",A\n')),
    "open_quote": (
        table('"TV,A\nMesa,B\nMonitor 24",C\n'),
        "close or double the quote in the first of these lines",
        table('"TV",A\nMesa,B\nMonitor 24",C\n'),
    ),
    "not_utf8": (
        table("\x81Mesa,A\n").encode("latin-1"),
        "set data.encoding, for instance to latin-1",
        {"data__encoding": "latin-1"},
    ),
    "line_too_long": (table(f"Mesa{' ' * 2**20},A\n"), "break the line", table("Mesa,A\n")),
    "title_missing": (
        jsonl().replace("title", "name"),
        "set data.title_column",
        {"data__title_column": "name"},
    ),
    "title_not_text": (bad_lines(title=["Mesa"]), "one title in each cell", bad_lines()),
    "title_empty": (table(" ,A\n"), "fill in the titles", table("Mesa,A\n")),
    "title_too_long": (
        table(f"{'Mesa ' * 300},A\n"),
        "raise data.max_title_length",
        {"data__max_title_length": 2000},
    ),
    "category_not_text": (bad_lines(category=["A", "B"]), "one category in each cell", bad_lines()),
    "text_not_text": (
        bad_lines(marca=["Arauco"]),
        "one text or number in each cell",
        bad_lines(marca="Arauco"),
    ),
    "unknown_split": (
        bad_lines(split="left"),
        "set data.split_column to null",
        {"data__split_column": None},
    ),
    "unknown_label_quality": (
        bad_lines(label_quality="5"),
        "set data.label_quality_column to null",
        {"data__label_quality_column": None},
    ),
}


def test_every_reason_of_the_quarantine_is_tested_here() -> None:
    unlabelled = {"category_missing", "category_empty"}
    assert FOLLOWED.keys() == REMEDY_BY_REASON.keys() - unlabelled


@pytest.mark.parametrize("reason", FOLLOWED)
def test_the_remedy_for_a_quarantined_row_works(project: MakeProject, reason: str) -> None:
    content, remedy, followed = FOLLOWED[reason]
    name = "x.jsonl" if content[:1] in ("{", b"{") else "x.csv"
    columns = ["marca"] if reason == "text_not_text" else []
    made = project({name: content}, data__text_columns=columns)
    message = fails(made, f"\n  {reason} ", remedy, f"{name}:", "data/subset/quarantine.csv")
    assert "raise data.max_quarantined_share" in message
    assert set(made.quarantine["reason"]) == {reason}
    if len(made.quarantine) < 60:  # some rows can be used
        made.repair({}, {"data__max_quarantined_share": 0.5})
        assert f"({reason} " in succeeds(made)
        shutil.rmtree(made.folder / "data")
        made.repair({}, {"data__max_quarantined_share": 0.05})
    made.repair({} if isinstance(followed, dict) else {name: followed}, followed)
    assert "quarantined: 0" in succeeds(made)


def test_the_problem_of_each_row_is_described(project: MakeProject) -> None:
    made = project({"x.csv": GOOD + 'Mesa\nMesa,A,B,C\n,A\n"a"b,A\n'})
    fails(made, "4 of 64 rows")
    assert list(made.quarantine["problem"]) == [
        "1 field, and the header has 2",
        "4 fields, and the header has 2",
        "nothing visible in column 'title'",
        "not CSV (',' expected after '\"')",
    ]


# Unusual input that can be read


def test_a_few_unusable_rows_are_quarantined_with_file_line_and_reason(
    project: MakeProject,
) -> None:
    bad = {
        b"no json at all": "not_json",
        b'{"title": "  ", "category": "A"}': "title_empty",
        b'{"title": "' + b"a" * 1_000_000 + b'", "category": "A"}': "title_too_long",
        b'{"title": "ca\xf1a", "category": "A"}': "not_utf8",
        b'{"title": "ca\xf1a': "not_utf8",
    }
    reasons = list(bad.values())
    good = jsonl(99) + '{"title": "caña", "category": "A"}\n'
    content = good.encode() + b"\n".join(bad) + b"\n"
    made = project({"x.jsonl": content}, data__max_quarantined_share=0.05)
    assert "quarantined: 5" in succeeds(made)
    quarantine = made.quarantine
    assert list(quarantine["reason"]) == reasons
    assert list(quarantine["line"]) == list(range(101, 106))
    assert set(quarantine["file"]) == {"x.jsonl"}
    assert (made.folder / "data/subset/quarantine.csv").stat().st_size < 5000
    dropped = made.summary["dropped"]
    assert {reason: dropped[reason] for reason in reasons} == Counter(reasons)
    assert made.summary["rows"]["total"] == 100


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", jsonl(notes=["a", 5]).encode()),
        ("x.csv", b"title,category,notes\n" + BODY.replace("\n", ",ca\xf1a\n").encode("latin-1")),
    ],
)
def test_other_columns_may_hold_anything(project: MakeProject, name: str, content: bytes) -> None:
    made = project({name: content})
    succeeds(made)
    assert made.quarantine.empty
    assert made.summary["rows"]["total"] == 60


def test_exactly_the_allowed_share_of_unusable_rows_is_allowed(project: MakeProject) -> None:
    made = project({"x.jsonl": jsonl(75) + "x\n" * 25}, data__max_quarantined_share=0.25)
    succeeds(made)
    assert len(made.quarantine) == 25


def test_a_test_file_with_some_categories_is_read(project: MakeProject) -> None:
    content = '{"title": "a"}\n' * 2 + jsonl(20).replace("titulo", "otro")
    made = project({"train.jsonl": jsonl(60), "test.jsonl": content})
    assert "no column 'category'" not in succeeds(made)
    assert made.quarantine.empty
    assert len(made.split("test")) == 20
    assert list(made.split("unlabelled")["title"]) == ["a"]


def test_rows_without_a_category_stop_the_run_only_if_no_row_has_one(project: MakeProject) -> None:
    made = project({"x.csv": GOOD + "Mesa,\nSilla,\n" * 400})
    message = succeeds(made)
    assert "800 rows have no category: used as unlabelled titles (2 titles; dropped: 798" in message
    assert made.summary["unlabelled"]["titles"] == 2
    assert made.quarantine.empty
    assert list(made.split("unlabelled")["line"]) == [62, 63]
    made.repair({}, {"data__unlabelled": "ignore"})
    assert "800 rows have no category: left out" in succeeds(made)
    assert not (made.folder / "data/subset/unlabelled.parquet").exists()
    assert made.summary["dropped"]["category_empty"] == 800


def test_a_source_without_categories_is_an_error(project: MakeProject) -> None:
    made = project({"x.csv": HEADER + "Mesa,\n" * 60})
    fails(made, "none of 60 rows with a title has a category", "set data.category_column")
    made.repair({"x.csv": "title\n" + "Mesa\n" * 60}, {})
    fails(made, "no column 'category'", "set data.category_column", "data.unlabelled_path")


def test_the_same_input_writes_the_same_bytes_twice(project: MakeProject) -> None:
    made = project({"x.csv": GOOD})

    def contents() -> dict[str, bytes]:
        files = [*(made.folder / "data").rglob("*.*"), made.folder / "metrics/subset.json"]
        return {str(file): file.read_bytes() for file in files}

    succeeds(made)
    first = contents()
    assert len(first) == 7
    shutil.rmtree(made.folder / "data")
    succeeds(made)
    assert contents() == first


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_read_permission_is_an_error(project: MakeProject) -> None:
    made = project({"x.csv": GOOD})
    (made.raw / "x.csv").chmod(0)
    fails(made, "raw/x.csv: permission denied")


# Files from bug reports, and real catalogues, if they are available

REPORTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "reports"


def columns(title: str, category: str) -> dict[str, Any]:
    return {"data__title_column": title, "data__category_column": category}


REPORTED: dict[str, tuple[dict[str, Any], int, list[str]]] = {
    "semicolon/productos.csv": ({}, 400, ["separated by semicolon, cp1252 text"]),
    "splitnames/hf": ({}, 400, ["train 320, validation 40, test 40"]),
    "padded/productos.csv": ({}, 400, []),
    "numeric/ids.jsonl": ({}, 400, []),
    "extension/PRODUCTOS.CSV": ({}, 400, []),
    "extension/productos.json": ({}, 400, []),
    "dupheader/productos.csv": ({}, 400, []),
    "reserved/language2.csv": ({"subset__language": "spanish"}, 45, ["español 355; set subset."]),
    "exploded/productos.csv": ({}, 600, ["400 rows repeat", "200 titles have several categories"]),
    "trailing/rows.csv": ({}, 400, []),
    "tsvquote/productos.tsv": ({}, 400, []),
    "blankcat/productos.csv": ({}, 366, ["34 rows have no category", "used as unlabelled titles"]),
    "variants/shopify.csv": (columns("Title", "Type"), 400, ["800 rows dropped"]),
    "entities/productos.csv": ({}, 400, ["Home & Garden | Home &amp; Garden"]),
    "casecat/productos.csv": ({}, 400, ["15 names of 5 categories differ only in case"]),
    "scripts/hindi.csv": ({}, 400, []),
    "../shops/carrefour_ar.csv": (columns("nombre", "categoria"), 24_804, []),
    "../shops/mexico_stores.json": (columns("name", "category"), 3283, ["CARAMELO | Caramelo"]),
    "../shops/pricerunner.csv": (
        columns("Product Title", "Category Label"),
        35_096,
        ["CPUs | CPU", "title_empty 171", "43 rows have no category: left out"],
    ),
}


@pytest.mark.skipif(not REPORTS.is_dir(), reason="needs ../shared/data/reports")
@pytest.mark.parametrize("path", REPORTED)
def test_reported_files_are_read(project: MakeProject, path: str) -> None:
    changes, rows, notices = REPORTED[path]
    made = project({}, data__path=str(REPORTS / path), **changes)
    outcome = succeeds(made)
    assert made.summary["rows"]["total"] == rows
    for notice in notices:
        assert notice in outcome


@pytest.mark.skipif(not REPORTS.is_dir(), reason="needs ../shared/data/reports")
@pytest.mark.parametrize(
    ("path", "fragments"),
    [
        ("noheader/productos.csv", ["no header?", "title,category"]),
    ],
)
def test_reported_files_that_cannot_be_read_give_a_remedy(
    project: MakeProject, path: str, fragments: list[str]
) -> None:
    fails(project({}, data__path=str(REPORTS / path)), *fragments)


# The script itself


def test_the_script_runs_the_code_of_its_own_copy(project: MakeProject, project_root: Path) -> None:
    made = project({"spanish.train.jsonl.gz": gzip.compress(jsonl().encode())[:-20]})
    for name in ("stages", "src"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(project_root / name, made.folder / name, ignore=ignored)
    source = made.folder / "src" / "rubro" / "tables" / "streams.py"
    source.write_text(source.read_text().replace("truncated download", "copied message"))

    def run() -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "stages/subset.py"],
            check=False,
            cwd=made.folder,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        assert done.stdout == ""
        return done.returncode, done.stderr

    made.run = run
    archive = "raw/spanish.train.jsonl.gz"
    fails(made, f"{archive}: the gzip stream ends early (a copied message?)", "fetch it again")
    params = made.folder / "params.yaml"
    valid = params.read_text()
    params.write_text(valid + "sed: 1\n")
    fails(made, "params.yaml:", "sed: ", "'seed'")
    params.write_text(valid)
    (made.folder / archive).write_bytes(gzip.compress(jsonl().encode()))
    assert "3 categories" in succeeds(made)
    sizes = {name: len(made.split(name)) for name in ("train", "validation", "test")}
    assert made.summary["rows"] == {**sizes, "total": 60}
    assert min(sizes.values()) > 0
    labels = json.loads((made.folder / "data/subset/labels.json").read_text())
    assert labels == ["A", "B", "C"]
