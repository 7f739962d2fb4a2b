"""Explanations agree with predictions for shorter titles, and are exact for linear members."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rubro.base.errors import DataError
from rubro.base.text import tokenise
from rubro.features.subwords import Subwords
from rubro.prediction.calibration import Calibration
from rubro.prediction.classifier import Classifier
from rubro.prediction.explanation import Explanation
from rubro.prediction.folder import Decision, Model, ModelColumn
from rubro.prediction.nearest import title_tensors
from support.tiny_models import LABELS, PATHS, TREE, MakeModel, rehash, with_tree

pytest_plugins = ["support.tiny_models"]

TITLES = ["apple drill new boot", "Ñandú apple 32w apple", "zzz", "apple", "red  SCREEN, cherry"]
TRAINING = [
    ("apple pear", 0),
    ("Apple  drill", 1),
    ("new red drill", 1),
    ("boot", 2),
    ("???", 3),
    ("apple pear", 2),
    ("Nokia 3310 ñ", 3),
]
WEIGHTS = {"mlp": 0.2, "cnn": 0.1, "svm": 1.3}


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> Model:
    """An ensemble of all three kinds with different weights and with training titles."""
    model = make_model(*WEIGHTS, weights=WEIGHTS)
    subwords = Subwords(model.vocabulary, model.description.subwords)
    titles, categories = zip(*TRAINING, strict=True)
    return replace(model, titles=title_tensors(titles, np.array(categories), subwords))


@pytest.fixture(scope="module")
def classifier(model: Model) -> Classifier:
    return Classifier(model)


def leads(classifier: Classifier, explained: Explanation, titles: list[str]) -> np.ndarray:
    logits = classifier.logits(titles)
    best, other = map(classifier.classes_.index, (explained.category, explained.other))
    return np.asarray(logits[:, best] - logits[:, other])


@pytest.mark.parametrize("title", TITLES)
def test_the_contribution_of_a_word_is_the_drop_of_the_lead_without_it(
    classifier: Classifier, title: str
) -> None:
    explained = classifier.explain(title)
    tokens = tokenise(title)
    without = [" ".join(tokens[:place] + tokens[place + 1 :]) for place in range(len(tokens))]
    whole, *others = leads(classifier, explained, [title, *without])
    assert [explained.category] == classifier.predict([title])
    assert explained.lead == pytest.approx(whole, abs=1e-4)
    for word, token, other in zip(explained.words, tokens, others, strict=True):
        assert word.contribution == pytest.approx(whole - other, abs=1e-4)
        assert word.contribution == pytest.approx(sum(word.members.values()), abs=1e-4)
        assert list(word.members) == ["mlp", "cnn", "svm"]
        assert "".join(tokenise(word.text)) == token
        assert title[word.start : word.end] == word.text
        assert word.known == (token in classifier.vocabulary)


@pytest.mark.parametrize("title", [*TITLES, "", "a a a a"])
def test_the_inputs_of_a_linear_member_sum_up_to_its_lead(
    classifier: Classifier, title: str
) -> None:
    explained = classifier.explain(title)
    scores = classifier.member_logits([title])["svm"][0]
    best, other = map(LABELS.index, (explained.category, explained.other))
    parts = [each.contribution for each in explained.linear]
    assert explained.linear_bias + sum(parts) == pytest.approx(
        1.3 * (scores[best] - scores[other]), abs=1e-4
    )
    assert [abs(part) for part in parts] == sorted(map(abs, parts), reverse=True)


def test_words_of_all_columns_are_explained(make_model: MakeModel) -> None:
    columns = [
        ModelColumn(name="brand", max_tokens=2),
        ModelColumn(name="price", bounds=[10.0], max_tokens=1),
    ]
    classifier = Classifier(make_model("mlp", "cnn", "svm", text_columns=columns))
    product = {"title": "Red apple", "brand": "Drill, boot", "price": "12.5"}
    explained = classifier.explain(product)
    assert explained.title == "Red apple"
    words = [(word.column, word.text) for word in explained.words]
    expected = [("title", "Red"), ("title", "apple"), ("brand", "Drill"), ("brand", ",")]
    assert words == [*expected, ("price", "12.5")]
    without = [
        {**product, "title": "apple"},
        {**product, "title": "Red"},
        {**product, "brand": ","},
        {**product, "brand": "Drill"},
        {**product, "price": ""},
    ]
    best, other = map(classifier.classes_.index, (explained.category, explained.other))
    logits = classifier.logits([product, *without])
    whole, *others = (logits[:, best] - logits[:, other]).tolist()
    for word, lead in zip(explained.words, others, strict=True):
        assert word.contribution == pytest.approx(whole - lead, abs=1e-4)
        assert product[word.column][word.start : word.end] == word.text
    scores = classifier.member_logits([product])["svm"][0]
    total = explained.linear_bias + sum(each.contribution for each in explained.linear)
    assert total == pytest.approx(float(scores[best] - scores[other]), abs=1e-4)
    assert {each.column for each in explained.linear} == {"title", "brand", "price"}


def test_the_inputs_of_a_linear_member_are_found_in_the_title(make_model: MakeModel) -> None:
    model = make_model("svm")
    tensors = dict(model.tensors["svm"])
    inputs = len(tensors["idf"])
    # Each input has a weight for the first category, so that none is omitted.
    tensors["starts"] = np.arange(inputs + 1, dtype=np.int32)
    tensors["categories"] = np.zeros(inputs, np.int16)
    tensors["weights"] = np.ones(inputs, np.float16)
    member = model.description.members["svm"].model_copy(update={"weights": inputs})
    description = model.description.model_copy(update={"members": {"svm": member}})
    title = "Ápple dríll"
    changed = replace(model, description=description, tensors={"svm": tensors})
    explained = Classifier(changed).explain(title)
    found = {(each.kind, each.text): title[each.start : each.end] for each in explained.linear}
    words = {("word", "apple"): "Ápple", ("word", "drill"): "dríll"}
    grams = {
        ("ngram", marked[start : start + n])
        for marked in ("<apple>", "<drill>")
        for n in (3, 4)
        for start in range(len(marked) - n + 1)
    }
    assert found.keys() == {*words, *grams, ("bigram", "apple drill")}
    assert found.items() >= words.items()
    assert found["bigram", "apple drill"] == title
    assert (found["ngram", "<ap"], found["ngram", "ple"]) == ("Áp", "ple")
    assert (found["ngram", "ill>"], found["ngram", "dril"]) == ("íll", "dríl")


def test_a_title_can_be_explained_against_any_category(classifier: Classifier) -> None:
    ((best, _), (second, confidence), *_, (last, _)) = classifier.top(["apple drill"], 4)[0]
    assert classifier.explain("apple drill").other == second
    assert classifier.explain("apple drill").other_confidence == pytest.approx(confidence, abs=1e-6)
    against = classifier.explain("apple drill", against=last)
    assert (against.category, against.other) == (best, last)
    assert against.lead > classifier.explain("apple drill").lead
    assert classifier.explain("apple drill", against=best).lead == 0
    with pytest.raises(DataError, match="CAKE"):
        classifier.explain("apple drill", against="CAKE")


@pytest.mark.parametrize("title", TITLES)
def test_nodes_of_an_upper_level_are_compared_by_their_summed_probabilities(
    model: Model, title: str
) -> None:
    classifier = Classifier(with_tree(model))
    explained = classifier.explain(title, level=2)
    (best, confidence), (other, other_confidence), *_ = classifier.top([title], level=2)[0]
    assert (explained.category, explained.other) == (best, other)
    assert explained.confidence == pytest.approx(confidence)
    assert explained.other_confidence == pytest.approx(other_confidence)
    assert not explained.linear
    tokens = tokenise(title)
    without_each = [" ".join(tokens[:n] + tokens[n + 1 :]) for n in range(len(tokens))]
    sums = np.stack(
        [
            np.logaddexp.reduce(classifier.logits([title, *without_each])[:, node], axis=1)
            for node in ([0], [1, 2], [3])
        ],
        axis=1,
    )
    one, two = map(TREE.level(2).nodes.index, (best, other))
    lead = sums[:, one] - sums[:, two]
    assert explained.lead == pytest.approx(lead[0], abs=1e-4)
    contributions = [word.contribution for word in explained.words]
    assert contributions == pytest.approx((lead[0] - lead[1:]).tolist(), abs=1e-4)


@pytest.mark.parametrize("title", ["apple", "boot drill", "nokia", "red"])
def test_the_lead_of_a_node_is_computed_at_the_temperature_of_the_probabilities(
    model: Model, title: str
) -> None:
    # Without the temperature, a node with many categories of low probability would be ahead.
    temperature = 0.2
    decisions = {
        model.description.objective: Decision(calibration=Calibration(temperature=temperature))
    }
    description = model.description.model_copy(update={"decisions": decisions})
    classifier = Classifier(with_tree(replace(model, description=description)))
    explained = classifier.explain(title, level=1)
    odds = explained.confidence / explained.other_confidence
    assert explained.lead == pytest.approx(temperature * np.log(odds), abs=1e-3)


def test_any_node_of_a_level_can_be_compared_with(model: Model) -> None:
    classifier = Classifier(with_tree(model))
    assert classifier.explain("apple", "Home > Garage", level=2).other == "Home > Garage"
    assert classifier.explain("apple", level=3) == classifier.explain("apple")
    for against in (PATHS[1], "Garage"):
        with pytest.raises(DataError, match="unknown category"):
            classifier.explain("apple", against, level=2)
    with pytest.raises(ValueError, match="level is 4"):
        classifier.explain("apple", level=4)


def test_a_model_without_linear_member_has_no_linear_inputs(make_model: MakeModel) -> None:
    explained = Classifier(make_model("mlp")).explain("apple drill")
    assert (explained.linear, explained.linear_bias) == ([], 0.0)
    assert [list(word.members) for word in explained.words] == [["mlp"]] * 2


def test_only_the_beginning_of_a_long_title_is_explained(classifier: Classifier) -> None:
    explained = classifier.explain("apple " * 400)
    assert len(explained.words) == classifier.description.text.max_tokens
    assert [word.text for word in explained.words] == ["apple"] * 20


def test_a_title_is_foreign_if_most_of_its_tokens_are_out_of_vocabulary(
    classifier: Classifier,
) -> None:
    shares = {"apple drill": 0, "apple zzz": 0.5, "zzz yyy apple": 2 / 3, "": 1, "\u200b": 1}
    np.testing.assert_allclose(classifier.out_of_vocabulary(list(shares)), list(shares.values()))
    for title, share in shares.items():
        explained = classifier.explain(title)
        assert explained.out_of_vocabulary == pytest.approx(share)
        assert explained.foreign == (share > 0.5)
    assert classifier.out_of_vocabulary([]).shape == (0,)


def test_a_model_of_one_category_cannot_explain(make_model: MakeModel) -> None:
    model = make_model("svm")
    tensors = {**model.tensors["svm"], "bias": np.zeros(1, np.float32)}
    tensors["categories"] = np.zeros_like(tensors["categories"])
    description = model.description.model_copy(update={"labels": ["ALL"]})
    alone = Classifier(replace(model, description=description, tensors={"svm": tensors}))
    with pytest.raises(DataError, match="only one category, ALL"):
        alone.explain("apple")


# Training titles


def cosine(model: Model, one: str, other: str) -> float:
    """Return the cosine similarity of two titles by its definition."""
    documents = model.description.subwords.titles

    def weight(word: str) -> float:
        return math.log((1 + documents) / (1 + model.vocabulary.get(word, 0))) + 1

    words, others = set(tokenise(one)), set(tokenise(other))
    shared = sum(weight(word) ** 2 for word in words & others & model.vocabulary.keys())
    lengths = [sum(weight(word) ** 2 for word in each) for each in (words, others)]
    return shared / math.sqrt(math.prod(lengths)) if shared else 0.0


@pytest.mark.parametrize("title", ["apple drill zzz", "APPLE pear", "nokia ñ 1234", "zzz", ""])
def test_the_nearest_titles_have_the_highest_cosine_similarity(
    model: Model, classifier: Classifier, title: str
) -> None:
    found = classifier.explain(title, nearest=4).nearest
    near = [(cosine(model, title, text), text, LABELS[index]) for text, index in TRAINING]
    expected = sorted((each for each in near if each[0]), key=lambda each: -each[0])[:4]
    assert [(each.title, each.category) for each in found] == [each[1:] for each in expected]
    similarities = [each.similarity for each in found]
    np.testing.assert_allclose(similarities, [each[0] for each in expected], rtol=1e-5)


def test_training_titles_in_the_folder_do_not_change_predictions(
    model: Model, classifier: Classifier, tmp_path: Path
) -> None:
    model.save(tmp_path / "with")
    replace(model, titles=None).save(tmp_path / "without")
    indexed, bare = Classifier.load(tmp_path / "with"), Classifier.load(tmp_path / "without")
    assert indexed.logits(TITLES).tobytes() == bare.logits(TITLES).tobytes()
    found = indexed.explain("apple drill", nearest=3).nearest
    assert len(found) == 3
    assert found == classifier.explain("apple drill", nearest=3).nearest
    assert indexed.description.fingerprint == bare.description.fingerprint
    with pytest.raises(DataError, match="contains no training titles"):
        bare.explain("apple", nearest=1)


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("categories", lambda values: values + 4, "categories is out of range"),
        ("titles", lambda values: values - 1, "titles is out of range"),
        ("starts", lambda values: values[:-1], "another vocabulary"),
        ("starts", lambda values: values[::-1].copy(), "starts is out of range"),
        ("text_starts", lambda values: values + 1, "text_starts is out of range"),
        ("lengths", lambda values: values[1:], "differ in the number of titles"),
        ("lengths", lambda values: values * np.nan, "NaN"),
        ("text", lambda values: values.astype(np.int32), "tensor text is I32"),
    ],
)
def test_damaged_training_titles_are_rejected(
    model: Model, tmp_path: Path, name: str, change: object, problem: str
) -> None:
    model.save(tmp_path)
    path = tmp_path / "training.titles.safetensors"
    tensors = load_file(path)
    assert callable(change)
    save_file({**tensors, name: change(tensors[name])}, path)
    rehash(tmp_path)
    with pytest.raises(DataError, match=problem) as caught:
        Classifier.load(tmp_path)
    assert str(path) in str(caught.value)


def test_the_fingerprint_depends_on_everything_that_determines_predictions(
    model: Model, tmp_path: Path
) -> None:
    def changed(name: str) -> Model:
        bias = {"mlp": "dense.0.bias", "svm": "bias"}[name]
        tensors = {**model.tensors[name], bias: model.tensors[name][bias] + 1}
        return replace(model, tensors={**model.tensors, name: tensors})

    labels = model.description.model_copy(update={"labels": LABELS[::-1]})
    words = {word: count + 1 for word, count in model.vocabulary.items()}
    models = [
        *(model, replace(model, description=labels), replace(model, vocabulary=words)),
        *(changed("mlp"), changed("svm")),
    ]
    found = set()
    for number, each in enumerate(models):
        each.save(tmp_path / str(number))
        found.add(Classifier.load(tmp_path / str(number)).description.fingerprint)
    assert len(found) == 5
