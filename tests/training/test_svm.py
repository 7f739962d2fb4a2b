"""The linear SVM with naive Bayes: scores, weights, options and special cases."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_sample_weight

from rubro.base.files import read_tensors, write_tensors
from rubro.base.text import tokenise
from rubro.features.featurizer import Tokens
from rubro.features.subwords import Subwords
from rubro.features.titles import LabelledTitles
from rubro.prediction.folder import SvmMember
from rubro.prediction.networks import SvmScorer
from rubro.training.svm import _chosen_weight, fit_svm
from support.tiny_models import (
    BIGRAM_BUCKETS,
    LABELS,
    Learnable,
    MakeParams,
    MakeTitles,
    whole_words,
)

pytest_plugins = ["support.tiny_models"]

CLASSES = len(LABELS)


@dataclass(frozen=True)
class Svm:
    """Tensors of a fitted SVM and a scorer that uses them."""

    tensors: dict[str, np.ndarray]
    scorer: SvmScorer


Fit = Callable[..., Svm]


@pytest.fixture
def fit(subwords: Subwords, make_params: MakeParams) -> Fit:
    """Function that fits an SVM exactly, without naive Bayes and with all weights by default."""

    def make(
        titles: LabelledTitles,
        tokens: Tokens,
        classes: int = CLASSES,
        buckets: int = BIGRAM_BUCKETS,
        seed: int = 1,
        known: Subwords = subwords,
        validation: LabelledTitles | None = None,
        **changes: Any,
    ) -> Svm:
        values = {
            "tolerance": 1e-4,
            "max_iterations": 1000,
            "smallest_weight": 0.0,
            "class_weights": "off",
            "naive_bayes_weight": 0.0,
            **changes,
        }
        params = make_params({f"train_svm.{key}": value for key, value in values.items()})
        tensors, _ = fit_svm(
            titles,
            validation or titles,
            tokens,
            known,
            buckets,
            classes,
            params.train_svm,
            "accuracy",
            seed,
        )
        columns = titles.features.columns
        scorer = SvmScorer(tensors, len(known.vocabulary), known.row_count, columns)
        return Svm(tensors, scorer)

    return make


def scores_of(svm: Svm, titles: LabelledTitles, tokens: Tokens) -> np.ndarray:
    return svm.scorer.logits(titles.features, svm.scorer.token_states(tokens))


def inputs_of(titles: LabelledTitles, tokens: Tokens, subwords: Subwords) -> np.ndarray:
    """Return TF-IDF values computed in plain Python, (titles, rows + buckets)."""
    rows, words = subwords.row_count, len(subwords.vocabulary)
    counts = np.zeros((len(titles), rows + BIGRAM_BUCKETS))
    for title in range(len(titles)):
        for token in titles.features.tokens[title]:
            for row in tokens[token]:
                counts[title, row] += 1
        for bigram in titles.features.bigrams[title]:
            counts[title, rows + bigram] += 1
    idf = np.log((1 + len(titles)) / (1 + (counts > 0).sum(axis=0))) + 1
    inputs = counts * idf
    for title in range(len(titles)):
        for columns in (slice(words, rows), np.r_[0:words, rows : rows + BIGRAM_BUCKETS]):
            # Each occurrence counts as an input of its own in the length.
            length = math.sqrt((counts[title, columns] * idf[columns] ** 2).sum())
            inputs[title, columns] /= length or 1.0
    return np.asarray(inputs)


def test_scores_equal_scikit_learn(fit: Fit, learnable: Learnable, subwords: Subwords) -> None:
    train, _, tokens = learnable
    svm = fit(train, tokens)
    inputs = inputs_of(train, tokens, subwords)
    reference = LinearSVC(multi_class="crammer_singer", tol=1e-4, max_iter=1000, random_state=1)
    expected = reference.fit(inputs, train.labels.targets).decision_function(inputs)
    np.testing.assert_allclose(scores_of(svm, train, tokens), expected, atol=0.01)
    assert np.abs(reference.coef_).max() > 0.2


@pytest.mark.parametrize(
    ("words", "others", "between"),
    [
        (["केला", "काला", "कील", "कुल"], ["पैक", "नया", "बड़ा", "किलो"], " "),  # Hindi
        (["ข้าว", "ข่าว", "ขาว"], ["ใหม่", "ลดราคา", "ชิ้น", "ขายดี"], ""),  # Thai
        (["牛奶", "奶牛", "牛角"], ["新款", "红色", "大号", "包邮"], ""),  # Chinese
    ],
)
def test_combining_marks_and_words_without_spaces_distinguish_titles(
    fit: Fit, make_titles: MakeTitles, words: list[str], others: list[str], between: str
) -> None:
    texts, targets = [], []
    for first, last in itertools.product(others, others):
        for target, word in enumerate(words):
            texts.append(" ".join(tokenise(between.join([first, word, last]))))
            targets.append(target)
    known = whole_words(dict.fromkeys(" ".join(texts).split(), 1), len(texts))
    titles, tokens = make_titles(texts, targets, subwords=known)
    half = len(texts) // 2
    svm = fit(titles.take(np.arange(half)), tokens, classes=len(words), known=known)
    scores = scores_of(svm, titles.take(np.arange(half, len(texts))), tokens)
    assert (scores.argmax(1) == targets[half:]).all()


def test_zero_bigram_buckets_are_allowed(
    fit: Fit, make_titles: MakeTitles, subwords: Subwords
) -> None:
    texts, targets = ["apple pear", "drill saw", "boot heel", "nokia screen"], [0, 1, 2, 3]
    titles, tokens = make_titles(texts, targets, bigram_buckets=0)
    svm = fit(titles, tokens, buckets=0)
    assert len(svm.tensors["idf"]) == subwords.row_count
    assert (scores_of(svm, titles, tokens).argmax(1) == targets).all()


def test_only_small_weights_are_removed(fit: Fit, learnable: Learnable) -> None:
    train, _, tokens = learnable
    whole = fit(train, tokens).tensors["weights"]
    pruned = fit(train, tokens, smallest_weight=0.05).tensors["weights"]
    assert 0 < len(pruned) < len(whole)
    assert np.abs(pruned).min() >= 0.0499
    np.testing.assert_array_equal(whole[np.abs(whole) >= 0.05], pruned)


def test_naive_bayes_equals_scikit_learn_for_a_title_of_mean_length(
    fit: Fit, learnable: Learnable, subwords: Subwords
) -> None:
    train, validation, tokens = learnable
    smoothing = 0.2
    without = fit(train, tokens)
    svm = fit(train, tokens, naive_bayes_weight=1.0, naive_bayes_smoothing=smoothing)
    added = scores_of(svm, train, tokens) - scores_of(without, train, tokens)
    inputs, targets = inputs_of(train, tokens, subwords), train.labels.targets
    reference = MultinomialNB(alpha=smoothing, fit_prior=False)
    reference.fit(inputs, targets, compute_sample_weight("balanced", targets))
    whole = np.log(reference.feature_count_.sum(axis=1) + smoothing * inputs.shape[1])
    lengths = inputs.sum(axis=1, keepdims=True)
    expected = inputs @ reference.feature_log_prob_.T - lengths * math.log(smoothing)
    np.testing.assert_allclose(added, expected + (lengths - lengths.mean()) * whole, atol=0.02)
    right = scores_of(svm, validation, tokens).argmax(1) == validation.labels.targets
    assert right.mean() > 0.95


def test_the_weight_of_naive_bayes_is_the_best_one_on_validation() -> None:
    random = np.random.default_rng(1)
    targets = random.integers(0, 4, 600)
    even = np.full(4, math.log(1 / 4))
    informative = np.eye(4)[targets]
    misleading = np.eye(4)[(targets + 1) % 4]
    scores = informative + 0.5 * random.normal(size=(600, 4))
    for added, expected in ((misleading * 30, 0.0), (informative * 6, 0.08)):
        assert _chosen_weight(scores, added, targets, even, "accuracy") == expected


def test_unreliable_titles_have_less_influence(fit: Fit, make_titles: MakeTitles) -> None:
    texts = ["apple", "drill", "boot", "nokia", "apple"]
    titles, tokens = make_titles(texts, [0, 1, 2, 3, 3], [True] * 4 + [False])
    leads = []
    for weight in (0.1, 0.5, 1.0):
        svm = fit(titles, tokens, label_quality="weight", unreliable_weight=weight, C=0.1)
        scores = scores_of(svm, titles, tokens)[0]
        leads.append(scores[0] - scores[3])
    assert leads[0] > leads[1] > leads[2] - 1e-6


def test_the_seed_determines_the_sample_of_titles(fit: Fit, learnable: Learnable) -> None:
    train, _, tokens = learnable
    one, again, other = (fit(train, tokens, seed=seed, max_titles=50).tensors for seed in (1, 1, 2))
    for name, tensor in one.items():
        np.testing.assert_array_equal(again[name], tensor)
    assert not np.array_equal(one["idf"], other["idf"])
    rarest = math.log(51 / 1) + 1  # of an input that occurs in none of the 50 titles
    assert one["idf"].max() == pytest.approx(rarest, rel=1e-6)


def test_a_sample_contains_labelled_titles_first(fit: Fit, make_titles: MakeTitles) -> None:
    labelled, tokens = make_titles(["apple", "drill", "boot", "nokia"] * 5, [0, 1, 2, 3] * 5)
    few = np.where(np.arange(20) < 8, 1, 0.9).astype(np.float32)
    titles = LabelledTitles(labelled.features, replace(labelled.labels, weights=few))
    sampled = fit(titles, tokens, max_titles=8).tensors
    expected = fit(labelled.take(np.arange(8)), tokens).tensors
    for name, tensor in expected.items():
        np.testing.assert_array_equal(sampled[name], tensor)


def test_only_the_most_frequent_inputs_have_weights(fit: Fit, learnable: Learnable) -> None:
    train, _, tokens = learnable
    whole, few = fit(train, tokens), fit(train, tokens, max_inputs=10)
    weighted, kept = (np.flatnonzero(np.diff(svm.tensors["starts"])) for svm in (whole, few))
    assert 0 < len(kept) <= 10 < len(weighted)
    idf = few.tensors["idf"]
    others = np.setdiff1d(weighted, kept)
    assert idf[kept].max() <= idf[others].min() + 1e-6
    many = fit(train, tokens, max_inputs=10_000)
    np.testing.assert_array_equal(many.tensors["weights"], whole.tensors["weights"])


def test_dropped_titles_do_not_affect_the_fit(fit: Fit, make_titles: MakeTitles) -> None:
    texts = ["apple pear", "drill saw", "boot heel", "nokia screen", "apple drill"]
    titles, tokens = make_titles(texts, [0, 1, 2, 3, 3], [True] * 4 + [False])
    without, _ = make_titles(texts[:4], [0, 1, 2, 3])
    dropped = scores_of(fit(titles, tokens, label_quality="drop"), titles, tokens)
    absent = scores_of(fit(without, tokens), titles, tokens)
    present = scores_of(fit(titles, tokens, label_quality="ignore"), titles, tokens)
    np.testing.assert_allclose(dropped, absent, atol=1e-3)
    assert np.abs(present[4] - dropped[4]).max() > 0.1


@pytest.mark.parametrize("targets", [[0, 2], [3, 1]])
def test_two_of_several_categories_may_be_present(
    fit: Fit, make_titles: MakeTitles, targets: list[int]
) -> None:
    titles, tokens = make_titles(["apple pear", "drill saw"] * 3, targets * 3)
    svm = fit(titles, tokens)
    scores = scores_of(svm, titles, tokens)
    assert (scores.argmax(1) == targets * 3).all()
    lead = scores[np.arange(6), targets * 3] - scores[np.arange(6), targets[::-1] * 3]
    assert (lead > 0.9).all()


def test_a_single_category_is_allowed(fit: Fit, make_titles: MakeTitles) -> None:
    titles, tokens = make_titles(["apple", "pear"], [0, 0])
    svm = fit(titles, tokens, classes=1)
    assert len(svm.tensors["weights"]) == 0
    np.testing.assert_array_equal(scores_of(svm, titles, tokens), np.zeros((2, 1)))


def test_a_fit_that_does_not_converge_is_reported(
    fit: Fit, learnable: Learnable, capsys: pytest.CaptureFixture[str]
) -> None:
    train, _, tokens = learnable
    fit(train, tokens)
    assert "tolerance" not in capsys.readouterr().err
    fit(train, tokens, max_iterations=1)
    assert "tolerance in 1 iterations" in capsys.readouterr().err


@pytest.mark.parametrize("classes", [CLASSES, 2**15, 2**15 + 1])
def test_tensors_have_the_layout_of_a_model_folder(
    classes: int, fit: Fit, make_titles: MakeTitles, subwords: Subwords, tmp_path: Path
) -> None:
    titles, tokens = make_titles(["apple pear", "drill saw"], [0, 1])
    tensors = fit(titles, tokens, classes, smallest_weight=0.3).tensors
    weights = len(tensors["weights"])
    layout = SvmMember(weights=weights).layout(subwords.row_count, BIGRAM_BUCKETS, classes)
    write_tensors(tmp_path / "svm.safetensors", tensors)
    read = read_tensors(tmp_path / "svm.safetensors", layout)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor, strict=True)


def test_the_columns_of_a_title_have_weights_of_their_own(
    fit: Fit, make_titles: MakeTitles
) -> None:
    # The word alone says nothing about the category; the column that it is in does.
    texts = ["apple", "drill", "drill", "apple"] * 20
    titles, tokens = make_titles(texts, [0, 1] * 20, columns=2)
    svm = fit(titles, tokens, classes=2)
    scores = scores_of(svm, titles, tokens)
    np.testing.assert_array_equal(scores.argmax(axis=1), titles.labels.targets)


def test_titles_without_their_further_columns_are_learned_too(
    fit: Fit, learnable_texts: tuple[list[str], list[int]], make_titles: MakeTitles
) -> None:
    texts, targets = learnable_texts
    brands = [f"brand{target}" for target in targets]
    pairs = [text for row in zip(texts, brands, strict=True) for text in row]
    titles, tokens = make_titles(pairs, targets, columns=2)
    alone = LabelledTitles(
        titles.features.without_columns(np.ones(len(titles), bool)), titles.labels
    )
    svm = fit(titles, tokens, tolerance=0.1)
    right = scores_of(svm, alone, tokens).argmax(axis=1) == titles.labels.targets
    assert right[np.array(list(map(bool, texts)))].mean() > 0.99
