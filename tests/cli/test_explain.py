"""`rubro explain`: JSON, a coloured terminal, and messages."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from rubro.prediction.folder import ModelColumn
from support.keyword_model import assert_refused, called, command, in_terminal
from support.tiny_models import MakeModel

pytest_plugins = ["support.keyword_model", "support.tiny_models"]


def explain(model: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return called(model, "explain", "--model", str(model), *arguments)


def test_each_title_is_a_line_of_json(model: Path) -> None:
    done = explain(model, "Una Lámpara, silla!", "taza")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["category"], first["other"], second["category"]) == ("CHAIRS", "LAMPS", "MUGS")
    assert (first["out_of_vocabulary"], first["foreign"], second["foreign"]) == (0.6, True, False)
    texts = ["Una", "Lámpara", ",", "silla", "!"]
    assert [word["text"] for word in first["words"]] == texts
    for word in first["words"]:
        assert "Una Lámpara, silla!"[word["start"] : word["end"]] == word["text"]
    # A word weighs 4 if it is the only known word, and 4 / sqrt(2) if there are two.
    half = 4 / 2**0.5
    contributions = [word["contribution"] for word in first["words"]]
    assert contributions == pytest.approx([0, -4, 0, 4, 0], abs=1e-5)
    linear = {each["text"]: each["contribution"] for each in first["linear"]}
    assert linear == pytest.approx({"silla": half, "lampara": -half}, abs=1e-5)
    assert first["linear_bias"] == pytest.approx(0.1, abs=1e-6)
    assert first["nearest"] == []


@pytest.mark.parametrize(
    ("bounds", "price", "shown"),
    [
        ([10.0, 1500.5], "5", "price < 10"),
        ([10.0, 1500.5], "$ 10", "10 <= price < 1500.5"),
        ([1500.5], "2e6", "1500.5 <= price"),
    ],
)
def test_the_range_of_a_number_is_one_feature(
    tmp_path: Path, make_model: MakeModel, bounds: list[float], price: str, shown: str
) -> None:
    columns = [ModelColumn(name="price", bounds=bounds, max_tokens=1)]
    make_model("svm", text_columns=columns).save(tmp_path)
    done = explain(tmp_path, "red apple", "--text", f"price={price}")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    numbers = [each["text"] for each in found["linear"] if each["column"] == "price"]
    assert numbers == [shown]
    assert {"red", "apple"} <= {each["text"] for each in found["linear"]}
    contributions = [each["contribution"] for each in found["linear"]]
    assert found["linear_bias"] + sum(contributions) == pytest.approx(found["lead"], abs=1e-3)
    assert [abs(each) for each in contributions] == sorted(map(abs, contributions), reverse=True)


def test_a_terminal_gets_colours(model: Path) -> None:
    code, text = in_terminal(model, command(model, ["lámpara silla zzz"], "explain"))
    assert code == 0
    title, verdict, *_ = text.splitlines()
    assert "\x1b[1;7;32msilla\x1b[0m" in title
    assert "\x1b[1;7;31mlámpara\x1b[0m" in title
    assert "CHAIRS" in verdict and "LAMPS" in verdict
    assert "unknown" in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["mesa", " "], "title ' '"),
        (["mesa", "--against", "BOATS"], "'BOATS'"),
        (["mesa", "--nearest", "2"], "ensemble.training_titles=true"),
        (["mesa", "--nearest", "-1"], "'--nearest'"),
        ([], "Missing argument"),
    ],
)
def test_wrong_input_gives_one_message(model: Path, arguments: list[str], fact: str) -> None:
    assert_refused(explain(model, *arguments), fact)
