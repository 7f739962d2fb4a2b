"""Test which titles are answered together, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rubro import Classifier
from rubro.service.batching import Batcher, parts
from support.keyword_model import write_model

pytest_plugins = ["support.keyword_model"]


def run(work: Callable[[Batcher], Awaitable[Any]]) -> tuple[list[int], Any]:
    """Return the sizes of the batches of some work, and its result."""
    sizes: list[int] = []

    async def start() -> Any:
        return await work(Batcher(sizes.append))

    result = asyncio.run(start())
    return sizes, result


@pytest.fixture(scope="module")
def classifier(model: Path) -> Classifier:
    return Classifier.load(model)


def test_waiting_titles_of_the_same_model_are_answered_together(
    classifier: Classifier, tmp_path: Path
) -> None:
    other = Classifier.load(write_model(tmp_path / "other"))
    other.classes_ = [f"new {name}" for name in classifier.classes_]
    requests = [(classifier, ["mesa"], 1), (classifier, ["silla"], 2)]
    requests += [(other, ["taza"], 1), (classifier, ["lampara"], 4)]

    async def ask(batcher: Batcher) -> Any:
        return await asyncio.gather(*(batcher.top(*request) for request in requests))

    sizes, found = run(ask)
    assert sizes == [2, 1, 1]
    assert found == [model.top(titles, k) for model, titles, k in requests]


def test_a_long_request_lets_short_ones_pass(classifier: Classifier) -> None:
    order = []

    async def ask(batcher: Batcher, titles: list[str]) -> None:
        for part in parts(classifier, titles):
            assert await batcher.top(classifier, part, 1) == classifier.top(part, 1)
        order.append(len(titles))

    async def ask_both(batcher: Batcher) -> Any:
        await asyncio.gather(ask(batcher, ["mesa"] * 300), ask(batcher, ["taza"]))

    sizes, _ = run(ask_both)
    assert order == [1, 300]
    assert sum(sizes) == 301
    assert max(sizes) <= 128


def test_an_error_reaches_only_the_request_whose_titles_fail(classifier: Classifier) -> None:
    async def ask(batcher: Batcher) -> Any:
        wrong: Any = [3]
        requests = [batcher.top(classifier, titles, 1) for titles in (["mesa"], wrong, ["taza"])]
        found = await asyncio.gather(*requests, return_exceptions=True)
        return [*found, await batcher.top(classifier, ["silla"], 1)]

    _, (mesa, error, taza, after) = run(ask)
    assert isinstance(error, TypeError)
    assert [each[0][0][0] for each in (mesa, taza, after)] == ["TABLES", "MUGS", "CHAIRS"]
