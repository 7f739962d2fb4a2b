"""Commands, params, files and sections that the documentation names exist."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from rubro.base.params import Params
from rubro.base.params_file import flat, load_overrides, load_params, with_settings
from rubro.cli import app
from support.pages import PAGES, ROOT, Command, blocks, commands_in, commands_of, inline_code

KNOWN_PROGRAMS = (
    *("cd", "cp", "curl", "docker", "export", "git", "head", "kubectl", "less", "mlflow", "mv"),
    *("pip", "pre-commit", "realpath", "source", "sqlite3", "sudo", "zcat"),
)
MAX_README_LINES = 130

DVC_YAML = YAML(typ="safe").load(ROOT / "dvc.yaml")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def check_rubro(arguments: Command) -> None:
    name, *rest = arguments
    group: Any = typer.main.get_command(app)
    command = group.commands[name]
    if rest:  # a page may name a command without its required arguments
        command.make_context(name, list(rest))
        if name == "overrides":
            load_overrides(ROOT / rest[0], ROOT / "params.yaml")


@cache
def dvc_parser() -> Any:
    from dvc.cli.parser import get_main_parser

    return get_main_parser()


def check_dvc(arguments: Command) -> None:
    parsed = dvc_parser().parse_args([word for word in arguments if word != "SUBSTITUTED"])
    if settings := getattr(parsed, "set_param", None):
        with_settings(ROOT / "params.yaml", settings)
    if arguments[0] == "repro":
        assert set(parsed.targets) <= set(DVC_YAML["stages"])
    if arguments[:2] == ["artifacts", "get"]:
        assert parsed.name in DVC_YAML["artifacts"]


def check_make(arguments: Command) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [word for word in arguments if "=" not in word and word not in targets] == []


def check_python(arguments: Command) -> None:
    assert (ROOT / arguments[0]).is_file()


def check_gto(arguments: Command) -> None:
    assert arguments[0] == "register"
    assert arguments[1] in DVC_YAML["artifacts"]


CHECKS = {
    "dvc": check_dvc,
    "gto": check_gto,
    "make": check_make,
    "python": check_python,
    "rubro": check_rubro,
}


@each_page
def test_every_command_exists(page: Path) -> None:
    for program, *arguments in commands_of(page):
        if program in CHECKS:
            CHECKS[program](arguments)
        else:
            assert program in KNOWN_PROGRAMS


@each_page
def test_every_param_exists(page: Path) -> None:
    params = load_params(ROOT / "params.yaml").model_dump()
    keys = [key for key, _ in flat(params)]
    sections = "|".join(name for name in Params.model_fields if isinstance(params[name], dict))
    for code in inline_code(page):
        for pattern in re.findall(
            rf"(?<![\w./])((?:{sections}|train_\*)\.(?!json$)[A-Za-z_*]+)$", code
        ):
            assert any(fnmatch(key, pattern) for key in keys), pattern


@each_page
def test_relative_links_lead_to_files_and_sections(page: Path) -> None:
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def anchors(page: Path) -> list[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_readmes_are_short_and_have_same_commands_and_links() -> None:
    english, spanish = ROOT / "README.md", ROOT / "README.es.md"
    assert commands_of(english)[:2] == [["make", "repro"], ["make", "test"]]
    assert commands_of(english) == commands_of(spanish)
    for language in ("python", ""):
        assert blocks(english, language) == blocks(spanish, language)
    for readme in (english, spanish):
        text = readme.read_text("utf-8")
        assert len(text.splitlines()) < MAX_README_LINES
        links = {ROOT / link for link in re.findall(r"\]\((docs/[^)#]+)\)", text)}
        assert links == set((ROOT / "docs").glob("*.md"))


def test_stage_table_is_complete() -> None:
    text = (ROOT / "docs" / "pipeline.md").read_text("utf-8")
    assert set(re.findall(r"^\| (\w+) \| (?!what)", text, re.MULTILINE)) == set(DVC_YAML["stages"])


def test_vs_code_recommends_the_extension_that_the_docs_name() -> None:
    recommended = json.loads((ROOT / ".vscode" / "extensions.json").read_text())["recommendations"]
    (name,) = re.findall(
        r"itemName=([\w.]+)", (ROOT / "docs" / "experiments.md").read_text("utf-8")
    )
    assert recommended == [name.lower()]


def test_commands_are_parsed() -> None:
    script = "a -x 'b c'  # d\ne; f | g && h \\\n  i $(j k)\n"
    outer = [["a", "-x", "b c"], ["e"], ["f"], ["g"], ["h", "i", "SUBSTITUTED"]]
    assert list(commands_in(script)) == [["j", "k"], *outer]
