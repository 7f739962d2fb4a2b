"""Rules for all code: which folders may import which, unique names, and docstrings."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.imports import FILES, MODULES, ROOT, SCRIPTS, SRC, imports_of, reached_from

# Each folder of src/rubro and the folders that it may import from.
ALLOWED = {
    "base": set(),
    "tables": {"base"},
    "data": {"base", "tables"},
    "features": {"base"},
    "kernels": {"base"},
    "models": {"base", "features", "kernels"},
    "prediction": {"base", "features"},
    "evaluation": {"base", "features"},
    "training": {"base", "features", "kernels", "models", "prediction", "evaluation"},
    "labelling": {
        *("base", "data", "features", "kernels", "models", "prediction", "evaluation", "training"),
    },
    "sample": {"base"},
    "cards": {"base"},
    "report": {"base", "prediction", "experiments", "gate"},
    "service": {"base", "tables", "prediction"},
    "experiments": {"base"},
    "gate": {"base", "experiments"},
    "cli": {
        *("base", "tables", "data", "features", "prediction", "evaluation", "report", "service"),
        *("sample", "experiments", "gate", "labelling", "training"),
    },
}
# Libraries needed for training only; prediction runs without them installed.
HEAVY = {
    *("dvc", "dvclive", "gensim", "jinja2", "lightning", "matplotlib", "mlflow", "numba"),
    *("optuna", "pandas", "ruamel", "scipy", "sklearn", "torch"),
}


def folder_of(module: str) -> str:
    """Return the folder of a module: base for rubro.base.text, "" for a module outside folders."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else ""


def test_all_folders_are_listed() -> None:
    folders = {file.parent.name for file in (SRC / "rubro").glob("*/__init__.py")}
    assert folders == ALLOWED.keys()


@pytest.mark.parametrize("folder", ALLOWED)
def test_folder_imports_only_allowed_folders(folder: str) -> None:
    for name, file in MODULES.items():
        if folder_of(name) == folder:
            theirs = {other for other in imports_of(file) if folder_of(other) not in (folder, "")}
            wrong = {other for other in theirs if folder_of(other) not in ALLOWED[folder]}
            assert not wrong, f"{name} imports {wrong}"


def test_folders_have_no_import_cycle() -> None:
    below = {folder: set(others) for folder, others in ALLOWED.items()}
    while below:
        lowest = [folder for folder, others in below.items() if not others & below.keys()]
        assert lowest, f"import cycle among {below.keys()}"
        for folder in lowest:
            del below[folder]


def test_package_imports_neither_stages_nor_cli() -> None:
    for file in MODULES.values():
        roots = {name.split(".")[0] for name in imports_of(file)}
        assert not roots & (SCRIPTS.keys() | {"stages", "tests", "benchmarks"}), file
        if "cli" not in file.parts:
            assert not any(name.startswith("rubro.cli") for name in imports_of(file)), file


def test_prediction_imports_no_training_library() -> None:
    predicting = [name for name in MODULES if folder_of(name) == "prediction"]
    commands = ("rubro.cli.predict", "rubro.cli.serve")
    reached = reached_from("rubro", *commands, *predicting)
    assert {"rubro.prediction.networks", "rubro.base.text", "numpy"} <= reached.keys()
    assert not {name: by for name, by in reached.items() if name.split(".")[0] in HEAVY}


def test_models_do_not_import_each_other() -> None:
    for one, others in {
        "rubro.models.mlp": {"rubro.models.cnn", "rubro.training.svm"},
        "rubro.models.cnn": {"rubro.models.mlp", "rubro.training.svm"},
        "rubro.training.svm": {"rubro.models.mlp", "rubro.models.cnn", "torch"},
    }.items():
        assert not reached_from(one).keys() & others


def modules_after(code: str) -> set[str]:
    """Return the libraries that a fresh interpreter has imported after running this code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import rubro; rubro.Classifier", HEAVY),
        ("import rubro.service.app, rubro.service.server", HEAVY | {"pyarrow"}),
        ("import rubro.cli, rubro.base.stage", HEAVY - {"ruamel"}),
        ("import rubro.tables.writers", HEAVY | {"pyarrow"}),
        ("import rubro.data.raw_titles, rubro.data.subset", HEAVY - {"pandas", "ruamel"}),
        pytest.param(
            "import rubro.training.svm, rubro.training.ensemble, rubro.evaluation.tables",
            {"torch", "lightning", "gensim", "dvclive", "mlflow"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "import rubro.training.fasttext",
            {"torch", "lightning", "dvclive", "mlflow"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "import rubro.models.mlp, rubro.models.cnn",
            {"lightning", "gensim", "dvclive", "mlflow"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_module_loads_no_unrelated_library(code: str, absent: set[str]) -> None:
    assert not modules_after(code) & absent


def public_names(file: Path) -> Iterator[str]:
    """Yield the public classes, functions and constants defined at the top level of a file."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_"))


def test_public_names_have_one_meaning() -> None:
    modules: defaultdict[str, set[str]] = defaultdict(set)
    for module, file in MODULES.items():
        if module == "rubro.cli":  # each command has the name of the function that it calls
            continue
        for name in public_names(file):
            if len(name) > 1 and name != "main":  # single letters are type variables
                modules[name].add(module)
    assert not {name: where for name, where in modules.items() if len(where) > 1}


NOT_A_NOUN_PHRASE = re.compile(r"(of|their|its|the rest|that|by|as)\b", re.IGNORECASE)


def entries(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield section and description of each entry; of Returns and Yields, only the first line."""
    for block in re.split(r"\n(?=\S)", docstring):  # a section begins at a line without indent
        section, _, body = block.partition(":\n")
        lines = re.findall(r"^ {4}(\S.*)", body, re.MULTILINE)
        if section in ("Returns", "Yields"):
            yield section, lines[0]
        elif section in ("Args", "Attributes", "Raises"):
            for line in lines:
                _, colon, text = line.partition(": ")
                assert colon, f"{section} has an entry without a description: {line!r}"
                yield section, text


def test_docstring_entries_are_parsed() -> None:
    arguments = "Args:\n    one: Of the two.\n        Second line.\n    two: Number.\n\n"
    found = list(
        entries(f"Return.\n\n{arguments}Returns:\n    Their sum.\n    More.\n\nSource: this.")
    )
    assert found == [("Args", "Of the two."), ("Args", "Number."), ("Returns", "Their sum.")]
    assert [bool(NOT_A_NOUN_PHRASE.match(text)) for _, text in found] == [True, False, True]


@pytest.mark.parametrize(
    "file", sorted(FILES.values()), ids=lambda file: str(file.relative_to(ROOT))
)
def test_docstrings_have_summary_and_noun_phrases(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    definitions = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    for node in [tree, *definitions]:
        name, docstring = getattr(node, "name", "the file"), ast.get_docstring(node) or ""
        for section, text in entries(docstring):
            assert not NOT_A_NOUN_PHRASE.match(text), f"{file}: {name}: {section}: {text!r}"
        # `main` of a script is described by the docstring of its file.
        if node is tree or (node in tree.body and name != "main" and not name.startswith("_")):
            summary = docstring.partition("\n")[0]
            assert summary.endswith("."), f"{file}: {name}: summary {summary!r}"
