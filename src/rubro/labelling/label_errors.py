"""Find labels that are probably wrong, with out-of-fold scores of a linear SVM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import logsumexp

from rubro.base.errors import DataError
from rubro.base.params import SvmParams
from rubro.features.featurizer import TitleFeatures, Tokens
from rubro.features.ragged import Ragged
from rubro.features.subwords import Subwords, inverse_document_frequency
from rubro.features.titles import LabelledTitles
from rubro.prediction.calibration import softmax
from rubro.training.crammer_singer import fit_crammer_singer
from rubro.training.decisions import fit_scale
from rubro.training.svm import input_counts, input_groups, tf_idf_inputs
from rubro.training.title_weights import title_weights

_RIVALS = 5  # best categories other than the label, kept for each title
_WORDS = 3  # words of a title that support the suggested category most
# The first fit only has to find clear errors, and must not learn them: it regularises more.
_FIRST_FIT, _SECOND_FIT = (
    (0.3, 1.0, 10),
    (1.0, 0.5, 20),
)  # cost, tolerance, maximum number of rounds
# A title is left out of the second fit if another category leads its label by this much, in margins.
_LEFT_OUT_LEAD = 0.2
_MAX_LEFT_OUT_SHARE = 0.5  # of the titles of a category
MIN_LABELS = 20  # of a category whose number of wrong labels is estimated
_UNKNOWN = -1e3  # score of a missing rival, far below all other scores
_MIN_TITLES = 2  # inputs that occur in fewer titles say nothing about other titles
_MAX_INPUTS = 200_000
_MAX_WEIGHTS = 2**28  # of a model, inputs times categories: 1 GiB
# With more scores than this, n-grams would multiply the time of the fits, and are left out.
_MAX_SCORES_WITH_NGRAMS = 2e8
_DECIMALS = 6  # decimals of LabelErrors.doubts
_BLOCK = 2**22  # scores that are computed at once


@dataclass(frozen=True)
class LabelInputs:
    """Inputs of the linear model of the audit.

    Attributes:
        values: TF-IDF values, sparse float32 (titles, inputs).
        tokens: Inputs of each distinct token: its word and its n-grams.
    """

    values: sparse.csr_matrix
    tokens: Ragged


@dataclass(frozen=True)
class LabelErrors:
    """How well the label of each title fits, judged by models that were not trained on the title.

    Attributes:
        suggestions: Most probable category other than the label, int32 (titles,).
        leads: Score of the suggestion minus score of the label, in margins of the SVM, float32
            (titles,). The suggestion is more probable than the label if the lead is positive. -inf if
            the label is not checked.
        doubts: Log odds against the label, which rank the titles, float64 (titles,); -inf if the label
            is not checked.
        confidences: Probability of the suggestion, float32 (titles,).
        label_confidences: Probability of the label, float32 (titles,); 0 if it is not checked.
        errors: Whether confident learning counts the label as wrong, bool (titles,).
        counted: Whether confident learning counts the label as right or wrong, bool (titles,). It
            does not if no category is probable enough, or if the category has fewer than 20 checked
            labels: its models are weak, and many right labels would be counted as wrong.
        words: Positions in the title's tokens, which include the tokens of its further columns, of up
            to three words that support the suggestion most, by number of the title. Only titles with
            a positive lead have words.
    """

    suggestions: np.ndarray
    leads: np.ndarray
    doubts: np.ndarray
    confidences: np.ndarray
    label_confidences: np.ndarray
    errors: np.ndarray
    counted: np.ndarray
    words: dict[int, list[int]]

    @property
    def checked(self) -> np.ndarray:
        """Whether the model of each title knows its label, bool (titles,).

        It does not know a category all of whose titles are in one fold.
        """
        return self.leads > -np.inf


def label_inputs(
    features: TitleFeatures, tokens: Tokens, subwords: Subwords, bigram_buckets: int, classes: int
) -> LabelInputs:
    """Return the TF-IDF values of words, word bigrams and character n-grams of titles.

    Inputs that occur in one title only are left out. If there are very many titles and categories,
    n-grams are left out too, and so are the rarest inputs, so that the weights of a fit need at most
    1 GiB.

    Args:
        features: Features of all titles.
        tokens: Distinct tokens of all titles.
        subwords: Vocabulary and n-grams of the tokens.
        bigram_buckets: Number of hash buckets of word bigrams.
        classes: Number of categories.
    """
    rows, column_inputs = subwords.row_count, subwords.row_count + bigram_buckets
    counts = input_counts(features, tokens, rows, column_inputs)
    groups = input_groups(subwords, bigram_buckets, features.columns)
    frequencies = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = np.array(
        [inverse_document_frequency(int(n), len(features)) for n in frequencies], dtype=np.float32
    )
    is_used = frequencies >= _MIN_TITLES
    if len(features) * classes > _MAX_SCORES_WITH_NGRAMS:
        is_used &= groups % 2 == 0
    used = np.flatnonzero(is_used)
    limit = min(_MAX_INPUTS, _MAX_WEIGHTS // classes)
    used = np.sort(used[np.argsort(-frequencies[used], kind="stable")[:limit]])
    values = tf_idf_inputs(counts, idf, groups).tocsc()[:, used].tocsr().astype(np.float32)
    position = np.full(counts.shape[1], -1, dtype=np.int32)
    position[used] = np.arange(len(used))
    first = np.repeat(tokens.columns * column_inputs, tokens.lengths)
    inputs = position[tokens.values + first]
    lengths = np.bincount(
        np.repeat(np.arange(len(tokens)), tokens.lengths)[inputs >= 0], minlength=len(tokens)
    )
    return LabelInputs(values, Ragged.from_lengths(inputs[inputs >= 0], lengths))


def find_label_errors(
    titles: LabelledTitles,
    inputs: LabelInputs,
    classes: int,
    groups: np.ndarray,
    folds: int,
    params: SvmParams,
    seed: int,
) -> LabelErrors:
    """Judge the label of each title by linear SVMs that are trained on the other folds.

    Near-duplicates are in the same fold, because otherwise a wrong label that was copied would confirm
    itself. A second round of fits leaves out the titles that look clearly wrong in the first round, as
    Brodley and Friedl 1999, Identifying Mislabeled Training Data, filter training data. The scores of
    the label and of the five best other categories become probabilities by a softmax.

    The least probable labels are the most suspicious ones, as in Northcutt, Jiang and Chuang 2021,
    Confident Learning, who call this probability the self-confidence. Their confident joint estimates
    which labels are wrong: a title counts for the most probable of the categories whose probability is
    at least as high as it is on average for the titles with this label.

    Args:
        titles: Features and labels of all titles.
        inputs: Inputs of the titles from label_inputs.
        classes: Number of categories, at least 2.
        groups: Group of each title from near_duplicate_groups, (titles,).
        folds: Number of folds, at least 2.
        params: Parameters of the weights of titles; the fits have their own parameters.
        seed: Seed of the folds and of the solver.

    Raises:
        DataError: All titles are near-duplicates, or all have the weight 0.
    """
    count = int(groups.max(initial=0)) + 1
    if count < 2:
        raise DataError(
            "all titles are nearly the same, so their labels cannot be checked; add titles"
        )
    order = np.random.default_rng(seed).permutation(count)
    folds = min(folds, count)
    fold = (order % folds)[groups]
    targets = titles.labels.targets
    weights = title_weights(titles.labels, classes, params)
    with_bias = sparse.hstack([inputs.values, np.ones((len(targets), 1), np.float32)], "csr")
    problem = _Problem(with_bias, targets, fold, seed)
    first = _Scores.empty(len(targets), classes)
    for model in problem.models(weights, _FIRST_FIT, "looking for clear errors"):
        first.add(model, problem)
    kept = weights * ~_clear_errors(first.leads, targets)
    second, words = _Scores.empty(len(targets), classes), {}
    joined = titles.features.joined_tokens
    for model in problem.models(kept, _SECOND_FIT, "checking labels"):
        second.add(model, problem)
        for title in model.titles[second.leads[model.titles] > 0].tolist():
            tokens = [inputs.tokens[token] for token in joined[title]]
            pair = second.rivals[title, 0], targets[title]
            words[title] = _words(tokens, problem.inputs[title], model, *pair)
    return _label_errors(second, targets, classes, words)


def _clear_errors(leads: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return whether each title is left out of the second fit, bool (titles,)."""
    rank = pd.Series(-leads).groupby(targets).rank(method="first").to_numpy()
    limits = np.ceil(_MAX_LEFT_OUT_SHARE * np.bincount(targets))
    return np.asarray((leads >= _LEFT_OUT_LEAD) & (rank <= limits[targets]))


class _Model(NamedTuple):
    """A linear model that is trained on all folds but one.

    Attributes:
        titles: Titles of the other fold, integers (n,).
        categories: Categories that the model knows, ascending, integers (known,).
        weights: Weights, float32 (inputs, known).
    """

    titles: np.ndarray
    categories: np.ndarray
    weights: np.ndarray


class _Problem(NamedTuple):
    """Titles, and how they are divided into folds.

    Attributes:
        inputs: Feature values, with 1 as the last feature, sparse float32 (titles, inputs).
        targets: Class indices, (titles,).
        fold: Fold of each title, (titles,).
        seed: Seed of the solver.
    """

    inputs: sparse.csr_matrix
    targets: np.ndarray
    fold: np.ndarray
    seed: int

    def models(
        self, weights: np.ndarray, fit: tuple[float, float, int], task: str
    ) -> Iterator[_Model]:
        """Yield a model for each fold; titles with weight 0 are not learned."""
        cost, tolerance, max_rounds = fit
        folds = int(self.fold.max()) + 1
        for fold in range(folds):
            train = np.flatnonzero((self.fold != fold) & (weights > 0))
            categories, positions = np.unique(self.targets[train], return_inverse=True)
            fitted = np.zeros((self.inputs.shape[1], len(categories)), np.float32)
            if len(categories) > 1:
                fitted, _ = fit_crammer_singer(
                    self.inputs[train],
                    positions,
                    cost * weights[train],
                    len(categories),
                    tolerance,
                    max_rounds,
                    self.seed,
                    f"{task}, fold {fold + 1} of {folds}",
                )
            yield _Model(np.flatnonzero(self.fold == fold), categories, fitted)


class _Scores(NamedTuple):
    """Out-of-fold scores of the labels and of the best other categories.

    Attributes:
        own: Score of the label, float32 (titles,); NaN if the model does not know it.
        rivals: Best categories other than the label, best first, int32 (titles, rivals).
        scores: Scores of the rivals, float32 (titles, rivals).
    """

    own: np.ndarray
    rivals: np.ndarray
    scores: np.ndarray

    @classmethod
    def empty(cls, titles: int, classes: int) -> _Scores:
        """Return arrays for the given number of titles."""
        size = titles, min(_RIVALS, classes - 1)
        own = np.full(titles, np.nan, np.float32)
        return cls(own, np.zeros(size, np.int32), np.full(size, _UNKNOWN, np.float32))

    @property
    def leads(self) -> np.ndarray:
        """Score of the best rival minus score of the label; -inf if the label is unknown."""
        return np.asarray(np.nan_to_num(self.scores[:, 0] - self.own, nan=-np.inf))

    def add(self, model: _Model, problem: _Problem) -> None:
        """Compute the scores of the titles of a fold."""
        known = len(model.categories)
        position = np.full(int(problem.targets.max()) + 1, -1)
        position[model.categories] = np.arange(known)
        for titles in np.array_split(model.titles, len(model.titles) * known // _BLOCK + 1):
            scores = problem.inputs[titles] @ model.weights
            own = position[problem.targets[titles]]
            rows = np.flatnonzero(own >= 0)
            self.own[titles[rows]] = scores[rows, own[rows]]
            scores[rows, own[rows]] = _UNKNOWN
            everyone = np.arange(len(titles))
            for rank in range(min(self.rivals.shape[1], known)):
                best = scores.argmax(axis=1)
                self.rivals[titles, rank] = model.categories[best]
                self.scores[titles, rank] = scores[everyone, best]
                scores[everyone, best] = _UNKNOWN


def _words(
    tokens: Sequence[np.ndarray], values: sparse.csr_matrix, model: _Model, rival: int, label: int
) -> list[int]:
    """Return positions of the words of a title that support a rival over the label."""
    one, other = np.searchsorted(model.categories, [rival, label])
    weights = model.weights[values.indices]
    gains = values.data * (weights[:, one] - weights[:, other])
    gain_of = dict(zip(values.indices.tolist(), gains.tolist(), strict=True))
    sums = [sum(map(gain_of.__getitem__, own.tolist())) for own in tokens]
    best = sorted(range(len(sums)), key=lambda position: -sums[position])[:_WORDS]
    return sorted(position for position in best if sums[position] > 0)


def _label_errors(
    scores: _Scores, targets: np.ndarray, classes: int, words: dict[int, list[int]]
) -> LabelErrors:
    """Turn scores into probabilities, and estimate which labels are wrong by confident learning."""
    leads = scores.leads
    checked = leads > -np.inf
    logits = np.column_stack([scores.own, scores.scores]).astype(np.float64)[checked]
    probabilities = np.zeros((len(targets), 1 + scores.rivals.shape[1]))
    doubts = np.full(len(targets), -np.inf)
    if checked.any():
        same = np.zeros(len(logits), dtype=np.int64)
        scaled = fit_scale(logits, same, np.zeros(logits.shape[1])) * logits
        probabilities[checked] = softmax(scaled)
        # Rounded, because the last bits of a logarithm differ between CPUs.
        doubts[checked] = np.round(logsumexp(scaled[:, 1:], axis=1) - scaled[:, 0], _DECIMALS)
    own = probabilities[:, 0]
    rows = np.bincount(targets[checked], minlength=classes)
    means = np.bincount(targets[checked], own[checked], minlength=classes) / np.maximum(rows, 1)
    thresholds = np.where(rows > 0, means, np.inf)
    categories = np.column_stack([targets, scores.rivals])
    candidates = np.where(probabilities >= thresholds[categories], probabilities, 0.0)
    best = candidates.argmax(axis=1)
    counted = checked & (candidates.max(axis=1) > 0) & (rows >= MIN_LABELS)[targets]
    return LabelErrors(
        suggestions=scores.rivals[:, 0],
        leads=leads,
        doubts=doubts,
        confidences=probabilities[:, 1].astype(np.float32),
        label_confidences=own.astype(np.float32),
        errors=counted & (best > 0),
        counted=counted,
        words=words,
    )
