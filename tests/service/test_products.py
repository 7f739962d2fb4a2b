"""Test requests with several columns, and answers with the levels of a category tree."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rubro import Classifier
from rubro.prediction.answers import answers
from rubro.prediction.folder import ModelColumn
from support.keyword_model import PATHS, write_model
from support.serving import SECONDS, Server, running

pytest_plugins = ["support.keyword_model", "support.serving"]


def one_answer(server: Server, product: Any, **options: Any) -> dict[str, Any]:
    answer = server.ask("/predict", {"titles": product, **options})
    assert answer.status == 200, answer.body
    (found,) = answer.json["answers"]
    return dict(found)


# Columns


def test_a_product_with_columns_gets_the_answer_of_the_classifier(
    shop: Server, shop_model: Path
) -> None:
    products: list[Any] = [
        "mesa",
        {"nombre": "mesa", "marca": "silla"},
        {"nombre": "taza", "precio": "12"},
    ]
    expected = Classifier.load(shop_model).top(products, 1)
    found = shop.ask("/predict", {"titles": products}).json["answers"]
    assert [answer["category"] for answer in found] == [PATHS[0], PATHS[2], PATHS[3]]
    assert [answer["confidence"] for answer in found] == [round(p, 6) for ((_, p),) in expected]


@pytest.mark.parametrize(
    "product",
    [
        {"title": "mesa", "marca": None},
        {"nombre": "mesa", "precio": 12.5},
        {"nombre": "mesa", "marca": float("nan"), "precio": ""},
        [{"nombre": "mesa"}],
    ],
    ids=str,
)
def test_missing_texts_are_empty_and_numbers_are_texts(shop: Server, product: Any) -> None:
    assert one_answer(shop, product) == one_answer(shop, "mesa")


def test_a_flat_model_accepts_objects_with_a_title(server: Server) -> None:
    for product in ({"title": "mesa"}, [{"title": "mesa"}]):
        assert one_answer(server, product) == one_answer(server, "mesa")


def test_a_product_without_a_title_keeps_its_place(shop: Server) -> None:
    broken = {"nombre": "mesa", "marca": "a\ud800"}
    products = [{}, {"nombre": " ", "marca": "mesa"}, broken, {"nombre": "mesa"}, 5]
    found = shop.ask("/predict", {"titles": products}).json["answers"]
    facts = ["empty", "empty", "column marca contains an unpaired surrogate", "", "not text"]
    assert [answer["error"] is None for answer in found] == [not fact for fact in facts]
    assert all(fact in (answer["error"] or "") for fact, answer in zip(facts, found, strict=True))
    assert found[3]["category"] == PATHS[0]


@pytest.mark.parametrize(
    ("product", "facts"),
    [
        ({"nombre": "mesa", "brand": "x"}, ["brand", "nombre", "marca", "precio"]),
        ({"x" * 10_000: "mesa"}, ["nombre", "marca"]),
        ({"\ud800": "mesa"}, ["nombre", "marca"]),
        ({"nombre": "mesa", "title": "mesa"}, ["nombre", "title"]),
        ({"nombre": ["mesa"]}, ["nombre"]),
        ({"marca": {"name": "x"}}, ["marca"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_malformed_object_is_refused(shop: Server, product: Any, facts: list[str]) -> None:
    for path, content, place in (
        ("/predict", {"titles": ["taza", product]}, "titles.1"),
        ("/explain", {"title": product}, "title.0"),
    ):
        answer = shop.ask(path, content)
        assert answer.status == 422
        assert len(answer.json["detail"]) < 1000
        for fact in (*facts, place):
            assert fact in answer.json["detail"]


def test_long_texts_are_cut_off(shop: Server) -> None:
    product = {"nombre": "mesa " * 10_000 + "taza", "marca": "x " * 10_000 + "taza"}
    assert one_answer(shop, product)["category"] == PATHS[0]


def test_explain_returns_the_column_of_each_word(shop: Server, server: Server) -> None:
    product = {"nombre": "Taza blanca", "marca": "Mesa y Cía"}
    found = shop.ask("/explain", {"title": product}).json
    assert found["answer"]["category"] == PATHS[1]
    for word in found["words"]:
        assert product[word["column"]][word["start"] : word["end"]] == word["text"]
    contributions = {word["text"]: word["contribution"] for word in found["words"]}
    assert contributions["Mesa"] > 0 > contributions["Taza"]
    words = server.ask("/explain", {"title": "mesa"}).json["words"]
    assert words[0].keys() == {"text", "start", "end", "contribution", "known"}


def test_the_explanation_of_a_long_text_lets_other_requests_pass(tmp_path: Path) -> None:
    column = ModelColumn(name="texto", max_tokens=500)
    with running(write_model(tmp_path / "model", columns=[column])) as server:
        order = []

        def ask(path: str, content: Any) -> None:
            assert server.ask(path, content).status == 200
            order.append(path)

        with ThreadPoolExecutor(2) as threads:
            product = {"title": "mesa", "texto": "una taza " * 250}
            asked = [threads.submit(ask, "/explain", {"title": product})]
            while not server.metric("rubro_batch_titles_count"):
                time.sleep(0.01)
            asked.append(threads.submit(ask, "/predict", {"titles": "mesa"}))
            for each in asked:
                each.result()
        assert order == ["/predict", "/explain"]


# Levels


def test_an_answer_is_the_deepest_level_that_is_certain_enough(shop: Server) -> None:
    leaf = one_answer(shop, "mesa silla")
    assert (leaf["category"], leaf["predicted_level"]) == (PATHS[0], 2)
    assert leaf["top"] == [
        {"category": PATHS[0], "confidence": leaf["confidence"], "path": ["Muebles", "Mesas"]}
    ]
    root = one_answer(shop, "mesa silla", min_confidence=0.8)
    assert (root["category"], root["predicted_level"], root["path"]) == ("Muebles", 1, ["Muebles"])
    assert root["confidence"] > 0.8 > leaf["confidence"]
    assert root["top"] == leaf["top"]
    nothing = one_answer(shop, "mesa silla", min_confidence=0.99)
    assert (nothing["category"], nothing["predicted_level"], nothing["path"]) == (None, 0, [])
    assert nothing["confidence"] == leaf["confidence"]
    (error,) = shop.ask("/predict", {"titles": [5]}).json["answers"]
    assert error.keys() == leaf.keys()


def test_thresholds_choose_the_deepest_level_that_keeps_the_promise(
    shop_model: Path, tmp_path: Path
) -> None:
    description = Classifier.load(shop_model).description
    counts = {"titles": 9, "kept": 9, "right": 9, "low": 0.5, "high": 1.0}
    content = {
        "model": "svm",
        "fingerprint": description.fingerprint,
        "precision": 0.9,
        "coverage": 0.9,
        "least_titles": 1,
        "all": counts,
        "unknown": counts,
        "levels": [
            {"level": level, "confidence": confidence, **counts}
            for level, confidence in ((3, None), (2, 0.9), (1, 0.8))
        ],
    }
    file = tmp_path / "thresholds.json"
    file.write_text(json.dumps(content))
    titles = ["mesa", "mesa silla", "taza", "mesa silla otras cosas distintas"]
    with running(shop_model, "--thresholds", str(file)) as server:
        found = server.ask("/predict", {"titles": titles}).json["answers"]
    assert [answer["category"] for answer in found] == [PATHS[0], "Muebles", "Vajilla", None]
    assert [answer["predicted_level"] for answer in found] == [2, 1, 1, 0]
    assert [answer["threshold"] for answer in found] == [None] * 4  # of the deepest level


def test_a_request_may_ask_for_a_level(shop: Server) -> None:
    found = one_answer(shop, "lampara silla mesa", level=1, top=10)
    assert found["category"] == "Muebles"
    assert [choice["path"] for choice in found["top"]] == [["Muebles"], ["Luz"], ["Vajilla"]]
    assert sum(choice["confidence"] for choice in found["top"]) == pytest.approx(1, abs=1e-5)
    found = one_answer(shop, "lampara", level=2.0)
    assert (found["category"], found["path"]) == ("Luz > Techo", ["Luz", "Techo"])
    found = one_answer(shop, "taza", level=3)
    assert (found["category"], found["predicted_level"]) == ("Vajilla", 1)


def test_explain_compares_the_nodes_of_a_level(shop: Server) -> None:
    title = "mesa silla lampara"
    leaf = shop.ask("/explain", {"title": title}).json
    assert (leaf["answer"]["category"], leaf["other"]) == (PATHS[0], PATHS[1])
    root = shop.ask("/explain", {"title": title, "level": 1}).json
    assert (root["answer"]["category"], root["other"]) == ("Muebles", "Luz")
    signs = [
        {word["text"]: word["contribution"] > 0 for word in found["words"]}
        for found in (leaf, root)
    ]
    assert signs[0]["mesa"] > signs[0]["silla"]
    assert signs[1] == {"mesa": True, "silla": True, "lampara": False}


def test_a_level_that_does_not_exist_is_refused(shop: Server, server: Server) -> None:
    for service, level in ((shop, 4), (shop, 0), (shop, 10**30), (shop, "1"), (server, 1)):
        for path, content in (("/predict", {"titles": "mesa"}), ("/explain", {"title": "mesa"})):
            answer = service.ask(path, {**content, "level": level})
            assert answer.status == 422, answer.body
            assert "level" in answer.json["detail"]


def test_requests_with_different_levels_are_answered_together(
    shop: Server, shop_model: Path
) -> None:
    classifier = Classifier.load(shop_model)
    words = ["mesa", "silla", "lampara", "taza", "nada"]
    asked = [
        (
            {"nombre": f"{words[n % 5]} {words[n % 3]}", "marca": words[n % 4]},
            n % 4 or None,
            n / 200,
        )
        for n in range(200)
    ]

    def category(question: tuple[Any, int | None, float]) -> str | None:
        product, level, minimum = question
        found = one_answer(shop, product, level=level, min_confidence=minimum)["category"]
        return None if found is None else str(found)

    expected = [
        answers(classifier, [product], level=level, min_confidence=minimum)[0].category
        for product, level, minimum in asked
    ]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(category, asked)) == expected


def test_the_paths_and_columns_of_the_model_are_listed(shop: Server, server: Server) -> None:
    found = shop.ask("/categories").json
    assert found["categories"] == PATHS
    assert found["paths"] == [path.split(" > ") for path in PATHS]
    assert shop.ask("/version").json["columns"] == ["nombre", "marca", "precio"]
    columns = {"title_column", "category_columns"}
    assert server.ask("/categories").json.keys() == {"model", "categories", *columns}
    assert server.ask("/version").json.keys() == {"model", "rubro"}


def test_a_model_folder_without_columns_and_paths_keeps_the_previous_format(
    server: Server, model: Path
) -> None:
    content = json.loads((model / "model.json").read_text())
    assert content.keys() == {
        *("format", "name", "labels", "text", "subwords", "members", "objective", "decisions"),
        *("final_fit", "category_titles", "files"),
    }
    assert content["text"].keys() == {
        *("title_column", "category_column", "max_title_length", "max_tokens", "bigram_buckets"),
    }
    answer = one_answer(server, "mesa", top=2)
    assert answer.keys() == {"category", "confidence", "top", "error"}
    assert answer["top"][0].keys() == {"category", "confidence"}
    found = server.ask("/explain", {"title": "mesa"}).json
    assert found.keys() == {"model", "answer", "other", "foreign", "words"}


# OpenAPI


def test_openapi_describes_the_columns_and_levels_of_the_model(
    shop: Server, server: Server
) -> None:
    schemas = shop.ask("/openapi.json").json["components"]["schemas"]
    assert schemas["Product"]["properties"].keys() == {"title", "nombre", "marca", "precio"}
    assert schemas["Product"]["additionalProperties"] is False
    for request in ("PredictRequest", "ExplainRequest"):
        assert schemas[request]["properties"]["level"]["anyOf"][0]["maximum"] == 3
    schemas = server.ask("/openapi.json").json["components"]["schemas"]
    assert schemas["Product"]["properties"].keys() == {"title"}
    assert "level" not in schemas["PredictRequest"]["properties"]


def test_openapi_follows_the_model_in_use(tmp_path: Path, shop_model: Path) -> None:
    folder = write_model(tmp_path / "model")
    with running(folder) as server:
        assert server.ask("/openapi.json").status == 200
        shutil.copytree(shop_model, folder, dirs_exist_ok=True)
        deadline = time.monotonic() + SECONDS
        while "columns" not in server.ask("/version").json:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        schemas = server.ask("/openapi.json").json["components"]["schemas"]
        assert "marca" in schemas["Product"]["properties"]
