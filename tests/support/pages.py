"""Pages of the documentation, their code blocks and their commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "README.es.md", "CONTRIBUTING.md", "data/README.md")),
    ROOT / "benchmarks" / "TRIED.md",
    *sorted((ROOT / "docs").glob("*.md")),
]

Command = list[str]


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return [block for name, block in _fenced(page.read_text("utf-8")) if name == language]


def answer(question: str) -> list[str]:
    """Return the fenced blocks of an answer in docs/questions.md, in their order."""
    pattern = rf"^### {re.escape(question)}\n(.*?)(?=^##|\Z)"
    text = (ROOT / "docs" / "questions.md").read_text("utf-8")
    (found,) = re.findall(pattern, text, re.MULTILINE | re.DOTALL)
    return [block for _, block in _fenced(found)]


def _fenced(text: str) -> list[tuple[str, str]]:
    """Return the language and the content of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def inline_code(page: Path) -> list[str]:
    """Return inline code, that is, text between single backticks outside fenced blocks."""
    text = page.read_text("utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


def commands_in(script: str) -> Iterator[Command]:
    """Yield each simple command of a bash script without comments, including those in $(...)."""
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
    """Return the commands of the bash blocks of a page, then those in its inline code."""
    scripts = blocks(page, "bash")
    scripts += [code for code in inline_code(page) if re.match(r"(rubro|dvc|make|gto) \S", code)]
    return [command for script in scripts for command in commands_in(script)]
