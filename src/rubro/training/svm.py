"""Fit of a linear SVM with naive Bayes to the features of titles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from rubro.base.console import say
from rubro.base.params import SvmParams
from rubro.features.featurizer import TitleFeatures, Tokens
from rubro.features.ragged import Ragged
from rubro.features.subwords import inverse_document_frequency
from rubro.features.titles import LabelledTitles
from rubro.training.crammer_singer import fit_crammer_singer
from rubro.training.title_weights import title_weights

_BLOCK = 4096  # inputs whose weights are looked at together


@dataclass(frozen=True)
class FeatureSizes:
    """Sizes of the inputs of the SVM.

    Attributes:
        words: Number of rows of the vocabulary.
        rows: Number of rows of the embedding, n-gram buckets included.
        bigram_buckets: Number of hash buckets of word bigrams.
    """

    words: int
    rows: int
    bigram_buckets: int


def fit_svm(
    train: LabelledTitles,
    distinct_tokens: Tokens,
    sizes: FeatureSizes,
    classes: int,
    params: SvmParams,
    seed: int,
) -> dict[str, np.ndarray]:
    """Fit a linear SVM to TF-IDF of words, word bigrams and character n-grams.

    All categories are fitted together: see crammer_singer.fit_crammer_singer. The weights of a naive Bayes
    classifier of the same inputs are added: Wang and Manning 2012, Baselines and Bigrams. Weights
    near zero are then set to zero: Babbar and Schoelkopf 2017, DiSMEC.

    Inputs that no title has, and beyond params.max_inputs those of the fewest titles, get no weights.
    The fit needs 4 bytes of memory for each pair of another input and a category.

    Args:
        train: Training titles.
        distinct_tokens: Distinct tokens of all splits.
        sizes: Sizes of the inputs.
        classes: Number of categories; a category without titles gets no weights and the least bias.
        params: Parameters of the fit.
        seed: Seed of the sample of titles and of their order in the solver.

    Returns:
        Tensors of prediction.networks.SvmScorer, by name.

    Raises:
        DataError: No training title has a weight.
    """
    weights = title_weights(train.labels, classes, params)
    titles = np.flatnonzero(weights)
    if params.max_titles and len(titles) > params.max_titles:
        chosen = np.random.default_rng(seed).choice(titles, params.max_titles, replace=False)
        titles = np.sort(chosen)
    counts = _counts(train.features.take(titles), distinct_tokens, sizes)
    found = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = np.array(
        [inverse_document_frequency(int(n), len(titles)) for n in found], dtype=np.float32
    )
    is_ngram = np.zeros(counts.shape[1], dtype=bool)
    is_ngram[sizes.words : sizes.rows] = True
    weighted = _in_most_titles(found, params.max_inputs)
    inputs = _normalised(counts, idf, is_ngram)[:, weighted]
    targets = train.labels.targets[titles]
    say(f"fitting a linear SVM to {len(titles)} titles")
    coefficients, bias = _fitted(inputs, targets, weights[titles], classes, params, seed)
    _add_naive_bayes(coefficients, bias, inputs, targets, weights[titles], params, len(found))
    kept = _without_small(coefficients, params.smallest_weight)
    lengths = np.zeros(len(found), dtype=np.int64)
    lengths[weighted] = np.diff(kept.indptr)
    return {
        "idf": idf,
        "starts": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        "categories": kept.indices.astype(np.int16 if classes <= 2**15 else np.int32),
        "weights": kept.data.astype(np.float16),
        "bias": bias.astype(np.float32),
    }


def _in_most_titles(found: np.ndarray, most: int) -> np.ndarray:
    """Return the inputs that titles have; of more than the most allowed, those in most titles."""
    there = np.flatnonzero(found)
    if most and len(there) > most:
        there = np.sort(there[np.argsort(-found[there], kind="stable")[:most]])
    return there


def _counts(
    features: TitleFeatures, distinct_tokens: Tokens, sizes: FeatureSizes
) -> sparse.csr_matrix:
    """Return the counts of rows and, after these, of bigrams in each title."""
    tokens = _matrix(features.tokens, len(distinct_tokens))
    rows = tokens @ _matrix(distinct_tokens, sizes.rows)
    counts = sparse.hstack([rows, _matrix(features.bigrams, sizes.bigram_buckets)], format="csr")
    counts.sum_duplicates()
    return counts


def _matrix(lists: Ragged, columns: int) -> sparse.csr_matrix:
    ones = np.ones(len(lists.values))
    offsets = lists.offsets.astype(np.int32)
    return sparse.csr_matrix((ones, lists.values, offsets), shape=(len(lists), columns))


def _normalised(
    counts: sparse.csr_matrix, idf: np.ndarray, is_ngram: np.ndarray
) -> sparse.csr_matrix:
    """Return counts times IDF, n-grams and other inputs of a title each over a root of squares."""
    squares = np.stack([idf**2 * ~is_ngram, idf**2 * is_ngram], axis=1)
    lengths = np.sqrt(counts @ squares)
    titles = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    inputs = counts.indices
    values = counts.data * idf[inputs] / lengths[titles, is_ngram[inputs].astype(int)]
    return sparse.csr_matrix((values, inputs, counts.indptr), shape=counts.shape)


def _fitted(
    inputs: sparse.csr_matrix,
    targets: np.ndarray,
    weights: np.ndarray,
    classes: int,
    params: SvmParams,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients, (inputs, classes), and bias, (classes,), float32."""
    present, positions = np.unique(targets, return_inverse=True)
    if len(present) < 2:
        return np.zeros((inputs.shape[1], classes), np.float32), np.zeros(classes, np.float32)
    with_bias = sparse.hstack([inputs, np.ones((len(targets), 1))], format="csr")
    costs = params.C * weights
    margins = fit_crammer_singer(
        with_bias, positions, costs, len(present), params.tolerance, params.max_iterations, seed
    )
    if not margins.converged:
        say(f"the solver did not reach its tolerance in {params.max_iterations} iterations")
    coefficients, bias = margins.weights[:-1], margins.weights[-1]
    if len(present) == classes:
        return coefficients, bias
    of_all, bias_of_all = np.zeros((inputs.shape[1], classes), np.float32), np.zeros(classes)
    of_all[:, present], bias_of_all[:] = coefficients, bias.min()
    bias_of_all[present] = bias
    return of_all, bias_of_all


def _without_small(coefficients: np.ndarray, smallest: float) -> sparse.csr_matrix:
    """Return the coefficients of at least the smallest absolute value, (inputs, classes)."""
    kept = []
    for start in range(0, len(coefficients), _BLOCK):  # a mask of them all would take more memory
        block = coefficients[start : start + _BLOCK]
        block[(block < smallest) & (block > -smallest)] = 0
        kept.append(sparse.csr_matrix(block))
    return sparse.vstack(kept, format="csr")


def _add_naive_bayes(
    coefficients: np.ndarray,
    bias: np.ndarray,
    inputs: sparse.csr_matrix,
    targets: np.ndarray,
    weights: np.ndarray,
    params: SvmParams,
    number: int,
) -> None:
    """Add multinomial naive Bayes without prior, times its weight, in place.

    The inputs are TF-IDF, as in Rennie et al. 2003, Tackling the Poor Assumptions of Naive Bayes
    Text Classifiers. log(smoothing), the same for all categories, is subtracted from
    log(mass + smoothing): weights of inputs that a category never has are zero. The bias is
    minus the logarithm of the mass of a category times the mean mass of all titles; each of the
    number of all inputs is smoothed.
    """
    belongs = sparse.csr_matrix(
        (weights, (targets, np.arange(len(targets)))), shape=(len(bias), len(targets))
    )
    mass = (belongs @ inputs).tocsr()
    smoothing, weight = params.naive_bayes_smoothing, params.naive_bayes_weight
    categories = np.repeat(np.arange(len(bias)), np.diff(mass.indptr))
    coefficients[mass.indices, categories] += weight * np.log1p(mass.data / smoothing)
    whole = mass.sum(axis=1).A1 + smoothing * number
    bias -= weight * inputs.sum() / inputs.shape[0] * np.log(whole)
