"""The pipeline works with unusual settings of Git, DVC and Python."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

from support.tiny_project import (
    ROOT,
    STAGES,
    change_params,
    digests,
    outputs_of,
    run_here,
    run_in,
    stages_run,
)

pytest_plugins = ["support.tiny_project"]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")


@pytest.mark.slow
def test_git_line_ending_setting_does_not_change_bytes(first_project: Path, tmp_path: Path) -> None:
    unix, windows = tmp_path / "false", tmp_path / "true"
    for clone in (unix, windows):
        setting = f"core.autocrlf={clone.name}"
        run_in(
            tmp_path,
            *("git", "clone", "--quiet", "--config", setting),
            str(first_project),
            clone.name,
        )
        run_in(clone, "dvc", "cache", "dir", "--local", str(first_project / ".dvc" / "cache"))
    names = run_in(first_project, "git", "ls-files").stdout.splitlines()
    assert {"params.yaml", "dvc.lock", "data/sample/spanish.train.jsonl.gz"} <= set(names)
    assert digests(windows, *names) == digests(unix, *names)
    assert run_in(windows, "git", "status", "--porcelain").stdout == ""
    run_in(windows, "dvc", "checkout")
    assert "up to date" in run_in(windows, "dvc", "status").stdout


def damaged_objects(project: Path) -> list[Path]:
    """Return the files in DVC's cache whose MD5 differs from their name."""
    objects = [file for file in (project / ".dvc/cache/files/md5").glob("??/*") if file.is_file()]
    assert len(objects) > 40
    return [
        file
        for file in objects
        if hashlib.md5(file.read_bytes()).hexdigest()
        != f"{file.parent.name}{file.name.removesuffix('.dir')}"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("link", ["symlink", "hardlink"])
def test_stage_does_not_write_through_links_into_cache(project: Path, link: str) -> None:
    run_in(project, "dvc", "config", "cache.type", link)
    run_in(project, "dvc", "checkout", "--relink")
    weights = project / "models" / "mlp" / "mlp.safetensors"
    assert weights.is_symlink() if link == "symlink" else weights.stat().st_nlink > 1
    expected = digests(project, *outputs_of(*STAGES))
    change_params(project, top_categories=11)
    for stage in STAGES:
        assert run_here(project, stage)[0] == 0
    found = digests(project, *outputs_of(*STAGES))
    assert found.keys() == expected.keys()
    for folder in ("data/subset", "data/features", "models/embedding", "models/ensemble"):
        assert any(found[file] != expected[file] for file in found if file.startswith(folder))
    assert damaged_objects(project) == []
    run_in(project, "git", "checkout", "--quiet", "--", "metrics", "params.yaml")
    run_in(project, "dvc", "checkout", "--force")
    assert digests(project, *outputs_of(*STAGES)) == expected
    assert "up to date" in run_in(project, "dvc", "status").stdout


@pytest.mark.slow
def test_stages_run_with_safe_path_of_python(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    for stage in STAGES:
        run_in(project, "python", f"stages/{stage}.py", "--help")
    done = run_in(project, "dvc", "repro", "--force", "--single-item", "subset")
    assert stages_run(done) == ["subset"]


@pytest.mark.slow
def test_column_names_with_accents_spaces_and_quotes_reach_stages(project: Path) -> None:
    columns = {"title_column": "el título", "category_column": "categoría, \"rubro\" {y} $más 'x'"}
    with open(project / "own.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(columns.values())
        rows.writerows([f"{word} {n}", word] for word in ("mesa", "silla") for n in range(50))
    preset = {"data": {"path": "own.csv", **columns}, "subset": {"language": None}}
    (project / "own.yaml").write_text(json.dumps(preset))
    script = 'eval "dvc exp run $(rubro overrides own.yaml) --single-item subset"'
    assert stages_run(run_in(project, "sh", "-c", script)) == ["subset"]
    source = json.loads((project / "data" / "subset" / "source.json").read_text())
    assert {key: source[key] for key in columns} == columns
    assert json.loads((project / "metrics" / "subset.json").read_text())["classes"] == 2


def test_documented_quoting_of_column_with_accent_is_accepted(project: Path) -> None:
    setting = "data.category_column='categoría'"
    done = run_in(project, "dvc", "exp", "run", "--queue", "--set-param", setting)
    assert "Queued experiment" in done.stdout
    for page in ("README.md", "README.es.md", "docs/data.md"):
        assert f'-S "{setting}"' in (ROOT / page).read_text("utf-8"), page
