"""Predictions of several processes have the same bytes as predictions of one process."""

from __future__ import annotations

import numpy as np
import pytest

from rubro.prediction import parallel
from rubro.prediction.classifier import Classifier
from rubro.prediction.parallel import answered, member_logits_of
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


def combined_logits(classifier: Classifier, titles: list[str], processes: int) -> np.ndarray:
    return classifier.combine(member_logits_of([classifier], titles, processes))


def test_the_bytes_of_logits_do_not_depend_on_the_number_of_processes(
    make_model: MakeModel, titles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_CHUNK", 32)
    model = make_model("mlp", "cnn", "svm")
    one, *others = (combined_logits(Classifier(model), titles, number) for number in (1, 2, 3, 1))
    for other in others:
        np.testing.assert_array_equal(other, one)
    np.testing.assert_allclose(one, Classifier(model).logits(titles), atol=1e-4)


def test_logits_of_no_titles_and_of_a_second_call_are_correct(
    make_model: MakeModel, titles: list[str]
) -> None:
    classifier = Classifier(make_model("mlp"))
    for texts in ([], titles, titles):
        found = combined_logits(classifier, texts, 2)
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


def test_the_logits_of_a_member_that_several_models_have_are_computed_once(
    make_model: MakeModel, titles: list[str]
) -> None:
    both, mlp, svm = (
        Classifier(make_model(*names)) for names in (("mlp", "cnn"), ["mlp"], ["svm"])
    )
    found = member_logits_of([both, mlp, svm], titles, 2)
    assert list(found) == ["mlp", "cnn", "svm"]
    assert len(mlp._featurizer) == 0
    for classifier in (both, mlp, svm):
        expected = classifier.logits(titles)
        np.testing.assert_allclose(classifier.combine(found), expected, atol=1e-4)
