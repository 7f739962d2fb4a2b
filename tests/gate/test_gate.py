"""Tests of `rubro gate` on real Git histories."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import chdir
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from ruamel.yaml import YAML
from typer.testing import CliRunner

from rubro.base.console import printable
from rubro.cli import app
from rubro.experiments.dvc_experiments import numbers_in
from rubro.gate.metric_changes import (
    MIN_TOLERANCE,
    Change,
    Comparison,
    Verdict,
    changes_between,
)
from rubro.gate.report import format_markdown
from support.category_runs import cache_subset
from support.tiny_project import ROOT, commit, environment, run_in

NOISE = Path("benchmarks/results/noise.json")
METRICS = Path("metrics")
DEVIATION, FACTOR = 0.002, 6.5  # of test.cnn.accuracy; the other metrics have no deviation
NAME = "evaluate.test.cnn.accuracy"
ACCURACY = json.loads((ROOT / "metrics/evaluate.json").read_text())["test"]["cnn"]["accuracy"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the project's metrics, parameters and dvc.lock on the branch main.

    The branch topic, which has the same files, is checked out.
    """
    folder = tmp_path_factory.mktemp("template")
    (folder / NOISE.parent).mkdir(parents=True)
    (folder / METRICS).mkdir()
    for file in (ROOT / METRICS).glob("*.json"):
        shutil.copy(file, folder / METRICS)
    for name in ("params.yaml", "dvc.lock"):
        shutil.copy(ROOT / name, folder)
    write_params_to_lock(folder)
    deviations = dict.fromkeys(committed_metrics(), 0.0) | {NAME: DEVIATION}
    noise = {"seeds": 5, "data": "data/sample", "factor": FACTOR, "deviations": deviations}
    (folder / NOISE).write_text(json.dumps(noise))
    run_in(folder, "git", "init", "--quiet", "--initial-branch", "main")
    commit(folder, "change")
    run_in(folder, "git", "switch", "--quiet", "--create", "topic")
    return folder


@pytest.fixture
def repository(template: Path, tmp_path: Path) -> Path:
    """A copy of the repository, for one test."""
    return Path(shutil.copytree(template, tmp_path / "repository"))


def committed_metrics() -> dict[str, float]:
    """Return every number in the project's metrics, by name."""
    files = (ROOT / METRICS).glob("*.json")
    return numbers_in({file.stem: json.loads(file.read_text()) for file in files})


def write_params_to_lock(folder: Path) -> None:
    """Write the parameters into dvc.lock, which may come from an earlier commit."""
    yaml = YAML()
    params, lock = yaml.load(folder / "params.yaml"), yaml.load(folder / "dvc.lock")
    for stage in lock["stages"].values():
        ran = stage["params"]["params.yaml"]
        ran.update({key: reduce(getitem, key.split("."), params) for key in ran})
    yaml.dump(lock, folder / "dvc.lock")


def edit(folder: Path, file: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a metrics file."""
    path = folder / METRICS / f"{file}.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def shift_accuracy(folder: Path, difference: float) -> None:
    """Change the accuracy of the CNN on the test titles."""
    changed = {"accuracy": ACCURACY + difference}
    edit(folder, "evaluate", lambda values: values["test"]["cnn"].update(changed))


def replace(folder: Path, file: str, pattern: str, replacement: str) -> None:
    """Replace the first match of a pattern in a file."""
    text, count = re.subn(pattern, replacement, (folder / file).read_text(), count=1)
    assert count
    (folder / file).write_text(text)


def gate(folder: Path, *options: str) -> tuple[int, str]:
    """Run the command in this process; return its exit code and its output, including errors."""
    with chdir(folder):
        result = CliRunner().invoke(app, ["gate", *options])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.exit_code, result.output


def rows(output: str) -> dict[str, list[str]]:
    """Return the rows of the table for the terminal, by name of the metric."""
    found = re.findall(
        rf"^({'|'.join(Verdict)}) +(\S+) +(\S+) +(\S+) +(\S+) +(\S+) *$", output, re.MULTILINE
    )
    return {name: [verdict, *numbers] for verdict, name, *numbers in found}


# Verdicts


def test_equal_metrics_pass(repository: Path) -> None:
    code, output = gate(repository)
    head = run_in(repository, "git", "rev-parse", "--short=7", "HEAD").stdout.strip()
    revision, conclusion = output.splitlines()
    assert code == 0
    assert revision.endswith(f"the merge base with main ({head})")
    assert conclusion.startswith("pass: ")


@pytest.mark.parametrize(
    ("difference", "code", "verdict"),
    [
        (-FACTOR * DEVIATION - 0.0001, 1, "worse"),
        (-FACTOR * DEVIATION + 0.0001, 0, "within noise"),
        (FACTOR * DEVIATION - 0.0001, 0, "within noise"),
        (FACTOR * DEVIATION + 0.0001, 0, "better"),
    ],
)
def test_changes_are_compared_with_the_noise(
    repository: Path, difference: float, code: int, verdict: str
) -> None:
    shift_accuracy(repository, difference)
    commit(repository, "change")
    found, output = gate(repository, "--all")
    assert found == code
    ((name, cells),) = rows(output).items()
    assert name == NAME
    assert (cells[0], cells[3], cells[4]) == (verdict, f"{difference:+.4f}", "0.0130")
    _, output = gate(repository)
    is_noise = verdict == "within noise"
    assert (rows(output) == {}) == is_noise == ("1 within noise: --all" in output)


def test_counts_and_sizes_are_listed_but_not_judged(repository: Path) -> None:
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
    changes = changes_between(before, now, {}, "accuracy")
    assert len(changes) == len(before)
    for change in changes:
        metric = change.name.rpartition(".")[2]
        if metric in ("loss", "ece", "top3_ece"):
            assert change.verdict == Verdict.worse, change
        elif metric.endswith(("accuracy", "f1")):
            assert change.verdict == Verdict.better, change
        else:
            assert change.verdict == Verdict.unjudged, change


def test_a_deviation_of_zero_still_has_a_tolerance() -> None:
    for now, verdict in ((0.898, Verdict.noise), (0.8979, Verdict.worse)):
        (change,) = changes_between({NAME: 0.9}, {NAME: now}, {NAME: 0.0}, "accuracy")
        assert (change.verdict, change.tolerance) == (verdict, MIN_TOLERANCE)


def test_metrics_of_the_objective_come_first_among_equal_verdicts() -> None:
    names = ["accuracy", "balanced_accuracy", "macro_f1"]
    before = {
        f"evaluate.{split}.mlp.{name}": 0.5 for split in ("test", "validation") for name in names
    }
    now = {name: 0.9 if name.startswith("evaluate.test.") else 0.1 for name in before}
    for objective in names:
        found = [change.name for change in changes_between(before, now, {}, objective)]
        others = [name for name in names if name != objective]
        assert found == [
            f"evaluate.{split}.mlp.{name}"
            for split in ("validation", "test")  # worse first
            for name in (objective, *others)
        ]


@pytest.mark.parametrize("objective", ["accuracy", "macro_f1"])
def test_the_report_begins_with_the_objective_of_params_yaml(
    repository: Path, objective: str
) -> None:
    replace(repository, "params.yaml", "(?m)^objective: .*", f"objective: {objective}")
    names = ["accuracy", "balanced_accuracy", "macro_f1"]
    changed = dict.fromkeys(names, 0.1)
    edit(repository, "evaluate", lambda values: values["test"]["cnn"].update(changed))
    assert next(iter(rows(gate(repository)[1]))) == f"evaluate.test.cnn.{objective}"


def test_a_removed_metric_fails_and_a_new_one_passes(repository: Path) -> None:
    def rename(values: dict[str, Any]) -> None:
        values["test"]["cnn"]["top9_accuracy"] = values["test"]["cnn"].pop("accuracy")

    edit(repository, "evaluate", rename)
    code, output = gate(repository)
    assert code == 1
    assert output.endswith("fail: 1 missing, 1 new\n")
    assert {name: (cells[0], cells[2]) for name, cells in rows(output).items()} == {
        NAME: ("missing", "-"),
        "evaluate.test.cnn.top9_accuracy": ("new", f"{ACCURACY:.4f}"),
    }
    shift_accuracy(repository, 0)
    code, output = gate(repository)
    assert code == 0
    assert output.endswith("pass: 1 new\n")


def test_removed_files_and_null_are_missing_metrics(repository: Path) -> None:
    (repository / METRICS / "featurize.json").unlink()
    edit(repository, "evaluate", lambda values: values["test"]["cnn"].update(accuracy=None))
    code, output = gate(repository)
    removed = json.loads((ROOT / METRICS / "featurize.json").read_text())
    assert code == 1
    assert rows(output).keys() == {NAME, *(f"featurize.{key}" for key in removed)}
    assert {cells[0] for cells in rows(output).values()} == {"missing"}


# Parameters, stages and notes


def test_changed_parameters_and_stages_are_listed(repository: Path) -> None:
    replace(repository, "params.yaml", "filters: 128", "filters: 64")
    _, output = gate(repository)
    assert "param  train_cnn.filters: 128 → 64\n" in output
    assert "reran" not in output
    assert re.search("note   params.yaml .* dvc.lock .*`dvc repro`", output)
    write_params_to_lock(repository)
    for stage in ("ensemble", "evaluate"):
        changed_input = rf"(\n  {stage}:[\s\S]*?models/cnn\n[\s\S]*?md5: )\w+"
        replace(repository, "dvc.lock", changed_input, r"\1ab")
    commit(repository, "change")
    code, output = gate(repository)
    assert code == 0
    reran = {line for line in output.splitlines() if line.startswith("reran")}
    assert reran == {"reran  train_cnn: train_cnn", "reran  ensemble", "reran  evaluate"}
    assert "note" not in output


@pytest.mark.parametrize(
    ("file", "pattern", "replacement", "note"),
    [
        ("dvc.lock", r"(outs:\n    - path: data/subset\n[\s\S]*?md5: )\w+", r"\1ab", "data/subset"),
        ("params.yaml", "data/sample", "data/mine", f"{NOISE} .* data/sample; `make noise`"),
        ("metrics/evaluate.json", "{", '{"more": 1,', "metrics, .* not committed"),
    ],
)
def test_circumstances_that_weaken_the_comparison_are_noted(
    repository: Path, file: str, pattern: str, replacement: str, note: str
) -> None:
    replace(repository, file, pattern, replacement)
    assert re.search(f"note   {note}", gate(repository)[1])


def test_changed_metrics_without_measured_noise_are_noted(repository: Path) -> None:
    replace(repository, str(NOISE), f', "{NAME}": [^,}}]*', "")
    assert "note" not in gate(repository)[1]
    shift_accuracy(repository, -0.001)
    assert re.search(f"note   {NOISE} lacks .*`make noise`", gate(repository)[1])


# Histories


def test_the_merge_base_is_compared_instead_of_the_tip_of_main(repository: Path) -> None:
    run_in(repository, "git", "switch", "--quiet", "main")
    shift_accuracy(repository, 0.04)
    commit(repository, "change")
    run_in(repository, "git", "switch", "--quiet", "topic")
    assert gate(repository)[0] == 0
    code, output = gate(repository, "main")
    assert code == 1
    assert rows(output)[NAME][0] == "worse"


def test_the_main_branch_of_the_origin_precedes_the_local_one(
    repository: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    run_in(tmp_path, "git", "clone", "--quiet", "--branch", "main", str(repository), str(clone))
    shift_accuracy(clone, -0.1)
    commit(clone, "change")
    code, output = gate(clone)
    assert code == 1
    assert "the merge base with origin/topic (" in output  # the branch checked out in the origin


def test_a_first_commit_has_only_new_metrics(repository: Path) -> None:
    run_in(repository, "git", "switch", "--quiet", "--orphan", "other")
    (repository / NOISE.parent).mkdir(parents=True)
    run_in(repository, "git", "checkout", "--quiet", "main", "--", str(NOISE), "params.yaml")
    run_in(repository, "git", "commit", "--quiet", "--message", "no metrics yet")
    run_in(repository, "git", "branch", "--force", "main", "other")
    code, output = gate(repository)
    assert code == 2
    assert output.startswith("error: metrics: ")
    assert "`dvc repro`" in output
    run_in(repository, "git", "checkout", "--quiet", "topic", "--", ".")
    code, output = gate(repository)
    assert code == 0
    assert {cells[0] for cells in rows(output).values()} == {"new"}
    assert "note   the merge base with main has no metrics" in output


def test_a_repository_without_a_commit_is_an_error(tmp_path: Path) -> None:
    run_in(tmp_path, "git", "init", "--quiet")
    code, output = gate(tmp_path)
    assert (code, "`git status`" in output) == (2, True)


def test_a_shallow_clone_is_compared_with_the_commits_that_it_has(
    repository: Path, tmp_path: Path
) -> None:
    shift_accuracy(repository, -0.1)
    commit(repository, "change")
    clone, origin = tmp_path / "clone", repository.as_uri()
    run_in(tmp_path, "git", "clone", "--quiet", "--depth", "1", origin, str(clone))
    assert gate(clone, "HEAD~1")[0] == 2
    run_in(clone, "git", "fetch", "--quiet", "--depth", "1", "origin", "main")
    code, output = gate(clone, "FETCH_HEAD")
    assert code == 1
    assert rows(output)[NAME][0] == "worse"


def test_a_shallow_clone_without_a_common_commit_is_an_error(
    repository: Path, tmp_path: Path
) -> None:
    for branch, difference in (("main", 0.04), ("topic", -0.1)):
        run_in(repository, "git", "switch", "--quiet", branch)
        shift_accuracy(repository, difference)
        commit(repository, "change")
    clone = tmp_path / "clone"
    options = "--depth", "1", "--no-single-branch", "--branch", "topic"
    run_in(tmp_path, "git", "clone", "--quiet", *options, repository.as_uri(), str(clone))
    run_in(clone, "git", "remote", "set-head", "origin", "main")
    code, output = gate(clone)
    assert code == 2
    for fact in ("origin/main", "shallow", "`git fetch --unshallow`", "rubro gate origin/main"):
        assert fact in output
    run_in(clone, "git", "fetch", "--quiet", "--unshallow")
    assert gate(clone)[0] == 1


def test_a_clone_without_a_main_branch_needs_a_revision(repository: Path) -> None:
    run_in(repository, "git", "branch", "--quiet", "--delete", "--force", "main")
    code, output = gate(repository)
    assert code == 2
    assert "rubro gate REV" in output
    assert gate(repository, "HEAD")[0] == 0


def test_a_project_can_be_a_folder_of_a_larger_repository(repository: Path, tmp_path: Path) -> None:
    larger = tmp_path / "larger"
    shutil.copytree(repository, larger / "rubro", ignore=shutil.ignore_patterns(".git"))
    run_in(larger, "git", "init", "--quiet", "--initial-branch", "main")
    commit(larger, "change")
    assert gate(larger / "rubro")[0] == 0
    shift_accuracy(larger / "rubro", -0.1)
    assert gate(larger / "rubro")[0] == 1


# Errors


@pytest.mark.parametrize("revision", ["nowhere", "HEAD:params.yaml", "..", "-x^"])
def test_an_unknown_revision_is_an_error(repository: Path, revision: str) -> None:
    code, output = gate(repository, "--", revision)
    assert code == 2
    assert output.startswith(f"error: {revision}: no such commit")
    assert "`git fetch origin`" in output and "`git fetch --unshallow`" in output


@pytest.mark.parametrize(
    ("file", "content", "facts"),
    [
        ("metrics/evaluate.json", '{"test": ', ["line 1", "`git checkout metrics/evaluate.json`"]),
        ("metrics/evaluate.json", '{"test": NaN}', ["NaN", "`git checkout metrics/evaluate.json`"]),
        ("metrics/evaluate.json", "", ["line 1"]),
        ("metrics/evaluate.json", "[" * 100_000, ["`git checkout metrics/evaluate.json`"]),
        ("dvc.lock", "<<<<<<< HEAD\n- a: [\n", ["line 2", "`git checkout dvc.lock`"]),
        ("dvc.lock", "stages: [embed]\n", ["stages", "`git checkout dvc.lock`"]),
        ("dvc.lock", "stages: {embed: {outs: [models]}}\n", ["embed.outs.0"]),
        ("params.yaml", "a: [", ["line 2", "`git checkout params.yaml`"]),
        (str(NOISE), "[1]", ["`make noise`"]),
        (str(NOISE), "\udcff", ["line 1", "git checkout"]),
        (str(NOISE), '{"data": "", "factor": "2", "deviations": {"a": 1.5}}', ["`make noise`"]),
        (
            str(NOISE),
            f'{{"data": "", "factor": {10**400}, "deviations": {{"a": 1}}}}',
            ["`make noise`"],
        ),
        (str(NOISE), "\udcff\udcfe{", ["`git checkout"]),
        (str(NOISE), None, ["no such file", "`make noise`"]),
    ],
)
def test_a_damaged_file_is_an_error(
    repository: Path, file: str, content: str | None, facts: list[str]
) -> None:
    (repository / file).unlink()
    if content is not None:
        (repository / file).write_text(content, errors="surrogateescape")
    code, output = gate(repository)
    assert code == 2
    assert output.startswith(f"error: {file}: ")
    assert all(fact in output for fact in facts), output
    assert len(output.splitlines()) == 1


def test_metrics_are_compared_without_dvc_lock(repository: Path) -> None:
    (repository / "dvc.lock").unlink()
    shift_accuracy(repository, -0.1)
    assert gate(repository)[0] == 1


# Output


def test_markdown_folds_unimportant_changes(repository: Path) -> None:
    shift_accuracy(repository, -0.1)
    edit(repository, "train_cnn", lambda values: values.update(parameters=3))
    replace(repository, "params.yaml", r"(\nnetworks:[\s\S]*?)cosine", r"\1a|b`c")
    code, output = gate(repository, "--markdown")
    assert code == 1
    important, _, unimportant = output.partition("<details>")
    assert important.startswith("### rubro gate: fail: 1 worse\n")
    numbers = f"{ACCURACY:.4f} | {ACCURACY - 0.1:.4f} | -0.1000 | 0.0130"
    assert f"| **worse** | `{NAME}` | {numbers} |\n" in important
    unimportant, _, rest = unimportant.partition("</details>")
    assert unimportant.startswith("<summary>1 not judged</summary>\n\n| verdict |")
    assert "`train_cnn.parameters` | 31,673,584 | 3 |" in unimportant
    assert '| `networks.schedule` | `"cosine"` | <code>&#34;a&#124;b&#96;c&#34;</code> |\n' in rest
    for table in re.findall(r"(?:^\|.*\n)+", output, re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(counts) == 1


@pytest.mark.parametrize(
    "text",
    [
        "`<img src=x>`",
        r"a\|<img src=x> b",
        "a\\",
        "",
        " ",
        "``` <b>x</b>",
        "[x](https://e.example) **b** ~~s~~",
        "@team #1 https://e.example www.e.example",
        "\n\n# title\n\n<details>",
        "&lt;img&gt; | --- |",
    ],
)
def test_no_text_can_add_markup_to_markdown(text: str) -> None:
    def page(name: str) -> str:
        change = Change(f"evaluate.{name}", 0.9, 0.8, 0.1, Verdict.worse)
        stages = {name: [name], "embed": []}
        notes = [f"{name} differs", name]
        comparison = Comparison(name, [change], {name: (name, name)}, stages, notes)
        return str(MarkdownIt("commonmark").enable("table").render(format_markdown(comparison)))

    def markup(page: str) -> str:
        return re.sub(r"<code>.*?</code>", "<code>", page, flags=re.DOTALL)

    assert markup(page(text)) == markup(page("name"))
    assert html.unescape(page(text)).count(printable(text)) >= 6


def test_reports_and_errors_go_to_different_streams(repository: Path) -> None:
    shift_accuracy(repository, -0.1)
    done = run_in(repository, "rubro", "gate", ok=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert rows(done.stdout)[NAME][0] == "worse"
    (repository / NOISE).unlink()
    done = run_in(repository, "rubro", "gate", "--markdown", ok=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


# Continuous integration


def test_the_workflow_writes_a_summary_and_a_comment_unless_there_is_an_error(
    repository: Path, tmp_path: Path
) -> None:
    shift_accuracy(repository, -0.1)
    commit(repository, "change")
    run_in(repository, "git", "switch", "--quiet", "--detach", "main")
    run_in(repository, "git", "merge", "--quiet", "--no-ff", "--message", "merged", "topic")
    checkout = tmp_path / "checkout"
    depth = "--depth", "2"
    run_in(tmp_path, "git", "clone", "--quiet", *depth, repository.as_uri(), str(checkout))
    gh = tmp_path / "bin" / "gh"  # replaced by a script that records its arguments
    gh.parent.mkdir()
    gh.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\" > called\n")
    gh.chmod(0o755)
    variables = environment() | {"GITHUB_STEP_SUMMARY": "summary.md", "NUMBER": "7"}
    variables["PATH"] = f"{gh.parent}{os.pathsep}{variables['PATH']}"
    workflow = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "ci.yml")
    steps = [step for job in ("gate", "comment") for step in workflow["jobs"][job]["steps"]]
    scripts = {step.get("name"): step.get("run") for step in steps}

    def exit_code(name: str) -> int:
        script = ["bash", "-e", "-c", scripts[name]]
        return subprocess.run(script, cwd=checkout, env=variables, check=False).returncode

    assert exit_code("Compare") == 1
    assert (checkout / "summary.md").read_text().startswith("### rubro gate: fail: 1 worse\n")
    assert exit_code("Comment") == 0
    words = "pr comment 7 --edit-last --create-if-none --body-file gate.md"
    assert (checkout / "called").read_text().split() == words.split()
    assert (checkout / "gate.md").read_text() == (checkout / "summary.md").read_text()

    (checkout / "called").unlink()
    (checkout / NOISE).unlink()
    assert exit_code("Compare") == 2
    assert exit_code("Comment") == 0
    assert not (checkout / "called").exists()


# Committed noise


def test_the_committed_noise_covers_every_judged_metric() -> None:
    noise = json.loads((ROOT / NOISE).read_text())
    assert noise["seeds"] >= 5
    before = committed_metrics()
    now = {name: value + 1 for name, value in before.items()}
    judged = {
        change.name for change in changes_between(before, now, {}, "accuracy") if change.tolerance
    }
    assert judged <= noise["deviations"].keys()


@pytest.mark.parametrize("name", ["subset.corrections.replaced", "subset.unlabelled.titles"])
def test_counts_that_are_not_always_there_may_come_and_go(name: str) -> None:
    for before, now in (({name: 1.0}, {}), ({}, {name: 1.0})):
        (change,) = changes_between(before, now, {}, "accuracy")
        assert change.verdict == Verdict.unjudged


# Other categories


def use_subset(
    folder: Path,
    labels: list[str],
    tree: dict[str, Any] | None = None,
    categories: list[str] | None = None,
) -> None:
    """Let dvc.lock name a data/subset with these categories, which is in the cache of DVC."""
    subset = cache_subset(folder, labels, ["title"], tree, categories)
    pattern = r"(outs:\n    - path: data/subset\n[\s\S]*?md5: )[\w.]+"
    replace(folder, "dvc.lock", pattern, rf"\g<1>{subset}")
    edit(folder, "subset", lambda values: values.update(classes=len(labels)))


def test_metrics_of_other_categories_are_not_judged(repository: Path) -> None:
    run_in(repository, "dvc", "init", "--quiet")
    use_subset(repository, ["a", "b"])
    commit(repository, "two categories")
    shift_accuracy(repository, -0.1)
    assert gate(repository, "HEAD")[0] == 1
    use_subset(repository, ["a", "c", "d"])
    code, output = gate(repository, "HEAD", "--all")
    assert code == 0
    assert rows(output)[NAME][0] == "not judged"
    assert "note   the categories differ (2 before, 3 now)" in output
    assert output.splitlines()[-1].startswith("pass: ")
    assert "categories differ" in output.splitlines()[-1]
    edit(repository, "evaluate", lambda values: values["test"]["cnn"].pop("accuracy"))
    assert gate(repository, "HEAD")[0] == 1


def test_corrected_labels_of_validation_and_test_are_noticed(repository: Path) -> None:
    run_in(repository, "dvc", "init", "--quiet")
    use_subset(repository, ["a", "b"])
    commit(repository, "wrong labels")
    assert "categories of some" not in gate(repository, "HEAD")[1]
    use_subset(repository, ["a", "b"], categories=["b"])
    output = gate(repository, "HEAD")[1]
    assert "note   the categories of some validation or test titles differ" in output


def test_a_level_with_the_same_nodes_is_still_judged(repository: Path) -> None:
    def use_tree(*labels: str) -> None:
        paths = {label: label.split("/") for label in labels}
        use_subset(repository, [*labels], {"separator": "/", "order": "root_first", "paths": paths})

    def set_accuracy(value: float) -> None:
        levels = {"1": {"accuracy": value}, "2": {"accuracy": value}}
        changed = {"levels": levels, "hierarchical_f1": value}
        edit(repository, "evaluate", lambda values: values["test"]["cnn"].update(changed))

    run_in(repository, "dvc", "init", "--quiet")
    use_tree("a/b", "a/c", "d/e")
    set_accuracy(0.9)
    commit(repository, "three categories")
    use_tree("a/b", "a/x", "d/e")
    set_accuracy(0.8)
    code, output = gate(repository, "HEAD", "--all")
    verdicts = {name: cells[0] for name, cells in rows(output).items()}
    assert code == 1
    assert verdicts == {
        "evaluate.test.cnn.levels.1.accuracy": "worse",
        "evaluate.test.cnn.levels.2.accuracy": "not judged",
        "evaluate.test.cnn.hierarchical_f1": "not judged",
    }
    # Flat categories have no levels.
    use_subset(repository, ["a", "b"])
    edit(repository, "evaluate", lambda values: values["test"]["cnn"].pop("levels"))
    edit(repository, "evaluate", lambda values: values["test"]["cnn"].pop("hierarchical_f1"))
    code, output = gate(repository, "HEAD", "--all")
    assert code == 0
    assert {cells[0] for cells in rows(output).values()} == {"not judged"}
