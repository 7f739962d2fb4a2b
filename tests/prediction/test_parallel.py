"""Predictions of several processes have the same bytes as predictions of one process."""

from __future__ import annotations

import numpy as np
import pytest

from rubro.prediction import parallel
from rubro.prediction.classifier import Classifier
from rubro.prediction.parallel import answered, logits_of
from support.tiny_models import MakeModel

pytest_plugins = ["support.tiny_models"]


@pytest.fixture
def titles() -> list[str]:
    """Titles that consist of frequent and of rare words."""
    random = np.random.default_rng(5)
    words = ["apple", "drill", "boot", "nokia", "red", "new"]
    return [
        " ".join([*random.choice(words, 3), *(f"w{n}" for n in random.integers(0, 900, 4))])
        for _ in range(300)
    ]


def test_the_bytes_of_logits_do_not_depend_on_the_number_of_processes(
    make_model: MakeModel, titles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_CHUNK", 32)
    model = make_model("mlp", "cnn", "svm")
    one, *others = (
        logits_of({"ensemble": Classifier(model)}, titles, number)["ensemble"]
        for number in (1, 2, 3, 1)
    )
    for other in others:
        np.testing.assert_array_equal(other, one)
    np.testing.assert_allclose(one, Classifier(model).logits(titles), atol=1e-4)


def test_logits_of_no_titles_and_of_a_second_call_are_correct(
    make_model: MakeModel, titles: list[str]
) -> None:
    classifier = Classifier(make_model("mlp"))
    for texts in ([], titles, titles):
        found = logits_of({"ensemble": classifier}, texts, 2)["ensemble"]
        np.testing.assert_allclose(found, classifier.logits(texts), atol=1e-4)


def test_a_settled_classifier_caches_only_the_tokens_of_the_first_chunk(
    make_model: MakeModel,
) -> None:
    classifier = Classifier(make_model("cnn"))
    chunks = [["apple drill"], ["boot"], ["drill zzz yyy"], ["boot"]]
    known = []

    def answer(chunk: list[str]) -> list[str]:
        known.append(len(classifier._featurizer))
        return classifier.predict(chunk)

    answers = [answer for _, answer in answered(classifier, chunks, answer, 1)]
    assert answers == [Classifier(make_model("cnn")).predict(chunk) for chunk in chunks]
    assert known == [0, 2, 3, 4]  # each call discards the tokens of the call before
    classifier.predict([])
    assert len(classifier._featurizer) == 2


def test_single_models_use_the_logits_of_the_ensemble_or_their_own(
    make_model: MakeModel, titles: list[str]
) -> None:
    models = {"ensemble": ("mlp", "cnn"), "mlp": ("mlp",), "cnn": ("cnn",), "svm": ("svm",)}
    classifiers = {name: Classifier(make_model(*members)) for name, members in models.items()}
    found = logits_of(classifiers, titles, 2)
    assert list(found) == list(models)
    for name, members in models.items():
        expected = Classifier(make_model(*members)).logits(titles)
        np.testing.assert_allclose(found[name], expected, atol=1e-4)
