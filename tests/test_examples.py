"""Examples in the READMEs, in docs/ and in the help get the answers that they show."""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rubro.base.params_file import load_params
from rubro.prediction.classifier import Classifier
from support.pages import PAGES, ROOT, blocks, inline_code

MODEL = ROOT / "models" / "ensemble"
HELP = sorted((ROOT / "src/rubro/cli").glob("*.py"))
# Each title that the documentation shows, and its right category.
EXAMPLES = {
    "Auriculares Bluetooth": "HEADPHONES",
    "Guitarra Criolla": "GUITARS",
    "Lampara De Techo": "CEILING_LAMPS",
    "Procesador Intel 1151 8g Core I5 8400": "COMPUTER_PROCESSORS",
    "Silla De Oficina": "OFFICE_CHAIRS",
    "Silla Oficina Ergonomica": "OFFICE_CHAIRS",
    "Taladro/Atornillador": "DRILLS",
}
# Quoted text that looks like a title, but is a brand or a category.
OTHER_TEXT = {"Mesas", "Muebles", "Sony"}
# Another CPU, or a GPU, trains a slightly different model.
TOLERANCE = 0.02

pytestmark = pytest.mark.skipif(
    not MODEL.is_dir() or load_params(ROOT / "params.yaml").data.path != "data/sample",
    reason="needs the model of the sample: make repro",
)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """The classifier that `make repro` trains on the sample."""
    return Classifier.load(MODEL)


def quoted(code: str) -> set[str]:
    """Return quoted texts that look like titles: one capital letter, then small letters."""
    code = re.sub(r'(--message|-a?m) "[^"]*"', "", code)  # of a commit
    found = re.findall(r'"([A-ZÁÉÍÓÚ][a-záéíóúñ]+(?:[ /][^"\n]*)?)"', code)
    return {text for text in found if " > " not in text} - OTHER_TEXT


def all_code(page: Path) -> Iterator[str]:
    """Yield every block and all inline code of a page."""
    for language in ("bash", "javascript", "json", "python"):
        yield from blocks(page, language)
    yield from inline_code(page)


def test_example_titles_have_their_right_category(classifier: Classifier) -> None:
    titles = [*EXAMPLES]
    for title, top in zip(titles, classifier.top(titles, k=1), strict=True):
        ((category, confidence),) = top
        assert (title, category) == (title, EXAMPLES[title])
        assert confidence > 0.9, title


def test_every_title_in_the_documentation_is_an_example() -> None:
    shown = {title for page in PAGES for code in all_code(page) for title in quoted(code)}
    shown |= {
        title
        for file in HELP
        for title in quoted(ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "")
    }
    assert shown == EXAMPLES.keys()


@pytest.mark.parametrize("name", ["README.md", "README.es.md"])
def test_outputs_in_the_readmes_are_answers_of_the_model(name: str, classifier: Classifier) -> None:
    table, rows = blocks(ROOT / name, "")
    (title,) = quoted(re.findall(r"rubro predict .*", blocks(ROOT / name, "bash")[0])[0])
    ((category, confidence),) = classifier.top([title], k=1)[0]
    assert category in table.split()
    (percent,) = re.findall(r"([\d.]+) ?%", table)
    assert float(percent) / 100 == pytest.approx(confidence, abs=TOLERANCE)
    answered = [row for row in csv.DictReader(rows.splitlines()) if row["title"]]
    assert len(answered) == 2
    for row in answered:
        ((category, confidence),) = classifier.top([row["title"]], k=1)[0]
        assert row["predicted_category"] == category
        assert float(row["confidence"]) == pytest.approx(confidence, abs=TOLERANCE)


def rounded(value: Any) -> Any:
    """Return nested lists and tuples with approximate numbers."""
    if isinstance(value, list | tuple):
        return type(value)(rounded(each) for each in value)
    return pytest.approx(value, abs=TOLERANCE) if isinstance(value, float) else value


@pytest.mark.parametrize("name", ["README.md", "README.es.md", "docs/predict.md"])
def test_python_examples_return_the_values_in_their_comments(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    compared = 0
    for block in blocks(ROOT / name, "python"):
        if "# [" not in block:
            continue
        for node in ast.parse(block).body:
            code = ast.get_source_segment(block, node) or ""
            comment = block.splitlines()[(node.end_lineno or 0) - 1].partition("  # ")[2]
            if not isinstance(node, ast.Expr):
                exec(code, names)  # noqa: S102
            elif comment.startswith("["):
                assert eval(code, names) == rounded(ast.literal_eval(comment)), code
                compared += 1
    assert compared >= 2


def test_answer_of_the_service_is_the_answer_of_the_model(classifier: Classifier) -> None:
    page = ROOT / "docs" / "serve.md"
    request = re.findall(r"/predict --json '(.*)'", blocks(page, "bash")[0])[0]
    answer = json.loads(blocks(page, "json")[0])["answers"][0]
    ((category, confidence),) = classifier.top(json.loads(request)["titles"][:1], k=1)[0]
    assert answer["category"] == category
    assert answer["confidence"] == pytest.approx(confidence, abs=TOLERANCE)


def test_explanation_is_the_explanation_of_the_model(classifier: Classifier) -> None:
    (table,) = [block for block in blocks(ROOT / "docs/predict.md", "") if "logits" in block]
    title, verdict, _, *lines = table.splitlines()
    explained = classifier.explain(title)
    assert explained.category in verdict and explained.other in verdict
    for line, word in zip(lines, explained.words, strict=True):
        text, contribution = line.split()[:2]
        assert text == word.text
        assert float(contribution) == pytest.approx(word.contribution, abs=0.5)
