"""Imports among the modules of the project, read from their syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"


def module_of(file: Path) -> str:
    """Return the dotted name of a file: rubro.base.text for src/rubro/base/text.py."""
    parts = file.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in SRC.rglob("*.py")}
SCRIPTS = {file.stem: file for file in (ROOT / "stages").glob("*.py")}
FILES = MODULES | SCRIPTS


def nodes_that_run(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a syntax tree without type-checking imports and `__getattr__`.

    `__getattr__` loads `rubro.Classifier` lazily; the project imports it from its module.
    """
    for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    if for_types or (isinstance(node, ast.FunctionDef) and node.name == "__getattr__"):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from nodes_that_run(child)


def imports_of(file: Path, only_run: bool = False) -> set[str]:
    """Return the modules that a file imports, at the top level or in a function.

    Args:
        file: Python file.
        only_run: Whether to skip imports that do not run (see nodes_that_run).
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in nodes_that_run(tree) if only_run else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{file}: relative import"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (submodules & MODULES.keys()) | {node.module}
    return found


def reached_from(*modules: str) -> dict[str, str]:
    """Map each module that these modules import, directly or not, to the module importing it."""
    to_read = list(modules)
    reached = dict.fromkeys(modules, "")
    while to_read:
        importer = to_read.pop()
        package = importer.rpartition(".")[0]  # an import also runs the packages of a module
        imported = imports_of(FILES[importer], only_run=True) | ({package} & FILES.keys())
        for name in imported - reached.keys():
            reached[name] = importer
            if name in FILES:
                to_read.append(name)
    return reached
