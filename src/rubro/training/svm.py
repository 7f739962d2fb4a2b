"""Fit a linear SVM, combined with naive Bayes, to titles."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from rubro.base.console import say
from rubro.base.metric_names import Objective
from rubro.base.params import SvmParams
from rubro.features.featurizer import TitleFeatures, Tokens
from rubro.features.ragged import Ragged
from rubro.features.subwords import Subwords, inverse_document_frequency
from rubro.features.titles import LabelledTitles, class_shares
from rubro.training.crammer_singer import fit_crammer_singer
from rubro.training.decisions import fit_scale, fit_shift
from rubro.training.title_weights import title_weights

_BAYES_WEIGHTS = (0.0, 0.01, 0.02, 0.04, 0.08)  # candidates for the weight of naive Bayes
_MAX_TITLES = 4000  # validation titles on which this weight is chosen
# Share of the titles that are learned a second time without their further columns, so that products
# with only a title are classified well.
_COPIES = 0.5
# Factor of the inputs of further columns: a title says more about its category than other texts.
_SCALE = 0.5
_BLOCK = 4096  # inputs whose small weights are found at once


@np.errstate(over="ignore", invalid="ignore")  # infinite weights are refused later
def fit_svm(
    train: LabelledTitles,
    validation: LabelledTitles,
    distinct_tokens: Tokens,
    subwords: Subwords,
    bigram_buckets: int,
    classes: int,
    params: SvmParams,
    objective: Objective,
    seed: int,
) -> tuple[dict[str, np.ndarray], float]:
    """Fit a linear SVM to the TF-IDF values of words, word bigrams and character n-grams.

    The SVM is fitted by fit_crammer_singer. The weights of a naive Bayes classifier with the same
    inputs are added (Wang and Manning 2012, Baselines and Bigrams), and weights near zero are then
    set to zero (Babbar and Schoelkopf 2017, DiSMEC).

    An input of the SVM is a word, a bucket of bigrams or a bucket of n-grams in one of the columns
    of a title. Only inputs that occur in titles get weights, and only the params.max_inputs most
    frequent ones if there are more. The fit needs 4 bytes of memory for each pair of such an input and a category.

    Args:
        train: Training titles.
        validation: Titles on which the weight of naive Bayes is chosen if it is "auto"; see
            _chosen_weight.
        distinct_tokens: Distinct tokens of all splits.
        subwords: Vocabulary and n-grams of the tokens.
        bigram_buckets: Number of hash buckets of word bigrams.
        classes: Number of categories; a category without titles gets no weights and the lowest
            bias.
        params: Parameters of the fit.
        objective: Metric that the weight of naive Bayes is chosen by.
        seed: Seed of the sample of titles and of the solver.

    Returns:
        Tensors of prediction.networks.SvmScorer, by name, and the weight of naive Bayes.

    Raises:
        DataError: All training titles have weight 0.
    """
    weights = title_weights(train.labels, classes, params)
    titles = np.flatnonzero(weights)
    if params.max_titles and len(titles) > params.max_titles:
        titles = np.sort(_sample(titles, train.labels.weights, params.max_titles, seed))
    features = train.features.take(titles)
    if features.columns > 1:
        copied = np.flatnonzero(np.random.default_rng(seed).random(len(titles)) < _COPIES)
        copies = features.take(copied).without_columns(np.ones(len(copied), bool))
        features = TitleFeatures.concatenated([features, copies])
        titles = np.concatenate([titles, titles[copied]])
    sizes = subwords.row_count, subwords.row_count + bigram_buckets
    counts = input_counts(features, distinct_tokens, *sizes)
    frequencies = np.bincount(counts.indices, minlength=counts.shape[1])
    distinct, positions = np.unique(frequencies, return_inverse=True)
    idf = np.array(
        [inverse_document_frequency(int(n), len(titles)) for n in distinct], dtype=np.float32
    )[positions]
    groups = input_groups(subwords, bigram_buckets, features.columns)
    weighted = np.flatnonzero(frequencies)
    if params.max_inputs:
        most_frequent = np.argsort(-frequencies[weighted], kind="stable")[: params.max_inputs]
        weighted = np.sort(weighted[most_frequent])
    inputs = tf_idf_inputs(counts, idf, groups)[:, weighted]
    targets = train.labels.targets[titles]
    say(f"fitting a linear SVM to {len(titles)} titles")
    coefficients, bias = _fit(inputs, targets, weights[titles], classes, params, seed)
    bayes, bayes_bias = _naive_bayes(
        inputs, targets, classes, params.naive_bayes_smoothing, len(frequencies)
    )
    weight = params.naive_bayes_weight
    if weight == "auto":
        sample = validation.take(np.arange(0, len(validation), len(validation) // _MAX_TITLES + 1))
        held_out = input_counts(sample.features, distinct_tokens, *sizes)
        held_out = tf_idf_inputs(held_out, idf, groups)[:, weighted]
        held_out = held_out.astype(np.float32)  # float64 would copy the coefficients
        scores = held_out @ coefficients + bias
        bayes_scores = (held_out @ bayes).toarray() + bayes_bias
        shares = np.log(class_shares(np.bincount(train.labels.targets, minlength=classes)))
        weight = _chosen_weight(scores, bayes_scores, sample.labels.targets, shares, objective)
    if weight:
        rows = np.repeat(np.arange(bayes.shape[0]), np.diff(bayes.indptr))
        coefficients[rows, bayes.indices] += weight * bayes.data
        bias += weight * bayes_bias
    coefficients[groups[weighted] > 1] *= _SCALE
    kept = _without_small(coefficients, params.smallest_weight)
    lengths = np.zeros(len(frequencies), dtype=np.int64)
    lengths[weighted] = np.diff(kept.indptr)
    tensors = {
        "idf": idf,
        "starts": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        "categories": kept.indices.astype(np.int16 if classes <= 2**15 else np.int32),
        "weights": kept.data.astype(np.float16),
        "bias": bias.astype(np.float32),
    }
    return tensors, weight


def _sample(titles: np.ndarray, weights: np.ndarray | None, size: int, seed: int) -> np.ndarray:
    """Return a random sample of titles, in which titles with weight 1 come before other titles.

    Args:
        titles: Positions of the titles, (n,), n >= size.
        weights: Weight of each title in its label, float32; None = 1 for all titles.
        size: Number of titles in the sample.
        seed: Seed of the sample.
    """
    random = np.random.default_rng(seed)
    if weights is None:
        return np.asarray(random.choice(titles, size, replace=False))
    order = random.permutation(titles)
    return order[np.argsort(weights[order] < 1, kind="stable")[:size]]


def input_counts(
    features: TitleFeatures, distinct_tokens: Tokens, rows: int, column_inputs: int
) -> sparse.csr_matrix:
    """Count the embedding rows and bigram buckets of each title, float (titles, inputs).

    Args:
        features: Tokens and bigrams of the titles.
        distinct_tokens: Distinct tokens of all splits.
        rows: Number of rows of the embedding.
        column_inputs: Number of inputs of a column: its rows, then its buckets of bigrams.
    """
    columns = features.columns
    inputs = columns * column_inputs
    first = distinct_tokens.columns * column_inputs
    row_values = distinct_tokens.values + np.repeat(first, distinct_tokens.lengths)
    rows_of_tokens = _matrix(Ragged(row_values, distinct_tokens.offsets), inputs)
    row_counts = _matrix(features.joined_tokens, len(distinct_tokens)) @ rows_of_tokens
    first = np.arange(len(features.bigrams), dtype=np.int32) % columns * column_inputs + rows
    bigram_values = features.bigrams.values + np.repeat(first, features.bigrams.lengths)
    bigram_offsets = features.bigrams.offsets[::columns]
    counts = row_counts + _matrix(Ragged(bigram_values, bigram_offsets), inputs)
    counts.sum_duplicates()
    return counts


def _matrix(lists: Ragged, width: int) -> sparse.csr_matrix:
    """Return a sparse matrix with a 1 for each value of each list, float (lists, width).

    The value is the number of the matrix column.
    """
    ones = np.ones(len(lists.values))
    offsets = lists.offsets.astype(np.int32)
    return sparse.csr_matrix((ones, lists.values, offsets), shape=(len(lists), width))


def input_groups(subwords: Subwords, bigram_buckets: int, columns: int) -> np.ndarray:
    """Return the number of the group of each input, integers (inputs,).

    The words and bigrams of column i are group 2 * i, and its n-grams are group 2 * i + 1.

    Args:
        subwords: Vocabulary and n-grams of the tokens.
        bigram_buckets: Number of hash buckets of word bigrams.
        columns: Number of columns of a title, including the title.
    """
    column_inputs = subwords.row_count + bigram_buckets
    inputs = np.arange(columns * column_inputs)
    number = inputs % column_inputs
    is_ngram = (number >= len(subwords.vocabulary)) & (number < subwords.row_count)
    return np.asarray(inputs // column_inputs * 2 + is_ngram)


def tf_idf_inputs(
    counts: sparse.csr_matrix, idf: np.ndarray, groups: np.ndarray
) -> sparse.csr_matrix:
    """Return TF-IDF values, scaled to length 1 for each group of inputs of a title.

    Args:
        counts: Number of occurrences of each input in each title, float (titles, inputs).
        idf: Inverse document frequency of each input, float32 (inputs,).
        groups: Number of the group of each input, from input_groups, (inputs,).
    """
    squares = np.zeros((len(idf), groups.max() + 1), dtype=np.float32)
    squares[np.arange(len(idf)), groups] = idf**2
    lengths = np.sqrt(counts @ squares)
    titles = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    inputs = counts.indices
    values = counts.data * idf[inputs] / lengths[titles, groups[inputs]]
    values[groups[inputs] > 1] *= _SCALE
    return sparse.csr_matrix((values, inputs, counts.indptr), shape=counts.shape)


def _fit(
    inputs: sparse.csr_matrix,
    targets: np.ndarray,
    weights: np.ndarray,
    classes: int,
    params: SvmParams,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit an SVM; return its coefficients (inputs, classes) and biases (classes,), float32."""
    present, positions = np.unique(targets, return_inverse=True)
    if len(present) < 2:
        return np.zeros((inputs.shape[1], classes), np.float32), np.zeros(classes, np.float32)
    with_bias = sparse.hstack([inputs, np.ones((len(targets), 1))], format="csr")
    costs = params.C * weights
    weights, converged = fit_crammer_singer(
        with_bias, positions, costs, len(present), params.tolerance, params.max_iterations, seed
    )
    if not converged:
        say(f"the solver did not reach its tolerance in {params.max_iterations} iterations")
    if len(present) == classes:
        return weights[:-1], weights[-1]
    coefficients = np.zeros((inputs.shape[1], classes), np.float32)
    bias = np.full(classes, weights[-1].min(), np.float64)
    coefficients[:, present], bias[present] = weights[:-1], weights[-1]
    return coefficients, bias


def _without_small(coefficients: np.ndarray, minimum: float) -> sparse.csr_matrix:
    """Return the coefficients whose absolute value is not below a minimum, as a sparse matrix."""
    minimum = max(minimum, float(np.finfo(np.float32).tiny))  # zeros are never kept
    width = coefficients.shape[1]
    places = []  # of the kept coefficients in the flattened matrix
    for start in range(0, len(coefficients), _BLOCK):  # a mask of the whole needs more memory
        block = coefficients[start : start + _BLOCK]
        is_small = (block < minimum) & (block > -minimum)
        places.append(np.flatnonzero(~is_small) + start * width)
    kept = np.concatenate(places)
    starts = np.searchsorted(kept, np.arange(len(coefficients) + 1) * width)
    return sparse.csr_matrix(
        (coefficients.ravel()[kept], kept % width, starts), shape=coefficients.shape
    )


def _naive_bayes(
    inputs: sparse.csr_matrix, targets: np.ndarray, classes: int, smoothing: float, total: int
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Fit a multinomial naive Bayes classifier without class priors.

    As in Rennie et al. 2003, Tackling the Poor Assumptions of Naive Bayes Text Classifiers, the
    counts are TF-IDF values. All categories have the same weight. An input's weight is
    log(mass + smoothing) - log(smoothing), where mass is the sum of its values in a category, so
    that it is zero if the input never occurs there. The logarithm of the category's total mass,
    with smoothing added once per input, is multiplied by the mean mass of a title and subtracted
    from the bias.

    Args:
        inputs: TF-IDF values, float (titles, inputs).
        targets: Class indices, (titles,).
        classes: Number of categories.
        smoothing: Value added to the mass of each input in each category.
        total: Number of inputs, including those without a column.

    Returns:
        Weights, sparse float (inputs, classes), and bias, (classes,).
    """
    weights = 1 / np.bincount(targets, minlength=classes)[targets]
    weights *= len(targets) / classes
    membership = sparse.csr_matrix(
        (weights, (targets, np.arange(len(targets)))), shape=(classes, len(targets))
    )
    mass = (membership @ inputs).tocsr()
    bias = np.log(mass.sum(axis=1).A1 + smoothing * total) * (-inputs.sum() / inputs.shape[0])
    mass.data = np.log1p(mass.data / smoothing)
    return mass.T.tocsr(), bias


def _chosen_weight(
    scores: np.ndarray,
    bayes_scores: np.ndarray,
    targets: np.ndarray,
    shares: np.ndarray,
    objective: Objective,
) -> float:
    """Return the weight of naive Bayes with the best metric on validation, after a shift.

    Naive Bayes helps if the categories have similar numbers of titles, and does harm if a few
    categories contain most titles.

    Args:
        scores: Scores of the SVM, float (titles, classes).
        bayes_scores: Scores of naive Bayes, float (titles, classes).
        targets: Class indices, (titles,).
        shares: Logarithm of each category's share of the training titles, (classes,).
        objective: Metric.
    """
    # One scale for all weights saves time; it only sets the distance of the shifts that are tried.
    middle = _BAYES_WEIGHTS[len(_BAYES_WEIGHTS) // 2]
    scale = fit_scale(scores + middle * bayes_scores, targets, shares)
    values = {}
    for weight in _BAYES_WEIGHTS:
        scaled = scale * (scores + weight * bayes_scores)
        values[weight] = fit_shift(scaled, targets, shares, objective)[1]
    return max(values, key=values.__getitem__)
