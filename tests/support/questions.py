"""Answers of docs/questions.md: their code blocks, for tests that run them."""

from __future__ import annotations

import re

from support.pages import ROOT

_PAGE = ROOT / "docs" / "questions.md"


def answer(question: str) -> list[str]:
    """Return the code blocks of an answer, in their order."""
    (text,) = re.findall(
        rf"^### {re.escape(question)}\n(.*?)(?=^##|\Z)",
        _PAGE.read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    return re.findall(r"^```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
