"""The documentation names commands, knobs, files and sections that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
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

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "README.es.md", "CONTRIBUTING.md", "data/README.md")),
    ROOT / "benchmarks" / "TRIED.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
KNOWN_PROGRAMS = (
    *("cd", "cp", "curl", "docker", "export", "git", "head", "less", "mlflow", "pip"),
    *("pre-commit", "realpath", "source", "sudo", "zcat"),
)
MOST_LINES = 130

Command = list[str]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    fenced = re.findall(
        r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return [block for of, block in fenced if of == language]


def inline_code(page: Path) -> list[str]:
    """What stands between single backticks, outside the fenced blocks."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


def commands_in(script: str) -> Iterator[Command]:
    """Each simple command of a script of bash, those of $(...) too, without comments."""
    for inner in re.findall(r"\$\(([^)]*)\)", script):
        yield from commands_in(inner)
    script = re.sub(r"\$\([^)]*\)", "SUBSTITUTED", script).replace("\\\n", " ")
    for line in script.splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=";|&")
        words.whitespace_split = True
        command: Command = []
        for word in words:
            if set(word) <= set(";|&"):
                yield command
                command = []
            else:
                command.append(word)
        if command:
            yield command


def commands_of(page: Path) -> list[Command]:
    """The commands of a page: those of its bash blocks, then those inside its sentences."""
    scripts = blocks(page, "bash")
    scripts += [code for code in inline_code(page) if re.match(r"(rubro|dvc|make|gto) \S", code)]
    return [command for script in scripts for command in commands_in(script)]


def stages() -> set[str]:
    return set(YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"])


def check_rubro(arguments: Command) -> None:
    name, *rest = arguments
    group: Any = typer.main.get_command(app)
    command = group.commands[name]
    if rest:  # else a page names the command, perhaps without what it needs
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
        assert set(parsed.targets) <= stages()
    if arguments[:2] == ["artifacts", "get"]:
        check_artifact(parsed.name)


def check_artifact(name: str) -> None:
    assert name in YAML(typ="safe").load(ROOT / "dvc.yaml")["artifacts"]


def check_make(arguments: Command) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [word for word in arguments if "=" not in word and word not in targets] == []


def check_python(arguments: Command) -> None:
    assert (ROOT / arguments[0]).is_file()


def check_gto(arguments: Command) -> None:
    assert arguments[0] == "register"
    check_artifact(arguments[1])


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
def test_every_knob_exists(page: Path) -> None:
    params = load_params(ROOT / "params.yaml").model_dump()
    keys = [key for key, _ in flat(params)]
    sections = "|".join(name for name in Params.model_fields if isinstance(params[name], dict))
    for code in inline_code(page):
        for pattern in re.findall(rf"(?<![\w./])((?:{sections}|train_\*)\.[A-Za-z_*]+)$", code):
            assert any(fnmatch(key, pattern) for key in keys), pattern


@each_page
def test_every_relative_link_leads_to_a_file_and_a_section(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def anchors(page: Path) -> list[str]:
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_readme_is_short_and_names_the_two_first_commands() -> None:
    for name in ("README.md", "README.es.md"):
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) < MOST_LINES
        assert commands_of(ROOT / name)[:2] == [["make", "repro"], ["make", "test"]]


def test_both_readmes_show_the_same_commands_and_code() -> None:
    english, spanish = ROOT / "README.md", ROOT / "README.es.md"
    assert commands_of(english) == commands_of(spanish)
    assert blocks(english, "python") == blocks(spanish, "python")
    assert blocks(english, "") == blocks(spanish, "")


def test_every_page_is_linked_from_both_readmes() -> None:
    for name in ("README.md", "README.es.md"):
        links = re.findall(r"\]\((docs/[^)#]+)\)", (ROOT / name).read_text(encoding="utf-8"))
        assert {ROOT / link for link in links} == set((ROOT / "docs").glob("*.md"))


def test_the_table_of_stages_has_every_stage() -> None:
    text = (ROOT / "docs" / "pipeline.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| (\w+) \| (?!does)", text, re.MULTILINE)) == stages()


def test_commands_are_found_in_every_form() -> None:
    script = "a -x 'b c'  # d\ne; f | g && h \\\n  i $(j k)\n"
    assert list(commands_in(script)) == [
        ["j", "k"],
        ["a", "-x", "b c"],
        ["e"],
        ["f"],
        ["g"],
        ["h", "i", "SUBSTITUTED"],
    ]
