"""Classifier of products, loaded from a model folder."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from threading import Lock

import numpy as np

from rubro.base.category_tree import CategoryTree, Level
from rubro.base.errors import DataError
from rubro.base.metric_names import Objective
from rubro.base.text_columns import Product
from rubro.features.featurizer import Featurizer, TitleFeatures
from rubro.features.subwords import Subwords
from rubro.prediction.calibration import Calibration
from rubro.prediction.explanation import (
    FOREIGN_SHARE,
    Explanation,
    LinearInput,
    SpannedToken,
    linear_inputs,
    word_contributions,
)
from rubro.prediction.folder import Model, ModelDescription
from rubro.prediction.nearest import Neighbour, TitleIndex
from rubro.prediction.networks import SvmScorer
from rubro.prediction.product_reader import ProductReader

_BATCH_TITLES = 512
_CACHE_BYTES = 192 * 2**20
_MIN_CACHED_TOKENS = 1024
# The weights and temperatures of a model cannot turn smaller logits into infinity.
_MAX_LOGIT = np.float32(1e30)


class Classifier:
    """Predict the categories of products with a trained model.

    The methods follow the conventions of scikit-learn. They take a sequence of products, such as a
    list or a column of a table, and raise a TypeError if they are given a single product, a whole
    table or a value that is not text. A product is its title, or a dictionary from the names of
    columns to their texts. A text that is missing or None is empty, and columns that the model does
    not read are ignored. A text may be any text, but only its first characters and tokens are read
    (max_title_length and max_tokens in model.json). Several threads may share a classifier. Copied
    and pickled classifiers start with an empty cache.

    >>> classifier = Classifier.load("models/ensemble")
    >>> classifier.predict(["Procesador Intel 1151 8g Core I5 8400"])
    ['COMPUTER_PROCESSORS']
    >>> classifier.predict([{"title": "Procesador Intel 1151 8g Core I5 8400"}])
    ['COMPUTER_PROCESSORS']

    Args:
        model: Content of a model folder; see Classifier.load.

    Attributes:
        classes_: Categories, in the order of the columns of predict_proba.
        description: Content of model.json.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.description: ModelDescription = model.description
        self.classes_: list[str] = list(model.description.labels)
        self._subwords = Subwords(model.vocabulary, self.description.subwords)
        self._scorers = {
            name: member.scorer(model.tensors[name], self._subwords, 1 + len(self.text_columns))
            for name, member in self.description.members.items()
        }
        self._titles = (
            None
            if model.titles is None
            else TitleIndex(model.titles, self._subwords, self.classes_)
        )
        self._reader = ProductReader(self.description.text)
        self._no_logits = np.zeros((0, len(self.classes_)), dtype=np.float32)
        self._shifts = self.description.category_shifts
        self._lock = Lock()
        token_bytes = 4 * sum(scorer.state_size for scorer in self._scorers.values())
        self._max_cached_tokens = max(_CACHE_BYTES // token_bytes, _MIN_CACHED_TOKENS)
        self._frozen_tokens: int | None = None
        self._empty_cache()

    @classmethod
    def load(cls, folder: str | Path, objective: Objective | None = None) -> Classifier:
        """Load a model folder, such as models/ensemble.

        >>> Classifier.load("models/ensemble", objective="accuracy").description.objective
        'accuracy'

        Args:
            folder: Path of the model folder.
            objective: Metric to optimise by the choice of categories: "balanced_accuracy",
                "accuracy" or "macro_f1"; None = the objective that the model was trained for.

        Raises:
            DataError: A file is missing, damaged or of an unknown format, or the model has no
                decision for the objective.
        """
        return cls(Model.load(Path(folder)).serving(objective))

    def __reduce__(self) -> tuple[type[Classifier], tuple[Model]]:
        return type(self), (self._model,)

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.description.name

    @property
    def calibration(self) -> Calibration:
        """Calibration of the logits for the objective of the classifier."""
        return self.description.decision.calibration

    @property
    def title_column(self) -> str:
        """Name of the column that contained the training titles."""
        return self.description.text.title_column

    @property
    def tree(self) -> CategoryTree | None:
        """Tree of the categories; None if they are not paths."""
        return self.description.tree

    @property
    def text_columns(self) -> list[str]:
        """Names of the columns that the model reads in addition to the title."""
        return [column.name for column in self.description.text.columns]

    @property
    def vocabulary(self) -> dict[str, int]:
        """Known words, each with the number of training titles that contain it."""
        return self._subwords.vocabulary

    def predict(self, products: Iterable[Product]) -> list[str]:
        """Return the most probable category of each product."""
        best = [logits.argmax(axis=1) for logits in self._logits(products)]
        return [self.classes_[index] for indices in best for index in indices]

    def predict_proba(self, products: Iterable[Product]) -> np.ndarray:
        """Return the calibrated probability of each category for each product.

        Returns:
            Probabilities, float32 (products, classes), with columns in the order of classes_. Each row
            sums to 1.
        """
        calibrated = map(self.calibration.probabilities, self._logits(products))
        return np.concatenate([self._no_logits, *calibrated])

    def level(self, level: int | None = None) -> Level:
        """Return the nodes of the category tree at a level, from 1 (the roots) to tree.depth.

        Args:
            level: Level; None = the categories themselves, which every model has.

        Raises:
            DataError: The model has no tree.
            ValueError: The tree has no such level.
        """
        tree = self.tree
        if level is None:
            return self.levels[0]
        if tree is None:
            raise DataError(
                f"{self.name}: the categories are not paths, so there is no level {level}; to train "
                "on paths, set data.category_separator in params.yaml and run `dvc repro`"
            )
        return tree.level(level)

    @cached_property
    def levels(self) -> list[Level]:
        """Nodes of each level, deepest first. Without a tree, the categories are the only level."""
        if self.tree:
            return self.tree.levels[::-1]
        count = len(self.classes_)
        return [Level(self.classes_, np.ones(count, dtype=np.int64), np.arange(count))]

    def top(
        self, products: Iterable[Product], k: int = 5, level: int | None = None
    ) -> list[list[tuple[str, float]]]:
        """Return the k most probable categories of each product with their probabilities.

        If probabilities are equal, the category that comes first in classes_ ranks higher, as in
        predict.

        Args:
            products: Titles, or dictionaries from columns to texts.
            k: Number of categories for each product, at least 1.
            level: Level of the category tree whose nodes are ranked, from 1 (the roots); the
                probability of a node is the sum over its categories. None = rank the categories.

        Returns:
            Pairs of category and probability for each product, most probable first.

        Raises:
            DataError: There is a level, but the model has no tree.
            ValueError: k is smaller than 1, or the tree has no such level.
        """
        nodes = self.level(level)
        return ranked(nodes.summed(self.predict_proba(products)), nodes.nodes, k)

    def logits(self, products: Iterable[Product]) -> np.ndarray:
        """Return the logits of each product before calibration, float32 (products, classes).

        The logits of a model are the weighted sum of the logits of its members, plus the shift for
        its objective.
        """
        return np.concatenate([self._no_logits, *self._logits(products)])

    def member_logits(self, products: Iterable[Product]) -> dict[str, np.ndarray]:
        """Return the unweighted logits of each member of the model, float32 (products, classes).

        The keys are the names of the members.
        """
        batches = list(self._batches(products))
        return {
            name: np.concatenate([self._no_logits, *(batch[name] for batch in batches)])
            for name in self._scorers
        }

    def combine(self, logits: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the logits of the model, float32 (products, classes), given its members' logits."""
        total = self.description.weighted_sum(logits)
        total += self._shifts
        return total

    def out_of_vocabulary(self, products: Iterable[Product]) -> np.ndarray:
        """Return the share of out-of-vocabulary tokens of each product, in all its columns.

        If the share is above explanation.FOREIGN_SHARE, the predicted category is a guess: the title
        may be in a language that the training titles do not contain.

        Returns:
            Shares from 0 to 1, float64 (products,); 1 for a product without tokens.
        """
        columns = len(self._reader.limits)
        texts = self._reader.tokens(self._reader.texts(products))
        return np.array(
            [
                self._unknown_share(texts[start : start + columns])
                for start in range(0, len(texts), columns)
            ]
        )

    def explain(
        self,
        product: Product,
        against: str | None = None,
        nearest: int = 0,
        level: int | None = None,
    ) -> Explanation:
        """Explain why the predicted category of a product wins over another category.

        The contribution of a word is the drop of the category's lead when the word is left out. It
        is computed in the same way for all members of the model. For a linear member, the exact
        contribution of each word, bigram and n-gram is included as well. At an upper level of the
        category tree, the logit of a node is the logarithm of the summed exponentials of the logits
        of its categories, at the temperature of the calibration. It is not linear, so there are no
        exact contributions.

        >>> classifier.explain("Lampara De Techo Philips").words[2].text
        'Techo'

        Args:
            product: Title, or dictionary from columns to texts.
            against: Category to compare with; None = second most probable category.
            nearest: Number of the most similar training titles to include.
            level: Level of the category tree whose nodes are compared, from 1 (the roots); None =
                compare the categories.

        Raises:
            DataError: The model has only one category, does not know the category to compare with,
                does not contain its training titles, or has no tree although there is a level.
            ValueError: nearest is negative, or the tree has no such level.
        """
        texts = self._reader.texts([product])
        if operator.index(nearest) < 0:
            raise ValueError(f"nearest is {nearest}, but must be at least 0")
        tokens = self._reader.spanned_tokens(texts)
        words = [[token for token, _ in own] for own in tokens.values()]
        variants = [words]
        for column, own in enumerate(words):
            for place in range(len(own)):
                without = own[:place] + own[place + 1 :]
                variants.append([*words[:column], without, *words[column + 1 :]])
        features, scores = self._score(list(chain.from_iterable(variants)))
        nodes = self.level(level)
        totals = self.combine(scores)
        probabilities = nodes.summed(self.calibration.probabilities(totals[:1]))[0]
        is_leaf = len(nodes.nodes) == len(self.classes_)
        ranking = totals[0] if is_leaf else probabilities
        best = int(ranking.argmax())
        other = self._other(ranking, nodes.nodes, best, against)
        temperature = 1.0 if is_leaf else self.calibration.temperature

        def lead(logits: np.ndarray) -> np.ndarray:
            first, second = (
                _log_sum(logits[:, nodes.node_of == node], temperature) for node in (best, other)
            )
            difference: np.ndarray = first - second
            return difference

        leads = {
            name: lead(np.float32(self.description.members[name].weight) * logits)
            for name, logits in scores.items()
        }
        linear: list[LinearInput] = []
        bias = 0.0
        if is_leaf:
            linear, bias = self._linear(tokens, features, best, other)
            bias += float(self._shifts[best] - self._shifts[other])
        unknown = self._unknown_share(words)
        return Explanation(
            title=texts[0],
            category=nodes.nodes[best],
            confidence=float(probabilities[best]),
            other=nodes.nodes[other],
            other_confidence=float(probabilities[other]),
            lead=float(lead(totals[:1])[0]),
            words=word_contributions(
                dict(zip(tokens, texts, strict=True)),
                tokens,
                leads,
                self._subwords,
                None if is_leaf else lead(totals),
            ),
            linear=linear,
            linear_bias=bias,
            out_of_vocabulary=unknown,
            foreign=unknown > FOREIGN_SHARE,
            nearest=self._nearest(words[0], nearest),
        )

    def _other(
        self, ranking: np.ndarray, names: Sequence[str], best: int, against: str | None
    ) -> int:
        if len(names) == 1:
            raise DataError(
                f"{self.name}: the model has only one category, {names[0]}, so there is no other one "
                "to compare with"
            )
        if against is None:
            runners_up = ranking.copy()
            runners_up[best] = -np.inf
            return int(runners_up.argmax())
        if against not in names:
            raise DataError(
                f"{self.name}: unknown category {against!r}; model.json lists all categories"
            )
        return names.index(against)

    def _linear(
        self,
        tokens: Mapping[str, Sequence[SpannedToken]],
        features: TitleFeatures,
        best: int,
        other: int,
    ) -> tuple[list[LinearInput], float]:
        columns = self.description.text.columns
        numbers = {column.name: column for column in columns if column.bounds is not None}
        found: list[LinearInput] = []
        total_bias = 0.0
        for name, scorer in self._scorers.items():
            if isinstance(scorer, SvmScorer):
                weight = self.description.members[name].weight
                total_bias += weight * scorer.bias_lead(best, other)
                for number, (column, own) in enumerate(tokens.items()):
                    rows = self._subwords.rows_of([token for token, _ in own]).values
                    inputs = rows, features.bigrams[number]
                    leads = scorer.leads(number, *inputs, best, other)
                    number_column = numbers.get(column)
                    if number_column is None:
                        found += linear_inputs(self._subwords, column, own, leads, weight)
                    elif own:  # the model reads the name of a bin as a word with n-grams
                        ((token, spans),) = own
                        lead = weight * float(leads.sum())
                        text = number_column.range_of(token)
                        span = spans[0][0], spans[-1][1]
                        found.append(LinearInput("number", text, *span, lead, column))
        return sorted(found, key=lambda each: -abs(each.contribution)), total_bias

    def _nearest(self, tokens: list[str], count: int) -> list[Neighbour]:
        if not count:
            return []
        if self._titles is None:
            raise DataError(
                f"{self.name}: the model folder contains no training titles; run "
                "`dvc exp run -S ensemble.training_titles=true` to add them to models/ensemble"
            )
        return self._titles.nearest(tokens, count)

    def freeze_cache(self) -> None:
        """Keep the tokens that are cached now, but cache no tokens of later calls.

        Cached tokens can change the last bits of a result. Once the cache is frozen, results depend
        only on the titles of a call. Threads may no longer share the classifier.
        """
        self._frozen_tokens = len(self._featurizer)

    def _logits(self, products: Iterable[Product]) -> Iterator[np.ndarray]:
        return map(self.combine, self._batches(products))

    def _batches(self, products: Iterable[Product]) -> Iterator[dict[str, np.ndarray]]:
        """Yield the logits of each member of the model, one batch of products after another."""
        texts = self._reader.texts(products)
        if self._frozen_tokens is not None:
            self._featurizer.forget(self._frozen_tokens)
        size = _BATCH_TITLES * len(self._reader.limits)
        for start in range(0, len(texts), size):
            yield self._score(self._reader.tokens(texts[start : start + size]))[1]

    @np.errstate(over="ignore", invalid="ignore")  # overflow is reported at the end
    def _score(self, texts: Sequence[Sequence[str]]) -> tuple[TitleFeatures, dict[str, np.ndarray]]:
        """Return the features and the member logits of products, given the tokens of each text."""
        with self._lock:
            before = len(self._featurizer)
            if before > self._max_cached_tokens and self._frozen_tokens is None:
                self._forget_rare_tokens()
                before = len(self._featurizer)
            features = self._featurizer(texts)
            now = len(self._featurizer)
            if now > before:
                tokens = self._featurizer.tokens(self._subwords, before)
                for name, scorer in self._scorers.items():
                    states = self._states[name]
                    if now > len(states):
                        size = max(now, 2 * len(states))
                        states = np.zeros((size, scorer.state_size), dtype=np.float32)
                        states[:before] = self._states[name][:before]
                        self._states[name] = states
                    states[before:now] = scorer.token_states(tokens)
            cached = dict(self._states)
        scorers = self._scorers.items()
        logits = {name: each.logits(features, cached[name]) for name, each in scorers}
        for name, values in logits.items():
            # NaN, which is neither larger nor smaller than the limits, does not pass either.
            if not -_MAX_LOGIT <= values.min(initial=0) <= values.max(initial=0) <= _MAX_LOGIT:
                raise DataError(
                    f"{self.name}: the logits of member {name} overflow, because its weights are too "
                    "large; train it again with a lower learning rate"
                )
        return features, logits

    def _empty_cache(self) -> None:
        limit, *column_limits = self._reader.limits
        buckets = self.description.text.bigram_buckets
        self._featurizer = Featurizer(limit, buckets, column_limits)
        self._states = {
            name: np.zeros((_MIN_CACHED_TOKENS, scorer.state_size), dtype=np.float32)
            for name, scorer in self._scorers.items()
        }

    def _forget_rare_tokens(self) -> None:
        """Keep the half of the cached tokens that are most frequent in the training titles."""
        words, counts = self._featurizer.words(), self._subwords.vocabulary
        rarest_first = np.argsort([counts.get(word, 0) for word in words], kind="stable")
        kept = np.sort(rarest_first[len(words) // 2 :])
        self._featurizer = self._featurizer.with_tokens(kept)
        # Other threads may still read the old arrays.
        self._states = {name: states[kept] for name, states in self._states.items()}

    def _unknown_share(self, texts: Sequence[Sequence[str]]) -> float:
        """Return the share of out-of-vocabulary tokens of a product, given its tokens."""
        pairs = zip(texts, self._reader.limits, strict=True)
        read = [token for own, limit in pairs for token in own[:limit]]
        return sum(token not in self._subwords for token in read) / len(read) if read else 1.0


def _log_sum(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return the logarithm of the summed exponentials of each row at a temperature, float (n,)."""
    highest = logits.max(axis=1)
    exponentials = np.exp((logits - highest[:, None]) / np.float32(temperature))
    sums: np.ndarray = highest + np.float32(temperature) * np.log(exponentials.sum(axis=1))
    return sums


def ranked(
    probabilities: np.ndarray, names: Sequence[str], k: int
) -> list[list[tuple[str, float]]]:
    """Return the k most probable names of each row with their probabilities, most probable first.

    Args:
        probabilities: Probability of each name, float (n, names).
        names: Names; if probabilities are equal, the first name ranks higher.
        k: Number of names for each row, at least 1.

    Raises:
        ValueError: k is smaller than 1.
    """
    if operator.index(k) < 1:
        raise ValueError(f"k is {k}, but must be at least 1")
    k = min(k, len(names))
    # Sorting all names of each row would take longer than the prediction itself, so only the rows
    # with ties at the k-th place are sorted; the others are partitioned.
    best = np.argpartition(-probabilities, k - 1, axis=1)[:, :k]
    lowest = np.take_along_axis(probabilities, best, axis=1).min(axis=1, keepdims=True)
    tied = (probabilities >= lowest).sum(axis=1) > k
    best[tied] = np.argsort(-probabilities[tied], axis=1, kind="stable")[:, :k]
    best.sort(axis=1)  # in the order of names, so that the stable sort below keeps it for ties
    order = np.argsort(-np.take_along_axis(probabilities, best, axis=1), axis=1, kind="stable")
    best = np.take_along_axis(best, order, axis=1)
    highest = np.take_along_axis(probabilities, best, axis=1)
    return [
        [(names[index], p) for index, p in zip(*row, strict=True)]
        for row in zip(best.tolist(), highest.tolist(), strict=True)
    ]
