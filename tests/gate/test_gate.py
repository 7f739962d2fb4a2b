"""`rubro gate`: metrics beside those of a Git revision, in real histories."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from rubro.cli import app
from rubro.gate.verdicts import MIN_TOLERANCE, Verdict, changes_between, numbers_in
from support.tiny_project import ROOT, environment, run_in

NOISE = Path("benchmarks/results/noise.json")
METRICS = Path("metrics")
DEVIATION, FACTOR = 0.002, 6.5  # of test.cnn.accuracy; other metrics have none
NAME = "evaluate.test.cnn.accuracy"
ACCURACY = json.loads((ROOT / "metrics/evaluate.json").read_text())["test"]["cnn"]["accuracy"]
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's metrics, params and dvc.lock on the branch main of a repository of their own.

    The branch topic is checked out, with the same files.
    """
    folder = tmp_path_factory.mktemp("template")
    (folder / NOISE.parent).mkdir(parents=True)
    (folder / METRICS).mkdir()
    for file in (ROOT / METRICS).glob("*.json"):
        shutil.copy(file, folder / METRICS)
    for name in ("params.yaml", "dvc.lock"):
        shutil.copy(ROOT / name, folder)
    run_as_the_lock_did(folder)
    deviations = dict.fromkeys(committed_metrics(), 0.0) | {NAME: DEVIATION}
    noise = {"seeds": 5, "data": "data/sample", "factor": FACTOR, "deviations": deviations}
    (folder / NOISE).write_text(json.dumps(noise))
    run_in(folder, "git", "init", "--quiet", "--initial-branch", "main")
    commit(folder, "main")
    run_in(folder, "git", "switch", "--quiet", "--create", "topic")
    return folder


@pytest.fixture
def repository(template: Path, tmp_path: Path) -> Path:
    """A copy of the repository, for one test."""
    return Path(shutil.copytree(template, tmp_path / "repository"))


def committed_metrics() -> dict[str, float]:
    """Every number in the project's metrics, by name."""
    return {
        name: value
        for file in (ROOT / METRICS).glob("*.json")
        for name, value in numbers_in(json.loads(file.read_text()), file.stem)
    }


def run_as_the_lock_did(folder: Path) -> None:
    """Write the params into dvc.lock: it may be of an earlier commit."""
    yaml = YAML()
    params, lock = yaml.load(folder / "params.yaml"), yaml.load(folder / "dvc.lock")
    for stage in lock["stages"].values():
        ran = stage["params"]["params.yaml"]
        ran.update({key: params[key] for key in ran})
    yaml.dump(lock, folder / "dvc.lock")


def commit(folder: Path, message: str) -> None:
    run_in(folder, "git", "add", "--all")
    run_in(folder, "git", "commit", "--quiet", "--message", message)


def edit(folder: Path, file: str, change: Edit) -> None:
    """Change a file of metrics."""
    path = folder / METRICS / f"{file}.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def shift(difference: float) -> Edit:
    """A change of the accuracy of the CNN on test."""

    def change(values: dict[str, Any]) -> None:
        values["test"]["cnn"]["accuracy"] += difference

    return change


def gate(folder: Path, *options: str) -> tuple[int, str]:
    """The exit code and the output, errors included, without the start of a process."""
    with chdir(folder):
        result = CliRunner().invoke(app, ["gate", *options])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.exit_code, result.output


def rows(output: str) -> dict[str, list[str]]:
    """The rows of the table in the terminal, by name of the metric."""
    found = re.findall(
        rf"^({'|'.join(Verdict)}) +(\S+) +(\S+) +(\S+) +(\S+) +(\S+) *$", output, re.MULTILINE
    )
    return {name: [verdict, *numbers] for verdict, name, *numbers in found}


# Verdicts


def test_the_same_metrics_pass(repository: Path) -> None:
    code, output = gate(repository)
    head = run_in(repository, "git", "rev-parse", "--short=7", "HEAD").stdout.strip()
    assert code == 0
    assert output.splitlines() == [
        f"working tree beside the merge base with main ({head})",
        "pass: nothing changed by more than the noise of seeds",
    ]


@pytest.mark.parametrize(
    ("difference", "code", "verdict"),
    [
        (-FACTOR * DEVIATION - 0.0001, 1, "worse"),
        (-FACTOR * DEVIATION + 0.0001, 0, "within noise"),
        (FACTOR * DEVIATION - 0.0001, 0, "within noise"),
        (FACTOR * DEVIATION + 0.0001, 0, "better"),
    ],
)
def test_a_change_is_judged_by_the_noise(
    repository: Path, difference: float, code: int, verdict: str
) -> None:
    edit(repository, "evaluate", shift(difference))
    commit(repository, "a change")
    found, output = gate(repository, "--all")
    assert found == code
    ((name, cells),) = rows(output).items()
    assert name == NAME
    assert (cells[0], cells[3], cells[4]) == (verdict, f"{difference:+.4f}", "0.0130")


def test_what_is_within_noise_is_counted_and_listed_on_demand(repository: Path) -> None:
    edit(repository, "evaluate", shift(-0.001))
    _, output = gate(repository)
    assert rows(output) == {}
    assert "1 within noise: --all lists them\n" in output


def test_a_loss_is_worse_when_it_rises(repository: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        values["test"]["svm"]["loss"] += 0.1
        values["test"]["mlp"]["loss"] -= 0.1

    edit(repository, "evaluate", change)
    code, output = gate(repository)
    assert code == 1
    assert {name: cells[0] for name, cells in rows(output).items()} == {
        "evaluate.test.svm.loss": "worse",
        "evaluate.test.mlp.loss": "better",
    }
    assert output.endswith("fail: 1 worse, 1 better\n")


def test_counts_and_sizes_are_reported_not_judged(repository: Path) -> None:
    edit(repository, "train_cnn", lambda values: values.update(parameters=3, model_megabytes=900.5))
    code, output = gate(repository, "--all")
    assert code == 0
    assert {cells[0] for cells in rows(output).values()} == {"not judged"}
    assert rows(output)["train_cnn.model_megabytes"][2] == "900.5"


def test_every_model_is_judged_on_both_splits() -> None:
    before = {
        name: value
        for name, value in committed_metrics().items()
        if name.startswith("evaluate.") and ".differences." not in name
    }
    now = {name: value + 1 for name, value in before.items()}
    verdicts = {change.name: change.verdict for change in changes_between(before, now, {})}
    assert len(verdicts) == len(before)
    for name, verdict in verdicts.items():
        figure = name.rpartition(".")[2]
        if figure in ("loss", "ece"):
            assert verdict == Verdict.worse, name
        elif figure.endswith(("accuracy", "f1")):
            assert verdict == Verdict.better, name
        else:
            assert verdict == Verdict.unjudged, name


def test_a_deviation_of_zero_leaves_the_least_tolerance() -> None:
    before = {NAME: 0.9}
    for now, verdict in ((0.898, Verdict.noise), (0.8979, Verdict.worse)):
        (change,) = changes_between(before, {NAME: now}, {NAME: 0.0})
        assert (change.verdict, change.tolerance) == (verdict, MIN_TOLERANCE)


def test_a_removed_metric_fails_and_a_new_one_passes(repository: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        values["test"]["cnn"]["top9_accuracy"] = values["test"]["cnn"].pop("accuracy")

    edit(repository, "evaluate", change)
    code, output = gate(repository)
    assert code == 1
    assert output.endswith("fail: 1 missing, 1 new\n")
    assert {name: (cells[0], cells[2]) for name, cells in rows(output).items()} == {
        NAME: ("missing", "-"),
        "evaluate.test.cnn.top9_accuracy": ("new", f"{ACCURACY:.4f}"),
    }
    edit(repository, "evaluate", lambda values: values["test"]["cnn"].update(accuracy=ACCURACY))
    code, output = gate(repository)
    assert code == 0
    assert output.endswith("pass: 1 new\n")


def test_a_removed_file_is_many_missing_metrics(repository: Path) -> None:
    (repository / METRICS / "featurize.json").unlink()
    code, output = gate(repository)
    assert code == 1
    assert set(rows(output)) == {
        f"featurize.{key}" for key in json.loads((ROOT / METRICS / "featurize.json").read_text())
    }


def test_null_in_the_place_of_a_number_is_missing(repository: Path) -> None:
    edit(repository, "evaluate", lambda values: values["test"]["cnn"].update(accuracy=None))
    code, output = gate(repository)
    assert code == 1
    assert rows(output)[NAME][0] == "missing"


# Params and stages


def test_params_and_what_reran_are_told(repository: Path) -> None:
    yaml = YAML()
    params = yaml.load(repository / "params.yaml")
    params["train_cnn"]["filters"] = 64
    yaml.dump(params, repository / "params.yaml")
    _, output = gate(repository)
    assert "param  train_cnn.filters: 128 → 64\n" in output
    assert "reran" not in output
    assert "note   params.yaml changed since dvc.lock was written: `dvc repro` first\n" in output
    run_as_the_lock_did(repository)
    lock = yaml.load(repository / "dvc.lock")
    for stage in ("ensemble", "evaluate"):
        for dep in lock["stages"][stage]["deps"]:
            if dep["path"] == "models/cnn":
                dep["md5"] = "0" * 32
    yaml.dump(lock, repository / "dvc.lock")
    commit(repository, "64 filters")
    code, output = gate(repository)
    assert code == 0
    reran = {line for line in output.splitlines() if line.startswith("reran")}
    assert reran == {"reran  train_cnn: train_cnn", "reran  ensemble", "reran  evaluate"}
    assert "note" not in output


def test_other_titles_are_noted(repository: Path) -> None:
    lock = repository / "dvc.lock"
    text = lock.read_text()
    md5 = YAML(typ="safe").load(text)["stages"]["subset"]["outs"][0]["md5"]
    lock.write_text(text.replace(md5, "0" * 32 + ".dir"))
    assert "note   data/subset differs: the metrics are of other titles\n" in gate(repository)[1]


def test_noise_of_other_data_is_noted(repository: Path) -> None:
    path = repository / "params.yaml"
    path.write_text(path.read_text().replace("data/sample", "data/mine"))
    assert f"note   {NOISE} is of data/sample: `make noise` measures" in gate(repository)[1]


def test_a_metric_without_measured_noise_is_noted(repository: Path) -> None:
    path = repository / NOISE
    noise = json.loads(path.read_text())
    del noise["deviations"][NAME]
    path.write_text(json.dumps(noise))
    assert "note" not in gate(repository)[1]
    edit(repository, "evaluate", shift(-0.001))
    assert f"note   {NOISE} lacks some of these metrics: `make noise`" in gate(repository)[1]


# Histories


def test_the_merge_base_counts_not_the_tip_of_main(repository: Path) -> None:
    run_in(repository, "git", "switch", "--quiet", "main")
    edit(repository, "evaluate", shift(0.04))
    commit(repository, "better, on main alone")
    run_in(repository, "git", "switch", "--quiet", "topic")
    assert gate(repository)[0] == 0
    code, output = gate(repository, "main")
    assert code == 1
    assert rows(output)[NAME][0] == "worse"


def test_main_of_the_origin_goes_before_the_local_one(repository: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run_in(tmp_path, "git", "clone", "--quiet", "--branch", "main", str(repository), str(clone))
    edit(clone, "evaluate", shift(-0.1))
    commit(clone, "worse, on the clone's main")
    code, output = gate(clone)
    assert code == 1
    assert "the merge base with origin/topic (" in output  # the branch checked out in the origin


def test_changes_that_are_not_committed_count_and_are_noted(repository: Path) -> None:
    edit(repository, "evaluate", shift(-0.1))
    code, output = gate(repository, "HEAD")
    assert code == 1
    assert "note   metrics, dvc.lock or params.yaml have changes that are not committed" in output


def test_a_first_commit_has_nothing_to_lose(repository: Path) -> None:
    run_in(repository, "git", "switch", "--quiet", "--orphan", "other")
    (repository / NOISE.parent).mkdir(parents=True)
    run_in(repository, "git", "checkout", "--quiet", "main", "--", str(NOISE), "params.yaml")
    run_in(repository, "git", "commit", "--quiet", "--message", "no metrics yet")
    run_in(repository, "git", "branch", "--force", "main", "other")
    code, output = gate(repository)
    assert code == 2
    assert output.startswith("error: metrics: no metrics here or in the merge base with main")
    run_in(repository, "git", "checkout", "--quiet", "topic", "--", ".")
    code, output = gate(repository)
    assert code == 0
    assert {cells[0] for cells in rows(output).values()} == {"new"}
    assert "has no metrics: all are new" in output


def test_a_repository_without_a_commit_is_an_error(tmp_path: Path) -> None:
    run_in(tmp_path, "git", "init", "--quiet")
    assert gate(tmp_path) == (
        2,
        "error: no commit here to compare with; `git status` tells why\n",
    )


def test_a_shallow_clone_compares_with_what_it_has(repository: Path, tmp_path: Path) -> None:
    edit(repository, "evaluate", shift(-0.1))
    commit(repository, "worse")
    clone = tmp_path / "clone"
    origin = repository.as_uri()
    run_in(tmp_path, "git", "clone", "--quiet", "--depth", "1", origin, str(clone))
    code, output = gate(clone, "HEAD~1")
    assert code == 2
    assert output.startswith("error: HEAD~1: no such commit here; ")
    run_in(clone, "git", "fetch", "--quiet", "--depth", "1", "origin", "main")
    code, output = gate(clone, "FETCH_HEAD")
    assert code == 1
    assert rows(output)[NAME][0] == "worse"


def test_a_shallow_clone_without_a_common_commit_says_so(repository: Path, tmp_path: Path) -> None:
    run_in(repository, "git", "switch", "--quiet", "main")
    edit(repository, "evaluate", shift(0.04))
    commit(repository, "better")
    run_in(repository, "git", "switch", "--quiet", "topic")
    edit(repository, "evaluate", shift(-0.1))
    commit(repository, "worse")
    clone = tmp_path / "clone"
    options = "--depth", "1", "--no-single-branch", "--branch", "topic"
    run_in(tmp_path, "git", "clone", "--quiet", *options, repository.as_uri(), str(clone))
    run_in(clone, "git", "remote", "set-head", "origin", "main")
    code, output = gate(clone)
    assert code == 2
    assert "no common commit with origin/main, perhaps as the clone is shallow" in output
    run_in(clone, "git", "fetch", "--quiet", "--unshallow")
    assert gate(clone)[0] == 1


def test_a_clone_without_a_main_branch_asks_for_a_revision(repository: Path) -> None:
    run_in(repository, "git", "branch", "--quiet", "--delete", "--force", "main")
    code, output = gate(repository)
    assert code == 2
    assert "name a revision: rubro gate REV" in output
    assert gate(repository, "HEAD")[0] == 0


def test_it_runs_in_a_folder_of_a_larger_repository(repository: Path, tmp_path: Path) -> None:
    larger = tmp_path / "larger"
    shutil.copytree(repository, larger / "rubro", ignore=shutil.ignore_patterns(".git"))
    run_in(larger, "git", "init", "--quiet", "--initial-branch", "main")
    commit(larger, "all")
    assert gate(larger / "rubro")[0] == 0
    edit(larger / "rubro", "evaluate", shift(-0.1))
    assert gate(larger / "rubro")[0] == 1


# Errors


@pytest.mark.parametrize("revision", ["nowhere", "HEAD:params.yaml", "..", "-x^"])
def test_an_unknown_revision_is_an_error(repository: Path, revision: str) -> None:
    code, output = gate(repository, "--", revision)
    assert code == 2
    assert output.startswith(f"error: {revision}: no such commit here; ")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics/evaluate.json", '{"test": ', "metrics/evaluate.json: Expecting value"),
        ("metrics/evaluate.json", '{"test": NaN}', "metrics/evaluate.json: NaN is no number"),
        ("metrics/evaluate.json", "", "metrics/evaluate.json: Expecting value"),
        ("dvc.lock", "<<<<<<< HEAD\n- a: [\n", "dvc.lock: "),
        ("params.yaml", "a: [", "params.yaml: "),
        (str(NOISE), "[1]", f"{NOISE}: not as `make noise` writes it"),
        (str(NOISE), '{"data": "", "factor": "2", "deviations": {"a": 1.5}}', f"{NOISE}: not as"),
    ],
)
def test_a_damaged_file_is_named(repository: Path, file: str, content: str, message: str) -> None:
    (repository / file).write_text(content)
    code, output = gate(repository)
    assert code == 2
    assert output.startswith(f"error: {message}")
    assert len(output.splitlines()) == 1


def test_no_noise_is_an_error_that_names_its_remedy(repository: Path) -> None:
    (repository / NOISE).unlink()
    assert gate(repository) == (2, f"error: {NOISE}: no such file; `make noise` writes it\n")


def test_without_dvc_lock_metrics_are_compared_all_the_same(repository: Path) -> None:
    (repository / "dvc.lock").unlink()
    edit(repository, "evaluate", shift(-0.1))
    assert gate(repository)[0] == 1


# Markdown


def test_markdown_folds_what_is_no_finding(repository: Path) -> None:
    edit(repository, "evaluate", shift(-0.1))
    edit(repository, "train_cnn", lambda values: values.update(parameters=3))
    path = repository / "params.yaml"
    path.write_text(path.read_text().replace("cosine", "a|b`c"))
    code, output = gate(repository, "--markdown")
    assert code == 1
    open_part, _, folded = output.partition("<details>")
    assert open_part.startswith("### rubro gate: fail: 1 worse\n")
    numbers = f"{ACCURACY:.4f} | {ACCURACY - 0.1:.4f} | -0.1000 | 0.0130"
    assert f"| **worse** | `{NAME}` | {numbers} |\n" in open_part
    folded, _, rest = folded.partition("</details>")
    assert folded.startswith("<summary>1 not judged</summary>\n\n| verdict |")
    assert "`train_cnn.parameters` | 31,673,584 | 3 |" in folded
    assert '| `networks.schedule` | `"cosine"` | `"a\\|b\'c"` |\n' in rest
    for table in re.findall(r"(?:^\|.*\n)+", output, re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(counts) == 1


def test_the_command_prints_to_standard_output_and_fails(repository: Path) -> None:
    edit(repository, "evaluate", shift(-0.1))
    done = run_in(repository, "rubro", "gate", ok=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert rows(done.stdout)[NAME][0] == "worse"
    (repository / NOISE).unlink()
    done = run_in(repository, "rubro", "gate", "--markdown", ok=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


# In CI


@pytest.fixture
def step(repository: Path, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Function that runs a step of the workflow in a checkout like that of a pull request.

    In the place of gh is a script that leaves its arguments in the file `called`.
    """
    edit(repository, "evaluate", shift(-0.1))
    commit(repository, "worse")
    run_in(repository, "git", "switch", "--quiet", "--detach", "main")
    run_in(repository, "git", "merge", "--quiet", "--no-ff", "--message", "merged", "topic")
    checkout = tmp_path / "checkout"
    depth = "--depth", "2"
    run_in(tmp_path, "git", "clone", "--quiet", *depth, repository.as_uri(), str(checkout))
    (tmp_path / "bin").mkdir()
    gh = tmp_path / "bin" / "gh"
    gh.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\" > called\n")
    gh.chmod(0o755)
    variables = environment() | {"GITHUB_STEP_SUMMARY": "summary.md", "NUMBER": "7"}
    variables["PATH"] = f"{gh.parent}{os.pathsep}{variables['PATH']}"
    workflow = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "ci.yml")
    scripts = {of.get("name"): of.get("run") for of in workflow["jobs"]["gate"]["steps"]}

    def run(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-e", "-c", scripts[name]],
            cwd=checkout,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_workflow_fails_and_leaves_summary_and_comment(
    step: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    assert step("Compare").returncode == 1
    assert (checkout / "summary.md").read_text().startswith("### rubro gate: fail: 1 worse\n")
    assert step("Comment").returncode == 0
    words = "pr comment 7 --edit-last --create-if-none --body-file gate.md"
    assert (checkout / "called").read_text().split() == words.split()
    assert (checkout / "gate.md").read_text() == (checkout / "summary.md").read_text()


def test_the_workflow_comments_nothing_after_an_error(
    step: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    (checkout / NOISE).unlink()
    done = step("Compare")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert step("Comment").returncode == 0
    assert not (checkout / "called").exists()


# The noise


def test_the_committed_noise_covers_every_judged_metric() -> None:
    noise = json.loads((ROOT / NOISE).read_text())
    assert noise["seeds"] >= 5
    before = committed_metrics()
    now = {name: value + 1 for name, value in before.items()}
    judged = {change.name for change in changes_between(before, now, {}) if change.tolerance}
    assert judged <= noise["deviations"].keys()
