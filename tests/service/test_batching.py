"""Which titles are computed together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rubro import Classifier
from rubro.service.batching import Batcher, Overloaded
from support.keyword_model import write_model

pytest_plugins = ["support.keyword_model"]


def batches(work: Callable[[Batcher], Awaitable[Any]]) -> tuple[list[int], Any]:
    """Sizes of the batches of some work, and its result."""
    sizes: list[int] = []
    batcher = Batcher(sizes.append)

    async def run() -> Any:
        return await work(batcher)

    return sizes, asyncio.run(run())


@pytest.fixture(scope="module")
def classifier(model: Path) -> Classifier:
    return Classifier.load(model)


def test_those_who_wait_are_answered_together(classifier: Classifier) -> None:
    titles = ["mesa", "silla", "taza", "lampara"]

    async def ask(batcher: Batcher) -> Any:
        asked = [batcher.top(classifier, [title], k) for k, title in enumerate(titles, start=1)]
        return await asyncio.gather(*asked)

    sizes, found = batches(ask)
    assert sizes == [4]
    assert found == [classifier.top([title], k) for k, title in enumerate(titles, start=1)]


def test_a_long_list_lets_others_pass(classifier: Classifier) -> None:
    order = []

    async def asked(batcher: Batcher, titles: list[str]) -> None:
        found = await batcher.top(classifier, titles, 1)
        assert found == classifier.top(titles, 1)
        order.append(len(titles))

    async def ask(batcher: Batcher) -> Any:
        await asyncio.gather(asked(batcher, ["mesa"] * 300), asked(batcher, ["taza"]))

    sizes, _ = batches(ask)
    assert order == [1, 300]
    assert sum(sizes) == 301
    assert max(sizes) <= 128


def test_each_request_keeps_its_model(classifier: Classifier, tmp_path: Path) -> None:
    other = Classifier.load(write_model(tmp_path / "other"))
    other.classes_ = [f"new {name}" for name in classifier.classes_]
    models = [classifier, other, classifier, other, other]

    async def ask(batcher: Batcher) -> Any:
        return await asyncio.gather(*(batcher.top(model, ["mesa"], 1) for model in models))

    sizes, found = batches(ask)
    assert [best[0][0][0] for best in found] == [model.classes_[0] for model in models]
    assert sizes == [1, 1, 1, 2]


def test_too_many_who_wait_are_sent_away(classifier: Classifier) -> None:
    async def ask(batcher: Batcher) -> Any:
        asked = (batcher.top(classifier, ["mesa"], 1) for _ in range(5000))
        return await asyncio.gather(*asked, return_exceptions=True)

    _, found = batches(ask)
    refused = sum(isinstance(each, Overloaded) for each in found)
    assert refused == 5000 - 4096
    assert sum(isinstance(each, list) for each in found) == 4096


def test_an_error_of_the_model_reaches_everyone_in_its_batch(classifier: Classifier) -> None:
    async def ask(batcher: Batcher) -> Any:
        wrong: Any = [3]
        asked = [batcher.top(classifier, titles, 1) for titles in (["mesa"], wrong, ["taza"])]
        found = await asyncio.gather(*asked, return_exceptions=True)
        return [*found, await batcher.top(classifier, ["silla"], 1)]

    _, (*together, after) = batches(ask)
    assert all(isinstance(each, TypeError) for each in together)
    assert after[0][0][0] == "CHAIRS"
