"""Git and DVC with other settings than the default ones."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

from support.tiny_project import ROOT, STAGES, digests, outputs_of, run_here, run_in, stages_run

pytest_plugins = ["support.tiny_project"]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")


@pytest.mark.slow
def test_a_clone_with_other_ends_of_lines_has_the_same_bytes(
    first_project: Path, tmp_path: Path
) -> None:
    for folder in ("one", "other"):
        autocrlf = f"core.autocrlf={'true' if folder == 'other' else 'false'}"
        clone = ("git", "clone", "--quiet", "--config", autocrlf, str(first_project), folder)
        run_in(tmp_path, *clone)
    names = run_in(first_project, "git", "ls-files").stdout.splitlines()
    assert {"params.yaml", "dvc.lock", "data/sample/spanish.train.jsonl.gz"} <= set(names)
    assert digests(tmp_path / "other", *names) == digests(tmp_path / "one", *names)
    assert run_in(tmp_path / "other", "git", "status", "--porcelain").stdout == ""
    cache = str(first_project / ".dvc" / "cache")
    for folder in ("one", "other"):
        run_in(tmp_path / folder, "dvc", "cache", "dir", "--local", cache)
    run_in(tmp_path / "other", "dvc", "checkout")
    status = run_in(tmp_path / "other", "dvc", "status").stdout
    assert "up to date" in status, status


def damaged_objects(project: Path) -> list[Path]:
    """Return the files of DVC's cache whose hash is not their name."""
    files = project / ".dvc" / "cache" / "files" / "md5"
    objects = [file for file in files.glob("??/*") if file.is_file()]
    assert len(objects) > 40
    return [
        file
        for file in objects
        if hashlib.md5(file.read_bytes()).hexdigest()
        != f"{file.parent.name}{file.name.removesuffix('.dir')}"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("link", ["symlink", "hardlink"])
def test_a_stage_run_by_hand_never_writes_into_a_cache_that_outputs_are_linked_to(
    project: Path, link: str
) -> None:
    run_in(project, "dvc", "config", "cache.type", link)
    run_in(project, "dvc", "checkout", "--relink")
    weights = project / "models" / "mlp" / "mlp.safetensors"
    assert weights.is_symlink() if link == "symlink" else weights.stat().st_nlink > 1
    wanted = digests(project, *outputs_of(*STAGES))
    params = project / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("top_categories: 12", "top_categories: 11"))
    assert params.read_text() != before
    for stage in STAGES:
        assert run_here(project, stage)[0] == 0
    found = digests(project, *outputs_of(*STAGES))
    assert found.keys() == wanted.keys()
    for folder in ("data/subset", "data/features", "models/embedding", "models/ensemble"):
        assert any(found[file] != wanted[file] for file in found if file.startswith(folder))
    assert damaged_objects(project) == []
    params.write_text(before)
    run_in(project, "git", "checkout", "--quiet", "--", "metrics")
    run_in(project, "dvc", "checkout", "--force")
    assert digests(project, *outputs_of(*STAGES)) == wanted
    assert "up to date" in run_in(project, "dvc", "status").stdout


@pytest.mark.slow
def test_stages_run_where_python_does_not_look_in_their_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    for stage in STAGES:
        run_in(project, "python", f"stages/{stage}.py", "--help")
    assert stages_run(run_in(project, "dvc", "repro", "--force", "--single-item", "subset")) == [
        "subset"
    ]


@pytest.mark.slow
def test_names_with_accents_blanks_and_quotes_reach_the_stages(project: Path) -> None:
    columns = {"title_column": "el título", "category_column": "categoría, \"rubro\" {y} $más 'x'"}
    with open(project / "own.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(columns.values())
        rows.writerows([f"{word} {n}", word] for word in ("mesa", "silla") for n in range(50))
    preset = {"data": {"path": "own.csv", **columns}, "subset": {"language": None}}
    (project / "own.yaml").write_text(json.dumps(preset))
    done = run_in(
        project, "sh", "-c", 'eval "dvc exp run $(rubro overrides own.yaml) --single-item subset"'
    )
    assert stages_run(done) == ["subset"]
    source = json.loads((project / "data" / "subset" / "source.json").read_text())
    assert {key: source[key] for key in columns} == columns
    summary = json.loads((project / "metrics" / "subset.json").read_text())
    assert summary["classes"] == 2


def test_a_column_with_an_accent_is_quoted_twice(project: Path) -> None:
    wanted = "data.category_column='categoría'"
    done = run_in(project, "dvc", "exp", "run", "--queue", "--set-param", wanted)
    assert "Queued experiment" in done.stdout
    pages = ["README.md", "README.es.md", "docs/data.md"]
    assert all(f'-S "{wanted}"' in (ROOT / page).read_text("utf-8") for page in pages)
