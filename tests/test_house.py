"""What holds for all code: who may import whom, and what a docstring says."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
FILES = sorted([*SRC.rglob("*.py"), *(ROOT / "stages").glob("*.py")])

# Folders of src/rubro, and those that each may import from.
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
    "sample": {"base"},
    "cards": set(),
    "report": {"base"},
    "service": {"base", "prediction"},
    "experiments": {"base"},
    "gate": {"base", "experiments"},
    "cli": {
        *("base", "tables", "data", "features", "prediction", "evaluation", "report", "service"),
        *("sample", "experiments", "gate"),
    },
}
# What only a training needs; a prediction runs without them installed.
HEAVY = {
    "dvc",
    "dvclive",
    "gensim",
    "jinja2",
    "lightning",
    "matplotlib",
    "mlflow",
    "numba",
    "optuna",
    "pandas",
    "ruamel",
    "scipy",
    "sklearn",
    "torch",
}


def module_of(file: Path) -> str:
    """rubro.base.text, for src/rubro/base/text.py."""
    parts = file.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in SRC.rglob("*.py")}


def imports_of(file: Path) -> set[str]:
    """Every module that a file imports, at its top or later, for types alone or not."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            if node.level:
                package = file.relative_to(SRC).parts[: -node.level]
                names = [*package, *filter(None, names)]
            module = ".".join(names)
            submodules = {f"{module}.{alias.name}" for alias in node.names}
            found |= (submodules & MODULES.keys()) | {module}
    return found


def folder_of(module: str) -> str:
    """base, for rubro.base.text; "" for what is in none of the folders."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else ""


def reached_from(*modules: str) -> dict[str, str]:
    """Every module that these import, however indirectly, and the module that imports it."""
    to_read = list(modules)
    reached = dict.fromkeys(modules, "")
    while to_read:
        importer = to_read.pop()
        for name in imports_of(MODULES[importer]):
            if name not in reached:
                reached[name] = importer
                if name in MODULES:
                    to_read.append(name)
    return reached


def test_every_folder_of_the_package_has_its_place() -> None:
    folders = {file.parent.name for file in (SRC / "rubro").glob("*/__init__.py")}
    assert folders == ALLOWED.keys()


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_from_those_below_it(folder: str) -> None:
    for name, file in MODULES.items():
        if folder_of(name) == folder:
            theirs = {other for other in imports_of(file) if folder_of(other) not in (folder, "")}
            wrong = {other for other in theirs if folder_of(other) not in ALLOWED[folder]}
            assert not wrong, f"{name} imports {wrong}"


def test_no_folder_is_above_itself() -> None:
    below = {folder: set(others) for folder, others in ALLOWED.items()}
    while below:
        lowest = [folder for folder, others in below.items() if not others & below.keys()]
        assert lowest, f"a ring of {below.keys()}"
        for folder in lowest:
            del below[folder]


def test_nothing_imports_from_the_stages_or_the_command() -> None:
    stages = {file.stem for file in (ROOT / "stages").glob("*.py")}
    for file in MODULES.values():
        roots = {name.split(".")[0] for name in imports_of(file)}
        assert not roots & (stages | {"stages", "tests", "benchmarks"}), file
        if "cli" not in file.parts:
            assert not any(name.startswith("rubro.cli") for name in imports_of(file)), file


def test_a_prediction_imports_no_library_of_the_training() -> None:
    predicting = [name for name in MODULES if folder_of(name) == "prediction"]
    commands = ("rubro.cli.predict", "rubro.cli.serve")
    reached = reached_from("rubro", *commands, *predicting)
    assert {"rubro.prediction.networks", "rubro.base.text", "numpy"} <= reached.keys()
    assert not {name: by for name, by in reached.items() if name.split(".")[0] in HEAVY}


def test_the_models_do_not_know_each_other() -> None:
    for one, others in {
        "rubro.models.mlp": {"rubro.models.cnn", "rubro.training.svm"},
        "rubro.models.cnn": {"rubro.models.mlp", "rubro.training.svm"},
        "rubro.training.svm": {"rubro.models.mlp", "rubro.models.cnn", "torch"},
    }.items():
        assert not reached_from(one).keys() & others


def modules_after(code: str) -> set[str]:
    """The libraries that a fresh interpreter has imported when it has run this code."""
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
        ("import rubro.data.sources, rubro.data.subset", HEAVY - {"pandas", "ruamel"}),
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
            {"lightning", "gensim", "dvclive", "mlflow", "numba"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_module_imports_no_library_that_is_not_its_subject(code: str, absent: set[str]) -> None:
    assert not modules_after(code) & absent


# Docstrings


SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises")
BAD_BEGINNING = re.compile(r"(of|their|its|the rest|that|by|as)\b", re.IGNORECASE)
Documented = ast.Module | ast.ClassDef | ast.FunctionDef


EXAMPLE = """Return nothing.

    Of all that is here, this is prose.

    Args:
        one: Of the two.
            as a second line
        two: Number.

    Returns:
        Their sum.
        By lines.

    Raises:
        DataError: None.

    Source: this.
"""


def documented(file: Path) -> Iterator[tuple[str, Documented]]:
    """Modules, classes, functions and methods of a file, with their names."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    yield str(file.relative_to(ROOT)), tree
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield f"{file.relative_to(ROOT)}: {node.name}", node


def entries(docstring: str) -> Iterator[tuple[str, str]]:
    """Section and text of each entry of a docstring; of Returns, its beginning."""
    section, indent = "", 0
    for line in docstring.splitlines():
        text = line.strip()
        if text.removesuffix(":") in SECTIONS and text.endswith(":"):
            section, indent = text.removesuffix(":"), len(line) - len(line.lstrip()) + 4
            first = True
        elif section and text and len(line) - len(line.lstrip()) == indent:
            if section in ("Args", "Attributes", "Raises"):
                _, colon, described = text.partition(": ")
                assert colon, f"{section} has {text!r}"
                yield section, described
            elif first:
                yield section, text
            first = False
        elif text and len(line) - len(line.lstrip()) < indent:
            section = ""


def test_entries_of_a_docstring_are_found() -> None:
    assert list(entries(cleandoc(EXAMPLE))) == [
        ("Args", "Of the two."),
        ("Args", "Number."),
        ("Returns", "Their sum."),
        ("Raises", "None."),
    ]
    assert [bool(BAD_BEGINNING.match(text)) for _, text in entries(cleandoc(EXAMPLE))] == [
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_an_entry_of_a_docstring_begins_with_what_it_is(file: Path) -> None:
    for name, node in documented(file):
        for section, text in entries(ast.get_docstring(node) or ""):
            assert not BAD_BEGINNING.match(text), f"{name}: {section}: {text!r}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_everything_public_has_a_summary(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    public: list[Documented] = [tree, *inside]
    for node in public:
        if getattr(node, "name", "") == "main":  # it does what its file says
            continue
        name = getattr(node, "name", "the file")
        if not name.startswith("_"):
            summary = (ast.get_docstring(node) or "").partition("\n")[0]
            assert summary, f"{file}: {name} has no docstring"
            assert summary.endswith("."), f"{file}: {name}: {summary!r}"
