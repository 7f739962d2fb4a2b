"""The linear SVM: how it is fitted, what it computes, and how it stands beside a classifier."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

from rubro.base.errors import DataError
from rubro.base.params import CnnParams, MlpParams, Params, TrainParams
from rubro.features.embedding import Embedding, Subwords
from rubro.features.titles import TitleFeatures, Tokens
from rubro.models.batches import gather
from rubro.models.cnn import Cnn
from rubro.models.folder import Origin, load_model, save_model
from rubro.models.inference import predict_logits
from rubro.models.layers import Classifier, ModelShape
from rubro.models.mlp import Mlp
from rubro.models.svm import Svm
from rubro.training.svm import fit_svm

pytest_plugins = ["helpers"]

CLASSES, BUCKETS = 4, 64
MakeFeatures = Callable[..., tuple[TitleFeatures, Tokens]]
Learnable = tuple[TitleFeatures, TitleFeatures, Tokens]
Fit = Callable[..., Svm]


@pytest.fixture
def fit(subwords: Subwords, make_params: Callable[..., Params]) -> Fit:
    """Fit to features and their tokens, exactly and with all weights but for what is given."""

    def make(
        features: TitleFeatures,
        tokens: Tokens,
        classes: int = CLASSES,
        buckets: int = BUCKETS,
        seed: int = 1,
        **changes: Any,
    ) -> Svm:
        values = {
            "tolerance": 1e-4,
            "max_iterations": 1000,
            "smallest_weight": 0.0,
            "naive_bayes_weight": 0.0,
            **changes,
        }
        params = make_params({f"train_svm.{key}": value for key, value in values.items()})
        return fit_svm(features, tokens, subwords, buckets, classes, params.train_svm, seed)

    return make


def scores_of(svm: Svm, features: TitleFeatures, tokens: Tokens) -> np.ndarray:
    return predict_logits(svm, features, tokens)


def inputs_of(features: TitleFeatures, tokens: Tokens, subwords: Subwords) -> np.ndarray:
    """TF-IDF of each title, in plain Python: (titles, rows + buckets)."""
    rows, words = subwords.row_count, len(subwords.vocabulary)
    counts = np.zeros((len(features), rows + BUCKETS))
    for title in range(len(features)):
        for token in features.tokens[title]:
            for row in tokens[token]:
                counts[title, row] += 1
        for bigram in features.bigrams[title]:
            counts[title, rows + bigram] += 1
    idf = np.log((1 + len(features)) / (1 + (counts > 0).sum(axis=0))) + 1
    inputs = counts * idf
    for title in range(len(features)):
        for columns in (slice(words, rows), np.r_[0:words, rows : rows + BUCKETS]):
            # An occurrence is an input of its own: two of them are not one of twice the length.
            length = math.sqrt((counts[title, columns] * idf[columns] ** 2).sum())
            inputs[title, columns] /= length or 1.0
    return np.asarray(inputs)


def test_the_scores_are_those_of_scikit_learn_on_tfidf_worked_out_by_hand(
    fit: Fit, learnable: Learnable, subwords: Subwords
) -> None:
    train, _, tokens = learnable
    svm = fit(train, tokens)
    inputs = inputs_of(train, tokens, subwords)
    reference = LinearSVC(
        multi_class="crammer_singer", tol=1e-4, max_iter=1000, random_state=1
    ).fit(inputs, train.targets)
    np.testing.assert_allclose(
        scores_of(svm, train, tokens), reference.decision_function(inputs), atol=0.01
    )
    assert np.abs(reference.coef_).max() > 0.2


def test_what_one_half_of_the_titles_teaches_holds_for_the_other(
    fit: Fit, learnable: Learnable
) -> None:
    train, validation, tokens = learnable
    right = scores_of(fit(train, tokens), validation, tokens).argmax(1) == validation.targets
    assert right.mean() > 0.95


def test_a_title_has_the_same_scores_alone_and_among_others(
    fit: Fit, make_features: MakeFeatures, learnable: Learnable
) -> None:
    svm = fit(*learnable[::2])
    features, tokens = make_features(["", "apple", "zzz drill drill", "zzz", "red new boot saw"])
    together = scores_of(svm, features, tokens)
    weights = np.ones(len(features), np.float32)
    for title in range(len(features)):
        alone = svm(gather(features, tokens, np.array([title]), weights))
        np.testing.assert_allclose(alone[0], together[title], atol=1e-5)
    np.testing.assert_allclose(together[0], svm.bias, atol=1e-6)


def test_without_bigrams_there_is_no_input_for_them(
    fit: Fit, make_features: MakeFeatures, subwords: Subwords
) -> None:
    titles, targets = ["apple pear", "drill saw", "boot heel", "nokia screen"], [0, 1, 2, 3]
    features, tokens = make_features(titles, targets, bigram_buckets=0)
    svm = fit(features, tokens, buckets=0)
    assert len(svm.idf) == subwords.row_count
    assert (scores_of(svm, features, tokens).argmax(1) == targets).all()


def test_small_weights_are_left_out_and_large_ones_stay_as_they_are(
    fit: Fit, learnable: Learnable
) -> None:
    train, _, tokens = learnable
    whole, pruned = fit(train, tokens), fit(train, tokens, smallest_weight=0.05)
    assert 0 < len(pruned.weights) < len(whole.weights)
    assert pruned.weights.abs().min() >= 0.0499
    kept = whole.weights[whole.weights.abs() >= 0.05]
    np.testing.assert_array_equal(kept, pruned.weights)


def test_naive_bayes_is_that_of_scikit_learn_for_a_title_of_mean_length(
    fit: Fit, learnable: Learnable, subwords: Subwords
) -> None:
    train, validation, tokens = learnable
    smoothing = 0.2
    without = fit(train, tokens)
    svm = fit(train, tokens, naive_bayes_weight=1.0, naive_bayes_smoothing=smoothing)
    added = scores_of(svm, train, tokens) - scores_of(without, train, tokens)
    inputs = inputs_of(train, tokens, subwords)
    reference = MultinomialNB(alpha=smoothing, fit_prior=False).fit(inputs, train.targets)
    whole = np.log(reference.feature_count_.sum(axis=1) + smoothing * inputs.shape[1])
    lengths = inputs.sum(axis=1, keepdims=True)
    expected = inputs @ reference.feature_log_prob_.T - lengths * math.log(smoothing)
    np.testing.assert_allclose(added, expected + (lengths - lengths.mean()) * whole, atol=0.02)
    right = scores_of(svm, validation, tokens).argmax(1) == validation.targets
    assert right.mean() > 0.95


def test_naive_bayes_counts_an_unreliable_title_by_its_weight(
    fit: Fit, make_features: MakeFeatures
) -> None:
    features, tokens = make_features(["apple", "drill", "apple"], [0, 1, 1], [True, True, False])
    common = {"naive_bayes_weight": 100.0, "label_quality": "weight"}
    lead = []
    for weight in (0.01, 1.0):
        scores = scores_of(
            fit(features, tokens, unreliable_weight=weight, **common), features, tokens
        )
        lead.append(scores[0, 0] - scores[0, 1])
    assert lead[0] > lead[1] + 100


def test_a_sample_of_the_titles_is_drawn_by_the_seed(fit: Fit, learnable: Learnable) -> None:
    train, _, tokens = learnable
    one, again, other = (fit(train, tokens, seed=seed, max_titles=50) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), again.buffers(), strict=True))
    assert not torch.equal(one.idf, other.idf)
    rarest = math.log(51 / 1) + 1  # of an input that none of 50 titles has
    assert float(one.idf.max()) == pytest.approx(rarest, rel=1e-6)


def test_dropped_titles_are_as_if_they_were_not_there(
    fit: Fit, make_features: MakeFeatures
) -> None:
    titles = ["apple pear", "drill saw", "boot heel", "nokia screen", "apple drill"]
    features, tokens = make_features(titles, [0, 1, 2, 3, 3], [True] * 4 + [False])
    without, _ = make_features(titles[:4], [0, 1, 2, 3])
    dropped, absent, present = (
        fit(features, tokens, label_quality="drop"),
        fit(without, tokens),
        fit(features, tokens, label_quality="ignore"),
    )
    np.testing.assert_allclose(
        scores_of(dropped, features, tokens), scores_of(absent, features, tokens), atol=1e-3
    )
    assert (
        np.abs(
            scores_of(present, features, tokens)[4] - scores_of(dropped, features, tokens)[4]
        ).max()
        > 0.1
    )


def test_an_unreliable_title_moves_the_scores_less(fit: Fit, make_features: MakeFeatures) -> None:
    titles = ["apple", "drill", "boot", "nokia", "apple"]
    features, tokens = make_features(titles, [0, 1, 2, 3, 3], [True] * 4 + [False])
    lead = []
    for weight in (0.1, 0.5, 1.0):
        svm = fit(features, tokens, label_quality="weight", unreliable_weight=weight, C=0.1)
        scores = scores_of(svm, features, tokens)[0]
        lead.append(scores[0] - scores[3])
    assert lead[0] > lead[1] > lead[2] - 1e-6


def test_no_title_left_is_an_error(fit: Fit, make_features: MakeFeatures) -> None:
    features, tokens = make_features(["apple", "drill"], [0, 1], [False, False])
    with pytest.raises(DataError, match="no training title is reliable"):
        fit(features, tokens, label_quality="drop")


@pytest.mark.parametrize("targets", [[0, 2], [3, 1]])
def test_two_categories_and_absent_ones(
    fit: Fit, make_features: MakeFeatures, targets: list[int]
) -> None:
    features, tokens = make_features(["apple pear", "drill saw"] * 3, targets * 3)
    svm = fit(features, tokens)
    scores = scores_of(svm, features, tokens)
    assert (scores.argmax(1) == targets * 3).all()
    lead = scores[np.arange(6), targets * 3] - scores[np.arange(6), targets[::-1] * 3]
    assert (lead > 0.9).all()


def test_one_category_is_no_problem(fit: Fit, make_features: MakeFeatures) -> None:
    features, tokens = make_features(["apple", "pear"], [0, 0])
    svm = fit(features, tokens, classes=1)
    assert len(svm.weights) == 0
    np.testing.assert_array_equal(scores_of(svm, features, tokens), np.zeros((2, 1)))


def test_a_fit_that_is_cut_off_says_so(
    fit: Fit, learnable: Learnable, capsys: pytest.CaptureFixture[str]
) -> None:
    train, _, tokens = learnable
    fit(train, tokens)
    assert "tolerance" not in capsys.readouterr().err
    fit(train, tokens, max_iterations=1)
    assert "the solver did not reach its tolerance in 1 iterations" in capsys.readouterr().err


def test_a_saved_svm_comes_back_and_the_same_one_gives_the_same_bytes(
    fit: Fit, learnable: Learnable, subwords: Subwords, tmp_path: Path
) -> None:
    train, _, tokens = learnable
    for name in ("one", "two"):
        fit(train, tokens).save(tmp_path / name)
    contents = {(tmp_path / name / "svm.safetensors").read_bytes() for name in ("one", "two")}
    assert len(contents) == 1
    loaded = Svm.load(tmp_path / "one", subwords.row_count, BUCKETS, CLASSES)
    np.testing.assert_array_equal(
        scores_of(loaded, train, tokens), scores_of(fit(train, tokens), train, tokens)
    )


@pytest.mark.parametrize(
    ("name", "kind", "params_kind"), [("mlp", Mlp, MlpParams), ("cnn", Cnn, CnnParams)]
)
def test_a_classifier_adds_the_weighted_scores_before_and_after_it_is_saved(
    name: str,
    kind: Any,
    params_kind: type[TrainParams],
    fit: Fit,
    learnable: Learnable,
    embedding: Embedding,
    hyperparameters: Callable[..., TrainParams],
    make_params: Callable[..., Params],
    labels: list[str],
    tmp_path: Path,
) -> None:
    train, validation, tokens = learnable
    rows, size = embedding.table.shape
    shape = ModelShape(rows, size, BUCKETS, CLASSES)
    chosen = hyperparameters(name, svm_weight=3.0)
    torch.manual_seed(1)
    model: Classifier = kind(shape, chosen)
    model.token_vectors.start_from(embedding, None, fine_tune=True)
    without = predict_logits(model.eval(), validation, tokens)
    model.svm = fit(train, tokens)
    together = predict_logits(model, validation, tokens)
    expected = without + 3.0 * scores_of(model.svm, validation, tokens)
    np.testing.assert_allclose(together, expected, atol=1e-5)
    params = make_params()
    save_model(
        tmp_path,
        name,
        model,
        replace(shape, svm_weights=len(model.svm.weights)),
        chosen,
        labels,
        embedding.subwords,
        params.tokens,
        params.featurize,
        Origin.of_here(torch.device("cpu"), devices=1),
    )
    loaded = load_model(tmp_path, kind, params_kind)
    np.testing.assert_array_equal(predict_logits(loaded, validation, tokens), together)


ENDLESS = """
import numpy as np
from rubro.base.console import reported_errors
from rubro.features.embedding import Subwords
from rubro.features.titles import Ragged, TitleFeatures, Tokens
from rubro.base.settings import load_params
from rubro.training.svm import fit_svm

words, titles = 3000, 20_000
random = np.random.default_rng(0)
tokens = Ragged(random.integers(0, words, titles * 30, dtype=np.int32), np.arange(titles + 1) * 30)
none = Ragged(np.zeros(0, np.int32), np.zeros(titles + 1, np.int64))
targets = random.integers(0, 500, titles, dtype=np.int32)
features = TitleFeatures(tokens, none, targets, np.ones(titles, bool), np.zeros(titles, bool))
each = Tokens(np.arange(words, dtype=np.int32), np.arange(words + 1), np.ones(words, np.float32))
subwords = Subwords({str(word): 1 for word in range(words)}, 1, 0, 0, titles=titles)
params = load_params("params.yaml").train_svm.model_copy(
    update={"C": 1e3, "tolerance": 1e-9, "max_iterations": 10**6}
)
with reported_errors():
    fit_svm(features, each, subwords, 0, 500, params, seed=1)
"""


def test_ctrl_c_ends_a_fit_without_waiting_for_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("fitting a linear SVM to 20000 titles")
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        message = process.stderr.read()
    assert process.returncode == 130
    assert message == "interrupted; run the same command again to go on\n"
