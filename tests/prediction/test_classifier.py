"""Predictions do not depend on batches, threads, the cache or odd characters in titles."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import softmax

import rubro
from rubro.base.errors import DataError
from rubro.base.text import tokenise
from rubro.features.featurizer import Featurizer
from rubro.features.subwords import Subwords
from rubro.prediction import classifier as module
from rubro.prediction.calibration import Calibration
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Decision, Model, ModelColumn
from support.tiny_models import COMMON, LABELS, WORDS, MakeModel

pytest_plugins = ["support.tiny_models"]

MEMBERS = ("mlp", "cnn", "svm")
WEIGHTS = {"mlp": 0.2, "cnn": 0.1, "svm": 1.3}
ODD_TITLES = [
    "",
    " \t\n",
    "APPLE Drill 32w!",
    "zzz",
    "\ud800",
    "apple \udfff boot \ud83d",
    "日本語 ñandú 🍎",
    "\u200b\x00",
    "apple drill " * 100,
    "x" * 5000,
]


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> Model:
    """An ensemble of all three kinds with different weights."""
    model = make_model(*MEMBERS, weights=WEIGHTS, table_precision="int8")
    calibration = Calibration(temperature=0.5, decay=1.0, slope_above=0.7)
    changes = {
        "decisions": {
            "balanced_accuracy": Decision(calibration=calibration),
            "accuracy": Decision(shift=0.7, calibration=calibration),
        },
        "category_titles": [40, 1, 3, 0][: len(model.description.labels)],
    }
    return replace(model, description=model.description.model_copy(update=changes))


@pytest.fixture(scope="module")
def classifier(model: Model) -> Classifier:
    return Classifier(model)


@pytest.fixture(scope="module")
def titles() -> list[str]:
    """1,300 titles, which are more than two batches, with out-of-vocabulary words."""
    random = np.random.default_rng(8)
    words = [word for group in [*WORDS, COMMON] for word in group]
    words += [f"{word}{suffix}" for word in words for suffix in ("s", "ito", "xx")]
    return [" ".join(random.choice(words, random.integers(0, 9))) for _ in range(1300)]


def test_all_methods_agree(model: Model, classifier: Classifier, titles: list[str]) -> None:
    logits, members = classifier.logits(titles), classifier.member_logits(titles)
    probabilities = classifier.predict_proba(titles)
    assert list(members) == list(MEMBERS)
    for array in (logits, probabilities, *members.values()):
        assert array.shape == (len(titles), len(LABELS))
        assert array.dtype == np.float32
    summed = sum(WEIGHTS[name] * members[name].astype(float) for name in MEMBERS)
    np.testing.assert_allclose(logits, summed, atol=1e-5)
    assert np.abs(probabilities - softmax(logits, axis=1)).max() > 0.1
    expected = classifier.calibration.probabilities(logits)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    best = probabilities.argmax(axis=1)
    assert classifier.classes_ == model.description.labels == LABELS
    assert classifier.predict(titles) == [LABELS[index] for index in best]
    assert np.bincount(best).min() > 20
    for k in (1, 3, 4, 9):
        for row, pairs in zip(probabilities, classifier.top(titles, k), strict=True):
            assert [p for _, p in pairs] == sorted(row.tolist(), reverse=True)[:k]
            assert all(row[LABELS.index(label)] == p for label, p in pairs)
        assert [pairs[0][0] for pairs in classifier.top(titles, k)] == classifier.predict(titles)
    assert [len(pairs) for pairs in classifier.top(titles[:3])] == [4] * 3


def test_the_first_of_equally_probable_classes_ranks_higher(make_model: MakeModel) -> None:
    model, classes = make_model("svm"), 60
    labels = [f"c{index}" for index in range(classes)]
    bias = np.zeros(classes, np.float32)
    bias[[50, 7, 31]] = 1
    tensors = {**model.tensors["svm"], "bias": bias}
    tensors["weights"] = np.zeros_like(tensors["weights"])
    description = model.description.model_copy(update={"labels": labels})
    classifier = Classifier(replace(model, description=description, tensors={"svm": tensors}))
    order = ["c7", "c31", "c50", *(label for label in labels if label not in ("c7", "c31", "c50"))]
    for k in (1, 2, 3, 4, 30, classes):
        (pairs,) = classifier.top(["apple"], k)
        assert [label for label, _ in pairs] == order[:k]
    assert classifier.predict(["apple"]) == ["c7"]


def test_member_logits_are_those_of_the_scorers_for_the_tokens_of_the_titles(
    model: Model, classifier: Classifier, subwords: Subwords, titles: list[str]
) -> None:
    text = model.description.text
    featurizer = Featurizer(text.max_tokens, text.bigram_buckets)
    features = featurizer([tokenise(title) for title in titles[:50]])
    found = classifier.member_logits(titles[:50])
    for name in MEMBERS:
        scorer = model.description.members[name].scorer(model.tensors[name], subwords)
        logits = scorer.logits(features, scorer.token_states(featurizer.tokens(subwords)))
        np.testing.assert_allclose(found[name], logits, atol=1e-5)


COLUMNS = [
    ModelColumn(name="brand", max_tokens=3),
    ModelColumn(name="price", bounds=[10.0, 100.0], max_tokens=1),
]


@pytest.fixture(scope="module")
def of_products(make_model: MakeModel) -> Classifier:
    """Classifier of products with a title, a brand and a price."""
    model = make_model("mlp", "cnn", "svm", text_columns=COLUMNS)
    known = {**model.vocabulary, "#1": 5}
    tensors = {name: dict(arrays) for name, arrays in model.tensors.items()}
    del known["hammer"]
    vocabulary = {word: known[word] for word in ("#1", *known)}
    return Classifier(replace(model, vocabulary=vocabulary, tensors=tensors))


def test_the_words_of_a_product_count_for_the_column_that_they_are_in(
    of_products: Classifier,
) -> None:
    products = [
        {"title": "red apple", "brand": "drill boot", "price": "20"},
        {"title": "drill boot", "brand": "red apple", "price": "20"},
        {"title": "red apple", "brand": "drill boot", "price": "5"},
        {"title": "red apple", "brand": "drill boot"},
        {"title": "red apple", "price": "20"},
        {"brand": "drill boot", "price": "20"},
        {},
    ]
    for logits in (of_products.logits(products), *of_products.member_logits(products).values()):
        assert len(np.unique(logits.round(4), axis=0)) == len(products)
        alone = np.concatenate([of_products.logits([product]) for product in products])
    np.testing.assert_allclose(of_products.logits(products), alone, atol=1e-4)


def test_a_title_is_a_product_whose_other_columns_are_empty(of_products: Classifier) -> None:
    assert of_products.text_columns == ["brand", "price"]
    products: list[Any] = [
        "red apple",
        {"title": "red apple"},
        {"title": "red apple", "brand": None, "price": float("nan"), "colour": 5},
        {"title": "red apple", "brand": "", "price": "unknown"},
        {"title": "red apple", "price": float("inf")},
        {"title": "red apple", "price": 10**400},
    ]
    expected = of_products.logits(["red apple"])
    for product in products:
        np.testing.assert_array_equal(of_products.logits([product]), expected)
    numbers: list[Any] = [{"price": "20"}, {"price": 20}, {"price": np.float32(20)}]
    for product in numbers:
        np.testing.assert_array_equal(
            of_products.logits([product]), of_products.logits([{"price": "20.0"}])
        )
    assert of_products.predict(products) == of_products.predict(["red apple"]) * 6


def test_a_number_is_not_read_as_the_text_of_a_number_with_decimal_commas(
    make_model: MakeModel,
) -> None:
    bounds = [10.0, 100.0]
    price = ModelColumn(name="price", bounds=bounds, decimal_comma=True, max_tokens=1)
    classifier = Classifier(make_model("svm", text_columns=[price]))
    number, text, thousands = classifier.logits(
        [{"price": 12.345}, {"price": "12,345"}, {"price": "12.345"}]
    )
    np.testing.assert_array_equal(number, text)
    assert not np.array_equal(number, thousands)


@pytest.mark.parametrize(
    ("product", "fact"),
    [
        ({"brand": 5}, "'brand' of the product at position 1 is 5"),
        ({"title": b"apple"}, "'title' of the product at position 1 is b'apple'"),
        ({"title": ["apple"]}, "'title' of the product"),
        ({"price": ["10"]}, "'price' of the product"),
        (["apple"], "position 1"),
    ],
)
def test_products_with_values_that_are_not_text_are_rejected(
    product: Any, fact: str, of_products: Classifier
) -> None:
    with pytest.raises(TypeError, match=fact):
        of_products.predict(["apple", product])


def test_words_of_all_columns_can_be_out_of_vocabulary(of_products: Classifier) -> None:
    products = [
        {"title": "apple qq", "brand": "qq qq qq qq qq", "price": "20"},
        {"title": "apple", "brand": "boot", "price": "20"},
        {"price": "-3"},
        {},
    ]
    # Only three tokens of a brand are read; the token of a price below all bounds is unknown.
    assert of_products.out_of_vocabulary(products).tolist() == [4 / 6, 0, 1, 1]


METHODS = ["predict", "predict_proba", "top", "logits", "member_logits", "out_of_vocabulary"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("titles", "fact"),
    [
        ("apple drill", r"\[title\]"),
        (b"apple drill", r"\[title\]"),
        (None, "NoneType"),
        (5, "int"),
        (pd.DataFrame({"title": ["apple"]}), r"DataFrame.*\[\"title\"\]"),
        (pa.table({"title": ["apple"], "b": ["c"]}), r"Table.*\[\"title\"\]"),
        ({"title": ["apple"]}, r"dict.*\[\"title\"\]"),
        ({"apple", "boot"}, "set"),
        (np.array([["apple"]]), "ndarray"),
        (np.array("apple"), "ndarray"),
        (["apple", None], "position 1 is None"),
        (["apple", b"drill"], "position 1 is b'drill'"),
        (pd.Series(["apple", np.nan]), "position 1 is nan"),
        (pd.Series(["apple", pd.NA], dtype="string"), "position 1 is <NA>"),
        (np.array([1.5]), "position 0 is 1.5"),
        ([["apple"]], "position 0"),
    ],
)
def test_anything_but_a_sequence_of_texts_is_rejected(
    method: str, titles: Any, fact: str, classifier: Classifier
) -> None:
    with pytest.raises(TypeError, match=fact):
        getattr(classifier, method)(titles)


@pytest.mark.parametrize("title", [None, 5, ["apple"], b"apple"])
def test_only_a_text_is_explained(title: Any, classifier: Classifier) -> None:
    with pytest.raises(TypeError, match="not a string"):
        classifier.explain(title)


@pytest.mark.parametrize(
    "make",
    [
        tuple,
        iter,
        np.array,
        pd.Index,
        pa.array,
        lambda titles: pa.chunked_array([titles]),
        lambda titles: np.array(titles, dtype=object),
        lambda titles: pd.Series(titles, index=range(len(titles), 0, -1)),
        lambda titles: pd.Series(titles, dtype="string[pyarrow]"),
        lambda titles: pd.Series(titles, dtype="category"),
    ],
)
def test_every_sequence_of_texts_has_the_same_answers(
    make: Callable[[list[str]], Any], classifier: Classifier
) -> None:
    titles = ["apple pear", "drill", "boot apple", "drill"]
    for method in METHODS:
        ask = getattr(classifier, method)
        np.testing.assert_equal(ask(make(titles)), ask(titles))


@pytest.mark.parametrize(("k", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_the_number_of_categories_must_be_at_least_one(
    k: Any, error: type[Exception], classifier: Classifier
) -> None:
    with pytest.raises(error):
        classifier.top(["apple"], k)
    with pytest.raises(error):
        classifier.top([], k)


def test_the_number_of_nearest_titles_cannot_be_negative(classifier: Classifier) -> None:
    with pytest.raises(ValueError, match="-1"):
        classifier.explain("apple", nearest=-1)


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda classifier: pickle.loads(pickle.dumps(classifier))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_predicts_the_same(
    copied: Callable[[Classifier], Classifier], model: Model, titles: list[str]
) -> None:
    used = Classifier(model)
    expected = used.logits(titles)
    twin = copied(used)
    np.testing.assert_array_equal(twin.logits(titles), expected)
    assert twin.explain("apple drill") == used.explain("apple drill")


@pytest.mark.slow
def test_a_classifier_is_sent_to_another_process(classifier: Classifier) -> None:
    titles = ["apple pear", "drill", "boot apple"]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool:
        assert pool.submit(classifier.predict, titles).result() == classifier.predict(titles)


def test_an_empty_sequence_has_an_empty_result(classifier: Classifier) -> None:
    assert classifier.predict([]) == []
    assert classifier.top([]) == []
    assert classifier.predict_proba([]).shape == (0, len(LABELS))
    assert classifier.logits([]).shape == (0, len(LABELS))
    assert [logits.shape for logits in classifier.member_logits([]).values()] == [(0, 4)] * 3


def test_titles_without_visible_characters_have_equal_probabilities(classifier: Classifier) -> None:
    rows = classifier.predict_proba(["", " \t", "\ud800", "\u200b\x00"])
    np.testing.assert_array_equal(rows, rows[[0]].repeat(4, axis=0))


def test_only_the_beginning_of_a_title_of_a_megabyte_is_read(
    model: Model, classifier: Classifier
) -> None:
    limit = model.description.text.max_title_length
    for title in ("a" * 2**20, "red 🍎 " * 2**18, "\ud800" * 2**20):
        assert len(title) >= 2**20
        rows = classifier.predict_proba([title, title[:limit]])
        np.testing.assert_array_equal(rows[0], rows[1])
    cut = "a" * (limit - 6) + " apple"
    first, second = classifier.logits([cut, cut + "zzz" * 100])
    np.testing.assert_array_equal(first, second)


@settings(max_examples=60, deadline=None)
@example(ODD_TITLES)
@given(st.lists(st.text(max_size=30), max_size=5))
def test_any_text_has_probabilities(classifier: Classifier, texts: list[str]) -> None:
    rows = classifier.predict_proba(texts)
    assert np.isfinite(rows).all()
    assert (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6)


def test_batches_do_not_change_probabilities(
    model: Model, titles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = Classifier(model).predict_proba(titles)
    for size in (1, 7, 512, 10_000):
        monkeypatch.setattr(module, "_BATCH_TITLES", size)
        batched = Classifier(model).predict_proba(titles)
        np.testing.assert_allclose(batched, together, atol=1e-6)
    backwards = Classifier(model).predict_proba(titles[::-1])[::-1]
    np.testing.assert_allclose(backwards, together, atol=1e-6)


@pytest.mark.parametrize("cached", [0, 1, 40])
def test_emptying_the_cache_does_not_change_probabilities(
    cached: int, model: Model, titles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    remembering = Classifier(model).predict_proba(titles)
    monkeypatch.setattr(module, "_CACHE_BYTES", 0)
    monkeypatch.setattr(module, "_MIN_CACHED_TOKENS", cached)
    monkeypatch.setattr(module, "_BATCH_TITLES", 64)
    forgetful = Classifier(model)
    before = forgetful._featurizer
    answers = forgetful.predict_proba(titles)
    assert forgetful._featurizer is not before
    assert len(forgetful._featurizer) < 120
    np.testing.assert_allclose(answers, remembering, atol=1e-6)


def test_the_most_frequent_tokens_stay_in_the_cache(
    model: Model, titles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CACHE_BYTES", 0)
    monkeypatch.setattr(module, "_MIN_CACHED_TOKENS", 8)
    classifier = Classifier(model)
    frequent = sorted(model.vocabulary, key=lambda word: -model.vocabulary[word])[:4]
    unknown = [f"zzz{letter}" for letter in "abcdefgh"]
    expected = classifier.predict_proba(frequent)
    classifier.predict_proba([*frequent, *unknown])
    np.testing.assert_allclose(classifier.predict_proba(frequent), expected, atol=1e-6)
    kept = classifier._featurizer.words()
    assert len(kept) < 12
    assert {*frequent} <= {*kept}


def test_growing_the_cache_does_not_change_probabilities(model: Model) -> None:
    many = [
        f"apple{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}" for i in range(3000)
    ]
    used = Classifier(model)
    first = used.predict_proba(many)
    assert len(used._featurizer) == 3000
    np.testing.assert_allclose(used.predict_proba(many), first, atol=1e-6)
    last = Classifier(model).predict_proba(many[2900:])
    np.testing.assert_allclose(last, first[2900:], atol=1e-6)


@pytest.mark.parametrize("max_cached", [50, 10**9])
def test_threads_may_share_a_classifier(
    max_cached: int, model: Model, titles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Classifier(model).predict_proba(titles)
    monkeypatch.setattr(module, "_BATCH_TITLES", 32)
    shared = Classifier(model)
    shared._max_cached_tokens = max_cached
    parts = [(start, titles[start : start + 100]) for start in range(0, len(titles), 50)] * 3
    np.random.default_rng(1).shuffle(parts)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda part: shared.predict_proba(part[1]), parts))
    for (start, part), rows in zip(parts, answers, strict=True):
        np.testing.assert_allclose(rows, alone[start : start + len(part)], atol=1e-6)


def test_a_classifier_is_loaded_from_a_folder(
    model: Model, classifier: Classifier, subwords: Subwords, titles: list[str], tmp_path: Path
) -> None:
    model.save(tmp_path)
    for folder in (tmp_path, str(tmp_path)):
        loaded = rubro.Classifier.load(folder)
        assert isinstance(loaded, Classifier)
        np.testing.assert_allclose(loaded.logits(titles), classifier.logits(titles), atol=1e-5)
    assert (loaded.name, loaded.title_column) == ("ensemble", "title")
    assert loaded.vocabulary == subwords.vocabulary


def test_the_package_exports_the_classifier() -> None:
    assert rubro.Classifier is Classifier
    assert rubro.__all__ == ["Classifier"]
    with pytest.raises(AttributeError, match="no attribute 'Clasifier'"):
        _ = rubro.Clasifier


def test_another_objective_shifts_the_logits_by_the_shares_of_the_categories(
    model: Model, classifier: Classifier, titles: list[str]
) -> None:
    other = Classifier(model.serving("accuracy"))
    counts = np.maximum(model.description.category_titles, 0.5)
    shift = 0.7 * np.log(counts / counts.sum())
    np.testing.assert_allclose(other.logits(titles), classifier.logits(titles) + shift, atol=1e-5)
    assert other.description.fingerprint != classifier.description.fingerprint
    found = np.bincount([LABELS.index(name) for name in other.predict(titles)], minlength=4)
    before = np.bincount([LABELS.index(name) for name in classifier.predict(titles)], minlength=4)
    assert found[0] > before[0]
    explanation = other.explain("apple drill")
    logits = np.sort(other.logits(["apple drill"])[0])
    assert explanation.lead == pytest.approx(logits[-1] - logits[-2], abs=1e-4)
    with pytest.raises(DataError, match=r"macro_f1.*dvc repro"):
        model.serving("macro_f1")
